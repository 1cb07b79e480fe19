//! The layer with axum, hyper and `tower-http`, over real sockets where bodies matter.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Form, Query};
use axum::middleware::{Next, from_fn};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::retry::Policy as RetryPolicy;
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::limit::RequestBodyLimitLayer;
use tower_oauth_client_validation::{
    AuthorizationRequest, BoxRegistry, Client, ClientValidationLayer, Delivery, MemoryRegistry, Parameter, Policy,
    Reason, RegistryError, RegistrySource, Rejection, ReportedOutcome, RequestBody, ServiceRegistry, UnknownClients,
    UnregisteredClient, ValidatedRequest, Validator, registry_fn,
};

use crate::fixture::{
    self, ACCEPTED, CALLBACK, FORM, UNKNOWN, WRONG_SCOPE, client, form, held_registry, layer, location, text,
};
use crate::socket::{chunked, send, serve};

async fn hello(validated: ValidatedRequest) -> String {
    format!("{} {}", validated.client_id(), validated.scope())
}

fn request(query: &str) -> Request<Body> {
    fixture::get(query)
}

fn posted(body: impl Into<Body>) -> Request<Body> {
    fixture::post(body)
}

fn method(method: Method, query: &str) -> Request<Body> {
    Request::builder().method(method).uri(format!("/authorize?{query}")).body(Body::empty()).unwrap()
}

async fn ask(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

async fn assert_judges(router: &Router) {
    let accepted = ask(router, request(ACCEPTED)).await;
    assert_eq!((accepted.status(), &*text(accepted).await), (StatusCode::OK, "app read"));
    let rejected = ask(router, request(UNKNOWN)).await;
    assert_eq!(rejected.status(), 400);
    assert_eq!(
        text(rejected).await,
        r#"{"error":"invalid_client","error_description":"the client is not registered here"}"#
    );
    let redirected = ask(router, request(WRONG_SCOPE)).await;
    assert_eq!(redirected.status(), 302);
    assert!(location(&redirected).starts_with("https://app.example/cb?error=invalid_scope&"));
}

#[tokio::test]
async fn axum_route_layer() {
    let router = Router::new()
        .route("/authorize", get(hello).post(hello))
        .route_layer(layer())
        .route("/health", get(|| async { "fine" }));
    assert_judges(&router).await;
    assert_eq!(ask(&router, Request::get("/health").body(Body::empty()).unwrap()).await.status(), 200);
    assert_eq!(ask(&router, Request::get("/nowhere").body(Body::empty()).unwrap()).await.status(), 404);
    let put = ask(&router, method(Method::PUT, ACCEPTED)).await;
    assert_eq!(put.status(), 405);
    assert_eq!(put.headers()[header::ALLOW], "GET, HEAD, POST, OPTIONS");
    let head = ask(&router, method(Method::HEAD, WRONG_SCOPE)).await;
    assert_eq!(head.status(), 302);
    assert_eq!(text(head).await, "");
}

/// With PKCE in the query and the rest in the body, the layer would see a challenge, and a handler with `Form` none.
#[tokio::test]
async fn the_extractors_of_a_handler_never_see_another_request_than_the_layer() {
    type Fields = HashMap<String, String>;
    let policy = Policy::oauth21().build().unwrap();
    let handler = |validated: ValidatedRequest, Query(query): Query<Fields>, Form(form): Form<Fields>| async move {
        let challenge = query.get("code_challenge").or(form.get("code_challenge")).cloned();
        assert_eq!(challenge.as_deref(), validated.code_challenge().map(|challenge| challenge.challenge));
        for (name, sources) in [("code_challenge", [&query, &form]), ("client_id", [&query, &form])] {
            assert!(sources.iter().filter(|fields| fields.contains_key(name)).count() == 1, "{name} is in one place");
        }
        assert!(query.contains_key("client_id") == query.contains_key("code_challenge"));
    };
    let router = Router::new().route("/authorize", post(handler)).layer(layer().policy(policy));
    let challenge = format!("code_challenge={}&code_challenge_method=S256", "a".repeat(43));
    let ask = async |query: &str, body: &str| {
        let request = Request::post(format!("/authorize?{query}")).header(header::CONTENT_TYPE, FORM);
        ask(&router, request.body(Body::from(body.to_owned())).unwrap()).await
    };
    for (query, body) in [(&*challenge, ACCEPTED), (ACCEPTED, &*challenge), ("code_challenge", &*all(&challenge))] {
        let response = ask(query, body).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.extensions().get::<Rejection>().unwrap().reason(), Reason::SPLIT_PARAMETERS);
    }
    assert_eq!(ask(&all(&challenge), "decision=allow").await.status(), 200);
    assert_eq!(ask("step=2", &all(&challenge)).await.status(), 200);
}

