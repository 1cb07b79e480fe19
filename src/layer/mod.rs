//! The layer at the authorization endpoint, with its service and future.

#[cfg(feature = "axum")]
mod axum;
mod decision;
mod future;
mod hook;
mod log;
mod metrics;
mod outcome;
mod reason;
mod service;
mod tenant;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::axum::NotValidated;
pub use self::future::ResponseFuture;
pub use self::hook::{AnswerHook, AsyncCheck};
use self::hook::{DynAnswerHook, NamedCheck};
pub use self::outcome::{ReportedOutcome, UnregisteredClient, Verdict};
pub use self::service::ClientValidation;
pub use self::tenant::{ForEachTenant, Tenancy, Tenant};
use crate::authorization::response::{ALLOW, AnswerTo};
use crate::authorization::{Policy, Validator};
use crate::http::body::{KeepBodies, WrapBodies};
use crate::registry::RegistrySource;
#[cfg(feature = "pushed-requests")]
use crate::request_object::PushedRequests;
use crate::request_object::RequestSources;
#[cfg(feature = "request-object")]
use crate::request_object::SignedRequests;

/// The default of [`ClientValidationLayer::max_body_bytes`]: 64 KiB.
pub const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024;

/// Validates authorization requests before the inner service sees them.
///
/// # Which requests
///
/// The layer judges every request that reaches it, so put it on the authorization endpoint and nowhere else: in axum
/// with `Router::route_layer` or `MethodRouter::layer`. (`MethodRouter::route_layer` does not run for methods without a
/// handler.)
///
/// | request | what happens |
/// |---|---|
/// | `GET`, `HEAD` | the query is validated |
/// | `POST` with `application/x-www-form-urlencoded` | the query or the body is validated, and the inner service gets the same body |
/// | `POST` with recognized parameters in the query and in the body | 400 `invalid_request`: an extractor that reads one of them would see another request |
/// | `POST` with another content type, none or two, or with a content coding | 400 `invalid_request` |
/// | `POST` over the [body limit](Self::max_body_bytes) | 413 `invalid_request` |
/// | `OPTIONS` | passed on untouched, or [refused](Self::refuse_options) with 405 |
/// | any other method | 405 `invalid_request` |
///
/// An authorization endpoint must not support CORS (RFC 9700 §2.6).
///
/// # What the inner service gets
///
/// It gets the request as it came, byte for byte, with a [`ValidatedRequest`](crate::ValidatedRequest) in its
/// extensions. A refused request never reaches it, and the answer has the [`Rejection`](crate::Rejection) in its
/// extensions. The error type stays that of the inner service.
///
/// # Order of layers
///
/// - Put decompression of request bodies outside of this layer: a body with a content coding is refused with 400.
/// - Put time limits for slow bodies outside too. Until the decision, a request holds the inner service that was polled
///   ready, and with it the permit of a concurrency limit inside. A refusal frees it at once.
///
/// # Bodies
///
/// By default the layer keeps the body types, which must implement `From<Bytes>`, as axum's body does. With
/// [`wrap_bodies`](Self::wrap_bodies) every body type works, such as hyper's `Incoming`.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, ValidatedRequest};
///
/// # futures::executor::block_on(async {
/// let registry = MemoryRegistry::from_clients([
///     Client::builder("app").confidential().redirect_uri("https://app.example/cb").scope("read").build()?,
/// ]);
/// let service = ServiceBuilder::new().layer(ClientValidationLayer::new(registry)).service_fn(
///     |request: Request<Full<Bytes>>| async move {
///         let validated = request.extensions().get::<ValidatedRequest>().expect("the layer put it there");
///         let body: Full<Bytes> = format!("hello {}", validated.client_id()).into();
///         Ok::<_, BoxError>(Response::new(body))
///     },
/// );
///
/// let request = Request::get("/authorize?client_id=app&response_type=code&scope=read").body(Full::default())?;
/// assert_eq!(service.clone().oneshot(request).await?.status(), 200);
///
/// let request = Request::get("/authorize?client_id=nobody&response_type=code").body(Full::default())?;
/// assert_eq!(service.oneshot(request).await?.status(), 400);
/// # Ok::<(), BoxError>(())
/// # }).unwrap();
/// ```
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct ClientValidationLayer<T, M = KeepBodies> {
    tenancy: Arc<T>,
    settings: Settings,
    bodies: PhantomData<fn() -> M>,
}

