//! What the SQL stores share: all but connecting.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Database, Pool, SqlSafeStr};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use super::store::{ClientOrigin, Record, RegistryStore, StoreError};
use super::{MAX_ID_BYTES, RegistryError, RegistrySource, can_be_known_elsewhere};
use crate::client::{Client, ClientStatus, from_unix_seconds, unix_seconds};
use tower::BoxError;

/// A day: more than anybody waits, and no clock overflows.
const LONGEST_PATIENCE: Duration = Duration::from_secs(86_400);

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT client_id, metadata, origin, created_at, updated_at, last_used_at, revoked_at ",
            "FROM oauth_clients ",
            $condition
        )
    };
}

macro_rules! replace {
    () => {
        "UPDATE oauth_clients \
        SET metadata = $2, updated_at = $3, revoked_at = $4, expires_at = $5, disabled = $6 \
        WHERE client_id = $1 AND revoked_at IS NULL"
    };
}

const FIND: &str = select!("WHERE client_id = $1");
const LIST: &str = select!("WHERE client_id > $1 ORDER BY client_id LIMIT $2");
const INSERT: &str = "INSERT INTO oauth_clients \
    (client_id, metadata, origin, created_at, updated_at, revoked_at, expires_at, disabled) \
    VALUES ($1, $2, $7, $3, $3, $4, $5, $6) ON CONFLICT (client_id) DO NOTHING";
const REPLACE: &str = replace!();
const REPLACE_UNCHANGED: &str = concat!(replace!(), " AND metadata = $7");
const REVOKE: &str = "UPDATE oauth_clients \
    SET updated_at = CASE WHEN revoked_at IS NULL THEN $2 ELSE updated_at END, revoked_at = COALESCE(revoked_at, $2) \
    WHERE client_id = $1";
const REMOVE: &str = "DELETE FROM oauth_clients WHERE client_id = $1";
const REMOVE_UNCHANGED: &str =
    "DELETE FROM oauth_clients WHERE client_id = $1 AND revoked_at IS NULL AND metadata = $2";
const TOUCH: &str = "UPDATE oauth_clients \
    SET last_used_at = CASE WHEN last_used_at >= $2 THEN last_used_at ELSE $2 END \
    WHERE client_id = $1";
const COUNT: &str = "SELECT COUNT(*) FROM oauth_clients WHERE origin = $1 AND revoked_at IS NULL";

/// What [`RegistryStore::remove_unused`] removes, oldest first.
macro_rules! unused {
    () => {
        "SELECT client_id FROM oauth_clients \
        WHERE origin = $1 AND revoked_at IS NULL \
            AND last_used_at IS NULL AND disabled = 0 AND created_at < $2 \
        ORDER BY created_at, client_id LIMIT $3"
    };
}
pub(super) use unused;

/// Bounds of a SQL store. Both times together bound an operation; within them a change in SQLite also waits for the
/// changes before it, since a file has one writer.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::SqlOptions;
///
/// let options = SqlOptions::default();
/// assert_eq!(options.max_connections, 10);
/// assert_eq!(options.acquire_timeout, Duration::from_secs(2));
/// assert_eq!(options.statement_timeout, Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqlOptions {
    /// Connections at the most (default: 10). A SQLite database in memory has one.
    pub max_connections: u32,
    /// How long an operation waits for a connection, be it to be opened (default: 2 s).
    pub acquire_timeout: Duration,
    /// How long a statement may run, and wait for a lock (default: 2 s).
    pub statement_timeout: Duration,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self { max_connections: 10, acquire_timeout: Duration::from_secs(2), statement_timeout: Duration::from_secs(2) }
    }
}

impl SqlOptions {
    /// Sets [`max_connections`](Self::max_connections).
    #[must_use]
    pub fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Sets [`acquire_timeout`](Self::acquire_timeout).
    #[must_use]
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Sets [`statement_timeout`](Self::statement_timeout).
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    pub(super) fn pool<B: Database>(&self) -> sqlx::pool::PoolOptions<B> {
        sqlx::pool::PoolOptions::new().max_connections(self.max_connections).acquire_timeout(self.acquire_timeout)
    }
}

