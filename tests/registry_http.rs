//! Clients of another server: the requests sent to it, and how its answers are read.

use std::error::Error;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tower_oauth_client_validation::{
    Client, ClientKind, ClientStatus, GrantTypes, HttpRegistry, HttpRegistryBuilder, RegistryError, RegistrySource,
    ResponseType, ResponseTypes,
};

use crate::fixture;
use crate::wait::in_time;

/// A server that answers every request alike, and records the requests.
struct Server {
    base: String,
    requests: Arc<Mutex<Vec<(String, Option<String>)>>>,
}

impl Server {
    async fn new<R: IntoResponse + 'static>(answer: impl Fn() -> R + Clone + Send + Sync + 'static) -> Self {
        let requests = Arc::<Mutex<Vec<(String, Option<String>)>>>::default();
        let seen = Arc::clone(&requests);
        let app = Router::new().fallback(move |request: Request<Body>| {
            let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            seen.lock().unwrap().push((request.uri().to_string(), header("authorization")));
            let answer = answer().into_response();
            async move { answer }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/admin/clients", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, requests }
    }

    async fn json(document: Value) -> Self {
        Self::new(move || document.to_string()).await
    }

    fn builder(&self) -> HttpRegistryBuilder {
        HttpRegistry::builder(&*self.base)
    }

    async fn find(&self, id: &str) -> Result<Option<Arc<Client>>, RegistryError> {
        self.builder().build().unwrap().find_client(id).await
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}

fn cause(error: &RegistryError) -> String {
    error.source().unwrap().to_string()
}

/// A client of Ory Hydra's admin API, as documented.
fn hydra() -> Value {
    json!({
        "client_id": "photo-app",
        "client_name": "",
        "redirect_uris": ["https://photos.example/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code", "id_token"],
        "scope": "offline_access openid photos:read",
        "audience": [],
        "owner": "",
        "policy_uri": "",
        "allowed_cors_origins": [],
        "tos_uri": "",
        "client_uri": "",
        "logo_uri": "",
        "contacts": null,
        "client_secret_expires_at": 0,
        "subject_type": "public",
        "jwks": {},
        "token_endpoint_auth_method": "client_secret_post",
        "userinfo_signed_response_alg": "none",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "metadata": {"team": "photos"},
        "skip_consent": false,
        "skip_logout_consent": null,
        "authorization_code_grant_access_token_lifespan": null
    })
}

#[tokio::test]
async fn a_client_of_hydra_is_read() {
    let server = Server::json(hydra()).await;
    let client = server.find("photo-app").await.unwrap().unwrap();
    assert_eq!(client.redirect_uris()[0].as_str(), "https://photos.example/callback");
    assert_eq!(client.kind(), ClientKind::Confidential);
    assert_eq!(client.response_types(), ResponseTypes::CODE.with(ResponseType::ID_TOKEN));
    assert!(client.allowed_scopes().unwrap().contains("photos:read"));
    assert_eq!(client.metadata().unwrap()["metadata"]["team"], "photos");
    assert_eq!((client.status(), client.expires_at()), (ClientStatus::Active, None));
    assert_eq!(server.paths(), ["/admin/clients/photo-app"]);

    // What was left out at its registration.
    let mut left_out = hydra();
    left_out["grant_types"] = json!([]);
    left_out["response_types"] = json!([]);
    let client = Server::json(left_out).await.find("photo-app").await.unwrap().unwrap();
    assert_eq!(client.response_types(), ResponseTypes::CODE);
    assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
}

#[tokio::test]
async fn metadata_chosen_by_the_client_grants_no_privileges() {
    let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let mut written = hydra();
    for (name, value) in [
        ("trusted", json!(true)),
        ("scope", json!("openid * photos:read")),
        ("default_scope", json!("openid photos:read")),
        ("client_secret_sha256", json!(digest)),
        // The parameters of the hash would be the stranger's: as expensive as they like.
        ("client_secret_hash", json!("$argon2id$v=19$m=4194304,t=100,p=1$c2FsdHNhbHQ$aGFzaA")),
        ("registration_access_token_sha256", json!(digest)),
        ("disabled", json!(true)),
        ("expires_at", json!(4_000_000_000_u64)),
    ] {
        written[name] = value;
    }
    let server = Server::json(written.clone()).await;
    let client = server.find("photo-app").await.unwrap().unwrap();
    assert!(!client.is_trusted() && !fixture::has_secret(&client, "secret"));
    assert!(client.metadata().unwrap().keys().all(|name| !name.ends_with("_sha256") && name != "client_secret_hash"));
    let scopes = client.allowed_scopes().unwrap();
    assert!(scopes.contains("openid") && scopes.contains("photos:read") && !scopes.contains("admin"));
    assert_eq!(client.default_scopes().unwrap().as_str(), "openid photos:read");
    // What only narrows is taken.
    assert_eq!(client.status(), ClientStatus::Disabled);
    assert!(client.expires_at().is_some());

    // Not "none at all", but what clients without a list get.
    written["scope"] = json!("*");
    let starred = Server::json(written.clone()).await;
    let client = starred.find("photo-app").await.unwrap().unwrap();
    assert_eq!((client.allowed_scopes(), client.default_scopes()), (None, None));

    let operators = starred.builder().operator_members(true).build().unwrap();
    let client = operators.find_client("photo-app").await.unwrap().unwrap();
    assert!(client.is_trusted() && fixture::has_secret(&client, "secret"));
    assert!(client.allowed_scopes().unwrap().contains("admin"));
    assert_eq!(client.default_scopes().unwrap().as_str(), "openid photos:read");
}

#[tokio::test]
async fn an_id_is_escaped_into_one_path_segment() {
    let server = Server::new(|| StatusCode::NOT_FOUND).await;
    for (id, path) in [
        ("a/../b", "/admin/clients/a%2F..%2Fb"),
        ("a?b#c", "/admin/clients/a%3Fb%23c"),
        ("%2e%2e", "/admin/clients/%252e%252e"),
        ("a b\\c;d", "/admin/clients/a%20b%5Cc%3Bd"),
        ("...", "/admin/clients/..."),
        ("https://app.example/id", "/admin/clients/https%3A%2F%2Fapp.example%2Fid"),
    ] {
        assert!(server.find(id).await.unwrap().is_none());
        assert_eq!(server.requests.lock().unwrap().pop().unwrap().0, path);
    }
    let slash = HttpRegistry::builder(format!("{}/", server.base)).build().unwrap();
    assert!(slash.find_client("a").await.unwrap().is_none());
    assert_eq!(server.requests.lock().unwrap().pop().unwrap().0, "/admin/clients/a");
    let long = "x".repeat(10_000);
    for nobodys in ["", ".", "..", "ä", "a\n", &long] {
        assert!(server.find(nobodys).await.unwrap().is_none());
    }
    assert!(server.paths().is_empty());
}

#[tokio::test]
async fn each_status_maps_to_an_outcome() {
    for (status, transient) in [
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (408, true),
        (425, true),
        (429, true),
        (400, false),
        (401, false),
        (403, false),
        (410, false),
        (418, false),
        (201, false),
        (204, false),
        (301, false),
        (302, false),
        (304, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let server = Server::new(move || (status, [("location", "/admin/clients/other")], hydra().to_string())).await;
        let error = server.find("photo-app").await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{status}");
        assert_eq!(server.paths().len(), 1, "{status}");
    }
    let server = Server::new(|| (StatusCode::NOT_FOUND, "{}")).await;
    assert!(server.find("photo-app").await.unwrap().is_none());
}

#[tokio::test]
async fn a_document_of_another_client_is_refused() {
    let mut insecure = hydra();
    insecure["redirect_uris"] = json!(["http://photos.example/callback"]);
    let mut wildcard = hydra();
    wildcard["redirect_uris"] = json!(["https://photos.example/*"]);
    for (document, reason) in [
        (json!({"client_id": "other"}), "another client"),
        (json!([]), "JSON object"),
        (json!({}), "client_id"),
        (insecure, "redirect_uris[0]"),
        (wildcard, "redirect_uris[0]"),
    ] {
        let error = Server::json(document).await.find("photo-app").await.unwrap_err();
        assert!(!error.is_transient());
        assert!(cause(&error).contains(reason) && cause(&error).contains("\"photo-app\""), "{}", cause(&error));
    }
    let error = Server::new(|| "{\"client_id\": ").await.find("photo-app").await.unwrap_err();
    assert!(!error.is_transient());
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused_while_it_is_read() {
    for declared in [true, false] {
        // The body never ends, so the read ends only if bytes are counted.
        let server = Server::new(move || {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1024]));
            let mut response = Response::new(Body::from_stream(chunks));
            if declared {
                response.headers_mut().insert("content-length", HeaderValue::from_static("1000000000"));
            }
            response
        });
        let error = server.await.find("photo-app").await.unwrap_err();
        assert!(!error.is_transient());
        assert!(cause(&error).contains("65536"), "{}", cause(&error));
    }
    let document = hydra().to_string();
    let server = Server::json(hydra()).await;
    let with = |bytes| server.builder().max_body_bytes(bytes).build().unwrap();
    assert!(with(document.len()).find_client("photo-app").await.unwrap().is_some());
    assert!(with(document.len() - 1).find_client("photo-app").await.is_err());
}

#[tokio::test]
async fn a_missing_answer_is_a_transient_failure() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registry = HttpRegistry::builder(format!("http://{nobody}/clients")).build().unwrap();
    assert!(in_time(registry.find_client("app")).await.unwrap_err().is_transient());

    // One that takes the connection and is silent, and one that is silent in the middle of its answer.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = HttpRegistry::builder(format!("http://{}/clients", silent.local_addr().unwrap()));
    let registry = registry.timeout(Duration::from_millis(50)).build().unwrap();
    assert!(in_time(registry.find_client("app")).await.unwrap_err().is_transient());
    let server = Server::new(|| {
        let first = futures::stream::iter([Ok::<_, std::io::Error>("{")]);
        let rest = futures::stream::once(pending());
        Body::from_stream(futures::StreamExt::chain(first, rest))
    });
    let registry = server.await.builder().timeout(Duration::from_millis(50)).build().unwrap();
    assert!(in_time(registry.find_client("app")).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_hook_sets_the_authorization_header() {
    let server = Server::json(hydra()).await;
    let tokens = Arc::new(Mutex::new(vec!["Bearer 2", "Bearer 1"]));
    let registry = server.builder().authorization(move || {
        let token = tokens.lock().unwrap().pop();
        async move {
            tokio::task::yield_now().await;
            token.map(HeaderValue::from_static).ok_or_else(|| RegistryError::transient("no more tokens"))
        }
    });
    let registry = registry.build().unwrap();
    assert!(registry.find_client("photo-app").await.unwrap().is_some());
    assert!(registry.find_client("photo-app").await.unwrap().is_some());
    assert!(registry.find_client("photo-app").await.unwrap_err().is_transient());
    let sent: Vec<_> = server.requests.lock().unwrap().iter().filter_map(|(_, header)| header.clone()).collect();
    assert_eq!(sent, ["Bearer 1", "Bearer 2"]);
    assert_eq!(server.paths().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_covers_the_authorization_hook() {
    let registry = HttpRegistry::builder("http://127.0.0.1:9/clients").authorization(pending).build().unwrap();
    assert!(registry.find_client("photo-app").await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_mapping_reads_other_formats() {
    let server = Server::json(json!({"id": "photo-app", "callback": "https://photos.example/callback"})).await;
    let registry = server.builder().mapping(|client_id, document| {
        if document["id"] != client_id {
            return Ok(None);
        }
        let callback = document["callback"].as_str().ok_or("no callback")?;
        Ok(Some(Client::builder(client_id).redirect_uri(callback).build()?))
    });
    let registry = registry.build().unwrap();
    let client = registry.find_client("photo-app").await.unwrap().unwrap();
    assert_eq!(client.redirect_uris()[0].as_str(), "https://photos.example/callback");
    assert!(registry.find_client("other").await.unwrap().is_none());
}

#[test]
fn a_base_that_is_not_a_plain_http_url_is_refused() {
    for base in ["", "hydra.example", "ftp://hydra.example/", "https://hydra.example/?a=b", "https://hydra.example/#a"]
    {
        let error = HttpRegistry::builder(base).build().unwrap_err();
        assert_eq!(error.setting(), "base", "{base}");
        assert_eq!(error.to_string(), "base: must be an http or https URL without query and fragment");
    }
}

#[tokio::test]
async fn what_is_secret_in_the_base_is_not_shown() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = HttpRegistry::builder(format!("http://user:secret@{closed}/secret/clients"));
    assert!(!format!("{builder:?}").contains("secret"));
    let registry = builder.build().unwrap();
    assert!(!format!("{registry:?}").contains("secret"));
    let error = registry.find_client("app").await.unwrap_err();
    let first: &dyn Error = &error;
    for error in std::iter::successors(Some(first), |error| (**error).source()) {
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    let error = HttpRegistry::builder("http://user:secret@[/").build().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn the_server_is_asked_without_the_proxy_of_the_environment() {
    let server = Server::json(hydra()).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "registry_http::asks_the_server", "--ignored"]).env("SERVER", &server.base);
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, format!("http://{closed}"));
    }
    let output = in_time(child.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.paths(), ["/admin/clients/photo-app"]);
}

#[tokio::test]
#[ignore = "run by `the_server_is_asked_without_the_proxy_of_the_environment`"]
async fn asks_the_server() {
    let registry = HttpRegistry::builder(std::env::var("SERVER").unwrap()).build().unwrap();
    assert!(registry.find_client("photo-app").await.unwrap().is_some());
}

fn keycloak(changes: &Value) -> Value {
    let mut client = json!({
        "id": "8c1e3f54-7e5b-4d6a-8f0e-0d4a5a8c7b11",
        "clientId": "photo-app",
        "name": "Photo App",
        "rootUrl": "https://photos.example/",
        "enabled": true,
        "clientAuthenticatorType": "client-secret",
        "redirectUris": ["https://photos.example/callback", "/relative", "http://127.0.0.1/callback"],
        "bearerOnly": false,
        "standardFlowEnabled": true,
        "implicitFlowEnabled": false,
        "directAccessGrantsEnabled": false,
        "serviceAccountsEnabled": true,
        "publicClient": false,
        "protocol": "openid-connect",
        "attributes": {"post.logout.redirect.uris": "+"},
        "defaultClientScopes": ["web-origins", "profile"],
        "optionalClientScopes": ["offline_access"]
    });
    for (name, value) in changes.as_object().unwrap() {
        client[name] = value.clone();
    }
    json!([client])
}

async fn from_keycloak(answer: Value) -> Result<Option<Arc<Client>>, RegistryError> {
    let server = Server::json(answer).await;
    let found = HttpRegistry::keycloak(&*server.base).build().unwrap().find_client("photo-app").await;
    assert_eq!(server.paths(), ["/admin/clients?clientId=photo-app"]);
    found
}

#[tokio::test]
async fn a_client_of_keycloak_is_read() {
    let client = from_keycloak(keycloak(&json!({}))).await.unwrap().unwrap();
    let uris: Vec<_> = client.redirect_uris().iter().map(|uri| uri.as_str()).collect();
    assert_eq!(
        uris,
        ["https://photos.example/callback", "https://photos.example/relative", "http://127.0.0.1/callback"]
    );
    assert_eq!((client.name(), client.kind()), (Some("Photo App"), ClientKind::Confidential));
    let allowed: Vec<_> = ["openid", "web-origins", "profile", "offline_access", "email"]
        .map(|scope| client.allowed_scopes().unwrap().contains(scope))
        .into();
    assert_eq!(allowed, [true, true, true, true, false]);
    assert_eq!(client.default_scopes().unwrap().as_str(), "web-origins profile");
    assert!(client.response_types().contains(ResponseType::CODE));
    assert!(!client.response_types().contains(ResponseType::TOKEN));
    assert!(client.grant_types().contains(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::CLIENT_CREDENTIALS)));
    assert!(client.metadata().is_none());

    let changed =
        json!({"enabled": false, "publicClient": true, "standardFlowEnabled": false, "implicitFlowEnabled": true});
    let client = from_keycloak(keycloak(&changed)).await.unwrap().unwrap();
    assert_eq!((client.status(), client.kind()), (ClientStatus::Disabled, ClientKind::Public));
    assert!(client.response_types().contains(ResponseType::ID_TOKEN_TOKEN));
    assert!(!client.response_types().contains(ResponseType::CODE));
    assert!(!client.response_types().contains(ResponseType::CODE_TOKEN));
    let client = from_keycloak(keycloak(&json!({"implicitFlowEnabled": true}))).await.unwrap().unwrap();
    assert!(client.response_types().contains(ResponseType::CODE_ID_TOKEN));
    let client = from_keycloak(keycloak(&json!({"bearerOnly": true}))).await.unwrap().unwrap();
    assert_eq!(client.response_types(), ResponseTypes::EMPTY);
    let client = from_keycloak(keycloak(&json!({"defaultClientScopes": []}))).await.unwrap().unwrap();
    assert_eq!(client.default_scopes().unwrap().as_str(), "");
}

#[tokio::test]
async fn wildcards_of_keycloak_are_ignored() {
    let uris = json!([
        "https://photos.example/*",
        "*",
        "/*",
        "https://*.example/cb",
        "http://photos.example/cb",
        "https://photos.example/cb"
    ]);
    let client = from_keycloak(keycloak(&json!({"redirectUris": uris}))).await.unwrap().unwrap();
    let uris: Vec<_> = client.redirect_uris().iter().map(|uri| uri.as_str()).collect();
    assert_eq!(uris, ["https://photos.example/cb"]);
    assert!(client.check_redirect_uri("https://photos.example/anything", Default::default()).is_err());
}

#[tokio::test]
async fn missing_members_of_keycloak_are_not_guessed() {
    assert!(from_keycloak(json!([])).await.unwrap().is_none());
    assert!(from_keycloak(keycloak(&json!({"clientId": "Photo-App"}))).await.unwrap().is_none());
    assert!(from_keycloak(keycloak(&json!({"protocol": "saml"}))).await.unwrap().is_none());
    // What an account gets that may only list clients.
    let error = from_keycloak(json!([{"id": "1", "clientId": "photo-app"}])).await.unwrap_err();
    assert!(!error.is_transient() && cause(&error).contains("view-clients"), "{}", cause(&error));
    assert!(!from_keycloak(json!({"error": "?"})).await.unwrap_err().is_transient());
    assert!(!from_keycloak(keycloak(&json!({"redirectUris": "all"}))).await.unwrap_err().is_transient());
    let missing = Server::new(|| StatusCode::NOT_FOUND).await;
    let registry = HttpRegistry::keycloak(&*missing.base).build().unwrap();
    assert!(!registry.find_client("photo-app").await.unwrap_err().is_transient());
}
