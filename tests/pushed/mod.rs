//! Pushed authorization requests: each case of `tests/vectors/pushed.json`, and what a vector cannot say.

mod vectors;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::middleware::map_response;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthenticationPolicy, AuthorizationRequest, Client, ClientAuthenticationLayer, ClientValidationLayer,
    MemoryRegistry, MemoryStateStore, Parameter, Policy, PushedRequestService, PushedRequests, RegistryError,
    Rejection, StateBounds, StateError, StateStore, Tenant, UnknownClients, UseUpErrorKind, ValidatedRequest,
    Validator, Verdict,
};

use crate::fixture::{FORM, text};
use crate::wait::{eventually, in_time};

/// SHA-256 of `secret`.
const SECRET_SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const PUSH: &str = "client_id=app&response_type=code&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&state=xyz&scope=read";

fn clients() -> MemoryRegistry {
    let public = |id: &str, more: Value| {
        let mut client = json!({
            "client_id": id,
            "token_endpoint_auth_method": "none",
            "redirect_uris": [format!("https://{id}.example/cb")],
            "scope": "read write",
        });
        client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client
    };
    let clients = [
        public("app", json!({})),
        public("other", json!({})),
        public(
            "web",
            json!({ "token_endpoint_auth_method": "client_secret_basic", "client_secret_sha256": SECRET_SHA256 }),
        ),
        public("pushing", json!({ "require_pushed_authorization_requests": true })),
        public("signing", json!({ "require_signed_request_object": true })),
        public("stranger", json!({ "dynamic": true })),
    ];
    MemoryRegistry::from_clients(clients.map(|client| Client::from_metadata(client).unwrap()))
}

/// A store whose entries a test can let expire, and that a test can break.
#[derive(Clone)]
struct Store(Arc<Mutex<Inside>>);

struct Inside {
    store: MemoryStateStore,
    failure: Option<fn() -> StateError>,
}

impl Store {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Inside { store: MemoryStateStore::new(), failure: None })))
    }

    fn expire(&self) {
        self.0.lock().unwrap().store = MemoryStateStore::new();
    }

    fn fail(&self, failure: Option<fn() -> StateError>) {
        self.0.lock().unwrap().failure = failure;
    }

    fn store(&self) -> Result<MemoryStateStore, StateError> {
        let inside = self.0.lock().unwrap();
        inside.failure.map_or_else(|| Ok(inside.store.clone()), |failure| Err(failure()))
    }
}

impl StateStore for Store {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        let put = self.store().map(|store| store.put_new_bounded(key, value, lifetime, bounds).now_or_never().unwrap());
        std::future::ready(put.and_then(|put| put)).boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        let got = self.store().map(|store| store.get(key).now_or_never().unwrap());
        std::future::ready(got.and_then(|got| got)).boxed()
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        let taken = self.store().map(|store| store.take(key).now_or_never().unwrap());
        std::future::ready(taken.and_then(|taken| taken)).boxed()
    }
}

/// A server that issues the code `CODE` at once at `/authorize`, shows a page at `/login`, and forgets to use up at
/// `/forgetful`.
struct Server {
    registry: MemoryRegistry,
    router: Router,
}

impl Server {
    fn new(pushed: PushedRequests) -> Self {
        Self::with_policies(pushed, Policy::oauth2().build().unwrap(), Policy::oauth2().build().unwrap())
    }

    fn with_policies(pushed: PushedRequests, push_policy: Policy, policy: Policy) -> Self {
        let registry = clients();
        let layer = ClientValidationLayer::new(registry.clone()).policy(policy).pushed_requests(pushed.clone());
        let authentication = AuthenticationPolicy::builder().max_body_bytes(1024 * 1024).build().unwrap();
        let par = ClientAuthenticationLayer::new(registry.clone(), authentication)
            .layer(PushedRequestService::new(pushed, push_policy));
        let router = Router::new()
            .route("/authorize", get(authorize).post(authorize).layer(layer.clone()))
            .route("/login", get(login).layer(layer.clone()))
            .route("/forgetful", get(forgetful).layer(layer))
            .route_service("/par", par)
            .layer(map_response(async |mut response: Response<Body>| {
                if let Some(rejection) = response.extensions().get::<Rejection>() {
                    let reason = rejection.reason().as_str().parse().unwrap();
                    response.headers_mut().insert("x-reason", reason);
                }
                response
            }));
        Self { registry, router }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        self.router.clone().oneshot(request.map(Body::new)).await.unwrap()
    }

