//! Keys of clients, and JWTs signed by them.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Map, Value, json};

/// A key pair: it signs here, and its public half is in a client's `jwks`.
pub(crate) struct Key {
    name: &'static str,
    key: EncodingKey,
    public: Value,
}

/// `es256`, `eddsa` and `rsa`; `other`, which no client has registered.
static KEYS: LazyLock<[Key; 4]> = LazyLock::new(|| {
    let elliptic =
        || EncodingKey::from_ec_der(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_der());
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let edwards_public =
        json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(edwards.public_key_raw()) });
    let edwards = EncodingKey::from_ed_der(&edwards.serialize_der());
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let rsa = EncodingKey::from_rsa_der(&pkcs1(&rsa.serialize_der()));
    [
        Key::new("es256", elliptic(), Algorithm::ES256),
        Key::named("eddsa", edwards, edwards_public),
        Key::new("rsa", rsa, Algorithm::RS256),
        Key::new("other", elliptic(), Algorithm::ES256),
    ]
});

/// The private key inside of a PKCS #8 structure, which is its last octet string.
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    let at = pkcs8.windows(4).position(|window| window[0] == 0x04 && window[1] == 0x82).unwrap();
    let length = usize::from(pkcs8[at + 2]) << 8 | usize::from(pkcs8[at + 3]);
    pkcs8[at + 4..at + 4 + length].to_vec()
}

impl Key {
    fn new(name: &'static str, key: EncodingKey, algorithm: Algorithm) -> Self {
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        public.as_object_mut().unwrap().remove("alg");
        Self::named(name, key, public)
    }

    fn named(name: &'static str, key: EncodingKey, mut public: Value) -> Self {
        public["kid"] = name.into();
        Self { name, key, public }
    }

    /// The public key as a JSON Web Key, with the key's name as `kid`.
    pub(crate) fn public(&self) -> Value {
        self.public.clone()
    }
}

pub(crate) fn key(name: &str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("no key {name}"))
}

/// A key set of these keys, each with these members changed.
pub(crate) fn key_set(names: &[&str], change: &Value) -> Value {
    let keys = names.iter().map(|name| {
        let mut key = key(name).public();
        key.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap_or_default());
        key
    });
    json!({ "keys": keys.collect::<Vec<_>>() })
}

/// A JWT with this header and these claims, signed by the key of this name.
///
/// The header's `alg` decides how it is signed; `none` leaves the signature empty, and `HS256` takes the public key as
/// the shared secret.
pub(crate) fn sign(name: &str, header: &Map<String, Value>, claims: &Map<String, Value>) -> String {
    let part = |value: &Map<String, Value>| BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_string(value).unwrap());
    let message = format!("{}.{}", part(header), part(claims));
    let secret = || EncodingKey::from_secret(key(name).public.to_string().as_bytes());
    let (key, algorithm) = match header.get("alg").and_then(Value::as_str) {
        Some("ES256") => (key(name).key.clone(), Algorithm::ES256),
        Some("EdDSA" | "Ed25519") => (key(name).key.clone(), Algorithm::EdDSA),
        Some("RS256") => (key(name).key.clone(), Algorithm::RS256),
        Some("RS512") => (key(name).key.clone(), Algorithm::RS512),
        Some("PS256") => (key(name).key.clone(), Algorithm::PS256),
        Some("HS256") => (secret(), Algorithm::HS256),
        _ => return format!("{message}."),
    };
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}
