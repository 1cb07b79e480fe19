//! Clients in PostgreSQL.

use std::str::FromStr;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres, Row as _};

use super::RegistryError;
use super::sql::{self, Backend, SqlOptions, SqlRegistry};
use super::store::Change;

/// Clients in PostgreSQL: for many nodes. See [`SqlRegistry`] for what it does when it fails.
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
/// Put a `CachedRegistry` (feature `cache`) in front of it, which [follows](SqlRegistry::changes) what other
/// nodes change.
pub type PostgresRegistry = SqlRegistry<Postgres>;

/// The channel of `notify.sql`.
const CHANNEL: &str = "oauth_clients";

/// Between tries to listen again: doubled from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A connection on which nothing came for so long is tried.
const SILENCE: Duration = Duration::from_secs(15);

impl SqlRegistry<Postgres> {
    /// Connects to `postgres://USER:PASSWORD@HOST/DATABASE`. Parameters of the URL are those of
    /// [sqlx](https://docs.rs/sqlx/latest/sqlx/postgres/struct.PgConnectOptions.html).
    ///
    /// The table is there only after [`migrate`](Self::migrate).
    ///
    /// # Errors
    ///
    /// When the URL is none, or the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, RegistryError> {
        Self::connect_with(url, SqlOptions::default()).await
    }

    /// [`connect`](Self::connect) with bounds.
    ///
    /// # Errors
    ///
    /// When the URL is none, or the server cannot be reached.
    pub async fn connect_with(url: &str, options: SqlOptions) -> Result<Self, RegistryError> {
        let registry = Self::connect_lazy(url, options)?;
        registry.pool().acquire().await.map_err(sql::registry_error::<Postgres>)?;
        Ok(registry)
    }

    /// Like [`connect_with`](Self::connect_with), for a node that must start while the server is away: lookups
    /// fail until it is there. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the URL is none.
    pub fn connect_lazy(url: &str, options: SqlOptions) -> Result<Self, RegistryError> {
        sql::check_scheme(url, &["postgres://", "postgresql://"])?;
        let connect_options = PgConnectOptions::from_str(url).map_err(sql::registry_error::<Postgres>)?;
        let connect_options = statement_timeout(connect_options, options.statement_timeout);
        let pool = options.pool().connect_lazy_with(connect_options);
        Ok(Self::new(pool, options))
    }

    /// Makes or renews the table and its trigger. Does nothing when they are up to date. Many nodes may do it at
    /// the same time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn migrate(&self) -> Result<(), RegistryError> {
        // A migration may wait for that of another node, or for a long index.
        let options = statement_timeout(PgConnectOptions::clone(&self.pool().connect_options()), Duration::ZERO);
        let failed = sql::registry_error::<Postgres>;
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        let notify = (2, "notify", include_str!("sql/notify.sql"));
        let migrated = sql::migrate::<Postgres>(&mut connection, "\"C\"", &[notify]).await;
        connection.close().await.map_err(failed)?;
        migrated
    }

    /// What any node changes, as the database tells it (`LISTEN`).
    ///
    /// Begins with [`Change::Reset`], once it listens. When the connection is lost, it connects again, for as
    /// long as it takes, and then says [`Change::Reset`]: anything may have changed meanwhile. It never ends.
    /// It has a connection of its own, which must not go through a pooler that shares sessions.
    ///
    /// [`CachedRegistry::follow`](crate::CachedRegistry::follow) takes it.
    #[must_use]
    pub fn changes(&self) -> BoxStream<'static, Change> {
        let options = PgConnectOptions::clone(&self.pool().connect_options());
        let state = Listening { options, listener: None, back_off: BACK_OFF.0 };
        futures::stream::unfold(state, |mut state| async move { Some((state.next().await, state)) }).boxed()
    }
}

struct Listening {
    options: PgConnectOptions,
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
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    return match notification.payload() {
                        "" => Change::Reset,
                        client_id => Change::Changed(client_id.to_owned()),
                    };
                }
                Ok(Ok(None)) => self.lost("the server closed it"),
                Ok(Err(error)) => self.lost(error),
                Err(_) => {
                    let alive = tokio::time::timeout(SILENCE, sqlx::query("SELECT 1").execute(&mut *listener)).await;
                    match alive {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => self.lost(error),
                        Err(_) => self.lost("the server does not answer"),
                    }
                }
            }
        }
    }

    fn lost(&mut self, reason: impl std::fmt::Display) {
        tracing::warn!(%reason, "lost the connection that tells changes of clients");
        self.listener = None;
    }

    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        // Not from the registry's own: it would take one away from lookups, and end with the others.
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

/// The server ends a statement, which the end of a connection would not. Zero: never.
fn statement_timeout(options: PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    // Less than a millisecond is not none at all, which zero means.
    let milliseconds = timeout.as_micros().div_ceil(1000);
    options.options([("statement_timeout", milliseconds.to_string())])
}

impl sql::sealed::Sealed for Postgres {}

impl Backend for Postgres {
    sql::statements!();

    /// The pool is the bound.
    const WRITERS: usize = tokio::sync::Semaphore::MAX_PERMITS;

    /// A row that another node removes, or that is being used, is passed over: waiting for it would end in fewer rows
    /// than there are. As an array the rows are selected once, whatever the plan.
    const REMOVE_UNUSED: &'static str = concat!(
        "DELETE FROM oauth_clients WHERE client_id = ANY(ARRAY(",
        sql::unused!(),
        " FOR UPDATE SKIP LOCKED)) RETURNING client_id"
    );

    /// Classes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>: connection, rollback,
    /// resources, operator (cancelled, shut down, starting), system; a lock not to be had; a server that only
    /// reads, as during a fail-over.
    fn is_transient(code: &str) -> bool {
        matches!(code.get(..2), Some("08" | "40" | "53" | "57" | "58")) || matches!(code, "55P03" | "25006")
    }
}

sql::bind!(Postgres, PgArguments);
