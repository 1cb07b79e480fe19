//! Clients that register themselves: RFC 7591 and RFC 7592.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tower::{Service as _, ServiceExt};
use tower_oauth_client_validation::{
    AllowedScopes, Client, ClientKind, ClientOrigin, ClientStatus, EndpointFuture, GrantTypes, MemoryRegistry,
    RegistrationPolicy, RegistrationService, RegistryStore, Scope, SoftwareStatementError,
};

use crate::fixture;
use crate::wait::in_time;

pub(crate) const ENDPOINT: &str = "https://as.example/register";

type Service = RegistrationService<MemoryRegistry>;

fn service(store: &MemoryRegistry, policy: RegistrationPolicy) -> Service {
    RegistrationService::new(store.clone(), ENDPOINT, policy).unwrap()
}

fn open() -> (MemoryRegistry, Service) {
    let store = MemoryRegistry::new();
    let service = service(&store, RegistrationPolicy::new());
    (store, service)
}

/// A registration service of either kind.
pub(crate) trait Endpoint: Send + Sync {
    fn ask(&self, request: Request<Full<Bytes>>) -> EndpointFuture;
}

impl<S: RegistryStore + 'static> Endpoint for RegistrationService<S> {
    fn ask(&self, request: Request<Full<Bytes>>) -> EndpointFuture {
        self.clone().call(request)
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn read(response: Response<Full<Bytes>>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        assert_eq!(parts.headers["cache-control"], "no-store");
        assert_eq!(parts.headers["pragma"], "no-cache");
        Self { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_else(|| panic!("{member} in {}", self.body))
    }

    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, error: &str) {
        assert_eq!((self.status.as_u16(), self.body["error"].as_str()), (status, Some(error)), "{}", self.body);
        let description = self.text("error_description");
        assert!(description.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E)), "{description}");
    }
}

pub(crate) async fn send(
    service: &(impl Endpoint + ?Sized),
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(Full::<Bytes>::from(body)).unwrap();
    Answer::read(service.ask(request).await.unwrap()).await
}

pub(crate) async fn register(service: &(impl Endpoint + ?Sized), body: Value) -> Answer {
    send(service, "POST", "/register", None, Some(body)).await
}

pub(crate) fn path(answer: &Answer) -> String {
    answer.text("registration_client_uri").strip_prefix("https://as.example").unwrap().to_owned()
}

pub(crate) fn public() -> Value {
    json!({ "redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none" })
}

pub(crate) fn with(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { unreachable!() };
    body.as_object_mut().unwrap().extend(more);
    body
}

#[tokio::test]
async fn a_confidential_client_is_registered_with_all_credentials() {
    let (store, service) = open();
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let answer = register(
        &service,
        json!({
            "redirect_uris": ["https://app.example/cb", "https://app.example/other"],
            "client_name": "App",
            "client_name#ja-Jpan-JP": "アプリ",
            "logo_uri": "https://app.example/logo.png",
            "contacts": ["a@app.example"],
            "jwks_uri": "https://app.example/keys",
            "software_id": "x",
        }),
    )
    .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.body["client_id_issued_at"].as_u64().unwrap() >= before);
    assert_eq!(answer.body["client_secret_expires_at"], 0);
    assert_eq!(answer.body["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(answer.body["grant_types"], json!(["authorization_code"]));
    assert_eq!(answer.body["response_types"], json!(["code"]));
    assert_eq!(answer.body["client_name"], "App");
    assert_eq!(answer.body["client_name#ja-Jpan-JP"], "アプリ");
    assert_eq!(answer.body["logo_uri"], "https://app.example/logo.png");
    assert_eq!(answer.body["jwks_uri"], "https://app.example/keys");
    assert_eq!(answer.body["redirect_uris"], json!(["https://app.example/cb", "https://app.example/other"]));

    let id = answer.text("client_id");
    assert_eq!(answer.text("registration_client_uri"), format!("{ENDPOINT}/{id}"));
    let client = store.get(id).unwrap();
    assert_eq!(client.kind(), ClientKind::Confidential);
    assert_eq!(store.origin(id), Some(ClientOrigin::Registered));
    assert!(fixture::has_secret(&client, answer.text("client_secret")));
    assert!(!fixture::has_secret(&client, "wrong"));
    assert!(!fixture::has_secret(&client, ""));

    // Credentials are kept as digests only, and the digests stay inside.
    let kept = serde_json::to_string(&client.to_metadata()).unwrap();
    assert!(!kept.contains(answer.text("client_secret")));
    assert!(!kept.contains(answer.text("registration_access_token")));
    assert!(!answer.body.to_string().contains("sha256"));
}

#[tokio::test]
async fn a_public_client_gets_no_secret() {
    let (store, service) = open();
    let answer = register(&service, public()).await;
    assert_eq!(answer.status, 201);
    assert!(answer.body.get("client_secret").is_none() && answer.body.get("client_secret_expires_at").is_none());
    let client = store.get(answer.text("client_id")).unwrap();
    assert_eq!(client.kind(), ClientKind::Public);
    assert!(fixture::may_use(&store, client.id(), Some("http://127.0.0.1:50000/callback"), None));
    let other = register(&service, public()).await;
    assert_ne!(other.text("client_id"), answer.text("client_id"));
}

#[tokio::test]
async fn the_registration_can_be_read_changed_and_deleted() {
    let (store, service) = open();
    let created =
        register(&service, json!({ "redirect_uris": ["https://app.example/cb"], "client_name": "Old" })).await;
    let (id, token, secret) =
        (created.text("client_id"), created.text("registration_access_token"), created.text("client_secret"));
    let uri = path(&created);

    let read = send(&service, "GET", &uri, Some(token), None).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.text("registration_access_token"), token);
    assert_eq!(read.text("client_name"), "Old");
    assert_eq!(read.body["client_id_issued_at"], created.body["client_id_issued_at"]);

    // Full replacement: the name goes, the secret stays, the token is a new one.
    let change = json!({ "client_id": id, "client_secret": secret, "redirect_uris": ["https://app.example/new"] });
    let changed = send(&service, "PUT", &uri, Some(token), Some(change)).await;
    assert_eq!(changed.status, 200);
    assert!(changed.body.get("client_name").is_none());
    assert_eq!(changed.text("client_secret"), secret);
    let new_token = changed.text("registration_access_token");
    assert_ne!(new_token, token);
    assert!(fixture::has_secret(&store.get(id).unwrap(), secret));
    assert!(fixture::may_use(&store, id, Some("https://app.example/new"), None));
    assert!(!fixture::may_use(&store, id, Some("https://app.example/cb"), None));
    send(&service, "GET", &uri, Some(token), None).await.assert_error(401, "invalid_token");

    let deleted = send(&service, "DELETE", &uri, Some(new_token), None).await;
    assert_eq!((deleted.status.as_u16(), deleted.body), (204, Value::Null));
    assert!(store.get(id).is_none());
    for method in ["GET", "DELETE"] {
        send(&service, method, &uri, Some(new_token), None).await.assert_error(401, "invalid_token");
    }
}

