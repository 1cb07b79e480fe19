//! Answers of the registration endpoints.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::members::is_internal;
use crate::registry::{RegistryError, StoreError};

pub(super) type Answer = Response<Full<Bytes>>;

/// A request that is refused: RFC 7591 §3.2.2, and RFC 6750 §3 for access tokens.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: Cow<'static, str>,
    pub(super) description: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
    /// The store fails for now, for whoever asks.
    pub(super) is_outage: bool,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, error: error.into(), description: description.into(), header: None, is_outage: false }
    }

    /// `invalid_client_metadata`, RFC 7591 §3.2.2.
    pub(super) fn metadata(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_client_metadata", description)
    }

    /// `invalid_redirect_uri`, RFC 7591 §3.2.2.
    pub(super) fn redirect_uri(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_redirect_uri", description)
    }

    /// A missing token, a wrong one and one of a client that is gone look the same.
    pub(super) fn token() -> Self {
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "the access token is missing or not valid")
            .with(WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this method is not supported here")
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_client_metadata", "the metadata is too large")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request", "there is no such endpoint")
    }

    pub(super) fn unavailable(description: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description)
            .with(RETRY_AFTER, HeaderValue::from_static("30"))
    }

    pub(super) fn outage() -> Self {
        Self { is_outage: true, ..Self::unavailable("the client registry is temporarily unavailable") }
    }

    pub(super) fn fault() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the server cannot do this")
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(super) fn into_answer(self) -> Answer {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut answer = json_answer(self.status, &body);
        answer.headers_mut().extend(self.header);
        answer
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(cause, "the client registry failed during registration");
        if error.is_transient() { Self::outage() } else { Self::fault() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Registry(error) => error.into(),
            // Gone since it was looked up.
            StoreError::Missing => Self::token(),
            StoreError::Changed => Self::unavailable("the client was changed at the same time"),
            StoreError::Full => Self::unavailable("no more clients can be registered for now"),
            StoreError::AlreadyExists => Self::fault(),
        }
    }
}

impl From<getrandom::Error> for Refusal {
    fn from(error: getrandom::Error) -> Self {
        tracing::error!(%error, "the operating system gave no random numbers");
        Self::fault()
    }
}

pub(super) fn client_answer(status: StatusCode, members: Map<String, Value>) -> Answer {
    json_answer(status, &Value::Object(members))
}

/// What a client is told about itself: neither digests nor what only the operator decides about.
pub(super) fn visible(mut members: Map<String, Value>) -> Map<String, Value> {
    members.retain(|name, _| !is_internal(name));
    members
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = empty_answer(status);
    *answer.body_mut() = Full::new(body.to_string().into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Answers hold credentials: no cache may keep one (RFC 7591 §3.2.1).
pub(super) fn empty_answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
