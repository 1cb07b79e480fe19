use sqlx::Sqlite;

use super::super::RegistryError;
use super::{SqlRegistry, statements};
use crate::sql::{BoundedPool, SqlConfig};

/// Clients in a SQLite file, which survive a restart without a database server.
///
/// The file is in WAL mode, so that readers and the writer do not wait for each other. A write that was acknowledged
/// is on the disk. [`SqlRegistry`] says what happens when the database fails.
///
/// ```
/// use tower_oauth_client_validation::{Client, ClientOrigin, RegistrySource, RegistryStore, SqliteRegistry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}", folder.path().join("clients.sqlite").display());
/// // Such as `sqlite://clients.sqlite`. A missing file is created.
/// let registry = SqliteRegistry::connect(&url).await?;
/// registry.migrate().await?;
/// registry.insert(Client::builder("photo-app").build()?, ClientOrigin::Configured).await?;
/// assert!(registry.find_client("photo-app").await?.is_some());
/// # Ok(())
/// # }
/// ```
pub type SqliteRegistry = SqlRegistry<Sqlite>;

impl SqlRegistry<Sqlite> {
    /// Opens a file, `sqlite://PATH`. A missing file is created, readable and writable by its owner alone. The URL
    /// takes the parameters of
    /// [sqlx](https://docs.rs/sqlx/latest/sqlx/sqlite/struct.SqliteConnectOptions.html).
    ///
    /// Call [`migrate`](Self::migrate) next, which creates the table.
    ///
    /// # Errors
    ///
    /// When the URL is malformed or the file cannot be opened.
    pub async fn connect(url: &str) -> Result<Self, RegistryError> {
        Self::connect_with(url, SqlConfig::default()).await
    }

    /// [`connect`](Self::connect) with other limits.
    ///
    /// # Errors
    ///
    /// When the URL is malformed, the file cannot be opened, or `config` cannot work.
    pub async fn connect_with(url: &str, config: SqlConfig) -> Result<Self, RegistryError> {
        Ok(Self::new(BoundedPool::<Sqlite>::connect(url, config).await?))
    }

    /// Creates or updates the table. Does nothing when it is up to date. Several processes may call it at once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn migrate(&self) -> Result<(), RegistryError> {
        Ok(self.pool.migrate(statements::sqlite_migrations).await?)
    }
}
