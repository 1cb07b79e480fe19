//! Serving until a signal: what both servers share.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

/// How long requests that are under way may go on after a signal.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// A server that listens and does not answer yet.
pub(crate) struct Bound {
    listener: TcpListener,
    base: String,
    /// Its issuer identifier: where it listens, unless it was named.
    pub(crate) issuer: String,
}

pub(crate) async fn bind(listen: &str, issuer: Option<String>) -> Result<Bound, Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("--listen {listen}: {error}"))?;
    let address = listener.local_addr()?;
    let base = format!("http://{address}");
    if issuer.is_none() && address.ip().is_unspecified() {
        tracing::warn!(
            issuer = base,
            "the issuer is no address that a browser goes to, and nobody can give consent elsewhere: name it with --issuer"
        );
    }
    Ok(Bound { listener, issuer: issuer.unwrap_or_else(|| base.clone()), base })
}

impl Bound {
    /// Says where it listens, and serves until the process is told to end.
    pub(crate) async fn serve(self, app: Router) -> io::Result<()> {
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
            } => tracing::warn!("gave up on requests that were still under way"),
        }
        Ok(())
    }
}

/// Caught from now on, not only once the future is polled: whoever reads the address may send one at once.
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
