//! Authenticated encryption of text, with key rotation.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Begins every seal, and is bound into it.
const VERSION: &str = "v1";

/// The keys that requests are sealed with: one to seal, and older ones that still open. Cheap to clone.
///
/// A key is 32 random bytes, such as `openssl rand -hex 32` prints. Every node that serves the same users needs the same
/// keys. Seals are encrypted and authenticated with AES-256-GCM-SIV.
///
/// Replace a key in three steps on all nodes, so that pending logins continue:
///
/// | step | keys |
/// |---|---|
/// | the new key opens | `SealKeys::new(old).older(new)` |
/// | the new key seals | `SealKeys::new(new).older(old)` |
/// | once the last seals of the old key have expired | `SealKeys::new(new)` |
///
/// Keys can be parsed from text: 64 hexadecimal digits each, separated by commas. The first one seals.
///
/// ```
/// use tower_oauth_client_validation::SealKeys;
///
/// # let (this_year, last_year) = ([1; 32], [2; 32]);
/// let keys = SealKeys::new(this_year).older(last_year);
///
/// # let from_environment = format!("{},{}", "01".repeat(32), "02".repeat(32));
/// let keys: SealKeys = from_environment.parse()?;
/// # Ok::<(), tower_oauth_client_validation::SealKeysError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct SealKeys {
    /// The first one seals.
    keys: Arc<[Arc<Key>]>,
}

struct Key {
    id: Box<str>,
    cipher: RandomizedNonceKey,
}

impl SealKeys {
    /// Seals and opens with this key.
    pub fn new(primary: [u8; 32]) -> Self {
        Self { keys: [Arc::new(Key::new(&primary))].into() }
    }

    /// A random key, for a single node where a restart may end pending logins.
    ///
    /// # Errors
    ///
    /// When the operating system has no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self::new(random()?))
    }

    /// Opens with this key too.
    pub fn older(self, key: [u8; 32]) -> Self {
        Self { keys: self.keys.iter().cloned().chain([Arc::new(Key::new(&key))]).collect() }
    }

    /// Seals `content` until `expires_at`.
    pub(super) fn seal(
        &self,
        bound_to: &Binding<'_>,
        expires_at: SystemTime,
        content: &[u8],
    ) -> Result<String, SealError> {
        let key = &self.keys[0];
        let mut sealed = vec![0; NONCE_LEN];
        sealed.extend(millis(expires_at).to_be_bytes());
        sealed.extend(content);
        let associated = Aad::from(bound_to.to_bytes(&key.id));
        let (nonce, tag) =
            key.cipher.seal_in_place_separate_tag(associated, &mut sealed[NONCE_LEN..]).map_err(|_| SealError(()))?;
        sealed[..NONCE_LEN].copy_from_slice(nonce.as_ref());
        sealed.extend(tag.as_ref());
        let mut text = format!("{VERSION}.{}.", key.id);
        BASE64_URL_SAFE_NO_PAD.encode_string(sealed, &mut text);
        Ok(text)
    }

    /// The content of a seal, and when it expires.
    pub(super) fn open(
        &self,
        seal: &str,
        bound_to: &Binding<'_>,
        now: SystemTime,
    ) -> Result<(Vec<u8>, SystemTime), SealFault> {
        let mut parts = seal.split('.');
        let (Some(VERSION), Some(id), Some(sealed), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SealFault::Malformed);
        };
        let key = self.keys.iter().find(|key| *key.id == *id).ok_or(SealFault::Key)?;
        let mut sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealFault::Malformed)?;
        let (nonce, encrypted) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(SealFault::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealFault::Malformed)?;
        let associated = Aad::from(bound_to.to_bytes(id));
        let opened = key.cipher.open_in_place(nonce, associated, encrypted).map_err(|_| SealFault::NotAuthentic)?;
        let (expires_at, content) = opened.split_first_chunk().ok_or(SealFault::Malformed)?;
        let expires_at = u64::from_be_bytes(*expires_at);
        if millis(now) >= expires_at {
            return Err(SealFault::Expired);
        }
        let remaining = Duration::from_millis(expires_at - millis(now));
        Ok((content.to_vec(), now.checked_add(remaining).unwrap_or(now)))
    }
}

