//! What pushed and sealed requests cost beside a plain one, and signed requests beside a bare signature check.
//!
//! `cargo bench -p integration-tests --bench request_objects --features full`

#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    Client, ClientValidationLayer, MemoryRegistry, MemoryStateStore, Policy, PushedRequestService, PushedRequests,
    RequestSealer, SealKeys, SignedRequests, ValidatedRequest, Validator, Verdict,
};

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, Subject, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUEST: &str = "response_type=code&client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcallback\
    &scope=openid+profile+email&state=af0ifjsldkj8d7f6g5h4\
    &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

fn main() {
    measure::describe_machine();
    pushed_and_sealed();
    signed();
}

fn pushed_and_sealed() {
    let client = Client::builder("app").redirect_uri("https://app.example/callback").scope("openid profile email");
    let registry = MemoryRegistry::from_clients([client.build().expect("a client")]);
    let layer = ClientValidationLayer::new(registry.clone());
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let par = PushedRequestService::new(pushed.clone(), Policy::default());
    let par = par.client_from({
        let registry = registry.clone();
        move |_: &Parts| ready(Ok(registry.get("app")))
    });
    let sealer = RequestSealer::new(SealKeys::generate().expect("a key")).pushed_requests(pushed.clone());
    let validator = Validator::default();
    let authorize = layer.pushed_requests(pushed).layer(service_fn({
        let sealer = sealer.clone();
        move |request: Request<Full<Bytes>>| {
            let sealer = sealer.clone();
            async move {
                let validated = request.extensions().get::<ValidatedRequest>().expect("it is valid");
                validated.use_up().await.expect("it was not used up");
                let is_sealed = request.uri().path() == "/sealed";
                let body = if is_sealed { sealer.seal(validated).expect("a seal") } else { String::new() };
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
            }
        }
    }));

    let push = || {
        let request = Request::post("/par").header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(Full::<Bytes>::from(REQUEST)).expect("a request");
        let answer = par.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
        let body = answer.into_body().collect().now_or_never().expect("nothing waits").expect("infallible").to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        answer["request_uri"].as_str().expect("it was taken").to_owned()
    };
    let ask = |path: &str, query: &str| {
        let request = Request::get(format!("{path}?{query}")).body(Full::default()).expect("a request");
        let answer = authorize.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
        answer.into_body().collect().now_or_never().expect("nothing waits").expect("infallible").to_bytes()
    };
    measure::print_table(
        "A request in process",
        vec![
            Subject::new("plain", || black_box(ask("/authorize", REQUEST))),
            Subject::new("pushed, found and used up", || {
                black_box(ask("/authorize", &format!("client_id=app&request_uri={}", push())))
            }),
            Subject::new("plain, sealed, opened and judged again", || {
                let seal = ask("/sealed", REQUEST);
                let seal = std::str::from_utf8(&seal).expect("a seal is text");
                let opened = sealer.open(seal, &registry, &validator).now_or_never().expect("nothing waits");
                black_box(opened.expect("it was sealed here"))
            }),
        ],
    );
}

const ISSUER: &str = "https://login.example";

fn signed() {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let signing = EncodingKey::from_ec_der(&pair.serialize_der());
    let public = Jwk::from_encoding_key(&signing, Algorithm::ES256).expect("a public key");
    let verifying = DecodingKey::from_jwk(&public).expect("a public key");
    let client = json!({
        "client_id": "app", "redirect_uris": ["https://app.example/callback"], "jwks": { "keys": [public] },
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({
        "iss": "app", "client_id": "app", "aud": ISSUER, "exp": now + 3_000, "response_type": "code",
        "redirect_uri": "https://app.example/callback", "state": "af0ifjsldkj8d7f6g5h4",
    });
    let object = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &signing).expect("a signature");
    let layer =
        ClientValidationLayer::new(MemoryRegistry::from_clients([Client::from_metadata(client).expect("a client")]))
            .policy(Policy::oauth2().issuer(ISSUER).build().expect("a policy"))
            .signed_requests(SignedRequests::builder(ISSUER).build().expect("an issuer"));
    let (parts, ()) =
        Request::get(format!("/authorize?client_id=app&request={object}")).body(()).expect("a request").into_parts();
    let (message, signature) = object.rsplit_once('.').expect("a JWS");

    let count = if measure::is_quick() { 200 } else { 20_000 };
    let (mut bare, mut judged) = (0.0, 0.0);
    // In turn, since the speed of a machine changes.
    for _ in 0..count {
        let start = Instant::now();
        let verified = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &verifying, Algorithm::ES256);
        assert!(verified.expect("a verdict"));
        bare += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let verdict = layer.judge(&parts, Bytes::new()).now_or_never().expect("nothing waits");
        assert!(matches!(verdict, Verdict::Accepted(_)));
        judged += start.elapsed().as_secs_f64();
    }
    println!(
        "\nsigned requests (ES256): {:.0}% of the rate of bare signature checks ({:.1} µs against {:.1} µs)",
        100.0 * bare / judged,
        judged * 1e6 / f64::from(count),
        bare * 1e6 / f64::from(count),
    );
}
