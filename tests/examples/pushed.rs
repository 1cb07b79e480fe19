//! The example `authorization_server`, and clients that push their requests.

use axum::http::header::{ALLOW, CACHE_CONTROL, LOCATION};
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::clients::{clients, sqlite};
use super::http::{Answer, browse, form, get, post, send};
use super::postgres_cluster::Cluster;
use super::process::Running;

/// RFC 7636 appendix B
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CALLBACK: &str = "https://app.example/cb";

async fn start(args: &[&str]) -> Running {
    let usual = ["--listen", "127.0.0.1:0", "--auto-approve"];
    Running::start("authorization_server", &[&usual, args].concat()).await
}

/// A server whose clients are in a database, with the client `app`.
async fn start_with_app(registry: &str) -> Running {
    let server = start(&["--registry", registry]).await;
    let add = ["add", "--id", "app", "--redirect-uri", CALLBACK, "--scope", "read"];
    assert_eq!(clients(registry, &add).await.code, Some(0));
    server
}

async fn push(server: &Running, client_id: &str, redirect_uri: &str) -> Answer {
    let parameters = [
        ("client_id", client_id),
        ("response_type", "code"),
        ("redirect_uri", redirect_uri),
        ("state", "xyz"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    post(&server.url("/par"), &parameters).await
}

fn request_uri(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.json()["request_uri"].as_str().expect("a request_uri").to_owned()
}

async fn authorize(server: &Running, client_id: &str, request_uri: &str) -> Answer {
    get(&server.url(&format!("/authorize?{}", form(&[("client_id", client_id), ("request_uri", request_uri)])))).await
}

async fn redeem(server: &Running, client_id: &str, redirect_uri: &str, code: &str) -> Answer {
    let parameters = [
        ("grant_type", "authorization_code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    post(&server.url("/token"), &parameters).await
}

/// From the request to a token; the request counts once.
async fn finish(server: &Running, client_id: &str, redirect_uri: &str, request_uri: &str) {
    let answer = authorize(server, client_id, request_uri).await;
    assert_eq!(answer.status, StatusCode::FOUND, "{}", answer.body);
    let sent = answer.redirect();
    assert_eq!(sent["state"], "xyz");
    let again = authorize(server, client_id, request_uri).await;
    assert_eq!((again.status, &again.json()["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_uri")));
    let tokens = redeem(server, client_id, redirect_uri, &sent["code"]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    assert_eq!(tokens.json()["token_type"], "Bearer");
}

#[tokio::test]
async fn a_pushed_request_becomes_tokens() {
    let server = start(&["--registry", "memory"]).await;
    let callback = server.url("/demo/callback");
    let pushed = push(&server, "demo-app", &callback).await;
    assert_eq!(pushed.header(CACHE_CONTROL), "no-store");
    assert_eq!(pushed.json()["expires_in"], 60);
    let request_uri = request_uri(&pushed);
    let foreign = authorize(&server, "demo-any-port", &request_uri).await;
    assert_eq!((foreign.status, &foreign.json()["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_uri")));
    finish(&server, "demo-app", &callback, &request_uri).await;
}

#[tokio::test]
async fn the_endpoint_is_announced_and_takes_posts_of_authenticated_clients() {
    let server = start(&["--registry", "memory"]).await;
    let document = get(&server.url("/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(document["pushed_authorization_request_endpoint"], server.url("/par"));
    assert_eq!(document["require_pushed_authorization_requests"], false);
    let read = get(&server.url("/par")).await;
    assert_eq!((read.status, read.header(ALLOW)), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let unauthenticated = push(&server, "demo-web", "http://127.0.0.1/demo/callback").await;
    assert_eq!(unauthenticated.status, StatusCode::UNAUTHORIZED);
    let json = send(Method::POST, &server.url("/par"), &[("content-type", "application/json")], "{}".to_owned()).await;
    assert_eq!(json.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pushed_requests_can_be_required() {
    let server = start(&["--registry", "memory", "--require-pushed"]).await;
    let document = get(&server.url("/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(document["require_pushed_authorization_requests"], true);
    let callback = server.url("/demo/callback");
    let plain = form(&[
        ("client_id", "demo-app"),
        ("response_type", "code"),
        ("redirect_uri", &callback),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let refused = get(&server.url(&format!("/authorize?{plain}"))).await;
    assert_eq!(refused.redirect()["error"], "invalid_request");
    let request_uri = request_uri(&push(&server, "demo-app", &callback).await);
    finish(&server, "demo-app", &callback, &request_uri).await;
}

#[tokio::test]
async fn a_client_that_registers_itself_can_require_pushed_requests() {
    let server = start(&["--registry", "memory", "--registration", "open"]).await;
    let metadata = json!({
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "require_pushed_authorization_requests": true,
    });
    let headers = [("content-type", "application/json")];
    let registered = send(Method::POST, &server.url("/register"), &headers, metadata.to_string()).await;
    assert_eq!(registered.json()["require_pushed_authorization_requests"], true, "{}", registered.body);
    let id = registered.json()["client_id"].as_str().expect("an id").to_owned();
    let plain = form(&[
        ("client_id", &*id),
        ("response_type", "code"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let refused = get(&server.url(&format!("/authorize?{plain}"))).await;
    assert_eq!(refused.redirect()["error"], "invalid_request", "{}", refused.header(LOCATION));
    let request_uri = request_uri(&push(&server, &id, CALLBACK).await);
    finish(&server, &id, CALLBACK, &request_uri).await;
}

#[tokio::test]
async fn a_client_that_is_disabled_after_its_push_gets_no_code() {
    let folder = tempfile::tempdir().unwrap();
    let registry = sqlite(folder.path());
    let server = start_with_app(&registry).await;
    let request_uri = request_uri(&push(&server, "app", CALLBACK).await);
    assert_eq!(clients(&registry, &["disable", "app"]).await.code, Some(0));
    let refused = authorize(&server, "app", &request_uri).await;
    assert_eq!((refused.status, &refused.json()["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_client")));
    assert_eq!(clients(&registry, &["enable", "app"]).await.code, Some(0));
    finish(&server, "app", CALLBACK, &request_uri).await;
}

/// The consent page is on one process, the answer goes to another.
#[tokio::test]
async fn a_pushed_request_gets_one_code_through_consent_pages_of_two_processes() {
    let folder = tempfile::tempdir().unwrap();
    let registry = sqlite(folder.path());
    let key = "0".repeat(64);
    let issuer = "https://login.example";
    let arguments = ["--listen", "127.0.0.1:0", "--registry", &registry, "--seal-key", &key, "--issuer", issuer];
    let one = Running::start("authorization_server", &arguments).await;
    let other = Running::start("authorization_server", &arguments).await;
    let add = ["add", "--id", "app", "--redirect-uri", CALLBACK, "--scope", "read"];
    assert_eq!(clients(&registry, &add).await.code, Some(0));
    let pushed = push(&one, "app", CALLBACK).await;
    // Long enough for a user.
    assert_eq!(pushed.json()["expires_in"], 600);
    let request_uri = request_uri(&pushed);

    // The page may be reloaded, and has another seal each time.
    let mut seals = Vec::new();
    for _ in 0..2 {
        let query = form(&[("client_id", "app"), ("request_uri", &request_uri)]);
        let page = browse(&one.url(&format!("/authorize?{query}"))).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        seals.push(page.fields()["sealed_request"].clone());
    }
    let answer = async |sealed: &str, decision: &str| {
        post(&other.url("/consent"), &[("sealed_request", sealed), ("decision", decision)]).await
    };
    // A refusal of the user leaves the request as it is.
    assert_eq!(answer(&seals[0], "deny").await.redirect()["error"], "access_denied");
    let approved = answer(&seals[0], "approve").await;
    assert_eq!(approved.redirect()["state"], "xyz", "{}", approved.body);
    for sealed in &seals {
        let again = answer(sealed, "approve").await;
        assert_eq!((again.status, again.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{}", again.body);
    }
    assert_eq!(redeem(&other, "app", CALLBACK, &approved.redirect()["code"]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_tool_explains_what_a_pushed_request_gets() {
    let folder = tempfile::tempdir().unwrap();
    let registry = sqlite(folder.path());
    let server = start_with_app(&registry).await;
    let request_uri = request_uri(&push(&server, "app", CALLBACK).await);
    let check = async |client_id: &str| {
        let url =
            server.url(&format!("/authorize?{}", form(&[("client_id", client_id), ("request_uri", &request_uri)])));
        let checked = clients(&registry, &["check", "--json", &url]).await;
        (checked.code, checked.json())
    };
    let (code, accepted) = check("app").await;
    assert_eq!((code, &accepted["redirect_uri"]), (Some(0), &json!(CALLBACK)), "{accepted}");
    let add = ["add", "--id", "other", "--redirect-uri", "https://other.example/cb"];
    assert_eq!(clients(&registry, &add).await.code, Some(0));
    let (code, refused) = check("other").await;
    assert_eq!((code, &refused["reason"]), (Some(1), &json!("request_uri_foreign")), "{refused}");
    // Explaining uses nothing up.
    finish(&server, "app", CALLBACK, &request_uri).await;
    let (code, refused) = check("app").await;
    assert_eq!((code, &refused["reason"]), (Some(1), &json!("request_uri_unknown")), "{refused}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_pushed_request_in_sqlite_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let registry = sqlite(folder.path());
    let server = start_with_app(&registry).await;
    let request_uri = request_uri(&push(&server, "app", CALLBACK).await);
    server.kill().await;

    let server = start(&["--registry", &registry]).await;
    finish(&server, "app", CALLBACK, &request_uri).await;
}

/// Two servers on one PostgreSQL database, if PostgreSQL is installed.
async fn two_nodes() -> Option<[Running; 2]> {
    let cluster = Cluster::shared()?;
    cluster.connect().await;
    let url = cluster.database().await;
    Some([start_with_app(&url).await, start(&["--registry", &url]).await])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_pushed_to_one_node_and_used_up_on_another() {
    let Some([one, other]) = two_nodes().await else {
        return;
    };
    let request_uri = request_uri(&push(&one, "app", CALLBACK).await);
    finish(&other, "app", CALLBACK, &request_uri).await;
    let again = authorize(&one, "app", &request_uri).await;
    assert_eq!((again.status, &again.json()["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_uri")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_requests_on_two_nodes_one_gets_a_code() {
    let Some([one, other]) = two_nodes().await else {
        return;
    };
    for _ in 0..20 {
        let request_uri = request_uri(&push(&one, "app", CALLBACK).await);
        let (first, second) =
            tokio::join!(authorize(&one, "app", &request_uri), authorize(&other, "app", &request_uri));
        let codes = [first, second].iter().filter(|answer| answer.status == StatusCode::FOUND).count();
        assert_eq!(codes, 1);
    }
}
