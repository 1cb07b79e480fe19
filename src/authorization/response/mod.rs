//! Answers: the only part of the decision that knows http types.

mod html;
mod json;
mod redirect;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

pub(crate) use self::redirect::RedirectTarget;
pub use self::redirect::{AuthorizationResponse, SerializeParametersError};
use super::{DirectError, ErrorCode, Reason, Rejection};
use crate::http::accept::prefers_html;
use crate::http::answer::finish;

/// How a response goes back to the client (OAuth 2.0 Multiple Response Type Encoding Practices, Form Post
/// Response Mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    Query,
    /// In its fragment.
    Fragment,
    /// As a form that the browser posts to it.
    FormPost,
}

impl ResponseMode {
    /// The mode of this name.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "query" => Self::Query,
            "fragment" => Self::Fragment,
            "form_post" => Self::FormPost,
            _ => return None,
        })
    }

    /// The value of the `response_mode` parameter.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Fragment => "fragment",
            Self::FormPost => "form_post",
        }
    }

    pub(super) fn default_for(carries_token: bool) -> Self {
        if carries_token { Self::Fragment } else { Self::Query }
    }

    /// A query ends up in logs and in the `Referer` header, so no token may go there.
    pub(super) fn suits(self, carries_token: bool) -> bool {
        self != Self::Query || !carries_token
    }
}

/// Changes a prepared direct answer: its body, its headers, its status.
pub(crate) type AnswerHook = dyn Fn(&DirectError, &mut Response<Bytes>) + Send + Sync;

/// How direct errors look.
#[derive(Clone, Default)]
pub(crate) struct DirectAnswers {
    pub(crate) json: Option<std::sync::Arc<AnswerHook>>,
    pub(crate) html: Option<std::sync::Arc<AnswerHook>>,
}

/// What of the request an answer depends on.
#[derive(Clone, Copy)]
pub(crate) struct AnswerTo<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

/// The answer to a refused request. The rejection goes along in the extensions.
pub(crate) fn reject(rejection: Rejection, to: AnswerTo<'_>, answers: &DirectAnswers) -> Response<Bytes> {
    let mut response = match &rejection {
        Rejection::Direct(error) => direct(error, to, answers),
        Rejection::Redirect(error) => {
            AuthorizationResponse::error(error.target(), error.authorization_error()).into_http(to.method)
        }
    };
    response.extensions_mut().insert(rejection);
    response
}

fn direct(error: &DirectError, to: AnswerTo<'_>, answers: &DirectAnswers) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status(error);
    let headers = response.headers_mut();
    match error.reason() {
        Reason::Method => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
        }
        Reason::RegistryUnavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    if prefers_html(to.headers) {
        html::write_error_page(error, &mut response);
        if let Some(hook) = &answers.html {
            hook(error, &mut response);
        }
    } else {
        json::write_error(error, &mut response);
        if let Some(hook) = &answers.json {
            hook(error, &mut response);
        }
    }
    html::keep_policy(&mut response);
    finish(response, to.method)
}

fn status(error: &DirectError) -> StatusCode {
    match error.reason() {
        Reason::Method => StatusCode::METHOD_NOT_ALLOWED,
        Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => match error.error() {
            ErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        },
    }
}
