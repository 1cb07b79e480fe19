//! The example `mcp_proxy`, in front of the example `authorization_server`.

use axum::http::header::{AUTHORIZATION, COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::{Method, StatusCode};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::http::{Answer, form, get, post, post_with, send};
use super::process::{Running, run};

const CALLBACK: &str = "http://127.0.0.1:57470/callback";
/// RFC 7636 appendix B
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn upstream(args: &[&str]) -> Running {
    let usual = ["--listen", "127.0.0.1:0", "--registry", "memory", "--auto-approve"];
    Running::start("authorization_server", &[&usual, args].concat()).await
}

async fn proxy(upstream: &Running, args: &[&str]) -> Running {
    let usual = ["--listen", "127.0.0.1:0", "--upstream", &upstream.base];
    let variables = [("ALLOWED_MCP_CLIENTS", format!("other-app|{CALLBACK}"))];
    let variables = variables.each_ref().map(|(name, value)| (*name, &**value));
    Running::with_environment("mcp_proxy", &[&usual, args].concat(), &variables).await
}

async fn register(server: &Running) -> Value {
    let metadata = json!({
        "client_name": "Assistant",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "profile photos:read",
    });
    let headers = [("content-type", "application/json")];
    let answer = send(Method::POST, &server.url("/register"), &headers, metadata.to_string()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.json()
}

fn authorize_url(server: &Running, client_id: &str) -> String {
    let parameters = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", CALLBACK),
        ("state", "of the client"),
        ("scope", "profile"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    server.url(&format!("/authorize?{}", form(&parameters)))
}

/// The cookie that an answer sets, as the browser sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().expect("text"));
    let set = set.filter(|cookie| !cookie.contains("Max-Age=0")).collect::<Vec<_>>();
    let [cookie] = set[..] else { panic!("one cookie: {set:?}") };
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    cookie.split(';').next().expect("a name and a value").to_owned()
}

/// The response deletes the cookie.
fn assert_cleared(answer: &Answer, cookie: &str) {
    let (name, _) = cookie.split_once('=').expect("a name and a value");
    let cleared = format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    let set = answer.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().expect("text"));
    assert!(set.into_iter().any(|set| set == cleared), "{:?}", answer.headers);
}

struct Consent {
    sealed: String,
    cookie: String,
}

async fn ask(server: &Running, client_id: &str) -> Consent {
    let page = get(&authorize_url(server, client_id)).await;
    assert_eq!((page.status, page.header(LOCATION)), (StatusCode::OK, ""), "{}", page.body);
    Consent { sealed: page.fields()["sealed_request"].clone(), cookie: cookie(&page) }
}

async fn decide(server: &Running, consent: &Consent, cookie: &str, decision: &str) -> Answer {
    let parameters = [("sealed_request", &*consent.sealed), ("decision", decision)];
    post_with(&server.url("/consent"), &[(COOKIE.as_str(), cookie)], &parameters).await
}

/// Says yes, and goes to the upstream and back; gives what the browser holds then.
async fn approved(server: &Running, client_id: &str) -> (String, String) {
    let consent = ask(server, client_id).await;
    let forwarded = decide(server, &consent, &consent.cookie, "approve").await;
    assert_eq!(forwarded.status, StatusCode::SEE_OTHER, "{}", forwarded.body);
    let back = get(forwarded.header(LOCATION)).await;
    assert_eq!(back.status, StatusCode::FOUND, "{}", back.body);
    (back.header(LOCATION).to_owned(), cookie(&forwarded))
}

async fn come_back(url: &str, cookie: &str) -> Answer {
    send(Method::GET, url, &[(COOKIE.as_str(), cookie)], String::new()).await
}

#[tokio::test]
async fn a_client_registers_and_gets_tokens() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let client = register(&server).await;
    let id = client["client_id"].as_str().expect("an id");

    let (url, cookie) = approved(&server, id).await;
    assert!(url.starts_with(&server.url("/callback?")), "{url}");
    let answer = come_back(&url, &cookie).await;
    assert!(answer.header(LOCATION).starts_with(CALLBACK), "{}", answer.body);
    let sent = answer.redirect();
    assert_eq!((&*sent["state"], &*sent["iss"]), ("of the client", &*server.base));
    // The upstream's code is not the one that the client gets.
    assert!(!url.contains(&sent["code"]));

    let parameters = [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", &sent["code"]),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let tokens = post(&server.url("/token"), &parameters).await;
    assert_eq!((tokens.status, &tokens.json()["scope"]), (StatusCode::OK, &json!("profile")), "{}", tokens.body);
    let tokens = tokens.json();
    let refresh_token = tokens["refresh_token"].as_str().expect("a refresh token");
    let parameters = [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", refresh_token)];
    assert_eq!(post(&server.url("/token"), &parameters).await.status, StatusCode::OK);
    // They are of the proxy, and worth nothing at the upstream.
    assert_eq!(post(&upstream.url("/token"), &parameters).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn registration_is_forwarded_if_the_upstream_has_an_endpoint() {
    let open = upstream(&["--registration", "open"]).await;
    let server = proxy(&open, &[]).await;
    let client = register(&server).await;
    let id = client["client_id"].as_str().expect("an id");
    assert!(client["registration_client_uri"].as_str().expect("a URI").starts_with(&server.url("/register/")));
    // The upstream knows it too, by the same id.
    assert!(get(&authorize_url(&open, id)).await.redirect().contains_key("code"));

    let closed = upstream(&[]).await;
    let server = proxy(&closed, &["--upstream-client", "demo-any-port"]).await;
    let client = register(&server).await;
    let id = client["client_id"].as_str().expect("an id");
    assert_eq!(get(&authorize_url(&closed, id)).await.json()["error"], "invalid_client");
    let (url, cookie) = approved(&server, id).await;
    assert!(come_back(&url, &cookie).await.redirect().contains_key("code"));
}

#[tokio::test]
async fn every_client_needs_its_own_consent() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let first = register(&server).await;
    let (url, cookie) = approved(&server, first["client_id"].as_str().expect("an id")).await;
    assert!(come_back(&url, &cookie).await.redirect().contains_key("code"));

    // With all that the browser has by now, another client is asked about again.
    let page = come_back(&authorize_url(&server, "other-app"), &cookie).await;
    assert_eq!((page.status, page.header(LOCATION)), (StatusCode::OK, ""));
    assert!(page.fields().contains_key("sealed_request") && page.body.contains("other-app"));
}

#[tokio::test]
async fn a_denial_goes_to_the_client_and_never_to_the_upstream() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let consent = ask(&server, "other-app").await;
    let answer = decide(&server, &consent, &consent.cookie, "deny").await;
    assert!(answer.header(LOCATION).starts_with(CALLBACK));
    assert_eq!(answer.redirect()["error"], "access_denied");
    assert_cleared(&answer, &consent.cookie);
    let again = decide(&server, &consent, "", "approve").await;
    assert_eq!((again.status, again.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
}

/// CVE-2026-27124.
#[tokio::test]
async fn consent_counts_only_in_the_browser_that_gave_it() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let consent = ask(&server, "other-app").await;
    let foreign = ask(&server, "other-app").await;
    for cookie in ["", &foreign.cookie, &format!("{}x", consent.cookie)] {
        let answer = decide(&server, &consent, cookie, "approve").await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{cookie}");
    }
    // Nothing was lost by that.
    let answer = decide(&server, &consent, &consent.cookie, "approve").await;
    assert!(answer.header(LOCATION).starts_with(&upstream.url("/authorize?")));
}

#[tokio::test]
async fn another_site_cannot_give_consent() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let consent = ask(&server, "other-app").await;
    let elsewhere = server.base.replace("127.0.0.1", "localhost");
    for origin in ["https://evil.example", "null", &elsewhere] {
        let parameters = [("sealed_request", &*consent.sealed), ("decision", "approve")];
        let headers = [(COOKIE.as_str(), &*consent.cookie), (ORIGIN.as_str(), origin)];
        let answer = post_with(&format!("{elsewhere}/consent"), &headers, &parameters).await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::FORBIDDEN, ""), "{origin}");
    }
    let here = authorize_url(&server, "other-app");
    let answer = get(&here.replacen("127.0.0.1", "localhost", 1)).await;
    assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::TEMPORARY_REDIRECT, &*here));
}

