//! The cases of `tests/vectors/authentication.json`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth_client_validation::{
    AuthenticatedClient, AuthenticationError, AuthenticationPolicy, Client, ClientAuthenticationLayer,
    ClientAuthenticator, KeyError, KeySource, MemoryRegistry, MemoryStateStore, RegistryError, RegistrySource,
    StateBounds, StateError, StateStore, registry_fn,
};
use url::form_urlencoded;

use super::{ISSUER, SECRET_SHA256, object, phc};
use crate::signing::{key_set, sign};

/// SHA-256 of `new`.
const NEW_SHA256: &str = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    /// The RFC section, CVE or client that the case is taken from.
    source: String,
    #[serde(default)]
    strict: bool,
    legacy_audience: Option<String>,
    method: Option<String>,
    #[serde(default)]
    query: String,
    content_type: Option<Vec<String>>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// `id:secret`, sent as `Authorization: Basic`.
    basic: Option<String>,
    #[serde(default)]
    form: String,
    assertion: Option<Assertion>,
    /// How often the request was sent before.
    #[serde(default)]
    repeats: usize,
    /// What is wrong with the store of used assertions: `down` or `broken`.
    state: Option<String>,
    expect: Expect,
}

/// What differs from an assertion that is right.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assertion {
    #[serde(default = "es256")]
    key: String,
    #[serde(default)]
    header: Map<String, Value>,
    /// `null` removes a claim; `{"now": seconds}` is a time.
    #[serde(default)]
    claims: Map<String, Value>,
    /// The assertion, in place of one that is signed.
    text: Option<String>,
}

fn es256() -> String {
    "es256".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Expect {
    /// The client and its method.
    Accepted(String, String),
    /// The status and the reason.
    Refused(u16, String),
}

/// The clients. Lookups of the ids `registry-…` fail.
fn registry() -> impl RegistrySource<Future: Send> + Send + Sync + 'static {
    let clients = clients();
    registry_fn(move |id: String| {
        std::future::ready(match &*id {
            "registry-down" => Err(RegistryError::transient("connection refused")),
            "registry-broken" => Err(RegistryError::permanent("no such table")),
            "registry-confused" => Ok(clients.get("public")),
            _ => Ok(clients.get(&id)),
        })
    })
}

/// The keys that clients registered; those of `jwt-keys-down` cannot be had.
struct Keys;

impl KeySource for Keys {
    fn keys<'a>(&'a self, client: &'a Client, _refresh: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>> {
        let keys = match client.id() {
            "jwt-keys-down" => Err(KeyError::new("connection refused")),
            _ => Ok(client.jwks().cloned().map(Arc::new)),
        };
        std::future::ready(keys).boxed()
    }
}

/// A store that fails.
struct NoStore(fn() -> StateError);

impl StateStore for NoStore {
    fn put_new_bounded(
        &self,
        _key: &str,
        _value: &[u8],
        _lifetime: Duration,
        _bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        std::future::ready(Err(self.0())).boxed()
    }

    fn get(&self, _key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        std::future::ready(Err(self.0())).boxed()
    }

    fn take(&self, _key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        std::future::ready(Err(self.0())).boxed()
    }
}

