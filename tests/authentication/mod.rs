//! Client authentication: each case of `tests/vectors/authentication.json` runs against the pure authenticator and
//! through the layer. The rest is what a vector cannot say.

#[cfg(feature = "metadata-document")]
mod fetched_keys;
mod log;
mod property;
mod vectors;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use argon2::password_hash::PasswordHasher;
use argon2::{Argon2, Params};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth_client_validation::{
    AuthenticatedClient, AuthenticationError, AuthenticationFailure, AuthenticationMethod, AuthenticationPolicy, Claim,
    Client, ClientAuthenticationLayer, ClientAuthenticator, CustomMethod, FormParameters, KeyError, KeySource,
    MemoryRegistry, MemoryStateStore, RegistryError, registry_fn,
};

use crate::signing::{key_set, sign};

pub(crate) const ISSUER: &str = "https://login.example";
const FORM: &str = "application/x-www-form-urlencoded";
/// SHA-256 of `secret`.
const SECRET_SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// A PHC string of `secret`, as cheap as Argon2 can be.
fn phc() -> String {
    let argon2 = Argon2::from(Params::new(8, 1, 1, None).unwrap());
    let hash: argon2::PasswordHash = argon2.hash_password_with_salt(b"secret", b"0123456789abcdef").unwrap();
    hash.to_string()
}

fn policy() -> AuthenticationPolicy {
    let store = Arc::new(MemoryStateStore::new());
    AuthenticationPolicy::builder().issuer(ISSUER).replay_store(store).build().unwrap()
}

fn form(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/token").header("content-type", FORM).body(Full::new(body.into())).unwrap()
}

/// An assertion of the client `jwt` that is right, but for these claims.
fn assertion(change: &Value) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "iss": "jwt", "sub": "jwt", "aud": ISSUER, "exp": now + 60, "jti": "1" });
    claims.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap_or_default());
    let header = json!({ "alg": "ES256", "kid": "es256" });
    sign("es256", header.as_object().unwrap(), claims.as_object().unwrap())
}

fn assertion_form(assertion: &str) -> String {
    format!(
        "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion={assertion}"
    )
}

fn jwt_client() -> Client {
    let metadata = json!({
        "client_id": "jwt",
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": key_set(&["es256"], &json!({})),
    });
    Client::from_metadata(metadata).unwrap()
}

fn secret_client(id: &str, member: &str, value: &str) -> Client {
    Client::builder(id).confidential().metadata(member, value).build().unwrap()
}

async fn refusal(
    authenticator: &ClientAuthenticator<impl tower_oauth_client_validation::RegistrySource>,
    body: &str,
) -> AuthenticationFailure {
    let (parts, _) = form("").into_parts();
    authenticator.authenticate(&parts, body.as_bytes()).await.unwrap_err().failure()
}

