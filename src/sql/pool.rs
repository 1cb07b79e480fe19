use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::backend::{Argument, Backend};
use super::config::SqlConfig;
use super::error::SqlError;

/// Connections on which every operation ends in time. Clones share them.
pub(crate) struct BoundedPool<B: sqlx::Database> {
    pool: Pool<B>,
    config: SqlConfig,
    writers: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
pub(crate) enum Access {
    Read,
    Write,
}

type Statement<B, T> = for<'c> fn(
    &'c mut <B as sqlx::Database>::Connection,
    &'static str,
    Vec<Argument>,
) -> BoxFuture<'c, sqlx::Result<T>>;

impl<B: Backend> BoundedPool<B> {
    pub(crate) fn new(pool: Pool<B>, config: SqlConfig) -> Result<Self, SqlError> {
        config.check()?;
        Ok(Self { pool, config, writers: Arc::new(Semaphore::new(B::MAX_WRITERS)) })
    }

    /// Runs a statement that writes, and returns the number of rows that it changed.
    pub(crate) async fn execute(&self, sql: &'static str, arguments: Vec<Argument>) -> Result<u64, SqlError> {
        self.run(Access::Write, B::execute, sql, arguments).await
    }

    /// Runs a statement that answers rows.
    pub(crate) async fn fetch(
        &self,
        access: Access,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> Result<Vec<B::Row>, SqlError> {
        self.run(access, B::fetch, sql, arguments).await
    }

    /// Runs a statement in its own task: a caller that is cancelled leaves no connection behind in the middle of an
    /// answer.
    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        statement: Statement<B, T>,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> Result<T, SqlError> {
        let statement_timeout = self.config.statement_timeout;
        let deadline = Instant::now() + self.config.acquire_timeout + statement_timeout;
        let writer = match access {
            Access::Read => None,
            Access::Write => {
                let writer = timeout_at(deadline, Arc::clone(&self.writers).acquire_owned()).await;
                Some(writer.map_err(|_| SqlError::timed_out())?.map_err(SqlError::transient)?)
            }
        };
        let acquired = timeout_at(deadline, self.pool.acquire()).await.map_err(|_| SqlError::timed_out())?;
        let mut connection = acquired.map_err(SqlError::new::<B>)?;
        let (answer, answered) = oneshot::channel();
        let work = async move {
            let result = timeout_at(deadline, statement(&mut connection, sql, arguments)).await;
            drop(writer);
            if let Ok(result) = result {
                // The receiver is gone when the caller was cancelled.
                let _ = answer.send(result.map_err(SqlError::new::<B>));
                // The pool probes what comes back, without a time limit.
                let _ = timeout(statement_timeout, connection.return_to_pool()).await;
            } else {
                // Returned to the pool, it would be probed, and would not answer.
                drop(connection.detach());
                let _ = answer.send(Err(SqlError::timed_out()));
            }
        };
        tokio::spawn(work.in_current_span());
        answered.await.unwrap_or_else(|stopped| Err(SqlError::transient(stopped)))
    }
}

impl<B: sqlx::Database> BoundedPool<B> {
    pub(crate) fn pool(&self) -> &Pool<B> {
        &self.pool
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn probe_interval(&self) -> std::time::Duration {
        self.config.probe_interval
    }
}

impl<B: sqlx::Database> Clone for BoundedPool<B> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), config: self.config.clone(), writers: Arc::clone(&self.writers) }
    }
}

impl<B: sqlx::Database> fmt::Debug for BoundedPool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedPool").field("database", &B::NAME).field("config", &self.config).finish_non_exhaustive()
    }
}
