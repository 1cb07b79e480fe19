//! The future: body, look-up, decision, and then the inner service or an answer.

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

use super::body::{ReadBody, Reading, RequestBodies, ResponseBodies};
use super::{ReportedOutcome, Settings, Shared, UnregisteredClient, log};
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
    pub(super) shared: Arc<Shared<R>>,
}

/// A request whose client is being looked up.
pub(super) struct Waiting<S, R, B> {
    pending: Pending<S, R>,
    asked: AuthorizationRequest,
    request: Request<B>,
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
    pub(super) fn forward<M, ReqBody>(mut self, request: Request<M::Inner>) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        Stage::Inner { future: self.inner.call(request) }
    }

    /// Answers the request. The inner service is dropped here, and its permits with it.
    fn refuse<M, ReqBody>(self, rejection: Rejection, to: AnswerTo<'_>) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        log::rejected(&rejection, self.shared.settings.report_only);
        Stage::Answer { response: Some(reject(rejection, to, &self.shared.settings.answers)) }
    }

    /// Answers the request, or passes it on where rejections are only reported.
    pub(super) fn refuse_or_report<M, ReqBody>(
        self,
        rejection: Rejection,
        mut request: Request<M::Inner>,
    ) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        if !self.shared.settings.report_only {
            return self.refuse(rejection, AnswerTo { method: request.method(), headers: request.headers() });
        }
        log::rejected(&rejection, true);
        let extensions = clear(request.extensions_mut());
        extensions.insert(ReportedOutcome::Rejected(rejection));
        self.forward(request)
    }

    /// Asks the registry for the client.
    pub(super) fn look_up<M, ReqBody>(
        self,
        asked: AuthorizationRequest,
        request: Request<M::Inner>,
    ) -> Stage<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        R: RegistrySource,
        M: RequestBodies<ReqBody>,
    {
        match self.shared.settings.validator.client_id(&asked) {
            Ok(client_id) => {
                let look_up = self.shared.registry.find_client(client_id);
                Stage::LookingUp { look_up, waiting: Some(Waiting { pending: self, asked, request }) }
            }
            Err(rejection) => self.refuse_or_report(rejection, request),
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
        let asked = AuthorizationRequest::parse(parts.uri.query().unwrap_or_default().as_bytes(), read.data());
        let replayed = M::replayed(read);
        let rejection = || self.shared.settings.validator.direct(reason.unwrap_or(Reason::BodyUnreadable), None);
        match (reason, replayed) {
            (None, Some(body)) => self.look_up(asked, Request::from_parts(parts, body)),
            (Some(_), Some(body)) => {
                let rejection = rejection();
                self.refuse_or_report(rejection, Request::from_parts(parts, body))
            }
            (_, None) => {
                let rejection = rejection();
                self.refuse(rejection, AnswerTo { method: &parts.method, headers: &parts.headers })
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
        let Self { pending, asked, mut request } = self;
        let Settings { validator, report_only, .. } = &pending.shared.settings;
        let client = match found {
            Ok(client) => client,
            Err(error) => {
                let reason = if error.is_transient() { Reason::RegistryUnavailable } else { Reason::RegistryFault };
                log::registry_failed(&error, &asked, reason, *report_only);
                let rejection = validator.direct(reason, Some(asked));
                return pending.refuse_or_report(rejection, request);
            }
        };
        let extensions = clear(request.extensions_mut());
        if client.is_none() && validator.policy().forwards_unknown_clients() {
            log::forwarded(&asked, *report_only);
            if *report_only {
                extensions.insert(ReportedOutcome::Forwarded);
            }
            extensions.insert(UnregisteredClient::new(asked));
            return pending.forward(request);
        }
        match validator.validate(asked, client) {
            Ok(validated) => {
                log::accepted(&validated, *report_only);
                if *report_only {
                    extensions.insert(ReportedOutcome::Accepted);
                }
                extensions.insert(validated);
                pending.forward(request)
            }
            Err(rejection) => pending.refuse_or_report(rejection, request),
        }
    }
}

/// What a layer further out found is not what this one finds.
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
