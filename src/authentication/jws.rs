//! Signed JWTs of clients: client assertions and request objects (RFC 7515, RFC 7519).

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

/// Clocks of clients may differ from ours by this much.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);

/// From `nbf` and `iat` to `exp`, by the JWT alone.
pub(crate) const MAX_LIFE: Duration = Duration::from_secs(3600);

macro_rules! algorithms {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal, $algorithm:ident;)+) => {
        /// A signing algorithm that clients may use (RFC 7518 §3.1, RFC 8037). All are asymmetric: there is no value
        /// for `none` or for a shared secret.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum SigningAlgorithm {
            $($(#[$doc])+ $variant,)+
        }

        impl SigningAlgorithm {
            /// Every algorithm, in the order in which a server announces them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in a JWS header and in metadata.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            fn algorithm(self) -> Algorithm {
                match self {
                    $(Self::$variant => Algorithm::$algorithm,)+
                }
            }
        }
    };
}

algorithms! {
    /// ECDSA on P-256 with SHA-256.
    Es256 = "ES256", ES256;
    /// Ed25519.
    EdDsa = "EdDSA", EdDSA;
    /// RSASSA-PSS with SHA-256.
    Ps256 = "PS256", PS256;
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256 = "RS256", RS256;
}

impl SigningAlgorithm {
    /// The algorithm of this name in a JWS header, a key or metadata. `Ed25519` is a newer name of `EdDSA` with that curve
    /// (RFC 9864 §2.2).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let is_named =
            |algorithm: &Self| algorithm.as_str() == name || (*algorithm == Self::EdDsa && name == "Ed25519");
        Self::ALL.iter().copied().find(is_named)
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a JWT is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwsError {
    Malformed,
    Algorithm,
    Key,
    Signature,
}

/// A JWT in compact serialization whose signature was **not** checked yet.
pub(crate) struct UnverifiedJws<'a> {
    message: &'a str,
    signature: &'a str,
    algorithm: SigningAlgorithm,
    key_id: Option<String>,
    kind: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> UnverifiedJws<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, JwsError> {
        let (message, signature) = token.rsplit_once('.').ok_or(JwsError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(JwsError::Malformed)?;
        // A JWE has five parts.
        if payload.contains('.') {
            return Err(JwsError::Malformed);
        }
        let mut header = json_object(header)?;
        // Extensions that must be understood, and keys or certificates of the sender's own choice (RFC 7515 §4.1).
        if ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip"].iter().any(|name| header.contains_key(*name)) {
            return Err(JwsError::Malformed);
        }
        let mut text = |name: &str| match header.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwsError::Malformed),
        };
        let (algorithm, key_id, kind) = (text("alg")?.ok_or(JwsError::Malformed)?, text("kid")?, text("typ")?);
        let algorithm = SigningAlgorithm::parse(&algorithm).ok_or(JwsError::Algorithm)?;
        Ok(Self { message, signature, algorithm, key_id, kind, claims: json_object(payload)? })
    }

    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// `typ`, without the `application/` that it may carry (RFC 7515 §4.1.9), in lower case.
    pub(crate) fn kind(&self) -> Option<String> {
        let kind = self.kind.as_ref()?.to_ascii_lowercase();
        Some(kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind))
    }

    /// The claims before the signature is verified. Use them only to find the client whose keys verify it.
    pub(crate) fn unverified_claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The claims, once one of the keys in `jwks` has verified the signature.
    pub(crate) fn verify(self, jwks: &Value) -> Result<Map<String, Value>, JwsError> {
        let keys = jwks.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut fitting = keys.iter().filter_map(|key| self.decoding_key(key)).peekable();
        if fitting.peek().is_none() {
            return Err(JwsError::Key);
        }
        let verifies = |key: DecodingKey| {
            let verified =
                jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), &key, self.algorithm.algorithm());
            verified.unwrap_or(false)
        };
        // Each try costs a signature check, so a set of many keys without ids is not tried through.
        if fitting.take(MAX_KEYS_TRIED).any(verifies) { Ok(self.claims) } else { Err(JwsError::Signature) }
    }

    /// Whether the set holds a key that fits the header.
    pub(crate) fn names_key_in(&self, jwks: &Value) -> bool {
        let keys = jwks.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        keys.iter().any(|key| self.fits(key))
    }

    /// Whether the key is of the right type and curve, meant for signatures, with the right id and algorithm.
    fn fits(&self, key: &Value) -> bool {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let is_type = match self.algorithm {
            SigningAlgorithm::Es256 => text("kty") == Some("EC") && text("crv") == Some("P-256"),
            SigningAlgorithm::EdDsa => text("kty") == Some("OKP") && text("crv") == Some("Ed25519"),
            SigningAlgorithm::Ps256 | SigningAlgorithm::Rs256 => text("kty") == Some("RSA"),
        };
        let is_named = self.key_id.as_deref().is_none_or(|id| text("kid") == Some(id));
        let is_for_signatures = key.get("use").is_none_or(|usage| usage == "sig");
        let is_for_algorithm =
            key.get("alg").is_none_or(|name| name.as_str().and_then(SigningAlgorithm::parse) == Some(self.algorithm));
        let verifies = key.get("key_ops").is_none_or(|operations| {
            operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
        });
        is_type && is_named && is_for_signatures && is_for_algorithm && verifies
    }

    /// The key, where it fits.
    fn decoding_key(&self, key: &Value) -> Option<DecodingKey> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if !self.fits(key) {
            return None;
        }
        match self.algorithm {
            SigningAlgorithm::Es256 => DecodingKey::from_ec_components(text("x")?, text("y")?).ok(),
            SigningAlgorithm::EdDsa => DecodingKey::from_ed_components(text("x")?).ok(),
            SigningAlgorithm::Ps256 | SigningAlgorithm::Rs256 => {
                DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()
            }
        }
    }
}

/// How many keys are tried for one signature whose header names none.
const MAX_KEYS_TRIED: usize = 8;

fn json_object(part: &str) -> Result<Map<String, Value>, JwsError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwsError::Malformed)
}

/// A time claim, in seconds since the epoch (`NumericDate`, RFC 7519 §2). `Err` where it is not a number.
pub(crate) fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, JwsError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().filter(|seconds| seconds.is_finite()).map(Some).ok_or(JwsError::Malformed),
    }
}

/// Why the times of a JWT are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeError {
    Expiry,
    NotYetValid,
}

/// Checks `exp`, which is required and at most `max_lifetime` ahead, `nbf` and `iat`. Returns when the JWT expires.
pub(crate) fn check_times(
    claims: &Map<String, Value>,
    max_lifetime: Duration,
    now: SystemTime,
) -> Result<SystemTime, TimeError> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let leeway = LEEWAY.as_secs_f64();
    let expiry = numeric_date(claims, "exp").ok().flatten().ok_or(TimeError::Expiry)?;
    if expiry + leeway <= since_epoch || expiry > since_epoch + max_lifetime.as_secs_f64() {
        return Err(TimeError::Expiry);
    }
    for name in ["nbf", "iat"] {
        match numeric_date(claims, name) {
            Ok(Some(start)) if start > since_epoch + leeway => return Err(TimeError::NotYetValid),
            Ok(Some(start)) if expiry - start > MAX_LIFE.as_secs_f64() => return Err(TimeError::Expiry),
            Ok(None | Some(_)) => {}
            Err(_) => return Err(TimeError::NotYetValid),
        }
    }
    Ok(now + Duration::from_secs_f64((expiry - since_epoch).max(0.0)))
}
