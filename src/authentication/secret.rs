//! Client secrets: SHA-256 for generated ones, password hashes for those that people chose.

use std::sync::{Arc, OnceLock};

use argon2::{Argon2, PasswordVerifier};
use tokio::sync::Semaphore;

use super::failure::AuthenticationFailure;
use crate::client::Client;
use crate::client::secret::{is_secret, password_hash};

/// Checks secrets. Password hashes run off the async threads, and only so many at once.
pub(super) struct SecretChecker {
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// A hash that some client has. Once there is one, every wrong secret costs this work, whatever client it is for.
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

    /// Whether one of the `readings` is a secret of the client. A missing client costs as much as a wrong secret.
    pub(super) async fn check(
        &self,
        client: Option<&Client>,
        readings: &[&str],
    ) -> Result<bool, AuthenticationFailure> {
        if readings.iter().fold(false, |found, reading| is_secret(client, reading) | found) {
            return Ok(true);
        }
        let own = client.and_then(password_hash);
        if let Some(own) = own {
            self.sample.get_or_init(|| own.into());
        }
        match own.or(self.sample.get().map(|sample| &**sample)) {
            Some(hash) => Ok(self.check_hash(hash, readings).await? && own.is_some()),
            None => Ok(false),
        }
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
