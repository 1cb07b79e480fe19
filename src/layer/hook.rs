//! What applications add to the layer: asynchronous checks and custom answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Response;
use http::request::Parts;

use crate::authorization::response::{AnswerTo, complete, prepare};
use crate::authorization::{AuthorizationError, Reason, Rejection, ValidatedRequest};

/// Changes the answers to refused requests, for pages in the user's language or in the design of the server. See
/// [`ClientValidationLayer::answer_hook`](super::ClientValidationLayer::answer_hook).
///
/// Closures implement it; their future must not borrow from the arguments. An implementation by hand may:
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use http::request::Parts;
/// use tower_oauth_client_validation::{AnswerHook, Rejection};
///
/// struct Pages;
///
/// impl AnswerHook for Pages {
///     async fn answer(&self, request: &Parts, rejection: &Rejection, mut answer: Response<Bytes>) -> Response<Bytes> {
///         if request.headers.get("accept-language").is_some_and(|languages| languages.as_bytes().starts_with(b"de")) {
///             *answer.body_mut() = format!("Anmeldung nicht möglich: {}", rejection.error()).into();
///         }
///         answer
///     }
/// }
/// ```
pub trait AnswerHook: Send + Sync + 'static {
    /// Returns the answer to send. `answer` is the one that the layer prepared.
    fn answer(
        &self,
        request: &Parts,
        rejection: &Rejection,
        answer: Response<Bytes>,
    ) -> impl Future<Output = Response<Bytes>> + Send;
}

impl<F, Fut> AnswerHook for F
where
    F: Fn(&Parts, &Rejection, Response<Bytes>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Bytes>> + Send,
{
    fn answer(
        &self,
        request: &Parts,
        rejection: &Rejection,
        answer: Response<Bytes>,
    ) -> impl Future<Output = Response<Bytes>> + Send {
        self(request, rejection, answer)
    }
}

/// A check that may wait, with the parts of the request. See
/// [`ClientValidationLayer::check`](super::ClientValidationLayer::check).
///
/// Closures implement it; their future must not borrow from the arguments. An implementation by hand may, and can be an
/// `async fn`.
pub trait AsyncCheck: Send + Sync + 'static {
    /// Judges a request that passed every rule of the policy.
    ///
    /// # Errors
    ///
    /// The error that the client gets.
    fn check(
        &self,
        request: &Parts,
        validated: &ValidatedRequest,
    ) -> impl Future<Output = Result<(), AuthorizationError>> + Send;
}

impl<F, Fut> AsyncCheck for F
where
    F: Fn(&Parts, &ValidatedRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), AuthorizationError>> + Send,
{
    fn check(
        &self,
        request: &Parts,
        validated: &ValidatedRequest,
    ) -> impl Future<Output = Result<(), AuthorizationError>> + Send {
        self(request, validated)
    }
}

/// [`AnswerHook`] of any type.
pub(super) trait DynAnswerHook: Send + Sync {
    fn answer<'a>(
        &'a self,
        request: &'a Parts,
        rejection: &'a Rejection,
        answer: Response<Bytes>,
    ) -> BoxFuture<'a, Response<Bytes>>;
}

impl<H: AnswerHook> DynAnswerHook for H {
    fn answer<'a>(
        &'a self,
        request: &'a Parts,
        rejection: &'a Rejection,
        answer: Response<Bytes>,
    ) -> BoxFuture<'a, Response<Bytes>> {
        AnswerHook::answer(self, request, rejection, answer).boxed()
    }
}

/// [`AsyncCheck`] of any type.
pub(super) trait DynCheck: Send + Sync {
    fn check<'a>(
        &'a self,
        request: &'a Parts,
        validated: &'a ValidatedRequest,
    ) -> BoxFuture<'a, Result<(), AuthorizationError>>;
}

impl<C: AsyncCheck> DynCheck for C {
    fn check<'a>(
        &'a self,
        request: &'a Parts,
        validated: &'a ValidatedRequest,
    ) -> BoxFuture<'a, Result<(), AuthorizationError>> {
        AsyncCheck::check(self, request, validated).boxed()
    }
}

/// A check with the name under which its refusals are logged and counted.
#[derive(Clone)]
pub(super) struct NamedCheck {
    pub(super) name: &'static str,
    pub(super) check: Arc<dyn DynCheck>,
}

impl fmt::Debug for NamedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Runs the checks in order; the first refusal decides.
pub(super) async fn run_checks(
    checks: &[NamedCheck],
    request: &Parts,
    validated: ValidatedRequest,
) -> Result<ValidatedRequest, Rejection> {
    for NamedCheck { name, check } in checks {
        if let Err(error) = check.check(request, &validated).await {
            return Err(validated.refuse(Reason::named(name), error));
        }
    }
    Ok(validated)
}

/// Prepares an answer, lets the hook change it, and adds what every answer has.
pub(super) async fn answer_with(
    hook: &dyn DynAnswerHook,
    request: &Parts,
    allow: &'static str,
    rejection: Rejection,
) -> Response<Bytes> {
    let to = AnswerTo { method: &request.method, headers: &request.headers, allow };
    let answer = hook.answer(request, &rejection, prepare(&rejection, to)).await;
    complete(rejection, answer, &request.method)
}