fn all(challenge: &str) -> String {
    format!("{ACCEPTED}&{challenge}")
}

#[tokio::test]
async fn axum_method_router_layer() {
    let router = Router::new()
        .route("/authorize", get(hello).post(hello).layer(layer()))
        .route("/health", get(|| async { "fine" }));
    assert_judges(&router).await;
    assert_eq!(ask(&router, Request::get("/health").body(Body::empty()).unwrap()).await.status(), 200);
    let put = ask(&router, method(Method::PUT, ACCEPTED)).await;
    assert_eq!(put.status(), 405);
    assert!(put.extensions().get::<Rejection>().is_some(), "the layer saw a method without a handler");
    assert_eq!(put.headers()[header::ALLOW], "GET, HEAD, POST, OPTIONS");
}

#[tokio::test]
async fn axum_method_router_route_layer_does_not_see_methods_without_a_handler() {
    let router = Router::new().route("/authorize", get(hello).route_layer(layer()));
    assert_judges(&router).await;
    let put = ask(&router, method(Method::PUT, ACCEPTED)).await;
    assert_eq!(put.status(), 405);
    assert!(put.extensions().get::<Rejection>().is_none());
}

#[tokio::test]
async fn axum_nested_routers() {
    let inner = Router::new().route("/authorize", get(hello)).route_layer(layer());
    let middle = Router::new().nest("/tenant", inner).route("/login", get(|| async { "log in" }));
    let router = Router::new().nest("/oauth", middle);
    let at = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let accepted = ask(&router, at(&format!("/oauth/tenant/authorize?{ACCEPTED}"))).await;
    assert_eq!((accepted.status(), &*text(accepted).await), (StatusCode::OK, "app read"));
    assert_eq!(ask(&router, at(&format!("/oauth/tenant/authorize?{UNKNOWN}"))).await.status(), 400);
    assert_eq!(ask(&router, at("/oauth/login")).await.status(), 200);

    // The same layer once around a nest.
    let nested = Router::new().nest("/a", Router::new().route("/authorize", get(hello))).route_layer(layer());
    assert_eq!(ask(&nested, at(&format!("/a/authorize?{ACCEPTED}"))).await.status(), 200);
    assert_eq!(ask(&nested, at(&format!("/a/authorize?{UNKNOWN}"))).await.status(), 400);
}

#[tokio::test]
async fn axum_state_and_a_layer_that_is_shared_by_routes() {
    let shared = layer();
    let router = Router::new()
        .route("/authorize", get(hello))
        .route_layer(shared.clone())
        .merge(Router::new().route("/other", get(hello)).route_layer(shared))
        .with_state(());
    assert_judges(&router).await;
    let other = Request::get(format!("/other?{UNKNOWN}")).body(Body::empty()).unwrap();
    assert_eq!(ask(&router, other).await.status(), 400);
}

