//! The example `authorization_server` with `--openid`.

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use serde_json::json;
use tempfile::TempDir;

use super::http::{Answer, browse, form, get};
use super::process::Running;

const CALLBACK: &str = "https://app.example/cb";
const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

/// A server with a client of the operator's and one that registered itself.
struct Openid {
    server: Running,
    _clients: TempDir,
}

impl Openid {
    async fn start(args: &[&str]) -> Self {
        let clients = json!([
            {
                "client_id": "app",
                "redirect_uris": [CALLBACK],
                "scope": "openid",
                "authorization_details_types": ["payment_initiation", "account_information"],
            },
            { "client_id": "bound", "redirect_uris": [CALLBACK], "dpop_bound_access_tokens": true },
            { "client_id": "stranger", "redirect_uris": ["https://stranger.example/cb"], "dynamic": true },
        ]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clients.json");
        std::fs::write(&path, clients.to_string()).unwrap();
        let path = path.to_str().unwrap();
        let usual = ["--listen", "127.0.0.1:0", "--profile", "oauth2", "--registry", path];
        let server = Running::start("authorization_server", &[&usual, args].concat()).await;
        Self { server, _clients: directory }
    }

    fn url(&self, client_id: &str, parameters: &[(&str, &str)]) -> String {
        let usual = [("client_id", client_id), ("response_type", "code"), ("state", "s")];
        self.server.url(&format!("/authorize?{}", form(&[&usual, parameters].concat())))
    }

    async fn ask(&self, client_id: &str, parameters: &[(&str, &str)]) -> Answer {
        get(&self.url(client_id, parameters)).await
    }
}

#[track_caller]
fn assert_error(answer: &Answer, error: &str) {
    assert!(answer.header(LOCATION).starts_with(CALLBACK), "{} {}", answer.status, answer.body);
    let sent = answer.redirect();
    assert_eq!((&*sent["error"], &*sent["state"]), (error, "s"));
}

#[track_caller]
fn assert_consent_page(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.header(LOCATION));
    assert!(answer.body.contains("asks for access"), "{}", answer.body);
}

#[tokio::test]
async fn the_metadata_announces_prompts_and_types_of_authorization_details() {
    let openid = Openid::start(&["--openid"]).await;
    let document = get(&openid.server.url("/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(document["prompt_values_supported"], json!(["none", "login", "consent", "select_account"]));
    assert_eq!(document["authorization_details_types_supported"], json!(["payment_initiation"]));
}

#[tokio::test]
async fn the_parameters_of_openid_connect_are_judged() {
    let openid = Openid::start(&["--openid"]).await;
    assert_consent_page(&openid.ask("app", &[("prompt", "login consent"), ("max_age", "60")]).await);
    for (name, value) in [("prompt", "create"), ("prompt", "none login"), ("max_age", "-1"), ("dpop_jkt", "short")] {
        assert_error(&openid.ask("app", &[(name, value)]).await, "invalid_request");
    }
    assert_error(&openid.ask("app", &[("prompt", "login"), ("prompt", "login")]).await, "invalid_request");
    assert_error(&openid.ask("bound", &[]).await, "invalid_request");
    assert_consent_page(&openid.ask("bound", &[("dpop_jkt", THUMBPRINT)]).await);
}

#[tokio::test]
async fn authorization_details_are_judged_and_shown() {
    let openid = Openid::start(&["--openid"]).await;
    let page = openid.ask("app", &[("authorization_details", r#"[{"type":"payment_initiation"}]"#)]).await;
    assert_consent_page(&page);
    assert!(page.body.contains("payment_initiation"), "{}", page.body);
    for details in [r#"[{"type":"account_information"}]"#, r#"{"type":"payment_initiation"}"#, "payment_initiation"] {
        let answer = openid.ask("app", &[("authorization_details", details)]).await;
        assert_error(&answer, "invalid_authorization_details");
    }
    let answer = openid.ask("bound", &[("authorization_details", r#"[{"type":"payment_initiation"}]"#)]).await;
    assert_error(&answer, "invalid_authorization_details");
}

#[tokio::test]
async fn a_silent_request_gets_consent_required_instead_of_a_page() {
    let openid = Openid::start(&["--openid"]).await;
    assert_error(&openid.ask("app", &[("prompt", "none")]).await, "consent_required");
    assert_error(&browse(&openid.url("app", &[("prompt", "none")])).await, "consent_required");

    // The browser is not sent to a client that nobody vouches for, unless the user goes on.
    let page = browse(&openid.url("stranger", &[("prompt", "none")])).await;
    assert_eq!((page.status, page.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
    assert!(page.body.contains("consent_required") && page.body.contains("stranger.example"), "{}", page.body);
}

#[tokio::test]
async fn a_silent_request_gets_a_code_where_no_page_is_needed() {
    let openid = Openid::start(&["--openid", "--auto-approve"]).await;
    let answer = openid.ask("app", &[("prompt", "none")]).await;
    assert!(answer.redirect().contains_key("code"), "{}", answer.header(LOCATION));
}

#[tokio::test]
async fn without_the_flag_these_parameters_are_ignored() {
    let openid = Openid::start(&[]).await;
    let ignored = [("prompt", "none"), ("prompt", "bad"), ("max_age", "-1"), ("authorization_details", "x")];
    assert_consent_page(&openid.ask("bound", &ignored).await);
}