/// Clients in a SQL database: [`SqliteRegistry`](crate::SqliteRegistry) or
/// [`PostgresRegistry`](crate::PostgresRegistry). Cheap to clone; clones share the connections.
///
/// A row a client, which holds its [metadata](Client::to_metadata) as JSON. A revoked client keeps its row. Ids
/// are compared and ordered by their bytes, and have 2,048 of them at the most.
///
/// # Failures
///
/// Lost connections, an exhausted pool, statements that take too long and locks are
/// [transient](RegistryError::is_transient), and end an operation after
/// [`acquire_timeout`](SqlOptions::acquire_timeout) plus
/// [`statement_timeout`](SqlOptions::statement_timeout) at the latest. Connections are opened again by
/// themselves. A row that cannot be read is a permanent failure, which names its id; such a row can still be
/// revoked and removed.
///
/// A write that ends in a transient failure may have been done: whoever repeats it must expect
/// [`StoreError::AlreadyExists`] or [`StoreError::Missing`].
pub struct SqlRegistry<B: Backend> {
    pool: Pool<B>,
    options: SqlOptions,
    writers: Arc<Semaphore>,
}

/// What a statement does.
enum Access {
    Read,
    Write,
}

impl<B: Backend> SqlRegistry<B> {
    pub(super) fn new(pool: Pool<B>, options: SqlOptions) -> Self {
        Self { pool, options, writers: Arc::new(Semaphore::new(B::WRITERS)) }
    }

    /// The connections, for queries of your own. The table is `oauth_clients`.
    #[must_use]
    pub fn pool(&self) -> &Pool<B> {
        &self.pool
    }

    /// Closes all connections, once what runs on them has ended.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Runs a statement. It gets a task of its own: a caller that goes away leaves no connection behind in the
    /// middle of an answer.
    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        statement: Statement<B, T>,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> Result<T, RegistryError> {
        let patience = self.options.acquire_timeout.saturating_add(self.options.statement_timeout);
        let deadline = Instant::now() + patience.min(LONGEST_PATIENCE);
        let writer = match access {
            Access::Read => None,
            Access::Write => {
                let writer = tokio::time::timeout_at(deadline, Arc::clone(&self.writers).acquire_owned());
                Some(writer.await.map_err(|_| too_late())?.map_err(RegistryError::transient)?)
            }
        };
        let acquired = tokio::time::timeout_at(deadline, self.pool.acquire()).await.map_err(|_| too_late())?;
        let mut connection = acquired.map_err(registry_error::<B>)?;
        let patience = self.options.statement_timeout;
        let work = async move {
            let _writer = writer;
            let Ok(answer) = tokio::time::timeout_at(deadline, statement(&mut connection, sql, arguments)).await else {
                // Not back into the pool, which would wait for it.
                drop(connection.detach());
                return Err(too_late());
            };
            // The pool tries what comes back, and has no bound for that itself.
            tokio::spawn(async move { tokio::time::timeout(patience, connection.return_to_pool()).await });
            Ok(answer)
        };
        match tokio::spawn(work.in_current_span()).await {
            Ok(answer) => answer?.map_err(registry_error::<B>),
            Err(stopped) => Err(RegistryError::transient(stopped)),
        }
    }

    async fn change(&self, sql: &'static str, arguments: Vec<Argument>) -> Result<bool, RegistryError> {
        Ok(self.run(Access::Write, B::execute, sql, arguments).await? > 0)
    }

    async fn row(&self, client_id: String) -> Result<Option<Row>, RegistryError> {
        if !can_be_known_elsewhere(&client_id) {
            return Ok(None);
        }
        Ok(self.run(Access::Read, B::fetch, FIND, vec![Argument::Text(client_id)]).await?.pop())
    }
}

impl<B: Backend> Clone for SqlRegistry<B> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), options: self.options.clone(), writers: Arc::clone(&self.writers) }
    }
}

impl<B: Backend> fmt::Debug for SqlRegistry<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlRegistry")
            .field("database", &B::NAME)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> RegistrySource for SqlRegistry<B> {
    type Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let (registry, client_id) = (self.clone(), client_id.to_owned());
        async move { registry.row(client_id).await?.map(|row| row.client().map(Arc::new)).transpose() }.boxed()
    }
}

