//! Registration at an upstream identity provider.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_oauth_client_validation::{
    Client, ClientOrigin, GrantTypes, MemoryRegistry, RegistrationPolicy, RegistryStore, ResponseTypes, Scope,
    Upstream, UpstreamRegistration,
};

use crate::registration::{self, Answer, ENDPOINT};

use crate::fixture;
use crate::wait::{eventually, in_time};

/// An identity provider: what it was asked, and what it answers next.
#[derive(Clone, Default)]
struct Provider {
    asked: Arc<Mutex<Vec<(String, Option<String>, Value)>>>,
    answers: Arc<Mutex<Vec<(u16, Value)>>>,
    /// No answer is sent while a writer holds it.
    gate: Arc<tokio::sync::RwLock<()>>,
}

impl Provider {
    async fn start() -> (Self, String) {
        let provider = Self::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(Self::serve).with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (provider, base)
    }

    async fn serve(
        State(provider): State<Self>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, String) {
        let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        provider.asked.lock().unwrap().push((format!("{method} {}", uri.path()), authorization, body));
        drop(provider.gate.read().await);
        let (status, answer) = provider.answers.lock().unwrap().remove(0);
        (StatusCode::from_u16(status).unwrap(), answer.to_string())
    }

    fn will_answer(&self, status: u16, answer: Value) {
        self.answers.lock().unwrap().push((status, answer));
    }