impl Key {
    /// Derives the id and the key of the cipher (HKDF, RFC 5869), so that the public id reveals nothing about the key.
    fn new(key: &[u8; 32]) -> Self {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tower-oauth-client-validation").extract(key);
        let (mut id, mut cipher) = ([0; 6], [0; 32]);
        for (label, output) in [("seal key id", &mut id[..]), ("seal v1 AES-256-GCM-SIV", &mut cipher)] {
            derived
                .expand(&[label.as_bytes()], Length(output.len()))
                .and_then(|okm| okm.fill(output))
                .expect("HKDF derives up to 8,160 bytes");
        }
        Self {
            id: BASE64_URL_SAFE_NO_PAD.encode(id).into(),
            cipher: RandomizedNonceKey::new(&AES_256_GCM_SIV, &cipher).expect("the key has 32 bytes"),
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl FromStr for SealKeys {
    type Err = SealKeysError;

    fn from_str(text: &str) -> Result<Self, SealKeysError> {
        let mut keys = text.split(',').map(|key| key_of_hex(key.trim()).ok_or(SealKeysError(())));
        let primary = Self::new(keys.next().ok_or(SealKeysError(()))??);
        keys.try_fold(primary, |keys, key| Ok(keys.older(key?)))
    }
}

fn key_of_hex(digits: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(key)
}

/// Ids only.
impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &*key.id)).finish()
    }
}

/// The use of a seal. It is authenticated and not part of the text, so a seal opens only for the same use.
pub(super) struct Binding<'a> {
    pub(super) purpose: &'a str,
    pub(super) issuer: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
    pub(super) context: Option<&'a str>,
}

impl Binding<'_> {
    /// With the length of each part, so that no other parts give the same bytes.
    fn to_bytes(&self, key_id: &str) -> Vec<u8> {
        let parts = [Some(VERSION), Some(key_id), Some(self.purpose), self.issuer, self.tenant, self.context];
        let mut bytes = Vec::with_capacity(128);
        for part in parts {
            match part {
                Some(text) => {
                    bytes.push(1);
                    bytes.extend((text.len() as u64).to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
                None => bytes.push(0),
            }
        }
        bytes
    }
}

/// Why a seal is not opened: for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealFault {
    /// It is not a seal of this version.
    Malformed,
    /// It was made with a key that is not in the ring.
    Key,
    /// It was changed, or was made for another purpose, issuer, tenant or context.
    NotAuthentic,
    Expired,
}

impl SealFault {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "seal_malformed",
            Self::Key => "seal_key_unknown",
            Self::NotAuthentic => "seal_not_authentic",
            Self::Expired => "seal_expired",
        }
    }
}

/// Nothing could be sealed: the operating system has no random bytes.
#[derive(Clone, Copy, Debug)]
pub struct SealError(());

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system has no random bytes")
    }
}

impl std::error::Error for SealError {}

/// Text that does not hold keys for [`SealKeys`]. It does not repeat the text.
#[derive(Clone, Copy, Debug)]
pub struct SealKeysError(());

impl fmt::Display for SealKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a seal key must be 64 hexadecimal digits; several are separated by commas")
    }
}

impl std::error::Error for SealKeysError {}

pub(super) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SealError(()))?;
    Ok(bytes)
}