impl<B: Backend> RegistryStore for SqlRegistry<B> {
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        async move {
            let mut arguments = columns(&client)?;
            arguments.push(Argument::Text(origin_name(origin).to_owned()));
            let inserted = self.change(INSERT, arguments).await?;
            inserted.then(|| Arc::new(client)).ok_or(StoreError::AlreadyExists)
        }
        .boxed()
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        async move {
            let replaced = self.change(REPLACE, columns(&client)?).await?;
            replaced.then(|| Arc::new(client)).ok_or(StoreError::Missing)
        }
        .boxed()
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        async move {
            if client.id() != known.id() {
                return Err(StoreError::Changed);
            }
            let mut arguments = columns(&client)?;
            arguments.push(Argument::Text(self.unchanged(known).await?));
            let replaced = self.change(REPLACE_UNCHANGED, arguments).await?;
            replaced.then(|| Arc::new(client)).ok_or(StoreError::Changed)
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.change_one(REVOKE, client_id, Some(SystemTime::now()))
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.change_one(REMOVE, client_id, None)
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let document = self.unchanged(known).await?;
            let arguments = vec![Argument::Text(known.id().to_owned()), Argument::Text(document)];
            if self.change(REMOVE_UNCHANGED, arguments).await? { Ok(()) } else { Err(StoreError::Changed) }
        }
        .boxed()
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        self.change_one(TOUCH, client_id, Some(at))
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        async move { self.row(client_id.to_owned()).await?.map(|row| row.record()).transpose() }.boxed()
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            // No id is empty. A NUL ends no id, and PostgreSQL takes none.
            let after = after.unwrap_or_default().replace('\0', "");
            let rows = self
                .run(Access::Read, B::fetch, LIST, vec![Argument::Text(after), Argument::Number(Some(limit))])
                .await?;
            rows.iter().map(Row::record).collect()
        }
        .boxed()
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        async move {
            let count =
                self.run(Access::Read, B::count, COUNT, vec![Argument::Text(origin_name(origin).to_owned())]).await?;
            Ok(u64::try_from(count).unwrap_or_default())
        }
        .boxed()
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        most: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let arguments = vec![
            Argument::Text(origin_name(origin).to_owned()),
            Argument::Number(Some(seconds(created_before))),
            Argument::Number(Some(most)),
        ];
        self.run(Access::Write, B::ids, B::REMOVE_UNUSED, arguments).boxed()
    }
}

impl<B: Backend> SqlRegistry<B> {
    /// The stored document of a client that is still what somebody read. Whoever wrote it may have written the same
    /// client another way than this library would.
    async fn unchanged(&self, known: &Client) -> Result<String, StoreError> {
        let row = self.row(known.id().to_owned()).await?.filter(|row| row.revoked_at.is_none());
        let row = row.ok_or(StoreError::Missing)?;
        match row.client()? {
            client if client.status() == ClientStatus::Revoked => Err(StoreError::Missing),
            client if client == *known => Ok(row.metadata),
            _ => Err(StoreError::Changed),
        }
    }

    fn change_one<'a>(
        &'a self,
        sql: &'static str,
        client_id: &'a str,
        at: Option<SystemTime>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if !can_be_known_elsewhere(client_id) {
                return Err(StoreError::Missing);
            }
            let mut arguments = vec![Argument::Text(client_id.to_owned())];
            arguments.extend(at.map(|at| Argument::Number(Some(seconds(at)))));
            if self.change(sql, arguments).await? { Ok(()) } else { Err(StoreError::Missing) }
        }
        .boxed()
    }
}

/// What a statement is given.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub enum Argument {
    Text(String),
    Number(Option<i64>),
}

type Statement<B, T> = for<'c> fn(
    &'c mut <B as Database>::Connection,
    &'static str,
    Vec<Argument>,
) -> BoxFuture<'c, Result<T, sqlx::Error>>;

/// A database that [`SqlRegistry`] knows. Sealed: the methods are no part of the interface.
pub trait Backend: Database<Connection: Migrate> + sealed::Sealed {
    /// How many may write at once.
    #[doc(hidden)]
    const WRITERS: usize;

    /// Answers how many rows it changed.
    #[doc(hidden)]
    fn execute<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> BoxFuture<'c, Result<u64, sqlx::Error>>;

    #[doc(hidden)]
    fn fetch<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> BoxFuture<'c, Result<Vec<Row>, sqlx::Error>>;

    /// Removes what `unused!` selects, and answers the ids.
    #[doc(hidden)]
    const REMOVE_UNUSED: &'static str;

    /// The first column of the rows that a statement answers.
    #[doc(hidden)]
    fn ids<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> BoxFuture<'c, Result<Vec<String>, sqlx::Error>>;

    #[doc(hidden)]
    fn count<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
        arguments: Vec<Argument>,
    ) -> BoxFuture<'c, Result<i64, sqlx::Error>>;

    /// Whether the database says by this code that the next try may succeed.
    #[doc(hidden)]
    fn is_transient(code: &str) -> bool;
}

