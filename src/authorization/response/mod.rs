//! Answers: the only part of the room that knows HTTP.

mod html;
mod json;
mod page;
pub(super) mod redirect;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

use self::redirect::AuthorizationResponse;
use super::error::ErrorCode;
use super::rejection::{Delivery, Rejection};
use crate::http::accept::prefers_html;
use crate::http::answer::finish;

/// Changes a prepared answer: its body, its headers, its status.
pub(crate) type AnswerHook = dyn Fn(&Rejection, &mut Response<Bytes>) + Send + Sync;

/// How errors look that do not leave at once.
#[derive(Clone, Default)]
pub(crate) struct DirectAnswers {
    pub(crate) json: Option<Arc<AnswerHook>>,
    pub(crate) html: Option<Arc<AnswerHook>>,
}

/// The parts of a request that its answer depends on.
#[derive(Clone, Copy)]
pub(crate) struct AnswerTo<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

impl Rejection {
    /// The answer to a request with this method and these headers, as the layer gives it without hooks: for endpoints
    /// that call a [`Validator`](crate::Validator) themselves.
    ///
    /// An error for the redirect URI becomes a redirect or a form, any other JSON or a page, as `Accept` prefers.
    ///
    /// ```
    /// use http::{HeaderMap, Method};
    /// use tower_oauth_client_validation::{AuthorizationRequest, Validator};
    ///
    /// let request = AuthorizationRequest::parse(b"client_id=nobody", b"");
    /// let rejection = Validator::default().validate(request, None).unwrap_err();
    /// let response: http::Response<bytes::Bytes> = rejection.into_http(&Method::GET, &HeaderMap::new());
    /// assert_eq!(response.status(), 400);
    /// ```
    #[must_use]
    pub fn into_http<B: From<Bytes>>(self, method: &Method, headers: &HeaderMap) -> Response<B> {
        reject(self, AnswerTo { method, headers }, &DirectAnswers::default()).map(B::from)
    }

    /// The response to the redirect URI that [`Rejection::redirect_uri`] names, for a page of your own that asks the
    /// user ([`Delivery::Confirm`]).
    #[must_use]
    pub fn redirect_response(&self) -> Option<AuthorizationResponse> {
        self.target().map(|target| AuthorizationResponse::error(target, self.authorization_error()))
    }
}

/// The answer to a refused request, with the rejection in its extensions.
pub(crate) fn reject(rejection: Rejection, to: AnswerTo<'_>, answers: &DirectAnswers) -> Response<Bytes> {
    let mut response = match rejection.delivery() {
        Delivery::Redirect => rejection.redirect_response().map(|redirect| redirect.into_http(to.method)),
        Delivery::Direct | Delivery::Confirm => None,
    }
    .unwrap_or_else(|| direct(&rejection, to, answers));
    response.extensions_mut().insert(rejection);
    response
}

fn direct(rejection: &Rejection, to: AnswerTo<'_>, answers: &DirectAnswers) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let status = status(rejection);
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
    } else if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if prefers_html(to.headers) {
        html::write_page(rejection, &mut response);
        if let Some(hook) = &answers.html {
            hook(rejection, &mut response);
        }
    } else {
        json::write_error(rejection, &mut response);
        if let Some(hook) = &answers.json {
            hook(rejection, &mut response);
        }
    }
    html::keep_policy(rejection, &mut response);
    finish(response, to.method)
}

fn status(rejection: &Rejection) -> StatusCode {
    let of_reason = rejection.reason().row.status.and_then(|status| StatusCode::from_u16(status).ok());
    of_reason.unwrap_or_else(|| match rejection.error() {
        ErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    })
}
