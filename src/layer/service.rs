//! The service: which requests are judged, and where they wait meanwhile.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use tower::Service;

use super::body::{KeepBodies, Reading, RequestBodies, ResponseBodies};
use super::future::{Pending, ResponseFuture, Stage};
use super::{Settings, Shared};
use crate::authorization::{AuthorizationRequest, Reason};
use crate::registry::{BoxError, RegistrySource};

/// Validates authorization requests before the inner service sees them, see
/// [`ClientValidationLayer`](super::ClientValidationLayer).
pub struct ClientValidation<S, R, M = KeepBodies> {
    inner: S,
    shared: Arc<Shared<R>>,
    bodies: PhantomData<fn() -> M>,
}

impl<S, R, M> ClientValidation<S, R, M> {
    pub(super) fn new(inner: S, registry: Arc<R>, settings: Settings) -> Self {
        Self { inner, shared: Arc::new(Shared { registry, settings }), bodies: PhantomData }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R, M, ReqBody, ResBody> Service<Request<ReqBody>> for ClientValidation<S, R, M>
where
    S: Service<Request<<M as RequestBodies<ReqBody>>::Inner>, Response = Response<ResBody>> + Clone,
    R: RegistrySource,
    M: RequestBodies<ReqBody> + ResponseBodies<ResBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    type Response = Response<<M as ResponseBodies<ResBody>>::Outer>;
    type Error = S::Error;
    type Future = ResponseFuture<S, R, M, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The inner service that was polled ready goes with the request; its clone was not.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let pending = Pending { inner, shared: Arc::clone(&self.shared) };
        ResponseFuture::new(begin(pending, request))
    }
}

/// What becomes of a request before anything has to wait.
fn begin<S, R, M, ReqBody>(pending: Pending<S, R>, request: Request<ReqBody>) -> Stage<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    let request = match &pending.shared.settings.filter {
        None => request,
        Some(filter) => {
            let (parts, body) = request.into_parts();
            let is_judged = filter(&parts);
            let request = Request::from_parts(parts, body);
            if !is_judged {
                return pending.forward(request.map(M::untouched));
            }
            request
        }
    };
    match *request.method() {
        Method::OPTIONS => pending.forward(request.map(M::untouched)),
        Method::GET | Method::HEAD => {
            let asked = AuthorizationRequest::parse(query(&request), b"");
            pending.look_up(asked, request.map(M::untouched))
        }
        Method::POST => begin_post(pending, request),
        _ => {
            let rejection = pending.shared.settings.validator.direct(Reason::Method, None);
            pending.refuse_or_report(rejection, request.map(M::untouched))
        }
    }
}

/// The content type is judged first, then the size that is known beforehand.
fn begin_post<S, R, M, ReqBody>(pending: Pending<S, R>, request: Request<ReqBody>) -> Stage<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    let limit = pending.shared.settings.body_limit;
    let reason = if !is_form(request.headers()) {
        Some(Reason::ContentType)
    } else if known_length(&request) > limit as u64 {
        Some(Reason::BodyTooLarge)
    } else if pending.shared.settings.report_only && !M::RESUMES && request.body().size_hint().exact().is_none() {
        // Reading it could leave nothing to pass on.
        Some(Reason::BodyUnreadable)
    } else {
        None
    };
    if let Some(reason) = reason {
        let rejection = pending.shared.settings.validator.direct(reason, None);
        return pending.refuse_or_report(rejection, request.map(M::untouched));
    }
    let (parts, body) = request.into_parts();
    Stage::reading(Reading::new(body, limit), parts, pending)
}

fn query<B>(request: &Request<B>) -> &[u8] {
    request.uri().query().unwrap_or_default().as_bytes()
}

/// `application/x-www-form-urlencoded`, with any media-type parameters. Two headers are as good as none, and so is a
/// content coding: the inner service might go by the other one, or read what only it can decode.
fn is_form(headers: &HeaderMap) -> bool {
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    let mut values = headers.get_all(CONTENT_TYPE).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn known_length(request: &Request<impl Body>) -> u64 {
    let header = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    header.unwrap_or(0).max(request.body().size_hint().lower())
}

impl<S: Clone, R, M> Clone for ClientValidation<S, R, M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared), bodies: PhantomData }
    }
}

impl<S: fmt::Debug, R, M> fmt::Debug for ClientValidation<S, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientValidation")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
