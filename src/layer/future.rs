//! The future: reads the body, looks up the client, decides, and calls the inner service or answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Extensions, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

use super::decision::{Decision, decide, resolve};
use super::hook::{answer_with, run_checks};
use super::metrics::Lookup;
use super::tenant::Tenancy;
use super::{ReportedOutcome, Settings, Shared, UnregisteredClient, log, metrics};
use crate::authorization::response::reject;
use crate::authorization::{AuthorizationRequest, Delivery, Reason, Rejection, ValidatedRequest, Validator};
use crate::client::Client;
use crate::http::body::{BodyError, ReadBody, Reading, RequestBodies, ResponseBodies};
use crate::registry::{RegistryError, RegistrySource};
use crate::request_object::RequestSources;

pin_project! {
    /// The response future of [`ClientValidation`](super::ClientValidation).
    pub struct ResponseFuture<S, T, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        T: Tenancy,
        M: RequestBodies<ReqBody>,
    {
        // Not in the stages, so that it is not moved when they change.
        waiting: Option<Waiting<S, T, M::Inner>>,
        #[pin]
        stage: Stage<S::Future, Lookup<<T::Registry as RegistrySource>::Future>, ReqBody>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<F, L, ReqBody> {
        Reading { reading: Reading<ReqBody> },
        LookingUp { #[pin] lookup: L },
        Resolving { judged: BoxFuture<'static, Result<ValidatedRequest, Rejection>> },
        Checking { checks: BoxFuture<'static, (Parts, Result<ValidatedRequest, Rejection>)> },
        Inner { #[pin] future: F },
        Answering { answer: BoxFuture<'static, Response<Bytes>> },
        Answer { response: Option<Response<Bytes>> },
    }
}

type LookupOf<T> = Lookup<<<T as Tenancy>::Registry as RegistrySource>::Future>;

/// A request that waits for the decision, and the inner service that was polled ready, with its permits.
pub(super) struct Waiting<S, T: Tenancy, B> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared<T>>,
    /// `None` where the request is not judged, or its tenant is unknown.
    pub(super) tenant: Option<T::Tenant>,
    pub(super) parts: Parts,
    /// `None` while it is read, and where it cannot be passed on.
    pub(super) body: Option<B>,
    /// `None` until the body was read.
    pub(super) asked: Option<AuthorizationRequest>,
}

impl<S, T, M, ReqBody> ResponseFuture<S, T, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    T: Tenancy,
    M: RequestBodies<ReqBody>,
{
    /// Judges the query.
    pub(super) fn judge(mut waiting: Waiting<S, T, M::Inner>) -> Self {
        match waiting.lookup(b"") {
            Ok(lookup) => Self { waiting: Some(waiting), stage: Stage::LookingUp { lookup } },
            Err(rejection) => Self { stage: waiting.refuse(rejection), waiting: None },
        }
    }

    /// Reads the body, and judges query and body.
    pub(super) fn read(waiting: Waiting<S, T, M::Inner>, reading: Reading<ReqBody>) -> Self {
        Self { waiting: Some(waiting), stage: Stage::Reading { reading } }
    }

    /// Passes the request on.
    pub(super) fn forward(waiting: Waiting<S, T, M::Inner>) -> Self {
        Self { stage: waiting.forward(), waiting: None }
    }

    /// Answers the request, or passes it on where refusals are only reported.
    pub(super) fn refuse(waiting: Waiting<S, T, M::Inner>, reason: Reason) -> Self {
        let rejection = waiting.validator().direct(reason, None);
        Self { stage: waiting.refuse(rejection), waiting: None }
    }
}

impl<S, T, B> Waiting<S, T, B>
where
    S: Service<Request<B>>,
    T: Tenancy,
{
    fn validator(&self) -> &Validator {
        let default = &self.shared.settings.validator;
        self.tenant.as_ref().map_or(default, |tenant| T::validator(tenant, default))
    }

    fn sources(&self) -> &RequestSources {
        let default = &self.shared.settings.sources;
        self.tenant.as_ref().map_or(default, |tenant| T::sources(tenant, default))
    }

    fn forward<ReqBody>(mut self) -> Stage<S::Future, LookupOf<T>, ReqBody> {
        let body = self.body.expect("only a request whose body can be passed on is forwarded");
        Stage::Inner { future: self.inner.call(Request::from_parts(self.parts, body)) }
    }

    /// Unless it forwards, this drops the inner service, and frees its permits.
    fn refuse<ReqBody>(mut self, rejection: Rejection) -> Stage<S::Future, LookupOf<T>, ReqBody> {
        let settings = &self.shared.settings;
        log::rejected(&rejection, settings.report_only);
        metrics::rejected(&rejection, settings.report_only);
        if settings.report_only && self.body.is_some() {
            clear(&mut self.parts.extensions).insert(ReportedOutcome::Rejected(rejection));
            return self.forward();
        }
        match &settings.answer_hook {
            Some(hook) if rejection.delivery() != Delivery::Redirect => {
                let (hook, allow, parts) = (Arc::clone(hook), settings.allow(), self.parts);
                Stage::Answering { answer: async move { answer_with(&*hook, &parts, allow, rejection).await }.boxed() }
            }
            Some(_) | None => Stage::Answer { response: Some(reject(rejection, settings.answer_to(&self.parts))) },
        }
    }

    fn after_reading<M, ReqBody>(
        &mut self,
        read: Result<ReadBody<ReqBody>, (ReadBody<ReqBody>, BodyError)>,
    ) -> Result<LookupOf<T>, Rejection>
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
            Some(reason) => Err(self.validator().direct(reason, None)),
        }
    }

    /// Starts the lookup, where the request names a client.
    fn lookup(&mut self, body: &[u8]) -> Result<LookupOf<T>, Rejection> {
        let query = self.parts.uri.query().unwrap_or_default();
        let tenant = self.tenant.as_ref().expect("a request is judged only for a known tenant");
        let validator = T::validator(tenant, &self.shared.settings.validator);
        let asked = self.asked.insert(validator.parse(query.as_bytes(), body));
        let client_id = validator.client_id(asked)?;
        Ok(metrics::time(self.shared.tenancy.registry(tenant).find_client(client_id)))
    }

    /// Whether the parameters must be read from elsewhere.
    fn is_unresolved(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| self.sources().concern(asked))
    }

    fn resolve<ReqBody>(&mut self, client: Arc<Client>) -> Stage<S::Future, LookupOf<T>, ReqBody> {
        let (sources, validator) = (self.sources().clone(), self.validator().clone());
        let judged = resolve(sources, validator, self.shared.settings.report_only, self.take_asked(), client);
        Stage::Resolving { judged: judged.boxed() }
    }

    fn decide(&mut self, found: Result<Option<Arc<Client>>, RegistryError>) -> Decision {
        let asked = self.take_asked();
        decide(self.validator(), self.shared.settings.report_only, asked, found)
    }

    fn take_asked(&mut self) -> AuthorizationRequest {
        self.asked.take().expect("the registry was asked for the client of a request that was read")
    }

    /// Runs the checks where there are any, or concludes.
    fn finish<ReqBody>(waiting: &mut Option<Self>, decision: Decision) -> Stage<S::Future, LookupOf<T>, ReqBody> {
        match decision {
            Decision::Accepted(validated) => match waiting {
                Some(current) if !current.shared.settings.checks.is_empty() => current.check(validated),
                _ => waiting.take().expect(POLLED_AGAIN).conclude(Decision::Accepted(validated)),
            },
            decision => waiting.take().expect(POLLED_AGAIN).conclude(decision),
        }
    }

    fn check<ReqBody>(&mut self, validated: ValidatedRequest) -> Stage<S::Future, LookupOf<T>, ReqBody> {
        let checks = Arc::clone(&self.shared.settings.checks);
        let parts = std::mem::replace(&mut self.parts, Request::new(()).into_parts().0);
        let checks = async move {
            let checked = run_checks(&checks, &parts, validated).await;
            (parts, checked)
        };
        Stage::Checking { checks: checks.boxed() }
    }

    fn conclude<ReqBody>(mut self, decision: Decision) -> Stage<S::Future, LookupOf<T>, ReqBody> {
        let Settings { report_only, .. } = self.shared.settings;
        match decision {
            Decision::Accepted(validated) => {
                log::accepted(&validated, report_only);
                metrics::accepted(report_only);
                let extensions = clear(&mut self.parts.extensions);
                if report_only {
                    extensions.insert(ReportedOutcome::Accepted);
                }
                extensions.insert(validated);
                self.forward()
            }
            Decision::Forwarded(client) => {
                let extensions = clear(&mut self.parts.extensions);
                if report_only {
                    extensions.insert(ReportedOutcome::Forwarded);
                }
                extensions.insert(client);
                self.forward()
            }
            Decision::Refused(rejection) => self.refuse(rejection),
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

impl<S, T, M, ReqBody, ResBody> Future for ResponseFuture<S, T, M, ReqBody>
where
    S: Service<Request<<M as RequestBodies<ReqBody>>::Inner>, Response = Response<ResBody>>,
    T: Tenancy,
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
                    let current = waiting.as_mut().expect(POLLED_AGAIN);
                    match found {
                        Ok(Some(client)) if current.is_unresolved() => current.resolve(client),
                        found => {
                            let decision = current.decide(found);
                            Waiting::finish(waiting, decision)
                        }
                    }
                }
                StageProjection::Resolving { judged } => {
                    let judged = ready!(judged.as_mut().poll(cx));
                    Waiting::finish(waiting, judged.into())
                }
                StageProjection::Checking { checks } => {
                    let (parts, checked) = ready!(checks.as_mut().poll(cx));
                    let mut current = waiting.take().expect(POLLED_AGAIN);
                    current.parts = parts;
                    current.conclude(checked.into())
                }
                StageProjection::Inner { future } => {
                    return Poll::Ready(ready!(future.poll(cx)).map(|response| response.map(M::inner)));
                }
                StageProjection::Answering { answer } => {
                    return Poll::Ready(Ok(ready!(answer.as_mut().poll(cx)).map(M::answer)));
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

impl<S, T, M, ReqBody> fmt::Debug for ResponseFuture<S, T, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    T: Tenancy,
    M: RequestBodies<ReqBody>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
