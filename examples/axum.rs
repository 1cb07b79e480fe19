//! The smallest useful server with axum: only requests of registered clients reach the handler.
//!
//! `cargo run --features axum --example axum -- 127.0.0.1:8080`

use axum::{Router, http::Method, response::Response, routing::get};
use tokio::net::TcpListener;
use tower_oauth_client_validation::{Client, ClientError, ClientValidationLayer, MemoryRegistry, ValidatedRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app()?).await?;
    Ok(())
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
async fn authorize(method: Method, validated: ValidatedRequest) -> Response {
    let code = format!("a-code-for-{}", validated.client_id());
    validated.success([("code", code.as_str())]).into_http(&method)
}