#[tokio::test]
async fn racing_nodes_accept_an_assertion_once() {
    let store = Arc::new(MemoryStateStore::new());
    let node = || {
        let policy = AuthenticationPolicy::builder().issuer(ISSUER).replay_store(store.clone()).build().unwrap();
        ClientAuthenticator::new(MemoryRegistry::from_clients([jwt_client()]), policy)
    };
    let body = assertion_form(&assertion(&json!({})));
    let (parts, _) = form("").into_parts();
    let attempts = (0..32).map(|_| {
        let (node, parts, body) = (node(), parts.clone(), body.clone());
        tokio::spawn(async move { node.authenticate(&parts, body.as_bytes()).await.map_err(|error| error.failure()) })
    });
    let mut accepted = 0;
    for attempt in futures::future::join_all(attempts).await {
        match attempt.unwrap() {
            Ok(_) => accepted += 1,
            Err(failure) => assert_eq!(failure, AuthenticationFailure::AssertionReplayed),
        }
    }
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn two_clients_may_have_assertions_of_the_same_id() {
    let other = Client::from_metadata(json!({
        "client_id": "other",
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": key_set(&["es256"], &json!({})),
    }));
    let authenticator =
        ClientAuthenticator::new(MemoryRegistry::from_clients([jwt_client(), other.unwrap()]), policy());
    let (parts, _) = form("").into_parts();
    for id in ["jwt", "other"] {
        let body = assertion_form(&assertion(&json!({ "iss": id, "sub": id })));
        assert!(authenticator.authenticate(&parts, body.as_bytes()).await.is_ok(), "{id}");
        assert_eq!(refusal(&authenticator, &body).await, AuthenticationFailure::AssertionReplayed);
    }
    let long = assertion_form(&assertion(&json!({ "jti": "x".repeat(1025) })));
    assert_eq!(refusal(&authenticator, &long).await, AuthenticationFailure::AssertionId);
}

#[tokio::test]
async fn an_assertion_that_was_refused_is_not_used_up() {
    let authenticator = ClientAuthenticator::new(MemoryRegistry::from_clients([jwt_client()]), policy());
    let (parts, _) = form("").into_parts();
    let wrong = assertion_form(&assertion(&json!({ "aud": "https://other.example" })));
    assert_eq!(refusal(&authenticator, &wrong).await, AuthenticationFailure::AssertionAudience);
    let right = assertion_form(&assertion(&json!({})));
    assert!(authenticator.authenticate(&parts, right.as_bytes()).await.is_ok());
}

#[tokio::test]
async fn the_inner_service_gets_the_same_body_and_the_client() {
    let clients = MemoryRegistry::from_clients([Client::builder("app").build().unwrap()]);
    let layer = ClientAuthenticationLayer::new(clients, policy());
    let service = ServiceBuilder::new().layer(layer).service_fn(|request: Request<Full<Bytes>>| async move {
        let caller = request.extensions().get::<AuthenticatedClient>().unwrap().clone();
        assert_eq!((caller.client_id(), caller.method()), ("app", AuthenticationMethod::None));
        assert_eq!(caller.parameters().get("code"), Some("a b"));
        Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
    });
    let body = "client_id=app&code=a+b&&unknown=%41";
    let response = service.oneshot(form(body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
}

#[tokio::test]
async fn a_refused_request_frees_the_inner_service_at_once() {
    let clients = MemoryRegistry::from_clients([Client::builder("app").build().unwrap()]);
    let (service, mut inner) = tower_test::mock::spawn_layer(ClientAuthenticationLayer::new(clients, policy()));
    let mut service: tower_test::mock::Spawn<_> = service;
    inner.allow(1);
    assert!(service.poll_ready().is_ready());
    let response: Response<Full<Bytes>> = service.call(form("client_id=nobody")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let error = response.extensions().get::<AuthenticationError>().unwrap();
    assert_eq!(error.failure(), AuthenticationFailure::ClientUnknown);
    let _: tower_test::mock::Handle<Request<Full<Bytes>>, Response<Full<Bytes>>> = inner;
}

#[tokio::test]
async fn answers_of_registry_failures_are_not_refusals() {
    for (error, failure, status) in [
        (RegistryError::transient("down"), AuthenticationFailure::RegistryUnavailable, 503),
        (RegistryError::permanent("broken"), AuthenticationFailure::RegistryFault, 500),
    ] {
        let registry = registry_fn(move |_: String| std::future::ready(Err(error.clone())));
        let (parts, _) = form("").into_parts();
        let refused = ClientAuthenticator::new(registry, policy()).authenticate(&parts, b"client_id=app").await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.failure(), refused.status().as_u16()), (failure, status));
        let response: Response<Bytes> = refused.into_response();
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}

/// Keys that only a refresh finds.
struct RotatedKeys;

impl KeySource for RotatedKeys {
    fn keys<'a>(&'a self, _client: &'a Client, refresh: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>> {
        let names: &[&str] = if refresh { &["es256"] } else { &["rsa"] };
        std::future::ready(Ok(Some(Arc::new(key_set(names, &json!({})))))).boxed()
    }
}

#[tokio::test]
async fn a_rotated_key_is_fetched_again() {
    let policy = AuthenticationPolicy::builder()
        .issuer(ISSUER)
        .replay_store(Arc::new(MemoryStateStore::new()))
        .keys(RotatedKeys)
        .build()
        .unwrap();
    let authenticator = ClientAuthenticator::new(MemoryRegistry::from_clients([jwt_client()]), policy);
    let (parts, _) = form("").into_parts();
    let body = assertion_form(&assertion(&json!({})));
    assert!(authenticator.authenticate(&parts, body.as_bytes()).await.is_ok());
}

#[cfg(feature = "registration")]
#[tokio::test]
async fn a_client_that_registered_its_keys_authenticates_with_them() {
    use tower_oauth_client_validation::RegistrationPolicy;

    let metadata = json!({
        "redirect_uris": ["https://app.example/cb"],
        "token_endpoint_auth_method": "client_secret_jwt",
        "token_endpoint_auth_methods_supported": ["tls_client_auth", "private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg": "ES256",
        "jwks": key_set(&["es256"], &json!({})),
    });
    let policy = policy();
    let rules = RegistrationPolicy::new().auth_methods(policy.methods());
    let authenticator =
        ClientAuthenticator::new(MemoryRegistry::from_clients([rules.judge("jwt", metadata).unwrap()]), policy);
    let (parts, _) = form("").into_parts();
    let body = assertion_form(&assertion(&json!({})));
    assert!(authenticator.authenticate(&parts, body.as_bytes()).await.is_ok());
    assert_eq!(refusal(&authenticator, "client_id=jwt").await, AuthenticationFailure::MethodNotRegistered);
}

struct NoKeys;

impl KeySource for NoKeys {
    fn keys<'a>(&'a self, _client: &'a Client, _refresh: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>> {
        std::future::ready(Err(KeyError::new("unreachable"))).boxed()
    }
}

#[tokio::test]
async fn unavailable_keys_are_not_a_wrong_signature() {
    let store = Arc::new(MemoryStateStore::new());
    let policy = AuthenticationPolicy::builder().issuer(ISSUER).replay_store(store).keys(NoKeys).build().unwrap();
    let authenticator = ClientAuthenticator::new(MemoryRegistry::from_clients([jwt_client()]), policy);
    let body = assertion_form(&assertion(&json!({})));
    assert_eq!(refusal(&authenticator, &body).await, AuthenticationFailure::KeysUnavailable);
}

#[tokio::test]
async fn password_hashes_beyond_the_queue_are_refused() {
    let expensive = Argon2::from(Params::new(19_456, 2, 1, None).unwrap());
    let hash: argon2::PasswordHash = expensive.hash_password_with_salt(b"secret", b"0123456789abcdef").unwrap();
    let clients = MemoryRegistry::from_clients([secret_client("app", "client_secret_hash", &hash.to_string())]);
    let policy = AuthenticationPolicy::builder().max_concurrent_hashes(1).build().unwrap();
    let authenticator = ClientAuthenticator::new(clients, policy);
    let (parts, _) = form("").into_parts();
    let attempts = (0..64).map(|_| authenticator.authenticate(&parts, b"client_id=app&client_secret=wrong"));
    let failures: Vec<_> =
        futures::future::join_all(attempts).await.into_iter().map(|result| result.unwrap_err().failure()).collect();
    let count = |failure| failures.iter().filter(|found| **found == failure).count();
    // One for each permit and the sixteen that wait for it; the permits are shared by those that run.
    assert_eq!(count(AuthenticationFailure::SecretWrong), 16, "{failures:?}");
    assert_eq!(count(AuthenticationFailure::Busy), 48);
}

/// Otherwise the time would tell which clients exist.
#[tokio::test]
async fn once_a_client_has_a_password_hash_every_wrong_secret_costs_one() {
    let expensive = Argon2::from(Params::new(19_456, 2, 1, None).unwrap());
    let hash: argon2::PasswordHash = expensive.hash_password_with_salt(b"secret", b"0123456789abcdef").unwrap();
    let clients = MemoryRegistry::from_clients([
        secret_client("hashed", "client_secret_hash", &hash.to_string()),
        secret_client("generated", "client_secret_sha256", SECRET_SHA256),
        Client::builder("public").build().unwrap(),
    ]);
    let policy = AuthenticationPolicy::builder().max_concurrent_hashes(1).build().unwrap();
    let authenticator = ClientAuthenticator::new(clients, policy);
    let (parts, _) = form("").into_parts();
    assert!(authenticator.authenticate(&parts, b"client_id=hashed&client_secret=secret").await.is_ok());
    for id in ["nobody", "generated", "public"] {
        let body = format!("client_id={id}&client_secret=wrong");
        let attempts = (0..32).map(|_| authenticator.authenticate(&parts, body.as_bytes()));
        let refused = futures::future::join_all(attempts).await;
        let is_busy = |result: &Result<_, AuthenticationError>| {
            result.as_ref().is_err_and(|error| error.failure() == AuthenticationFailure::Busy)
        };
        assert_eq!(refused.iter().filter(|result| is_busy(result)).count(), 16, "{id}");
    }
    // The right secret never waits for them.
    let right = b"client_id=generated&client_secret=secret";
    let attempts = (0..32).map(|_| authenticator.authenticate(&parts, right));
    assert!(futures::future::join_all(attempts).await.iter().all(Result::is_ok));
}

struct HeaderMethod;

impl CustomMethod for HeaderMethod {
    fn name(&self) -> &'static str {
        "tls_client_auth"
    }

    fn claim(&self, parts: &http::request::Parts, parameters: &FormParameters) -> Claim {
        match parameters.get("client_id").filter(|_| parts.headers.contains_key("x-client-subject")) {
            Some(id) => Claim::Client(id.to_owned()),
            None => Claim::Absent,
        }
    }

    fn verify<'a>(
        &'a self,
        _client: &'a Client,
        parts: &'a http::request::Parts,
        _parameters: &'a FormParameters,
    ) -> BoxFuture<'a, Result<(), AuthenticationError>> {
        let is_right = parts.headers["x-client-subject"] == "CN=app";
        std::future::ready(is_right.then_some(()).ok_or_else(AuthenticationError::credentials_refused)).boxed()
    }
}

