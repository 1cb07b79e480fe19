//! Clients in SQL databases.

#[cfg(feature = "postgres")]
mod postgres;
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statements;
mod store;

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::Pool;

#[cfg(feature = "postgres")]
pub use self::postgres::PostgresRegistry;
use self::row::{Row, Warned};
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteRegistry;
use self::statements::Statements;
use super::{RegistryError, RegistrySource, can_be_known_elsewhere};
use crate::client::Client;
use crate::sql::{Access, BoundedPool, SqlConfig, SqlError};

/// Clients in a SQL database, where `B` is [`sqlx::Sqlite`] or [`sqlx::Postgres`]; see
/// [`SqliteRegistry`](crate::SqliteRegistry) and [`PostgresRegistry`](crate::PostgresRegistry). Clones share the
/// connections.
///
/// Each client is a row of the table `oauth_clients`, with its [metadata](Client::to_metadata) as JSON. A revoked
/// client keeps its row. Ids are compared and ordered by their bytes, and have at most 2,048.
///
/// # Failures
///
/// Lost connections, an exhausted pool, locks and timeouts are [transient](RegistryError::is_transient); the limits
/// are those of [`SqlConfig`]. Lost connections are opened again. A row that cannot be read is a permanent failure
/// that names the client id; such a row can still be revoked and removed. A stored redirect URI that breaks a rule is
/// left out of the client, with a warning.
///
/// # Editing rows
///
/// Operators may edit the columns `disabled`, `expires_at` and `revoked_at`, or the document: the stricter counts.
///
/// A write that ends in a transient failure may have taken effect, so expect [`StoreError::AlreadyExists`] or
/// [`StoreError::Missing`] when you repeat it.
///
/// [`StoreError::AlreadyExists`]: crate::StoreError::AlreadyExists
/// [`StoreError::Missing`]: crate::StoreError::Missing
pub struct SqlRegistry<B: sqlx::Database> {
    pool: BoundedPool<B>,
    warned: Warned,
}

impl<B: Statements> SqlRegistry<B> {
    /// Uses a pool that the application has already. The pool's own limits stay; those of `config` that concern a
    /// single operation apply as well.
    ///
    /// # Errors
    ///
    /// When `config` cannot work.
    pub fn from_pool(pool: Pool<B>, config: SqlConfig) -> Result<Self, RegistryError> {
        Ok(Self::new(BoundedPool::new(pool, config)?))
    }

    fn new(pool: BoundedPool<B>) -> Self {
        Self { pool, warned: Warned::default() }
    }

    /// The connections, for your own queries.
    #[must_use]
    pub fn pool(&self) -> &Pool<B> {
        self.pool.pool()
    }

    /// Closes all connections after the running statements have ended.
    pub async fn close(&self) {
        self.pool().close().await;
    }

    async fn row(&self, client_id: &str) -> Result<Option<Row>, RegistryError> {
        if !can_be_known_elsewhere(client_id) {
            return Ok(None);
        }
        let rows = self.pool.fetch(Access::Read, statements::FIND, vec![client_id.into()]).await?;
        rows.first().map(Row::read::<B>).transpose()
    }
}

impl<B: sqlx::Database> Clone for SqlRegistry<B> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), warned: self.warned.clone() }
    }
}

impl<B: sqlx::Database> fmt::Debug for SqlRegistry<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlRegistry").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl<B: Statements> RegistrySource for SqlRegistry<B> {
    type Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let (registry, client_id) = (self.clone(), client_id.to_owned());
        async move { registry.row(&client_id).await?.map(|row| row.client(&registry.warned).map(Arc::new)).transpose() }
            .boxed()
    }
}

impl From<SqlError> for RegistryError {
    fn from(error: SqlError) -> Self {
        if error.is_transient { Self::transient(error.source) } else { Self::permanent(error.source) }
    }
}
