//! The future: reads the body, looks up the client, decides, and calls the inner service or answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::metrics::Lookup;
use super::{ReportedOutcome, Settings, Shared, UnregisteredClient, log, metrics};
use crate::authorization::response::{AnswerTo, reject};
use crate::authorization::{AuthorizationRequest, Reason, Rejection, ValidatedRequest};
use crate::client::Client;
use crate::http::body::{BodyError, ReadBody, Reading, RequestBodies, ResponseBodies};
use crate::registry::{RegistryError, RegistrySource};
use tower::BoxError;

pin_project! {
    /// The response future of [`ClientValidation`](super::ClientValidation).
    pub struct ResponseFuture<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        // Not in the stages, so that it is not moved when they change.
        waiting: Option<Waiting<S, R, M::Inner>>,
        #[pin]
        stage: Stage<S::Future, Lookup<R::Future>, ReqBody>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<F, L, ReqBody> {
        Reading { reading: Reading<ReqBody> },
        LookingUp { #[pin] lookup: L },
        Inner { #[pin] future: F },
        Answer { response: Option<Response<Bytes>> },
    }
}

/// A request that waits for the decision, and the inner service that was polled ready, with its permits.
pub(super) struct Waiting<S, R, B> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared<R>>,
    pub(super) parts: Parts,
    /// `None` while it is read, and where it cannot be passed on.
    pub(super) body: Option<B>,
    /// `None` until the body was read.
    pub(super) asked: Option<AuthorizationRequest>,
}

impl<S, R, M, ReqBody> ResponseFuture<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
{
    /// Judges the query.
    pub(super) fn judge(mut waiting: Waiting<S, R, M::Inner>) -> Self {
        match waiting.lookup(b"") {
            Ok(lookup) => Self { waiting: Some(waiting), stage: Stage::LookingUp { lookup } },
            Err(rejection) => Self { stage: waiting.refuse(rejection), waiting: None },
        }
    }

    /// Reads the body, and judges query and body.
    pub(super) fn read(waiting: Waiting<S, R, M::Inner>, reading: Reading<ReqBody>) -> Self {
        Self { waiting: Some(waiting), stage: Stage::Reading { reading } }
    }

    /// Passes the request on.
    pub(super) fn forward(waiting: Waiting<S, R, M::Inner>) -> Self {
        Self { stage: waiting.forward(), waiting: None }
    }

    /// Answers the request, or passes it on where refusals are only reported.
    pub(super) fn refuse(waiting: Waiting<S, R, M::Inner>, reason: Reason) -> Self {
        let rejection = waiting.shared.settings.validator.direct(reason, None);
        Self { stage: waiting.refuse(rejection), waiting: None }
    }
}

impl<S, R, B> Waiting<S, R, B>
where
    S: Service<Request<B>>,
    R: RegistrySource,
{
    fn forward<ReqBody>(mut self) -> Stage<S::Future, Lookup<R::Future>, ReqBody> {
        let body = self.body.expect("only a request whose body can be passed on is forwarded");
        Stage::Inner { future: self.inner.call(Request::from_parts(self.parts, body)) }
    }

    /// Unless it forwards, this drops the inner service, and frees its permits.
    fn refuse<ReqBody>(mut self, rejection: Rejection) -> Stage<S::Future, Lookup<R::Future>, ReqBody> {
        let Settings { report_only, answers, .. } = &self.shared.settings;
        log::rejected(&rejection, *report_only);
        metrics::rejected(&rejection, *report_only);
        if *report_only && self.body.is_some() {
            clear(&mut self.parts.extensions).insert(ReportedOutcome::Rejected(rejection));
            return self.forward();
        }
        let to = AnswerTo { method: &self.parts.method, headers: &self.parts.headers };
        Stage::Answer { response: Some(reject(rejection, to, answers)) }
    }

    fn after_reading<M, ReqBody>(
        &mut self,
        read: Result<ReadBody<ReqBody>, (ReadBody<ReqBody>, BodyError)>,
    ) -> Result<Lookup<R::Future>, Rejection>
    where
        M: RequestBodies<ReqBody, Inner = B>,
    {
        let (read, reason) = match read {
            Ok(read) => (read, None),
            Err((read, BodyError::TooLarge)) => (read, Some(Reason::BODY_TOO_LARGE)),
            Err((read, BodyError::Unreadable)) => (read, Some(Reason::BODY_UNREADABLE)),
        };
        let data = read.data();
        self.body = M::replayed(read);
        match reason.or(self.body.is_none().then_some(Reason::BODY_UNREADABLE)) {
            None => self.lookup(&data),
            Some(reason) => Err(self.shared.settings.validator.direct(reason, None)),
        }
    }

    /// Starts the lookup, where the request names a client.
    fn lookup(&mut self, body: &[u8]) -> Result<Lookup<R::Future>, Rejection> {
        let query = self.parts.uri.query().unwrap_or_default();
        let asked = self.asked.insert(AuthorizationRequest::parse(query.as_bytes(), body));
        let Shared { registry, settings } = &*self.shared;
        settings.validator.client_id(asked).map(|client_id| metrics::time(registry.find_client(client_id)))
    }

    fn decide<ReqBody>(
        mut self,
        found: Result<Option<Arc<Client>>, RegistryError>,
    ) -> Stage<S::Future, Lookup<R::Future>, ReqBody> {
        let Settings { validator, report_only, .. } = &self.shared.settings;
        let asked = self.asked.take().expect("the registry was asked for the client of a request that was read");
        let client = match found {
            Ok(client) => client,
            Err(error) => {
                let reason = if error.is_transient() { Reason::REGISTRY_UNAVAILABLE } else { Reason::REGISTRY_FAULT };
                log::registry_failed(&error, &asked, reason, *report_only);
                let rejection = validator.direct(reason, Some(asked));
                return self.refuse(rejection);
            }
        };
        let extensions = clear(&mut self.parts.extensions);
        if client.is_none() && validator.policy().forwards_unknown_clients() {
            log::forwarded(&asked, *report_only);
            metrics::forwarded(*report_only);
            if *report_only {
                extensions.insert(ReportedOutcome::Forwarded);
            }
            extensions.insert(UnregisteredClient::new(asked));
            return self.forward();
        }
        match validator.validate(asked, client) {
            Ok(validated) => {
                log::accepted(&validated, *report_only);
                metrics::accepted(*report_only);
                if *report_only {
                    extensions.insert(ReportedOutcome::Accepted);
                }
                extensions.insert(validated);
                self.forward()
            }
            Err(rejection) => self.refuse(rejection),
        }
    }
}

/// Removes results that an outer layer left.
fn clear(extensions: &mut Extensions) -> &mut Extensions {
    if !extensions.is_empty() {
        extensions.remove::<ValidatedRequest>();
        extensions.remove::<UnregisteredClient>();
        extensions.remove::<ReportedOutcome>();
    }
    extensions
}

impl<S, R, M, ReqBody, ResBody> Future for ResponseFuture<S, R, M, ReqBody>
where
    S: Service<Request<<M as RequestBodies<ReqBody>>::Inner>, Response = Response<ResBody>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody> + ResponseBodies<ResBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    type Output = Result<Response<<M as ResponseBodies<ResBody>>::Outer>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (waiting, mut stage) = (this.waiting, this.stage);
        loop {
            let next = match stage.as_mut().project() {
                StageProjection::Reading { reading } => {
                    let read = ready!(reading.poll(cx));
                    let lookup = waiting.as_mut().expect(POLLED_AGAIN).after_reading::<M, _>(read);
                    match lookup {
                        Ok(lookup) => Stage::LookingUp { lookup },
                        Err(rejection) => waiting.take().expect(POLLED_AGAIN).refuse(rejection),
                    }
                }
                StageProjection::LookingUp { lookup } => {
                    let found = ready!(lookup.poll(cx));
                    waiting.take().expect(POLLED_AGAIN).decide(found)
                }
                StageProjection::Inner { future } => {
                    return Poll::Ready(ready!(future.poll(cx)).map(|response| response.map(M::inner)));
                }
                StageProjection::Answer { response } => {
                    return Poll::Ready(Ok(response.take().expect(POLLED_AGAIN).map(M::answer)));
                }
            };
            stage.set(next);
        }
    }
}

const POLLED_AGAIN: &str = "a future is not polled again after it was ready";

impl<S, R, M, ReqBody> fmt::Debug for ResponseFuture<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
