//! The future: the body, the decision, and then the inner service or a refusal.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

use super::authenticator::{AuthenticatedClient, ClientAuthenticator, Seen, refuse};
use super::failure::{AuthenticationError, AuthenticationFailure};
use crate::http::body::{BodyError, ReadBody, Reading, RequestBodies, ResponseBodies};
use crate::registry::RegistrySource;

pin_project! {
    /// The response future of [`ClientAuthentication`](crate::ClientAuthentication).
    pub struct AuthenticationFuture<S, R, M, ReqBody>
    where
        S: Service<Request<M::Inner>>,
        M: RequestBodies<ReqBody>,
    {
        waiting: Option<Waiting<S, R>>,
        #[pin]
        stage: Stage<S::Future, M::Inner, ReqBody>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<F, B, ReqBody> {
        Reading { parts: Option<Parts>, reading: Reading<ReqBody> },
        Authenticating { decision: BoxFuture<'static, (Parts, Decision)>, body: Option<B> },
        Inner { #[pin] future: F },
        Refused { response: Option<Response<Bytes>> },
    }
}

type Decision = Result<AuthenticatedClient, AuthenticationError>;

/// The inner service that was polled ready, with its permits, until the decision.
pub(super) struct Waiting<S, R> {
    pub(super) inner: S,
    pub(super) authenticator: ClientAuthenticator<R>,
}

impl<S, R, M, ReqBody> AuthenticationFuture<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    R: RegistrySource,
    M: RequestBodies<ReqBody>,
{
    pub(super) fn reading(waiting: Waiting<S, R>, parts: Parts, reading: Reading<ReqBody>) -> Self {
        Self { waiting: Some(waiting), stage: Stage::Reading { parts: Some(parts), reading } }
    }

    pub(super) fn refused(parts: &Parts, failure: AuthenticationFailure) -> Self {
        Self { stage: refused(parts, failure), waiting: None }
    }
}

/// A request that is refused before its body is read, or because it could not be.
fn refused<F, B, ReqBody>(parts: &Parts, failure: AuthenticationFailure) -> Stage<F, B, ReqBody> {
    let error = refuse(AuthenticationError::new(failure), &parts.headers, &Seen::default());
    Stage::Refused { response: Some(error.into_response()) }
}

impl<S, R> Waiting<S, R>
where
    R: RegistrySource<Future: Send> + Send + Sync + 'static,
{
    /// Decides about a request whose body was read.
    fn authenticate<F, M, ReqBody>(&self, parts: Parts, read: ReadBody<ReqBody>) -> Stage<F, M::Inner, ReqBody>
    where
        M: RequestBodies<ReqBody>,
    {
        let (authenticator, form) = (self.authenticator.clone(), read.data());
        let decide = async move {
            let decision = authenticator.authenticate(&parts, &form).await;
            (parts, decision)
        };
        Stage::Authenticating { decision: decide.boxed(), body: M::replayed(read) }
    }
}

impl<S, R, M, ReqBody, ResBody> Future for AuthenticationFuture<S, R, M, ReqBody>
where
    S: Service<Request<<M as RequestBodies<ReqBody>>::Inner>, Response = Response<ResBody>>,
    R: RegistrySource<Future: Send> + Send + Sync + 'static,
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
                StageProjection::Reading { parts, reading } => {
                    let read = ready!(reading.poll(cx));
                    let parts = parts.take().expect(POLLED_AGAIN);
                    let waiting_ref = waiting.as_ref().expect(POLLED_AGAIN);
                    match read {
                        Ok(read) => waiting_ref.authenticate::<_, M, _>(parts, read),
                        Err((_, error)) => {
                            let failure = match error {
                                BodyError::TooLarge => AuthenticationFailure::BodyTooLarge,
                                BodyError::Unreadable => AuthenticationFailure::BodyUnreadable,
                            };
                            // Drops the inner service, and its permits with it.
                            *waiting = None;
                            refused(&parts, failure)
                        }
                    }
                }
                StageProjection::Authenticating { decision, body } => {
                    let (mut parts, decision) = ready!(decision.poll_unpin(cx));
                    let mut inner = waiting.take().expect(POLLED_AGAIN).inner;
                    match (decision, body.take()) {
                        (Ok(client), Some(body)) => {
                            parts.extensions.insert(client);
                            Stage::Inner { future: inner.call(Request::from_parts(parts, body)) }
                        }
                        (Err(error), _) => {
                            // Frees the permits that the inner service holds before the answer is written.
                            drop(inner);
                            Stage::Refused { response: Some(error.into_response()) }
                        }
                        (Ok(_), None) => {
                            let error = AuthenticationError::new(AuthenticationFailure::BodyUnreadable);
                            Stage::Refused { response: Some(error.into_response()) }
                        }
                    }
                }
                StageProjection::Inner { future } => {
                    return Poll::Ready(ready!(future.poll(cx)).map(|response| response.map(M::inner)));
                }
                StageProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect(POLLED_AGAIN).map(M::answer)));
                }
            };
            stage.set(next);
        }
    }
}

const POLLED_AGAIN: &str = "a future is not polled again after it was ready";

impl<S, R, M, ReqBody> fmt::Debug for AuthenticationFuture<S, R, M, ReqBody>
where
    S: Service<Request<M::Inner>>,
    M: RequestBodies<ReqBody>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationFuture").finish_non_exhaustive()
    }
}