#[tokio::test]
async fn a_custom_method_decides_for_the_clients_that_are_registered_for_it() {
    let client = |id: &str, method: &str| {
        Client::from_metadata(json!({ "client_id": id, "token_endpoint_auth_method": method })).unwrap()
    };
    let clients =
        MemoryRegistry::from_clients([client("app", "tls_client_auth"), client("other", "client_secret_basic")]);
    let policy = AuthenticationPolicy::builder().custom_method(HeaderMethod).build().unwrap();
    let authenticator = ClientAuthenticator::new(clients, policy);
    let ask = async |subject: &str, body: &str| {
        let request = Request::post("/token").header("content-type", FORM).header("x-client-subject", subject);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        authenticator.authenticate(&parts, body.as_bytes()).await.map_err(|error| error.failure())
    };
    let accepted = ask("CN=app", "client_id=app").await.unwrap();
    assert_eq!(accepted.method(), AuthenticationMethod::Custom("tls_client_auth"));
    for (subject, body, failure) in [
        ("CN=evil", "client_id=app", AuthenticationFailure::CredentialsRefused),
        ("CN=app", "client_id=other", AuthenticationFailure::MethodNotRegistered),
        ("CN=app", "client_id=app&client_secret=x", AuthenticationFailure::SeveralMethods),
    ] {
        assert_eq!(ask(subject, body).await.unwrap_err(), failure, "{subject} {body}");
    }
    assert_eq!(refusal(&authenticator, "client_id=app").await, AuthenticationFailure::MethodNotRegistered);
}