fn millis(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const LATER: Duration = Duration::from_secs(60);
    const BINDING: Binding<'_> =
        Binding { purpose: "consent", issuer: Some("https://a.example"), tenant: Some("a"), context: Some("session") };

    fn seal(keys: &SealKeys) -> String {
        keys.seal(&BINDING, NOW + LATER, b"client_id=app").unwrap()
    }

    fn open(keys: &SealKeys, seal: &str) -> Result<Vec<u8>, SealFault> {
        keys.open(seal, &BINDING, NOW).map(|(content, _)| content)
    }

    #[test]
    fn a_seal_opens_with_its_key_and_hides_its_content() {
        let keys = SealKeys::new([1; 32]);
        let sealed = seal(&keys);
        assert_eq!(open(&keys, &sealed).as_deref(), Ok(&b"client_id=app"[..]));
        assert_eq!(open(&SealKeys::new([1; 32]), &sealed).as_deref(), Ok(&b"client_id=app"[..]));
        assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')));
        let encrypted = BASE64_URL_SAFE_NO_PAD.decode(sealed.rsplit('.').next().unwrap()).unwrap();
        assert!(!encrypted.windows(3).any(|bytes| bytes == b"app"));
        assert_ne!(seal(&keys), sealed, "a nonce was used twice");
    }

    #[test]
    fn a_seal_with_any_other_character_is_refused() {
        let keys = SealKeys::new([1; 32]);
        let sealed = seal(&keys);
        for at in 0..sealed.len() {
            for other in *b"A_." {
                let mut changed = sealed.clone().into_bytes();
                if changed[at] != other {
                    changed[at] = other;
                    let changed = String::from_utf8(changed).unwrap();
                    assert!(open(&keys, &changed).is_err(), "{changed}");
                }
            }
            assert!(open(&keys, &sealed[..at]).is_err(), "cut at {at}");
        }
        for changed in [format!("{sealed}A"), format!("{sealed}="), format!("{sealed}."), format!(" {sealed}")] {
            assert!(open(&keys, &changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_seal_opens_only_for_what_it_was_made_for() {
        let keys = SealKeys::new([1; 32]);
        let sealed = seal(&keys);
        let others = [
            Binding { purpose: "login", ..BINDING },
            Binding { issuer: None, ..BINDING },
            Binding { issuer: Some("https://b.example"), ..BINDING },
            Binding { tenant: Some("b"), ..BINDING },
            Binding { tenant: None, ..BINDING },
            Binding { context: Some("other session"), ..BINDING },
            Binding { context: None, ..BINDING },
            // The same text in other places.
            Binding { tenant: Some("session"), context: Some("a"), ..BINDING },
            Binding { issuer: None, tenant: Some("https://a.example"), ..BINDING },
            Binding { purpose: "consenthttps://a.example", issuer: Some(""), ..BINDING },
        ];
        for other in others {
            assert_eq!(keys.open(&sealed, &other, NOW).err(), Some(SealFault::NotAuthentic));
        }
    }

    #[test]
    fn a_seal_ends_with_its_lifetime() {
        let keys = SealKeys::new([1; 32]);
        let sealed = seal(&keys);
        let opened = |after| keys.open(&sealed, &BINDING, NOW + after).map(|(_, expires_at)| expires_at);
        assert_eq!(opened(LATER - Duration::from_millis(1)), Ok(NOW + LATER));
        assert_eq!(opened(LATER), Err(SealFault::Expired));
    }

    #[test]
    fn an_older_key_opens_until_it_is_dropped() {
        let (old, new) = ([1; 32], [2; 32]);
        let sealed = seal(&SealKeys::new(old));
        assert!(open(&SealKeys::new(new).older(old), &sealed).is_ok());
        assert!(open(&SealKeys::new(new).older([3; 32]).older(old), &sealed).is_ok());
        assert_eq!(open(&SealKeys::new(new), &sealed), Err(SealFault::Key));
        // The primary key seals.
        let sealed = seal(&SealKeys::new(new).older(old));
        assert!(open(&SealKeys::new(new), &sealed).is_ok());
        assert_eq!(open(&SealKeys::new(old), &sealed), Err(SealFault::Key));
    }

    #[test]
    fn keys_are_read_from_hexadecimal_text() {
        let (old, new) = ("01".repeat(32), "fF".repeat(32));
        let keys: SealKeys = format!("{new}, {old}").parse().unwrap();
        assert_eq!(format!("{keys:?}"), format!("{:?}", SealKeys::new([255; 32]).older([1; 32])));
        for wrong in ["", ",", &old[1..], &format!("{old},"), &format!("0{old}"), &"+1".repeat(32), &"é".repeat(32)] {
            assert!(wrong.parse::<SealKeys>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn generated_keys_differ() {
        let sealed = seal(&SealKeys::generate().unwrap());
        assert_eq!(open(&SealKeys::generate().unwrap(), &sealed), Err(SealFault::Key));
    }

    #[test]
    fn debug_output_has_no_key() {
        assert_eq!(format!("{:?}", SealKeys::new([1; 32])).len(), r#"["12345678"]"#.len());
    }
}
