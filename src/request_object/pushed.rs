//! The endpoint for pushed authorization requests (RFC 9126).

use std::future::ready;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tracing::field::display;

use super::sources::{RequestSources, Unresolved};
use super::store::{NotKept, PushedRequests};
use crate::authentication::AuthenticatedClient;
use crate::authorization::arrival::Arrival;
use crate::authorization::response::{AnswerTo, prepare};
use crate::authorization::{AuthorizationRequest, Parameter, Policy, Rejection, Validator};
use crate::client::{Causes, Client, Untrusted};
use crate::http::endpoint::{Answer, EndpointRequest, Handler, Refusal, endpoint_service, json_answer};
use crate::http::head::is_form;
use crate::registry::RegistryError;
use crate::state::StateErrorKind;

const FORM: &str = "application/x-www-form-urlencoded";
const INVALID_REQUEST: &str = "invalid_request";

/// The endpoint to which clients push their authorization requests (RFC 9126): a tower service, to be mounted at a path
/// such as `/par`.
///
/// Put [`ClientAuthenticationLayer`](crate::ClientAuthenticationLayer) in front of it, or other client authentication
/// together with [`client_from`](Self::client_from). A request is judged by all rules of the policy when it is pushed, and
/// again when the user agent comes with its `request_uri`.
///
/// | request | answer |
/// |---|---|
/// | a `POST` with a form that is a valid authorization request | 201 with `request_uri` and `expires_in` |
/// | any other method | 405 `invalid_request` |
/// | no form, recognized parameters in the query, another client's `client_id`, `request_uri` | 400 `invalid_request` |
/// | a request that breaks a rule | 400 with the error code of the rule; always JSON, never a redirect |
/// | a form over [`max_request_bytes`](crate::PushedRequestsBuilder::max_request_bytes) | 413 `invalid_request` |
/// | more requests than the [bounds](crate::PushedRequestsBuilder::max_per_client) allow | 429 `temporarily_unavailable` |
/// | the store fails | 503 `temporarily_unavailable` or 500 `server_error` |
///
/// The [checks](crate::PolicyBuilder::check) of the policy run here too, those of the layer do not.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::{BodyExt, Full};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// use tower_oauth_client_validation::{
///     AuthenticationPolicy, Client, ClientAuthenticationLayer, MemoryRegistry, MemoryStateStore, Policy,
///     PushedRequestService, PushedRequests,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let registry = MemoryRegistry::from_clients([Client::builder("app").redirect_uri("https://app.example/cb").build()?]);
/// let pushed = PushedRequests::new(MemoryStateStore::new());
/// let service = ServiceBuilder::new()
///     .layer(ClientAuthenticationLayer::new(registry, AuthenticationPolicy::builder().build()?))
///     .service(PushedRequestService::new(pushed, Policy::oauth2().build()?));
///
/// let request = Request::post("/par").header("content-type", "application/x-www-form-urlencoded");
/// let request = request.body(Full::<Bytes>::from("client_id=app&response_type=code&state=xyz"))?;
/// let response = service.oneshot(request).await?;
/// assert_eq!(response.status(), 201);
/// let answer: serde_json::Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
/// assert!(answer["request_uri"].as_str().unwrap().starts_with("urn:ietf:params:oauth:request_uri:"));
/// assert_eq!(answer["expires_in"], 60);
/// # Ok(())
/// # }
/// ```
pub struct PushedRequestService {
    handler: Arc<Endpoint>,
}

endpoint_service!(PushedRequestService);

impl PushedRequestService {
    /// Takes in requests that `policy` accepts: the one of the authorization endpoint.
    #[must_use]
    pub fn new(pushed: PushedRequests, policy: Policy) -> Self {
        let sources = RequestSources::default();
        let endpoint = Endpoint { pushed, validator: Validator::new(policy), sources, caller: Arc::new(authenticated) };
        Self { handler: Arc::new(endpoint) }
    }