#[tokio::test]
async fn a_removed_client_is_not_forwarded_to_the_upstream() {
    let closed = upstream(&[]).await;
    let server = proxy(&closed, &["--upstream-client", "demo-any-port"]).await;
    let client = register(&server).await;
    let consent = ask(&server, client["client_id"].as_str().expect("an id")).await;
    let uri = client["registration_client_uri"].as_str().expect("a URI");
    let bearer = format!("Bearer {}", client["registration_access_token"].as_str().expect("a token"));
    let deleted = send(Method::DELETE, uri, &[(AUTHORIZATION.as_str(), &*bearer)], String::new()).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let answer = decide(&server, &consent, &consent.cookie, "approve").await;
    assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_shuts_it_down_gracefully() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    assert_eq!(server.stop("TERM").await, Some(0));
}

#[tokio::test]
async fn the_callback_works_once_and_in_the_same_browser() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let (url, cookie) = approved(&server, "other-app").await;
    let (_, foreign) = approved(&server, "other-app").await;
    for cookie in ["", &foreign] {
        let answer = come_back(&url, cookie).await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{cookie}");
    }
    let head = send(Method::HEAD, &url, &[(COOKIE.as_str(), &*cookie)], String::new()).await;
    assert_eq!((head.status, head.header(LOCATION)), (StatusCode::OK, ""), "HEAD redeems nothing");
    let answer = come_back(&url, &cookie).await;
    assert!(answer.redirect().contains_key("code"));
    assert_cleared(&answer, &cookie);
    // The upstream accepts its code once.
    assert_eq!(come_back(&url, &cookie).await.redirect()["error"], "server_error");
    assert_eq!(get(&server.url("/callback?code=x&state=guess")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(get(&server.url("/callback")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    let iss = format!("&{}", form(&[("iss", &*upstream.base)]));
    for other in ["", "&iss=https%3A%2F%2Fevil.example"] {
        let (url, cookie) = approved(&server, "other-app").await;
        assert!(url.contains(&iss), "{url}");
        let answer = come_back(&url.replace(&iss, other), &cookie).await;
        assert!(answer.header(LOCATION).starts_with(CALLBACK));
        assert_eq!(answer.redirect()["error"], "server_error", "{other}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_upstream_reaches_the_client() {
    let upstream = upstream(&["--registration", "open"]).await;
    let server = proxy(&upstream, &[]).await;
    for (error, told) in
        [("access_denied", "access_denied"), ("invalid_scope", "invalid_scope"), ("invalid_request", "server_error")]
    {
        let (url, cookie) = approved(&server, "other-app").await;
        let state = url.split(['?', '&']).find(|pair| pair.starts_with("state=")).expect("a state");
        let parameters = form(&[("error", error), ("iss", &*upstream.base)]);
        let answer = come_back(&server.url(&format!("/callback?{state}&{parameters}")), &cookie).await;
        assert_eq!(answer.redirect()["error"], told);
    }
}

#[tokio::test]
async fn the_issuer_of_the_upstream_may_have_a_path() {
    for place in
        ["/.well-known/oauth-authorization-server/realms/main", "/realms/main/.well-known/openid-configuration"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let issuer = format!("http://{}/realms/main", listener.local_addr().expect("an address"));
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth?tenant=1"),
            "token_endpoint": format!("{issuer}/token"),
            "scopes_supported": ["profile"],
        });
        let app = Router::new().route(place, axum::routing::get(async move || Json(document)));
        tokio::spawn(async move { axum::serve(listener, app).await });

        let args = ["--listen", "127.0.0.1:0", "--upstream", &issuer, "--upstream-client", "of the proxy"];
        let variables = [("ALLOWED_MCP_CLIENTS", &*format!("other-app|{CALLBACK}"))];
        let server = Running::with_environment("mcp_proxy", &args, &variables).await;
        let consent = ask(&server, "other-app").await;
        let forwarded = decide(&server, &consent, &consent.cookie, "approve").await;
        let location = forwarded.header(LOCATION);
        assert!(location.starts_with(&format!("{issuer}/auth?tenant=1&response_type=code&")), "{location}");
        assert_eq!(forwarded.redirect()["client_id"], "of the proxy");
        assert_eq!(forwarded.redirect()["redirect_uri"], server.url("/callback"));
        assert_ne!(forwarded.redirect()["code_challenge"], CHALLENGE);
        assert_ne!(forwarded.redirect()["state"], "of the client");
    }
}

#[tokio::test]
async fn a_failed_start_is_explained() {
    let upstream = upstream(&[]).await;
    let cases: [(&[&str], i32, &str); 7] = [
        (&[], 2, "--upstream"),
        (&["--upstream", "login.example"], 2, "--upstream"),
        (&["--upstream", "https://login.example/?tenant"], 2, "--upstream"),
        (&["--upstream", &upstream.base, "--issuer", "https://proxy.example/"], 2, "--issuer"),
        (&["--upstream", &format!("{}/", upstream.base), "--listen", "127.0.0.1:0"], 1, "another issuer"),
        (&["--upstream", &upstream.base, "--colour"], 2, "--colour"),
        (&["--upstream", &upstream.base, "--listen", "127.0.0.1:0"], 1, "--upstream-client is missing"),
    ];
    for (args, code, named) in cases {
        let output = run("mcp_proxy", args).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {complaint}");
        assert!(complaint.contains(named), "{args:?}: {complaint}");
    }
}

/// An upstream whose token endpoint answers with `scope`.
async fn upstream_that_grants(scope: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let issuer = format!("http://{}", listener.local_addr().expect("an address"));
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "scopes_supported": ["profile", "photos:read"],
    });
    let mut tokens = json!({ "access_token": "of the upstream", "token_type": "Bearer" });
    if let Some(scope) = scope {
        tokens["scope"] = scope.into();
    }
    let app = Router::new()
        .route("/.well-known/oauth-authorization-server", axum::routing::get(async move || Json(document)))
        .route("/token", axum::routing::post(async move || Json(tokens)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    issuer
}

#[tokio::test]
async fn a_client_gets_no_scope_that_the_upstream_did_not_grant() {
    let cases = [
        (None, Some("profile photos:read")),
        (Some("profile photos:read"), Some("profile photos:read")),
        (Some("photos:read"), Some("photos:read")),
        (Some("photos:read admin"), Some("photos:read")),
        (Some("admin"), None),
        (Some(""), None),
    ];
    for (granted, expected) in cases {
        let upstream = upstream_that_grants(granted).await;
        let args = ["--listen", "127.0.0.1:0", "--upstream", &upstream, "--upstream-client", "of the proxy"];
        let server = Running::start("mcp_proxy", &args).await;
        let client = register(&server).await;
        let id = client["client_id"].as_str().expect("an id");
        let url = authorize_url(&server, id).replace("scope=profile", "scope=profile+photos%3Aread");
        let page = get(&url).await;
        let consent = Consent { sealed: page.fields()["sealed_request"].clone(), cookie: cookie(&page) };
        let forwarded = decide(&server, &consent, &consent.cookie, "approve").await;
        let state = forwarded.redirect()["state"].clone();
        let back = server.url(&format!("/callback?{}", form(&[("code", "x"), ("state", &state)])));
        let sent = come_back(&back, &cookie(&forwarded)).await.redirect();
        let Some(expected) = expected else {
            assert_eq!(sent["error"], "invalid_scope", "{granted:?}");
            continue;
        };
        let code = sent["code"].clone();
        let parameters = [
            ("grant_type", "authorization_code"),
            ("client_id", id),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let tokens = post(&server.url("/token"), &parameters).await;
        assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
        assert_eq!(tokens.json()["scope"], expected, "{granted:?}");
    }
}
