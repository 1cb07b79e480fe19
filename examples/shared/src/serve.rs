//! Serves until a signal, with time limits for slow clients.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_http::timeout::TimeoutLayer;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take in all, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long open requests may take to finish after a signal.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that listens but does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    base: String,
    /// The issuer identifier: `--issuer`, or else the URL that the server listens on.
    pub issuer: String,
}

/// Listens on `listen`.
///
/// # Errors
///
/// If the address is taken or invalid.
pub async fn bind(listen: &str, issuer: Option<String>) -> Result<Bound, Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("--listen {listen}: {error}"))?;
    let address = listener.local_addr()?;
    let base = format!("http://{address}");
    if issuer.is_none() && address.ip().is_unspecified() {
        tracing::warn!(issuer = base, "browsers cannot reach this issuer, so nobody can give consent; set --issuer");
    }
    Ok(Bound { listener, issuer: issuer.unwrap_or_else(|| base.clone()), base })
}

impl Bound {
    /// Prints the URL and serves until the process receives a signal to stop.
    ///
    /// # Errors
    ///
    /// If standard output fails, or signals cannot be caught.
    pub async fn serve(self, app: Router) -> io::Result<()> {
        let mut stop = Box::pin(stop_signal()?);

        let mut stdout = io::stdout();
        writeln!(stdout, "listening on {}", self.base)?;
        stdout.flush()?;

        let app = app.layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT));
        let connections = GracefulShutdown::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let service = app.clone().map_request(move |request| with_peer(request, peer));
                        let mut http = http1::Builder::new();
                        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
                        let connection = connections.watch(connection);
                        tokio::spawn(async move {
                            if let Err(error) = connection.await {
                                tracing::debug!(%error, "connection failed");
                            }
                        });
                    }
                    Err(error) => {
                        // For example too many open files. Others may be closed soon.
                        tracing::error!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
                () = &mut stop => break,
            }
        }
        tracing::info!("shutting down");
        drop(self.listener);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, connections.shutdown()).await.is_err() {
            tracing::warn!("closed connections with unfinished requests");
        }
        Ok(())
    }
}

/// The request with the address that it came from, for layers that need it.
fn with_peer(mut request: Request<Incoming>, peer: SocketAddr) -> Request {
    request.extensions_mut().insert(ConnectInfo(peer));
    request.map(Body::new)
}

/// Signals are caught from this call on, not from the first poll: a caller may send one as soon as it reads the URL.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
