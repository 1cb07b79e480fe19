//! What a pushed request costs beside a plain one: pushed, found again and used up, with a store in memory.
//!
//! `cargo bench -p integration-tests --bench pushed --features pushed-requests`

#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;

use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    Client, ClientValidationLayer, MemoryRegistry, MemoryStateStore, Policy, PushedRequestService, PushedRequests,
    ValidatedRequest,
};

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, Subject, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUEST: &str = "response_type=code&client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcallback\
    &scope=openid+profile+email&state=af0ifjsldkj8d7f6g5h4\
    &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

fn main() {
    measure::describe_machine();
    let client = Client::builder("app").redirect_uri("https://app.example/callback").scope("openid profile email");
    let registry = MemoryRegistry::from_clients([client.build().expect("a client")]);
    let layer = ClientValidationLayer::new(registry.clone());
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let par = PushedRequestService::new(pushed.clone(), Policy::default());
    let par = par.client_from(move |_: &Parts| ready(Ok(registry.get("app"))));
    let authorize = layer.pushed_requests(pushed).layer(service_fn(|request: Request<Full<Bytes>>| async move {
        let validated = request.extensions().get::<ValidatedRequest>().expect("it is valid");
        validated.use_up().await.expect("it was not used up");
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));

    let push = || {
        let request = Request::post("/par").header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(Full::<Bytes>::from(REQUEST)).expect("a request");
        let answer = par.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
        let body = answer.into_body().collect().now_or_never().expect("nothing waits").expect("infallible").to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        answer["request_uri"].as_str().expect("it was taken").to_owned()
    };
    let ask = |query: &str| {
        let request = Request::get(format!("/authorize?{query}")).body(Full::default()).expect("a request");
        authorize.clone().oneshot(request).now_or_never().expect("nothing waits")
    };
    measure::print_table(
        "A request in process",
        vec![
            Subject::new("plain", || black_box(ask(REQUEST))),
            Subject::new("pushed, found and used up", || {
                black_box(ask(&format!("client_id=app&request_uri={}", push())))
            }),
        ],
    );
}