#[test]
fn wrong_settings_are_named() {
    let builder = AuthenticationPolicy::builder;
    let jwt = [AuthenticationMethod::PrivateKeyJwt];
    let store = Arc::new(MemoryStateStore::new());
    for (builder, setting) in [
        (builder().methods([]), "methods"),
        (builder().methods([AuthenticationMethod::None, AuthenticationMethod::None]), "methods"),
        (builder().methods(jwt), "issuer"),
        (builder().methods(jwt).issuer(ISSUER), "replay_store"),
        (builder().methods(jwt).issuer(ISSUER).replay_store(store).signing_algorithms([]), "signing_algorithms"),
        (builder().max_concurrent_hashes(0), "max_concurrent_hashes"),
    ] {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
    let default = builder().build().unwrap();
    assert!(default.methods().all(|method| method != AuthenticationMethod::PrivateKeyJwt));
    assert_eq!(default.signing_algorithms().count(), 0);
    let names: Vec<_> = policy().signing_algorithms().map(|algorithm| algorithm.as_str()).collect();
    assert_eq!(names, ["ES256", "EdDSA", "PS256", "RS256"]);
}

#[tokio::test]
async fn an_expired_assertion_is_refused_by_the_clock_that_is_given() {
    let authenticator = ClientAuthenticator::new(MemoryRegistry::from_clients([jwt_client()]), policy());
    let (parts, _) = form("").into_parts();
    let body = assertion_form(&assertion(&json!({})));
    let later = SystemTime::now() + Duration::from_secs(60 + 61);
    let refused = authenticator.authenticate_at(&parts, body.as_bytes(), later).await.unwrap_err();
    assert_eq!(refused.failure(), AuthenticationFailure::AssertionExpiry);
}

#[test]
fn debug_output_holds_no_secret() {
    let rendered = futures::executor::block_on(async {
        let clients = MemoryRegistry::from_clients([secret_client("app", "client_secret_sha256", SECRET_SHA256)]);
        let (parts, _) = form("").into_parts();
        let authenticator = ClientAuthenticator::new(clients, policy());
        let client = authenticator.authenticate(&parts, b"client_id=app&client_secret=secret&code=xyzzy").await;
        format!("{:?} {authenticator:?}", client.unwrap())
    });
    assert!(
        !rendered.contains("=secret") && !rendered.contains("xyzzy") && !rendered.contains(SECRET_SHA256),
        "{rendered}"
    );
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