/// Says whether a request skips validation.
type Bypass = dyn Fn(&Parts) -> bool + Send + Sync;

/// What the clones of a service share. Behind one pointer, because a service is cloned for each request.
pub(super) struct Shared<T> {
    pub(super) tenancy: Arc<T>,
    pub(super) settings: Settings,
}

#[derive(Clone)]
pub(crate) struct Settings {
    validator: Validator,
    max_body_bytes: usize,
    report_only: bool,
    refuse_options: bool,
    bypass: Option<Arc<Bypass>>,
    checks: Arc<[NamedCheck]>,
    sources: RequestSources,
    answer_hook: Option<Arc<dyn DynAnswerHook>>,
}

impl Settings {
    /// The methods that a 405 names.
    fn allow(&self) -> &'static str {
        if self.refuse_options { "GET, HEAD, POST" } else { ALLOW }
    }

    fn answer_to<'a>(&self, request: &'a Parts) -> AnswerTo<'a> {
        AnswerTo { method: &request.method, headers: &request.headers, allow: self.allow() }
    }
}

impl<R: RegistrySource> ClientValidationLayer<R> {
    /// Validates requests of the clients in `registry` by [`Policy::default`].
    pub fn new(registry: R) -> Self {
        Self::with_tenancy(registry)
    }
}

impl<F, R> ClientValidationLayer<ForEachTenant<F>>
where
    F: Fn(&Parts) -> Option<Tenant<R>>,
    R: RegistrySource,
{
    /// Serves several authorization servers, each with its own registry, policy and issuer. `resolver` finds the one of a
    /// request, by its host, path or extensions; a request without one is answered with 404.
    ///
    /// Build the tenants once and hand out clones. A tenant that must be loaded first is loaded by an outer layer, which
    /// puts it into the extensions of the request. For tenants with different types of registries use
    /// [`BoxRegistry`](crate::BoxRegistry). Give each tenant its own cache: a
    /// [`CachedRegistry`](crate::CachedRegistry) knows clients by their id alone.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, Policy, Tenant};
    ///
    /// let client = |uri: &str| Client::builder("app").redirect_uri(uri).build();
    /// let tenants = HashMap::from([
    ///     ("a.example", Tenant::new(MemoryRegistry::from_clients([client("https://one.example/cb")?]))),
    ///     (
    ///         "b.example",
    ///         Tenant::new(MemoryRegistry::from_clients([client("https://two.example/cb")?]))
    ///             .policy(Policy::oauth21().issuer("https://b.example").build()?),
    ///     ),
    /// ]);
    /// let layer = ClientValidationLayer::for_each_tenant(move |request| {
    ///     let host = request.headers.get("host")?.to_str().ok()?;
    ///     tenants.get(host).cloned()
    /// });
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_each_tenant(resolver: F) -> Self {
        Self::with_tenancy(ForEachTenant::new(resolver))
    }
}

impl<T: Tenancy> ClientValidationLayer<T> {
    fn with_tenancy(tenancy: T) -> Self {
        Self {
            tenancy: Arc::new(tenancy),
            settings: Settings {
                validator: Validator::default(),
                max_body_bytes: DEFAULT_MAX_BODY_BYTES,
                report_only: false,
                refuse_options: false,
                bypass: None,
                checks: Arc::default(),
                sources: RequestSources::default(),
                answer_hook: None,
            },
            bodies: PhantomData,
        }
    }

    /// Wraps bodies in [`RequestBody`](crate::RequestBody) and [`ResponseBody`](crate::ResponseBody), so that every body
    /// type works. Also keeps the trailers of a request, which a body made of bytes loses.
    pub fn wrap_bodies(self) -> ClientValidationLayer<T, WrapBodies> {
        ClientValidationLayer { tenancy: self.tenancy, settings: self.settings, bodies: PhantomData }
    }
}