    fn was_asked(&self, request: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|(asked, ..)| asked == request)
    }

    fn take_asked(&self) -> Vec<(String, Option<String>, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Always with a body.
async fn send(
    service: &UpstreamRegistration<MemoryRegistry>,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> Answer {
    registration::send(service, method, path, token, Some(body)).await
}

type SetUp = (Provider, String, MemoryRegistry, UpstreamRegistration<MemoryRegistry>);

async fn set_up(change: impl FnOnce(Upstream) -> Upstream) -> SetUp {
    set_up_with(RegistrationPolicy::new(), change).await
}

async fn set_up_with(policy: RegistrationPolicy, change: impl FnOnce(Upstream) -> Upstream) -> SetUp {
    let (provider, base) = Provider::start().await;
    let store = MemoryRegistry::new();
    let upstream = change(Upstream::endpoint(format!("{base}/clients")).insecure_http(true));
    let service = UpstreamRegistration::new(store.clone(), ENDPOINT, upstream, policy).unwrap();
    (provider, base, store, service)
}

async fn until(condition: impl Fn() -> bool) {
    eventually(async || condition().then_some(())).await;
}

fn asked() -> Value {
    json!({ "redirect_uris": ["http://127.0.0.1:5000/cb"], "client_name": "App", "scope": "openid", "trusted": true, "future": 1 })
}

fn registered(base: &str, id: &str) -> Value {
    json!({
        "client_id": id,
        "client_secret": "upstream-secret",
        "client_secret_expires_at": 0,
        "registration_access_token": format!("token-of-{id}"),
        "registration_client_uri": format!("{base}/clients/{id}"),
        "redirect_uris": ["http://127.0.0.1:5000/cb"],
        "client_name": "App at upstream",
        "scope": "openid profile",
        "grant_types": ["authorization_code", "refresh_token"],
        "trusted": true,
    })
}

#[tokio::test]
async fn the_answer_of_the_upstream_is_stored_and_returned() {
    let (provider, base, store, service) = set_up(|upstream| upstream.initial_access_token("ours")).await;
    provider.will_answer(201, registered(&base, "up/1"));
    let answer = send(&service, "POST", "/register", None, asked()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.body["client_id"], "up/1");
    assert_eq!(answer.body["client_secret"], "upstream-secret");
    assert_eq!(answer.body["client_name"], "App at upstream");
    assert_eq!(answer.body["registration_access_token"], "token-of-up/1");
    assert_eq!(answer.body["registration_client_uri"], format!("{ENDPOINT}/up%2F1"));
    assert!(answer.body.get("trusted").is_none() && !answer.body.to_string().contains("sha256"));
    assert!(!answer.body.to_string().contains(&base));

    let (request, authorization, body) = provider.take_asked().remove(0);
    assert_eq!((&*request, authorization.as_deref()), ("POST /clients", Some("Bearer ours")));
    assert_eq!((&body["client_name"], &body["scope"]), (&json!("App"), &json!("openid")));
    assert!(body.get("trusted").is_none() && body.get("future").is_none());

    let client = store.get("up/1").unwrap();
    assert_eq!(store.origin("up/1"), Some(ClientOrigin::Upstream));
    assert!(!client.is_trusted());
    assert!(fixture::has_secret(&client, "upstream-secret"));
    assert!(fixture::may_use(&store, "up/1", Some("http://127.0.0.1:6000/cb"), Some("profile")));
    let kept = serde_json::to_string(&client.to_metadata()).unwrap();
    assert!(!kept.contains("upstream-secret") && !kept.contains("token-of"));
}

#[tokio::test]
async fn forwarded_and_stored_metadata_stay_within_the_policy() {
    let policy = RegistrationPolicy::new()
        .allowed_scopes(Scope::parse("openid profile").unwrap())
        .grant_types(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::REFRESH_TOKEN))
        .narrow_scopes(true)
        .keep_members(["future"]);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    let mut wide = asked();
    for (name, value) in [
        ("scope", json!("openid admin")),
        ("grant_types", json!(["authorization_code", "client_credentials"])),
        ("skip_consent", json!(true)),
        ("client_secret", json!("mine")),
    ] {
        wide[name] = value;
    }
    let mut answer = registered(&base, "x");
    for (name, value) in [
        ("redirect_uris", json!(["http://127.0.0.1:5000/cb", "https://evil.example/", "http://evil.example/#"])),
        ("scope", json!("openid profile admin *")),
        ("grant_types", json!(["authorization_code", "client_credentials", "implicit"])),
        ("response_types", json!(["code", "token"])),
        ("default_scope", json!("admin")),
    ] {
        answer[name] = value;
    }
    provider.will_answer(201, answer.clone());
    let told = send(&service, "POST", "/register", None, wide).await;
    assert_eq!(told.status, 201, "{}", told.body);
    let forwarded = provider.take_asked().remove(0).2;
    assert_eq!((&forwarded["scope"], &forwarded["future"]), (&json!("openid"), &json!(1)));
    assert_eq!(forwarded["grant_types"], json!(["authorization_code"]));
    assert!(forwarded.get("skip_consent").is_none() && forwarded.get("client_secret").is_none());

    let check = |uri: &str, scope| fixture::may_use(&store, "x", Some(uri), scope);
    let is_bounded = || {
        let client = store.get("x").unwrap();
        assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
        assert_eq!(client.response_types(), ResponseTypes::CODE);
        assert!(check("http://127.0.0.1:1/cb", Some("openid profile")));
        assert!(!check("http://127.0.0.1:1/cb", Some("admin")) && !check("https://evil.example/", None));
    };
    is_bounded();
    assert_eq!(told.body["redirect_uris"], json!(["http://127.0.0.1:5000/cb"]));
    assert_eq!((&told.body["scope"], &told.body["response_types"]), (&json!("openid profile"), &json!(["code"])));

    // Nor by asking again.
    provider.will_answer(200, answer);
    assert_eq!(send(&service, "GET", "/register/x", Some("token-of-x"), Value::Null).await.status, 200);
    is_bounded();

    // An answer that leaves the scopes out gives what was judged.
    let mut silent = registered(&base, "y");
    silent["scope"] = Value::Null;
    provider.will_answer(201, silent.clone());
    send(&service, "POST", "/register", None, asked()).await;
    assert_eq!(store.get("y").unwrap().allowed_scopes().unwrap().as_str(), "openid");
    silent["client_id"] = json!("z");
    provider.will_answer(201, silent);
    let unscoped = json!({ "redirect_uris": ["http://127.0.0.1:5000/cb"] });
    send(&service, "POST", "/register", None, unscoped).await;
    assert_eq!(store.get("z").unwrap().allowed_scopes(), None);
}

#[tokio::test]
async fn every_client_can_be_granted_all_scopes() {
    let all = Scope::parse("openid profile").unwrap();
    let policy = RegistrationPolicy::new().allowed_scopes(all).grant_all_scopes(true);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    let mut answer = registered(&base, "x");
    answer["scope"] = json!("openid admin");
    provider.will_answer(201, answer);
    send(&service, "POST", "/register", None, asked()).await;
    let body = provider.take_asked().remove(0).2;
    assert_eq!(body["scope"], "openid profile");
    assert!(body.get("default_scope").is_none());
    let mut silent = registered(&base, "x");
    silent["scope"] = Value::Null;
    provider.will_answer(200, silent);
    for _ in 0..2 {
        let client = store.get("x").unwrap();
        assert_eq!(client.allowed_scopes().unwrap().as_str(), "openid profile");
        assert_eq!(client.default_scopes().unwrap().as_str(), "openid");
        send(&service, "GET", "/register/x", Some("token-of-x"), Value::Null).await;
    }
}

#[tokio::test]
async fn a_wildcard_scope_is_not_forwarded() {
    let (provider, _, _, service) = set_up(|upstream| upstream).await;
    for scope in [json!("*"), json!("openid *"), json!("a  b"), json!(1)] {
        let metadata = json!({ "redirect_uris": ["http://127.0.0.1:5000/cb"], "scope": scope });
        send(&service, "POST", "/register", None, metadata).await.assert_error(400, "invalid_client_metadata");
    }
    assert_eq!(provider.take_asked(), []);
}

#[tokio::test]
async fn the_oldest_unused_client_is_evicted_here_and_at_the_upstream() {
    let policy = RegistrationPolicy::new().max_registrations(2);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    // Others are neither counted nor taken away.
    RegistryStore::insert(&store, Client::builder("registered").build().unwrap(), ClientOrigin::Registered)
        .await
        .unwrap();
    let register = async |id: &str| {
        provider.will_answer(201, registered(&base, id));
        send(&service, "POST", "/register", None, asked()).await
    };
    assert_eq!(register("a").await.status, 201);
    store.touch("a", SystemTime::now()).await.unwrap();
    assert_eq!(register("b").await.status, 201);
    provider.take_asked();
    // One for the registration, one for the withdrawal; either may come first.
    provider.will_answer(201, registered(&base, "c"));
    provider.will_answer(201, registered(&base, "c"));
    assert_eq!(register("c").await.status, 201);
    until(|| provider.was_asked("DELETE /clients/b")).await;
    let asked_then = provider.take_asked();
    let withdrawal = asked_then.iter().find(|(request, ..)| request == "DELETE /clients/b").unwrap();
    assert_eq!(withdrawal.1.as_deref(), Some("Bearer token-of-b"));
    assert!(store.get("a").is_some() && store.get("b").is_none() && store.get("c").is_some());

    // One that was used never has to go; then there is no room, and the upstream is not asked.
    store.touch("c", SystemTime::now()).await.unwrap();
    send(&service, "POST", "/register", None, asked()).await.assert_error(503, "temporarily_unavailable");
    assert_eq!(provider.take_asked(), []);
    assert!(store.get("registered").is_some());
}

#[tokio::test]
async fn an_idle_client_that_makes_room_or_ends_is_deleted_at_the_upstream() {
    let day = Duration::from_secs(24 * 3600);
    let policy = RegistrationPolicy::new().max_registrations(1).idle_lifetime(10 * day);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    // The third one is for the withdrawal, which may come before the registration.
    for id in ["a", "b", "b"] {
        provider.will_answer(201, registered(&base, id));
    }
    for (id, idle) in [("a", 2 * day), ("b", 11 * day)] {
        assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
        store.touch(id, SystemTime::now() - idle).await.unwrap();
    }
    until(|| provider.was_asked("DELETE /clients/a")).await;
    provider.will_answer(204, Value::Null);
    assert_eq!(service.clean_up().await.unwrap(), 1);
    assert!(provider.was_asked("DELETE /clients/b") && store.is_empty());
}

/// The token that the upstream issued last is the one that it accepts.
#[tokio::test]
async fn a_client_is_withdrawn_with_the_access_token_that_it_has_now() {
    let policy = RegistrationPolicy::new().max_registrations(1);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    provider.will_answer(201, registered(&base, "a"));
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    let mut changed = registered(&base, "a");
    changed["registration_access_token"] = json!("rotated");
    provider.will_answer(200, changed);
    let change = json!({ "client_id": "a", "redirect_uris": ["http://127.0.0.1:5000/cb"] });
    assert_eq!(send(&service, "PUT", "/register/a", Some("token-of-a"), change).await.status, 200);
    for _ in 0..2 {
        provider.will_answer(201, registered(&base, "b"));
    }
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    until(|| provider.was_asked("DELETE /clients/a")).await;
    let asked = provider.take_asked();
    let (_, authorization, _) = asked.iter().find(|(request, ..)| request == "DELETE /clients/a").unwrap();
    assert_eq!(authorization.as_deref(), Some("Bearer rotated"));
    assert!(store.get("a").is_none());
}

/// An upstream may answer with the client that it registered before.
#[tokio::test]
async fn a_client_that_was_removed_and_registered_again_is_not_withdrawn() {
    let policy = RegistrationPolicy::new().max_registrations(2);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    provider.will_answer(201, registered(&base, "a"));
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    provider.take_asked();
    let closed = Arc::clone(&provider.gate).write_owned().await;
    provider.will_answer(201, registered(&base, "a"));
    let registering = service.clone();
    let again = tokio::spawn(async move { send(&registering, "POST", "/register", None, asked()).await.status });
    until(|| provider.was_asked("POST /clients")).await;
    // Another client takes the room that there was.
    let other = Client::builder("other").build().unwrap();
    RegistryStore::insert(&store, other, ClientOrigin::Upstream).await.unwrap();
    store.touch("other", SystemTime::now()).await.unwrap();
    drop(closed);
    assert_eq!(in_time(again).await.unwrap(), 201);
    assert_eq!(service.clean_up().await.unwrap(), 0);
    assert!(store.get("a").is_some() && !provider.was_asked("DELETE /clients/a"));
}

#[tokio::test]
async fn unused_clients_expire_here_and_at_the_upstream() {
    let policy = RegistrationPolicy::new().unused_lifetime(Duration::ZERO);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    for id in ["used", "refused", "silent", "unmanaged"] {
        let mut answer = registered(&base, id);
        if id == "unmanaged" {
            answer["registration_client_uri"] = Value::Null;
        }
        provider.will_answer(201, answer);
        assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    }
    store.touch("used", SystemTime::now()).await.unwrap();
    provider.take_asked();
    // What the upstream says to it changes nothing here.
    provider.will_answer(403, Value::Null);
    provider.will_answer(204, Value::Null);
    let mut removed = 0;
    while removed < 3 {
        removed += service.clean_up().await.unwrap();
    }
    let ids: Vec<_> = store.list().iter().map(|client| client.id().to_owned()).collect();
    assert_eq!(ids, ["used"]);
    let mut asked: Vec<_> = provider.take_asked().into_iter().map(|(request, ..)| request).collect();
    asked.sort();
    assert_eq!(asked, ["DELETE /clients/refused", "DELETE /clients/silent"]);
}

#[tokio::test]
async fn a_registration_is_stored_even_if_the_client_hangs_up() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    let abandon = async |method: &'static str, path: &'static str, request: &str, body: Value| {
        let closed = Arc::clone(&provider.gate).write_owned().await;
        let service = service.clone();
        let token = (method != "POST").then_some("token-of-x");
        let waiting = tokio::spawn(async move { send(&service, method, path, token, body).await.status });
        until(|| provider.was_asked(request)).await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        drop(closed);
    };
    provider.will_answer(201, registered(&base, "x"));
    abandon("POST", "/register", "POST /clients", asked()).await;
    until(|| store.get("x").is_some()).await;

    let mut changed = registered(&base, "x");
    changed["redirect_uris"] = json!(["https://new.example/"]);
    provider.will_answer(200, changed);
    let change = json!({ "client_id": "x", "redirect_uris": ["https://new.example/"] });
    abandon("PUT", "/register/x", "PUT /clients/x", change).await;
    until(|| fixture::may_use(&store, "x", Some("https://new.example/"), None)).await;

    provider.will_answer(204, Value::Null);
    abandon("DELETE", "/register/x", "DELETE /clients/x", Value::Null).await;
    until(|| store.get("x").is_none()).await;
}

