//! The example `authorization_server` with dynamic clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::header::{AUTHORIZATION, LOCATION, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::clients::{clients, sqlite};
use super::http::{Answer, browse, form, get, post, post_with, send};
use super::postgres_cluster::Cluster;
use super::process::{Running, run};

const JSON: (&str, &str) = ("content-type", "application/json");
const CALLBACK: &str = "http://127.0.0.1:57470/callback";
/// RFC 7636 appendix B
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn start(args: &[&str]) -> Running {
    let usual = ["--listen", "127.0.0.1:0", "--registry", "memory"];
    Running::start("authorization_server", &[&usual, args].concat()).await
}

async fn open() -> Running {
    start(&["--registration", "open", "--auto-approve"]).await
}

async fn register_with(server: &Running, headers: &[(&str, &str)], metadata: Value) -> Answer {
    send(Method::POST, &server.url("/register"), &[&[JSON], headers].concat(), metadata.to_string()).await
}

async fn register(server: &Running, metadata: Value) -> Value {
    let answer = register_with(server, &[], metadata).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.json()
}

/// A native client that names no more than it must.
fn native() -> Value {
    json!({
        "client_name": "Native",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    })
}

fn authorize_url(server: &Running, client_id: &str, redirect_uri: &str, more: &[(&str, &str)]) -> String {
    let usual = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    server.url(&format!("/authorize?{}", form(&[&usual, more].concat())))
}

async fn authorize(server: &Running, client_id: &str, more: &[(&str, &str)]) -> Answer {
    get(&authorize_url(server, client_id, CALLBACK, more)).await
}

async fn token(server: &Running, headers: &[(&str, &str)], parameters: &[(&str, &str)]) -> Answer {
    post_with(&server.url("/token"), headers, parameters).await
}

async fn redeem(server: &Running, client_id: &str, headers: &[(&str, &str)], more: &[(&str, &str)]) -> Answer {
    let code = authorize(server, client_id, &[]).await.redirect()["code"].clone();
    let usual = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    token(server, headers, &[&usual, more].concat()).await
}