#[cfg(feature = "pushed-requests")]
impl<R: RegistrySource, M> ClientValidationLayer<R, M> {
    /// Accepts the requests that clients pushed (RFC 9126): a request with the `request_uri` of one is judged by its
    /// parameters, and everything beside `client_id` and `request_uri` is ignored. A layer for several tenants takes them
    /// from each [`Tenant`](Tenant::pushed_requests).
    ///
    /// The handler must call [`ValidatedRequest::use_up`](crate::ValidatedRequest::use_up) before it issues a code.
    ///
    /// ```
    /// use tower_oauth_client_validation::{
    ///     ClientValidationLayer, MemoryRegistry, MemoryStateStore, Policy, PushedRequestService, PushedRequests,
    /// };
    ///
    /// let policy = Policy::default();
    /// let pushed = PushedRequests::new(MemoryStateStore::new());
    /// let layer = ClientValidationLayer::new(MemoryRegistry::new()).policy(policy.clone()).pushed_requests(pushed.clone());
    /// // To be mounted behind client authentication.
    /// let service = PushedRequestService::new(pushed, policy);
    /// # let _ = (layer, service);
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "pushed-requests")))]
    pub fn pushed_requests(self, pushed: PushedRequests) -> Self {
        self.set(|settings| settings.sources.pushed = Some(pushed))
    }
}

#[cfg(feature = "request-object")]
impl<R: RegistrySource, M> ClientValidationLayer<R, M> {
    /// Accepts the requests that clients sign (RFC 9101): a request with a `request` is judged by the parameters in it,
    /// and everything beside `client_id` and `request` is ignored. A layer for several tenants takes them from each
    /// [`Tenant`](Tenant::signed_requests).
    ///
    /// ```
    /// use tower_oauth_client_validation::{ClientValidationLayer, MemoryRegistry, SignedRequests};
    ///
    /// let signed = SignedRequests::builder("https://login.example").build()?;
    /// let layer = ClientValidationLayer::new(MemoryRegistry::new()).signed_requests(signed);
    /// # let _ = layer;
    /// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "request-object")))]
    pub fn signed_requests(self, signed: SignedRequests) -> Self {
        self.set(|settings| settings.sources.signed = Some(signed))
    }
}

impl<T, M> ClientValidationLayer<T, M> {
    /// Sets the policy to validate by (default: [`Policy::rfc9700`]).
    pub fn policy(self, policy: Policy) -> Self {
        self.validator(Validator::new(policy))
    }

    /// Sets the validator, to share one with other endpoints.
    pub fn validator(self, validator: Validator) -> Self {
        self.set(|settings| settings.validator = validator)
    }