pub(super) mod sealed {
    #[doc(hidden)]
    pub trait Sealed {}
}

/// The statements of [`Backend`]: the same text for each database, but another type for sqlx.
macro_rules! statements {
    () => {
        fn execute<'c>(
            connection: &'c mut Self::Connection,
            sql: &'static str,
            arguments: Vec<$crate::registry::sql::Argument>,
        ) -> BoxFuture<'c, Result<u64, sqlx::Error>> {
            Box::pin(async move { Ok(bind(sqlx::query(sql), arguments).execute(connection).await?.rows_affected()) })
        }

        fn fetch<'c>(
            connection: &'c mut Self::Connection,
            sql: &'static str,
            arguments: Vec<$crate::registry::sql::Argument>,
        ) -> BoxFuture<'c, Result<Vec<$crate::registry::sql::Row>, sqlx::Error>> {
            Box::pin(async move {
                let rows = bind(sqlx::query(sql), arguments).fetch_all(connection).await?;
                let read = |row: &<Self as sqlx::Database>::Row| {
                    Ok($crate::registry::sql::Row {
                        client_id: row.try_get(0)?,
                        metadata: row.try_get(1)?,
                        origin: row.try_get(2)?,
                        created_at: row.try_get(3)?,
                        updated_at: row.try_get(4)?,
                        last_used_at: row.try_get(5)?,
                        revoked_at: row.try_get(6)?,
                    })
                };
                rows.iter().map(read).collect()
            })
        }

        fn ids<'c>(
            connection: &'c mut Self::Connection,
            sql: &'static str,
            arguments: Vec<$crate::registry::sql::Argument>,
        ) -> BoxFuture<'c, Result<Vec<String>, sqlx::Error>> {
            Box::pin(async move {
                let rows = bind(sqlx::query(sql), arguments).fetch_all(connection).await?;
                rows.iter().map(|row| row.try_get(0)).collect()
            })
        }

        fn count<'c>(
            connection: &'c mut Self::Connection,
            sql: &'static str,
            arguments: Vec<$crate::registry::sql::Argument>,
        ) -> BoxFuture<'c, Result<i64, sqlx::Error>> {
            Box::pin(async move { bind(sqlx::query(sql), arguments).fetch_one(connection).await?.try_get(0) })
        }
    };
}

/// Hands the arguments over.
macro_rules! bind {
    ($database:ty, $arguments:ty) => {
        fn bind(
            query: sqlx::query::Query<'static, $database, $arguments>,
            arguments: Vec<$crate::registry::sql::Argument>,
        ) -> sqlx::query::Query<'static, $database, $arguments> {
            arguments.into_iter().fold(query, |query, argument| match argument {
                $crate::registry::sql::Argument::Text(text) => query.bind(text),
                $crate::registry::sql::Argument::Number(number) => query.bind(number),
            })
        }
    };
}
pub(super) use {bind, statements};

#[derive(Debug)]
#[doc(hidden)]
pub struct Row {
    pub(super) client_id: String,
    pub(super) metadata: String,
    pub(super) origin: String,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    pub(super) last_used_at: Option<i64>,
    pub(super) revoked_at: Option<i64>,
}

impl Row {
    fn client(&self) -> Result<Client, RegistryError> {
        let mut client = read_document(&self.client_id, &self.metadata).map_err(|source| self.unreadable(source))?;
        if self.revoked_at.is_some() {
            client.set_status(ClientStatus::Revoked);
        }
        Ok(client)
    }

    fn record(&self) -> Result<Record, RegistryError> {
        let origin = ORIGINS.iter().find(|(_, name)| *name == self.origin);
        let (origin, _) = origin.ok_or_else(|| self.unreadable(format!("its origin is {:?}", self.origin).into()))?;
        Ok(Record {
            client: Arc::new(self.client()?),
            origin: *origin,
            created_at: time(self.created_at),
            updated_at: time(self.updated_at),
            last_used_at: self.last_used_at.map(time),
        })
    }

    fn unreadable(&self, source: BoxError) -> RegistryError {
        RegistryError::permanent(UnreadableRow { client_id: self.client_id.clone(), source })
    }
}

/// A row that holds no client.
#[derive(Debug)]
struct UnreadableRow {
    client_id: String,
    source: BoxError,
}

impl fmt::Display for UnreadableRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row of client {:?} cannot be read: {}", self.client_id, self.source)
    }
}

