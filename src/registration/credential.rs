//! Ids, secrets and access tokens: from the random numbers of the operating system, kept as SHA-256 only.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::client::Client;

/// The member of a stored client that holds the digest of its secret, in hexadecimal.
pub(super) const CLIENT_SECRET: &str = "client_secret_sha256";
/// The member of a stored client that holds the digest of its registration access token, in hexadecimal.
pub(super) const ACCESS_TOKEN: &str = "registration_access_token_sha256";

/// Whether `presented` is the secret of this client, for the token endpoint.
///
/// The client's metadata holds the SHA-256 of the secret as `client_secret_sha256`, in hexadecimal; the
/// registration service puts it there, and a configured client may have one too. The digests are compared in
/// constant time. A client without a secret has none that fits.
///
/// ```
/// use tower_oauth_client_validation::{Client, verify_client_secret};
///
/// let client = Client::builder("app")
///     .confidential()
///     .metadata("client_secret_sha256", "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")
///     .build()?;
/// assert!(verify_client_secret(&client, "secret"));
/// assert!(!verify_client_secret(&client, "Secret"));
/// assert!(!verify_client_secret(&Client::builder("app").build()?, ""));
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
#[must_use]
pub fn verify_client_secret(client: &Client, presented: &str) -> bool {
    has_digest(client, CLIENT_SECRET, presented)
}

/// Whether `presented` has the digest that `member` of the client holds.
pub(super) fn has_digest(client: &Client, member: &str, presented: &str) -> bool {
    let stored = client.metadata().and_then(|metadata| metadata.get(member)).and_then(|digest| digest.as_str());
    is_digest_of(stored, presented)
}

/// Takes as long for a digest that is missing as for one that differs.
pub(super) fn is_digest_of(stored: Option<&str>, presented: &str) -> bool {
    let stored = stored.map(str::to_ascii_lowercase);
    let expected = stored.as_deref().filter(|digest| digest.len() == DIGEST_LENGTH);
    let equal = digest(presented).as_bytes().ct_eq(expected.unwrap_or(NO_DIGEST).as_bytes());
    bool::from(equal) && expected.is_some()
}

const DIGEST_LENGTH: usize = 64;
const NO_DIGEST: &str = "----------------------------------------------------------------";

/// SHA-256, in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    hexadecimal(&Sha256::digest(text))
}

/// 128 random bits.
pub(super) fn client_id() -> Result<String, getrandom::Error> {
    random::<16>()
}

/// 256 random bits, for secrets and access tokens.
pub(super) fn secret() -> Result<String, getrandom::Error> {
    random::<32>()
}

fn random<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hexadecimal(&bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
