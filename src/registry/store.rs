//! Sources whose clients can be changed.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use super::{BoxStore, Boxed, RegistryError, RegistrySource};
use crate::client::member::SOURCE_MEMBER;
use crate::client::{Client, ClientOrigin, ClientStatus};

/// A source whose clients can be added, changed and removed. Registration endpoints and operators' tools write to it.
///
/// This crate has [`MemoryRegistry`](crate::MemoryRegistry), [`SqliteRegistry`](crate::SqliteRegistry),
/// [`PostgresRegistry`](crate::PostgresRegistry), and [`CachedRegistry`](crate::CachedRegistry) in front of any of them.
/// All of them pass the same test suite for what the methods promise here.
///
/// ```
/// use futures::executor::block_on;
/// use tower_oauth_client_validation::{Client, ClientOrigin, MemoryRegistry, RegistryStore, StoreError};
///
/// # block_on(async {
/// let store = MemoryRegistry::new().boxed_store();
/// store.insert(Client::builder("app").build()?, ClientOrigin::Configured).await?;
/// let again = store.insert(Client::builder("app").build()?, ClientOrigin::Registered).await;
/// assert!(matches!(again, Err(StoreError::AlreadyExists)));
/// store.revoke("app").await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait RegistryStore: RegistrySource + Send + Sync {
    /// Adds a client.
    ///
    /// Fails with [`StoreError::AlreadyExists`] when the id is taken, also by a revoked client, and with
    /// [`StoreError::Full`] when the store may hold no more.
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>>;

    /// Replaces the client with this id unconditionally: for clients that are configured elsewhere. Its origin, creation
    /// and last use are kept.
    ///
    /// Fails with [`StoreError::Missing`] when no client has this id or the client is revoked, and with
    /// [`StoreError::Full`] when the store may hold no more.
    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>>;

    /// [Replaces](Self::replace) a client in one step if it is still what [`record`](Self::record) returned: for changes
    /// that depend on the old client, so that no concurrent change is lost. [Recording a use](Self::touch) does not
    /// count as a change.
    ///
    /// Fails with [`StoreError::Changed`] when it was changed, and otherwise like [`replace`](Self::replace).
    ///
    /// ```
    /// use futures::executor::block_on;
    /// use tower_oauth_client_validation::{BoxStore, Client, ClientOrigin, MemoryRegistry, RegistryStore, StoreError};
    ///
    /// async fn disable(store: &BoxStore, id: &str) -> Result<(), StoreError> {
    ///     loop {
    ///         let known = store.record(id).await?.ok_or(StoreError::Missing)?.client;
    ///         let disabled = known.to_builder().disabled(true).build().expect("it was built before");
    ///         match store.replace_unchanged(&known, disabled).await {
    ///             Err(StoreError::Changed) => {}
    ///             replaced => return replaced.map(drop),
    ///         }
    ///     }
    /// }
    ///
    /// # block_on(async {
    /// let store = MemoryRegistry::new().boxed_store();
    /// let first = store.insert(Client::builder("app").build()?, ClientOrigin::Registered).await?;
    /// disable(&store, "app").await?;
    /// let late = first.to_builder().name("App").build()?;
    /// assert!(matches!(store.replace_unchanged(&first, late).await, Err(StoreError::Changed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>>;

    /// Revokes a client permanently. It stays in the store, so that no other client can get its id. Revoking it again
    /// changes nothing.
    ///
    /// Fails with [`StoreError::Missing`] when no client has this id.
    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a client and everything known about it.
    ///
    /// Fails with [`StoreError::Missing`] when no client has this id.
    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// [Removes](Self::remove) a client in one step if it is still what [`record`](Self::record) returned.
    ///
    /// Fails with [`StoreError::Changed`] when it was changed, and with [`StoreError::Missing`] when no client has this
    /// id or the client is revoked.
    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Records that a client was used. The token endpoint calls it. A time before the recorded one changes nothing.
    ///
    /// Fails with [`StoreError::Missing`] when no client has this id.
    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Finds a client and what is known about it.
    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>>;

    /// Lists at most `limit` clients, ordered by the bytes of their ids, beginning after the id `after`.
    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>>;

    /// Counts the clients of an origin that are not revoked.
    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>>;

    /// Removes clients of an origin that were added before `created_before`, were never used and are neither disabled
    /// nor revoked: the oldest first, at most `max`. Returns their ids.
    ///
    /// An SQL store does it in one statement. Ask for no more than it can remove within its time limit, and repeat.
    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>>;

    /// Counts the clients of this origin that are not revoked and come from this source, which means that the metadata
    /// member `registration_source` is `source`.
    ///
    /// The default reads all clients.
    fn count_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
    ) -> BoxFuture<'a, Result<u64, RegistryError>> {
        Box::pin(async move {
            let counts = |record: &Record| {
                record.client.status() != ClientStatus::Revoked && record.is_from(origin, Some(source))
            };
            Ok(select(self, counts).await?.len() as u64)
        })
    }

    /// [Removes unused clients](Self::remove_unused) that come from this [source](Self::count_by_source).
    ///
    /// The default reads all clients, and may remove one that is used for the first time just then.
    fn remove_unused_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        Box::pin(async move {
            let is_unused = |record: &Record| {
                record.is_from(origin, Some(source))
                    && record.last_used_at.is_none()
                    && record.created_at < created_before
            };
            let mut unused = select(self, is_unused).await?;
            unused.sort_by_key(|record| record.created_at);
            remove_first(self, unused, max).await
        })
    }

    /// Removes clients of this origin that were last used before `used_before` and are neither disabled nor revoked:
    /// those that were not used for longest first, at most `max`. Clients that were never used stay. With a `source`,
    /// only those that come from it. Returns their ids.
    ///
    /// The default reads all clients, and may remove one that is used just then.
    fn remove_idle<'a>(
        &'a self,
        origin: ClientOrigin,
        source: Option<&'a str>,
        used_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        Box::pin(async move {
            let is_idle = |record: &Record| {
                record.is_from(origin, source) && record.last_used_at.is_some_and(|used_at| used_at < used_before)
            };
            let mut idle = select(self, is_idle).await?;
            idle.sort_by_key(|record| record.last_used_at);
            remove_first(self, idle, max).await
        })
    }

    /// Hides the type, for stores that are chosen at run time.
    ///
    /// ```
    /// use tower_oauth_client_validation::{BoxStore, ClientValidationLayer, MemoryRegistry, RegistryStore};
    ///
    /// let store: BoxStore = MemoryRegistry::new().boxed_store();
    /// let layer = ClientValidationLayer::new(store.clone());
    /// # let _ = layer;
    /// ```
    fn boxed_store(self) -> BoxStore
    where
        Self: Sized + 'static,
        Self::Future: Send + 'static,
    {
        Arc::new(Boxed::new(self))
    }
}