impl std::error::Error for UnreadableRow {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

fn read_document(client_id: &str, metadata: &str) -> Result<Client, BoxError> {
    let client = Client::from_metadata(serde_json::from_str::<serde_json::Value>(metadata)?)?;
    if client.id() == client_id { Ok(client) } else { Err("its metadata is that of another client".into()) }
}

/// What `INSERT` and `REPLACE` begin with: `$1` to `$6`.
fn columns(client: &Client) -> Result<Vec<Argument>, RegistryError> {
    let metadata = document(client)?;
    let now = seconds(SystemTime::now());
    Ok(vec![
        Argument::Text(client.id().to_owned()),
        Argument::Text(metadata),
        Argument::Number(Some(now)),
        Argument::Number((client.status() == ClientStatus::Revoked).then_some(now)),
        Argument::Number(client.expires_at().map(seconds)),
        Argument::Number(Some(i64::from(client.status() == ClientStatus::Disabled))),
    ])
}

/// The metadata document of a client that can be read back as the same client.
fn document(client: &Client) -> Result<String, RegistryError> {
    let refuse =
        |source: BoxError| RegistryError::permanent(format!("client {:?} cannot be stored: {source}", client.id()));
    if !can_be_known_elsewhere(client.id()) {
        return Err(refuse(format!("its id is longer than {MAX_ID_BYTES} bytes").into()));
    }
    let text = serde_json::to_string(&client.to_metadata()).map_err(|error| refuse(error.into()))?;
    let same = |back: &Client| {
        back.redirect_uris() == client.redirect_uris()
            && back.allowed_scopes() == client.allowed_scopes()
            && back.default_scopes() == client.default_scopes()
            && back.response_types() == client.response_types()
            && back.grant_types() == client.grant_types()
            && back.kind() == client.kind()
            && back.application_type() == client.application_type()
            && back.status() == client.status()
            && back.is_trusted() == client.is_trusted()
            && back.expires_at() == client.expires_at()
    };
    match read_document(client.id(), &text) {
        Ok(back) if same(&back) => Ok(text),
        Ok(_) => Err(refuse("its metadata would be read back as something else".into())),
        Err(source) => Err(refuse(source)),
    }
}

const ORIGINS: [(ClientOrigin, &str); 3] = [
    (ClientOrigin::Configured, "configured"),
    (ClientOrigin::Registered, "registered"),
    (ClientOrigin::Upstream, "upstream"),
];

fn origin_name(origin: ClientOrigin) -> &'static str {
    match origin {
        ClientOrigin::Configured => "configured",
        ClientOrigin::Registered => "registered",
        ClientOrigin::Upstream => "upstream",
    }
}

fn seconds(time: SystemTime) -> i64 {
    i64::try_from(unix_seconds(time)).unwrap_or(i64::MAX)
}

fn time(seconds: i64) -> SystemTime {
    from_unix_seconds(u64::try_from(seconds).unwrap_or_default()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn too_late() -> RegistryError {
    RegistryError::transient("the database did not answer in time")
}

pub(super) fn registry_error<B: Backend>(error: sqlx::Error) -> RegistryError {
    let transient = match &error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| B::is_transient(&code)),
        _ => false,
    };
    if transient { RegistryError::transient(error) } else { RegistryError::permanent(error) }
}

/// sqlx takes any scheme.
pub(super) fn check_scheme(url: &str, schemes: &[&str]) -> Result<(), RegistryError> {
    let named = schemes.iter().any(|scheme| url.starts_with(scheme));
    if named { Ok(()) } else { Err(RegistryError::permanent(format!("the URL does not begin with {}", schemes[0]))) }
}

/// Its own table of what was applied, so that the database can hold the tables and migrations of others.
pub(super) async fn migrate<B: Backend>(
    connection: &mut B::Connection,
    collation: &str,
    more: &[(i64, &'static str, &'static str)],
) -> Result<(), RegistryError> {
    let clients = include_str!("clients.sql").replace("$COLLATION", collation);
    let migration =
        |version, name, sql| Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false);
    let mut migrations = vec![migration(1, "clients", AssertSqlSafe(clients).into_sql_str())];
    migrations.extend(more.iter().map(|(version, name, sql)| migration(*version, *name, (*sql).into_sql_str())));
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name("oauth_clients_migrations");
    // A node of an older version must start on the tables of a newer one.
    migrator.set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => registry_error::<B>(error),
        error => RegistryError::permanent(error),
    })
}
