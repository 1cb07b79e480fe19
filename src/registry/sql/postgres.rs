use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use sqlx::Postgres;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::timeout;

use super::super::RegistryError;
use super::super::store::Change;
use super::{SqlRegistry, statements};
use crate::sql::{BoundedPool, SqlConfig};

/// Clients in PostgreSQL, shared by many nodes. [`SqlRegistry`] says what happens when the database fails.
///
/// ```no_run
/// use tower_oauth_client_validation::{ClientValidationLayer, PostgresRegistry};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = PostgresRegistry::connect("postgres://oauth@db.example/oauth").await?;
/// registry.migrate().await?;
/// let layer = ClientValidationLayer::new(registry);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// Put a `CachedRegistry` (feature `cache`) in front of it that [follows](SqlRegistry::changes) the changes of other
/// nodes.
///
/// # Encryption
///
/// Unless the server is local (a Unix socket, `localhost` or a loopback address), the connection must be encrypted,
/// and the server must prove its name by a certificate of a public authority or of `sslrootcert`. Another `sslmode`
/// in the URL, or in the environment variable `PGSSLMODE`, replaces this rule.
pub type PostgresRegistry = SqlRegistry<Postgres>;

/// The channel of the trigger functions.
const CHANNEL: &str = "oauth_clients";

/// Between attempts to listen again: doubled from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl SqlRegistry<Postgres> {
    /// Connects to `postgres://USER:PASSWORD@HOST/DATABASE`. The URL takes the parameters of
    /// [sqlx](https://docs.rs/sqlx/latest/sqlx/postgres/struct.PgConnectOptions.html).
    ///
    /// Call [`migrate`](Self::migrate) next, which creates the table.
    ///
    /// # Errors
    ///
    /// When the URL is malformed or the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, RegistryError> {
        Self::connect_with(url, SqlConfig::default()).await
    }

    /// [`connect`](Self::connect) with other limits.
    ///
    /// # Errors
    ///
    /// When the URL is malformed, the server cannot be reached, or `config` cannot work.
    pub async fn connect_with(url: &str, config: SqlConfig) -> Result<Self, RegistryError> {
        Ok(Self::new(BoundedPool::<Postgres>::connect(url, config).await?))
    }

    /// Like [`connect_with`](Self::connect_with), for a node that must start while the server is unreachable: lookups
    /// fail until it can be reached. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the URL is malformed, or `config` cannot work.
    pub fn connect_lazy(url: &str, config: SqlConfig) -> Result<Self, RegistryError> {
        Ok(Self::new(BoundedPool::<Postgres>::connect_lazy(url, config)?))
    }

    /// Creates or updates the table and its triggers. Does nothing when they are up to date. Several nodes may call it
    /// at once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn migrate(&self) -> Result<(), RegistryError> {
        Ok(self.pool.migrate(statements::postgres_migrations()).await?)
    }

    /// The changes of all nodes, as the database announces them (`LISTEN`).
    ///
    /// The stream starts with [`Change::Reset`] when it listens. After a lost connection it connects again, however
    /// long that takes, and yields [`Change::Reset`], because it may have missed any change. It never ends. It has a
    /// separate connection, which must not go through a pooler that shares sessions.
    ///
    /// Pass it to [`CachedRegistry::follow`](crate::CachedRegistry::follow).
    #[must_use]
    pub fn changes(&self) -> BoxStream<'static, Change> {
        let listening = Listening {
            options: PgConnectOptions::clone(&self.pool().connect_options()),
            probe_interval: self.pool.probe_interval(),
            listener: None,
            back_off: BACK_OFF.0,
        };
        futures::stream::unfold(listening, |mut state| async move { Some((state.next().await, state)) }).boxed()
    }
}

struct Listening {
    options: PgConnectOptions,
    probe_interval: Duration,
    listener: Option<PgListener>,
    back_off: Duration,
}

impl Listening {
    async fn next(&mut self) -> Change {
        loop {
            let Some(listener) = &mut self.listener else {
                match self.listen().await {
                    Ok(listener) => {
                        self.listener = Some(listener);
                        self.back_off = BACK_OFF.0;
                        return Change::Reset;
                    }
                    Err(error) => {
                        tracing::warn!(%error, retry_in = ?self.back_off, "cannot listen for changes of clients");
                        tokio::time::sleep(self.back_off).await;
                        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
                        continue;
                    }
                }
            };
            match timeout(self.probe_interval, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    return match notification.payload() {
                        "" => Change::Reset,
                        client_id => Change::Changed(client_id.to_owned()),
                    };
                }
                Ok(Ok(None)) => self.lost("the server closed it"),
                Ok(Err(error)) => self.lost(error),
                Err(_) => match timeout(self.probe_interval, sqlx::query("SELECT 1").execute(&mut *listener)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => self.lost(error),
                    Err(_) => self.lost("the server does not answer"),
                },
            }
        }
    }

    fn lost(&mut self, reason: impl std::fmt::Display) {
        tracing::warn!(%reason, "lost the connection that listens for changes of clients");
        self.listener = None;
    }

    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        // Not from the registry's pool: it would take a connection from lookups, and be closed with the others.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BACK_OFF.1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}
