//! The example `authorization_server`.

use std::collections::HashMap;
use std::path::PathBuf;

use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, ORIGIN, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tempfile::TempDir;

use super::clients::{clients, sqlite};
use super::http::{Answer, browse, form, get, post, post_with, send, unescape};
use super::process::{Running, eventually, run};

/// RFC 7636 appendix B
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn start(args: &[&str]) -> Running {
    // In memory, since the default leaves a file behind. A later flag replaces an earlier one.
    let usual = ["--listen", "127.0.0.1:0", "--registry", "memory", "--profile", "oauth2"];
    Running::start("authorization_server", &[&usual, args].concat()).await
}

/// A file of clients, there for as long as the first value lives.
fn clients_file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("clients.json");
    std::fs::write(&path, text).expect("it can be written");
    (directory, path)
}

impl Running {
    fn authorize(&self, parameters: &[(&str, &str)]) -> String {
        self.url(&format!("/authorize?{}", form(parameters)))
    }

    fn callback(&self) -> String {
        self.url("/demo/callback")
    }

    /// A code for a demonstration client; the server approves by itself.
    async fn code(&self, client_id: &str) -> String {
        let callback = self.callback();
        let parameters = [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", &*callback),
            ("scope", "profile photos:read"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        get(&self.authorize(&parameters)).await.redirect()["code"].clone()
    }

    async fn redeem(&self, client_id: &str, code: &str) -> Answer {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("client_id", client_id),
            ("code", code),
            ("redirect_uri", &self.callback()),
            ("code_verifier", VERIFIER),
        ])
        .await
    }

    async fn refresh(&self, client_id: &str, refresh_token: &str) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", refresh_token)]).await
    }

    async fn token(&self, parameters: &[(&str, &str)]) -> Answer {
        post(&self.url("/token"), parameters).await
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, status: StatusCode, error: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{}", answer.body);
    assert_eq!(answer.header(CACHE_CONTROL), "no-store");
}

fn refresh_token(answer: &Answer) -> String {
    answer.json()["refresh_token"].as_str().expect("a refresh token").to_owned()
}

mod tokens {
    use super::*;

    #[tokio::test]
    async fn a_code_becomes_tokens_and_they_refresh() {
        let server = start(&["--auto-approve"]).await;
        let answer = server.redeem("demo-app", &server.code("demo-app").await).await;
        assert_eq!((answer.status, answer.header(CACHE_CONTROL)), (StatusCode::OK, "no-store"));
        let tokens = answer.json();
        assert_eq!(tokens["token_type"], "Bearer");
        assert_eq!(tokens["scope"], "profile photos:read");
        assert_eq!(tokens["expires_in"], 3600);

        let refreshed = server.refresh("demo-app", &refresh_token(&answer)).await;
        assert_eq!(refreshed.status, StatusCode::OK);
        assert_eq!(refreshed.json()["scope"], "profile photos:read");
        assert_ne!(refreshed.json()["access_token"], tokens["access_token"]);
        assert_ne!(refreshed.json()["refresh_token"], tokens["refresh_token"]);
    }

