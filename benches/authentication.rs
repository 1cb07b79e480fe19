//! The cost of client authentication above the bare service, and how a flood of wrong secrets slows down other clients.
//!
//! `cargo bench -p integration-tests --bench authentication --features client-authentication`

#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use argon2::password_hash::PasswordHasher;
use argon2::{Argon2, PasswordHash};
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthenticationPolicy, Client, ClientAuthenticationLayer, ClientAuthenticator, MemoryRegistry, MemoryStateStore,
};

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, Subject, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ISSUER: &str = "https://login.example";
/// SHA-256 of `secret`.
const SECRET_SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
    public: Value,
}

fn keys() -> Keys {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let signing = EncodingKey::from_ec_der(&pair.serialize_der());
    let public = Jwk::from_encoding_key(&signing, Algorithm::ES256).expect("a public key");
    let verifying = DecodingKey::from_jwk(&public).expect("a public key");
    Keys { signing, verifying, public: json!({ "keys": [public] }) }
}

fn clients(keys: &Keys) -> MemoryRegistry {
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(b"secret", b"0123456789abcdef").expect("a hash");
    let clients = [
        json!({ "client_id": "public", "token_endpoint_auth_method": "none" }),
        json!({ "client_id": "secret", "client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "hashed", "client_secret_hash": hash.to_string() }),
        json!({ "client_id": "jwt", "token_endpoint_auth_method": "private_key_jwt", "jwks": keys.public }),
    ];
    MemoryRegistry::from_clients(clients.map(|client| Client::from_metadata(client).expect("a client")))
}

fn policy() -> AuthenticationPolicy {
    let store = Arc::new(MemoryStateStore::new());
    AuthenticationPolicy::builder().issuer(ISSUER).replay_store(store).build().expect("a policy")
}

fn assertion(keys: &Keys, id: usize) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({ "iss": "jwt", "sub": "jwt", "aud": ISSUER, "exp": now + 300, "jti": id.to_string() });
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &keys.signing).expect("a signature")
}

fn form(body: &Bytes) -> Request<Full<Bytes>> {
    Request::post("/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(body.clone()))
        .expect("a request")
}

fn main() {
    measure::describe_machine();
    let keys = keys();
    what_a_request_costs(&keys);
    what_a_flood_takes(&keys);
}

fn what_a_request_costs(keys: &Keys) {
    let inner = service_fn(|request: Request<Full<Bytes>>| {
        black_box(&request);
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let layer = ClientAuthenticationLayer::new(clients(keys), policy());
    let service = ServiceBuilder::new().layer(layer).service(inner);
    let public = Bytes::from_static(b"client_id=public&grant_type=authorization_code&code=abc");
    let secret = Bytes::from_static(b"client_id=secret&client_secret=secret&grant_type=authorization_code&code=abc");
    let wrong = Bytes::from_static(b"client_id=secret&client_secret=wrong&grant_type=authorization_code&code=abc");
    let send = |service: &_, body: &Bytes| ServiceExt::oneshot(Clone::clone(service), form(body)).now_or_never();
    measure::print_table(
        "A request in process",
        vec![
            Subject::new("bare service", || inner.oneshot(form(&public)).now_or_never()),
            Subject::new("none", || send(&service, &public)),
            Subject::new("client_secret_post, SHA-256", || send(&service, &secret)),
            Subject::new("a wrong secret", || send(&service, &wrong)),
        ],
    );

    // Each assertion is taken once, so there is one for each call.
    let authenticator = ClientAuthenticator::new(clients(keys), policy());
    let count = if measure::is_quick() { 200 } else { 20_000 };
    let assertions: Vec<String> = (0..count).map(|id| assertion(keys, id)).collect();
    let (parts, _) = form(&Bytes::new()).into_parts();
    let (mut bare, mut authenticated) = (Duration::ZERO, Duration::ZERO);
    // In turn, since the speed of a machine changes.
    for assertion in &assertions {
        let start = Instant::now();
        let (message, signature) = assertion.rsplit_once('.').expect("a JWS");
        let verified = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &keys.verifying, Algorithm::ES256);
        assert!(verified.expect("a verdict"));
        bare += start.elapsed();
        let body = assertion_form(assertion);
        let start = Instant::now();
        let decision = authenticator.authenticate(&parts, body.as_bytes()).now_or_never().expect("nothing waits");
        assert!(decision.is_ok());
        authenticated += start.elapsed();
    }
    println!(
        "\nprivate_key_jwt (ES256): {:.0}% of the rate of bare signature checks ({:.1} µs against {:.1} µs)",
        100.0 * bare.as_secs_f64() / authenticated.as_secs_f64(),
        micros(authenticated, count),
        micros(bare, count),
    );
}

fn assertion_form(assertion: &str) -> String {
    format!(
        "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion={assertion}"
    )
}

fn micros(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_secs_f64() * 1e6 / count as f64
}

/// Requests with `private_key_jwt` while 10,000 wrong secrets a second arrive for a client with a password hash.
fn what_a_flood_takes(keys: &Keys) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let authenticator = ClientAuthenticator::new(clients(keys), policy());
    let count = if measure::is_quick() { 100 } else { 5_000 };
    let assertions: Vec<String> = (0..2 * count).map(|id| assertion(keys, id)).collect();
    let run = |assertions: &[String]| {
        let authenticator = authenticator.clone();
        let bodies: Vec<String> = assertions.iter().map(|assertion| assertion_form(assertion)).collect();
        let start = Instant::now();
        runtime.block_on(async move {
            let (parts, _) = form(&Bytes::new()).into_parts();
            for body in bodies {
                assert!(authenticator.authenticate(&parts, body.as_bytes()).await.is_ok());
            }
        });
        start.elapsed()
    };
    let quiet = run(&assertions[..count]);
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let (authenticator, stop) = (authenticator.clone(), Arc::clone(&stop));
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                for _ in 0..100 {
                    let authenticator = authenticator.clone();
                    tokio::spawn(async move {
                        let (parts, _) = form(&Bytes::new()).into_parts();
                        let _ = authenticator.authenticate(&parts, b"client_id=hashed&client_secret=wrong").await;
                    });
                }
            }
        })
    };
    let flooded = run(&assertions[count..]);
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(flood).expect("the flood ends");
    println!(
        "under 10,000 wrong secrets a second for a client with a password hash: {:.2} of the time without them",
        flooded.as_secs_f64() / quiet.as_secs_f64(),
    );
}