#[tokio::test]
async fn access_tokens_are_sent_to_the_upstream_only() {
    let (other, other_base) = Provider::start().await;
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    let mut elsewhere = registered(&base, "x");
    elsewhere["registration_client_uri"] = json!(format!("{other_base}/clients/x"));
    provider.will_answer(201, elsewhere.clone());
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    assert_eq!(send(&service, "GET", "/register/x", Some("token-of-x"), Value::Null).await.status, 200);
    assert_eq!(send(&service, "DELETE", "/register/x", Some("token-of-x"), Value::Null).await.status, 204);
    // Nor where a client cannot be kept.
    elsewhere["redirect_uris"] = json!(["https://evil.example/"]);
    provider.will_answer(201, elsewhere.clone());
    send(&service, "POST", "/register", None, asked()).await.assert_error(500, "server_error");
    assert_eq!(other.take_asked(), []);

    // What is in the store already is judged again: an `https` upstream has no `http` addresses, whoever names them.
    provider.will_answer(201, registered(&base, "x"));
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    provider.take_asked();
    let upstream = Upstream::endpoint("https://127.0.0.1:9/").configuration_endpoints_at(&base).insecure_http(true);
    let moved = UpstreamRegistration::new(store, ENDPOINT, upstream, RegistrationPolicy::new()).unwrap();
    assert_eq!(send(&moved, "GET", "/register/x", Some("token-of-x"), Value::Null).await.status, 200);
    assert_eq!(send(&moved, "DELETE", "/register/x", Some("token-of-x"), Value::Null).await.status, 204);
    assert_eq!(provider.take_asked(), []);

    // Unless the operator knows of it.
    let (provider, _, _, service) = set_up(|upstream| upstream.configuration_endpoints_at(&other_base)).await;
    elsewhere["redirect_uris"] = asked()["redirect_uris"].clone();
    provider.will_answer(201, elsewhere);
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    other.will_answer(204, Value::Null);
    assert_eq!(send(&service, "DELETE", "/register/x", Some("token-of-x"), Value::Null).await.status, 204);
    assert_eq!(other.take_asked()[0].1.as_deref(), Some("Bearer token-of-x"));
}