    #[tokio::test]
    async fn a_refresh_can_narrow_the_scopes_but_not_widen_them() {
        let server = start(&["--auto-approve"]).await;
        let refresh_with_scope = async |scope: &str| {
            let tokens = server.redeem("demo-app", &server.code("demo-app").await).await;
            let token = refresh_token(&tokens);
            server
                .token(&[
                    ("grant_type", "refresh_token"),
                    ("client_id", "demo-app"),
                    ("refresh_token", &token),
                    ("scope", scope),
                ])
                .await
        };
        let less = refresh_with_scope("photos:read").await;
        assert_eq!(less.json()["scope"], "photos:read");
        // What was left out can still be had by the next refresh.
        assert_eq!(server.refresh("demo-app", &refresh_token(&less)).await.json()["scope"], "profile photos:read");
        assert_refused(&refresh_with_scope("photos:write").await, StatusCode::BAD_REQUEST, "invalid_scope");
        // What is refused uses nothing up.
        let token = refresh_token(&server.redeem("demo-app", &server.code("demo-app").await).await);
        let form = [("grant_type", "refresh_token"), ("client_id", "demo-app"), ("refresh_token", &token)];
        let too_much = server.token(&[&form[..], &[("scope", "photos:write")]].concat()).await;
        assert_refused(&too_much, StatusCode::BAD_REQUEST, "invalid_scope");
        assert_eq!(server.refresh("demo-app", &token).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn reusing_a_refresh_token_revokes_the_whole_family() {
        let server = start(&["--auto-approve"]).await;
        let first = refresh_token(&server.redeem("demo-app", &server.code("demo-app").await).await);
        let second = refresh_token(&server.refresh("demo-app", &first).await);
        assert_refused(&server.refresh("demo-app", &first).await, StatusCode::BAD_REQUEST, "invalid_grant");
        assert_refused(&server.refresh("demo-app", &second).await, StatusCode::BAD_REQUEST, "invalid_grant");
    }

    #[tokio::test]
    async fn renewed_refresh_tokens_of_one_client_do_not_evict_those_of_another() {
        let server = start(&["--auto-approve"]).await;
        let quiet = refresh_token(&server.redeem("demo-app", &server.code("demo-app").await).await);
        let first = refresh_token(&server.redeem("demo-app", &server.code("demo-app").await).await);
        let mut busy = first.clone();
        for _ in 0..2_100 {
            busy = refresh_token(&server.refresh("demo-app", &busy).await);
        }
        assert_eq!(server.refresh("demo-app", &quiet).await.status, StatusCode::OK);
        // Nor is forgotten what was used long ago: whoever brings it has stolen it.
        assert_refused(&server.refresh("demo-app", &first).await, StatusCode::BAD_REQUEST, "invalid_grant");
        assert_refused(&server.refresh("demo-app", &busy).await, StatusCode::BAD_REQUEST, "invalid_grant");
    }

    #[tokio::test]
    async fn a_disabled_client_gets_no_more_tokens() {
        let folder = tempfile::tempdir().expect("a directory");
        let registry = sqlite(folder.path());
        let server = start(&["--registry", &registry, "--auto-approve"]).await;
        let callback = server.callback();
        let member = r#"{"grant_types": ["authorization_code", "refresh_token"]}"#;
        let scope = "profile photos:read";
        let add = ["add", "--id", "app", "--redirect-uri", &*callback, "--scope", scope, "--metadata", member];
        assert_eq!(clients(&registry, &add).await.code, Some(0));
        let token = refresh_token(&server.redeem("app", &server.code("app").await).await);
        let code = server.code("app").await;
        assert_eq!(clients(&registry, &["disable", "app"]).await.code, Some(0));
        assert_refused(&server.redeem("app", &code).await, StatusCode::UNAUTHORIZED, "invalid_client");
        assert_refused(&server.refresh("app", &token).await, StatusCode::UNAUTHORIZED, "invalid_client");
        // It was not used up by that.
        assert_eq!(clients(&registry, &["enable", "app"]).await.code, Some(0));
        assert_eq!(server.refresh("app", &token).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_refresh_token_works_for_its_client_only() {
        let server = start(&["--auto-approve"]).await;
        let token = refresh_token(&server.redeem("demo-app", &server.code("demo-app").await).await);
        assert_refused(&server.refresh("demo-desktop", &token).await, StatusCode::BAD_REQUEST, "invalid_grant");
        // The attempt takes nothing away from the owner.
        assert_eq!(server.refresh("demo-app", &token).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_code_works_once_and_its_second_use_revokes_the_tokens() {
        let server = start(&["--auto-approve"]).await;
        let code = server.code("demo-app").await;
        let token = refresh_token(&server.redeem("demo-app", &code).await);
        assert_refused(&server.redeem("demo-app", &code).await, StatusCode::BAD_REQUEST, "invalid_grant");
        assert_refused(&server.refresh("demo-app", &token).await, StatusCode::BAD_REQUEST, "invalid_grant");
    }

    #[tokio::test]
    async fn a_code_is_bound_to_the_parameters_of_its_request() {
        let server = start(&["--auto-approve"]).await;
        let callback = server.callback();
        let other_verifier = "A".repeat(43);
        let cases: [(&str, Option<&str>, &str); 9] = [
            ("client_id", Some("demo-desktop"), "invalid_grant"),
            ("redirect_uri", None, "invalid_grant"),
            ("redirect_uri", Some("http://127.0.0.1/demo/callback"), "invalid_grant"),
            ("code_verifier", None, "invalid_grant"),
            ("code_verifier", Some(&other_verifier), "invalid_grant"),
            ("code", Some("unknown"), "invalid_grant"),
            ("code", None, "invalid_request"),
            ("grant_type", Some("password"), "unsupported_grant_type"),
            ("grant_type", None, "invalid_request"),
        ];
        for (name, value, error) in cases {
            let code = server.code("demo-app").await;
            let mut parameters = HashMap::from([
                ("grant_type", "authorization_code"),
                ("client_id", "demo-app"),
                ("code", &code),
                ("redirect_uri", &callback),
                ("code_verifier", VERIFIER),
            ]);
            parameters.remove(name);
            parameters.extend(value.map(|value| (name, value)));
            let parameters: Vec<_> = parameters.into_iter().collect();
            assert_refused(&server.token(&parameters).await, StatusCode::BAD_REQUEST, error);
        }
    }

    #[tokio::test]
    async fn a_verifier_without_a_challenge_is_refused() {
        let server = start(&["--auto-approve"]).await;
        let url = server.authorize(&[("response_type", "code"), ("client_id", "demo-app")]);
        let code = get(&url).await.redirect()["code"].clone();
        let refused = server.redeem("demo-app", &code).await;
        assert_refused(&refused, StatusCode::BAD_REQUEST, "invalid_grant");

        let code = get(&url).await.redirect()["code"].clone();
        let parameters = [("grant_type", "authorization_code"), ("client_id", "demo-app"), ("code", &*code)];
        let tokens = server.token(&parameters).await;
        assert_eq!((tokens.status, &tokens.json()["scope"]), (StatusCode::OK, &json!("profile")));
    }

    #[tokio::test]
    async fn a_confidential_client_authenticates_in_the_header_or_in_the_body() {
        let server = start(&["--auto-approve"]).await;
        let callback = server.callback();
        let redeem = async |authorization: Option<&str>, secret: Option<&str>| {
            let code = server.code("demo-web").await;
            let headers: Vec<_> =
                authorization.iter().map(|credentials| (AUTHORIZATION.as_str(), *credentials)).collect();
            let mut parameters = vec![
                ("grant_type", "authorization_code"),
                ("client_id", "demo-web"),
                ("code", &code),
                ("redirect_uri", &callback),
                ("code_verifier", VERIFIER),
            ];
            parameters.extend(secret.map(|secret| ("client_secret", secret)));
            post_with(&server.url("/token"), &headers, &parameters).await
        };
        let basic = |credentials: &str| format!("Basic {}", BASE64_STANDARD.encode(credentials));

        let right = basic("demo%2Dweb:demo-secret");
        assert_eq!(redeem(Some(&right), None).await.status, StatusCode::OK);
        assert_eq!(redeem(None, Some("demo-secret")).await.status, StatusCode::OK);
        assert_refused(&redeem(Some(&right), Some("demo-secret")).await, StatusCode::BAD_REQUEST, "invalid_request");

        let wrong = redeem(Some(&basic("demo-web:demo-secret2")), None).await;
        assert_refused(&wrong, StatusCode::UNAUTHORIZED, "invalid_client");
        assert!(wrong.header(WWW_AUTHENTICATE).starts_with("Basic "));
        for answer in [
            redeem(None, Some("demo-secre")).await,
            redeem(None, None).await,
            redeem(Some("Basic %"), None).await,
            redeem(Some("Bearer abc"), None).await,
        ] {
            assert_refused(&answer, StatusCode::UNAUTHORIZED, "invalid_client");
        }
        assert_eq!(redeem(None, None).await.header(WWW_AUTHENTICATE), "");
    }

    #[tokio::test]
    async fn a_secret_in_the_header_may_be_encoded_or_not() {
        let client = json!([{
            "client_id": "a:b", "client_secret": "1+1 %= 2:\u{fc}", "redirect_uris": ["https://a.example/cb"],
        }]);
        let (_directory, path) = clients_file(&client.to_string());
        let server = start(&["--registry", path.to_str().expect("a path"), "--auto-approve"]).await;
        let cases = [
            ("a%3Ab:1%2B1+%25%3D+2%3A%C3%BC", StatusCode::OK),
            ("a%3Ab:1+1 %= 2:\u{fc}", StatusCode::OK),
            ("a%3Ab:1+1 %= 2", StatusCode::UNAUTHORIZED),
            ("a%3Ab:", StatusCode::UNAUTHORIZED),
            ("a:b:1+1 %= 2:\u{fc}", StatusCode::UNAUTHORIZED),
        ];
        for (credentials, status) in cases {
            let url = server.authorize(&[("response_type", "code"), ("client_id", "a:b")]);
            let code = get(&url).await.redirect()["code"].clone();
            let header = format!("Basic {}", BASE64_STANDARD.encode(credentials));
            let parameters = [("grant_type", "authorization_code"), ("code", &*code)];
            let answer = post_with(&server.url("/token"), &[(AUTHORIZATION.as_str(), &*header)], &parameters).await;
            assert_eq!(answer.status, status, "{credentials}: {}", answer.body);
        }
    }

    #[tokio::test]
    async fn the_client_is_checked_before_the_grant() {
        let server = start(&[]).await;
        for client_id in ["nobody", "demo-disabled", "demo-expired", "d\u{e9}mo"] {
            let answer = server.token(&[("grant_type", "magic"), ("client_id", client_id)]).await;
            assert_refused(&answer, StatusCode::UNAUTHORIZED, "invalid_client");
        }
        let nameless = server.token(&[("grant_type", "authorization_code")]).await;
        assert_refused(&nameless, StatusCode::UNAUTHORIZED, "invalid_client");
    }

    #[tokio::test]
    async fn a_revoked_refresh_token_is_refused() {
        let server = start(&["--auto-approve"]).await;
        let token = refresh_token(&server.redeem("demo-app", &server.code("demo-app").await).await);
        let revoke = async |client_id: &str, token: &str| {
            post(&server.url("/revoke"), &[("client_id", client_id), ("token", token)]).await
        };
        // Another client's token is unknown, which is no error (RFC 7009 §2.2).
        for (client_id, token) in [("demo-desktop", &*token), ("demo-app", "unknown")] {
            assert_eq!(revoke(client_id, token).await.status, StatusCode::OK);
        }
        let token = refresh_token(&server.refresh("demo-app", &token).await);
        let revoked = revoke("demo-app", &token).await;
        assert_eq!((revoked.status, revoked.header(CACHE_CONTROL)), (StatusCode::OK, "no-store"));
        assert_refused(&server.refresh("demo-app", &token).await, StatusCode::BAD_REQUEST, "invalid_grant");

        assert_refused(&revoke("demo-app", "").await, StatusCode::BAD_REQUEST, "invalid_request");
        assert_refused(&revoke("demo-web", "x").await, StatusCode::UNAUTHORIZED, "invalid_client");
    }

    #[tokio::test]
    async fn a_code_expires() {
        let server = start(&["--auto-approve", "--code-lifetime", "0"]).await;
        let expired = server.redeem("demo-app", &server.code("demo-app").await).await;
        assert_refused(&expired, StatusCode::BAD_REQUEST, "invalid_grant");
        let page = browse(&start(&[]).await.base).await;
        assert!(page.body.contains("A code is good for 60 seconds"), "{}", page.body);
    }

    #[tokio::test]
    async fn a_client_id_other_than_that_of_the_header_is_refused() {
        let server = start(&["--auto-approve"]).await;
        let header = format!("Basic {}", BASE64_STANDARD.encode("demo-web:demo-secret"));
        let callback = server.callback();
        let redeem = async |client_id: &str, code: &str| {
            let parameters = [
                ("grant_type", "authorization_code"),
                ("client_id", client_id),
                ("code", code),
                ("redirect_uri", &callback),
                ("code_verifier", VERIFIER),
            ];
            post_with(&server.url("/token"), &[(AUTHORIZATION.as_str(), &*header)], &parameters).await
        };
        let code = server.code("demo-web").await;
        assert_refused(&redeem("demo-app", &code).await, StatusCode::BAD_REQUEST, "invalid_request");
        assert_eq!(redeem("demo-web", &code).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_repeated_parameter_is_refused() {
        let server = start(&["--auto-approve"]).await;
        let (callback, code) = (server.callback(), server.code("demo-app").await);
        let right = [
            ("grant_type", "authorization_code"),
            ("client_id", "demo-app"),
            ("code", &*code),
            ("redirect_uri", &callback),
            ("code_verifier", VERIFIER),
        ];
        for (name, value) in right {
            for second in [value, "another", ""] {
                let answer = server.token(&[&right[..], &[(name, second)]].concat()).await;
                assert_refused(&answer, StatusCode::BAD_REQUEST, "invalid_request");
            }
        }
        assert_eq!(server.token(&right).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_body_that_is_not_a_form_is_refused() {
        let server = start(&[]).await;
        let large = server.token(&[("client_id", &*"x".repeat(100_000))]).await;
        assert_refused(&large, StatusCode::PAYLOAD_TOO_LARGE, "invalid_request");
        let headers = [(CONTENT_TYPE.as_str(), "application/json")];
        let json = send(Method::POST, &server.url("/token"), &headers, "{}".to_owned()).await;
        assert_refused(&json, StatusCode::BAD_REQUEST, "invalid_request");
    }

    #[tokio::test]
    async fn resources_are_those_of_the_authorization_request() {
        let server = start(&["--auto-approve"]).await;
        let redeem_for = async |resource: &str| {
            let parameters =
                [("response_type", "code"), ("client_id", "demo-app"), ("resource", "https://photos.example/api")];
            let code = get(&server.authorize(&parameters)).await.redirect()["code"].clone();
            let parameters = [
                ("grant_type", "authorization_code"),
                ("client_id", "demo-app"),
                ("code", &*code),
                ("resource", resource),
            ];
            server.token(&parameters).await
        };
        assert_eq!(redeem_for("https://photos.example/api").await.status, StatusCode::OK);
        assert_refused(&redeem_for("https://bank.example/api").await, StatusCode::BAD_REQUEST, "invalid_target");
    }
}

mod consent {
    use super::*;

    async fn page(server: &Running, parameters: &[(&str, &str)]) -> Answer {
        let usual = [("response_type", "code"), ("client_id", "demo-app"), ("state", "s t&a")];
        let page = browse(&server.authorize(&[&usual[..], parameters].concat())).await;
        assert_eq!(page.status, StatusCode::OK);
        page
    }

    async fn decide(server: &Running, sealed: &str, decision: &str) -> Answer {
        post(&server.url("/consent"), &[("sealed_request", sealed), ("decision", decision)]).await
    }

    #[tokio::test]
    async fn approving_sends_a_code_to_the_client() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        let answer = decide(&server, &sealed, "approve").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert!(answer.header(LOCATION).starts_with(&server.callback()));
        let sent = answer.redirect();
        assert_eq!((&*sent["state"], &sent["iss"]), ("s t&a", &server.base));
        let shown = browse(answer.header(LOCATION)).await;
        assert!(shown.body.contains("The client got a code") && shown.body.contains(&sent["code"]));
    }

    #[tokio::test]
    async fn a_forged_request_is_refused() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        let other_server = start(&[]).await;
        let foreign = page(&other_server, &[]).await.fields()["sealed_request"].clone();
        let (key, request) = sealed.rsplit_once('.').expect("a key and a request");
        let (foreign_key, foreign_request) = foreign.rsplit_once('.').expect("a key and a request");
        let forged = [
            foreign.clone(),
            format!("{foreign_key}.{request}"),
            format!("{key}.{foreign_request}"),
            format!("{key}.{}", &request[4..]),
            format!("{key}.{}", &request[..request.len() - 4]),
            format!("{key}."),
            request.to_owned(),
            String::new(),
        ];
        for sealed in forged {
            let answer = decide(&server, &sealed, "approve").await;
            assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{sealed}");
        }
        assert_eq!(decide(&server, &sealed, "approve").await.status, StatusCode::SEE_OTHER);
    }

    #[tokio::test]
    async fn requests_of_strangers_do_not_expire_the_page_of_a_user() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        for _ in 0..2_100 {
            page(&server, &[]).await;
        }
        assert!(decide(&server, &sealed, "approve").await.redirect().contains_key("code"));
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_gets_a_page() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        let form = "application/x-www-form-urlencoded";
        let cases = [
            (form, String::new()),
            (form, format!("sealed_request={sealed}")),
            (form, format!("sealed_request={sealed}&decision=perhaps")),
            (form, format!("sealed_request={sealed}&decision=approve&decision=approve")),
            (form, format!("sealed_request={sealed}&decision=approve&x={}", "x".repeat(100_000))),
            ("application/json", "{}".to_owned()),
        ];
        for (kind, body) in cases {
            let answer = send(Method::POST, &server.url("/consent"), &[(CONTENT_TYPE.as_str(), kind)], body).await;
            assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{kind}");
            assert!(answer.header(CONTENT_SECURITY_POLICY).contains("default-src 'none'"), "{kind}: {}", answer.body);
        }
    }

    #[tokio::test]
    async fn denying_sends_an_error() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        let answer = decide(&server, &sealed, "deny").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let sent = answer.redirect();
        assert_eq!((&*sent["error"], &*sent["state"], &sent["iss"]), ("access_denied", "s t&a", &server.base));
        assert!(!sent.contains_key("code"));
    }

    #[tokio::test]
    async fn form_post_answers_with_a_form() {
        let server = start(&[]).await;
        let sealed = page(&server, &[("response_mode", "form_post")]).await.fields()["sealed_request"].clone();
        let answer = decide(&server, &sealed, "approve").await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::OK, ""));
        assert!(answer.body.contains(&format!("action=\"{}\"", server.callback())));
        let fields = answer.fields();
        let sent: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let shown = post(&server.callback(), &sent).await;
        assert!(shown.body.contains("The client got a code") && shown.body.contains(&fields["code"]));
    }

    #[tokio::test]
    async fn a_post_request_gets_the_consent_page_too() {
        let server = start(&[]).await;
        let parameters = [("response_type", "code"), ("client_id", "demo-app")];
        let page = post(&server.url("/authorize"), &parameters).await;
        let answer = decide(&server, &page.fields()["sealed_request"], "approve").await;
        assert!(answer.redirect().contains_key("code"));
    }

    #[tokio::test]
    async fn another_site_cannot_decide() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        let parameters = [("sealed_request", &*sealed), ("decision", "approve")];
        let site = "sec-fetch-site";
        let foreign: [&[(&str, &str)]; 6] = [
            &[(site, "cross-site")],
            &[(site, "same-site"), (ORIGIN.as_str(), "http://127.0.0.1:1")],
            // A browser says more than that.
            &[(site, "same-origin")],
            &[(site, "same-origin"), (ORIGIN.as_str(), "null")],
            &[(ORIGIN.as_str(), "https://evil.example")],
            &[(ORIGIN.as_str(), "null")],
        ];
        for headers in foreign {
            let answer = post_with(&server.url("/consent"), headers, &parameters).await;
            assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::FORBIDDEN, ""), "{headers:?}");
            assert!(answer.body.contains("Another site"), "{}", answer.body);
        }
        let own: [&[(&str, &str)]; 2] =
            [&[(site, "same-origin"), (ORIGIN.as_str(), &server.base)], &[(ORIGIN.as_str(), &server.base)]];
        for headers in own {
            let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
            let parameters = [("sealed_request", &*sealed), ("decision", "approve")];
            let answer = post_with(&server.url("/consent"), headers, &parameters).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER);
        }
        let unknown = decide(&server, "guess", "approve").await;
        assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    }

