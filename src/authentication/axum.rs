//! The authenticated client as an argument of axum handlers.

use std::fmt;

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::authenticator::AuthenticatedClient;
use super::failure::AuthenticationError;

/// What [`ClientAuthenticationLayer`](crate::ClientAuthenticationLayer) found.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for AuthenticatedClient {
    type Rejection = MissingAuthentication;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(MissingAuthentication(()))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl IntoResponse for AuthenticationError {
    fn into_response(self) -> Response {
        Self::into_response(self)
    }
}

/// A handler asks for an [`AuthenticatedClient`] on a route without
/// [`ClientAuthenticationLayer`](crate::ClientAuthenticationLayer). A mistake in the server, answered with 500.
#[derive(Debug)]
pub struct MissingAuthentication(());

impl fmt::Display for MissingAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no authenticated client: is `ClientAuthenticationLayer` on this route?")
    }
}

impl std::error::Error for MissingAuthentication {}

impl IntoResponse for MissingAuthentication {
    fn into_response(self) -> Response {
        tracing::error!(error = %self, "AuthenticatedClient extractor");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