#[tokio::test(start_paused = true)]
async fn configured_clients_are_looked_up_again_after_a_while() {
    let store = MemoryRegistry::new();
    // Nobody is there.
    let upstream = Upstream::endpoint("http://127.0.0.1:9/").insecure_http(true).reuse_configured_clients(true);
    let service = UpstreamRegistration::new(store.clone(), ENDPOINT, upstream, RegistrationPolicy::new()).unwrap();
    let client = |id: &str| Client::builder(id).redirect_uri("http://127.0.0.1/cb").scope("*").build().unwrap();
    let told =
        client("first").to_builder().name("First").metadata("note", "internal").metadata("contacts", "wrong type");
    let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let told = told.metadata("client_secret_sha256", digest).trusted(true).build().unwrap();
    store.insert(told).unwrap();
    let answer = send(&service, "POST", "/register", None, asked()).await;
    let members: Vec<_> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["client_id", "client_name", "grant_types", "redirect_uris", "response_types", "token_endpoint_auth_method"];
    assert_eq!(members, expected);

    // Another one that admits it takes a while to be seen; that this one is switched off does not.
    store.insert(client("second")).unwrap();
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.body["client_id"], "first");
    store.replace(client("first").to_builder().disabled(true).build().unwrap()).unwrap();
    send(&service, "POST", "/register", None, asked()).await.assert_error(503, "temporarily_unavailable");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.body["client_id"], "second");
}

#[tokio::test]
async fn a_minimal_answer_of_the_upstream_is_enough() {
    let (provider, _, store, service) = set_up(|upstream| upstream).await;
    provider.will_answer(200, json!({ "client_id": "bare" }));
    let answer = send(&service, "POST", "/register", None, asked()).await;
    assert_eq!(answer.status, 201);
    // Managed here alone, with a token of this server.
    let token = answer.body["registration_access_token"].as_str().unwrap();
    assert!(fixture::may_use(&store, "bare", Some("http://127.0.0.1:1/cb"), Some("openid")));
    assert!(!fixture::may_use(&store, "bare", Some("http://127.0.0.1:1/cb"), Some("admin")));
    let read = send(&service, "GET", "/register/bare", Some(token), Value::Null).await;
    assert_eq!((read.status.as_u16(), &read.body["registration_access_token"]), (200, &json!(token)));
    let change = json!({ "client_id": "bare", "redirect_uris": ["https://app.example/"] });
    send(&service, "PUT", "/register/bare", Some(token), change).await.assert_error(403, "access_denied");
    assert_eq!(send(&service, "DELETE", "/register/bare", Some(token), Value::Null).await.status, 204);
    assert!(store.get("bare").is_none());
    assert_eq!(provider.take_asked().len(), 1);
}

#[tokio::test]
async fn errors_are_passed_on() {
    let (provider, _, store, service) = set_up(|upstream| upstream).await;
    for (status, body, expected) in [
        (
            400,
            json!({ "error": "invalid_redirect_uri", "error_description": "not \"that\" one" }),
            (400, "invalid_redirect_uri"),
        ),
        (400, json!({ "error": "unapproved_software_statement" }), (400, "unapproved_software_statement")),
        (400, json!({ "error": "something_of_its_own" }), (400, "invalid_client_metadata")),
        (400, json!("no object"), (400, "invalid_client_metadata")),
        (401, json!({ "error": "invalid_token" }), (500, "server_error")),
        (403, json!({}), (500, "server_error")),
        (302, json!({}), (500, "server_error")),
        (429, json!({}), (503, "temporarily_unavailable")),
        (500, json!({}), (503, "temporarily_unavailable")),
        (201, json!({ "client_name": "without an id" }), (500, "server_error")),
        (201, json!({ "client_id": "x", "redirect_uris": ["http://app.example/"] }), (500, "server_error")),
        (201, json!({ "client_id": "x", "redirect_uris": ["http://localhost:*"] }), (500, "server_error")),
    ] {
        provider.will_answer(status, body);
        let answer = send(&service, "POST", "/register", None, asked()).await;
        answer.assert_error(expected.0, expected.1);
        let description = answer.body["error_description"].as_str().unwrap();
        assert!(!description.contains('"'), "{description}");
    }
    assert!(store.is_empty());
    // What breaks a rule here never gets as far.
    provider.take_asked();
    let wrong = json!({ "redirect_uris": ["http://app.example/"] });
    send(&service, "POST", "/register", None, wrong).await.assert_error(400, "invalid_redirect_uri");
    assert_eq!(provider.take_asked(), []);

    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = Upstream::endpoint(format!("http://{}", listener.local_addr().unwrap())).insecure_http(true);
    drop(listener);
    let service = UpstreamRegistration::new(store, ENDPOINT, nobody, RegistrationPolicy::new()).unwrap();
    send(&service, "POST", "/register", None, asked()).await.assert_error(503, "temporarily_unavailable");
}