#[tokio::test]
async fn a_wrong_token_and_a_missing_client_look_the_same() {
    let (store, service) = open();
    let first = register(&service, public()).await;
    let second = register(&service, public()).await;
    store
        .insert(Client::builder("configured").metadata("registration_access_token_sha256", "").build().unwrap())
        .unwrap();
    let mut seen = Vec::new();
    for (path, token) in [
        (path(&first), None),
        (path(&first), Some("wrong")),
        (path(&first), Some(second.text("registration_access_token"))),
        ("/register/nobody".to_owned(), Some(first.text("registration_access_token"))),
        ("/register/configured".to_owned(), Some("")),
        ("/register/configured".to_owned(), Some("x")),
        ("/register/%00".to_owned(), Some("x")),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = send(&service, method, &path, token, Some(public())).await;
            answer.assert_error(401, "invalid_token");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "));
            seen.push((answer.headers, answer.body));
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_disabled_client_cannot_be_managed() {
    let (store, service) = open();
    let answer = register(&service, public()).await;
    let (id, token) = (answer.text("client_id"), answer.text("registration_access_token"));
    store.replace(store.get(id).unwrap().to_builder().disabled(true).build().unwrap()).unwrap();
    let change = with(public(), json!({ "client_id": id }));
    send(&service, "PUT", &path(&answer), Some(token), Some(change)).await.assert_error(401, "invalid_token");
    store.revoke(id);
    send(&service, "DELETE", &path(&answer), Some(token), None).await.assert_error(401, "invalid_token");
    assert_eq!(store.get(id).unwrap().status(), ClientStatus::Revoked);
}

#[tokio::test]
async fn an_update_must_name_the_client_and_no_member_that_the_server_sets() {
    let (store, service) = open();
    let answer = register(&service, json!({ "redirect_uris": ["https://app.example/cb"] })).await;
    let (id, token) = (answer.text("client_id"), answer.text("registration_access_token"));
    let body = json!({ "client_id": id, "redirect_uris": ["https://app.example/cb"] });
    for wrong in [
        json!({ "client_id": null }),
        json!({ "client_id": "another" }),
        json!({ "client_secret": "of my own choice" }),
        json!({ "client_secret": 7 }),
        json!({ "registration_access_token": token }),
        json!({ "registration_client_uri": ENDPOINT }),
        json!({ "client_secret_expires_at": 0 }),
        json!({ "client_id_issued_at": 1 }),
    ] {
        let refused = send(&service, "PUT", &path(&answer), Some(token), Some(with(body.clone(), wrong))).await;
        refused.assert_error(400, "invalid_client_metadata");
    }
    let refused = with(body.clone(), json!({ "redirect_uris": ["http://app.example/cb"] }));
    let refused = send(&service, "PUT", &path(&answer), Some(token), Some(refused)).await;
    refused.assert_error(400, "invalid_redirect_uri");
    // Nothing of that had an effect, on the token neither.
    assert!(fixture::may_use(&store, id, Some("https://app.example/cb"), None));
    let changed = send(&service, "PUT", &path(&answer), Some(token), Some(body)).await;
    assert_eq!(changed.status, 200);
    // The secret was not presented, so the answer cannot contain it; it still works.
    assert!(changed.body.get("client_secret").is_none());
    assert_eq!(changed.body["client_secret_expires_at"], 0);
    assert!(fixture::has_secret(&store.get(id).unwrap(), answer.text("client_secret")));
}

#[tokio::test]
async fn changing_between_public_and_confidential_removes_or_issues_the_secret() {
    let (store, service) = open();
    let answer = register(&service, public()).await;
    let (id, uri) = (answer.text("client_id"), path(&answer));
    let body = json!({ "client_id": id, "redirect_uris": ["http://127.0.0.1/callback"] });
    let token = answer.text("registration_access_token");
    let confidential = send(&service, "PUT", &uri, Some(token), Some(body.clone())).await;
    let secret = confidential.text("client_secret");
    assert!(fixture::has_secret(&store.get(id).unwrap(), secret));
    let body = with(body, json!({ "token_endpoint_auth_method": "none" }));
    let token = confidential.text("registration_access_token");
    let public = send(&service, "PUT", &uri, Some(token), Some(body)).await;
    assert!(public.body.get("client_secret").is_none());
    assert!(!fixture::has_secret(&store.get(id).unwrap(), secret));
}

/// Two secrets are valid until the operator drops the old one.
#[tokio::test]
async fn a_change_may_present_the_former_secret_and_is_not_answered_with_it() {
    let (store, service) = open();
    let answer = register(&service, json!({ "redirect_uris": ["https://app.example/cb"] })).await;
    let (id, former) = (answer.text("client_id"), answer.text("client_secret"));
    let client = store.get(id).unwrap();
    let former_digest = client.metadata().unwrap()["client_secret_sha256"].clone();
    // SHA-256 of `secret`.
    let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let rotated = client.to_builder().metadata("client_secret_sha256", digest);
    store.replace(rotated.metadata("previous_client_secret_sha256", former_digest.clone()).build().unwrap()).unwrap();
    let mut token = answer.text("registration_access_token").to_owned();
    for (presented, answered) in [(former, Value::Null), ("secret", json!("secret"))] {
        let body = json!({ "client_id": id, "redirect_uris": ["https://app.example/cb"], "client_secret": presented });
        let changed = send(&service, "PUT", &path(&answer), Some(&token), Some(body)).await;
        assert_eq!(changed.status, 200, "{}", changed.body);
        assert_eq!(changed.body["client_secret"], answered);
        token = changed.text("registration_access_token").to_owned();
        let client = store.get(id).unwrap();
        assert!(fixture::has_secret(&client, "secret"));
        assert_eq!(client.metadata().unwrap()["previous_client_secret_sha256"], former_digest);
    }
    let body = json!({ "client_id": id, "redirect_uris": ["https://app.example/cb"], "client_secret": "" });
    let refused = send(&service, "PUT", &path(&answer), Some(&token), Some(body)).await;
    refused.assert_error(400, "invalid_client_metadata");
}

#[tokio::test]
async fn decisions_of_the_operator_survive_an_update() {
    let (store, service) = open();
    let answer = register(&service, public()).await;
    let (id, uri) = (answer.text("client_id"), path(&answer));
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    store.replace(store.get(id).unwrap().to_builder().trusted(true).expires_at(end).build().unwrap()).unwrap();
    let body = with(public(), json!({ "client_id": id, "client_name": "New" }));
    let token = answer.text("registration_access_token");
    let changed = send(&service, "PUT", &uri, Some(token), Some(body)).await;
    assert!(changed.body.get("trusted").is_none() && changed.body.get("expires_at").is_none());
    assert!(store.get(id).unwrap().is_trusted());
    assert_eq!(store.get(id).unwrap().expires_at(), Some(end));
    // Trust does not reach redirect URIs that the operator never saw.
    let body = json!({ "client_id": id, "redirect_uris": ["https://new.example/"] });
    let token = changed.text("registration_access_token");
    assert_eq!(send(&service, "PUT", &uri, Some(token), Some(body)).await.status, 200);
    assert!(!store.get(id).unwrap().is_trusted());
    assert_eq!(store.get(id).unwrap().expires_at(), Some(end));
}

#[tokio::test]
async fn privileges_cannot_be_registered() {
    let (store, service) = open();
    store.insert(Client::builder("admin").name("Admin").build().unwrap()).unwrap();
    let answer = register(
        &service,
        with(
            public(),
            json!({
                "client_id": "admin",
                "client_secret": "chosen",
                "client_secret_sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
                "registration_access_token_sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
                "registration_access_token": "chosen",
                "registration_client_uri": "https://evil.example/",
                "registration_shared": true,
                "trusted": true,
                "disabled": true,
                "revoked": true,
                "expires_at": 1,
                "default_scope": "*",
                "unknown": 1,
                "client_uri#de": "https://app.example/",
                "trusted#de": true,
            }),
        ),
    )
    .await;
    assert_eq!(answer.status, 201);
    let id = answer.text("client_id");
    assert_ne!(id, "admin");
    let client = store.get(id).unwrap();
    assert!(!client.is_trusted() && client.status() == ClientStatus::Active && client.expires_at().is_none());
    assert!(client.allowed_scopes().is_none() && client.default_scopes().is_none());
    assert!(!fixture::has_secret(&client, "secret") && !fixture::has_secret(&client, "chosen"));
    let kept = client.metadata().unwrap();
    let names: Vec<_> = kept.keys().map(String::as_str).collect();
    assert_eq!(names, ["client_uri#de", "registration_access_token_sha256", "registration_granted"]);
    assert_eq!(store.get("admin").unwrap().name(), Some("Admin"));
    assert_eq!(store.origin("admin"), Some(ClientOrigin::Configured));
    send(&service, "GET", &path(&answer), Some("secret"), None).await.assert_error(401, "invalid_token");
}

#[tokio::test]
async fn refused_metadata() {
    let (store, service) = open();
    let web = "https://app.example/cb";
    for (body, error) in [
        (json!([]), "invalid_client_metadata"),
        (json!({}), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": "https://app.example/cb" }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [1] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["http://app.example/cb"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["https://app.example/cb#x"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["javascript:alert(1)"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [web, "https://app.example/*"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["http://localhost:*"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["http://127.0.0.1:*/cb"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [web], "application_type": "native" }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["com.example:/cb"], "application_type": "web" }), "invalid_redirect_uri"),
        (
            json!({ "redirect_uris": ["http://localhost/cb"], "application_type": "web", "grant_types": ["implicit"], "response_types": ["token"] }),
            "invalid_redirect_uri",
        ),
        (json!({ "redirect_uris": [web], "application_type": "desktop" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "grant_types": ["client_credentials"] }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "grant_types": [] }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "grant_types": "authorization_code" }), "invalid_client_metadata"),
        (
            json!({ "redirect_uris": [web], "grant_types": ["implicit"], "response_types": ["code"] }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": [web], "response_types": ["token"] }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "response_types": [] }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "response_types": ["code", "magic"] }), "invalid_client_metadata"),
        (
            json!({ "redirect_uris": [web], "token_endpoint_auth_method": "client_secret_jwt" }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": [web], "token_endpoint_auth_method": 1 }), "invalid_client_metadata"),
        (
            json!({ "redirect_uris": [web], "jwks_uri": "https://a.example/", "jwks": { "keys": [] } }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": [web], "jwks_uri": "http://a.example/" }), "invalid_client_metadata"),
        (
            json!({ "redirect_uris": [web], "jwks": { "keys": [{ "kty": "oct", "k": "AA" }] } }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": [web], "client_name": 1 }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_name#de": 1 }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "logo_uri": "javascript:alert(1)" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_uri#de": "data:text/html,x" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "logo_uri": "https:app.example/logo.png" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "logo_uri": "https:\\\\app.example" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "tos_uri": "https://app.\texample/" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_uri": "https://bank.example@a.example/" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_uri": "https://" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_uri": "https://a.example/a b" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_uri": "https://a.example/\u{7f}" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "client_uri": "https://a.example\\a" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "initiate_login_uri": "http://localhost/" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "initiate_login_uri": "https://a.example/#x" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "contacts": "a@app.example" }), "invalid_client_metadata"),
        (
            json!({ "redirect_uris": [web], "post_logout_redirect_uris": ["http://a.example/"] }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": [web], "scope": "openid" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "scope": "*" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "scope": "two  spaces" }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [web], "software_statement": "a.b.c" }), "unapproved_software_statement"),
        (json!({ "redirect_uris": [web], "response_types": ["code", "token"] }), "invalid_client_metadata"),
    ] {
        let answer = register(&service, body.clone()).await;
        assert_eq!(answer.body["error"], error, "{body} got {}", answer.body);
        answer.assert_error(400, error);
    }
    assert!(store.is_empty());
}

#[tokio::test]
async fn taken_metadata() {
    let store = MemoryRegistry::new();
    let policy = RegistrationPolicy::new().grant_types(
        GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::CLIENT_CREDENTIALS).with(GrantTypes::REFRESH_TOKEN),
    );
    let service = service(&store, policy);
    for body in [
        json!({ "redirect_uris": ["com.example.app:/cb"], "application_type": "native" }),
        json!({ "redirect_uris": ["http://localhost/cb"], "application_type": "native" }),
        json!({ "redirect_uris": ["https://app.example/cb"], "application_type": "web" }),
        // Most native clients do not say that they are.
        json!({ "redirect_uris": ["cursor://callback", "https://app.example/cb", "http://[::1]:5000/cb"] }),
        json!({ "redirect_uris": ["https://app.example/cb"], "client_uri": null, "scope": "" }),
        json!({ "grant_types": ["client_credentials"] }),
        with(public(), json!({ "jwks": { "keys": [{ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }] } })),
    ] {
        let answer = register(&service, body.clone()).await;
        assert_eq!(answer.status, 201, "{body} got {}", answer.body);
    }
    // Grants that are not supported are left out, as RFC 7591 allows, and the answer says so.
    let grants = json!(["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code", "new"]);
    let answer = register(&service, with(public(), json!({ "grant_types": grants }))).await;
    assert_eq!(answer.body["grant_types"], json!(["authorization_code", "refresh_token"]));
}

#[tokio::test]
async fn scopes_are_bounded_by_the_policy() {
    let allowed = || Scope::parse("read write admin").unwrap();
    let policy = || RegistrationPolicy::new().allowed_scopes(allowed()).default_scopes(Scope::parse("read").unwrap());
    let store = MemoryRegistry::new();

    let bounded = service(&store, policy());
    assert_eq!(register(&bounded, public()).await.text("scope"), "read");
    assert_eq!(register(&bounded, with(public(), json!({ "scope": "write read" }))).await.text("scope"), "write read");
    register(&bounded, with(public(), json!({ "scope": "read root" })))
        .await
        .assert_error(400, "invalid_client_metadata");
    register(&bounded, with(public(), json!({ "scope": "*" }))).await.assert_error(400, "invalid_client_metadata");

    let narrow = service(&store, policy().narrow_scopes(true));
    assert_eq!(register(&narrow, with(public(), json!({ "scope": "root read" }))).await.text("scope"), "read");
    register(&narrow, with(public(), json!({ "scope": "root" }))).await.assert_error(400, "invalid_client_metadata");

    // Default scopes may be named too; a default of `*` does not allow naming `*`.
    let defaults = RegistrationPolicy::new().default_scopes(Scope::parse("read write").unwrap());
    assert_eq!(defaults.registrable_scopes(), Some(Scope::parse("read write").unwrap()));
    let defaults = service(&store, defaults);
    assert_eq!(register(&defaults, with(public(), json!({ "scope": "write" }))).await.text("scope"), "write");
    register(&defaults, with(public(), json!({ "scope": "x" }))).await.assert_error(400, "invalid_client_metadata");
    let star = service(&store, RegistrationPolicy::new().default_scopes(Scope::parse("*").unwrap()));
    register(&star, with(public(), json!({ "scope": "*" }))).await.assert_error(400, "invalid_client_metadata");

    // For step-up authorization: all may be asked for, and asking for none gives what was registered.
    let all = service(&store, policy().grant_all_scopes(true));
    for (body, default) in [(public(), "read"), (with(public(), json!({ "scope": "write" })), "write")] {
        let answer = register(&all, body).await;
        assert_eq!(answer.text("scope"), "read write admin");
        assert!(answer.body.get("default_scope").is_none());
        let client = store.get(answer.text("client_id")).unwrap();
        assert_eq!(client.default_scopes().unwrap().as_str(), default);
        assert!(client.allowed_scopes().unwrap().contains("admin"));
    }
    let any = service(&store, RegistrationPolicy::new().allowed_scopes(Scope::parse("*").unwrap()));
    let answer = register(&any, with(public(), json!({ "scope": "what ever" }))).await;
    let client = store.get(answer.text("client_id")).unwrap();
    assert_eq!(client.allowed_scopes(), Some(&AllowedScopes::Listed(Scope::parse("what ever").unwrap())));
    register(&any, with(public(), json!({ "scope": "what *" }))).await.assert_error(400, "invalid_client_metadata");
}

#[tokio::test]
async fn redirect_hosts_and_schemes_are_bounded_by_the_policy() {
    let store = MemoryRegistry::new();
    let policy = RegistrationPolicy::new().redirect_hosts(["app.example", "127.0.0.1", "[::1]"]).redirect_schemes([
        "https",
        "http",
        "com.example.app",
    ]);
    let service = service(&store, policy);
    for (uri, taken) in [
        ("https://app.example/cb", true),
        ("https://app.example:8443/cb?x=1", true),
        ("http://127.0.0.1:5000/cb", true),
        ("http://[::1]:5000/cb", true),
        ("http://[::1]/cb", true),
        ("com.example.app:/cb", true),
        ("com.example.other:/cb", false),
        ("http://localhost/cb", false),
        ("https://sub.app.example/cb", false),
        ("https://app.example.evil.example/cb", false),
        ("https://evil.example/app.example", false),
        ("https://evil.example?//app.example/", false),
    ] {
        let answer = register(&service, json!({ "redirect_uris": [uri] })).await;
        if taken {
            assert_eq!(answer.status, 201, "{uri}");
        } else {
            answer.assert_error(400, "invalid_redirect_uri");
        }
        // Where else users are sent.
        let more = json!({ "redirect_uris": ["https://app.example/cb"], "post_logout_redirect_uris": [uri] });
        let answer = register(&service, more).await;
        if taken {
            assert_eq!((answer.status.as_u16(), &answer.body["post_logout_redirect_uris"]), (201, &json!([uri])));
        } else {
            answer.assert_error(400, "invalid_client_metadata");
        }
        let more = json!({ "redirect_uris": ["https://app.example/cb"], "initiate_login_uri": uri });
        let answer = register(&service, more).await;
        if taken && uri.starts_with("https:") {
            assert_eq!((answer.status.as_u16(), answer.text("initiate_login_uri")), (201, uri));
        } else {
            answer.assert_error(400, "invalid_client_metadata");
        }
    }
}

#[tokio::test]
async fn an_initial_access_token_can_be_required() {
    let store = MemoryRegistry::new();
    let tokens = RegistrationPolicy::new().initial_access_token("one").initial_access_token("two");
    let hook =
        RegistrationPolicy::new().initial_access_token_hook(|token| async move { token == "one" || token == "two" });
    for policy in [tokens, hook] {
        let service = service(&store, policy);
        for wrong in [None, Some("three"), Some("")] {
            let answer = send(&service, "POST", "/register", wrong, Some(public())).await;
            answer.assert_error(401, "invalid_token");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
        for token in ["one", "two"] {
            let created = send(&service, "POST", "/register", Some(token), Some(public())).await;
            assert_eq!(created.status, 201);
            // It is for registering, not for managing.
            send(&service, "GET", &path(&created), Some(token), None).await.assert_error(401, "invalid_token");
        }
    }
}

#[tokio::test]
async fn a_software_statement_needs_a_verifier() {
    let store = MemoryRegistry::new();
    let policy = RegistrationPolicy::new().software_statement_hook(|statement| async move {
        match statement.as_str() {
            "good" => {
                let claims = json!({ "client_name": "Signed", "trusted": true, "software_statement": "another" });
                Ok(claims.as_object().unwrap().clone())
            }
            "stranger" => Err(SoftwareStatementError::Unapproved),
            _ => Err(SoftwareStatementError::Invalid),
        }
    });
    let service = service(&store, policy);
    let body = |statement: Value| with(public(), json!({ "software_statement": statement, "client_name": "Plain" }));
    let answer = register(&service, body(json!("good"))).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.text("client_name"), "Signed");
    assert_eq!(answer.text("software_statement"), "good");
    assert!(!store.get(answer.text("client_id")).unwrap().is_trusted());
    register(&service, body(json!("stranger"))).await.assert_error(400, "unapproved_software_statement");
    register(&service, body(json!("bad"))).await.assert_error(400, "invalid_software_statement");
    register(&service, body(json!(1))).await.assert_error(400, "invalid_software_statement");

    // A change is verified too.
    let (id, path) = (answer.text("client_id").to_owned(), path(&answer));
    let mut token = answer.text("registration_access_token").to_owned();
    for (statement, error) in [("stranger", "unapproved_software_statement"), ("bad", "invalid_software_statement")] {
        let change = with(body(json!(statement)), json!({ "client_id": id }));
        send(&service, "PUT", &path, Some(&token), Some(change)).await.assert_error(400, error);
    }
    let change = with(body(json!("good")), json!({ "client_id": id }));
    let changed = send(&service, "PUT", &path, Some(&token), Some(change)).await;
    assert_eq!((changed.status.as_u16(), changed.text("client_name")), (200, "Signed"));
    token = changed.text("registration_access_token").to_owned();
    // Without a statement the metadata beside it counts.
    let change = with(body(Value::Null), json!({ "client_id": id }));
    let changed = send(&service, "PUT", &path, Some(&token), Some(change)).await;
    assert_eq!((changed.status.as_u16(), changed.text("client_name")), (200, "Plain"));
    assert!(changed.body.get("software_statement").is_none());
}

/// RFC 7591 §2.2: only what people read has translations.
#[tokio::test]
async fn members_that_are_not_for_people_have_no_language_tag() {
    let (store, service) = open();
    let tagged =
        json!({ "client_name#de": "Anwendung", "contacts#de": ["a"], "jwks_uri#de": "https://app.example/keys" });
    let answer = register(&service, with(public(), tagged)).await;
    let stored = store.get(answer.text("client_id")).unwrap().to_metadata();
    assert_eq!(stored["client_name#de"], "Anwendung");
    assert!(!stored.contains_key("contacts#de") && !stored.contains_key("jwks_uri#de"));
}

/// `*` is no scope that a client could be granted.
#[tokio::test]
async fn a_star_among_the_default_scopes_allows_no_others() {
    let scope = |text| Scope::parse(text).unwrap();
    let policy = RegistrationPolicy::new().allowed_scopes(scope("a b")).default_scopes(scope("*"));
    let store = MemoryRegistry::new();
    let answer = register(&service(&store, policy.grant_all_scopes(true)), public()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let client = store.get(answer.text("client_id")).unwrap();
    assert_eq!(client.allowed_scopes().unwrap().as_str(), "a b");
}

/// More than are removed at once.
#[tokio::test]
async fn a_clean_up_removes_all_idle_registrations() {
    let store = MemoryRegistry::new();
    let long_ago = SystemTime::now() - Duration::from_secs(91 * 86_400);
    for n in 0..1_001 {
        let client = Client::builder(n.to_string()).build().unwrap();
        RegistryStore::insert(&store, client, ClientOrigin::Registered).await.unwrap();
        store.touch(&n.to_string(), long_ago).await.unwrap();
    }
    let service = RegistrationService::new(store.clone(), ENDPOINT, RegistrationPolicy::new()).unwrap();
    assert_eq!(service.clean_up().await.unwrap(), 1_001);
    assert!(store.is_empty());
}

#[tokio::test]
async fn a_client_is_found_below_the_endpoint_only() {
    let (_store, service) = open();
    let created = register(&service, public()).await;
    let (id, token) = (created.text("client_id"), created.text("registration_access_token"));
    for right in [format!("/register/{id}"), format!("/{id}")] {
        assert_eq!(send(&service, "GET", &right, Some(token), None).await.status, 200, "{right}");
    }
    for wrong in [format!("/register{id}"), format!("/registered/{id}"), format!("/register/{id}/x")] {
        let answer = send(&service, "GET", &wrong, Some(token), None).await;
        assert!(matches!(answer.status.as_u16(), 401 | 404), "{wrong}: {}", answer.status);
    }
}

#[tokio::test]
async fn room_for_a_large_client_is_made_in_few_steps() {
    let store = Recording { inner: MemoryRegistry::new().max_bytes(100_000), ..Recording::default() };
    let small = |n: usize| Client::builder(n.to_string()).build().unwrap();
    for n in 0.. {
        if store.insert(small(n), ClientOrigin::Registered).await.is_err() {
            break;
        }
    }
    let before = store.inner.len();
    let service = RegistrationService::new(store.clone(), ENDPOINT, RegistrationPolicy::new()).unwrap();
    let large = with(public(), json!({ "client_name": "a".repeat(7_000) }));
    assert_eq!(register(&service, large).await.status, 201);
    let removed = before + 1 - store.inner.len();
    let steps = store.removals.lock().unwrap().len();
    assert!(removed > 10 && steps < 8, "{removed} clients in {steps} steps");
}

#[tokio::test]
async fn a_software_statement_is_refused_where_nobody_verifies_it() {
    let (store, service) = open();
    let created = register(&service, public()).await;
    let (id, path) = (created.text("client_id").to_owned(), path(&created));
    let token = created.text("registration_access_token");
    let before = store.get(&id).unwrap();
    for statement in [json!("a.b.c"), json!(""), json!(1), json!({})] {
        let body = with(public(), json!({ "software_statement": statement }));
        register(&service, body.clone()).await.assert_error(400, "unapproved_software_statement");
        let change = with(body, json!({ "client_id": id }));
        let refused = send(&service, "PUT", &path, Some(token), Some(change)).await;
        refused.assert_error(400, "unapproved_software_statement");
    }
    assert_eq!((store.get(&id).unwrap(), store.len()), (before, 1));
    let change = with(public(), json!({ "client_id": id, "software_statement": null }));
    assert_eq!(send(&service, "PUT", &path, Some(token), Some(change)).await.status, 200);
}

#[tokio::test]
async fn requests_that_are_not_registrations_are_refused() {
    let (store, service) = open();
    let created = register(&service, public()).await;
    for (method, path, allow) in [
        ("GET", "/register", "POST"),
        ("PUT", "/register", "POST"),
        ("OPTIONS", "/", "POST"),
        ("POST", &*path(&created), "GET, PUT, DELETE"),
        ("HEAD", &*path(&created), "GET, PUT, DELETE"),
    ] {
        let answer = send(&service, method, path, None, None).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.headers["allow"], allow);
    }
    assert_eq!(send(&service, "GET", "/register/a/b", None, None).await.status, 404);
    for content_type in [None, Some("text/json"), Some("application/x-www-form-urlencoded")] {
        let mut request = Request::post("/register");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Full::<Bytes>::from(public().to_string())).unwrap();
        Answer::read(service.clone().oneshot(request).await.unwrap())
            .await
            .assert_error(415, "invalid_client_metadata");
    }
    let request = Request::post("/register").header("content-type", "Application/JSON; charset=utf-8");
    let request = request.body(Full::<Bytes>::from(public().to_string())).unwrap();
    assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 201);
    let request = Request::post("/register").header("content-type", "application/json");
    let request = request.body(Full::<Bytes>::from("{")).unwrap();
    let answer = Answer::read(service.clone().oneshot(request).await.unwrap()).await;
    answer.assert_error(400, "invalid_client_metadata");
    assert_eq!(store.len(), 2);
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_only() {
    let (store, service) = open();
    let padded = |length: usize| {
        let body = public().to_string();
        body.clone() + &" ".repeat(length - body.len())
    };
    let whole = |length: usize| {
        let request = Request::post("/register").header("content-type", "application/json");
        service.clone().oneshot(request.body(Full::<Bytes>::from(padded(length))).unwrap())
    };
    assert_eq!(whole(64 * 1024).await.unwrap().status(), 201);
    Answer::read(whole(64 * 1024 + 1).await.unwrap()).await.assert_error(413, "invalid_client_metadata");

    // Announced: not a byte is read.
    let request =
        Request::post("/register").header("content-type", "application/json").header("content-length", "70000");
    type Chunk = Result<http_body::Frame<Bytes>, std::io::Error>;
    let unread = StreamBody::new(futures::stream::poll_fn(|_| -> std::task::Poll<Option<Chunk>> {
        unreachable!("the body is not read")
    }));
    assert_eq!(service.clone().oneshot(request.body(unread).unwrap()).await.unwrap().status(), 413);

    // Endless: it stops by itself.
    let chunks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&chunks);
    let endless = futures::stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(&[b' '; 1024])))
    });
    let request = Request::post("/register").header("content-type", "application/json");
    let answer = service.clone().oneshot(request.body(StreamBody::new(endless)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(chunks.load(Ordering::Relaxed), 65);
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn it_works_below_a_prefix_that_a_router_strips_and_in_one_that_does_not() {
    for nested in [true, false] {
        let (_, service) = open();
        let router: axum::Router = if nested {
            axum::Router::new().nest_service("/register", service)
        } else {
            axum::Router::new()
                .route_service("/register", service.clone())
                .route_service("/register/{client_id}", service)
        };
        let request = Request::post("/register").header("content-type", "application/json");
        let request = request.body(axum::body::Body::from(public().to_string())).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 201);
        let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let uri = body["registration_client_uri"].as_str().unwrap().strip_prefix("https://as.example").unwrap();
        let token = format!("bearer {}", body["registration_access_token"].as_str().unwrap());
        let request = Request::get(uri).header("authorization", token).body(axum::body::Body::empty()).unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn above_the_maximum_the_oldest_unused_client_is_evicted() {
    let store = MemoryRegistry::new();
    let service = service(&store, RegistrationPolicy::new().max_registrations(3));
    store.insert(Client::builder("configured").build().unwrap()).unwrap();
    let used = register(&service, public()).await;
    store.touch(used.text("client_id"), SystemTime::now()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(register(&service, public()).await.status, 201);
        assert!(store.count(ClientOrigin::Registered).await.unwrap() <= 3);
    }
    assert!(store.get(used.text("client_id")).is_some());
    assert!(store.get("configured").is_some());
    for client in store.list() {
        store.touch(client.id(), SystemTime::now()).await.unwrap();
    }
    let refused = register(&service, public()).await;
    refused.assert_error(503, "temporarily_unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(store.len(), 4);
}

#[tokio::test]
async fn a_lowered_maximum_is_reached_in_steps() {
    let store = Recording::with_unused(2_500).await;
    let policy = RegistrationPolicy::new().max_registrations(10);
    let service = RegistrationService::new(store.clone(), ENDPOINT, policy).unwrap();
    for left in [1_501, 502, 10, 10] {
        assert_eq!(register(&service, public()).await.status, 201);
        assert_eq!(store.inner.len(), left);
    }
    assert!(store.removals.lock().unwrap().iter().all(|(_, most)| *most <= 1_000));
}

#[tokio::test]
async fn unused_registrations_expire() {
    let store = MemoryRegistry::new();
    // A lifetime that reaches before the epoch removes nothing.
    let for_ever = service(&store, RegistrationPolicy::new().unused_lifetime(Duration::from_secs(u64::MAX)));
    let first = register(&for_ever, public()).await;
    assert_eq!(for_ever.clean_up().await.unwrap(), 0);
    assert!(store.get(first.text("client_id")).is_some());

    let recording = Recording::default();
    let lifetime = Duration::from_secs(3600);
    let policy = RegistrationPolicy::new().unused_lifetime(lifetime);
    let service = RegistrationService::new(recording.clone(), ENDPOINT, policy).unwrap();
    let (earliest, latest) = {
        let earliest = SystemTime::now() - lifetime;
        service.clean_up().await.unwrap();
        (earliest, SystemTime::now() - lifetime)
    };
    let asked = recording.removals.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!((earliest..=latest).contains(&asked[0].0) && asked[0].1 == 1_000);

    // By the way too, but not at each registration.
    let recording = Recording::default();
    let policy = RegistrationPolicy::new().unused_lifetime(lifetime);
    let service = RegistrationService::new(recording.clone(), ENDPOINT, policy).unwrap();
    for _ in 0..3 {
        assert_eq!(register(&service, public()).await.status, 201);
    }
    assert_eq!(recording.removals.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn many_unused_registrations_expire_in_steps() {
    let policy = || RegistrationPolicy::new().unused_lifetime(Duration::from_secs(3600));
    let store = Recording::with_unused(2_500).await;
    let service = RegistrationService::new(store.clone(), ENDPOINT, policy()).unwrap();
    assert_eq!(service.clean_up().await.unwrap(), 2_500);
    assert!(store.inner.is_empty());
    assert!(store.removals.lock().unwrap().iter().all(|(_, most)| *most == 1_000));

    // By the way, each registration does its part, until all is done.
    let store = Recording::with_unused(2_500).await;
    let service = RegistrationService::new(store.clone(), ENDPOINT, policy()).unwrap();
    for left in [1_501, 502, 1, 2] {
        assert_eq!(register(&service, public()).await.status, 201);
        assert_eq!(store.inner.len(), left);
    }
}

#[tokio::test]
async fn a_failed_cleanup_refuses_no_registration_below_the_maximum() {
    let store = Recording::default();
    store.cannot_remove.store(true, Ordering::SeqCst);
    let policy = RegistrationPolicy::new().unused_lifetime(Duration::from_secs(3600)).max_registrations(2);
    let service = RegistrationService::new(store.clone(), ENDPOINT, policy).unwrap();
    for _ in 0..2 {
        assert_eq!(register(&service, public()).await.status, 201);
    }
    assert_eq!(store.removals.lock().unwrap().len(), 1, "it was tried, and not again at once");
    assert!(service.clean_up().await.is_err());
    // There the cap cannot be held.
    register(&service, public()).await.assert_error(503, "temporarily_unavailable");
    assert_eq!(store.inner.len(), 2);
    store.cannot_remove.store(false, Ordering::SeqCst);
    assert_eq!(register(&service, public()).await.status, 201);
    assert_eq!(store.inner.len(), 2);
}

pub(crate) type Decision = fn(&MemoryRegistry, &str);

pub(crate) fn disable(store: &MemoryRegistry, id: &str) {
    store.replace(store.get(id).unwrap().to_builder().disabled(true).build().unwrap()).unwrap();
}

pub(crate) fn revoke(store: &MemoryRegistry, id: &str) {
    store.revoke(id).unwrap();
}

pub(crate) fn remove(store: &MemoryRegistry, id: &str) {
    store.remove(id).unwrap();
}

pub(crate) fn configure(store: &MemoryRegistry, id: &str) {
    remove(store, id);
    store.insert(Client::builder(id).name("Ours").build().unwrap()).unwrap();
}

#[tokio::test]
async fn sharing_does_not_revive_a_client_that_is_removed_concurrently() {
    for decide in [disable, revoke, remove, configure] as [Decision; 4] {
        let store = Recording::default();
        let policy = RegistrationPolicy::new().reuse_identical(true);
        let service = RegistrationService::new(store.clone(), ENDPOINT, policy).unwrap();
        let first = register(&service, public()).await;
        let id = first.text("client_id");
        let expected = MemoryRegistry::from_clients([(*store.inner.get(id).unwrap()).clone()]);
        decide(&expected, id);
        store.meanwhile(id, decide);
        let second = register(&service, public()).await;
        assert_eq!(second.status, 201, "{}", second.body);
        let token = second.text("registration_access_token");
        assert_eq!(send(&service, "GET", &path(&second), Some(token), None).await.status, 200);
        // An unused id may be assigned again.
        let is_free = expected.get(id).is_none();
        assert_eq!(second.text("client_id") == id, is_free);
        assert!(is_free || store.inner.get(id) == expected.get(id));
    }
}

#[tokio::test]
async fn a_disabled_shared_client_is_not_evicted_and_registered_again() {
    let store = MemoryRegistry::new();
    let service = service(&store, RegistrationPolicy::new().reuse_identical(true).max_registrations(3));
    let first = register(&service, public()).await;
    let id = first.text("client_id");
    disable(&store, id);
    for n in 0..10 {
        assert_eq!(register(&service, with(public(), json!({ "client_name": n.to_string() }))).await.status, 201);
    }
    assert_ne!(register(&service, public()).await.text("client_id"), id);
    assert_eq!(store.get(id).unwrap().status(), ClientStatus::Disabled);
    assert_eq!(store.len(), 3);
}

/// Foreign ids in every place that can hold one, and existing ids in every state.
#[tokio::test]
async fn an_existing_id_cannot_be_registered_over() {
    let shared_id = {
        let scratch = MemoryRegistry::new();
        let service = service(&scratch, RegistrationPolicy::new().reuse_identical(true));
        register(&service, public()).await.text("client_id").to_owned()
    };
    // The caller has an access token whose digest is in the client, however it got there.
    let (token, digest) = {
        let scratch = MemoryRegistry::new();
        let answer = register(&service(&scratch, RegistrationPolicy::new()), public()).await;
        let registered = scratch.get(answer.text("client_id")).unwrap();
        let digest = registered.metadata().unwrap()["registration_access_token_sha256"].clone();
        (answer.text("registration_access_token").to_owned(), digest)
    };
    for id in ["taken", &*shared_id] {
        for origin in [ClientOrigin::Configured, ClientOrigin::Upstream, ClientOrigin::Registered] {
            for status in [ClientStatus::Active, ClientStatus::Disabled, ClientStatus::Revoked] {
                let taken = Client::builder(id).name("Ours").redirect_uri("https://ours.example/").status(status);
                // Clients of other origins are not shared, whatever their metadata says.
                let taken = taken.metadata("registration_shared", origin != ClientOrigin::Registered);
                let taken = taken.metadata("registration_access_token_sha256", digest.clone()).build().unwrap();
                let store = MemoryRegistry::new();
                let taken = RegistryStore::insert(&store, taken, origin).await.unwrap();
                for reuse in [false, true] {
                    let claimed = id.to_owned();
                    let policy = RegistrationPolicy::new().reuse_identical(reuse).software_statement_hook(move |_| {
                        let claims = json!({ "client_id": claimed });
                        async move { Ok(claims.as_object().unwrap().clone()) }
                    });
                    let service = service(&store, policy);
                    let uri = format!("/register/{id}");
                    let body = with(public(), json!({ "client_id": id }));
                    let signed = with(body.clone(), json!({ "software_statement": "x" }));
                    for body in [public(), body.clone(), signed.clone()] {
                        let answer = register(&service, body).await;
                        assert_eq!(answer.status, 201);
                        assert_ne!(answer.text("client_id"), id);
                        // Nor does the token of one client open another one.
                        let own = with(public(), json!({ "client_id": id }));
                        let other = Some(answer.text("registration_access_token"));
                        send(&service, "PUT", &uri, other, Some(own.clone())).await.assert_error(401, "invalid_token");
                        send(&service, "PUT", &path(&answer), other, Some(own))
                            .await
                            .assert_error(400, "invalid_client_metadata");
                        send(&service, "DELETE", &uri, other, None).await.assert_error(401, "invalid_token");
                    }
                    if (origin, status) != (ClientOrigin::Registered, ClientStatus::Active) {
                        for method in ["GET", "PUT", "DELETE"] {
                            let answer = send(&service, method, &uri, Some(&token), Some(signed.clone())).await;
                            answer.assert_error(401, "invalid_token");
                        }
                    }
                }
                assert!(store.insert(Client::builder(id).build().unwrap()).is_err());
                assert_eq!(store.get(id).unwrap(), taken);
                assert_eq!(store.origin(id), Some(origin));
            }
        }
    }
}

#[tokio::test]
async fn identical_public_clients_can_share_an_id() {
    let store = MemoryRegistry::new();
    let service = service(&store, RegistrationPolicy::new().reuse_identical(true));
    let first = register(&service, with(public(), json!({ "client_name": "App" }))).await;
    let second = register(&service, with(json!({ "client_name": "App", "unknown": 1 }), public())).await;
    let id = first.text("client_id");
    assert_eq!(second.status, 201);
    assert_eq!(second.text("client_id"), id);
    assert_eq!(second.body["client_id_issued_at"], first.body["client_id_issued_at"]);
    assert_ne!(second.text("registration_access_token"), first.text("registration_access_token"));
    assert!(second.body.get("registration_shared").is_none());
    let other = register(&service, with(public(), json!({ "client_name": "Other" }))).await;
    assert_ne!(other.text("client_id"), id);
    // Secrets are not shared.
    let confidential = json!({ "redirect_uris": ["https://app.example/cb"] });
    let (a, b) = (register(&service, confidential.clone()).await, register(&service, confidential).await);
    assert_ne!(a.text("client_id"), b.text("client_id"));

    // A stranger who registers the same metadata can neither change nor remove the client.
    let token = second.text("registration_access_token");
    let evil =
        json!({ "client_id": id, "redirect_uris": ["https://evil.example/"], "token_endpoint_auth_method": "none" });
    let refused = send(&service, "PUT", &path(&second), Some(token), Some(evil)).await;
    refused.assert_error(403, "access_denied");
    let same = with(public(), json!({ "client_id": id, "client_name": "App" }));
    let same = send(&service, "PUT", &path(&second), Some(token), Some(same)).await;
    assert_eq!(same.status, 200);
    let token = same.text("registration_access_token");
    assert_eq!(send(&service, "DELETE", &path(&second), Some(token), None).await.status, 204);
    send(&service, "GET", &path(&second), Some(token), None).await.assert_error(401, "invalid_token");
    send(&service, "GET", &path(&second), Some(""), None).await.assert_error(401, "invalid_token");
    assert!(fixture::may_use(&store, id, Some("http://127.0.0.1:1234/callback"), None));
}

#[tokio::test]
async fn sharing_never_takes_over_a_client_that_was_not_registered() {
    let policy = || RegistrationPolicy::new().reuse_identical(true);
    let scratch = MemoryRegistry::new();
    let id = register(&service(&scratch, policy()), public()).await.text("client_id").to_owned();

    // Somebody configured a client of that id.
    let store = MemoryRegistry::from_clients([Client::builder(&*id).name("Ours").build().unwrap()]);
    let answer = register(&service(&store, policy()), public()).await;
    assert_ne!(answer.text("client_id"), id);
    assert_eq!(store.get(&id).unwrap().name(), Some("Ours"));

    // The operator revoked it.
    scratch.revoke(&id);
    let answer = register(&service(&scratch, policy()), public()).await;
    assert_ne!(answer.text("client_id"), id);
    assert_eq!(scratch.get(&id).unwrap().status(), ClientStatus::Revoked);
}

#[tokio::test]
async fn a_failing_store_is_not_reported_as_invalid_metadata() {
    let recording = Recording::default();
    *recording.fails.lock().unwrap() = true;
    let service = RegistrationService::new(recording, ENDPOINT, RegistrationPolicy::new()).unwrap();
    let request = Request::post("/register").header("content-type", "application/json");
    let request = request.body(Full::<Bytes>::from(public().to_string())).unwrap();
    let answer = Answer::read(service.clone().oneshot(request).await.unwrap()).await;
    answer.assert_error(503, "temporarily_unavailable");
    let request =
        Request::get("/register/x").header("authorization", "Bearer x").body(Full::<Bytes>::default()).unwrap();
    let answer = Answer::read(service.oneshot(request).await.unwrap()).await;
    answer.assert_error(503, "temporarily_unavailable");
}

#[test]
fn a_wrong_setting_is_named() {
    let new = |endpoint: &str, policy| RegistrationService::new(MemoryRegistry::new(), endpoint, policy);
    for wrong in ["/register", "ftp://as.example/register", "https://as.example/register?x", "https://as.example/#"] {
        let error = new(wrong, RegistrationPolicy::new()).unwrap_err();
        assert_eq!(error.to_string(), "endpoint: must be an absolute https or http URL without query and fragment");
    }
    let policy = RegistrationPolicy::new;
    for (setting, wrong) in [
        ("redirect_schemes", policy().redirect_schemes(["HTTPS"])),
        ("redirect_schemes", policy().redirect_schemes(["https:"])),
        ("redirect_hosts", policy().redirect_hosts(["App.example"])),
        ("redirect_hosts", policy().redirect_hosts(["app.example:443"])),
        ("redirect_hosts", policy().redirect_hosts(["::1"])),
        ("grant_all_scopes", policy().grant_all_scopes(true)),
        ("grant_types", policy().grant_types(GrantTypes::EMPTY)),
        ("auth_methods", policy().auth_methods(Vec::<String>::new())),
        ("auth_methods", policy().auth_methods(["none", "client_secret_jwt"])),
        ("keep_members", policy().keep_members(["note", "trusted"])),
        ("keep_members", policy().keep_members(["client_id"])),
        ("keep_members", policy().keep_members(["registration_access_token"])),
        ("keep_members", policy().keep_members(["client_secret_sha256"])),
        ("max_registrations", policy().max_registrations(0)),
        ("max_registrations_per_source", policy().max_registrations_per_source(0)),
    ] {
        let error = new(ENDPOINT, wrong).unwrap_err();
        assert_eq!(error.setting(), setting);
        assert!(error.to_string().starts_with(&format!("{setting}: ")), "{error}");
    }
}

/// A store that remembers what was to be removed, and can be made to fail.
#[derive(Clone, Default)]
pub(crate) struct Recording {
    pub(crate) inner: MemoryRegistry,
    removals: Arc<Mutex<Vec<(SystemTime, u64)>>>,
    pub(crate) fails: Arc<Mutex<bool>>,
    pub(crate) failures: Arc<AtomicUsize>,
    pub(crate) cannot_remove: Arc<AtomicBool>,
    /// How much older its clients are than they look.
    older_by: Duration,
    /// A concurrent change, made once between a read and the write that follows.
    other: Arc<Mutex<Option<Box<dyn FnOnce(&MemoryRegistry) + Send>>>>,
    /// Where so many writers wait for each other.
    pub(crate) meeting: Arc<Mutex<Option<(Arc<tokio::sync::Barrier>, usize)>>>,
}

impl Recording {
    /// Clients that registered yesterday.
    async fn with_unused(count: usize) -> Self {
        let store = Self { older_by: Duration::from_secs(86_400), ..Self::default() };
        for n in 0..count {
            store.insert(Client::builder(n.to_string()).build().unwrap(), ClientOrigin::Registered).await.unwrap();
        }
        store
    }

    pub(crate) fn meanwhile(&self, id: &str, decide: Decision) {
        let id = id.to_owned();
        *self.other.lock().unwrap() = Some(Box::new(move |store| decide(store, &id)));
    }

    async fn before_writing(&self) {
        let other = self.other.lock().unwrap().take();
        if let Some(other) = other {
            other(&self.inner);
        }
        let meeting = match &mut *self.meeting.lock().unwrap() {
            Some((meeting, writers)) if *writers > 0 => {
                *writers -= 1;
                Some(Arc::clone(meeting))
            }
            _ => None,
        };
        if let Some(meeting) = meeting {
            in_time(meeting.wait()).await;
        }
    }
}

mod recording {
    use super::*;
    use futures::FutureExt;
    use futures::future::{BoxFuture, ready};
    use tower_oauth_client_validation::{Record, RegistryError, RegistrySource, StoreError};

    impl RegistrySource for Recording {
        type Future = <MemoryRegistry as RegistrySource>::Future;

        fn find_client(&self, client_id: &str) -> Self::Future {
            self.inner.find_client(client_id)
        }
    }

    impl Recording {
        fn failure<T: Send + 'static>(&self) -> Option<BoxFuture<'static, Result<T, RegistryError>>> {
            let fails = *self.fails.lock().unwrap();
            fails.then(|| {
                self.failures.fetch_add(1, Ordering::SeqCst);
                ready(Err(RegistryError::transient("no connection"))).boxed()
            })
        }
    }

    impl RegistryStore for Recording {
        fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
            RegistryStore::insert(&self.inner, client, origin)
        }

        fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
            async move {
                self.before_writing().await;
                RegistryStore::replace(&self.inner, client).await
            }
            .boxed()
        }

        fn replace_unchanged<'a>(
            &'a self,
            known: &'a Client,
            client: Client,
        ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
            async move {
                self.before_writing().await;
                self.inner.replace_unchanged(known, client).await
            }
            .boxed()
        }

        fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
            async move {
                self.before_writing().await;
                self.inner.remove_unchanged(known).await
            }
            .boxed()
        }

        fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
            RegistryStore::revoke(&self.inner, client_id)
        }

        fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
            async move {
                self.before_writing().await;
                RegistryStore::remove(&self.inner, client_id).await
            }
            .boxed()
        }

        fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
            self.inner.touch(client_id, at)
        }

        fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
            self.failure().unwrap_or_else(|| self.inner.record(client_id))
        }

        fn list<'a>(
            &'a self,
            after: Option<&'a str>,
            limit: usize,
        ) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
            RegistryStore::list(&self.inner, after, limit)
        }

        fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
            self.failure().unwrap_or_else(|| self.inner.count(origin))
        }

        fn remove_unused(
            &self,
            origin: ClientOrigin,
            before: SystemTime,
            most: u64,
        ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
            self.removals.lock().unwrap().push((before, most));
            if self.cannot_remove.load(Ordering::SeqCst) {
                return ready(Err(RegistryError::transient("no time"))).boxed();
            }
            self.inner.remove_unused(origin, before + self.older_by, most)
        }
    }
}
