//! Request objects: each case of `tests/vectors/signed.json` runs without a server, and over a socket against axum. The
//! rest is what a vector cannot say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tower_oauth_client_validation::{
    Client, ClientValidationLayer, FetchedKeys, KeyError, KeySource, MemoryRegistry, Policy, Rejection, SignedRequests,
    SigningAlgorithm, Tenant, ValidatedRequest, Verdict,
};
use url::form_urlencoded::{self, Serializer};

use crate::signing::{key_set, sign};
use crate::socket::{self, serve};
use crate::vectors::{Case, cases};

const ISSUER: &str = "https://login.example";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    /// The RFC section or CVE that the case is taken from.
    source: String,
    #[serde(default = "app")]
    client: String,
    #[serde(default)]
    method: Method,
    /// The parameters; `{object}` stands for the request object.
    query: Option<String>,
    #[serde(default)]
    object: Object,
    /// The algorithms that the server allows.
    algorithms: Option<Vec<String>>,
    /// Whether the policy requires signed requests.
    #[serde(default)]
    signed_required: bool,
    expect: Expect,
}

fn app() -> String {
    "app".to_owned()
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Get,
    Post,
}

/// What differs from a request object that is right.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    key: Option<String>,
    #[serde(default)]
    header: Map<String, Value>,
    /// `null` removes a claim; `{"now": seconds}` is a time.
    #[serde(default)]
    claims: Map<String, Value>,
    /// What is damaged after signing.
    cut: Option<String>,
    /// The request object, in place of one that is signed.
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Expect {
    /// Facts about the validated request.
    Accepted(Map<String, Value>),
    /// Status, error and reason.
    Direct(u16, String, String),
    /// Error and reason.
    Redirect(String, String),
}

fn clients() -> MemoryRegistry {
    let keys = key_set(&["es256", "eddsa", "rsa"], &json!({}));
    let client = |id: &str, more: Value| {
        let mut client = json!({
            "client_id": id,
            "redirect_uris": ["https://app.example/cb"],
            "scope": "read write",
            "jwks": keys,
        });
        client.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        Client::from_metadata(client).unwrap()
    };
    let set = |change: Value| json!({ "jwks": key_set(&["es256"], &change) });
    MemoryRegistry::from_clients([
        client("app", json!({})),
        client("two-uris", json!({ "redirect_uris": ["https://app.example/cb", "https://app.example/other"] })),
        client("public", json!({ "token_endpoint_auth_method": "none" })),
        client("disabled", json!({ "disabled": true })),
        client("must-sign", json!({ "require_signed_request_object": true })),
        client("other", json!({ "jwks": key_set(&["other"], &json!({})) })),
        client("only-es256", json!({ "request_object_signing_alg": "ES256" })),
        client("only-none", json!({ "request_object_signing_alg": "none" })),
        client("no-keys", json!({ "jwks": null })),
        client("empty-keys", json!({ "jwks": { "keys": [] } })),
        client("encrypts", set(json!({ "use": "enc" }))),
        client("ops", set(json!({ "key_ops": ["encrypt"] }))),
        client("other-alg", set(json!({ "alg": "ES384" }))),
    ])
}

