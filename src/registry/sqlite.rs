//! Clients in SQLite.

use std::str::FromStr;

use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Pool, Row as _, Sqlite};

use super::RegistryError;
use super::sql::{self, Backend, SqlOptions, SqlRegistry};

/// Clients in a SQLite file: what survives a restart without a server.
///
/// The file is in WAL mode, so that readers and a writer do not wait for each other, and a write that was
/// acknowledged is on the disk. See [`SqlRegistry`] for what it does when it fails.
///
/// ```
/// use tower_oauth_client_validation::{Client, ClientOrigin, RegistrySource, RegistryStore, SqliteRegistry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}", folder.path().join("clients.sqlite").display());
/// // Such as `sqlite://clients.sqlite`: made when it is missing.
/// let registry = SqliteRegistry::connect(&url).await?;
/// registry.migrate().await?;
/// registry.insert(Client::builder("photo-app").build()?, ClientOrigin::Configured).await?;
/// assert!(registry.find_client("photo-app").await?.is_some());
/// # Ok(())
/// # }
/// ```
pub type SqliteRegistry = SqlRegistry<Sqlite>;

impl SqlRegistry<Sqlite> {
    /// Opens a file, `sqlite://PATH`, and makes it when it is missing. Parameters of the URL are those of
    /// [sqlx](https://docs.rs/sqlx/latest/sqlx/sqlite/struct.SqliteConnectOptions.html).
    ///
    /// The table is there only after [`migrate`](Self::migrate).
    ///
    /// # Errors
    ///
    /// When the URL is none, or the file cannot be opened.
    pub async fn connect(url: &str) -> Result<Self, RegistryError> {
        Self::connect_with(url, SqlOptions::default()).await
    }

    /// [`connect`](Self::connect) with bounds.
    ///
    /// # Errors
    ///
    /// When the URL is none, or the file cannot be opened.
    pub async fn connect_with(url: &str, options: SqlOptions) -> Result<Self, RegistryError> {
        sql::check_scheme(url, &["sqlite:"])?;
        let connect_options = SqliteConnectOptions::from_str(url)
            .map_err(sql::registry_error::<Sqlite>)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(options.statement_timeout);
        let mut pool = options.pool();
        if url.contains(":memory:") || url.contains("mode=memory") {
            // It lives as long as its connection, and each has its own.
            pool = pool.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        }
        let pool: Pool<Sqlite> = pool.connect_with(connect_options).await.map_err(sql::registry_error::<Sqlite>)?;
        Ok(Self::new(pool, options))
    }

    /// Makes or renews the table. Does nothing when it is up to date.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn migrate(&self) -> Result<(), RegistryError> {
        let mut attempts = 0;
        loop {
            let mut connection = self.pool().acquire().await.map_err(sql::registry_error::<Sqlite>)?;
            match sql::migrate::<Sqlite>(&mut connection, "BINARY", &[]).await {
                // sqlx has no lock here: another process may have done the same at the same time.
                Err(_) if attempts < 5 => attempts += 1,
                migrated => return migrated,
            }
        }
    }
}

impl sql::sealed::Sealed for Sqlite {}

impl Backend for Sqlite {
    sql::statements!();

    /// A file has one writer. The others wait here in their order: SQLite lets them try again and again, and whoever
    /// has no luck too often fails.
    const WRITERS: usize = 1;

    const REMOVE_UNUSED: &'static str =
        concat!("DELETE FROM oauth_clients WHERE client_id IN (", sql::unused!(), ") RETURNING client_id");

    /// <https://sqlite.org/rescode.html>: busy, locked, interrupted, full, locking protocol.
    fn is_transient(code: &str) -> bool {
        code.parse::<u32>().is_ok_and(|code| matches!(code & 0xFF, 5 | 6 | 9 | 13 | 15))
    }
}

sql::bind!(Sqlite, SqliteArguments);
