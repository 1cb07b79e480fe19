//! Clients that stop in the middle of a request: they delay no others, and their connections are closed.

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::get;
use super::process::{BOUND, Running};

const HEAD: &str = "GET /authorize?client_id=photo-app HTTP/1.1\r\nhost: a\r\nx-slow: ";
const BODY: &str = "POST /authorize HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                    content-length: 60\r\n\r\nclient_id=photo-app&";

#[tokio::test]
async fn axum() {
    outlasts_slow_clients(&Running::start("axum", &["127.0.0.1:0"]).await, 100).await;
}

#[tokio::test]
async fn hyper() {
    outlasts_slow_clients(&Running::start("hyper", &["127.0.0.1:0"]).await, 100).await;
}

#[tokio::test]
async fn composed() {
    // Its rate limit refuses more from one address.
    outlasts_slow_clients(&Running::start("composed", &["127.0.0.1:0"]).await, 10).await;
}

#[tokio::test]
async fn authorization_server() {
    let args = ["--listen", "127.0.0.1:0", "--registry", "memory"];
    outlasts_slow_clients(&Running::start("authorization_server", &args).await, 100).await;
}

/// `count` connections of each kind.
async fn outlasts_slow_clients(server: &Running, count: usize) {
    let address = server.base.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for sent in [HEAD, BODY].repeat(count) {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        slow.push(connection);
    }

    let prompt = get(&server.url("/authorize?client_id=nobody&response_type=code")).await;
    assert_eq!((prompt.status, &prompt.json()["error"]), (StatusCode::BAD_REQUEST, &"invalid_client".into()));

    for mut connection in slow {
        let mut answer = Vec::new();
        // A body that stops gets an answer, and the connection may stay open after it for another head.
        let closed = tokio::time::timeout(BOUND, connection.read_to_end(&mut answer)).await.expect("it is closed");
        closed.unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains(" 302 "), "half a request is no request");
    }
}
