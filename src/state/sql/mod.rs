mod statements;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::Pool;

use self::statements::Statements;
use super::bounds::{NewValue, is_key};
use super::{StateBounds, StateError, StateStore};
use crate::sql::{Access, Argument, BoundedPool, SqlConfig, SqlError};

/// Every so many writes of a node remove expired rows...
const SWEEP_EVERY: u64 = 64;
/// ...up to this number, so that they go faster than they come.
const SWEEP_ROWS: i64 = 256;

/// How long a count of all values of a kind is used.
const COUNT_LIFETIME: Duration = Duration::from_secs(1);

/// Facts in a SQL database, where `B` is [`sqlx::Sqlite`] or [`sqlx::Postgres`]; see [`SqliteStateStore`] and
/// [`PostgresStateStore`](crate::PostgresStateStore). Clones share the connections.
///
/// Each fact is a row of the table `oauth_state`. It expires by the clock of the database. Expired rows are removed
/// while new ones are written. Timeouts and lost connections are [`Unavailable`](crate::StateErrorKind::Unavailable);
/// the limits are those of [`SqlConfig`].
pub struct SqlStateStore<B: sqlx::Database> {
    pool: BoundedPool<B>,
    writes: Arc<AtomicU64>,
    counts: Arc<Mutex<HashMap<String, Count>>>,
}

/// Facts in a SQLite file, shared by the processes of one machine.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::{SqliteStateStore, StateStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}", folder.path().join("state.sqlite").display());
/// // Such as `sqlite://state.sqlite`. A missing file is created.
/// let store = SqliteStateStore::connect(&url).await?;
/// store.migrate().await?;
/// assert!(store.put_new("assertion/4711", b"", Duration::from_secs(60)).await?);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "sqlite")]
pub type SqliteStateStore = SqlStateStore<sqlx::Sqlite>;

/// Facts in PostgreSQL, shared by many nodes. Connections are encrypted as those of
/// [`PostgresRegistry`](crate::PostgresRegistry) are.
///
/// ```no_run
/// use tower_oauth_client_validation::{PostgresRegistry, PostgresStateStore, SqlConfig};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = PostgresRegistry::connect("postgres://oauth@db.example/oauth").await?;
/// // One pool for both.
/// let store = PostgresStateStore::from_pool(registry.pool().clone(), SqlConfig::default())?;
/// store.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "postgres")]
pub type PostgresStateStore = SqlStateStore<sqlx::Postgres>;

#[cfg(feature = "sqlite")]
impl SqlStateStore<sqlx::Sqlite> {
    /// Opens a file, as [`SqliteRegistry::connect`](crate::SqliteRegistry::connect) does. Call
    /// [`migrate`](Self::migrate) next, which creates the table.
    ///
    /// # Errors
    ///
    /// When the URL is malformed or the file cannot be opened.
    pub async fn connect(url: &str) -> Result<Self, StateError> {
        Self::connect_with(url, SqlConfig::default()).await
    }

    /// [`connect`](Self::connect) with other limits.
    ///
    /// # Errors
    ///
    /// When the URL is malformed, the file cannot be opened, or `config` cannot work.
    pub async fn connect_with(url: &str, config: SqlConfig) -> Result<Self, StateError> {
        Ok(Self::new(BoundedPool::<sqlx::Sqlite>::connect(url, config).await?))
    }

    /// Creates or updates the table. Does nothing when it is up to date. Several processes may call it at once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn migrate(&self) -> Result<(), StateError> {
        Ok(self.pool.migrate(statements::migrations::<sqlx::Sqlite>).await?)
    }
}

#[cfg(feature = "postgres")]
impl SqlStateStore<sqlx::Postgres> {
    /// Connects to a server, as [`PostgresRegistry::connect`](crate::PostgresRegistry::connect) does. Call
    /// [`migrate`](Self::migrate) next, which creates the table.
    ///
    /// # Errors
    ///
    /// When the URL is malformed or the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, StateError> {
        Self::connect_with(url, SqlConfig::default()).await
    }

    /// [`connect`](Self::connect) with other limits.
    ///
    /// # Errors
    ///
    /// When the URL is malformed, the server cannot be reached, or `config` cannot work.
    pub async fn connect_with(url: &str, config: SqlConfig) -> Result<Self, StateError> {
        Ok(Self::new(BoundedPool::<sqlx::Postgres>::connect(url, config).await?))
    }

    /// Creates or updates the table. Does nothing when it is up to date. Several nodes may call it at once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn migrate(&self) -> Result<(), StateError> {
        Ok(self.pool.migrate(statements::migrations::<sqlx::Postgres>()).await?)
    }
}

impl<B: Statements> SqlStateStore<B> {
    /// Uses a pool that the application has already, such as the one of a registry.
    ///
    /// # Errors
    ///
    /// When `config` cannot work.
    pub fn from_pool(pool: Pool<B>, config: SqlConfig) -> Result<Self, StateError> {
        Ok(Self::new(BoundedPool::new(pool, config)?))
    }

    /// The connections.
    #[must_use]
    pub fn pool(&self) -> &Pool<B> {
        self.pool.pool()
    }