    /// Pushes a form that is accepted.
    async fn push(&self, form: &str) -> String {
        let response = self.send(push(form)).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{form}");
        request_uri(&text(response).await)
    }

    /// Asks for a code. `None` where there is none.
    async fn code(&self, client_id: &str, request_uri: &str) -> Option<String> {
        let response = self.send(authorization("/authorize", client_id, request_uri)).await;
        let location = response.headers().get("location")?.to_str().unwrap();
        location.contains("code=CODE").then(|| location.to_owned())
    }
}

async fn authorize(
    method: Method,
    headers: HeaderMap,
    Extension(validated): Extension<ValidatedRequest>,
) -> Response<Body> {
    match validated.use_up().await {
        Ok(()) => validated.success([("code", "CODE")]).into_http(&method),
        Err(error) => error.into_rejection().into_http(&method, &headers),
    }
}

async fn login(Extension(validated): Extension<ValidatedRequest>) -> String {
    format!("log in for {}", validated.scope())
}

async fn forgetful(Extension(validated): Extension<ValidatedRequest>) -> Response<Body> {
    validated.success([("code", "CODE")]).into_http(&Method::GET)
}

fn push(form: &str) -> Request<Full<Bytes>> {
    Request::post("/par").header("content-type", FORM).body(Full::from(form.to_owned())).unwrap()
}

fn authorization(path: &str, client_id: &str, request_uri: &str) -> Request<Full<Bytes>> {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("client_id", client_id), ("request_uri", request_uri)])
        .finish();
    Request::get(format!("{path}?{query}")).body(Full::default()).unwrap()
}

fn request_uri(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["request_uri"].as_str().unwrap().to_owned()
}

fn parts(request: Request<Full<Bytes>>) -> Parts {
    request.into_parts().0
}

/// What a store that nodes share promises: of each pair of racing requests on two nodes, one gets a code.
async fn of_racing_codes_one_is_issued(nodes: [Arc<dyn StateStore>; 2], pairs: usize) {
    let nodes = nodes.map(|store| Arc::new(Server::new(PushedRequests::new(store))));
    let mut racing = Vec::new();
    for pair in 0..pairs {
        let request_uri = nodes[pair % 2].push(PUSH).await;
        racing.extend(nodes.iter().cloned().map(|node| {
            let request_uri = request_uri.clone();
            tokio::spawn(async move { node.code("app", &request_uri).await })
        }));
    }
    let codes = futures::future::join_all(racing).await;
    assert_eq!(codes.into_iter().filter_map(Result::unwrap).count(), pairs);
}

/// A request that was pushed on one node is found on another, by its client alone, until a code is issued.
async fn a_request_is_found_on_another_node(nodes: [Arc<dyn StateStore>; 2]) {
    let [one, other] = nodes.map(|store| Server::new(PushedRequests::new(store)));
    let request_uri = one.push(PUSH).await;
    assert_eq!(other.code("other", &request_uri).await, None);
    assert!(other.code("app", &request_uri).await.is_some());
    assert_eq!(one.code("app", &request_uri).await, None);
}

