//! Endpoints that clients call: they take a form or JSON and return an OAuth response.
//!
//! A [`Handler`] decides, and this file does the HTTP around it. `endpoint_service!` makes a tower service of a handler.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::BoxError;

use super::answer::finish;
use super::body::{BodyError, Reading};
use super::head::{announced_length, has_media_type};

/// An answer without the headers that all answers carry.
pub(crate) type Answer = Response<Bytes>;

/// Decides what an endpoint answers.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The endpoint's name in logs.
    const NAME: &'static str;

    fn handle(self: Arc<Self>, request: EndpointRequest) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

/// A request whose body has not been read.
pub(crate) struct EndpointRequest {
    pub(crate) parts: Parts,
    body: UnsyncBoxBody<Bytes, BoxError>,
}

impl EndpointRequest {
    fn new<B>(request: Request<B>) -> Self
    where
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let body = body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())));
        Self { parts, body: body.map_err(Into::into).boxed_unsync() }
    }

    /// Reads a body of this media type and at most `max_bytes`. A body that does not fit is refused with `error`: 415,
    /// 413 or 400.
    pub(crate) async fn read(
        self,
        media_type: &'static str,
        max_bytes: usize,
        error: &'static str,
    ) -> Result<Bytes, Refusal> {
        let Self { parts, body } = self;
        if !has_media_type(&parts.headers, media_type) {
            let description = format!("the content type must be {media_type}");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, description));
        }
        let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error, "the request is too large");
        if announced_length(&parts.headers, &body) > max_bytes as u64 {
            return Err(too_large());
        }
        let mut reading = Reading::new(body, max_bytes);
        match poll_fn(|cx| reading.poll(cx)).await {
            Ok(read) => Ok(read.data()),
            Err((_, BodyError::TooLarge)) => Err(too_large()),
            Err((_, BodyError::Unreadable)) => {
                Err(Refusal::new(StatusCode::BAD_REQUEST, error, "the body could not be read"))
            }
        }
    }
}

/// A request that is refused, as RFC 6749 §5.2 writes errors.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error, description: legal(description.into()), header: None }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request", "there is no such endpoint")
    }

    pub(crate) fn method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this method is not supported here")
            .header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// The same request may succeed later.
    pub(crate) fn unavailable(description: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description)
            .header(RETRY_AFTER, HeaderValue::from_static("30"))
    }

    /// A fault of the server.
    pub(crate) fn fault() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the server could not process the request")
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(crate) fn error(&self) -> &'static str {
        self.error
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    fn into_answer(self) -> Answer {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut answer = json_answer(self.status, &body);
        answer.headers_mut().extend(self.header);
        answer
    }
}

/// Replaces characters that a description must not hold (RFC 6749 §5.2).
fn legal(description: Cow<'static, str>) -> Cow<'static, str> {
    let is_legal = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
    match description.chars().all(is_legal) {
        true => description,
        false => description.chars().map(|c| if is_legal(c) { c } else { '?' }).collect(),
    }
}

pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = empty_answer(status);
    *answer.body_mut() = body.to_string().into();
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(crate) fn empty_answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

/// The response future of the endpoint services.
pub struct EndpointFuture(BoxFuture<'static, Response<Full<Bytes>>>);

impl EndpointFuture {
    pub(crate) fn new<H, B>(handler: Arc<H>, request: Request<B>) -> Self
    where
        H: Handler,
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let method = request.method().clone();
        let request = EndpointRequest::new(request);
        let answer = async move {
            let answer = handler.handle(request).await.unwrap_or_else(|refusal| {
                tracing::info!(
                    endpoint = H::NAME,
                    outcome = "refused",
                    status = refusal.status.as_u16(),
                    error = refusal.error,
                    detail = &*refusal.description,
                    "endpoint request"
                );
                refusal.into_answer()
            });
            finish(answer, &method)
        };
        Self(answer.boxed())
    }
}

impl Future for EndpointFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx).map(Ok)
    }
}

impl fmt::Debug for EndpointFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointFuture").finish_non_exhaustive()
    }
}

/// Makes a service whose field `handler` is an `Arc<impl Handler>` cheap to clone, and a `tower::Service` for requests
/// with any body.
macro_rules! endpoint_service {
    ($service:ident $(<$source:ident: $bound:path>)?) => {
        impl<$($source,)? B> tower::Service<http::Request<B>> for $service $(<$source>)?
        where
            $($source: $bound + 'static,)?
            B: http_body::Body + Send + 'static,
            B::Error: Into<tower::BoxError>,
        {
            type Response = http::Response<http_body_util::Full<bytes::Bytes>>;
            type Error = std::convert::Infallible;
            type Future = $crate::http::endpoint::EndpointFuture;

            fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<B>) -> Self::Future {
                $crate::http::endpoint::EndpointFuture::new(std::sync::Arc::clone(&self.handler), request)
            }
        }

        impl $(<$source>)? Clone for $service $(<$source>)? {
            fn clone(&self) -> Self {
                Self { handler: std::sync::Arc::clone(&self.handler) }
            }
        }

        impl $(<$source>)? std::fmt::Debug for $service $(<$source>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($service)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use endpoint_service;
