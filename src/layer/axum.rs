//! The validated request as an argument of axum handlers.

use std::convert::Infallible;
use std::fmt;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::outcome::NotJudged;
use super::{ReportedOutcome, UnregisteredClient};
use crate::authorization::{UseUpError, ValidatedRequest};

/// Extracts what the layer put there. `Option<ValidatedRequest>` is `None` where the request was let through without.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for ValidatedRequest {
    type Rejection = NotValidated;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| NotValidated::of(parts))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> OptionalFromRequestParts<S> for ValidatedRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// A handler extracts a [`ValidatedRequest`] from a request that has none.
///
/// The message says why: the request is `OPTIONS`, it was let through by `report_only`, `insecure_bypass` or
/// `UnknownClients::Forward`, or the layer is missing. `OPTIONS` is answered with 405. Everything else is a fault of the
/// server, answered with 500 and logged as an error: let the handler extract `Option<ValidatedRequest>` where requests
/// can be let through.
#[derive(Debug)]
pub struct NotValidated(Why);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Options,
    Bypassed,
    Reported,
    Forwarded,
    NoLayer,
}

impl NotValidated {
    fn of(parts: &Parts) -> Self {
        let extensions = &parts.extensions;
        Self(match extensions.get::<NotJudged>() {
            Some(NotJudged::Options) => Why::Options,
            Some(NotJudged::Bypassed) => Why::Bypassed,
            None if extensions.get::<ReportedOutcome>().is_some() => Why::Reported,
            None if extensions.get::<UnregisteredClient>().is_some() => Why::Forwarded,
            None => Why::NoLayer,
        })
    }
}

impl fmt::Display for NotValidated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Why::Options => "the request was not validated: OPTIONS is passed on",
            Why::Bypassed => "the request was not validated: `insecure_bypass` let it through",
            Why::Reported => "the request is not valid: `report_only` let it through",
            Why::Forwarded => {
                "the request was not validated: its client is unknown, and the policy forwards such requests"
            }
            Why::NoLayer => "the request was not validated: `ClientValidationLayer` is not on this route",
        })
    }
}

impl std::error::Error for NotValidated {}

impl IntoResponse for NotValidated {
    fn into_response(self) -> Response {
        if self.0 == Why::Options {
            return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD, POST")], self.to_string()).into_response();
        }
        tracing::error!(error = %self, "ValidatedRequest extractor");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// The answer as JSON. [`UseUpError::into_rejection`] and [`Rejection::into_http`](crate::Rejection::into_http) also write pages for browsers.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl IntoResponse for UseUpError {
    fn into_response(self) -> Response {
        self.into_rejection().into_http(&Method::POST, &HeaderMap::new())
    }
}