    /// Sets how many bytes of a body are read (default: [`DEFAULT_MAX_BODY_BYTES`]).
    ///
    /// ```
    /// assert_eq!(tower_oauth_client_validation::DEFAULT_MAX_BODY_BYTES, 65_536);
    /// ```
    pub fn max_body_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_body_bytes = bytes)
    }

    /// Lets every request through, and only logs and records what would have happened (default: off). Use it to roll the
    /// layer out in front of an existing server.
    ///
    /// The inner service finds a [`ReportedOutcome`] in the extensions, and a
    /// [`ValidatedRequest`](crate::ValidatedRequest) only where the request would have been accepted.
    ///
    /// With the default bodies, a `POST` body of unknown or too large size is passed on unread, and one that breaks off
    /// is answered with 400, because it cannot be put together again. With
    /// [`wrap_bodies`](ClientValidationLayer::wrap_bodies) they are read and passed on.
    pub fn report_only(self, report_only: bool) -> Self {
        self.set(|settings| settings.report_only = report_only)
    }

    /// Passes requests for which `predicate` returns true to the inner service without any validation (default: none).
    ///
    /// Use it only where the layer must wrap a whole router. **It can fail open**: `Router::nest` strips the prefix from
    /// the path that a layer inside it sees, and one path has several spellings (`//authorize`, `/%61uthorize`, a
    /// trailing slash). A bypassed request has no [`ValidatedRequest`](crate::ValidatedRequest), so let the handler
    /// insist on one.
    ///
    /// ```
    /// use tower_oauth_client_validation::{ClientValidationLayer, MemoryRegistry};
    ///
    /// let layer = ClientValidationLayer::new(MemoryRegistry::new())
    ///     .insecure_bypass(|request| request.uri.path() != "/authorize");
    /// ```
    pub fn insecure_bypass(self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.bypass = Some(Arc::new(predicate)))
    }

    /// Answers `OPTIONS` with 405 instead of passing it on (default: off). An authorization endpoint needs no `OPTIONS`,
    /// because it must not support CORS (RFC 9700 §2.6).
    pub fn refuse_options(self, refuse_options: bool) -> Self {
        self.set(|settings| settings.refuse_options = refuse_options)
    }

    /// Adds a check that may wait and that sees the whole request: its headers, and what outer layers put into its
    /// extensions. Checks run in the order in which they were added, on requests that passed every rule of the policy.
    ///
    /// A refusal goes where the errors of the policy go, and is logged and counted with `name` as its reason. Checks that
    /// need neither are better placed in the policy, see [`PolicyBuilder::check`](crate::PolicyBuilder::check).
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_oauth_client_validation::{
    ///     AuthorizationError, ClientValidationLayer, ErrorCode, MemoryRegistry, ValidatedRequest,
    /// };
    ///
    /// # async fn is_paid(_client_id: &str) -> bool { true }
    /// let layer = ClientValidationLayer::new(MemoryRegistry::new()).check(
    ///     "free_tier",
    ///     |_request: &Parts, validated: &ValidatedRequest| {
    ///         let client_id = validated.client_id().to_owned();
    ///         async move {
    ///             if is_paid(&client_id).await {
    ///                 return Ok(());
    ///             }
    ///             Err(AuthorizationError::new(ErrorCode::AccessDenied, "the free tier has no access"))
    ///         }
    ///     },
    /// );
    /// ```
    pub fn check(self, name: &'static str, check: impl AsyncCheck) -> Self {
        self.set(|settings| {
            let added = NamedCheck { name, check: Arc::new(check) };
            settings.checks = settings.checks.iter().cloned().chain([added]).collect();
        })
    }

    /// Changes the answers to refused requests before they are sent: the body, in the user's language or from the
    /// server's templates, the headers, the status. It is not called for errors that go to a redirect URI at once.
    ///
    /// The security headers are set afterwards, and a content security policy where an answer that is not JSON has none.
    /// The prepared one allows no scripts and no images: set your own to use them.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http::request::Parts;
    /// use tower_oauth_client_validation::{ClientValidationLayer, MemoryRegistry, Rejection};
    ///
    /// let layer = ClientValidationLayer::new(MemoryRegistry::new()).answer_hook(
    ///     |request: &Parts, rejection: &Rejection, mut answer: Response<Bytes>| {
    ///         *answer.body_mut() = format!("{}: {}", request.uri.path(), rejection.error()).into();
    ///         async { answer }
    ///     },
    /// );
    /// ```
    pub fn answer_hook(self, hook: impl AnswerHook) -> Self {
        self.set(|settings| settings.answer_hook = Some(Arc::new(hook)))
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }
}

impl<S, T, M> Layer<S> for ClientValidationLayer<T, M> {
    type Service = ClientValidation<S, T, M>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientValidation::new(inner, Arc::clone(&self.tenancy), self.settings.clone())
    }
}

impl<T, M> Clone for ClientValidationLayer<T, M> {
    fn clone(&self) -> Self {
        Self { tenancy: Arc::clone(&self.tenancy), settings: self.settings.clone(), bodies: PhantomData }
    }
}

impl<T, M> fmt::Debug for ClientValidationLayer<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientValidationLayer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("policy", &self.validator.policy())
            .field("max_body_bytes", &self.max_body_bytes)
            .field("report_only", &self.report_only)
            .field("refuse_options", &self.refuse_options)
            .field("checks", &self.checks)
            .field("sources", &self.sources)
            .field("bypass", &self.bypass.is_some())
            .finish_non_exhaustive()
    }
}
