//! The examples `axum` and `hyper` do the same.

use axum::http::header::{ALLOW, LOCATION};
use axum::http::{Method, StatusCode};

use super::http::{form, get, post, send};
use super::process::Running;

const CALLBACK: &str = "https://photos.example/callback";

#[tokio::test]
async fn axum() {
    lets_only_requests_of_its_client_through("axum").await;
}

#[tokio::test]
async fn hyper() {
    lets_only_requests_of_its_client_through("hyper").await;
}

async fn lets_only_requests_of_its_client_through(example: &str) {
    let server = Running::start(example, &["127.0.0.1:0"]).await;
    let good = [("client_id", "photo-app"), ("response_type", "code"), ("scope", "photos:read"), ("state", "a b&c")];
    let url = |parameters: &[(&str, &str)]| server.url(&format!("/authorize?{}", form(parameters)));

    let accepted = get(&url(&good)).await;
    assert_eq!(accepted.status, StatusCode::FOUND);
    assert!(accepted.header(LOCATION).starts_with(CALLBACK));
    assert_eq!(accepted.redirect()["code"], "a-code-for-photo-app");
    assert_eq!(accepted.redirect()["state"], "a b&c");

    let posted = post(&server.url("/authorize"), &good).await;
    assert_eq!(posted.status, StatusCode::SEE_OTHER);
    assert_eq!(posted.redirect()["code"], "a-code-for-photo-app");

    let greedy = get(&url(&[("client_id", "photo-app"), ("response_type", "code"), ("scope", "photos:delete")])).await;
    assert_eq!(greedy.redirect()["error"], "invalid_scope");

    let foreign = get(&url(&[&good[..], &[("redirect_uri", "https://photos.example/callback/")]].concat())).await;
    assert_eq!((foreign.status, foreign.header(LOCATION)), (StatusCode::BAD_REQUEST, ""));

    let unknown = get(&url(&[("client_id", "nobody"), ("response_type", "code")])).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert_eq!(unknown.json()["error"], "invalid_client");

    let deleted = send(Method::DELETE, &url(&good), &[], String::new()).await;
    assert_eq!(deleted.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(deleted.header(ALLOW), "GET, HEAD, POST, OPTIONS");
}
