//! The credentials that a request holds (RFC 6749 §2.3, RFC 7523 §2.2).

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::failure::AuthenticationFailure;
use super::method::AuthenticationMethod;
use super::parameters::FormParameters;
use crate::http::form;

/// `client_assertion_type` of `private_key_jwt`.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a request authenticates with.
#[derive(Debug)]
pub(super) enum Credentials<'a> {
    None { client_id: &'a str },
    Basic(Basic),
    Post { client_id: &'a str, secret: &'a str },
    Assertion { assertion: &'a str },
}

impl<'a> Credentials<'a> {
    pub(super) fn read(
        headers: &HeaderMap,
        parameters: &'a FormParameters,
    ) -> Result<Option<Self>, AuthenticationFailure> {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let header = lines.next();
        if lines.next().is_some() {
            return Err(AuthenticationFailure::AuthorizationRepeated);
        }
        let client_id = parameters.get("client_id");
        let secret = parameters.get("client_secret");
        let assertion = parameters.get("client_assertion");
        let assertion_type = parameters.get("client_assertion_type");
        let asserts = assertion.is_some() || assertion_type.is_some();
        if [header.is_some(), secret.is_some(), asserts].into_iter().filter(|used| *used).count() > 1 {
            return Err(AuthenticationFailure::SeveralMethods);
        }
        if let Some(header) = header {
            let basic = Basic::parse(header).ok_or(AuthenticationFailure::AuthorizationMalformed)?;
            return Ok(Some(Self::Basic(basic)));
        }
        if asserts {
            return match assertion {
                Some(assertion) if assertion_type == Some(JWT_BEARER) => Ok(Some(Self::Assertion { assertion })),
                _ => Err(AuthenticationFailure::AssertionType),
            };
        }
        Ok(match (client_id, secret) {
            (Some(client_id), Some(secret)) => Some(Self::Post { client_id, secret }),
            (Some(client_id), None) => Some(Self::None { client_id }),
            (None, Some(_)) => return Err(AuthenticationFailure::CredentialsMissing),
            (None, None) => None,
        })
    }

    pub(super) fn method(&self) -> AuthenticationMethod {
        match self {
            Self::None { .. } => AuthenticationMethod::None,
            Self::Basic(_) => AuthenticationMethod::ClientSecretBasic,
            Self::Post { .. } => AuthenticationMethod::ClientSecretPost,
            Self::Assertion { .. } => AuthenticationMethod::PrivateKeyJwt,
        }
    }
}

/// `id:secret` of an `Authorization: Basic` header.
pub(super) struct Basic {
    id: String,
    secret: String,
}

impl Basic {
    fn parse(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let encoded = encoded.trim_matches(' ');
        let bytes = BASE64_STANDARD.decode(encoded).or_else(|_| BASE64_STANDARD_NO_PAD.decode(encoded)).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some(Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The ids that the client may have meant. Clients have to form-encode both halves (RFC 6749 §2.3.1); many do
    /// not.
    pub(super) fn ids(&self) -> impl Iterator<Item = Cow<'_, str>> {
        readings(&self.id)
    }

    /// The secrets that the client may have meant.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Cow<'_, str>> {
        readings(&self.secret)
    }
}

/// The form-decoded reading, then the raw one where it differs.
fn readings(half: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let decoded = form::decode(half.as_bytes()).ok();
    let raw = (decoded.as_deref() != Some(half)).then_some(Cow::Borrowed(half));
    decoded.into_iter().chain(raw)
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Basic").finish_non_exhaustive()
    }
}
