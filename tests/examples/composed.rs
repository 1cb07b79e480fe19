//! The example `composed`: in which order its layers act.

use axum::http::header::{COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use axum::http::{Method, StatusCode};
use futures::future::join_all;
use serde_json::json;
use url::{Url, form_urlencoded};

use super::http::{Answer, browse, form, get, post, post_with, send};
use super::process::Running;

const CALLBACK: &str = "http://127.0.0.1:45678/callback";
const ASKS: [(&str, &str); 5] = [
    ("client_id", "photo-app"),
    ("response_type", "code"),
    ("redirect_uri", CALLBACK),
    ("scope", "profile photos:read"),
    ("state", "a b&next=/é"),
];
const RIGHT: [(&str, &str); 2] = [("name", "ada"), ("password", "enchantress")];
const OTHER: [(&str, &str); 2] = [("name", "grace"), ("password", "compiler")];

async fn start() -> Running {
    Running::start("composed", &["127.0.0.1:0"]).await
}

async fn start_with_key(key: &str) -> Running {
    Running::with_environment("composed", &["127.0.0.1:0"], &[("SEAL_KEY", key)]).await
}

/// Where the answer sends the browser, with what `next` names.
fn login_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let location = answer.header(LOCATION);
    let (path, query) = location.split_once('?').expect("a query");
    assert_eq!(path, "/login");
    let (name, next) = form_urlencoded::parse(query.as_bytes()).next().expect("a parameter");
    assert_eq!(name, "next");
    next.into_owned()
}

/// The cookie of a user who has logged in.
async fn logged_in(server: &Running) -> String {
    logged_in_as(server, &RIGHT).await
}

async fn logged_in_as(server: &Running, credentials: &[(&str, &str)]) -> String {
    let answer = post(&server.url("/login"), credentials).await;
    answer.header(SET_COOKIE).split(';').next().expect("a cookie").to_owned()
}

#[tokio::test]
async fn a_login_returns_to_the_same_request() {
    let server = start().await;
    // Spelt in a way that no serializer would: it comes back as it was.
    let target = format!("/authorize?{}&%6eonce=%7E+x&unknown=%2F&&=", form(&ASKS));
    assert_eq!(login_of(&get(&server.url(&target)).await), target);

    let login = server.url(&format!("/login?{}", form(&[("next", &target)])));
    let page = browse(&login).await;
    assert_eq!(page.status, StatusCode::OK);
    let wrong = post(&login, &[("name", "ada"), ("password", "wrong")]).await;
    assert_eq!((wrong.status, wrong.header(SET_COOKIE)), (StatusCode::UNAUTHORIZED, ""));
    let unknown = post(&login, &[("name", "eve"), ("password", "enchantress")]).await;
    assert_eq!((unknown.status, unknown.body), (StatusCode::UNAUTHORIZED, wrong.body));

    let right = post(&login, &RIGHT).await;
    assert_eq!((right.status, right.header(LOCATION)), (StatusCode::SEE_OTHER, &*target));
    let cookie = right.header(SET_COOKIE);
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
}

#[tokio::test]
async fn the_login_leads_to_the_authorization_endpoint_and_nowhere_else() {
    let server = start().await;
    for next in
        ["https://attacker.example/", "//attacker.example/authorize?", "/\\attacker.example", "/authorize", "", "/x"]
    {
        let answer = post(&server.url(&format!("/login?{}", form(&[("next", next)]))), &RIGHT).await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::OK, ""), "{next}");
    }
}

#[tokio::test]
async fn a_user_who_is_logged_in_decides() {
    let server = start().await;
    let cookie = logged_in(&server).await;
    let with_cookie = [(COOKIE.as_str(), &*cookie)];
    let url = server.url(&format!("/authorize?{}", form(&ASKS)));

    let question = send(Method::GET, &url, &with_cookie, String::new()).await;
    assert_eq!(question.status, StatusCode::OK);
    for shown in ["Photo App", "ada", "profile photos:read", CALLBACK] {
        assert!(question.body.contains(shown), "{shown}: {}", question.body);
    }

    let fields = question.fields();
    let sealed = &*fields["sealed_request"];
    let consent = server.url("/consent");
    let decide = |decision| [("sealed_request", sealed), ("decision", decision)];
    let approved = post_with(&consent, &with_cookie, &decide("approve")).await;
    assert_eq!(approved.status, StatusCode::SEE_OTHER);
    let sent = approved.redirect();
    assert_eq!((&*sent["state"], &*sent["iss"]), (ASKS[4].1, &*server.base));
    assert!(approved.header(LOCATION).starts_with(CALLBACK));
    let denied = post_with(&consent, &with_cookie, &decide("deny")).await.redirect();
    assert_eq!(denied["error"], "access_denied");
    let neither = post_with(&consent, &with_cookie, &[("sealed_request", sealed)]).await;
    assert!(neither.status.is_client_error());
    // What was asked cannot be changed.
    for forged in [&sealed[1..], &sealed[..sealed.len() - 4], &form(&ASKS), ""] {
        let answer = post_with(&consent, &with_cookie, &[("sealed_request", forged), ("decision", "approve")]).await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""), "{forged}");
    }
}