/// A request object of this client that is right, but for these members.
fn request_object(client: &str, object: &Object) -> String {
    if let Some(text) = &object.text {
        return text.clone();
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut header = members(json!({ "alg": "ES256", "typ": "oauth-authz-req+jwt" }));
    let mut claims = members(json!({
        "iss": client,
        "client_id": client,
        "aud": ISSUER,
        "exp": now + 60,
        "iat": now,
        "response_type": "code",
        "redirect_uri": "https://app.example/cb",
        "scope": "read",
        "state": "inside",
    }));
    change(&mut header, &object.header, now);
    change(&mut claims, &object.claims, now);
    let signed = sign(object.key.as_deref().unwrap_or("es256"), &header, &claims);
    let (message, signature) = signed.rsplit_once('.').unwrap();
    match object.cut.as_deref() {
        None => signed,
        Some("signature") => message.to_owned(),
        Some("signature bytes") => format!("{message}."),
        Some("claims") => {
            claims.insert("scope".to_owned(), "write".into());
            let other = sign("other", &header, &claims);
            format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
        }
        Some(other) => panic!("{other} cannot be cut"),
    }
}

fn members(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn change(members: &mut Map<String, Value>, changes: &Map<String, Value>, now: u64) {
    for (name, value) in changes {
        match value.get("now").and_then(Value::as_i64) {
            Some(seconds) => members.insert(name.clone(), (i64::try_from(now).unwrap() + seconds).into()),
            None if value.is_null() => members.remove(name),
            None => members.insert(name.clone(), value.clone()),
        };
    }
}

impl Vector {
    fn layer(&self) -> ClientValidationLayer<MemoryRegistry> {
        let mut signed = SignedRequests::builder(ISSUER);
        if let Some(names) = &self.algorithms {
            let named = |algorithm: &&SigningAlgorithm| names.iter().any(|name| name == algorithm.as_str());
            signed = signed.signing_algorithms(SigningAlgorithm::ALL.iter().filter(named).copied());
        }
        let policy = Policy::rfc9700().issuer(ISSUER).require_signed_requests(self.signed_required).build().unwrap();
        ClientValidationLayer::new(clients()).policy(policy).signed_requests(signed.build().unwrap())
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let object = request_object(&self.client, &self.object);
        let parameters = match &self.query {
            Some(query) => query.replace("{object}", &object),
            None => format!("client_id={}&request={object}", self.client),
        };
        match self.method {
            Method::Get => Request::get(format!("/authorize?{parameters}")).body(Full::default()).unwrap(),
            Method::Post => Request::post("/authorize")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(parameters.into())
                .unwrap(),
        }
    }

    fn check(&self, observed: &Value) -> Result<(), String> {
        let expected = match &self.expect {
            Expect::Accepted(facts) => json!({ "accepted": facts }),
            Expect::Direct(status, error, reason) => json!({ "direct": [status, error, reason] }),
            Expect::Redirect(error, reason) => json!({ "redirect": [error, reason] }),
        };
        let fits = match (&expected["accepted"], &observed["accepted"]) {
            (Value::Object(facts), Value::Object(seen)) => {
                facts.iter().all(|(name, value)| seen.get(name).unwrap_or(&Value::Null) == value)
            }
            _ => expected == *observed,
        };
        if fits { Ok(()) } else { Err(format!("expected {expected}, got {observed}")) }
    }
}

fn describe(request: &ValidatedRequest) -> Value {
    json!({ "accepted": {
        "client_id": request.client_id(),
        "redirect_uri": request.redirect_uri(),
        "scope": request.scope(),
        "state": request.state(),
        "nonce": request.nonce(),
        "response_type": request.response_type().as_str(),
        "response_mode": request.response_mode().as_str(),
        "resources": request.resources().collect::<Vec<_>>(),
        "signed": request.request().is_signed(),
    } })
}

/// What is refused: with a rejection where there is no socket between.
fn refused(response: &Response<Full<Bytes>>, body: &[u8], rejection: Option<&Rejection>) -> Value {
    let reason = rejection.map(|rejection| rejection.reason().as_str());
    let error = match response.headers().get("location") {
        None => {
            assert_eq!(response.headers()["cache-control"], "no-store");
            let body: Value = serde_json::from_slice(body).unwrap();
            return json!({ "direct": [response.status().as_u16(), body["error"], reason] });
        }
        Some(location) => url::Url::parse(location.to_str().unwrap()).unwrap(),
    };
    let (uri, parameters) = error.as_str().split_once(['?', '#']).unwrap();
    assert_eq!(uri, "https://app.example/cb");
    let mut parameters = form_urlencoded::parse(parameters.as_bytes());
    let error = parameters.find(|(name, _)| name == "error").map(|(_, value)| value.into_owned());
    json!({ "redirect": [error, reason] })
}

/// Without a server.
async fn judged(vector: &Vector) -> Value {
    let (parts, body) = vector.request().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    match vector.layer().judge(&parts, body).await {
        Verdict::Accepted(validated) => describe(&validated),
        Verdict::Refused(response) => {
            let rejection = response.extensions().get::<Rejection>().cloned();
            let body = response.body().clone();
            refused(&response.map(Full::new), &body, rejection.as_ref())
        }
        other => panic!("{other:?}"),
    }
}

/// Over a socket. The reason is the one of the pure decision, which the answer does not tell.
async fn served(vector: &Vector, reason: &Value) -> Value {
    let handler = async |request: ValidatedRequest| describe(&request).to_string();
    let address = serve(Router::new().route("/authorize", any(handler).layer(vector.layer()))).await;
    let response = socket::send(address, vector.request()).await;
    let body = response.body().clone().collect().await.unwrap().to_bytes();
    if response.status() == 200 {
        return serde_json::from_slice(&body).unwrap();
    }
    let mut observed = refused(&response, &body, None);
    for name in ["direct", "redirect"] {
        if let Some(last) = observed.get_mut(name).and_then(Value::as_array_mut).and_then(|values| values.last_mut()) {
            *last = reason[name].as_array().and_then(|values| values.last()).cloned().unwrap_or_default();
        }
    }
    observed
}

#[tokio::test]
async fn each_vector_gets_the_expected_outcome() {
    let mut failures = Vec::new();
    let cases = cases::<Vector>("signed.json");
    assert!(cases.len() >= 140);
    for Case { place, vector } in &cases {
        let observed = judged(vector).await;
        for observed in [&observed, &served(vector, &observed).await] {
            if let Err(failure) = vector.check(observed) {
                failures.push(format!("{place}: {}: {failure}", vector.name));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[test]
fn vectors_have_names_and_sources_and_cover_every_reason() {
    let cases = cases::<Vector>("signed.json");
    let names: BTreeSet<_> = cases.iter().map(|case| &case.vector.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.iter().all(|case| !case.vector.source.is_empty()));
    let reasons = cases.iter().filter_map(|case| match &case.vector.expect {
        Expect::Direct(_, _, reason) | Expect::Redirect(_, reason) => Some(&**reason),
        Expect::Accepted(_) => None,
    });
    let reasons: BTreeSet<_> = reasons.collect();
    for fault in [
        "malformed",
        "encrypted",
        "type",
        "algorithm",
        "key",
        "signature",
        "issuer",
        "client_id",
        "audience",
        "expiry",
        "not_yet_valid",
        "nested",
    ] {
        assert!(reasons.contains(&*format!("request_object_{fault}")), "no vector is refused for {fault}");
    }
}

fn query(client: &str, object: &Object) -> String {
    let object = request_object(client, object);
    let parameters = [("client_id", client), ("request", &object)];
    format!("/authorize?{}", Serializer::new(String::new()).extend_pairs(parameters).finish())
}

/// The reason of the refusal, or the state of the request.
async fn decide<T: tower_oauth_client_validation::Tenancy>(
    layer: &ClientValidationLayer<T>,
    uri: &str,
) -> Result<String, (u16, String)> {
    let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
    match layer.judge(&parts, Bytes::new()).await {
        Verdict::Accepted(validated) => Ok(validated.state().unwrap_or_default().to_owned()),
        Verdict::Refused(response) => {
            let reason = response.extensions().get::<Rejection>().unwrap().reason().as_str().to_owned();
            Err((response.status().as_u16(), reason))
        }
        other => panic!("{other:?}"),
    }
}

fn refusal(status: u16, reason: &str) -> Result<String, (u16, String)> {
    Err((status, reason.to_owned()))
}

#[tokio::test]
async fn request_objects_are_refused_where_they_are_off() {
    let layer = ClientValidationLayer::new(clients());
    let uri = format!("{}&response_type=code", query("app", &Object::default()));
    assert_eq!(decide(&layer, &uri).await, refusal(302, "request_object"));
}

fn with_keys(keys: impl KeySource + 'static) -> ClientValidationLayer<MemoryRegistry> {
    let hosted = Client::from_metadata(json!({
        "client_id": "hosted",
        "redirect_uris": ["https://app.example/cb"],
        "scope": "read",
        "jwks_uri": "https://app.example/keys",
    }));
    let clients = MemoryRegistry::from_clients([hosted.unwrap()]);
    let signed = SignedRequests::builder(ISSUER).keys(keys).build().unwrap();
    ClientValidationLayer::new(clients).signed_requests(signed)
}

/// A host that answers with these key sets in turn, the last one again and again, and counts.
fn host(answers: Vec<(u16, Value)>, asked: &Arc<AtomicUsize>) -> FetchedKeys {
    let asked = Arc::clone(asked);
    let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let (status, document) = &answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
        std::future::ready(Response::builder().status(*status).body(Full::<Bytes>::from(document.to_string())))
    });
    FetchedKeys::builder().fetcher(service).build().unwrap()
}

#[tokio::test]
async fn keys_behind_an_address_are_fetched_once() {
    let asked = Arc::default();
    let layer = with_keys(host(vec![(200, key_set(&["es256"], &json!({})))], &asked));
    for _ in 0..3 {
        assert_eq!(decide(&layer, &query("hosted", &Object::default())).await, Ok("inside".to_owned()));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn unknown_keys_do_not_make_a_host_answer_over_and_over() {
    let asked = Arc::default();
    let layer = with_keys(host(vec![(200, key_set(&["es256"], &json!({})))], &asked));
    for kid in ["a", "b", "c"] {
        let object = Object { header: members(json!({ "kid": kid })), ..Object::default() };
        assert_eq!(decide(&layer, &query("hosted", &object)).await, refusal(400, "request_object_key"));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_host_without_keys_makes_the_request_wait() {
    let layer = with_keys(host(vec![(500, json!({}))], &Arc::default()));
    let uri = query("hosted", &Object::default());
    assert_eq!(decide(&layer, &uri).await, refusal(503, "request_object_keys_unavailable"));
    let (parts, ()) = Request::get(&uri).body(()).unwrap().into_parts();
    let Verdict::Refused(response) = layer.judge(&parts, Bytes::new()).await else { panic!("it is refused") };
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["error"], "temporarily_unavailable");
    assert!(response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn no_key_is_fetched_for_a_client_that_is_switched_off() {
    struct Never;
    impl KeySource for Never {
        fn keys<'a>(&'a self, _: &'a Client, _: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>> {
            async { panic!("the keys were asked for") }.boxed()
        }
    }
    let signed = SignedRequests::builder(ISSUER).keys(Never).build().unwrap();
    let layer = ClientValidationLayer::new(clients()).signed_requests(signed);
    assert_eq!(decide(&layer, &query("disabled", &Object::default())).await, refusal(400, "client_disabled"));
    let unsigned = Object { header: members(json!({ "alg": "none" })), ..Object::default() };
    assert_eq!(decide(&layer, &query("app", &unsigned)).await, refusal(400, "request_object_algorithm"));
}

/// CVE-2020-10770 and its like: whatever address a request names, nothing connects to it.
#[tokio::test]
async fn no_address_in_a_request_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = format!("http://{}/", listener.local_addr().unwrap());
    let keys = FetchedKeys::builder().insecure_allow_loopback(true).build().unwrap();
    let signed = SignedRequests::builder(ISSUER).keys(keys).build().unwrap();
    let layer = ClientValidationLayer::new(clients()).signed_requests(signed);
    for name in ["jku", "x5u"] {
        let object =
            Object { key: Some("other".to_owned()), header: members(json!({ name: there })), ..Object::default() };
        assert_eq!(decide(&layer, &query("app", &object)).await, refusal(400, "request_object_malformed"), "{name}");
    }
    let object = Object { claims: members(json!({ "request_uri": there })), ..Object::default() };
    assert_eq!(decide(&layer, &query("app", &object)).await, refusal(400, "request_object_nested"));
    let uri = format!("/authorize?client_id=app&response_type=code&request_uri={there}");
    assert_eq!(decide(&layer, &uri).await, refusal(302, "request_uri"));
    assert!(listener.accept().now_or_never().is_none(), "something connected");
}

#[tokio::test]
async fn the_keys_of_a_private_address_are_not_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::from_metadata(json!({
        "client_id": "app",
        "redirect_uris": ["https://app.example/cb"],
        "jwks_uri": format!("https://{address}/keys"),
    }));
    let keys = FetchedKeys::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let signed = SignedRequests::builder(ISSUER).keys(keys).build().unwrap();
    let layer = ClientValidationLayer::new(MemoryRegistry::from_clients([client.unwrap()])).signed_requests(signed);
    let decided = decide(&layer, &query("app", &Object::default())).await;
    assert_eq!(decided, refusal(503, "request_object_keys_unavailable"));
    assert!(listener.accept().now_or_never().is_none(), "something connected");
}

#[tokio::test]
async fn a_request_object_is_for_one_tenant() {
    let tenant = |issuer: &str| {
        let policy = Policy::rfc9700().issuer(issuer).build().unwrap();
        Tenant::new(clients()).policy(policy).signed_requests(SignedRequests::builder(issuer).build().unwrap())
    };
    let (one, other, without) = (tenant(ISSUER), tenant("https://b.example"), Tenant::new(clients()));
    let layer = ClientValidationLayer::for_each_tenant(move |request| match request.uri.host()? {
        "one" => Some(one.clone()),
        "other" => Some(other.clone()),
        _ => Some(without.clone()),
    });
    let at = |host: &str| format!("http://{host}{}", query("app", &Object::default()));
    assert_eq!(decide(&layer, &at("one")).await, Ok("inside".to_owned()));
    assert_eq!(decide(&layer, &at("other")).await, refusal(400, "request_object_audience"));
    assert_eq!(decide(&layer, &at("without")).await, refusal(302, "request_object"));
}

#[test]
fn wrong_settings_are_named() {
    let error = SignedRequests::builder("").build().unwrap_err();
    assert_eq!((error.setting(), error.to_string().as_str()), ("issuer", "issuer: must not be empty"));
    let error = SignedRequests::builder(ISSUER).signing_algorithms([]).build().unwrap_err();
    assert_eq!(error.to_string(), "signing_algorithms: must not be empty");
}