    /// To the server, `localhost` is here any name that was made to lead to it (DNS rebinding).
    #[tokio::test]
    async fn a_page_under_another_name_of_this_server_cannot_decide() {
        let server = start(&[]).await;
        let sealed = page(&server, &[]).await.fields()["sealed_request"].clone();
        let parameters = [("sealed_request", &*sealed), ("decision", "approve")];
        let elsewhere = server.base.replace("127.0.0.1", "localhost");
        for headers in
            [&[(ORIGIN.as_str(), &*elsewhere), ("sec-fetch-site", "same-origin")][..], &[(ORIGIN.as_str(), &elsewhere)]]
        {
            let answer = post_with(&format!("{elsewhere}/consent"), headers, &parameters).await;
            assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::FORBIDDEN, ""), "{headers:?}");
            assert!(answer.body.contains(&server.base), "it says where to go: {}", answer.body);
        }
        assert_eq!(decide(&server, &sealed, "approve").await.status, StatusCode::SEE_OTHER, "nothing was used up");
    }

    #[tokio::test]
    async fn a_request_to_localhost_is_redirected_to_the_issuer() {
        let server = start(&[]).await;
        let url = server.authorize(&[("response_type", "code"), ("client_id", "demo-app"), ("state", "s t&a")]);
        let answer = browse(&url.replace("127.0.0.1", "localhost")).await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::TEMPORARY_REDIRECT, &*url));
        assert!(browse(&url).await.fields().contains_key("sealed_request"));
    }

    #[tokio::test]
    async fn a_client_that_changed_since_the_page_was_shown_gets_nothing() {
        let folder = tempfile::tempdir().expect("a directory");
        let registry = sqlite(folder.path());
        let server = start(&["--registry", &registry]).await;
        let add = async |scope: &str| {
            let add = ["add", "--id", "app", "--redirect-uri", "https://app.example/cb", "--scope", scope];
            assert_eq!(clients(&registry, &add).await.code, Some(0));
        };
        add("read write").await;
        for changes in [&["disable", "enable"][..], &["remove"]] {
            let page = browse(&server.authorize(&[("response_type", "code"), ("client_id", "app")])).await;
            assert_eq!(clients(&registry, &[changes[0], "app"]).await.code, Some(0));
            let answer = decide(&server, &page.fields()["sealed_request"], "approve").await;
            assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{changes:?}");
            assert!(answer.body.contains("registration has changed"), "{}", answer.body);
            for change in &changes[1..] {
                assert_eq!(clients(&registry, &[change, "app"]).await.code, Some(0));
            }
        }
        // What the user agreed to is what the page said, also where the default is another one by now.
        add("read write").await;
        let page = browse(&server.authorize(&[("response_type", "code"), ("client_id", "app")])).await;
        assert_eq!(clients(&registry, &["remove", "app"]).await.code, Some(0));
        add("read write admin").await;
        let answer = decide(&server, &page.fields()["sealed_request"], "approve").await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
        let page = browse(&server.authorize(&[("response_type", "code"), ("client_id", "app")])).await;
        assert!(decide(&server, &page.fields()["sealed_request"], "approve").await.redirect().contains_key("code"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_question_of_one_node_is_answered_at_another() {
        let folder = tempfile::tempdir().expect("a directory");
        let registry = sqlite(folder.path());
        let key_file = folder.path().join("seal.key");
        let (key, older) = ("0f".repeat(32), "f0".repeat(32));
        std::fs::write(&key_file, format!("{key}\n")).expect("it can be written");
        let add = ["add", "--id", "app", "--redirect-uri", "https://app.example/cb", "--public"];
        assert_eq!(clients(&registry, &add).await.code, Some(0));
        let node = async |key: &[&str]| {
            start(&[&["--registry", &registry, "--issuer", "https://login.example"], key].concat()).await
        };
        let one = node(&["--seal-key", key_file.to_str().expect("a path")]).await;
        // Its key was replaced; the one before still opens.
        let two = node(&["--seal-key", &format!("{older},{key}")]).await;
        let stranger = node(&[]).await;

        let asked = [
            ("response_type", "code"),
            ("client_id", "app"),
            ("state", "xyz"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let page = browse(&one.authorize(&asked)).await;
        let sealed = page.fields()["sealed_request"].clone();
        one.kill().await;
        let refused = decide(&stranger, &sealed, "approve").await;
        assert_eq!((refused.status, refused.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
        let answer = decide(&two, &sealed, "approve").await.redirect();
        assert_eq!((&*answer["state"], &*answer["iss"]), ("xyz", "https://login.example"));
        let tokens = two
            .token(&[
                ("grant_type", "authorization_code"),
                ("client_id", "app"),
                ("code", &answer["code"]),
                ("code_verifier", VERIFIER),
            ])
            .await;
        assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    }

    #[tokio::test]
    async fn the_page_shows_client_scopes_and_destination() {
        let clients = json!([
            {
                "client_id": "shop", "client_name": "<script>alert(1)</script> \u{202e}B\u{ad}an\u{61c}k",
                "redirect_uris": ["https://shop.example:8443/cb?to=bank.example"], "scope": "read write",
            },
            { "client_id": "cli", "redirect_uris": ["http://127.0.0.1/cb"] },
            { "client_id": "phone", "redirect_uris": ["com.example.app:/cb"] },
        ]);
        let (_directory, path) = clients_file(&clients.to_string());
        let server = start(&["--registry", path.to_str().expect("a path")]).await;
        let page = async |client_id: &str, more: &[(&str, &str)]| {
            let parameters = [&[("response_type", "code"), ("client_id", client_id)], more].concat();
            browse(&server.authorize(&parameters)).await
        };

        let shop = page("shop", &[("scope", "write")]).await;
        assert!(!shop.body.contains("<script") && !shop.body.contains(['\u{202e}', '\u{61c}', '\u{ad}']));
        assert_eq!(shop.body.matches("<button type=\"submit\"").count(), shop.body.matches("<button").count());
        assert!(shop.body.contains("&lt;script&gt;alert(1)&lt;/script&gt; Bank"));
        assert!(shop.body.contains("<strong>shop.example:8443</strong>"));
        assert!(shop.body.contains("<code>write</code>") && !shop.body.contains("<code>read</code>"));
        let policy = shop.header(CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(shop.header(CACHE_CONTROL), "no-store");

        let cli = page("cli", &[("redirect_uri", "http://127.0.0.1:57470/cb")]).await;
        assert!(cli.body.contains("a program on this computer (<strong>127.0.0.1:57470</strong>)"));
        assert!(page("phone", &[]).await.body.contains("<strong>com.example.app:</strong> links"));
    }
}

mod start_page {
    use super::*;

    struct Link {
        title: String,
        url: String,
        outcome: String,
    }

    fn links(server: &Running, page: &Answer) -> Vec<Link> {
        let text = |html: &str| {
            unescape(&html.replace("<code>", "").replace("</code>", "").replace("<bdi>", "").replace("</bdi>", ""))
        };
        let items = page.body.split("<li><a href=\"").skip(1);
        items
            .map(|item| {
                let (href, rest) = item.split_once("\">").expect("a link");
                let (title, rest) = rest.split_once("</a><span class=\"outcome\">").expect("a title");
                let (outcome, _) = rest.split_once("</span>").expect("an outcome");
                Link { title: text(title), url: server.url(&format!("/{}", unescape(href))), outcome: text(outcome) }
            })
            .collect()
    }

    /// Follows the link, and holds what comes against what the page says.
    async fn check(link: &Link) {
        let answer = browse(&link.url).await;
        let Link { title, outcome, .. } = link;
        let by_form = link.url.contains("response_mode=form_post");
        if outcome == "consent page" {
            assert_eq!(answer.status, StatusCode::OK, "{title}");
            assert!(answer.fields().contains_key("sealed_request"), "{title}");
            return;
        }
        if let Some(rest) = outcome.strip_prefix("400 ") {
            let error = rest.split(' ').next().expect("an error");
            assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{title}");
            assert!(answer.body.contains(&format!("<code>{error}</code>")), "{title}");
            return;
        }
        let sent = if by_form {
            assert_eq!(answer.status, StatusCode::OK, "{title}");
            answer.fields()
        } else {
            assert_eq!(answer.status, StatusCode::FOUND, "{title}");
            answer.redirect()
        };
        if outcome.starts_with("a code goes to the client") {
            assert!(sent.contains_key("code"), "{title}");
        } else {
            let (error, rest) = outcome.split_once(' ').expect("an error");
            assert!(rest.starts_with("goes to the client"), "{title}: {outcome}");
            assert_eq!(sent["error"], error, "{title}");
        }
    }

    #[tokio::test]
    async fn the_links_of_the_start_page_lead_to_the_stated_outcomes() {
        let server = start(&[]).await;
        let page = browse(&server.base).await;
        let links = links(&server, &page);
        let expected = [
            ("All in order", "consent page"),
            ("Answer by form post", "consent page"),
            ("No redirect URI named", "consent page"),
            ("No PKCE", "consent page"),
            ("PKCE with the method plain", "invalid_request goes to the client"),
            ("Unknown client", "400 invalid_client"),
            ("No client named", "400 invalid_request"),
            ("Client named twice", "400 invalid_request"),
            ("Foreign redirect URI", "400 invalid_request"),
            ("Redirect URI named twice", "400 invalid_request"),
            ("Scope that the client may not have", "invalid_scope goes to the client"),
            ("The same, answer by form post", "invalid_scope goes to the client"),
            ("Parameter sent twice", "invalid_request goes to the client"),
            ("Response type that is not supported", "unsupported_response_type goes to the client"),
            ("Request object that is not signed", "400 invalid_request_object here"),
            ("Resource that is no URI", "invalid_target goes to the client"),
            ("Client that is switched off", "400 invalid_client"),
            ("Client whose registration has ended", "400 invalid_client"),
        ];
        for (title, outcome) in expected {
            let link = links.iter().find(|link| link.title == title).unwrap_or_else(|| panic!("no link {title}"));
            assert!(link.outcome.starts_with(outcome), "{title}: {}", link.outcome);
        }
        for link in &links {
            check(link).await;
        }
    }

    #[tokio::test]
    async fn the_links_work_in_every_mode_and_with_any_registry() {
        let clients = json!({ "clients": [
            { "client_id": "everything", "redirect_uris": ["https://a.example/cb?x=1"], "scope": "*" },
            { "client_id": "&quot;><b>", "redirect_uris": ["app.example:/cb", "http://localhost:*"] },
            { "client_id": "gone", "redirect_uris": ["https://b.example/"], "revoked": true },
        ] });
        let (_directory, path) = clients_file(&clients.to_string());
        let file = ["--registry", path.to_str().expect("a path")];
        let modes: [&[&str]; 5] = [
            &["--auto-approve"],
            &["--profile", "rfc9700"],
            &["--profile", "oauth21"],
            &["--profile", "mcp", "--auto-approve", file[0], file[1]],
            &file,
        ];
        for arguments in modes {
            let server = start(arguments).await;
            let page = browse(&server.base).await;
            let links = links(&server, &page);
            assert!(links.len() > 20, "{arguments:?}");
            for link in &links {
                check(link).await;
            }
        }
    }

    #[tokio::test]
    async fn it_starts_without_clients() {
        let variables = [("ALLOWED_MCP_CLIENTS", "")];
        let arguments = ["--listen", "127.0.0.1:0", "--registry", "env"];
        let server = Running::with_environment("authorization_server", &arguments, &variables).await;
        let page = browse(&server.base).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(links(&server, &page).is_empty());
    }
}

mod serving {
    use super::*;

    #[tokio::test]
    async fn the_metadata_document_matches_the_behavior() {
        let server = start(&[]).await;
        let document = get(&server.url("/.well-known/oauth-authorization-server")).await;
        assert_eq!(document.header(X_CONTENT_TYPE_OPTIONS), "nosniff");
        let document = document.json();
        assert_eq!(document["issuer"], *server.base);
        assert_eq!(document["authorization_endpoint"], server.url("/authorize"));
        assert_eq!(document["token_endpoint"], server.url("/token"));
        assert_eq!(document["response_types_supported"], json!(["code"]));
        assert_eq!(document["response_modes_supported"], json!(["query", "fragment", "form_post"]));
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        assert_eq!(document["scopes_supported"], json!(["photos:read", "photos:write", "profile"]));
        let methods = json!(["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]);
        assert_eq!(document["token_endpoint_auth_methods_supported"], methods);
        let algorithms = json!(["ES256", "EdDSA", "PS256", "RS256"]);
        assert_eq!(document["token_endpoint_auth_signing_alg_values_supported"], algorithms);
        assert_eq!(document["revocation_endpoint"], server.url("/revoke"));
        assert_eq!(document["revocation_endpoint_auth_methods_supported"], methods);
    }

    #[tokio::test]
    async fn the_issuer_can_be_set() {
        let server = start(&["--issuer", "https://login.example/:tenant", "--auto-approve"]).await;
        let document = get(&server.url("/.well-known/oauth-authorization-server/:tenant")).await.json();
        assert_eq!(document["issuer"], "https://login.example/:tenant");
        assert_eq!(document["token_endpoint"], "https://login.example/:tenant/token");
        let answer = get(&server.authorize(&[("response_type", "code"), ("client_id", "demo-app")])).await;
        assert_eq!(answer.redirect()["iss"], "https://login.example/:tenant");
        assert!(answer.header(LOCATION).starts_with("https://login.example/:tenant/demo/callback?"));
    }

    /// Whatever the document announces is there.
    #[tokio::test]
    async fn every_endpoint_is_below_the_path_of_the_issuer() {
        let issuer = "https://login.example/tenants/:a";
        for issuer in [issuer.to_owned(), format!("{issuer}/")] {
            let server = start(&["--issuer", &issuer, "--registration", "open"]).await;
            let here = |url: &str| server.url(url.strip_prefix("https://login.example").expect("it is of the issuer"));
            let document = get(&server.url("/.well-known/oauth-authorization-server/tenants/:a")).await.json();
            assert_eq!(document["issuer"], *issuer);
            let announced = |member: &str| here(document[member].as_str().expect("a URL"));
            let metadata = json!({
                "redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none", "client_name": "Tool",
            });
            let headers = [(CONTENT_TYPE.as_str(), "application/json")];
            let client =
                send(Method::POST, &announced("registration_endpoint"), &headers, metadata.to_string()).await.json();
            let id = client["client_id"].as_str().expect("an id");
            let uri = here(client["registration_client_uri"].as_str().expect("a URL"));
            let bearer = format!("Bearer {}", client["registration_access_token"].as_str().expect("a token"));
            let known = send(Method::GET, &uri, &[(AUTHORIZATION.as_str(), &*bearer)], String::new()).await;
            assert_eq!(known.json()["client_id"], id);

            let query =
                form(&[("response_type", "code"), ("client_id", id), ("redirect_uri", "http://127.0.0.1:1/cb")]);
            let page = browse(&format!("{}?{query}", announced("authorization_endpoint"))).await;
            assert!(page.body.contains("action=\"consent\""), "beside the page: {}", page.body);
            let sealed = page.fields()["sealed_request"].clone();
            let approved = [("sealed_request", &*sealed), ("decision", "approve")];
            let origin = [(ORIGIN.as_str(), "https://login.example")];
            let answer = post_with(&here("https://login.example/tenants/:a/consent"), &origin, &approved).await;
            let sent = answer.redirect();
            assert_eq!(sent["iss"], issuer);
            let parameters = [
                ("grant_type", "authorization_code"),
                ("client_id", id),
                ("code", &*sent["code"]),
                ("redirect_uri", "http://127.0.0.1:1/cb"),
            ];
            let tokens = post(&announced("token_endpoint"), &parameters).await;
            assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);

            let start = get(&server.url("/tenants/:a")).await;
            assert_eq!(start.header(LOCATION), "/tenants/:a/");
            assert_eq!(browse(&server.url("/tenants/:a/")).await.status, StatusCode::OK);
            assert_eq!(get(&server.url("/tenants/:ab/authorize")).await.status, StatusCode::NOT_FOUND);
        }
    }

    #[tokio::test]
    async fn an_edit_of_the_file_takes_effect_without_a_restart() {
        let file_of = |name: &str, id: &str| match name {
            "clients.json" => json!([{ "client_id": id, "redirect_uris": ["https://a.example/cb"] }]).to_string(),
            _ => format!("[[clients]]\nclient_id = \"{id}\"\nredirect_uris = [\"https://a.example/cb\"]\n"),
        };
        for name in ["clients.json", "clients.toml"] {
            let folder = tempfile::tempdir().expect("a directory");
            let path = folder.path().join(name);
            std::fs::write(&path, file_of(name, "first")).expect("it can be written");
            let server = start(&["--registry", path.to_str().expect("a path"), "--auto-approve"]).await;
            let status =
                async |id: &str| get(&server.authorize(&[("response_type", "code"), ("client_id", id)])).await.status;
            assert_eq!(status("first").await, StatusCode::FOUND, "{name}");
            assert_eq!(status("second").await, StatusCode::BAD_REQUEST, "{name}");
            std::fs::write(&path, file_of(name, "second")).expect("it can be written");
            eventually(async || status("second").await == StatusCode::FOUND).await;
            assert_eq!(status("first").await, StatusCode::BAD_REQUEST, "{name}");
            // A broken one changes nothing, and the next good one counts, as does one that takes its place.
            std::fs::write(&path, "{").expect("it can be written");
            let new = folder.path().join("new");
            std::fs::write(&new, file_of(name, "third")).expect("it can be written");
            assert_eq!(status("second").await, StatusCode::FOUND, "{name}");
            std::fs::rename(&new, &path).expect("it can be renamed");
            eventually(async || status("third").await == StatusCode::FOUND).await;
            assert_eq!(status("second").await, StatusCode::BAD_REQUEST, "{name}");
        }
    }

    #[tokio::test]
    async fn every_client_of_a_file_is_served() {
        let clients = json!([
            {
                "client_id": "b\u{7e}c d", "client_name": "Spaces", "redirect_uris": ["https://a.example/cb?x=%20&"],
                "scope": "a b", "grant_types": ["authorization_code"], "response_types": ["code"],
                "token_endpoint_auth_method": "none", "logo_uri": "https://a.example/logo.png",
                "client_name#de": "Leerzeichen", "jwks": { "keys": [] }, "contacts": null, "x": [1, { "y": 2.5 }],
            },
            {
                "client_id": "secretive", "redirect_uris": ["https://b.example/cb"], "client_secret": "s:\u{e9} +%",
                "token_endpoint_auth_method": "client_secret_post", "grant_types": ["authorization_code", "refresh_token"],
            },
            { "client_id": "signer", "redirect_uris": ["https://c.example/cb"], "token_endpoint_auth_method": "private_key_jwt", "client_secret": "x" },
            { "client_id": "idle" },
        ]);
        let (_directory, path) = clients_file(&clients.to_string());
        let server = start(&["--registry", path.to_str().expect("a path"), "--auto-approve"]).await;
        let ask = async |client_id: &str| {
            get(&server.authorize(&[("response_type", "code"), ("client_id", client_id)])).await
        };
        let redeem = async |client_id: &str, secret: &str| {
            let code = ask(client_id).await.redirect()["code"].clone();
            let parameters = [
                ("grant_type", "authorization_code"),
                ("client_id", client_id),
                ("client_secret", secret),
                ("code", &*code),
            ];
            server.token(&parameters).await
        };

        let spaces = ask("b~c d").await;
        assert!(spaces.header(LOCATION).starts_with("https://a.example/cb?x=%20&code="), "{}", spaces.header(LOCATION));
        let tokens = redeem("b~c d", "").await.json();
        assert_eq!(tokens["scope"], "a b");
        assert_eq!(tokens.get("refresh_token"), None, "it did not register the grant");
        let refused = server.refresh("b~c d", "x").await;
        assert_refused(&refused, StatusCode::BAD_REQUEST, "unauthorized_client");

        let tokens = redeem("secretive", "s:\u{e9} +%").await.json();
        assert!(tokens["refresh_token"].is_string(), "{tokens}");
        assert_refused(&redeem("secretive", "s").await, StatusCode::UNAUTHORIZED, "invalid_client");
        // It proves itself by a key, which this server cannot check.
        assert_refused(&redeem("signer", "x").await, StatusCode::UNAUTHORIZED, "invalid_client");
        assert_refused(&ask("idle").await, StatusCode::BAD_REQUEST, "invalid_request");
        assert_refused(&ask("demo-app").await, StatusCode::BAD_REQUEST, "invalid_client");
    }

    #[tokio::test]
    async fn the_environment_serves_its_clients() {
        let variables = [("ALLOWED_MCP_CLIENTS", "zed-editor, web|https://web.example/cb")];
        let arguments = ["--listen", "127.0.0.1:0", "--registry", "env", "--auto-approve"];
        let server = Running::with_environment("authorization_server", &arguments, &variables).await;
        let ask = async |client_id: &str, redirect_uri: &str| {
            let parameters = [("response_type", "code"), ("client_id", client_id), ("redirect_uri", redirect_uri)];
            get(&server.authorize(&parameters)).await
        };
        assert_eq!(ask("zed-editor", "http://localhost:4711/x").await.status, StatusCode::FOUND);
        assert_eq!(ask("web", "https://web.example/cb").await.status, StatusCode::FOUND);
        assert_eq!(ask("web", "http://localhost:4711/x").await.status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn the_profile_decides_on_pkce() {
        let default = ["--listen", "127.0.0.1:0", "--registry", "memory", "--auto-approve"];
        let cases: [(&[&str], &str, &str); 5] = [
            (&[], "error", "code"),
            (&["--profile", "rfc9700"], "error", "code"),
            (&["--profile", "oauth2"], "code", "code"),
            (&["--profile", "oauth21"], "error", "error"),
            (&["--profile", "mcp"], "error", "error"),
        ];
        for (profile, of_public_client, of_confidential_client) in cases {
            let server = Running::start("authorization_server", &[&default, profile].concat()).await;
            for (client_id, expected) in [("demo-app", of_public_client), ("demo-web", of_confidential_client)] {
                let answer = get(&server.authorize(&[("response_type", "code"), ("client_id", client_id)])).await;
                assert!(answer.redirect().contains_key(expected), "{profile:?}: {client_id}");
            }
        }
    }

    #[tokio::test]
    async fn report_only_lets_every_request_through() {
        let server = start(&["--report-only", "--auto-approve"]).await;
        let good = [("response_type", "code"), ("client_id", "demo-app")];
        assert!(get(&server.authorize(&good)).await.redirect().contains_key("code"));

        let unknown = get(&server.authorize(&[("response_type", "code"), ("client_id", "nobody")])).await;
        assert_eq!(unknown.status, StatusCode::OK);
        assert!(unknown.body.contains("would have been refused\nerror: invalid_client\n"), "{}", unknown.body);

        let greedy = [&good[..], &[("scope", "another")]].concat();
        let greedy = post(&server.url("/authorize"), &greedy).await;
        assert_eq!(greedy.status, StatusCode::OK);
        assert!(greedy.body.contains("error: invalid_scope\n") && greedy.body.contains("redirect URI"));

        let large = post(&server.url("/authorize"), &[("x", &"x".repeat(100_000))]).await;
        assert_eq!(large.status, StatusCode::OK);
        assert!(large.body.contains("reason: body_too_large\n"), "{}", large.body);
        let put = send(Method::PUT, &server.url("/authorize"), &[], "x".to_owned()).await;
        assert_eq!(put.status, StatusCode::OK);
        assert!(put.body.contains("reason: method\n"), "{}", put.body);
    }

    #[tokio::test]
    async fn methods_that_are_not_allowed_get_405() {
        let server = start(&["--auto-approve"]).await;
        let good = server.authorize(&[("response_type", "code"), ("client_id", "demo-app")]);
        let ask = async |method: Method| send(method, &good, &[], String::new()).await;
        assert_eq!(ask(Method::PUT).await.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Method::OPTIONS).await.status, StatusCode::NO_CONTENT);
        let head = ask(Method::HEAD).await;
        assert_eq!((head.status, head.header(LOCATION), &*head.body), (StatusCode::OK, "", ""), "HEAD issues no code");
    }

    #[tokio::test]
    async fn scripts_of_other_sites_reach_the_token_endpoint_only() {
        let server = start(&[]).await;
        let headers = [(ORIGIN.as_str(), "https://spa.example"), ("access-control-request-method", "POST")];
        let allowed = async |path: &str| {
            let answer = send(Method::OPTIONS, &server.url(path), &headers, String::new()).await;
            answer.header("access-control-allow-origin").to_owned()
        };
        assert_eq!(allowed("/token").await, "*");
        assert_eq!(allowed("/.well-known/oauth-authorization-server").await, "*");
        for path in ["/authorize", "/consent", "/"] {
            assert_eq!(allowed(path).await, "", "{path}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_signal_shuts_it_down_gracefully() {
        for signal in ["TERM", "INT"] {
            let server = start(&[]).await;
            // A connection that is kept open, as browsers do.
            let address = server.base.strip_prefix("http://").expect("a URL");
            let _idle = tokio::net::TcpStream::connect(address).await.expect("it listens");
            assert_eq!(server.stop(signal).await, Some(0), "{signal}");
        }
    }
}

mod starting {
    use super::*;

    async fn complaint(args: &[&str]) -> String {
        let output = run("authorization_server", args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// The one line that says why the server does not start.
    async fn line_of_complaint(args: &[&str]) -> String {
        let text = complaint(args).await;
        let line = text.strip_suffix('\n').expect("a line");
        assert!(!line.contains('\n') && !line.is_empty(), "{text}");
        line.to_owned()
    }

    #[tokio::test]
    async fn a_wrong_flag_is_named() {
        let cases: [(&[&str], &str); 16] = [
            (&["--colour"], "--colour"),
            (&["serve"], "serve"),
            (&["--listen"], "--listen"),
            (&["--listen", "8080"], "HOST:PORT"),
            (&["--listen", "127.0.0.1:80800"], "HOST:PORT"),
            (&["--profile", "oauth3"], "oauth3"),
            (&["--seal-key", "0f0f"], "must be a file, or 64 hexadecimal digits"),
            (&["--registry", "clients.ini"], "clients.ini"),
            (&["--issuer", "login.example"], "--issuer"),
            (&["--issuer", "https://login.example/?x"], "query"),
            (&["--issuer", "https://login.example/{x}"], "--issuer"),
            (&["--issuer", "https://LOGIN.example"], "--issuer"),
            (&["--issuer", "http://localhost:*"], "wildcard"),
            (&["--auto-approve=yes"], "--auto-approve"),
            (&["--listen", "127.0.0.1:0", "--report"], "--report"),
            (&["--code-lifetime", "soon"], "--code-lifetime"),
        ];
        for (args, named) in cases {
            let text = complaint(args).await;
            assert!(text.contains(named), "{args:?}: {text}");
        }
    }

    #[tokio::test]
    async fn a_broken_file_is_named_with_line_and_column() {
        let cases = [
            ("[\n  {\"client_id\": \"a\",}\n]", "clients.json:2:"),
            (
                "[\n  {\"client_id\": \"a\"},\n  {\"client_id\": \"b\", \"redirect_uris\": [\"https://b.example/#x\"]}\n]",
                "clients.json:3:3: client \"b\": redirect_uris[0]: ",
            ),
            ("[\n  {\"client_name\": \"a\"}\n]", "clients.json:2:3: client_id: missing"),
            (
                "[\n {\"client_id\": \"a\"},\n {\"client_id\": \"a\"}]",
                "clients.json:3:2: client \"a\": client_id is repeated",
            ),
            (
                "[\n  {\"client_id\": \"a\", \"redirect_uris\": \"https://b.example/\"}]",
                "clients.json:2:3: client \"a\": redirect_uris: must be an array",
            ),
            ("", "clients.json:1:1: "),
        ];
        for (text, expected) in cases {
            let (_directory, path) = clients_file(text);
            let line =
                line_of_complaint(&["--listen", "127.0.0.1:0", "--registry", path.to_str().expect("a path")]).await;
            assert!(line.contains(expected), "{line}");
        }
        let line = line_of_complaint(&["--listen", "127.0.0.1:0", "--registry", "/nowhere/clients.json"]).await;
        assert!(line.contains("/nowhere/clients.json"), "{line}");
    }

    #[tokio::test]
    async fn help_names_every_flag() {
        let output = run("authorization_server", &["--help"]).await;
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        let flags = [
            "--listen",
            "--registry",
            "--issuer",
            "--profile",
            "--registration",
            "--metadata-documents",
            "--insecure-loopback-documents",
            "--auto-approve",
            "--code-lifetime",
            "--seal-key",
            "--report-only",
        ];
        for flag in flags {
            assert!(text.contains(flag), "{flag}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let server = start(&[]).await;
        let address = server.base.strip_prefix("http://").expect("a URL");
        let output = run("authorization_server", &["--listen", address, "--registry", "memory"]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(address));
    }
}