#[tokio::test]
async fn a_client_is_not_told_what_is_not_stored() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    let mut answer = registered(&base, "x");
    answer["logo_uri"] = json!("javascript:alert(1)");
    answer["contacts"] = json!("no list");
    provider.will_answer(201, answer);
    let answer = send(&service, "POST", "/register", None, asked()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    for name in ["logo_uri", "contacts"] {
        assert!(answer.body.get(name).is_none() && !store.get("x").unwrap().to_metadata().contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_long_description_of_the_upstream_is_cut() {
    let (provider, _, _, service) = set_up(|upstream| upstream).await;
    let error = json!({ "error": "invalid_redirect_uri", "error_description": "a".repeat(10_000) });
    provider.will_answer(400, error);
    let refused = send(&service, "POST", "/register", None, asked()).await;
    refused.assert_error(400, "invalid_redirect_uri");
    assert_eq!(refused.text("error_description").len(), 512);
}

#[tokio::test]
async fn an_answer_about_another_client_is_not_stored() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    provider.will_answer(201, registered(&base, "x"));
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    let before = store.get("x").unwrap();
    provider.will_answer(200, registered(&base, "y"));
    let refused = send(&service, "GET", "/register/x", Some("token-of-x"), Value::Null).await;
    refused.assert_error(500, "server_error");
    assert_eq!((store.get("x").unwrap(), store.len()), (before, 1));
}

#[tokio::test]
async fn an_authentication_method_that_the_policy_excludes_is_not_stored() {
    let policy = RegistrationPolicy::new().auth_methods(["none"]);
    let (provider, base, store, service) = set_up_with(policy, |upstream| upstream).await;
    let mut answer = registered(&base, "x");
    answer["token_endpoint_auth_method"] = json!("client_secret_basic");
    provider.will_answer(201, answer);
    provider.will_answer(204, Value::Null);
    let mut public = asked();
    public["token_endpoint_auth_method"] = json!("none");
    send(&service, "POST", "/register", None, public).await.assert_error(500, "server_error");
    assert!(store.is_empty() && provider.was_asked("DELETE /clients/x"));
}

#[tokio::test]
async fn a_client_that_cannot_be_stored_is_withdrawn() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    let mut wrong = registered(&base, "x");
    wrong["redirect_uris"] = json!(["http://app.example/"]);
    provider.will_answer(201, wrong);
    provider.will_answer(204, Value::Null);
    send(&service, "POST", "/register", None, asked()).await.assert_error(500, "server_error");
    let asked = provider.take_asked();
    assert_eq!((&*asked[1].0, asked[1].1.as_deref()), ("DELETE /clients/x", Some("Bearer token-of-x")));
    assert!(store.is_empty());
}

#[tokio::test]
async fn no_client_that_exists_is_touched() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    store.insert(Client::builder("configured").name("Ours").build().unwrap()).unwrap();
    RegistryStore::insert(&store, Client::builder("registered").build().unwrap(), ClientOrigin::Registered)
        .await
        .unwrap();
    provider.will_answer(201, registered(&base, "upstream"));
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    let before: Vec<_> = store.list().iter().map(|client| client.to_metadata()).collect();
    for id in ["configured", "registered", "upstream"] {
        provider.take_asked();
        provider.will_answer(201, registered(&base, id));
        send(&service, "POST", "/register", None, asked()).await.assert_error(500, "server_error");
        // It is not deleted at the upstream either: it may be the one that exists here.
        assert_eq!(provider.take_asked().len(), 1);
        let token = format!("token-of-{id}");
        if id != "upstream" {
            let uri = format!("/register/{id}");
            send(&service, "DELETE", &uri, Some(&token), Value::Null).await.assert_error(401, "invalid_token");
        }
    }
    let after: Vec<_> = store.list().iter().map(|client| client.to_metadata()).collect();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_registration_is_managed_here_and_at_the_upstream() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    provider.will_answer(201, registered(&base, "x"));
    send(&service, "POST", "/register", None, asked()).await;
    provider.take_asked();
    send(&service, "GET", "/register/x", Some("wrong"), Value::Null).await.assert_error(401, "invalid_token");
    send(&service, "GET", "/register/y", Some("token-of-x"), Value::Null).await.assert_error(401, "invalid_token");
    assert_eq!(provider.take_asked(), []);

    // Without the scope, which does not make it any scope.
    let mut answer = registered(&base, "x");
    answer["scope"] = Value::Null;
    provider.will_answer(200, answer);
    let read = send(&service, "GET", "/register/x", Some("token-of-x"), Value::Null).await;
    assert_eq!((read.status.as_u16(), &read.body["registration_client_uri"]), (200, &json!(format!("{ENDPOINT}/x"))));
    assert_eq!(provider.take_asked()[0].0, "GET /clients/x");
    assert_eq!(store.get("x").unwrap().allowed_scopes().unwrap().as_str(), "openid profile");

    // The upstream knows the client no more, or does not let it do this.
    for (status, expected) in [
        (401, (401, "invalid_token")),
        (404, (401, "invalid_token")),
        (403, (403, "access_denied")),
        (405, (403, "access_denied")),
    ] {
        provider.will_answer(status, Value::Null);
        let refused = send(&service, "GET", "/register/x", Some("token-of-x"), Value::Null).await;
        refused.assert_error(expected.0, expected.1);
    }
    provider.take_asked();
    // The upstream rotates the token.
    let mut changed = registered(&base, "x");
    changed["redirect_uris"] = json!(["https://new.example/"]);
    changed["registration_access_token"] = json!("rotated");
    provider.will_answer(200, changed);
    let change = json!({ "client_id": "x", "redirect_uris": ["https://new.example/"] });
    for wrong in [json!({ "client_id": "y" }), json!({ "client_id": "x", "client_id_issued_at": 1 })] {
        send(&service, "PUT", "/register/x", Some("token-of-x"), wrong)
            .await
            .assert_error(400, "invalid_client_metadata");
    }
    let updated = send(&service, "PUT", "/register/x", Some("token-of-x"), change).await;
    assert_eq!((updated.status.as_u16(), &updated.body["registration_access_token"]), (200, &json!("rotated")));
    assert!(fixture::may_use(&store, "x", Some("https://new.example/"), None));
    assert!(!fixture::may_use(&store, "x", Some("http://127.0.0.1:5000/cb"), None));
    let (request, authorization, body) = provider.take_asked().remove(0);
    assert_eq!((&*request, authorization.as_deref()), ("PUT /clients/x", Some("Bearer token-of-x")));
    assert_eq!(body["client_id"], "x");

    send(&service, "DELETE", "/register/x", Some("token-of-x"), Value::Null).await.assert_error(401, "invalid_token");
    provider.will_answer(503, Value::Null);
    let failed = send(&service, "DELETE", "/register/x", Some("rotated"), Value::Null).await;
    failed.assert_error(503, "temporarily_unavailable");
    assert!(store.get("x").is_some());
    provider.will_answer(204, Value::Null);
    assert_eq!(send(&service, "DELETE", "/register/x", Some("rotated"), Value::Null).await.status, 204);
    assert_eq!(provider.take_asked().pop().unwrap().0, "DELETE /clients/x");
    assert!(store.get("x").is_none());
}