fn error(answer: &Answer) -> (StatusCode, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

fn invalid_client() -> (StatusCode, String) {
    (StatusCode::UNAUTHORIZED, "invalid_client".to_owned())
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().expect("it is text")
}

#[tokio::test]
async fn a_native_client_registers_and_gets_tokens() {
    let server = open().await;
    let client = register(&server, native()).await;
    assert_eq!(client.get("client_secret"), None);
    let id = text(&client, "client_id");

    let tokens = redeem(&server, id, &[], &[("client_id", id)]).await.json();
    assert_eq!(tokens["scope"], "profile", "the default");
    let parameters =
        [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", text(&tokens, "refresh_token"))];
    let refreshed = token(&server, &[], &parameters).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
    assert_eq!(error(&token(&server, &[], &parameters).await).1, "invalid_grant");

    let foreign = get(&authorize_url(&server, id, "http://127.0.0.1:57470/other", &[])).await;
    assert_eq!((foreign.status, foreign.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
}

#[tokio::test]
async fn a_client_without_an_authentication_method_gets_a_secret_and_needs_it() {
    let server = open().await;
    let client = register(&server, json!({ "redirect_uris": [CALLBACK] })).await;
    assert_eq!(client["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(client["client_secret_expires_at"], 0);
    let (id, secret) = (text(&client, "client_id"), text(&client, "client_secret"));

    let basic = |secret: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
    let (right, wrong) = (basic(secret), basic("guess"));
    let with = |credentials| [(AUTHORIZATION.as_str(), credentials)];
    let tokens = redeem(&server, id, &with(&*right), &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    assert_eq!(tokens.json().get("refresh_token"), None, "it did not register the grant");
    let in_body = redeem(&server, id, &[], &[("client_id", id), ("client_secret", secret)]).await;
    assert_eq!(in_body.status, StatusCode::OK, "{}", in_body.body);

    assert_eq!(error(&redeem(&server, id, &with(&*wrong), &[]).await), invalid_client());
    assert_eq!(error(&redeem(&server, id, &[], &[("client_id", id)]).await), invalid_client());
}

#[tokio::test]
async fn a_deleted_client_is_unknown() {
    let server = open().await;
    let client = register(&server, native()).await;
    let id = text(&client, "client_id");
    let tokens = redeem(&server, id, &[], &[("client_id", id)]).await.json();

    let bearer = format!("Bearer {}", text(&client, "registration_access_token"));
    let uri = text(&client, "registration_client_uri");
    assert!(uri.starts_with(&server.url("/register/")), "{uri}");
    let manage = async |method| send(method, uri, &[(AUTHORIZATION.as_str(), &*bearer)], String::new()).await;
    let read = manage(Method::GET).await.json();
    assert_eq!(
        (&read["client_name"], &read["registration_access_token"]),
        (&json!("Native"), &client["registration_access_token"])
    );
    assert_eq!(manage(Method::DELETE).await.status, StatusCode::NO_CONTENT);
    assert_eq!(manage(Method::GET).await.status, StatusCode::UNAUTHORIZED);

    assert_eq!(authorize(&server, id, &[]).await.json()["error"], "invalid_client");
    let refresh_token = text(&tokens, "refresh_token");
    let parameters = [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", refresh_token)];
    assert_eq!(error(&token(&server, &[], &parameters).await), invalid_client());
}

#[tokio::test]
async fn scopes_are_those_that_the_server_announces() {
    let server = open().await;
    let document = get(&server.url("/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(document["registration_endpoint"], server.url("/register"));
    assert_eq!(document["client_id_metadata_document_supported"], false);
    assert!(document["token_endpoint_auth_methods_supported"].as_array().expect("a list").contains(&json!("none")));
    let all =
        document["scopes_supported"].as_array().expect("a list").iter().map(|scope| scope.as_str().expect("text"));
    let all = all.collect::<Vec<_>>().join(" ");

    // Some register one scope, none, or some that are not known here, and later ask for all that is announced.
    for scope in [json!("profile"), json!(null), json!("profile everything")] {
        let mut metadata = native();
        metadata["scope"] = scope;
        let client = register(&server, metadata).await;
        let id = text(&client, "client_id");
        assert!(authorize(&server, id, &[("scope", &all)]).await.redirect().contains_key("code"));
        let greedy = authorize(&server, id, &[("scope", "everything")]).await;
        assert_eq!(greedy.redirect()["error"], "invalid_scope");
    }
    let mut metadata = native();
    metadata["scope"] = json!("everything");
    assert_eq!(error(&register_with(&server, &[], metadata).await).1, "invalid_client_metadata");
}

/// The MCP specification has clients send it, and most others never do.
#[tokio::test]
async fn any_resource_is_accepted_and_none_is_required() {
    for profile in ["oauth2", "oauth21", "mcp"] {
        let server = start(&["--registration", "open", "--auto-approve", "--profile", profile]).await;
        let client = register(&server, native()).await;
        let id = text(&client, "client_id");
        for resources in [
            &[][..],
            &[("resource", "https://mcp.example/api")],
            &[("resource", "https://a.example/"), ("resource", "https://b.example/")],
        ] {
            let answer = authorize(&server, id, resources).await;
            assert!(answer.redirect().contains_key("code"), "{profile}: {resources:?}");
        }
    }
}

#[tokio::test]
async fn registration_can_require_a_token() {
    let server = start(&["--registration", "token:let me in"]).await;
    for headers in [&[][..], &[(AUTHORIZATION.as_str(), "Bearer guess")]] {
        let answer = register_with(&server, headers, native()).await;
        assert_eq!(error(&answer), (StatusCode::UNAUTHORIZED, "invalid_token".to_owned()));
        assert!(answer.header(WWW_AUTHENTICATE).starts_with("Bearer"));
    }
    let answer = register_with(&server, &[(AUTHORIZATION.as_str(), "Bearer let me in")], native()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

#[tokio::test]
async fn registration_can_be_off() {
    for args in [&[][..], &["--registration", "off"]] {
        let server = start(args).await;
        assert_eq!(register_with(&server, &[], native()).await.status, StatusCode::NOT_FOUND);
        let document = get(&server.url("/.well-known/oauth-authorization-server")).await.json();
        assert_eq!(document.get("registration_endpoint"), None);
    }
}

#[tokio::test]
async fn a_cross_site_page_cannot_register_a_client() {
    let server = open().await;
    let elsewhere = server.base.replace("127.0.0.1", "localhost");
    for origin in ["https://evil.example", "null", &elsewhere] {
        let asked = [(ORIGIN.as_str(), origin), ("access-control-request-method", "POST")];
        let answer = send(Method::OPTIONS, &server.url("/register"), &asked, String::new()).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
        // Also where a browser would not have asked first.
        let answer = register_with(&server, &[(ORIGIN.as_str(), origin)], native()).await;
        assert_eq!((answer.status, answer.body.contains("client_id")), (StatusCode::FORBIDDEN, false), "{origin}");
    }
    let answer = register_with(&server, &[("sec-fetch-site", "cross-site")], native()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = register_with(&server, &[(ORIGIN.as_str(), &server.base)], native()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

#[tokio::test]
async fn clients_can_register_beside_those_of_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("clients.json");
    let clients =
        json!([{ "client_id": "of-the-file", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" }]);
    std::fs::write(&path, clients.to_string()).expect("it can be written");
    let server = start(&["--registry", path.to_str().expect("text"), "--registration", "open", "--auto-approve"]).await;
    let mut metadata = native();
    metadata["client_id"] = json!("of-the-file");
    let client = register(&server, metadata).await;
    let id = text(&client, "client_id");
    assert_ne!(id, "of-the-file");
    for id in [id, "of-the-file"] {
        assert!(authorize(&server, id, &[]).await.redirect().contains_key("code"), "{id}");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), clients.to_string());
}

#[cfg(unix)]
async fn registered_clients_outlive_the_program(registry: &str) {
    let args = ["--registry", registry, "--registration", "open", "--auto-approve"];
    let server = start(&args).await;
    let client = register(&server, json!({ "redirect_uris": [CALLBACK] })).await;
    let (id, secret) = (text(&client, "client_id"), text(&client, "client_secret"));
    let redeem =
        async |server: &Running| redeem(server, id, &[], &[("client_id", id), ("client_secret", secret)]).await;
    let tokens = redeem(&server).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    assert_eq!(server.stop("TERM").await, Some(0));

    let server = start(&args).await;
    let tokens = redeem(&server).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    let bearer = format!("Bearer {}", text(&client, "registration_access_token"));
    let uri = server.url(&format!("/register/{id}"));
    let manage = async |method| send(method, &uri, &[(AUTHORIZATION.as_str(), &*bearer)], String::new()).await;
    assert_eq!(manage(Method::GET).await.json()["client_id"], id);
    assert_eq!(manage(Method::DELETE).await.status, StatusCode::NO_CONTENT);
    assert_eq!(error(&authorize(&server, id, &[]).await).1, "invalid_client");
}

#[cfg(unix)]
#[tokio::test]
async fn registered_clients_outlive_the_program_in_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    registered_clients_outlive_the_program(&sqlite(directory.path())).await;
}

#[cfg(unix)]
#[tokio::test]
async fn registered_clients_outlive_the_program_in_postgres() {
    let Some(cluster) = Cluster::shared() else { return };
    registered_clients_outlive_the_program(&cluster.database().await).await;
}

#[tokio::test]
async fn a_wrong_flag_is_refused_and_never_repeats_a_token() {
    for value in ["sometimes", "token:", "tokn:hush"] {
        let output = run("authorization_server", &["--listen", "127.0.0.1:0", "--registration", value]).await;
        let complaint = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{value}");
        assert!(complaint.contains("--registration") && !complaint.contains("hush"), "{complaint}");
    }
}

/// A host of documents. Counts how often it is asked.
struct Documents {
    base: String,
    asked: Arc<AtomicUsize>,
    host: JoinHandle<()>,
}

impl Documents {
    /// `/client.json` describes a client with these members beside its id; `/missing` and `/broken` do not.
    async fn serve(members: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let asked = Arc::new(AtomicUsize::new(0));
        let (counter, mut document) = (Arc::clone(&asked), members);
        document["client_id"] = json!(format!("{base}/client.json"));
        let app = Router::new().fallback(async move |uri: axum::http::Uri| {
            counter.fetch_add(1, Ordering::SeqCst);
            match uri.path() {
                "/client.json" => ([JSON], document.to_string()).into_response(),
                "/broken" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        });
        let host = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { base, asked, host }
    }

    /// Nobody listens there any more.
    async fn stop(&mut self) {
        self.host.abort();
        let stopped = (&mut self.host).await;
        assert!(stopped.is_err_and(|error| error.is_cancelled()));
    }

    /// As some native applications write it.
    async fn usual() -> Self {
        Self::serve(json!({
            "client_name": "Tool",
            "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
        }))
        .await
    }

    fn client_id(&self) -> String {
        format!("{}/client.json", self.base)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_document_describes_a_client() {
    let documents = Documents::usual().await;
    let server = start(&["--insecure-loopback-documents", "--auto-approve"]).await;
    let id = documents.client_id();
    let metadata = get(&server.url("/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(metadata["client_id_metadata_document_supported"], true);

    for redirect_uri in ["http://localhost:57470/callback", CALLBACK, "http://localhost/callback"] {
        let answer = get(&authorize_url(&server, &id, redirect_uri, &[])).await;
        assert!(answer.redirect().contains_key("code"), "{redirect_uri}");
    }
    for redirect_uri in [
        "http://localhost:57470/callback/",
        "http://localhost:57470/other",
        "http://localhost:57470/",
        "http://[::1]:57470/callback",
        "http://localhost.example:57470/callback",
        "https://localhost:57470/callback",
        "https://localhost/callback",
        "localhost:57470/callback",
    ] {
        let answer = get(&authorize_url(&server, &id, redirect_uri, &[])).await;
        assert_eq!(error(&answer), (StatusCode::BAD_REQUEST, "invalid_request".to_owned()), "{redirect_uri}");
        assert_eq!(answer.header(LOCATION), "", "{redirect_uri}");
    }
    assert_eq!(documents.asked(), 1, "it is kept");

    let tokens = redeem(&server, &id, &[], &[("client_id", &id)]).await;
    assert_eq!((tokens.status, &tokens.json()["scope"]), (StatusCode::OK, &json!("profile")));
    let all = authorize(&server, &id, &[("scope", "photos:write profile")]).await;
    assert!(all.redirect().contains_key("code"));
    assert_eq!(authorize(&server, &id, &[("scope", "everything")]).await.redirect()["error"], "invalid_scope");
}

#[tokio::test]
async fn a_document_survives_its_host_and_a_restart_until_the_operator_disables_it() {
    let mut documents = Documents::usual().await;
    let id = documents.client_id();
    let directory = tempfile::tempdir().expect("a directory");
    let registry = sqlite(directory.path());
    let args = ["--registry", &*registry, "--insecure-loopback-documents", "--auto-approve"];
    let start =
        async || Running::start("authorization_server", &[&["--listen", "127.0.0.1:0"], &args[..]].concat()).await;
    let server = start().await;
    assert_eq!(redeem(&server, &id, &[], &[("client_id", &id)]).await.status, StatusCode::OK);
    server.kill().await;
    documents.stop().await;

    let server = start().await;
    assert_eq!(redeem(&server, &id, &[], &[("client_id", &id)]).await.status, StatusCode::OK);
    assert_eq!(documents.asked(), 1);
    let listed = clients(&registry, &["list", "--json"]).await.json();
    let [listed] = &listed.as_array().expect("a list")[..] else { panic!("{listed}") };
    assert_eq!((text(listed, "client_id"), text(listed, "origin")), (&*id, "metadata document"));
    assert!(listed["last_used_at"].is_string(), "{listed}");

    assert_eq!(clients(&registry, &["disable", &id]).await.code, Some(0));
    assert_eq!(error(&authorize(&server, &id, &[]).await).1, "invalid_client");
    assert_eq!(clients(&registry, &["enable", &id]).await.code, Some(0));
    assert!(authorize(&server, &id, &[]).await.redirect().contains_key("code"));
}

#[tokio::test]
async fn loopback_documents_need_the_insecure_flag() {
    let documents = Documents::usual().await;
    let unknown = (StatusCode::BAD_REQUEST, "invalid_client".to_owned());
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".to_owned());
    let cases = [(&["--auto-approve"][..], unknown), (&["--auto-approve", "--metadata-documents"], unavailable)];
    for (args, by_name) in cases {
        let server = start(args).await;
        let secure = documents.client_id().replace("http://", "https://");
        for id in [documents.client_id(), secure] {
            let answer = authorize(&server, &id, &[]).await;
            assert_eq!(error(&answer), (StatusCode::BAD_REQUEST, "invalid_client".to_owned()), "{id}");
        }
        // Whether a name has no address or only forbidden ones is not revealed. Without the flag no document is fetched.
        let answer = authorize(&server, "https://localhost/client.json", &[]).await;
        assert_eq!(error(&answer), by_name, "{args:?}");
    }
    assert_eq!(documents.asked(), 0);
}

#[tokio::test]
async fn an_invalid_document_is_distinct_from_an_unavailable_one() {
    let documents = Documents::usual().await;
    let server = start(&["--insecure-loopback-documents", "--auto-approve"]).await;
    let missing = authorize(&server, &format!("{}/missing", documents.base), &[]).await;
    assert_eq!(error(&missing), (StatusCode::BAD_REQUEST, "invalid_client".to_owned()));
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody_listens = format!("http://{}/client.json", closed.local_addr().expect("an address"));
    drop(closed);
    for id in [format!("{}/broken", documents.base), nobody_listens] {
        let answer = authorize(&server, &id, &[]).await;
        assert_eq!(error(&answer), (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".to_owned()), "{id}");
    }
    let unknown = authorize(&server, "nobody", &[]).await;
    assert_eq!(error(&unknown).1, "invalid_client");
}

#[tokio::test]
async fn the_mcp_profile_requires_a_client_name() {
    let nameless = Documents::serve(json!({ "redirect_uris": ["http://127.0.0.1/callback"] })).await;
    let named = Documents::usual().await;
    let args = ["--insecure-loopback-documents", "--auto-approve", "--profile"];
    let mcp = start(&[&args[..], &["mcp"]].concat()).await;
    assert_eq!(error(&authorize(&mcp, &nameless.client_id(), &[]).await).1, "invalid_client");
    assert!(authorize(&mcp, &named.client_id(), &[]).await.redirect().contains_key("code"));
    let oauth21 = start(&[&args[..], &["oauth21"]].concat()).await;
    assert!(authorize(&oauth21, &nameless.client_id(), &[]).await.redirect().contains_key("code"));
}

#[tokio::test]
async fn a_configured_client_takes_precedence_over_a_document() {
    let documents = Documents::usual().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("clients.json");
    let clients = json!([{ "client_id": documents.client_id(), "redirect_uris": ["https://a.example/cb"] }]);
    std::fs::write(&path, clients.to_string()).expect("it can be written");
    let server = start(&["--registry", path.to_str().expect("text"), "--insecure-loopback-documents"]).await;
    assert_eq!(authorize(&server, &documents.client_id(), &[]).await.status, StatusCode::BAD_REQUEST);
    let url = authorize_url(&server, &documents.client_id(), "https://a.example/cb", &[]);
    let page = browse(&url).await;
    assert!(page.fields().contains_key("sealed_request"));
    assert!(!page.body.contains("It is described by"), "no host vouches for it");
    assert_eq!(documents.asked(), 0);
}

mod consent {
    use super::*;

    const WARNING: &str = "Any program on this computer can claim to be this application.";

    #[tokio::test]
    async fn the_page_shows_the_host_of_the_document_and_the_destination() {
        let documents = Documents::usual().await;
        let server = start(&["--insecure-loopback-documents"]).await;
        let page = browse(&authorize_url(&server, &documents.client_id(), CALLBACK, &[])).await;
        let host = documents.base.strip_prefix("http://").expect("a URL");
        assert!(page.body.contains("<strong>Tool</strong>"), "{}", page.body);
        assert!(page.body.contains("<strong>127.0.0.1:57470</strong>"));
        assert!(page.body.contains(&format!("It is described by</dt><dd><strong>{host}</strong>")));
        assert!(page.body.contains(WARNING));

        let sealed = page.fields()["sealed_request"].clone();
        let answer = post(&server.url("/consent"), &[("sealed_request", &*sealed), ("decision", "approve")]).await;
        assert!(answer.header(LOCATION).starts_with(CALLBACK) && answer.redirect().contains_key("code"));
    }

    #[tokio::test]
    async fn the_page_warns_only_if_all_redirect_uris_are_loopback() {
        let server = start(&["--registration", "open"]).await;
        let page_of = async |uris: Value, redirect_uri: &str| {
            let client = register(&server, json!({ "client_name": "<b>Shop</b>", "redirect_uris": uris })).await;
            browse(&authorize_url(&server, text(&client, "client_id"), redirect_uri, &[])).await
        };
        let web = page_of(json!(["https://shop.example/cb"]), "https://shop.example/cb").await;
        assert!(web.body.contains("<strong>shop.example</strong>") && web.body.contains("&lt;b&gt;Shop&lt;/b&gt;"));
        assert!(!web.body.contains(WARNING) && !web.body.contains("It is described by"));
        assert!(page_of(json!([CALLBACK]), CALLBACK).await.body.contains(WARNING));
        assert!(!page_of(json!([CALLBACK, "https://shop.example/cb"]), CALLBACK).await.body.contains(WARNING));
    }
}