/// The methods of a store that passes every call on to another one.
macro_rules! forward_store {
    ($this:ident => $store:expr) => {
        crate::registry::store::forward_reads!($this => $store);

        fn insert(&$this, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
            $store.insert(client, origin)
        }

        fn replace(&$this, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
            $store.replace(client)
        }

        fn replace_unchanged<'a>(
            &'a $this,
            known: &'a Client,
            client: Client,
        ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
            $store.replace_unchanged(known, client)
        }

        fn revoke<'a>(&'a $this, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
            $store.revoke(client_id)
        }

        fn remove<'a>(&'a $this, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
            $store.remove(client_id)
        }

        fn remove_unchanged<'a>(&'a $this, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
            $store.remove_unchanged(known)
        }

        fn remove_unused(
            &$this,
            origin: ClientOrigin,
            created_before: SystemTime,
            max: u64,
        ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
            $store.remove_unused(origin, created_before, max)
        }

        fn remove_unused_by_source<'a>(
            &'a $this,
            origin: ClientOrigin,
            source: &'a str,
            created_before: SystemTime,
            max: u64,
        ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
            $store.remove_unused_by_source(origin, source, created_before, max)
        }

        fn remove_idle<'a>(
            &'a $this,
            origin: ClientOrigin,
            source: Option<&'a str>,
            used_before: SystemTime,
            max: u64,
        ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
            $store.remove_idle(origin, source, used_before, max)
        }
    };
}
pub(super) use forward_store;