#[test]
fn a_wrong_setting_is_named() {
    let new = |upstream, policy| UpstreamRegistration::new(MemoryRegistry::new(), ENDPOINT, upstream, policy);
    let policy = RegistrationPolicy::new;
    let https = || Upstream::endpoint("https://idp.example/register");
    for (setting, upstream) in [
        ("endpoint of the upstream", Upstream::endpoint("/register")),
        ("endpoint of the upstream", Upstream::endpoint("http://idp.example/register")),
        ("endpoint of the upstream", Upstream::endpoint("http://127.0.0.1/register")),
        ("endpoint of the upstream", Upstream::endpoint("ftp://idp.example/").insecure_http(true)),
        ("discovered_at", Upstream::discovered_at("http://idp.example/")),
        ("configuration_endpoints_at", https().configuration_endpoints_at("http://idp.internal/")),
        (
            "root_certificates",
            https().root_certificates("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"),
        ),
        ("max_concurrent_requests", https().max_concurrent_requests(0)),
    ] {
        let error = new(upstream, policy()).unwrap_err();
        assert_eq!(error.setting(), setting);
        assert_eq!(error.source().is_some(), setting == "root_certificates");
    }
    let hooked = policy().software_statement_hook(async |_| Ok(serde_json::Map::new()));
    for (setting, policy) in [
        ("reuse_identical", policy().reuse_identical(true)),
        ("software_statement_hook", hooked),
        ("max_registrations", policy().max_registrations(0)),
    ] {
        assert_eq!(new(https(), policy).unwrap_err().setting(), setting);
    }
}

#[tokio::test]
async fn the_endpoint_is_discovered_once() {
    let (provider, base) = Provider::start().await;
    let upstream = Upstream::discovered_at(format!("{base}/.well-known/openid-configuration")).insecure_http(true);
    let service =
        UpstreamRegistration::new(MemoryRegistry::new(), ENDPOINT, upstream, RegistrationPolicy::new()).unwrap();
    // Not for ever, when it fails.
    provider.will_answer(503, Value::Null);
    send(&service, "POST", "/register", None, asked()).await.assert_error(503, "temporarily_unavailable");
    for (status, error) in [(404, (500, "server_error")), (503, (503, "temporarily_unavailable"))] {
        provider.will_answer(status, json!({ "registration_endpoint": format!("{base}/error-page") }));
        send(&service, "POST", "/register", None, asked()).await.assert_error(error.0, error.1);
    }
    provider.will_answer(200, json!({ "issuer": base }));
    send(&service, "POST", "/register", None, asked()).await.assert_error(500, "server_error");
    provider.will_answer(200, json!({ "registration_endpoint": format!("{base}/found") }));
    for id in ["a", "b"] {
        provider.will_answer(201, registered(&base, id));
        assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    }
    let asked: Vec<_> = provider.take_asked().into_iter().map(|(request, ..)| request).collect();
    let discovery = "GET /.well-known/openid-configuration";
    assert_eq!(asked, [discovery, discovery, discovery, discovery, discovery, "POST /found", "POST /found"]);
}