    /// Sets how the service finds the client that authenticated (default: the
    /// [`AuthenticatedClient`] in the request's extensions), for client authentication that is not from this crate. The
    /// future of a registry is the one to return.
    ///
    /// **The client must have authenticated** before the request reaches this service. A request without a client is
    /// answered with 401.
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_oauth_client_validation::{
    ///     MemoryRegistry, MemoryStateStore, Policy, PushedRequestService, PushedRequests, RegistrySource,
    /// };
    ///
    /// /// What the other authentication leaves in the extensions.
    /// #[derive(Clone)]
    /// struct Caller(String);
    ///
    /// let registry = MemoryRegistry::new();
    /// let pushed = PushedRequests::new(MemoryStateStore::new());
    /// let service = PushedRequestService::new(pushed, Policy::default()).client_from(move |request: &Parts| {
    ///     let caller = request.extensions.get::<Caller>().cloned();
    ///     let registry = registry.clone();
    ///     async move {
    ///         match caller {
    ///             Some(Caller(id)) => registry.find_client(&id).await,
    ///             None => Ok(None),
    ///         }
    ///     }
    /// });
    /// # let _ = service;
    /// ```
    #[must_use]
    pub fn client_from<F, Fut>(self, find: F) -> Self
    where
        F: Fn(&Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Arc<Client>>, RegistryError>> + Send + 'static,
    {
        self.set(|endpoint| endpoint.caller = Arc::new(move |parts| find(parts).boxed()))
    }

    /// Accepts pushed requests that clients sign (RFC 9126 §3). Pass the same ones as to the authorization endpoint.
    ///
    /// ```
    /// use tower_oauth_client_validation::{
    ///     MemoryStateStore, Policy, PushedRequestService, PushedRequests, SignedRequests,
    /// };
    ///
    /// let pushed = PushedRequests::new(MemoryStateStore::new());
    /// let signed = SignedRequests::builder("https://login.example").build()?;
    /// let service = PushedRequestService::new(pushed, Policy::default()).signed_requests(signed);
    /// # let _ = service;
    /// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
    /// ```
    #[cfg(feature = "request-object")]
    #[cfg_attr(docsrs, doc(cfg(feature = "request-object")))]
    #[must_use]
    pub fn signed_requests(self, signed: super::SignedRequests) -> Self {
        self.set(|endpoint| endpoint.sources.signed = Some(signed))
    }

    fn set(self, change: impl FnOnce(&mut Endpoint)) -> Self {
        let mut endpoint = Endpoint::clone(&self.handler);
        change(&mut endpoint);
        Self { handler: Arc::new(endpoint) }
    }
}

type Caller = dyn Fn(&Parts) -> BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>> + Send + Sync;

#[derive(Clone)]
struct Endpoint {
    pushed: PushedRequests,
    validator: Validator,
    /// Signed requests, if they are read.
    sources: RequestSources,
    caller: Arc<Caller>,
}

/// What [`ClientAuthenticationLayer`](crate::ClientAuthenticationLayer) found.
fn authenticated(parts: &Parts) -> BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>> {
    let client = parts.extensions.get::<AuthenticatedClient>().map(|client| Arc::clone(client.client()));
    if client.is_none() {
        tracing::error!("no authenticated client: is `ClientAuthenticationLayer` in front of `PushedRequestService`?");
    }
    ready(Ok(client)).boxed()
}

impl Handler for Endpoint {
    const NAME: &'static str = "pushed authorization request";

    async fn handle(self: Arc<Self>, request: EndpointRequest) -> Result<Answer, Refusal> {
        let parts = &request.parts;
        if parts.method != Method::POST {
            return Err(Refusal::method("POST"));
        }
        if !is_form(&parts.headers) {
            return Err(invalid_request("the body must be application/x-www-form-urlencoded"));
        }
        // Another reader might take them from there.
        if parts.uri.query().is_some_and(|query| self.validator.names_parameter(query.as_bytes())) {
            return Err(invalid_request("parameters must be in the body"));
        }
        let client = self.caller(parts).await?;
        let form = request.read(FORM, self.pushed.max_request_bytes(), INVALID_REQUEST).await?;
        let asked = self.validator.parse_arrived(&form, Arrival { is_pushed: true, ..Arrival::default() });
        check_parameters(&asked, &client)?;
        let asked = match self.sources.concern(&asked) {
            false => asked,
            true => match self.sources.resolve(&asked, &client, &self.validator).await {
                Ok(signed) => signed,
                Err(Unresolved { reason, cause }) => {
                    // Strangers can make the hosts of their keys fail, which must not raise an alarm.
                    if let Some(cause) = cause {
                        tracing::info!(
                            reason = reason.as_str(),
                            client_id = display(Untrusted(client.id())),
                            cause = display(Causes(&*cause)),
                            "a request object could not be read"
                        );
                    }
                    return Ok(refuse(self.validator.direct(reason, Some(asked)), &client));
                }
            },
        };
        match self.validator.validate(asked, Some(Arc::clone(&client))) {
            Ok(validated) => self.keep(validated.request(), &client).await,
            Err(rejection) => Ok(refuse(rejection, &client)),
        }
    }
}

impl Endpoint {
    async fn caller(&self, parts: &Parts) -> Result<Arc<Client>, Refusal> {
        match (self.caller)(parts).await {
            Ok(Some(client)) => Ok(client),
            Ok(None) => {
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", "the client was not authenticated"))
            }
            Err(error) => {
                tracing::error!(cause = display(Causes(&error)), "the client that pushes a request was not found");
                Err(if error.is_transient() {
                    Refusal::unavailable("clients cannot be looked up at the moment, please try again")
                } else {
                    Refusal::fault()
                })
            }
        }
    }

    async fn keep(&self, request: &AuthorizationRequest, client: &Client) -> Result<Answer, Refusal> {
        let client_id = display(Untrusted(client.id()));
        let seconds = self.pushed.lifetime().as_secs();
        match self.pushed.keep(request).await {
            Ok(request_uri) => {
                tracing::debug!(endpoint = Self::NAME, outcome = "accepted", client_id);
                let body = json!({ "request_uri": request_uri, "expires_in": seconds });
                Ok(json_answer(StatusCode::CREATED, &body))
            }
            #[cfg(feature = "sealed-requests")]
            Err(NotKept::TooLarge) => Err(too_large()),
            Err(NotKept::Random(error)) => {
                tracing::error!(%error, "the operating system gave no random numbers");
                Err(Refusal::fault())
            }
            #[cfg(feature = "sealed-requests")]
            Err(NotKept::Seal(error)) => {
                tracing::error!(%error, "a pushed request was not sealed");
                Err(Refusal::fault())
            }
            Err(NotKept::Store(error)) => Err(match error.kind() {
                StateErrorKind::TooLarge => too_large(),
                StateErrorKind::Full => {
                    let description = "too many pushed requests are waiting, please try again";
                    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", description)
                        // By then, those that are waiting now have expired.
                        .header(RETRY_AFTER, HeaderValue::from(seconds))
                }
                kind => {
                    tracing::error!(client_id, cause = display(Causes(&error)), "a pushed request was not kept");
                    match kind {
                        StateErrorKind::Unavailable => {
                            Refusal::unavailable("requests cannot be taken at the moment, please try again")
                        }
                        _ => Refusal::fault(),
                    }
                }
            }),
        }
    }
}

/// RFC 9126 §2.1. That `client_id` is there is row 1 of the validator, or part of what the client signed.
fn check_parameters(asked: &AuthorizationRequest, client: &Client) -> Result<(), Refusal> {
    if asked.has(Parameter::RequestUri) {
        return Err(invalid_request("request_uri must not be pushed"));
    }
    if asked.get(Parameter::ClientId).is_some_and(|id| id != client.id()) {
        return Err(invalid_request("client_id must be that of the authenticated client"));
    }
    Ok(())
}

/// The error of a row as JSON, whatever the policy says about redirects (RFC 9126 §2.3).
fn refuse(rejection: Rejection, client: &Client) -> Answer {
    let reason = rejection.reason();
    tracing::info!(
        endpoint = Endpoint::NAME,
        outcome = "rejected",
        error = rejection.error().as_str(),
        "error.type" = reason.as_str(),
        reason = reason.as_str(),
        client_id = display(Untrusted(client.id())),
        detail = rejection.detail(),
    );
    let mut answer = prepare(&rejection, AnswerTo { method: &Method::POST, headers: &HeaderMap::new(), allow: "POST" });
    answer.extensions_mut().insert(rejection);
    answer
}

fn invalid_request(description: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, description)
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, "the request is too large")
}
