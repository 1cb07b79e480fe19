//! Client secrets and access tokens: stored as SHA-256 in hexadecimal, and compared in constant time.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Client;
use super::member::{CLIENT_SECRET, PLAIN_SECRET, PREVIOUS_SECRET};

/// Whether `presented` is one of the client's secrets, apart from one that is stored as a password hash. A client that is
/// missing or has fewer secrets takes as long. An empty secret is none: some servers write one where none is set.
pub(crate) fn is_secret(client: Option<&Client>, presented: &str) -> bool {
    let member = |name: &str| client?.metadata()?.get(name)?.as_str();
    let plain = member(PLAIN_SECRET).filter(|secret| !is_password_hash(secret));
    let plain_digest: [u8; 32] = Sha256::digest(plain.unwrap_or_default()).into();
    let digests = [CLIENT_SECRET, PREVIOUS_SECRET].map(|name| member(name).and_then(parse));
    let digest = Sha256::digest(presented).into();
    let stored = digests.into_iter().chain([plain.map(|_| plain_digest)]);
    stored.fold(false, |found, stored| is(stored, &digest) | found) && !presented.is_empty()
}

/// Whether `stored` is the SHA-256 of `presented`. One that is missing takes as long as one that differs.
#[cfg(feature = "registration")]
pub(crate) fn is_digest_of(stored: Option<&str>, presented: &str) -> bool {
    is(stored.and_then(parse), &Sha256::digest(presented).into())
}

fn is(stored: Option<[u8; 32]>, digest: &[u8; 32]) -> bool {
    let is_equal = bool::from(stored.unwrap_or_default().ct_eq(digest));
    is_equal && stored.is_some()
}

fn parse(hexadecimal: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hexadecimal.len() != 64 || !hexadecimal.is_ascii() {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(hexadecimal.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// The password hash of the client's secret, as a PHC string of Argon2, such as `$argon2id$v=19$m=19456,t=2,p=1$…`.
#[cfg(feature = "client-authentication")]
pub(crate) fn password_hash(client: &Client) -> Option<&str> {
    let members = client.metadata()?;
    let mut secrets =
        [super::member::SECRET_HASH, PLAIN_SECRET].into_iter().filter_map(|name| members.get(name)?.as_str());
    secrets.find(|secret| secret.starts_with("$argon2"))
}

/// Whether this is the hash of a secret, also by an algorithm that is not supported: whoever reads it must not be able to
/// present it as the secret.
fn is_password_hash(secret: &str) -> bool {
    secret.strip_prefix('$').is_some_and(|rest| rest.contains('$'))
}
