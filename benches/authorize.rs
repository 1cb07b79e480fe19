//! What a request costs: this layer beside two floors, and beside axum without any validation.
//!
//! `cargo bench --bench authorize --features full`. All subjects of a table are measured in turn in one run, so that the ratios
//! hold although the machine drifts.

mod floor;
mod measure;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response, Uri, header};
use http_body_util::Full;
use tower::{Service, ServiceExt, service_fn};
use tower_layer::Layer;
use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, ValidatedRequest};

use self::floor::{FormFloor, StreamingFloor};
use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, Subject, System, Table};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZES: [usize; 3] = [10, 10_000, 1_000_000];

const ACCEPT: &str = "response_type=code&client_id=client-0000005&redirect_uri=https%3A%2F%2Fapp0000005.example.com%2Fcallback\
    &scope=openid+profile+email&state=af0ifjsldkj8d7f6g5h4&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
    &code_challenge_method=S256";
const LOOPBACK: &str = "response_type=code&client_id=client-0000005&redirect_uri=http%3A%2F%2F127.0.0.1%3A49152%2Fcallback\
    &scope=openid+profile+email&state=af0ifjsldkj8d7f6g5h4&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
    &code_challenge_method=S256";

pub(crate) fn clients(count: usize) -> impl Iterator<Item = Client> {
    (0..count).map(|number| {
        Client::builder(format!("client-{number:07}"))
            .redirect_uri(format!("https://app{number:07}.example.com/callback"))
            .redirect_uri(format!("https://app{number:07}.example.com/silent"))
            .redirect_uri("http://127.0.0.1/callback")
            .scope("openid profile email offline_access")
            .build()
            .expect("a legal client")
    })
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let sizes = if quick { &SIZES[..2] } else { &SIZES[..] };
    measure::describe_machine();
    for &size in sizes {
        let title = format!("{size} clients");
        if only.as_ref().is_some_and(|only| !title.contains(only)) {
            continue;
        }
        table(&title, size, quick);
    }
}

fn table(title: &str, size: usize, quick: bool) {
    let streaming = StreamingFloor::new(clients(size));
    let form = FormFloor::new(clients(size));
    let registry: MemoryRegistry = clients(size).collect();
    let layer = ClientValidationLayer::new(registry);
    let bare = service_fn(inner as fn(Request<Full<Bytes>>) -> Ready<Result<Response<Full<Bytes>>, Infallible>>);
    let layered = layer.layer(bare);
    let handler = |validated: ValidatedRequest| async move { validated.redirect_uri().len().to_string() };
    let axum_layered = Router::new().route("/authorize", get(handler).post(handler)).route_layer(layer);
    let axum_query = Router::new().route("/authorize", get(query_only));
    let axum_bare = Router::new().route("/authorize", get(|| async { "ok" }));

    let accept = uri(ACCEPT);
    let loopback = uri(LOOPBACK);
    let unknown = uri(&ACCEPT.replace("client-0000005", "client-x"));
    let redirect = uri(&ACCEPT.replace("callback", "elsewhere"));
    let scope = uri(&ACCEPT.replace("email", "admin"));

    let mut table = Table::new(title, quick);
    table.add(Subject::new("floor: streaming, accept", || black_box(streaming.check(black_box(ACCEPT)))));
    table.add(Subject::new("floor: form_urlencoded, accept", || black_box(form.check(black_box(ACCEPT)))));
    table.add(Subject::new("bare service", || call(&bare, get_request(&accept))));
    table.add(Subject::new("layer: accept", || call(&layered, get_request(&accept))));
    table.add(Subject::new("layer: accept, loopback", || call(&layered, get_request(&loopback))));
    table.add(Subject::new("layer: accept, POST", || call(&layered, post_request(ACCEPT))));
    table.add(Subject::new("layer: unknown client", || call(&layered, get_request(&unknown))));
    table.add(Subject::new("layer: bad redirect URI", || call(&layered, get_request(&redirect))));
    table.add(Subject::new("layer: bad scope", || call(&layered, get_request(&scope))));
    table.add(Subject::new("axum: bare router", || route(&axum_bare, get_request(&accept))));
    table.add(Subject::new("axum: Query, no validation", || route(&axum_query, get_request(&accept))));
    table.add(Subject::new("axum: layer, accept", || route(&axum_layered, get_request(&accept))));
    table.run();
}

fn inner(request: Request<Full<Bytes>>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    drop(black_box(request));
    ready(Ok(Response::new(Full::default())))
}

/// What a handler reads that validates nothing.
#[derive(serde::Deserialize)]
struct Parameters {
    client_id: String,
    redirect_uri: String,
    response_type: String,
    scope: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
}

async fn query_only(Query(parameters): Query<Parameters>) -> String {
    black_box((
        &parameters.client_id,
        &parameters.response_type,
        &parameters.scope,
        &parameters.state,
        &parameters.code_challenge,
        &parameters.code_challenge_method,
    ));
    parameters.redirect_uri.len().to_string()
}

fn uri(query: &str) -> Uri {
    format!("/authorize?{query}").parse().expect("a legal URI")
}

fn get_request(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri.clone();
    request
}

fn post_request(body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/authorize");
    let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, form);
    request
}

/// As a server calls it: a clone of the service for each request.
fn call<S>(service: &S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>> + Clone,
{
    black_box(service.clone().oneshot(request).now_or_never().map(|result| result.is_ok()));
}

fn route(router: &Router, request: Request<Full<Bytes>>) {
    black_box(router.clone().oneshot(request.map(axum::body::Body::new)).now_or_never().map(|result| result.is_ok()));
}