fn clients() -> MemoryRegistry {
    let keys = key_set(&["es256", "eddsa", "rsa"], &json!({}));
    let mut clients = vec![
        json!({ "client_id": "public", "token_endpoint_auth_method": "none" }),
        json!({ "client_id": "basic", "client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "post", "token_endpoint_auth_method": "client_secret_post", "client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "plain", "client_secret": "secret" }),
        json!({ "client_id": "hashed", "client_secret_hash": phc() }),
        json!({ "client_id": "file-hashed", "client_secret": phc() }),
        json!({ "client_id": "bcrypt", "client_secret": "$2b$12$abcdefghijklmnopqrstuv" }),
        json!({ "client_id": "rotating", "client_secret_sha256": NEW_SHA256, "previous_client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "no-secret" }),
        json!({ "client_id": "empty-secret", "client_secret": "" }),
        // SHA-256 of `a+b%c:d`.
        json!({ "client_id": "odd app+1%2", "client_secret": "a+b%c:d" }),
        json!({ "client_id": "disabled", "client_secret_sha256": SECRET_SHA256, "disabled": true }),
        json!({ "client_id": "revoked", "client_secret_sha256": SECRET_SHA256, "revoked": true }),
        json!({ "client_id": "expired", "client_secret_sha256": SECRET_SHA256, "expires_at": 1 }),
        json!({ "client_id": "disabled-public", "token_endpoint_auth_method": "none", "disabled": true }),
        json!({ "client_id": "revoked-public", "token_endpoint_auth_method": "none", "revoked": true }),
        json!({ "client_id": "expired-public", "token_endpoint_auth_method": "none", "expires_at": 1 }),
        json!({ "client_id": "saml", "token_endpoint_auth_method": "urn:example:saml" }),
    ];
    let one_key = |name: &str, usage: &str| key_set(&[name], &json!({ "use": usage }))["keys"][0].clone();
    let (encrypting, signing) = (one_key("rsa", "enc"), one_key("es256", "sig"));
    let assertive = |id: &str, more: Value| {
        let mut client = json!({ "client_id": id, "token_endpoint_auth_method": "private_key_jwt", "jwks": keys });
        client.as_object_mut().unwrap().extend(object(&more));
        client
    };
    clients.extend([
        assertive("jwt", json!({})),
        assertive("jwt-es256", json!({ "token_endpoint_auth_signing_alg": "ES256" })),
        assertive("jwt-enc", json!({ "jwks": key_set(&["es256"], &json!({ "use": "enc" })) })),
        assertive(
            "jwt-sig",
            json!({ "jwks": key_set(&["es256"], &json!({ "use": "sig", "alg": "ES256", "key_ops": ["verify"] })) }),
        ),
        assertive("jwt-ops", json!({ "jwks": key_set(&["es256"], &json!({ "key_ops": ["encrypt"] })) })),
        assertive("jwt-alg", json!({ "jwks": key_set(&["es256"], &json!({ "alg": "ES384" })) })),
        assertive("jwt-empty", json!({ "jwks": { "keys": [] } })),
        assertive("jwt-none", json!({ "jwks": null })),
        assertive("jwt-both", json!({ "jwks": { "keys": [encrypting, signing] } })),
        assertive("jwt-keys-down", json!({})),
        assertive("jwt-disabled", json!({ "disabled": true })),
        assertive("jwt-revoked", json!({ "revoked": true })),
        assertive("jwt-expired", json!({ "expires_at": 1 })),
        // As ChatGPT publishes itself: the singular member names what it prefers, the plural one what it can do.
        assertive(
            "choices",
            json!({ "token_endpoint_auth_methods_supported": ["tls_client_auth", "none", "private_key_jwt"] }),
        ),
        assertive("choices-jwt", json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"] })),
        assertive("choices-other", json!({ "token_endpoint_auth_methods_supported": ["tls_client_auth"] })),
        assertive("choices-none", json!({ "token_endpoint_auth_methods_supported": [] })),
        json!({
            "client_id": "choices-secret",
            "client_secret_sha256": SECRET_SHA256,
            "token_endpoint_auth_methods_supported": ["client_secret_jwt", "client_secret_post", "none"],
        }),
    ]);
    MemoryRegistry::from_clients(clients.into_iter().map(|client| Client::from_metadata(client).unwrap()))
}

impl Vector {
    fn policy(&self) -> AuthenticationPolicy {
        let store: Arc<dyn StateStore> = match self.state.as_deref() {
            None => Arc::new(MemoryStateStore::new()),
            Some("down") => Arc::new(NoStore(|| StateError::unavailable("connection refused"))),
            Some(_) => Arc::new(NoStore(|| StateError::failed("no such table"))),
        };
        let builder = AuthenticationPolicy::builder()
            .issuer(ISSUER)
            .replay_store(store)
            .keys(Keys)
            .strict_secret_methods(self.strict);
        let audience = self.legacy_audience.iter();
        audience.fold(builder, |builder, url| builder.legacy_audience(url)).build().unwrap()
    }

    fn request(&self) -> (Parts, Bytes) {
        let mut request = Request::builder().method(self.method.as_deref().unwrap_or("POST")).uri(format!(
            "/token{}{}",
            if self.query.is_empty() { "" } else { "?" },
            self.query
        ));
        let form = vec!["application/x-www-form-urlencoded".to_owned()];
        for value in self.content_type.as_ref().unwrap_or(&form) {
            request = request.header("content-type", value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(basic) = &self.basic {
            request = request.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(basic)));
        }
        let mut body =
            self.form.replace("{phc}", &form_urlencoded::byte_serialize(phc().as_bytes()).collect::<String>());
        if let Some(assertion) = &self.assertion {
            body = body.replace("{assertion}", &assertion.text());
        }
        (request.body(()).unwrap().into_parts().0, body.into())
    }
}

impl Assertion {
    fn text(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut header = object(&json!({ "alg": "ES256", "typ": "JWT" }));
        let mut claims =
            object(&json!({ "iss": "jwt", "sub": "jwt", "aud": ISSUER, "exp": now + 60, "iat": now, "jti": "id" }));
        let change = |members: &mut Map<String, Value>, changes: &Map<String, Value>| {
            for (name, value) in changes {
                let in_seconds = value.get("now");
                match (in_seconds.and_then(Value::as_i64), in_seconds.and_then(Value::as_f64)) {
                    (Some(seconds), _) => members.insert(name.clone(), (i64::try_from(now).unwrap() + seconds).into()),
                    (None, Some(seconds)) => members.insert(name.clone(), (now as f64 + seconds).into()),
                    (None, None) if value.is_null() => members.remove(name),
                    (None, None) => members.insert(name.clone(), value.clone()),
                };
            }
        };
        change(&mut header, &self.header);
        change(&mut claims, &self.claims);
        sign(&self.key, &header, &claims)
    }
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/authentication.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn observe(result: Result<AuthenticatedClient, AuthenticationError>) -> String {
    match result {
        Ok(client) => format!("accepted {} {}", client.client_id(), client.method()),
        Err(error) => format!("refused {} {}", error.status().as_u16(), error.failure().as_str()),
    }
}

#[tokio::test]
async fn each_vector_gets_the_expected_outcome() {
    let mut failures = Vec::new();
    for vector in vectors() {
        let expected = match &vector.expect {
            Expect::Accepted(client, method) => format!("accepted {client} {method}"),
            Expect::Refused(status, reason) => format!("refused {status} {reason}"),
        };
        for (how, observed) in [("pure", pure(&vector).await), ("layer", layered(&vector).await)] {
            if observed != expected {
                failures.push(format!("{} ({how}): expected {expected}, got {observed}", vector.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn pure(vector: &Vector) -> String {
    let authenticator = ClientAuthenticator::new(registry(), vector.policy());
    let (parts, body) = vector.request();
    for _ in 0..vector.repeats {
        authenticator.authenticate(&parts, &body).await.unwrap();
    }
    observe(authenticator.authenticate(&parts, &body).await)
}

async fn layered(vector: &Vector) -> String {
    let layer = ClientAuthenticationLayer::new(registry(), vector.policy());
    let service = ServiceBuilder::new().layer(layer).service_fn(|request: Request<Full<Bytes>>| async move {
        let client = request.extensions().get::<AuthenticatedClient>().cloned().unwrap();
        let mut response = Response::new(request.into_body());
        response.extensions_mut().insert(client);
        Ok::<_, std::convert::Infallible>(response)
    });
    let (parts, body) = vector.request();
    let send = || service.clone().oneshot(Request::from_parts(parts.clone(), Full::new(body.clone())));
    for _ in 0..vector.repeats {
        send().await.unwrap();
    }
    let response = send().await.unwrap();
    let (head, answer) = response.into_parts();
    let answer = answer.collect().await.unwrap().to_bytes();
    match (head.extensions.get::<AuthenticatedClient>(), head.extensions.get::<AuthenticationError>()) {
        (Some(client), None) if answer == body => observe(Ok(client.clone())),
        (None, Some(error)) => check_answer(&head, &answer, error, parts.headers.contains_key("authorization")),
        _ => "neither the inner service's answer nor a refusal".to_owned(),
    }
}

/// RFC 6749 §5.2.
fn check_answer(
    head: &http::response::Parts,
    answer: &Bytes,
    error: &AuthenticationError,
    used_authorization: bool,
) -> String {
    let body: Value = serde_json::from_slice(answer).unwrap();
    let challenge = head.headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let is_challenged = challenge.as_deref().is_some_and(|challenge| challenge.starts_with("Basic "));
    let allows = head.headers.get("allow").map(|value| value.to_str().unwrap());
    let is_right = body["error"] == error.error()
        && head.status == error.status()
        && head.headers["content-type"] == "application/json"
        && head.headers["cache-control"] == "no-store"
        && is_challenged == (head.status == 401 && used_authorization)
        && (head.status != 401 || body["error_description"] == "client authentication failed")
        && (head.status != 405 || allows == Some("POST"))
        && (head.status == 503) == head.headers.contains_key("retry-after");
    if is_right { observe(Err(error.clone())) } else { format!("a wrong answer: {head:?} {body}") }
}

#[test]
fn vectors_have_distinct_names_and_sources() {
    let vectors = vectors();
    let names: BTreeSet<_> = vectors.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), vectors.len());
    assert!(vectors.iter().all(|vector| !vector.source.is_empty()));
}