#[tokio::test]
async fn from_fn_and_option_layer_in_one_service_builder() {
    async fn tag(request: Request<Body>, next: Next) -> Response<Body> {
        let mut response = next.run(request).await;
        let outcome = if response.extensions().get::<Rejection>().is_some() { "rejected" } else { "accepted" };
        response.headers_mut().insert("x-outcome", outcome.parse().unwrap());
        response
    }
    let with = |optional: Option<ClientValidationLayer<MemoryRegistry>>| {
        let stack = ServiceBuilder::new().layer(from_fn(tag)).option_layer(optional).layer(from_fn(tag));
        Router::new().route("/authorize", get(hello)).layer(stack)
    };
    let router = with(Some(layer()));
    assert_judges(&router).await;
    assert_eq!(ask(&router, request(ACCEPTED)).await.headers()["x-outcome"], "accepted");
    assert_eq!(ask(&router, request(UNKNOWN)).await.headers()["x-outcome"], "rejected");
    // Without the layer the handler finds no validated request.
    assert_eq!(ask(&with(None), request(ACCEPTED)).await.status(), 500);
}

#[tokio::test]
async fn a_body_limit_over_the_layer_is_413_for_chunked_bodies_too() {
    let small = RequestBodyLimitLayer::new(1024);
    let handlers = || get(hello).post(hello);
    let in_one_builder = Router::new()
        .route("/authorize", handlers())
        .layer(ServiceBuilder::new().layer(small).layer(layer().wrap_bodies()));
    let one_by_one = Router::new().route("/authorize", handlers()).layer(layer()).layer(small);
    for router in [in_one_builder, one_by_one] {
        let address = serve(router).await;
        let filler = |length| format!("{ACCEPTED}&filler={}", "a".repeat(length)).into_bytes();

        let fits = send(address, form(chunked([filler(10)]))).await;
        assert_eq!((fits.status(), &*text(fits).await), (StatusCode::OK, "app read"));
        let sized = send(address, fixture::post::<Full<Bytes>>(filler(2000))).await;
        assert_eq!(sized.status(), 413);
        let too_large = send(address, form(chunked([filler(500), vec![b'a'; 600]]))).await;
        assert_eq!(too_large.status(), 413);
        let body: serde_json::Value = serde_json::from_str(&text(too_large).await).unwrap();
        assert_eq!(body["error"], "invalid_request");
    }
}

#[tokio::test]
async fn a_body_limit_under_the_layer_sees_the_body_once_more() {
    async fn read_form(validated: ValidatedRequest, Form(form): Form<HashMap<String, String>>) -> String {
        format!("{} {}", validated.client_id(), form["scope"])
    }
    let stack = ServiceBuilder::new().layer(layer().wrap_bodies()).layer(RequestBodyLimitLayer::new(100));
    let address = serve(Router::new().route("/authorize", post(read_form)).layer(stack)).await;
    let fits = send(address, form(chunked([ACCEPTED.into()]))).await;
    assert_eq!((fits.status(), &*text(fits).await), (StatusCode::OK, "app read"));
    let large = format!("{ACCEPTED}&filler={}", "a".repeat(200)).into_bytes();
    assert_eq!(send(address, form(chunked([large.clone()]))).await.status(), 413);
    assert_eq!(send(address, fixture::post::<Full<Bytes>>(large)).await.status(), 413);
}

#[tokio::test]
async fn the_limit_of_the_layer_holds_for_sized_and_chunked_bodies() {
    let router = Router::new().route("/authorize", post(hello)).route_layer(layer().max_body_bytes(100));
    let address = serve(router).await;
    let exactly = |length: usize| format!("{ACCEPTED}&f={}", "a".repeat(length - ACCEPTED.len() - 3)).into_bytes();
    assert_eq!(send(address, fixture::post::<Full<Bytes>>(exactly(100))).await.status(), 200);
    assert_eq!(send(address, form(chunked([exactly(100)]))).await.status(), 200);
    assert_eq!(send(address, fixture::post::<Full<Bytes>>(exactly(101))).await.status(), 413);
    assert_eq!(send(address, form(chunked([exactly(100), vec![b'a']]))).await.status(), 413);
}