/// The bound of a client counts on all nodes, and other clients have their own.
async fn the_requests_of_a_client_are_bounded(nodes: [Arc<dyn StateStore>; 2]) {
    let nodes = nodes.map(|store| Server::new(PushedRequests::builder(store).max_per_client(2).build().unwrap()));
    let first = nodes[0].push(PUSH).await;
    nodes[1].push(PUSH).await;
    for node in &nodes {
        assert_eq!(node.send(push(PUSH)).await.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    nodes[0].push("client_id=other&response_type=code").await;
    assert!(nodes[1].code("app", &first).await.is_some());
    // Redis makes room right after its answer.
    eventually(async || (nodes[1].send(push(PUSH)).await.status() == StatusCode::CREATED).then_some(())).await;
}

/// What holds on every store, with two nodes.
#[cfg(feature = "full")]
macro_rules! on_stores {
    ($($store:ident)*) => {
        $(
            mod $store {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn of_racing_codes_one_is_issued() {
                    if let Some((nodes, _keep)) = crate::state::$store().await {
                        crate::wait::in_time(crate::pushed::of_racing_codes_one_is_issued(nodes, 50)).await;
                    }
                }

                #[tokio::test]
                async fn a_request_is_found_on_another_node() {
                    if let Some((nodes, _keep)) = crate::state::$store().await {
                        crate::wait::in_time(crate::pushed::a_request_is_found_on_another_node(nodes)).await;
                    }
                }

                #[tokio::test]
                async fn the_requests_of_a_client_are_bounded() {
                    if let Some((nodes, _keep)) = crate::state::$store().await {
                        crate::wait::in_time(crate::pushed::the_requests_of_a_client_are_bounded(nodes)).await;
                    }
                }
            }
        )*
    };
}
#[cfg(feature = "full")]
on_stores!(memory sqlite postgres redis);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_racing_pairs_each_gets_one_code() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStateStore::new());
    in_time(of_racing_codes_one_is_issued([Arc::clone(&store), store], 1_000)).await;
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    assert_eq!((pushed.lifetime().as_secs(), pushed.max_request_bytes()), (60, 64 * 1024));
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let build = |change: fn(
        tower_oauth_client_validation::PushedRequestsBuilder,
    ) -> tower_oauth_client_validation::PushedRequestsBuilder| {
        change(PushedRequests::builder(MemoryStateStore::new())).build().err().map(|error| error.to_string())
    };
    let seconds = "lifetime: must be whole seconds from 5 to 600";
    assert_eq!(build(|pushed| pushed.lifetime(Duration::from_secs(5))), None);
    assert_eq!(build(|pushed| pushed.lifetime(Duration::from_secs(600))), None);
    assert_eq!(build(|pushed| pushed.lifetime(Duration::from_secs(4))).as_deref(), Some(seconds));
    assert_eq!(build(|pushed| pushed.lifetime(Duration::from_secs(601))).as_deref(), Some(seconds));
    assert_eq!(build(|pushed| pushed.lifetime(Duration::from_millis(5_500))).as_deref(), Some(seconds));
    assert_eq!(build(|pushed| pushed.max_per_client(0)).as_deref(), Some("max_per_client: must be at least 1"));
    assert_eq!(build(|pushed| pushed.max_in_all(0)).as_deref(), Some("max_in_all: must be at least 1"));
    assert!(build(|pushed| pushed.max_request_bytes(0)).is_some());
    assert!(build(|pushed| pushed.max_request_bytes(128 * 1024 + 1)).is_some());
}

#[tokio::test]
async fn the_lifetime_is_announced() {
    let pushed = PushedRequests::builder(MemoryStateStore::new()).lifetime(Duration::from_secs(300)).build().unwrap();
    let answer: Value = serde_json::from_str(&text(Server::new(pushed).send(push(PUSH)).await).await).unwrap();
    assert_eq!(answer["expires_in"], 300);
    assert_eq!(answer.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_thousand_requests_of_a_client_are_kept_and_no_more() {
    let server = Server::new(PushedRequests::new(MemoryStateStore::new()));
    for _ in 0..1_000 {
        server.push(PUSH).await;
    }
    let response = server.send(push(PUSH)).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "60");
    assert!(text(response).await.contains("temporarily_unavailable"));
}

#[tokio::test]
async fn each_request_uri_has_128_random_bits() {
    let server = Server::new(PushedRequests::new(MemoryStateStore::new()));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let request_uri = server.push(PUSH).await;
        let id = request_uri.strip_prefix("urn:ietf:params:oauth:request_uri:").unwrap();
        // 16 bytes in base64url.
        assert_eq!(id.len(), 22, "{id}");
        seen.insert(id.to_owned());
    }
    assert_eq!(seen.len(), 100);
}

/// Every value that is put.
#[derive(Clone, Default)]
struct Recorder(MemoryStateStore, Arc<Mutex<Vec<String>>>);

impl StateStore for Recorder {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        self.1.lock().unwrap().push(String::from_utf8(value.to_vec()).unwrap());
        self.0.put_new_bounded(key, value, lifetime, bounds)
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        self.0.get(key)
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        self.0.take(key)
    }
}

