//! Serving until a signal.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

/// How long open requests may take to finish after a signal.
const SHUTDOWN: Duration = Duration::from_secs(10);

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
        tracing::warn!(
            issuer = base,
            "browsers cannot reach this issuer, so nobody can give consent; set --issuer"
        );
    }
    Ok(Bound { listener, issuer: issuer.unwrap_or_else(|| base.clone()), base })
}

impl Bound {
    /// Prints the URL and serves until the process receives a signal to stop.
    ///
    /// # Errors
    ///
    /// If standard output or the listener fails.
    pub async fn serve(self, app: Router) -> io::Result<()> {
        let stop = stop_signal()?;

        let mut stdout = io::stdout();
        writeln!(stdout, "listening on {}", self.base)?;
        stdout.flush()?;

        let (stopping, mut stopped) = tokio::sync::watch::channel(());
        let serving = axum::serve(self.listener, app).with_graceful_shutdown(async move {
            stop.await;
            tracing::info!("shutting down");
            drop(stopping);
        });
        tokio::select! {
            result = serving.into_future() => result?,
            () = async {
                // The sender never sends: this is the signal.
                let _ = stopped.changed().await;
                tokio::time::sleep(SHUTDOWN).await;
            } => tracing::warn!("closed connections with unfinished requests"),
        }
        Ok(())
    }
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