#[tokio::test]
async fn the_default_body_limit_of_axum_applies_to_its_extractors_only() {
    async fn read_form(validated: ValidatedRequest, Form(form): Form<HashMap<String, String>>) -> String {
        format!("{} {}", validated.client_id(), form["scope"])
    }
    let router =
        Router::new().route("/authorize", post(read_form)).layer(layer()).layer(DefaultBodyLimit::max(ACCEPTED.len()));
    let accepted = ask(&router, posted(ACCEPTED)).await;
    assert_eq!((accepted.status(), &*text(accepted).await), (StatusCode::OK, "app read"));
    // The layer has its own limit; the extractor then refuses what the layer let pass.
    let refused = ask(&router, posted(format!("{ACCEPTED}&one=more"))).await;
    assert_eq!(refused.status(), 413);
    assert!(refused.extensions().get::<Rejection>().is_none());
}

#[tokio::test]
async fn a_form_extractor_under_the_layer_sees_the_same_body() {
    async fn read_form(validated: ValidatedRequest, request: Request<Body>) -> String {
        let length = request.headers().get(header::CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        format!("{} {length:?} {}", validated.client_id(), String::from_utf8(body.into()).unwrap())
    }
    let body = format!("{ACCEPTED}&csrf=%41+b&broken=%zz&csrf=2");
    let router = Router::new().route("/authorize", post(read_form)).route_layer(layer());
    let address = serve(router).await;
    let sized = send(address, fixture::post::<Full<Bytes>>(body.clone())).await;
    assert_eq!(text(sized).await, format!("app Some(\"{}\") {body}", body.len()));
    let (one, two) = body.split_at(30);
    let in_chunks = send(address, form(chunked([one.into(), two.into()]))).await;
    assert_eq!(text(in_chunks).await, format!("app None {body}"));

    // A parameter in both query and body is refused, no matter which the extractor would have read.
    let mut both = fixture::post::<Full<Bytes>>(body);
    *both.uri_mut() = "/authorize?client_id=app".parse().unwrap();
    assert_eq!(send(address, both).await.status(), 400);
}

#[tokio::test]
async fn the_content_type_decides_before_the_size() {
    let router = Router::new().route("/authorize", post(hello)).route_layer(layer());
    for (content_type, status) in [
        (Some(FORM), 413),
        (Some("application/x-www-form-urlencoded; charset=utf-8"), 413),
        (Some("Application/X-WWW-Form-Urlencoded"), 413),
        (Some("application/json"), 400),
        (Some("application/x-www-form-urlencodedX"), 400),
        (None, 400),
    ] {
        let mut large = Request::post("/authorize").body(Body::from(vec![b'a'; 70_000])).unwrap();
        if let Some(content_type) = content_type {
            large.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        assert_eq!(ask(&router, large).await.status(), status, "{content_type:?}");
    }
}

#[tokio::test]
async fn hyper_over_a_socket() {
    async fn handle(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
        let client_id = request.extensions().get::<ValidatedRequest>().unwrap().client_id().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok(Response::new(Full::from(format!("{client_id} {}", body.len()))))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = ServiceBuilder::new().layer(layer().wrap_bodies()).service_fn(handle);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });

    let accepted = send(address, fixture::get::<Full<Bytes>>(ACCEPTED)).await;
    // An exact length: the answer is not sent in chunks.
    assert_eq!(accepted.headers()[header::CONTENT_LENGTH], "5");
    assert_eq!(text(accepted).await, "app 0");
    let sized = send(address, fixture::post::<Full<Bytes>>(ACCEPTED)).await;
    assert_eq!(text(sized).await, format!("app {}", ACCEPTED.len()));
    let in_chunks = send(address, form(chunked(ACCEPTED.bytes().map(|byte| vec![byte]).collect::<Vec<_>>()))).await;
    assert_eq!(text(in_chunks).await, format!("app {}", ACCEPTED.len()));
    let rejected = send(address, fixture::get::<Full<Bytes>>(UNKNOWN)).await;
    assert_eq!(rejected.status(), 400);
    let length: usize = rejected.headers()[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    assert_eq!(text(rejected).await.len(), length);

    let head = |query: &str| Request::head(format!("/authorize?{query}")).body(Full::<Bytes>::default()).unwrap();
    let head = send(address, head(UNKNOWN)).await;
    assert_eq!(head.headers()[header::CONTENT_LENGTH], &*length.to_string());
    assert_eq!(text(head).await, "");
}

#[tokio::test]
async fn a_boxed_registry() {
    let boxed: BoxRegistry = fixture::registry().boxed();
    let router = Router::new().route("/authorize", get(hello)).route_layer(ClientValidationLayer::new(boxed.clone()));
    assert_judges(&router).await;
    let both = Router::new()
        .route("/authorize", get(hello))
        .route_layer(ClientValidationLayer::new(MemoryRegistry::new().or(boxed).boxed()));
    assert_judges(&both).await;
}

#[tokio::test]
async fn a_closure_as_registry() {
    let registry = registry_fn(|client_id: String| async move {
        tokio::task::yield_now().await;
        Ok((client_id == "app").then(|| Arc::new(client())))
    });
    assert_judges(&Router::new().route("/authorize", get(hello)).route_layer(ClientValidationLayer::new(registry)))
        .await;
}

/// Tries again while an error is transient.
#[derive(Clone)]
struct Again(u32);

impl RetryPolicy<String, Option<Arc<Client>>, RegistryError> for Again {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _request: &mut String,
        result: &mut Result<Option<Arc<Client>>, RegistryError>,
    ) -> Option<Self::Future> {
        let transient = result.as_ref().is_err_and(RegistryError::is_transient);
        self.0 = self.0.checked_sub(1).filter(|_| transient)?;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, request: &String) -> Option<String> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_service_registry_with_retry() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let flaky = registry_fn(move |client_id: String| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match call {
                0 | 1 => Err(RegistryError::transient("connection reset")),
                _ => Ok((client_id == "app").then(|| Arc::new(client()))),
            }
        }
    });
    let registry = ServiceRegistry::new(ServiceBuilder::new().retry(Again(2)).service(flaky.into_service()));
    let router = Router::new().route("/authorize", get(hello)).route_layer(ClientValidationLayer::new(registry));
    assert_judges(&router).await;
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_service_registry_with_timeout() {
    let (registry, mut lookups) = held_registry();
    let registry =
        ServiceRegistry::new(ServiceBuilder::new().timeout(Duration::from_secs(2)).service(registry.into_service()));
    let router = Router::new().route("/authorize", get(hello)).route_layer(ClientValidationLayer::new(registry));
    let late = ask(&router, request(ACCEPTED)).await;
    assert_eq!(late.status(), 503);
    assert_eq!(late.headers()[header::RETRY_AFTER], "5");
    assert!(lookups.recv().await.unwrap().is_dropped());
}