#[tokio::test]
async fn a_configured_client_can_cover_ephemeral_ports() {
    let keeping = RegistrationPolicy::new().keep_members(["note"]);
    let (provider, base, store, service) =
        set_up_with(keeping, |upstream| upstream.reuse_configured_clients(true)).await;
    // One that has not looked for configured clients yet.
    let fresh = || {
        let upstream = Upstream::endpoint(format!("{base}/clients")).insecure_http(true).reuse_configured_clients(true);
        UpstreamRegistration::new(store.clone(), ENDPOINT, upstream, RegistrationPolicy::new()).unwrap()
    };
    let client = |id: &str, uri: &str| {
        let client = Client::builder(id).redirect_uri(uri).metadata("client_secret", "s");
        client.metadata("note", "the operator's").build().unwrap()
    };
    for number in 0..300 {
        store.insert(client(&format!("other-{number}"), "https://other.example/")).unwrap();
    }
    store.insert(client("native", "http://127.0.0.1/cb")).unwrap();
    let answer = send(&service, "POST", "/register", None, asked()).await;
    assert_eq!((answer.status.as_u16(), &answer.body["client_id"]), (201, &json!("native")));
    assert_eq!(answer.body["redirect_uris"], json!(["http://127.0.0.1:5000/cb"]));
    assert_eq!(answer.body["token_endpoint_auth_method"], "none");
    for secret in ["client_secret", "note", "registration_access_token", "registration_client_uri"] {
        assert!(answer.body.get(secret).is_none());
    }
    assert_eq!(provider.take_asked(), []);
    // Clients of other origins neither answer nor stand in the way.
    RegistryStore::insert(&store, client("stranger", "http://127.0.0.1/cb"), ClientOrigin::Registered).await.unwrap();
    assert_eq!(send(&fresh(), "POST", "/register", None, asked()).await.body["client_id"], "native");
    assert_eq!(provider.take_asked(), []);
    // A client without redirect URIs would fit all of them.
    let device = json!({
        "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_method": "none",
    });
    let (other, other_base, one, without_others) = set_up(|upstream| upstream.reuse_configured_clients(true)).await;
    one.insert(client("native", "http://127.0.0.1/cb")).unwrap();
    other.will_answer(201, registered(&other_base, "up-0"));
    assert_eq!(send(&without_others, "POST", "/register", None, device).await.body["client_id"], "up-0");

    // Not when one URI is left over, when two admit it, or when the client has a secret to keep.
    let both = json!({ "redirect_uris": ["http://127.0.0.1:5000/cb", "http://127.0.0.1:5000/other"] });
    provider.will_answer(201, registered(&base, "up-1"));
    assert_eq!(send(&service, "POST", "/register", None, both).await.body["client_id"], "up-1");
    store.insert(client("second", "http://127.0.0.1:*")).unwrap();
    provider.will_answer(201, registered(&base, "up-2"));
    assert_eq!(send(&fresh(), "POST", "/register", None, asked()).await.body["client_id"], "up-2");
    store.remove("second");
    store.replace(store.get("native").unwrap().to_builder().confidential().build().unwrap()).unwrap();
    provider.will_answer(201, registered(&base, "up-3"));
    assert_eq!(send(&fresh(), "POST", "/register", None, asked()).await.body["client_id"], "up-3");
}

#[tokio::test]
async fn the_registration_policy_applies_before_forwarding() {
    let (provider, base) = Provider::start().await;
    let policy = RegistrationPolicy::new()
        .initial_access_token("let-me-in")
        .redirect_hosts(["127.0.0.1"])
        .allowed_scopes(Scope::parse("openid").unwrap());
    let upstream = Upstream::endpoint(&base).insecure_http(true);
    let service = UpstreamRegistration::new(MemoryRegistry::new(), ENDPOINT, upstream, policy).unwrap();
    send(&service, "POST", "/register", None, asked()).await.assert_error(401, "invalid_token");
    let token = Some("let-me-in");
    let host = json!({ "redirect_uris": ["https://app.example/"] });
    send(&service, "POST", "/register", token, host).await.assert_error(400, "invalid_redirect_uri");
    let scope = json!({ "redirect_uris": ["http://127.0.0.1/"], "scope": "admin" });
    send(&service, "POST", "/register", token, scope).await.assert_error(400, "invalid_client_metadata");
    assert_eq!(send(&service, "GET", "/register", token, Value::Null).await.status, 405);
    assert_eq!(provider.take_asked(), []);
    provider.will_answer(201, registered(&base, "x"));
    assert_eq!(send(&service, "POST", "/register", token, asked()).await.status, 201);
    // The token of this server is not for the upstream, and not for logs.
    assert_eq!(provider.take_asked()[0].1, None);
    let upstream = Upstream::endpoint(&base).insecure_http(true).initial_access_token("hidden");
    assert!(!format!("{upstream:?}").contains("hidden"));
}

#[tokio::test]
async fn an_answer_without_scopes_grants_none_that_were_not_asked_for() {
    let (provider, base, store, service) = set_up(|upstream| upstream).await;
    let mut silent = registered(&base, "x");
    silent["scope"] = Value::Null;
    provider.will_answer(201, silent.clone());
    let answer =
        send(&service, "POST", "/register", None, json!({ "redirect_uris": ["http://127.0.0.1:5000/cb"] })).await;
    assert_eq!((answer.status.as_u16(), answer.body.get("scope")), (201, None));
    assert_eq!(store.get("x").unwrap().allowed_scopes(), None);

    // Nor one that names any scope.
    for (id, scope, allowed) in [("a", "*", None), ("b", "openid *", Some("openid")), ("c", "", Some(""))] {
        let mut answer = registered(&base, id);
        answer["scope"] = json!(scope);
        provider.will_answer(201, answer);
        let body = json!({ "redirect_uris": ["http://127.0.0.1:5000/cb"] });
        assert_eq!(send(&service, "POST", "/register", None, body).await.status, 201);
        assert_eq!(store.get(id).unwrap().allowed_scopes().map(|scopes| scopes.as_str()), allowed);
    }
}

