//! Sources that can be written.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use super::{BoxStore, Boxed, RegistryError, RegistrySource};
use crate::client::Client;
pub(crate) use crate::client::ClientOrigin;

/// A source whose clients can be added, changed and taken away.
///
/// All implementations keep the same promises, which one contract test suite holds them to. Methods that are added
/// later come with a default body.
///
/// ```
/// use futures::executor::block_on;
/// use tower_oauth_client_validation::{Client, MemoryRegistry, ClientOrigin, RegistryStore, StoreError};
///
/// # block_on(async {
/// let store = MemoryRegistry::new();
/// let store: &dyn RegistryStore<Future = _> = &store;
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
    /// Fails with [`StoreError::AlreadyExists`] when the id is taken, be it by a revoked client.
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>>;

    /// Puts a client in the place of the one with its id, whatever that became meanwhile: for clients that are
    /// configured somewhere else. ClientOrigin, creation and last use stay.
    ///
    /// Fails with [`StoreError::Missing`] when there is none, or it is revoked.
    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>>;

    /// [Replaces](Self::replace) a client that still is what [`record`](Self::record) answered, in one step: for
    /// changes that were decided by looking at it, so that nobody else's change gets lost.
    ///
    /// Fails with [`StoreError::Changed`] when it is something else now, and with [`StoreError::Missing`] when there
    /// is none, or it is revoked. A use is no change.
    ///
    /// ```
    /// use futures::executor::block_on;
    /// use tower_oauth_client_validation::{BoxStore, Client, MemoryRegistry, ClientOrigin, RegistryStore, StoreError};
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

    /// Revokes a client for good. It stays, so that its id never comes back as another client; revoking it
    /// again changes nothing.
    ///
    /// Fails with [`StoreError::Missing`] when there is none.
    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a client without a trace.
    ///
    /// Fails with [`StoreError::Missing`] when there is none.
    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// [Removes](Self::remove) a client that still is what [`record`](Self::record) answered, in one step.
    ///
    /// Fails with [`StoreError::Changed`] when it is something else now, and with [`StoreError::Missing`] when there
    /// is none, or it is revoked.
    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Records that a client was used; the token endpoint calls it. An earlier time than the recorded one
    /// changes nothing.
    ///
    /// Fails with [`StoreError::Missing`] when there is none.
    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>>;

    /// A client with what is known about it.
    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>>;

    /// A page of clients, ordered by the bytes of their ids: at most `limit`, beginning behind the id `after`.
    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>>;

    /// How many clients of this origin there are that are not revoked.
    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>>;

    /// Removes clients of this origin that were added before `created_before`, were never used and are neither
    /// disabled nor revoked: the oldest first, `most` at the most. Answers their ids.
    ///
    /// A SQL store does it in one statement, so ask for a number that it gets done in its time, and again.
    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        most: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>>;

    /// Hides the type, for stores chosen at run time.
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

impl<S: RegistryStore + ?Sized> RegistryStore for Arc<S> {
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        (**self).insert(client, origin)
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        (**self).replace(client)
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        (**self).replace_unchanged(known, client)
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).revoke(client_id)
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).remove(client_id)
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).remove_unchanged(known)
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).touch(client_id, at)
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        (**self).record(client_id)
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        (**self).list(after, limit)
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        (**self).count(origin)
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        most: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        (**self).remove_unused(origin, created_before, most)
    }
}

/// A client with what a store knows about it.
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

/// What another node changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The client of this id was added, changed or taken away.
    Changed(String),
    /// Any client may have changed.
    Reset,
}

/// A store was not changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The id is taken.
    AlreadyExists,
    /// There is no such client.
    Missing,
    /// The client is no longer what was read: read it again, and decide again.
    Changed,
    /// The store failed.
    Registry(RegistryError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists => f.write_str("a client with this id exists"),
            Self::Missing => f.write_str("there is no client with this id"),
            Self::Changed => f.write_str("the client was changed meanwhile"),
            Self::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadyExists | Self::Missing | Self::Changed => None,
            Self::Registry(error) => error.source(),
        }
    }
}

impl From<RegistryError> for StoreError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}