#[tokio::test]
async fn a_service_registry_with_load_shed_and_concurrency_limit() {
    let (registry, mut lookups) = held_registry();
    let registry =
        ServiceRegistry::new(ServiceBuilder::new().load_shed().concurrency_limit(1).service(registry.into_service()));
    let router = Router::new().route("/authorize", get(hello)).route_layer(ClientValidationLayer::new(registry));
    let first = tokio::spawn({
        let router = router.clone();
        async move { ask(&router, request(ACCEPTED)).await.status() }
    });
    let lookup = lookups.recv().await.unwrap();
    assert_eq!(ask(&router, request(ACCEPTED)).await.status(), 503);
    lookup.answer(Ok(Some(client().into())));
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn the_extractor_without_the_layer_names_the_layer() {
    let router = Router::new().route("/authorize", get(hello));
    let response = ask(&router, request(ACCEPTED)).await;
    assert_eq!(response.status(), 500);
    assert!(text(response).await.contains("ClientValidationLayer"));
}

#[tokio::test]
async fn the_optional_extractor() {
    async fn maybe(validated: Option<ValidatedRequest>) -> String {
        validated.map_or_else(|| "nobody".to_owned(), |validated| validated.client_id().to_owned())
    }
    let open = Router::new().route("/authorize", get(maybe));
    assert_eq!(text(ask(&open, request(ACCEPTED)).await).await, "nobody");
    let judged = open.layer(layer());
    assert_eq!(text(ask(&judged, request(ACCEPTED)).await).await, "app");
    assert_eq!(ask(&judged, request(UNKNOWN)).await.status(), 400);
}

#[tokio::test]
async fn the_filter_selects_the_requests_to_judge() {
    let bypassing = layer().insecure_bypass(|parts| parts.uri.path() != "/authorize");
    let router = Router::new()
        .route("/authorize", any(hello))
        .route("/other", any(|body: String| async { body }))
        .layer(bypassing);
    assert_judges(&router).await;
    let mut other = posted("client_id=a&client_id=a");
    *other.uri_mut() = "/other?client_id=b".parse().unwrap();
    let response = ask(&router, other).await;
    assert_eq!((response.status(), &*text(response).await), (StatusCode::OK, "client_id=a&client_id=a"));
    assert_eq!(ask(&router, method(Method::DELETE, ACCEPTED)).await.status(), 405);
}

#[tokio::test]
async fn a_path_filter_inside_of_a_nest_sees_the_path_without_its_prefix() {
    let bypassing = layer().insecure_bypass(|parts| parts.uri.path() != "/oauth/authorize");
    let inner = Router::new().route("/authorize", get(hello)).route_layer(bypassing);
    let router = Router::new().nest("/oauth", inner);
    let request = Request::get(format!("/oauth/authorize?{ACCEPTED}")).body(Body::empty()).unwrap();
    // It fails open, and the extractor closes the hole.
    assert_eq!(ask(&router, request).await.status(), 500);
}

type Seen = Option<(Option<ReportedOutcome>, Option<String>, Option<String>, Vec<u8>)>;

/// Report-only mode; returns what the inner service got.
async fn report<R>(layer: ClientValidationLayer<R>, request: Request<Body>) -> (StatusCode, Seen)
where
    R: RegistrySource<Future: Send> + Send + Sync,
{
    let inner = service_fn(|request: Request<RequestBody<Body>>| async move {
        let (mut parts, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes().to_vec();
        let outcome = parts.extensions.remove::<ReportedOutcome>();
        let validated = parts.extensions.remove::<ValidatedRequest>().map(|validated| validated.client_id().to_owned());
        let unknown = parts.extensions.remove::<UnregisteredClient>().map(|client| client.client_id().to_owned());
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Arc::new((outcome, validated, unknown, bytes)));
        Ok::<_, BoxError>(response)
    });
    let service = layer.report_only(true).wrap_bodies().layer(inner);
    let mut response = service.oneshot(request).await.unwrap();
    let seen: Option<Arc<(Option<ReportedOutcome>, Option<String>, Option<String>, Vec<u8>)>> =
        response.extensions_mut().remove();
    (response.status(), seen.map(|seen| Arc::into_inner(seen).unwrap()))
}

#[tokio::test]
async fn report_only_lets_every_request_pass_unchanged() {
    let large = || format!("{ACCEPTED}&filler={}", "a".repeat(70_000)).into_bytes();
    let parts = || vec![large()[..40_000].to_vec(), large()[40_000..].to_vec()];
    let requests: Vec<(Request<Body>, Vec<u8>, Option<&str>)> = vec![
        (request(UNKNOWN), vec![], Some("client_unknown")),
        (request(""), vec![], Some("client_id_missing")),
        (request(WRONG_SCOPE), vec![], Some("scope_not_allowed")),
        (method(Method::PUT, ACCEPTED), vec![], Some("method")),
        (posted(UNKNOWN), UNKNOWN.into(), Some("client_unknown")),
        (posted(large()), large(), Some("body_too_large")),
        (posted(Body::new(chunked(parts()))), large(), Some("body_too_large")),
        (posted(Body::new(chunked([ACCEPTED.into()]))), ACCEPTED.into(), None),
        (Request::post("/authorize").body(Body::from("{}")).unwrap(), b"{}".into(), Some("content_type")),
        (request(ACCEPTED), vec![], None),
    ];
    for (mut request, body, reason) in requests {
        let what = format!("{request:?}");
        // What an outer layer left there must not be mistaken for the outcome of this one.
        request.extensions_mut().insert(stale().await);
        let (status, seen) = report(layer(), request).await;
        assert_eq!(status, 200, "{what}");
        let (outcome, validated, _, bytes) = seen.expect("it reached the inner service");
        assert_eq!(bytes, body, "{what}");
        match (outcome.unwrap(), reason) {
            (ReportedOutcome::Accepted, None) => assert_eq!(validated.as_deref(), Some("app")),
            (ReportedOutcome::Rejected(rejection), Some(reason)) => {
                assert_eq!(rejection.reason().as_str(), reason, "{what}");
                assert_eq!(validated, None, "{what}");
            }
            (outcome, reason) => panic!("{what}: {outcome:?} instead of {reason:?}"),
        }
    }
}

#[tokio::test]
async fn report_only_lets_requests_pass_when_the_registry_fails() {
    let failing = registry_fn(|_: String| async { Err(RegistryError::transient("down")) });
    let (status, seen) = report(ClientValidationLayer::new(failing), request(ACCEPTED)).await;
    assert_eq!(status, 200);
    let Some(ReportedOutcome::Rejected(rejection)) = seen.unwrap().0 else { panic!("not rejected") };
    assert_eq!(rejection.reason(), Reason::REGISTRY_UNAVAILABLE);
}

#[tokio::test]
async fn report_only_reports_clients_that_would_be_forwarded() {
    let forwarding = layer().policy(Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap());
    let (_, seen) = report(forwarding, request(UNKNOWN)).await;
    let (outcome, validated, unknown, _) = seen.unwrap();
    assert!(matches!(outcome, Some(ReportedOutcome::Forwarded)));
    assert_eq!((validated, unknown.as_deref()), (None, Some("nobody")));
}

#[tokio::test]
async fn report_only_passes_broken_bodies_on_with_their_error() {
    let body = || {
        let frames = [Ok(http_body::Frame::data(Bytes::from("client_id="))), Err(BoxError::from("cut off"))];
        Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames)))
    };
    let inner = service_fn(|request: Request<RequestBody<Body>>| async move {
        let outcome = request.extensions().get::<ReportedOutcome>().cloned();
        let mut body = request.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "client_id=");
        assert!(body.frame().await.unwrap().unwrap_err().to_string().contains("cut off"));
        assert!(body.frame().await.is_none());
        let Some(ReportedOutcome::Rejected(rejection)) = outcome else { panic!("{outcome:?}") };
        Ok::<_, BoxError>(Response::new(Body::from(rejection.reason().as_str())))
    });
    let service = layer().report_only(true).wrap_bodies().layer(inner);
    let response = service.oneshot(posted(body())).await.unwrap();
    assert_eq!(text(response).await, "body_unreadable");
}

