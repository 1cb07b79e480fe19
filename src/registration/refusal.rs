//! Refusals of the registration endpoints: RFC 7591 §3.2.2, and RFC 6750 §3 for access tokens.

use std::borrow::Cow;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use crate::client::operator::Replacement;
use crate::client::{Client, ClientError, ClientErrorKind, DynamicClientError};
use crate::http::endpoint::Refusal;
use crate::registry::{RegistryError, StoreError};

pub(super) const INVALID_METADATA: &str = "invalid_client_metadata";

pub(super) fn invalid_metadata(description: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, INVALID_METADATA, description)
}

pub(super) fn invalid_redirect_uri(description: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_redirect_uri", description)
}

/// A missing token, a wrong one, and one of a client that no longer exists look the same.
pub(super) fn invalid_token() -> Refusal {
    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    Refusal::new(StatusCode::UNAUTHORIZED, "invalid_token", "the access token is missing or not valid")
        .header(WWW_AUTHENTICATE, challenge)
}

/// The client, unless an operator left nothing of what it asks for.
pub(super) fn accepted(replacement: Replacement) -> Result<Client, Refusal> {
    let Replacement { client, emptied } = replacement;
    let Some(name) = emptied else { return Ok(client) };
    let description = format!("{name}: an operator of this server has limited it to other values");
    Err(match &*name {
        "redirect_uris" => invalid_redirect_uri(description),
        _ => invalid_metadata(description),
    })
}

pub(super) fn access_denied(description: &'static str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "access_denied", description)
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(cause, "the client registry failed during registration");
        match error.is_transient() {
            true => Self::unavailable("the client registry is temporarily unavailable"),
            false => Self::fault(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Registry(error) => error.into(),
            // Removed since it was looked up.
            StoreError::Missing => invalid_token(),
            StoreError::Changed => Self::unavailable("the client was changed at the same time"),
            StoreError::Full => Self::unavailable("no more clients can be registered for now"),
            StoreError::AlreadyExists => Self::fault(),
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        let description = error.kind().to_string();
        match error.kind() {
            ClientErrorKind::RedirectUri { .. } => invalid_redirect_uri(description),
            _ => invalid_metadata(description),
        }
    }
}

impl From<DynamicClientError> for Refusal {
    fn from(error: DynamicClientError) -> Self {
        match error.is_redirect_uri() {
            true => invalid_redirect_uri(error.to_string()),
            false => invalid_metadata(error.to_string()),
        }
    }
}

impl From<getrandom::Error> for Refusal {
    fn from(error: getrandom::Error) -> Self {
        tracing::error!(%error, "the operating system gave no random numbers");
        Self::fault()
    }
}
