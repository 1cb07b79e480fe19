//! Client secrets: SHA-256 for generated ones, password hashes for those that people chose.

use std::sync::{Arc, OnceLock};

use argon2::{Argon2, PasswordVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::failure::AuthenticationFailure;
use crate::client::Client;

/// Members of a client's metadata that hold a SHA-256 in hexadecimal: the secret, and the one before it while a
/// client rotates.
const DIGESTS: [&str; 2] = ["client_secret_sha256", "previous_client_secret_sha256"];
/// Members that may hold a PHC string.
const HASHES: [&str; 2] = ["client_secret_hash", "client_secret"];

/// Checks secrets. Password hashes run off the async threads, and only so many at once.
pub(super) struct SecretChecker {
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// A hash that some client has: the work that an unknown client costs, too.
    sample: OnceLock<Box<str>>,
}

impl SecretChecker {
    pub(super) fn new(max_concurrent_hashes: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_concurrent_hashes)),
            waiting: Arc::new(Semaphore::new(max_concurrent_hashes.saturating_mul(MAX_WAITING))),
            sample: OnceLock::new(),
        }
    }

    /// Whether one of the `readings` is a secret of the client. A missing client costs the same work.
    pub(super) async fn check(
        &self,
        client: Option<&Client>,
        readings: &[&str],
    ) -> Result<bool, AuthenticationFailure> {
        let member = |name: &str| client?.metadata()?.get(name)?.as_str();
        let is_digest = readings.iter().fold(false, |found, reading| matches_digest(&member, reading) | found);
        let hash = HASHES.into_iter().filter_map(member).find(|secret| is_password_hash(secret));
        let is_hash = match hash.or(self.sample.get().map(|sample| &**sample).filter(|_| client.is_none())) {
            Some(hash) => {
                if client.is_some() {
                    self.sample.get_or_init(|| hash.into());
                }
                self.check_hash(hash, readings).await?
            }
            None => false,
        };
        Ok(client.is_some() && (is_digest || is_hash))
    }

    async fn check_hash(&self, hash: &str, readings: &[&str]) -> Result<bool, AuthenticationFailure> {
        // A flood of wrong secrets fills this queue and no other: requests beyond it are turned away at once.
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| AuthenticationFailure::Busy)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| AuthenticationFailure::Busy)?;
        let (hash, readings) =
            (hash.to_owned(), readings.iter().map(|reading| (*reading).to_owned()).collect::<Vec<_>>());
        let check = move || {
            // Held until the work ends, even when the request that asked for it is gone.
            let _permits = (waiting, permit);
            readings.iter().any(|reading| Argon2::default().verify_password(reading.as_bytes(), &*hash).is_ok())
        };
        tokio::task::spawn_blocking(check).await.map_err(|_| AuthenticationFailure::Busy)
    }
}

/// How many checks may wait for each one that runs.
const MAX_WAITING: usize = 16;

/// Compares with every digest in constant time; one that is missing takes as long as one that differs.
fn matches_digest<'c>(member: &impl Fn(&str) -> Option<&'c str>, presented: &str) -> bool {
    let presented = Sha256::digest(presented);
    let plain = member("client_secret").filter(|secret| !is_password_hash(secret));
    let plain_digest: [u8; 32] = Sha256::digest(plain.unwrap_or_default()).into();
    let digests = DIGESTS.into_iter().map(|name| member(name).and_then(parse_digest));
    let stored = digests.chain([plain.map(|_| plain_digest)]);
    stored.fold(false, |found, digest: Option<[u8; 32]>| {
        let is_equal = bool::from(digest.unwrap_or_default().ct_eq(&presented));
        (is_equal && digest.is_some()) | found
    })
}

fn parse_digest(hexadecimal: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hexadecimal.len() != 64 || !hexadecimal.is_ascii() {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(hexadecimal.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// A PHC string of Argon2, such as `$argon2id$v=19$m=19456,t=2,p=1$…`.
fn is_password_hash(secret: &str) -> bool {
    secret.starts_with("$argon2")
}
