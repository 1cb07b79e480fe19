use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection, Postgres};
use tokio::sync::Semaphore;
use url::Url;

use super::backend::{Backend, bind, statements};
use super::config::SqlConfig;
use super::error::{SqlError, check_scheme};
use super::migration::Migrations;
use super::pool::BoundedPool;

impl BoundedPool<Postgres> {
    pub(crate) async fn connect(url: &str, config: SqlConfig) -> Result<Self, SqlError> {
        let pool = Self::connect_lazy(url, config)?;
        pool.pool().acquire().await.map_err(SqlError::new::<Postgres>)?;
        Ok(pool)
    }

    pub(crate) fn connect_lazy(url: &str, config: SqlConfig) -> Result<Self, SqlError> {
        config.check()?;
        check_scheme(url, &["postgres://", "postgresql://"])?;
        let mut options = PgConnectOptions::from_str(url).map_err(SqlError::new::<Postgres>)?;
        if !names_ssl_mode(url) && !is_local(&options) {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        let options = with_statement_timeout(options, config.statement_timeout);
        Self::new(config.pool_options().connect_lazy_with(options), config)
    }

    /// Applies migrations on a connection without a time limit: they may wait for another node, or build an index.
    pub(crate) async fn migrate(&self, migrations: Migrations) -> Result<(), SqlError> {
        let options = PgConnectOptions::clone(&self.pool().connect_options());
        let options = with_statement_timeout(options, Duration::ZERO);
        let mut connection = PgConnection::connect_with(&options).await.map_err(SqlError::new::<Postgres>)?;
        let migrated = migrations.apply::<Postgres>(&mut connection).await;
        connection.close().await.map_err(SqlError::new::<Postgres>)?;
        migrated
    }
}

/// Without it, sqlx would encrypt where the server offers to, and verify nothing.
fn names_ssl_mode(url: &str) -> bool {
    let is_in_url =
        Url::parse(url).is_ok_and(|url| url.query_pairs().any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode")));
    is_in_url || std::env::var_os("PGSSLMODE").is_some()
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets the server end a statement, which closing the connection would not. Zero means no limit.
fn with_statement_timeout(options: PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    // Rounded up, so that less than a millisecond does not become zero.
    let milliseconds = timeout.as_micros().div_ceil(1000);
    options.options([("statement_timeout", milliseconds.to_string())])
}

impl Backend for Postgres {
    statements!();

    /// The size of the pool is the limit.
    const MAX_WRITERS: usize = Semaphore::MAX_PERMITS;

    /// Classes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>: connection, rollback, resources,
    /// operator (cancelled, shut down, starting), system; an unavailable lock; a server that is read-only, as during
    /// a failover.
    fn is_transient(code: &str) -> bool {
        matches!(code.get(..2), Some("08" | "40" | "53" | "57" | "58")) || matches!(code, "55P03" | "25006")
    }
}

bind!(PgArguments);
