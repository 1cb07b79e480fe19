//! The service: which requests are judged, and how.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::future::{ResponseFuture, Waiting};
use super::outcome::NotJudged;
use super::tenant::Tenancy;
use super::{Settings, Shared};
use crate::authorization::Reason;
use crate::http::body::{KeepBodies, Reading, RequestBodies, ResponseBodies};
use crate::http::head::{announced_length, is_form};

/// Validates authorization requests before the inner service sees them, see
/// [`ClientValidationLayer`](super::ClientValidationLayer).
pub struct ClientValidation<S, T, M = KeepBodies> {
    inner: S,
    shared: Arc<Shared<T>>,
    bodies: PhantomData<fn() -> M>,
}

impl<S, T, M> ClientValidation<S, T, M> {
    pub(super) fn new(inner: S, tenancy: Arc<T>, settings: Settings) -> Self {
        Self { inner, shared: Arc::new(Shared { tenancy, settings }), bodies: PhantomData }
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

impl<S, T, M, ReqBody, ResBody> Service<Request<ReqBody>> for ClientValidation<S, T, M>
where
    S: Service<Request<<M as RequestBodies<ReqBody>>::Inner>, Response = Response<ResBody>> + Clone,
    T: Tenancy,
    M: RequestBodies<ReqBody> + ResponseBodies<ResBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    type Response = Response<<M as ResponseBodies<ResBody>>::Outer>;
    type Error = S::Error;
    type Future = ResponseFuture<S, T, M, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The request takes the service that was polled ready; the clone was not.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        let (parts, body) = request.into_parts();
        begin(Waiting { inner, shared, tenant: None, parts, body: None, asked: None }, body)
    }
}

/// Does everything that needs no waiting.
fn begin<S, T, M, ReqBody>(mut waiting: Waiting<S, T, M::Inner>, body: ReqBody) -> ResponseFuture<S, T, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    T: Tenancy,
    M: RequestBodies<ReqBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    let Shared { tenancy, settings } = &*waiting.shared;
    if !settings.judges(&waiting.parts) {
        let is_options = waiting.parts.method == Method::OPTIONS;
        let why = if is_options { NotJudged::Options } else { NotJudged::Bypassed };
        waiting.parts.extensions.insert(why);
        waiting.body = Some(M::untouched(body));
        return ResponseFuture::forward(waiting);
    }
    waiting.tenant = tenancy.tenant(&waiting.parts);
    if waiting.tenant.is_none() {
        waiting.body = Some(M::untouched(body));
        return ResponseFuture::refuse(waiting, Reason::TENANT_UNKNOWN);
    }
    if waiting.parts.method == Method::POST {
        return match refuse_unread::<M, _>(&waiting.parts, &body, settings) {
            None => {
                let reading = Reading::new(body, settings.max_body_bytes);
                ResponseFuture::read(waiting, reading)
            }
            Some(reason) => {
                waiting.body = Some(M::untouched(body));
                ResponseFuture::refuse(waiting, reason)
            }
        };
    }
    waiting.body = Some(M::untouched(body));
    match waiting.parts.method {
        Method::GET | Method::HEAD => ResponseFuture::judge(waiting),
        _ => ResponseFuture::refuse(waiting, Reason::METHOD),
    }
}

/// The content type is judged first, then the size that is known before the body is read.
fn refuse_unread<M, ReqBody>(parts: &Parts, body: &ReqBody, settings: &Settings) -> Option<Reason>
where
    M: RequestBodies<ReqBody>,
    ReqBody: Body,
{
    if !is_form(&parts.headers) {
        Some(Reason::CONTENT_TYPE)
    } else if announced_length(&parts.headers, body) > settings.max_body_bytes as u64 {
        Some(Reason::BODY_TOO_LARGE)
    } else if settings.report_only && !M::RESUMES && body.size_hint().exact().is_none() {
        // If it turned out to be too large, there would be nothing left to pass on.
        Some(Reason::BODY_UNREADABLE)
    } else {
        None
    }
}

impl<S: Clone, T, M> Clone for ClientValidation<S, T, M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared), bodies: PhantomData }
    }
}

impl<S: fmt::Debug, T, M> fmt::Debug for ClientValidation<S, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientValidation")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