#[tokio::test]
async fn report_only_without_wrapping_passes_bodies_of_unknown_length_on_unread() {
    async fn outcome(Extension(outcome): Extension<ReportedOutcome>, body: String) -> String {
        match outcome {
            ReportedOutcome::Rejected(rejection) => format!("{} {}", rejection.reason().as_str(), body.len()),
            outcome => format!("{outcome:?} {}", body.len()),
        }
    }
    let router = Router::new().route("/authorize", post(outcome)).route_layer(layer().report_only(true));
    let sized = ask(&router, posted(ACCEPTED)).await;
    assert_eq!(text(sized).await, format!("Accepted {}", ACCEPTED.len()));
    let in_chunks = ask(&router, posted(Body::new(chunked([ACCEPTED.into()])))).await;
    assert_eq!(text(in_chunks).await, format!("body_unreadable {}", ACCEPTED.len()));
    let large = ask(&router, posted(vec![b'a'; 70_000])).await;
    assert_eq!(text(large).await, "body_too_large 70000");
}

#[tokio::test]
async fn unknown_clients_are_forwarded_if_the_policy_says_so() {
    async fn handle(
        validated: Option<ValidatedRequest>,
        unregistered: Option<Extension<UnregisteredClient>>,
        body: String,
    ) -> String {
        let unregistered = unregistered.map(|Extension(client)| client);
        let state = unregistered.as_ref().and_then(|client| client.request().get(Parameter::State));
        let id = unregistered.as_ref().map(UnregisteredClient::client_id);
        format!("{:?} {id:?} {state:?} {body}", validated.map(|validated| validated.client_id().to_owned()))
    }
    let policy = Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap();
    let router = Router::new().route("/authorize", any(handle)).route_layer(layer().policy(policy));
    let mut unknown = request("client_id=new&state=s&redirect_uri=http://evil.example&state2=%00");
    unknown.extensions_mut().insert(stale().await);
    assert_eq!(text(ask(&router, unknown).await).await, r#"None Some("new") Some("s") "#);
    let body = "client_id=new&scope=a&scope=b";
    assert_eq!(text(ask(&router, posted(body)).await).await, format!(r#"None Some("new") None {body}"#));
    assert_eq!(text(ask(&router, request(ACCEPTED)).await).await, r#"Some("app") None None "#);
    // Only unknown clients are forwarded.
    assert_eq!(ask(&router, request(WRONG_SCOPE)).await.status(), 302);
    assert_eq!(ask(&router, request("client_id=a&client_id=b")).await.status(), 400);
    assert_eq!(ask(&router, request("")).await.status(), 400);

    let disabled = MemoryRegistry::from_clients([client().to_builder().disabled(true).build().unwrap()]);
    let policy = Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap();
    let router =
        Router::new().route("/authorize", any(handle)).route_layer(ClientValidationLayer::new(disabled).policy(policy));
    assert_eq!(ask(&router, request(ACCEPTED)).await.status(), 400);
}

/// What some outer layer left in the extensions.
async fn stale() -> ValidatedRequest {
    let old = Client::builder("stale").confidential().redirect_uri(CALLBACK).build().unwrap();
    let request = AuthorizationRequest::parse(b"client_id=stale&response_type=code", b"");
    Validator::default().validate(request, Some(Arc::new(old))).unwrap()
}

#[tokio::test]
async fn an_earlier_validated_request_is_replaced() {
    let router = Router::new().route("/authorize", get(hello)).route_layer(layer());
    let mut request = request(ACCEPTED);
    request.extensions_mut().insert(stale().await);
    assert_eq!(text(ask(&router, request).await).await, "app read");
}

#[tokio::test]
async fn the_rejection_is_in_the_extensions_of_the_response() {
    let router = Router::new().route("/authorize", get(hello)).route_layer(layer());
    let direct = ask(&router, request(UNKNOWN)).await;
    let rejection = direct.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.delivery(), rejection.redirect_uri()), (Delivery::Direct, None));
    assert_eq!((rejection.error().as_str(), rejection.reason()), ("invalid_client", Reason::CLIENT_UNKNOWN));
    assert_eq!(rejection.client_id(), Some("nobody"));
    let redirected = ask(&router, request(WRONG_SCOPE)).await;
    let rejection = redirected.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.delivery(), rejection.redirect_uri()), (Delivery::Redirect, Some(CALLBACK)));
    assert_eq!(rejection.reason(), Reason::SCOPE_NOT_ALLOWED);
    assert!(ask(&router, request(ACCEPTED)).await.extensions().get::<Rejection>().is_none());
}
