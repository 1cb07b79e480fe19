use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteSynchronous};
use sqlx::{Connection, Sqlite};
use tokio::time::Instant;

use super::backend::{Backend, bind, statements};
use super::config::SqlConfig;
use super::error::{SqlError, check_scheme};
use super::migration::Migrations;
use super::pool::BoundedPool;

/// How long a node waits for the migrations of others.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two attempts to lock a file: SQLite waits by itself, unless waiting could end in a deadlock.
const RETRY_AFTER: Duration = Duration::from_millis(10);

impl BoundedPool<Sqlite> {
    pub(crate) async fn connect(url: &str, config: SqlConfig) -> Result<Self, SqlError> {
        config.check()?;
        check_scheme(url, &["sqlite:"])?;
        let mut options = SqliteConnectOptions::from_str(url)
            .map_err(SqlError::new::<Sqlite>)?
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(config.statement_timeout);
        let mut pool = config.pool_options();
        if url.contains(":memory:") || url.contains("mode=memory") {
            // It lives as long as its connection, and each connection has another one.
            pool = pool.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        } else if !url.contains("mode=") || url.contains("mode=rwc") {
            create_private(options.get_filename()).map_err(SqlError::permanent)?;
            options = options.create_if_missing(true);
        }
        let deadline = Instant::now() + config.acquire_timeout;
        let pool = Self::new(pool.connect_lazy_with(options), config)?;
        while_busy(deadline, || pool.switch_to_wal()).await?;
        Ok(pool)
    }

    /// Kept in the file, so that later connections need no lock for it.
    async fn switch_to_wal(&self) -> Result<(), SqlError> {
        let mut connection = self.pool().acquire().await.map_err(SqlError::new::<Sqlite>)?;
        let switched = sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut *connection).await;
        switched.map(drop).map_err(SqlError::new::<Sqlite>)
    }

    pub(crate) async fn migrate(&self, migrations: impl Fn() -> Migrations) -> Result<(), SqlError> {
        while_busy(Instant::now() + MIGRATION_TIMEOUT, || self.apply(migrations())).await
    }

    /// Under the write lock of the file: sqlx takes none, and several nodes may start at once.
    async fn apply(&self, migrations: Migrations) -> Result<(), SqlError> {
        let mut connection = self.pool().acquire().await.map_err(SqlError::new::<Sqlite>)?;
        let begun = connection.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(SqlError::new::<Sqlite>)?;
        migrations.apply::<Sqlite>(&mut transaction).await?;
        transaction.commit().await.map_err(SqlError::new::<Sqlite>)
    }
}

/// Repeats work until others leave the file alone.
async fn while_busy<F: Future<Output = Result<(), SqlError>>>(
    deadline: Instant,
    work: impl Fn() -> F,
) -> Result<(), SqlError> {
    loop {
        match work().await {
            Err(error) if error.is_transient && Instant::now() < deadline => tokio::time::sleep(RETRY_AFTER).await,
            ended => return ended,
        }
    }
}

/// Creates a file that only its owner can read, unless there is one. SQLite gives its other files the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

impl Backend for Sqlite {
    statements!();

    /// A file has one writer. The others wait here, in their order: SQLite would let them retry, and some fail.
    const MAX_WRITERS: usize = 1;

    /// <https://sqlite.org/rescode.html>: busy, locked, interrupted, full, locking protocol.
    fn is_transient(code: &str) -> bool {
        code.parse::<u32>().is_ok_and(|code| matches!(code & 0xFF, 5 | 6 | 9 | 13 | 15))
    }
}

bind!(SqliteArguments);
