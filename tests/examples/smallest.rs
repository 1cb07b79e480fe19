//! The examples `axum` and `hyper` do the same.

use axum::http::header::{ALLOW, LOCATION};
use axum::http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::{form, get, post, send};
use super::process::{BOUND, Running};

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

/// Connections that stay half-way through a request's head or body keep nobody else waiting, and not for ever
/// themselves.
#[tokio::test]
async fn hyper_outlasts_slow_clients() {
    let server = Running::start("hyper", &["127.0.0.1:0"]).await;
    let address = server.base.strip_prefix("http://").unwrap();
    let head = "GET /authorize?client_id=photo-app HTTP/1.1\r\nhost: a\r\nx-slow: ";
    let body = "POST /authorize HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                content-length: 60\r\n\r\nclient_id=photo-app&";
    let mut slow = Vec::new();
    for sent in [head, body].repeat(100) {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        slow.push(connection);
    }

    let prompt = get(&server.url("/authorize?client_id=photo-app&response_type=code")).await;
    assert_eq!(prompt.redirect()["code"], "a-code-for-photo-app");

    for mut connection in slow {
        let mut answer = Vec::new();
        tokio::time::timeout(BOUND, connection.read_to_end(&mut answer)).await.expect("it is closed").unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains(CALLBACK), "half a request is no request");
    }
}