#[tokio::test]
async fn a_code_is_redeemed_by_the_client_that_it_was_issued_to() {
    let server = start().await;
    let cookie = logged_in(&server).await;
    let with_cookie = [(COOKIE.as_str(), &*cookie)];
    let url = server.url(&format!("/authorize?{}", form(&ASKS)));
    let fields = send(Method::GET, &url, &with_cookie, String::new()).await.fields();
    let decided = [("sealed_request", &*fields["sealed_request"]), ("decision", "approve")];
    let code = post_with(&server.url("/consent"), &with_cookie, &decided).await.redirect()["code"].clone();
    let grant = [("grant_type", "authorization_code"), ("code", &*code), ("redirect_uri", CALLBACK)];
    let redeem = async |client: &[(&str, &str)]| post(&server.url("/token"), &[client, &grant].concat()).await;
    for wrong in [&[][..], &[("client_id", "nobody")], &[("client_id", "photo-app"), ("client_secret", "x")]] {
        let refused = redeem(wrong).await;
        assert_eq!((refused.status, &refused.json()["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    }
    let tokens = redeem(&[("client_id", "photo-app")]).await;
    assert_eq!((tokens.status, &tokens.json()["scope"]), (StatusCode::OK, &json!("profile photos:read")));
    assert_eq!(redeem(&[("client_id", "photo-app")]).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_user_decides_about_requests_of_their_own_session_only() {
    let server = start().await;
    let (ada, grace) = (logged_in(&server).await, logged_in_as(&server, &OTHER).await);
    let url = server.url(&format!("/authorize?{}", form(&ASKS)));
    let question = send(Method::GET, &url, &[(COOKIE.as_str(), &*ada)], String::new()).await;
    let fields = question.fields();
    let decided = [("sealed_request", &*fields["sealed_request"]), ("decision", "approve")];
    let answer = post_with(&server.url("/consent"), &[(COOKIE.as_str(), &*grace)], &decided).await;
    assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
    let answer = post_with(&server.url("/consent"), &[(COOKIE.as_str(), &*ada)], &decided).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[cfg(unix)]
#[tokio::test]
async fn a_question_of_one_node_is_answered_at_another() {
    let key = "0f".repeat(32);
    let (one, stranger) = (start_with_key(&key).await, start().await);
    let cookie = logged_in(&one).await;
    let url = one.url(&format!("/authorize?{}", form(&ASKS)));
    let question = send(Method::GET, &url, &[(COOKIE.as_str(), &*cookie)], String::new()).await;
    let fields = question.fields();
    let decided = [("sealed_request", &*fields["sealed_request"]), ("decision", "approve")];
    // A server with another key takes nothing.
    let cookie = logged_in(&stranger).await;
    let answer = post_with(&stranger.url("/consent"), &[(COOKIE.as_str(), &*cookie)], &decided).await;
    assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));
    // The node is gone; another one listens in its place.
    let address = one.base.trim_start_matches("http://").to_owned();
    one.kill().await;
    let two = Running::with_environment("composed", &[&address], &[("SEAL_KEY", &key)]).await;
    let cookie = logged_in(&two).await;
    let answer = post_with(&two.url("/consent"), &[(COOKIE.as_str(), &*cookie)], &decided).await;
    assert!(!answer.redirect()["code"].is_empty());
}

#[tokio::test]
async fn a_decision_without_a_session_is_ignored() {
    let server = start().await;
    let cookie = logged_in(&server).await;
    let url = server.url(&format!("/authorize?{}", form(&ASKS)));
    let question = send(Method::GET, &url, &[(COOKIE.as_str(), &*cookie)], String::new()).await;
    let fields = question.fields();
    let decided = [("sealed_request", &*fields["sealed_request"]), ("decision", "approve")];
    let answer = post(&server.url("/consent"), &decided).await;
    assert_eq!(login_of(&answer), "/consent");
}

#[tokio::test]
async fn another_site_cannot_decide() {
    let server = start().await;
    let cookie = logged_in(&server).await;
    let url = server.url(&format!("/authorize?{}", form(&ASKS)));
    let question = send(Method::GET, &url, &[(COOKIE.as_str(), &*cookie)], String::new()).await;
    let fields = question.fields();
    let decided = [("sealed_request", &*fields["sealed_request"]), ("decision", "approve")];
    for forged in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://attacker.example")]
    {
        let answer = post_with(&server.url("/consent"), &[(COOKIE.as_str(), &cookie), forged], &decided).await;
        assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::FORBIDDEN, ""), "{forged:?}");
    }
}

#[tokio::test]
async fn a_refused_request_never_leads_to_a_login() {
    let server = start().await;
    let unknown = get(&server.url("/authorize?client_id=nobody&response_type=code")).await;
    assert_eq!((unknown.status, unknown.header(SET_COOKIE)), (StatusCode::BAD_REQUEST, ""));
    assert_eq!(unknown.json()["error"], "invalid_client");
    let greedy = get(&server.url("/authorize?client_id=photo-app&response_type=code&scope=all")).await;
    assert_eq!(greedy.redirect()["error"], "invalid_scope");
    assert!(Url::parse(greedy.header(LOCATION)).expect("a URL").as_str().starts_with("http://127.0.0.1/callback?"));
}

#[tokio::test]
async fn the_rate_limit_applies_before_validation() {
    let server = start().await;
    let url = server.url("/authorize?client_id=nobody&response_type=code");
    let answers = join_all((0..200).map(|_| get(&url))).await;
    let limited = answers.iter().find(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).expect("a limit");
    assert!(!limited.header(RETRY_AFTER).is_empty());
    assert!(answers.iter().any(|answer| answer.status == StatusCode::BAD_REQUEST));
}