/// Those of its methods that change no answer of [`RegistrySource::find_client`].
macro_rules! forward_reads {
    ($this:ident => $store:expr) => {
        fn touch<'a>(&'a $this, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
            $store.touch(client_id, at)
        }

        fn record<'a>(&'a $this, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
            $store.record(client_id)
        }

        fn list<'a>(
            &'a $this,
            after: Option<&'a str>,
            limit: usize,
        ) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
            $store.list(after, limit)
        }

        fn count(&$this, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
            $store.count(origin)
        }

        fn count_by_source<'a>(
            &'a $this,
            origin: ClientOrigin,
            source: &'a str,
        ) -> BoxFuture<'a, Result<u64, RegistryError>> {
            $store.count_by_source(origin, source)
        }
    };
}
pub(super) use forward_reads;

impl<S: RegistryStore + ?Sized> RegistryStore for Arc<S> {
    forward_store!(self => (**self));
}

/// A client and what a store knows about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The client.
    pub client: Arc<Client>,
    /// Where it came from.
    pub origin: ClientOrigin,
    /// When it was added, in whole seconds.
    pub created_at: SystemTime,
    /// When it was last replaced or revoked, in whole seconds.
    pub updated_at: SystemTime,
    /// When it was last [touched](RegistryStore::touch), in whole seconds.
    pub last_used_at: Option<SystemTime>,
}

impl Record {
    /// Whether the client has this origin, and this registration source if one is given.
    pub(super) fn is_from(&self, origin: ClientOrigin, source: Option<&str>) -> bool {
        self.origin == origin && source.is_none_or(|source| registration_source(&self.client) == Some(source))
    }
}

pub(super) fn registration_source(client: &Client) -> Option<&str> {
    client.metadata()?.get(SOURCE_MEMBER)?.as_str()
}

async fn select<S: RegistryStore + ?Sized>(
    store: &S,
    matches: impl Fn(&Record) -> bool,
) -> Result<Vec<Record>, RegistryError> {
    const PAGE: usize = 1_000;
    let mut selected = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(after.as_deref(), PAGE).await?;
        after = page.last().filter(|_| page.len() == PAGE).map(|record| record.client.id().to_owned());
        selected.extend(page.into_iter().filter(&matches));
        if after.is_none() {
            return Ok(selected);
        }
    }
}

/// Leaves out clients that are not active, or changed since they were read.
async fn remove_first<S: RegistryStore + ?Sized>(
    store: &S,
    records: Vec<Record>,
    max: u64,
) -> Result<Vec<String>, RegistryError> {
    let mut removed = Vec::new();
    for record in records.iter().filter(|record| record.client.status() == ClientStatus::Active) {
        if removed.len() as u64 >= max {
            break;
        }
        match store.remove_unchanged(&record.client).await {
            Ok(()) => removed.push(record.client.id().to_owned()),
            Err(StoreError::Registry(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(removed)
}

/// A change that another node made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The client with this id was added, changed or removed.
    Changed(String),
    /// Any client may have changed.
    Reset,
}

/// A store refused a change, or failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The id is taken.
    AlreadyExists,
    /// No client has this id, or it is revoked.
    Missing,
    /// The client was changed concurrently: read it again, and decide again.
    Changed,
    /// The store has reached its limit, such as [`MemoryRegistry::max_bytes`](crate::MemoryRegistry::max_bytes).
    Full,
    /// The store failed.
    Registry(RegistryError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists => f.write_str("a client with this id exists"),
            Self::Missing => f.write_str("no client has this id"),
            Self::Changed => f.write_str("the client was changed meanwhile"),
            Self::Full => f.write_str("the store is full"),
            Self::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadyExists | Self::Missing | Self::Changed | Self::Full => None,
            Self::Registry(error) => error.source(),
        }
    }
}

impl From<RegistryError> for StoreError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}