    fn new(pool: BoundedPool<B>) -> Self {
        Self { pool, writes: Arc::default(), counts: Arc::default() }
    }

    async fn put(&self, new: OwnedValue) -> Result<bool, StateError> {
        if let Some((kind, _)) = &new.group {
            self.check_count(kind, new.max_in_all).await?;
        }
        self.sweep_sometimes();
        // Repeats if the live value of the first attempt was taken or expired in between.
        for _ in 0..2 {
            if self.pool.execute(B::PUT, new.arguments()).await? > 0 {
                if let Some((kind, _)) = &new.group {
                    self.counted(kind, |count| count.values += 1);
                }
                return Ok(true);
            }
            if self.find(Access::Read, B::GET, new.key.clone()).await?.is_some() {
                return Ok(false);
            }
        }
        Err(StateError::full())
    }

    /// Counts the values of a kind once in a while: a count in each write would cost more the more there are.
    async fn check_count(&self, kind: &str, max: u64) -> Result<(), StateError> {
        if max == u64::MAX {
            return Ok(());
        }
        let now = Instant::now();
        let fresh = self.counted(kind, |count| {
            let is_fresh = now.duration_since(count.at) < COUNT_LIFETIME;
            // Others use the old count while this caller counts.
            count.at = if is_fresh { count.at } else { now };
            is_fresh.then_some(count.values)
        });
        let values = match fresh.flatten() {
            Some(values) => values,
            None => self.count(kind, now).await?,
        };
        if values < max { Ok(()) } else { Err(StateError::full()) }
    }

    async fn count(&self, kind: &str, now: Instant) -> Result<u64, StateError> {
        let rows = self.pool.fetch(Access::Read, B::COUNT, vec![kind.as_bytes().to_vec().into()]).await?;
        let values = rows.first().map(|row| B::number(row, 0)).transpose().map_err(SqlError::new::<B>)?;
        let values = values.flatten().and_then(|values| u64::try_from(values).ok()).unwrap_or_default();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, count| now.saturating_duration_since(count.at) < COUNT_LIFETIME);
        counts.insert(kind.to_owned(), Count { values, at: now });
        Ok(values)
    }

    fn counted<T>(&self, kind: &str, work: impl FnOnce(&mut Count) -> T) -> Option<T> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(kind).map(work)
    }

    async fn find(&self, access: Access, sql: &'static str, key: String) -> Result<Option<Vec<u8>>, StateError> {
        if !is_key(&key) {
            return Ok(None);
        }
        let rows = self.pool.fetch(access, sql, vec![key.into_bytes().into()]).await?;
        Ok(rows.first().map(|row| B::bytes(row, 0)).transpose().map_err(SqlError::new::<B>)?)
    }

    fn sweep_sometimes(&self) {
        if self.writes.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY != 0 {
            return;
        }
        let pool = self.pool.clone();
        tokio::spawn(async move {
            if let Err(error) = pool.execute(B::SWEEP, vec![SWEEP_ROWS.into()]).await {
                tracing::warn!(error = %error.source, "cannot remove expired rows of oauth_state");
            }
        });
    }
}

impl<B: Statements> StateStore for SqlStateStore<B> {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        let new = NewValue::check(key, value, lifetime, bounds).map(OwnedValue::from);
        async move { self.put(new?).await }.boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        self.find(Access::Read, B::GET, key.to_owned()).boxed()
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        self.find(Access::Write, B::TAKE, key.to_owned()).boxed()
    }
}

impl<B: sqlx::Database> Clone for SqlStateStore<B> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), writes: Arc::clone(&self.writes), counts: Arc::clone(&self.counts) }
    }
}

impl<B: sqlx::Database> fmt::Debug for SqlStateStore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStateStore").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// The live values of a kind.
struct Count {
    values: u64,
    at: Instant,
}

struct OwnedValue {
    key: String,
    value: Vec<u8>,
    /// Milliseconds.
    lifetime: i64,
    group: Option<(String, String)>,
    max_per_owner: i64,
    max_in_all: u64,
}

impl OwnedValue {
    /// `$1` to `$6` of [`Statements::PUT`].
    fn arguments(&self) -> Vec<Argument> {
        let (kind, owner) = self.group.clone().unzip();
        vec![
            self.key.clone().into_bytes().into(),
            self.value.clone().into(),
            kind.map(String::into_bytes).into(),
            owner.map(String::into_bytes).into(),
            self.lifetime.into(),
            self.max_per_owner.into(),
        ]
    }
}

impl From<NewValue<'_>> for OwnedValue {
    fn from(new: NewValue<'_>) -> Self {
        Self {
            key: new.key.to_owned(),
            value: new.value.to_owned(),
            lifetime: i64::try_from(new.lifetime.as_millis()).unwrap_or(i64::MAX),
            group: new.bounds.group().map(|(kind, owner)| (kind.to_owned(), owner.to_owned())),
            max_per_owner: i64::try_from(new.bounds.get_max_per_owner()).unwrap_or(i64::MAX),
            max_in_all: new.bounds.get_max_in_all(),
        }
    }
}

impl From<SqlError> for StateError {
    fn from(error: SqlError) -> Self {
        if error.is_transient { Self::unavailable(error.source) } else { Self::failed(error.source) }
    }
}
