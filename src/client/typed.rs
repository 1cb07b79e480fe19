//! Typed access to the metadata members that authentication, pushed and signed requests depend on.

use serde_json::{Map, Value};

use super::error::ClientErrorKind;
use super::member::{AUTH_METHOD, AUTH_METHODS, strings};
use super::{Client, ClientKind};

const STRING: (&str, fn(&Value) -> bool) = ("a string", Value::is_string);
const STRINGS: (&str, fn(&Value) -> bool) = ("an array of strings", |value| strings(value).is_some());
const BOOL: (&str, fn(&Value) -> bool) = ("true or false", Value::is_boolean);
const OBJECT: (&str, fn(&Value) -> bool) = ("an object", Value::is_object);

const PUSHED: &str = "require_pushed_authorization_requests";
const SIGNED: &str = "require_signed_request_object";

/// The members and their types.
const TYPES: [(&str, (&str, fn(&Value) -> bool)); 9] = [
    ("authorization_details_types", STRINGS),
    ("dpop_bound_access_tokens", BOOL),
    ("jwks", OBJECT),
    ("jwks_uri", STRING),
    ("request_object_signing_alg", STRING),
    (PUSHED, BOOL),
    (SIGNED, BOOL),
    (AUTH_METHODS, STRINGS),
    ("token_endpoint_auth_signing_alg", STRING),
];

/// Requirements of the client's metadata for every authorization request, parsed once because each request is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Requirements {
    pushed: bool,
    signed: bool,
    offers_none: bool,
}

impl Requirements {
    /// Reads the requirements. Fails if any member has the wrong type: a client must not lose a requirement because
    /// its metadata says `"true"` instead of `true`.
    pub(super) fn read(metadata: &Map<String, Value>) -> Result<Self, ClientErrorKind> {
        for (member, (expected, fits)) in TYPES {
            if metadata.get(member).is_some_and(|value| !fits(value)) {
                return Err(ClientErrorKind::Type { member, expected });
            }
        }
        let is_set = |member: &str| metadata.get(member) == Some(&Value::Bool(true));
        let methods = metadata.get(AUTH_METHODS).and_then(Value::as_array);
        let offers_none = methods.is_some_and(|methods| methods.iter().any(|method| method == "none"));
        Ok(Self { pushed: is_set(PUSHED), signed: is_set(SIGNED), offers_none })
    }
}

impl Client {
    /// How the client authenticates at the token endpoint: `none`, `client_secret_basic`, `private_key_jwt`, …
    #[must_use]
    pub fn token_endpoint_auth_method(&self) -> &str {
        self.text(AUTH_METHOD).unwrap_or(match self.kind {
            ClientKind::Public => "none",
            ClientKind::Confidential => "client_secret_basic",
        })
    }

    /// The methods that the client offers, best first (OpenID Connect Relying Party Metadata Choices). Empty if it
    /// names none.
    pub fn token_endpoint_auth_methods_supported(&self) -> impl Iterator<Item = &str> {
        self.texts(AUTH_METHODS)
    }

    /// Whether `none` is among several methods that the client offers: then it may come without credentials.
    pub(crate) fn offers_none(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.requirements.offers_none)
    }

    /// The algorithm with which the client signs its assertions (OpenID Connect Dynamic Client Registration §2).
    #[must_use]
    pub fn token_endpoint_auth_signing_alg(&self) -> Option<&str> {
        self.text("token_endpoint_auth_signing_alg")
    }

    /// The client's keys, as a JSON Web Key Set (RFC 7591 §2).
    #[must_use]
    pub fn jwks(&self) -> Option<&Value> {
        self.member("jwks")
    }

    /// The address of the client's keys (RFC 7591 §2).
    ///
    /// A [dynamic](Client::is_dynamic) client may name a private address. `FetchedKeys` connects to public ones only; if
    /// you fetch the keys yourself, use an `AddressFilter` (feature `metadata-document`).
    #[must_use]
    pub fn jwks_uri(&self) -> Option<&str> {
        self.text("jwks_uri")
    }

    /// The algorithm with which the client signs request objects (RFC 9101 §10.5).
    #[must_use]
    pub fn request_object_signing_alg(&self) -> Option<&str> {
        self.text("request_object_signing_alg")
    }

    /// Whether every authorization request must be pushed (RFC 9126 §6).
    #[must_use]
    pub fn require_pushed_authorization_requests(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.requirements.pushed)
    }

    /// Whether every authorization request must be a signed request object (RFC 9101 §10.5).
    #[must_use]
    pub fn require_signed_request_object(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.requirements.signed)
    }

    /// Whether the client's access tokens are always bound to a DPoP key (RFC 9449 §5.2).
    #[must_use]
    pub fn dpop_bound_access_tokens(&self) -> bool {
        self.member("dpop_bound_access_tokens") == Some(&Value::Bool(true))
    }

    /// The types of `authorization_details` that the client uses (RFC 9396 §10). Empty if it names none.
    pub fn authorization_details_types(&self) -> impl Iterator<Item = &str> {
        self.texts("authorization_details_types")
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.details.as_ref()?.metadata.get(name)
    }

    /// Some servers write an empty string for a member that is not set.
    fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.member(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}
