//! The servers, and the inner service that reports what it got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::{map_request, map_response};
use http::{Request, Response};
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::{ServiceBuilder, service_fn};
use tower_oauth_client_validation::{ClientValidationLayer, registry_fn};

use super::Vector;
use super::answer;
use super::inner::{expose_rejection, inner};
use super::setup::{Clients, policy};

#[derive(Clone, Copy)]
pub(super) enum Server {
    /// `Router::route_layer`, bodies as they are.
    Axum,
    /// hyper's own bodies, wrapped.
    Hyper,
}

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Hyper => "hyper",
        }
    }

    /// A server with the policy and the clients of this case.
    async fn start(self, vector: &Vector) -> (SocketAddr, JoinHandle<()>) {
        let clients = Clients::of(vector.client.as_ref());
        let registry = registry_fn(move |client_id: String| {
            let found = clients.find(&client_id);
            async move { found.map(|client| client.map(Arc::new)) }
        });
        let mut layer =
            ClientValidationLayer::new(registry).policy(policy(&vector.policy)).report_only(vector.layer.report_only);
        if let Some(bytes) = vector.layer.max_body_bytes {
            layer = layer.max_body_bytes(bytes);
        }
        let outer_limit = vector.layer.outer_limit.unwrap_or(usize::MAX);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = match self {
            Self::Axum => {
                let limit = move |request: axum::extract::Request| async move {
                    request.map(|body| Body::new(Limited::new(body, outer_limit)))
                };
                let router = Router::new()
                    .route_service("/authorize", service_fn(inner::<Body>))
                    .route_layer(layer)
                    .layer(map_request(limit))
                    .layer(map_response(async |response: Response<Body>| expose_rejection(response)));
                tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
            }
            Self::Hyper => {
                let service = ServiceBuilder::new()
                    .map_response(expose_rejection)
                    .map_request(move |request: Request<Incoming>| request.map(|body| Limited::new(body, outer_limit)))
                    .layer(layer.wrap_bodies())
                    .service_fn(inner);
                tokio::spawn(async move {
                    let (stream, _) = listener.accept().await.unwrap();
                    let connection =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
                    // A broken request ends the connection with an error, as it should.
                    let _ = connection.await;
                })
            }
        };
        (address, task)
    }
}

/// Sends the request of a case, and returns the outcome.
pub(super) async fn observe(server: Server, vector: &Vector) -> Result<Value, String> {
    let (address, task) = server.start(vector).await;
    let exchange = exchange(address, vector.request.to_bytes());
    let answer = tokio::time::timeout(Duration::from_secs(60), exchange).await;
    task.abort();
    let answer = answer.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    answer::examine(&vector.request, &answer::parse(&answer)?)
}

async fn exchange(address: SocketAddr, request: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