#[tokio::test]
async fn requests_that_wait_for_the_upstream_are_bounded_also_when_their_clients_hang_up() {
    let (provider, base, store, service) = set_up(|upstream| upstream.max_concurrent_requests(2)).await;
    provider.will_answer(201, registered(&base, "x"));
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
    provider.take_asked();
    let closed = Arc::clone(&provider.gate).write_owned().await;
    let begin = |request: &'static str, id: &'static str| {
        let service = service.clone();
        let (method, path, token) = match request {
            "POST /clients" => ("POST", "/register", None),
            _ => ("GET", "/register/x", Some("token-of-x")),
        };
        provider.will_answer(if method == "POST" { 201 } else { 200 }, registered(&base, id));
        tokio::spawn(async move { send(&service, method, path, token, asked()).await.status })
    };
    for (request, id) in [("POST /clients", "y"), ("GET /clients/x", "x")] {
        let waiting = begin(request, id);
        until(|| provider.was_asked(request)).await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
    }
    for (method, path, token) in [
        ("POST", "/register", None),
        ("GET", "/register/x", Some("token-of-x")),
        ("DELETE", "/register/x", Some("token-of-x")),
    ] {
        let refused = send(&service, method, path, token, asked()).await;
        refused.assert_error(503, "temporarily_unavailable");
        assert!(refused.headers.contains_key("retry-after"));
    }
    let change = json!({ "client_id": "x", "redirect_uris": ["http://127.0.0.1:5000/cb"] });
    send(&service, "PUT", "/register/x", Some("token-of-x"), change).await.assert_error(503, "temporarily_unavailable");
    assert_eq!(provider.take_asked().len(), 2);
    drop(closed);
    until(|| store.get("y").is_some()).await;
    provider.will_answer(201, registered(&base, "z"));
    let registered = async { while send(&service, "POST", "/register", None, asked()).await.status != 201 {} };
    tokio::time::timeout(Duration::from_secs(30), registered).await.unwrap();
}

/// Answers each connection with these bytes and closes it; counts connections.
async fn answering(answer: impl Into<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (answer, connections) = (Arc::new(answer.into()), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 8192]).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
                // Otherwise what was not read resets the connection before the answer arrives.
                let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 8192])).await;
            });
        }
    });
    (base, connections)
}

fn at(url: String) -> UpstreamRegistration<MemoryRegistry> {
    let upstream = Upstream::endpoint(url).insecure_http(true).initial_access_token("ours");
    UpstreamRegistration::new(MemoryRegistry::new(), ENDPOINT, upstream, RegistrationPolicy::new()).unwrap()
}

/// The request carries credentials.
#[tokio::test]
async fn redirects_of_the_upstream_are_not_followed() {
    let (elsewhere, connections) = answering("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!("HTTP/1.1 {status}\r\nlocation: {elsewhere}/clients\r\ncontent-length: 0\r\n\r\n");
        let (base, _) = answering(answer).await;
        send(&at(base), "POST", "/register", None, asked()).await.assert_error(500, "server_error");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_of_the_upstream_is_read_up_to_the_limit() {
    let answer = |bytes: usize| {
        let client = json!({ "client_id": "x" }).to_string();
        let padding = " ".repeat(bytes - client.len());
        format!("HTTP/1.1 201 Created\r\ncontent-length: {bytes}\r\n\r\n{client}{padding}")
    };
    let (base, _) = answering(answer(64 * 1024)).await;
    assert_eq!(send(&at(base), "POST", "/register", None, asked()).await.status, 201);
    let (base, _) = answering(answer(64 * 1024 + 1)).await;
    send(&at(base), "POST", "/register", None, asked()).await.assert_error(500, "server_error");
    // The rest is not waited for.
    let (base, _) = answering(answer(70_000).replace("content-length: 70000", "content-length: 70000000")).await;
    send(&at(base), "POST", "/register", None, asked()).await.assert_error(500, "server_error");
}

#[tokio::test]
async fn a_metadata_document_over_https_names_no_endpoint_over_http() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (provider, base) = Provider::start().await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let document = format!("https://localhost:{}/document", listener.local_addr().unwrap().port());
    let body = json!({ "registration_endpoint": format!("{base}/clients") }).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    for insecure in [false, true] {
        let upstream = Upstream::discovered_at(&document).root_certificates(certified.cert.pem());
        let upstream = upstream.insecure_http(insecure);
        let service = UpstreamRegistration::new(MemoryRegistry::new(), ENDPOINT, upstream, RegistrationPolicy::new());
        send(&service.unwrap(), "POST", "/register", None, asked()).await.assert_error(500, "server_error");
    }
    assert_eq!(provider.take_asked(), []);
    // The document itself was read.
    let upstream = Upstream::discovered_at(&document);
    let service = UpstreamRegistration::new(MemoryRegistry::new(), ENDPOINT, upstream, RegistrationPolicy::new());
    send(&service.unwrap(), "POST", "/register", None, asked()).await.assert_error(503, "temporarily_unavailable");
}

/// The environment of this process cannot be changed while other tests run, so a separate process sends the request.
#[tokio::test]
async fn proxy_variables_are_ignored() {
    let (proxy, through_proxy) = answering("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    let (base, direct) = answering("HTTP/1.1 201 Created\r\ncontent-length: 17\r\n\r\n{\"client_id\":\"x\"}").await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "upstream_registration::asks_the_upstream", "--ignored"]).env("UPSTREAM", base);
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy);
    }
    assert!(in_time(child.output()).await.unwrap().status.success());
    assert_eq!((through_proxy.load(Ordering::SeqCst), direct.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test]
#[ignore = "run by `proxy_variables_are_ignored`"]
async fn asks_the_upstream() {
    let service = at(std::env::var("UPSTREAM").unwrap());
    assert_eq!(send(&service, "POST", "/register", None, asked()).await.status, 201);
}
