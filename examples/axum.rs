//! The smallest useful server with axum: only requests of registered clients reach the handler.
//!
//! `cargo run --features axum --example axum -- 127.0.0.1:8080`

use std::time::Duration;

use axum::{Router, http::Method, http::StatusCode, response::Response, routing::get};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;
use tower_oauth_client_validation::{
    Client, ClientError, ClientValidationLayer, MemoryRegistry, UseUpError, ValidatedRequest,
};

/// The time that a client has to send the head of a request, and then its body.
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = app()?.layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT));
    // `axum::serve` is shorter, but waits for the head of a request without limit.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        });
    }
}

fn app() -> Result<Router, ClientError> {
    let clients = MemoryRegistry::from_clients([Client::builder("photo-app")
        .redirect_uri("https://photos.example/callback")
        .scope("profile photos:read")
        .build()?]);
    let layer = ClientValidationLayer::new(clients);
    Ok(Router::new().route("/authorize", get(authorize).post(authorize).layer(layer)))
}

/// Runs for valid requests only. A real server logs the user in and asks for consent here.
async fn authorize(method: Method, validated: ValidatedRequest) -> Result<Response, UseUpError> {
    // A pushed request gets one code. Every other request passes.
    validated.use_up().await?;
    let code = format!("a-code-for-{}", validated.client_id());
    Ok(validated.success([("code", code.as_str())]).into_http(&method))
}
