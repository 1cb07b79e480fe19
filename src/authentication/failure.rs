//! Why a client is not authenticated, and what it is answered.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::http::answer::finish;

macro_rules! failures {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal, $status:ident $code:literal, $description:literal;)+) => {
        /// Why a client was not authenticated: finer than what the client is answered, for logs and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum AuthenticationFailure {
            $($(#[$doc])+ $variant,)+
        }

        impl AuthenticationFailure {
            /// A short name for logs and metrics, from a fixed set.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            fn facts(self) -> (StatusCode, &'static str, &'static str) {
                match self {
                    $(Self::$variant => (StatusCode::$status, $code, concat!(
                        "{\"error\":\"", $code, "\",\"error_description\":\"", $description, "\"}"
                    )),)+
                }
            }
        }
    };
}

// Everything that is answered with 401 says the same (RFC 6749 §5.2): the difference is for the log alone.
failures! {
    /// The method is not `POST`.
    HttpMethod = "http_method", METHOD_NOT_ALLOWED "invalid_request", "this endpoint takes POST only";
    /// The body is not `application/x-www-form-urlencoded`, or has a content coding.
    ContentType = "content_type", BAD_REQUEST "invalid_request", "the body must be application/x-www-form-urlencoded";
    /// The body is over the limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE "invalid_request", "the body is too large";
    /// The body could not be read to its end.
    BodyUnreadable = "body_unreadable", BAD_REQUEST "invalid_request", "the body could not be read";
    /// A parameter is in the query, where proxies and logs keep it.
    ParameterInQuery = "parameter_in_query", BAD_REQUEST "invalid_request", "parameters must be in the body";
    /// A parameter is repeated (RFC 6749 §3.2).
    ParameterRepeated = "parameter_repeated", BAD_REQUEST "invalid_request", "a parameter is repeated";
    /// A parameter has a broken percent-encoding or is not UTF-8.
    ParameterUndecodable = "parameter_undecodable", BAD_REQUEST "invalid_request",
        "a parameter has a broken percent-encoding or is not UTF-8";
    /// The request has several `Authorization` headers.
    AuthorizationRepeated = "authorization_repeated", BAD_REQUEST "invalid_request",
        "there must be one Authorization header";
    /// The request authenticates by several methods (RFC 6749 §2.3).
    SeveralMethods = "several_methods", BAD_REQUEST "invalid_request", "the client used several ways to authenticate";
    /// `client_id` is not the id of the authenticated client.
    ClientIdMismatch = "client_id_mismatch", BAD_REQUEST "invalid_request",
        "client_id is not the id of the authenticated client";
    /// The request names no client.
    CredentialsMissing = "credentials_missing", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The `Authorization` header holds no Basic credentials.
    AuthorizationMalformed = "authorization_malformed", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The client is unknown.
    ClientUnknown = "client_unknown", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The client is disabled.
    ClientDisabled = "client_disabled", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The client is revoked.
    ClientRevoked = "client_revoked", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The registration has expired.
    ClientExpired = "client_expired", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The client is registered for another method.
    MethodNotRegistered = "method_not_registered", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The server does not support the method.
    MethodNotSupported = "method_not_supported", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The secret is wrong, or the client has none.
    SecretWrong = "secret_wrong", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// `client_assertion_type` is missing or is not that of RFC 7523 §2.2.
    AssertionType = "assertion_type", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The assertion is not a signed JWT with a usable header.
    AssertionMalformed = "assertion_malformed", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The algorithm is not allowed, or is not the one that the client registered.
    AssertionAlgorithm = "assertion_algorithm", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The client has no key that fits the assertion.
    AssertionKey = "assertion_key", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The signature is wrong.
    AssertionSignature = "assertion_signature", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// `iss` and `sub` are not both the client's id.
    AssertionIssuer = "assertion_issuer", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// `aud` is not the issuer of this server, as a string.
    AssertionAudience = "assertion_audience", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// `exp` is missing, in the past, or too far ahead.
    AssertionExpiry = "assertion_expiry", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// `nbf` or `iat` is in the future.
    AssertionNotYetValid = "assertion_not_yet_valid", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// `jti` is missing.
    AssertionId = "assertion_id", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The assertion was used before.
    AssertionReplayed = "assertion_replayed", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// A [`CustomMethod`](crate::CustomMethod) refused the credentials.
    CredentialsRefused = "credentials_refused", UNAUTHORIZED "invalid_client", "client authentication failed";
    /// The registry cannot answer at the moment.
    RegistryUnavailable = "registry_unavailable", SERVICE_UNAVAILABLE "temporarily_unavailable",
        "clients cannot be authenticated at the moment";
    /// The registry failed.
    RegistryFault = "registry_fault", INTERNAL_SERVER_ERROR "server_error", "clients cannot be authenticated";
    /// The client's keys cannot be fetched at the moment.
    KeysUnavailable = "keys_unavailable", SERVICE_UNAVAILABLE "temporarily_unavailable",
        "clients cannot be authenticated at the moment";
    /// The store of used assertions cannot answer at the moment.
    StateUnavailable = "state_unavailable", SERVICE_UNAVAILABLE "temporarily_unavailable",
        "clients cannot be authenticated at the moment";
    /// The store of used assertions failed.
    StateFault = "state_fault", INTERNAL_SERVER_ERROR "server_error", "clients cannot be authenticated";
    /// Too many secrets are being checked.
    Busy = "busy", SERVICE_UNAVAILABLE "temporarily_unavailable", "clients cannot be authenticated at the moment";
}

/// A client was not authenticated.
///
/// [`into_response`](Self::into_response) answers it as RFC 6749 §5.2 asks. Whatever is wrong with the credentials,
/// the answer is the same; [`failure`](Self::failure) tells them apart for the log.
#[derive(Clone, Debug)]
pub struct AuthenticationError {
    failure: AuthenticationFailure,
    used_authorization: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl AuthenticationError {
    pub(crate) fn new(failure: AuthenticationFailure) -> Self {
        Self { failure, used_authorization: false, source: None }
    }

    pub(super) fn caused_by(
        failure: AuthenticationFailure,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { failure, used_authorization: false, source: Some(Arc::new(source)) }
    }

    /// The credentials of a [`CustomMethod`](crate::CustomMethod) are wrong: 401 `invalid_client`.
    #[must_use]
    pub fn credentials_refused() -> Self {
        Self::new(AuthenticationFailure::CredentialsRefused)
    }

    /// Credentials cannot be checked at the moment: 503 `temporarily_unavailable`.
    #[must_use]
    pub fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::caused_by(AuthenticationFailure::StateUnavailable, source)
    }

    pub(super) fn with_authorization(self, used_authorization: bool) -> Self {
        Self { used_authorization, ..self }
    }

    /// Why.
    #[must_use]
    pub fn failure(&self) -> AuthenticationFailure {
        self.failure
    }

    /// The OAuth error code.
    #[must_use]
    pub fn error(&self) -> &'static str {
        self.failure.facts().1
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.failure.facts().0
    }

    /// The answer: JSON, never cached. 401 carries `WWW-Authenticate: Basic` where the client used the
    /// `Authorization` header (RFC 6749 §5.2). The error itself goes into the extensions.
    #[must_use]
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let (status, _, body) = self.failure.facts();
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match status {
            StatusCode::UNAUTHORIZED if self.used_authorization => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"client\""));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        finish(response, &Method::POST)
    }
}

impl fmt::Display for AuthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the client was not authenticated: {}", self.failure.as_str())
    }
}

impl std::error::Error for AuthenticationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