#[tokio::test]
async fn secrets_and_unrecognized_parameters_are_not_kept() {
    let store = Recorder::default();
    let server = Server::new(PushedRequests::new(store.clone()));
    let metadata = json!({
        "client_id": "post",
        "token_endpoint_auth_method": "client_secret_post",
        "client_secret_sha256": SECRET_SHA256,
        "redirect_uris": ["https://post.example/cb"],
    });
    server.registry.insert(Client::from_metadata(metadata).unwrap()).unwrap();
    server.push("client_id=post&client_secret=secret&response_type=code&password=hunter2").await;
    let kept = store.1.lock().unwrap().join("\n");
    assert!(kept.contains("client_id=post") && !kept.contains("secret") && !kept.contains("hunter2"), "{kept}");
}

#[tokio::test]
async fn success_without_using_up_fails_closed() {
    let server = Server::new(PushedRequests::new(MemoryStateStore::new()));
    let request_uri = server.push(PUSH).await;
    let response = server.send(authorization("/forgetful", "app", &request_uri)).await;
    let location = response.headers()["location"].to_str().unwrap();
    assert!(location.starts_with("https://app.example/cb?error=server_error"), "{location}");
    assert!(location.contains("state=xyz") && !location.contains("code"), "{location}");
    let front = server.send(Request::get(format!("/forgetful?{PUSH}")).body(Full::default()).unwrap()).await;
    assert!(front.headers()["location"].to_str().unwrap().contains("code=CODE"));
}

fn layer(pushed: &PushedRequests) -> ClientValidationLayer<MemoryRegistry> {
    let policy = Policy::oauth2().build().unwrap();
    ClientValidationLayer::new(clients()).policy(policy).pushed_requests(pushed.clone())
}

async fn judged(layer: &ClientValidationLayer<MemoryRegistry>, client_id: &str, request_uri: &str) -> Verdict {
    layer.judge(&parts(authorization("/authorize", client_id, request_uri)), Bytes::new()).await
}

async fn accepted(layer: &ClientValidationLayer<MemoryRegistry>, request_uri: &str) -> ValidatedRequest {
    match judged(layer, "app", request_uri).await {
        Verdict::Accepted(validated) => validated,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn success_from_fails_closed_too() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let validated = accepted(&layer(&pushed), &request_uri).await;
    let answer = || validated.success_from(&[("code", "CODE")]).unwrap().location().unwrap().to_owned();
    assert!(answer().contains("error=server_error"));
    validated.use_up().await.unwrap();
    assert!(answer().contains("code=CODE"));
}

#[tokio::test]
async fn a_second_code_is_refused_wherever_the_request_is_held() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let layer = layer(&pushed);
    let (first, second) = (accepted(&layer, &request_uri).await, accepted(&layer, &request_uri).await);
    assert!(first.request().is_pushed());
    first.use_up().await.unwrap();
    assert_eq!(second.use_up().await.unwrap_err().kind(), UseUpErrorKind::Used);
    assert!(second.success([("code", "CODE")]).location().unwrap().contains("server_error"));
    let again = first.use_up().await.unwrap_err();
    assert_eq!(again.rejection().reason().as_str(), "request_uri_used");
    let answer: Response<Bytes> = again.into_rejection().into_http(&Method::GET, &HeaderMap::new());
    assert_eq!(answer.status(), 400);
    assert!(std::str::from_utf8(answer.body()).unwrap().contains("invalid_request_uri"));
}

#[tokio::test]
async fn a_request_that_is_judged_again_after_a_consent_page_is_still_used_up_once() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let validated = accepted(&layer(&pushed), &request_uri).await;
    let validator = Validator::new(Policy::oauth2().build().unwrap());
    let again = validator.validate(validated.request().clone(), Some(Arc::clone(validated.client()))).unwrap();
    assert!(again.success([("code", "CODE")]).location().unwrap().contains("server_error"));
    again.use_up().await.unwrap();
    assert!(again.success([("code", "CODE")]).location().unwrap().contains("code=CODE"));
    assert_eq!(validated.use_up().await.unwrap_err().kind(), UseUpErrorKind::Used);
}

