//! Turns decisions into HTTP responses.

pub(super) mod hidden_fields;
mod html;
mod json;
mod page;
pub(super) mod redirect;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

use self::redirect::AuthorizationResponse;
use super::error::ErrorCode;
use super::rejection::{Delivery, Rejection};
use crate::http::accept::prefers_html;
use crate::http::answer::{finish, for_method};

/// The methods of the authorization endpoint.
pub(crate) const ALLOW: &str = "GET, HEAD, POST, OPTIONS";

/// What an answer depends on besides the rejection.
#[derive(Clone, Copy)]
pub(crate) struct AnswerTo<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) allow: &'static str,
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
        reject(self, AnswerTo { method, headers, allow: ALLOW }).map(B::from)
    }

    /// The error as JSON, whatever the user agent prefers and wherever the policy sends errors: for endpoints that programs
    /// call.
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthorizationRequest, Validator};
    ///
    /// let request = AuthorizationRequest::parse(b"client_id=nobody", b"");
    /// let rejection = Validator::default().validate(request, None).unwrap_err();
    /// let response: http::Response<bytes::Bytes> = rejection.into_json();
    /// assert_eq!(response.headers()["content-type"], "application/json");
    /// assert!(response.body().starts_with(br#"{"error":"invalid_client","#));
    /// ```
    #[must_use]
    pub fn into_json<B: From<Bytes>>(self) -> Response<B> {
        let to = AnswerTo { method: &Method::POST, headers: &HeaderMap::new(), allow: ALLOW };
        let answer = prepare(&self, to);
        complete(self, answer, to.method).map(B::from)
    }

    /// The response to the redirect URI that [`Rejection::redirect_uri`] names, for a page of your own that asks the
    /// user ([`Delivery::Confirm`]).
    #[must_use]
    pub fn redirect_response(&self) -> Option<AuthorizationResponse> {
        self.target().map(|target| AuthorizationResponse::error(target, self.authorization_error()))
    }
}

/// The answer to a refused request, with the rejection in its extensions.
pub(crate) fn reject(rejection: Rejection, to: AnswerTo<'_>) -> Response<Bytes> {
    let redirect = if rejection.delivery() == Delivery::Redirect { rejection.redirect_response() } else { None };
    let mut response = match redirect {
        Some(redirect) => redirect.into_http(to.method),
        None => for_method(prepare(&rejection, to), to.method),
    };
    response.extensions_mut().insert(rejection);
    response
}

/// Prepares the answer that the user agent gets. A hook may change it.
pub(crate) fn prepare(rejection: &Rejection, to: AnswerTo<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let status = status(rejection);
    *response.status_mut() = status;
    if prefers_html(to.headers) {
        html::write_page(rejection, &mut response);
    } else {
        json::write_error(rejection, &mut response);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(to.allow));
    } else if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Adds to the answer of a hook what every answer has, with the rejection in its extensions.
pub(crate) fn complete(rejection: Rejection, mut answer: Response<Bytes>, method: &Method) -> Response<Bytes> {
    html::keep_policy(&rejection, &mut answer);
    let mut answer = finish(answer, method);
    answer.extensions_mut().insert(rejection);
    answer
}

fn status(rejection: &Rejection) -> StatusCode {
    let of_reason = rejection.reason().row.status.and_then(|status| StatusCode::from_u16(status).ok());
    of_reason.unwrap_or_else(|| match rejection.error() {
        ErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    })
}
