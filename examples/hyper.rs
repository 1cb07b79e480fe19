//! The smallest useful server with hyper alone: the layer takes hyper's bodies as they are.
//!
//! `cargo run --example hyper -- 127.0.0.1:8080`

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder};
use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, RequestBody, ValidatedRequest};

/// The time that a client has to send the head of a request, and then its body.
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clients = MemoryRegistry::from_clients([Client::builder("photo-app")
        .redirect_uri("https://photos.example/callback")
        .scope("profile photos:read")
        .build()?]);
    let service = ServiceBuilder::new()
        // The layer reads bodies to their end, however slowly they come.
        .timeout(TIMEOUT)
        .layer(ClientValidationLayer::new(clients).wrap_bodies())
        .service_fn(authorize);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// Runs for valid requests only. A real server logs the user in and asks for consent here.
async fn authorize(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, BoxError> {
    // The layer passes `OPTIONS` on without validation.
    let (request, _body) = request.into_parts();
    let Some(validated) = request.extensions.get::<ValidatedRequest>() else {
        return Ok(Response::default());
    };
    // A pushed request gets one code. Every other request passes.
    if let Err(error) = validated.use_up().await {
        return Ok(error.into_rejection().into_http(&request.method, &request.headers));
    }
    let code = format!("a-code-for-{}", validated.client_id());
    Ok(validated.success([("code", code.as_str())]).into_http(&request.method))
}