#[tokio::test]
async fn a_request_that_is_kept_across_a_login_still_counts_once() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let layer = layer(&pushed);
    let query = accepted(&layer, &request_uri).await.request().to_query();
    let request = AuthorizationRequest::parse(query.as_bytes(), b"");
    assert_eq!(request.get(Parameter::RequestUri), Some(&*request_uri));
    assert_eq!((request.get(Parameter::ClientId), request.get(Parameter::State)), (Some("app"), None));
    // Without the store it is refused, rather than answered any number of times.
    let refused = Validator::default().validate(request, clients().get("app")).unwrap_err();
    assert_eq!(refused.reason().as_str(), "request_uri");
    let again = Request::get(format!("/authorize?{query}")).body(Full::default()).unwrap();
    let Verdict::Accepted(again) = layer.judge(&parts(again), Bytes::new()).await else {
        panic!("it was refused");
    };
    again.use_up().await.unwrap();
    assert!(matches!(judged(&layer, "app", &request_uri).await, Verdict::Refused(_)));
}

#[tokio::test]
async fn a_store_that_fails_issues_no_code() {
    let store = Store::new();
    let pushed = PushedRequests::new(store.clone());
    let server = Server::new(pushed.clone());
    let request_uri = server.push(PUSH).await;
    let validated = accepted(&layer(&pushed), &request_uri).await;
    let failures: [(fn() -> StateError, u16, &str, UseUpErrorKind); 2] = [
        (|| StateError::unavailable("gone"), 503, "request_store_unavailable", UseUpErrorKind::Unavailable),
        (|| StateError::failed("no table"), 500, "request_store_fault", UseUpErrorKind::Fault),
    ];
    for (failure, status, reason, kind) in failures {
        store.fail(Some(failure));
        let response = server.send(authorization("/authorize", "app", &request_uri)).await;
        assert_eq!((response.status().as_u16(), &response.headers()["x-reason"]), (status, &reason.parse().unwrap()));
        let error = validated.use_up().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(std::error::Error::source(&error).is_some());
        assert!(validated.success([("code", "CODE")]).location().unwrap().contains("server_error"));
        let response = server.send(push(PUSH)).await;
        assert_eq!(response.status(), status);
    }
    store.fail(None);
    assert!(server.code("app", &request_uri).await.is_some());
}

#[tokio::test]
async fn a_request_of_one_tenant_is_unknown_to_another() {
    let store = MemoryStateStore::new();
    let tenants: Vec<_> = ["one", "two"]
        .map(|name| {
            let pushed = PushedRequests::new(store.clone().prefixed(name));
            let tenant =
                Tenant::new(clients()).policy(Policy::oauth2().build().unwrap()).pushed_requests(pushed.clone());
            (pushed, tenant)
        })
        .into();
    let request_uri = Server::new(tenants[0].0.clone()).push(PUSH).await;
    let (one, two) = (tenants[0].1.clone(), tenants[1].1.clone());
    let plain = Tenant::new(clients());
    let layer = ClientValidationLayer::for_each_tenant(move |request: &Parts| {
        Some(match request.uri.path() {
            "/one" => one.clone(),
            "/two" => two.clone(),
            _ => plain.clone(),
        })
    });
    let outcome =
        async |path: &str| match layer.judge(&parts(authorization(path, "app", &request_uri)), Bytes::new()).await {
            Verdict::Accepted(_) => "accepted",
            Verdict::Refused(response) => response.extensions().get::<Rejection>().unwrap().reason().as_str(),
            other => panic!("{other:?}"),
        };
    assert_eq!(outcome("/two").await, "request_uri_unknown");
    // Without a redirect URI that is proven, row 4 comes before row 6.
    assert_eq!(outcome("/none").await, "request_uri");
    assert_eq!(outcome("/one").await, "accepted");
}

