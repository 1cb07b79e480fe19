//! The future: body, look-up, decision, and then the inner service or an answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::body::{ReadBody, Reading, RequestBodies, ResponseBodies};
use super::service::query;
use super::{ReportedOutcome, Settings, UnregisteredClient, log};
use crate::authorization::response::{AnswerTo, reject};
use crate::authorization::{AuthorizationRequest, Reason, Rejection, ValidatedRequest};
use crate::client::Client;
use crate::registry::{BoxError, RegistryError, RegistrySource};

pin_project! {
    /// The response future of [`ClientValidation`](super::ClientValidation).
    pub struct ResponseFuture<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        #[pin]
        stage: Stage<S, R, M, ReqBody>,
    }
}

pin_project! {
    #[project = StageProjection]
    pub(super) enum Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        Reading { reading: Reading<ReqBody>, waiting: Option<(Parts, Pending<S, R>)> },
        LookingUp { #[pin] look_up: R::Future, waiting: Option<Waiting<S, R, M::Inner>> },
        Inner { #[pin] future: S::Future },
        Answer { response: Option<Response<Bytes>> },
    }
}

/// What is needed until the decision. Holds the inner service that was polled ready, and thereby its permits.
pub(super) struct Pending<S, R> {
    pub(super) inner: S,
    pub(super) registry: Arc<R>,
    pub(super) settings: Arc<Settings>,
}

/// A request whose client is being looked up.
pub(super) struct Waiting<S, R, B> {
    pending: Pending<S, R>,
    request: AuthorizationRequest,
    parts: Parts,
    body: B,
}

impl<S, R, M, ReqBody> ResponseFuture<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
{
    pub(super) fn new(stage: Stage<S, R, M, ReqBody>) -> Self {
        Self { stage }
    }
}

impl<S, R, M, ReqBody> Stage<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
{
    pub(super) fn reading(reading: Reading<ReqBody>, parts: Parts, pending: Pending<S, R>) -> Self {
        Self::Reading { reading, waiting: Some((parts, pending)) }
    }
}

impl<S, R> Pending<S, R> {
    /// Passes the request on.
    pub(super) fn forward<M, ReqBody>(mut self, parts: Parts, body: M::Inner) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        Stage::Inner { future: self.inner.call(Request::from_parts(parts, body)) }
    }

    /// Answers the request. The inner service is dropped here, and its permits with it.
    pub(super) fn refuse<M, ReqBody>(
        self,
        rejection: Rejection,
        mut parts: Parts,
        body: Option<M::Inner>,
    ) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        log::rejected(&rejection, self.settings.report_only);
        match body {
            Some(body) if self.settings.report_only => {
                parts.extensions.remove::<ValidatedRequest>();
                parts.extensions.insert(ReportedOutcome::Rejected(rejection));
                self.forward(parts, body)
            }
            Some(_) | None => {
                let to = AnswerTo { method: &parts.method, headers: &parts.headers };
                Stage::Answer { response: Some(reject(rejection, to, &self.settings.answers)) }
            }
        }
    }

    /// Asks the registry for the client.
    pub(super) fn look_up<M, ReqBody>(
        self,
        request: AuthorizationRequest,
        parts: Parts,
        body: M::Inner,
    ) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        match self.settings.validator.client_id(&request) {
            Ok(client_id) => {
                let look_up = self.registry.find_client(client_id);
                Stage::LookingUp { look_up, waiting: Some(Waiting { pending: self, request, parts, body }) }
            }
            Err(rejection) => self.refuse(rejection, parts, Some(body)),
        }
    }

    fn after_reading<M, ReqBody>(
        self,
        read: Result<ReadBody<ReqBody>, (ReadBody<ReqBody>, Reason)>,
        parts: Parts,
    ) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        let (read, reason) = match read {
            Ok(read) => (read, None),
            Err((read, reason)) => (read, Some(reason)),
        };
        let request = AuthorizationRequest::parse(query(&parts), read.data());
        match (reason, M::replayed(read)) {
            (None, Some(body)) => self.look_up(request, parts, body),
            (reason, body) => {
                let rejection = self.settings.validator.direct(reason.unwrap_or(Reason::BodyUnreadable), None);
                self.refuse(rejection, parts, body)
            }
        }
    }
}

impl<S, R, B> Waiting<S, R, B> {
    fn decide<M, ReqBody>(self, found: Result<Option<Arc<Client>>, RegistryError>) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody, Inner = B>,
    {
        let Self { pending, request, mut parts, body } = self;
        let settings = &pending.settings;
        let validator = &settings.validator;
        let client = match found {
            Ok(client) => client,
            Err(error) => {
                let reason = if error.is_transient() { Reason::RegistryUnavailable } else { Reason::RegistryFault };
                log::registry_failed(&error, &request, reason, settings.report_only);
                let rejection = validator.direct(reason, Some(&request));
                return pending.refuse(rejection, parts, Some(body));
            }
        };
        if client.is_none() && validator.policy().forwards_unknown_clients() {
            log::forwarded(&request, settings.report_only);
            parts.extensions.remove::<ValidatedRequest>();
            if settings.report_only {
                parts.extensions.insert(ReportedOutcome::Forwarded);
            }
            parts.extensions.insert(UnregisteredClient::new(request));
            return pending.forward(parts, body);
        }
        match validator.validate(request, client) {
            Ok(validated) => {
                log::accepted(&validated, settings.report_only);
                if settings.report_only {
                    parts.extensions.insert(ReportedOutcome::Accepted);
                }
                parts.extensions.insert(validated);
                pending.forward(parts, body)
            }
            Err(rejection) => pending.refuse(rejection, parts, Some(body)),
        }
    }
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
        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                StageProjection::Reading { reading, waiting } => {
                    let read = ready!(reading.poll(cx));
                    let (parts, pending) = waiting.take().expect(POLLED_AGAIN);
                    pending.after_reading(read, parts)
                }
                StageProjection::LookingUp { look_up, waiting } => {
                    let found = ready!(look_up.poll(cx));
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