#[tokio::test]
async fn report_only_resolves_and_lets_through() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let layer = layer(&pushed).report_only(true);
    assert!(matches!(judged(&layer, "app", &request_uri).await, Verdict::Accepted(_)));
    assert!(matches!(judged(&layer, "other", &request_uri).await, Verdict::Reported(_)));
    let service = layer.layer(service_fn(|request: Request<Full<Bytes>>| async move {
        let scope = request.extensions().get::<ValidatedRequest>().map(|validated| validated.scope().to_owned());
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(scope.unwrap_or_default())))
    }));
    let response = service.clone().oneshot(authorization("/authorize", "app", &request_uri)).await.unwrap();
    assert_eq!(text(response).await, "read");
    let response = service.oneshot(authorization("/authorize", "other", &request_uri)).await.unwrap();
    assert_eq!((response.status(), text(response).await), (StatusCode::OK, String::new()));
}

#[tokio::test]
async fn requests_of_unknown_clients_are_forwarded_unresolved() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let layer = layer(&pushed).policy(Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap());
    match judged(&layer, "nobody", &request_uri).await {
        Verdict::Forwarded(client) => assert_eq!(client.client_id(), "nobody"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn checks_of_the_layer_see_the_pushed_parameters() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let layer = layer(&pushed).check("state", |_: &Parts, validated: &ValidatedRequest| {
        let state = validated.state().map(str::to_owned);
        async move {
            assert_eq!(state.as_deref(), Some("xyz"));
            Ok(())
        }
    });
    assert!(matches!(judged(&layer, "app", &request_uri).await, Verdict::Accepted(_)));
}

#[tokio::test]
async fn declared_parameters_are_kept() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let policy = || Policy::oauth2().parameters(["audience", "tenant"]).build().unwrap();
    let server = Server::with_policies(pushed.clone(), policy(), policy());
    let request_uri = server.push(&format!("{PUSH}&audience=https%3A%2F%2Fapi.example&undeclared=1")).await;
    let validated = accepted(&layer(&pushed).policy(policy()), &request_uri).await;
    assert_eq!((validated.extension("audience"), validated.extension("tenant")), (Some("https://api.example"), None));
    assert!(validated.request().is_pushed());
}

#[tokio::test]
async fn other_client_authentication_names_the_client() {
    let registry = clients();
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let service =
        PushedRequestService::new(pushed, Policy::oauth2().build().unwrap()).client_from(move |request: &Parts| {
            let id = request.headers.get("x-client").map(|id| id.to_str().unwrap().to_owned());
            let found = match id.as_deref() {
                Some("down") => Err(RegistryError::transient("gone")),
                Some("broken") => Err(RegistryError::permanent("no table")),
                id => Ok(id.and_then(|id| registry.get(id))),
            };
            async move { found }
        });
    let status = async |id: Option<&str>| {
        let mut request = push(PUSH);
        if let Some(id) = id {
            request.headers_mut().insert("x-client", id.parse().unwrap());
        }
        service.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(status(Some("app")).await, 201);
    assert_eq!(status(Some("other")).await, 400);
    assert_eq!(status(None).await, 401);
    assert_eq!(status(Some("down")).await, 503);
    assert_eq!(status(Some("broken")).await, 500);
}

#[tokio::test]
async fn a_service_without_client_authentication_takes_nothing() {
    let service = PushedRequestService::new(PushedRequests::new(MemoryStateStore::new()), Policy::default());
    assert_eq!(service.oneshot(push(PUSH)).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_failed_use_up_is_an_answer_of_axum() {
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let request_uri = Server::new(pushed.clone()).push(PUSH).await;
    let validated = accepted(&layer(&pushed), &request_uri).await;
    validated.use_up().await.unwrap();
    let response = validated.use_up().await.unwrap_err().into_response();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["error"], "invalid_request_uri");
}

#[test]
fn a_request_from_the_user_agent_is_neither_pushed_nor_signed() {
    let request = AuthorizationRequest::parse(PUSH.as_bytes(), b"");
    assert!(!request.is_pushed() && !request.is_signed());
}

#[tokio::test]
async fn a_request_from_the_user_agent_is_used_up_any_number_of_times() {
    let client = clients().get("app");
    let validator = Validator::new(Policy::oauth2().build().unwrap());
    let validated = validator.validate(AuthorizationRequest::parse(PUSH.as_bytes(), b""), client).unwrap();
    for _ in 0..2 {
        validated.use_up().await.unwrap();
        assert!(validated.success([("code", "CODE")]).location().unwrap().contains("code=CODE"));
    }
}
