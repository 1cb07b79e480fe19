//! Sources that can be written.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use super::{BoxStore, Boxed, RegistryError, RegistrySource};
use crate::client::Client;

/// A source whose clients can be added, changed and taken away.
///
/// All implementations keep the same promises, which one contract test suite holds them to. Methods that are added
/// later come with a default body.
///
/// ```
/// use futures::executor::block_on;
/// use tower_oauth_client_validation::{Client, MemoryRegistry, Origin, RegistryStore, StoreError};
///
/// # block_on(async {
/// let store = MemoryRegistry::new();
/// let store: &dyn RegistryStore<Future = _> = &store;
/// store.insert(Client::builder("app").build()?, Origin::Configured).await?;
/// let again = store.insert(Client::builder("app").build()?, Origin::Registered).await;
/// assert!(matches!(again, Err(StoreError::AlreadyExists)));
/// store.revoke("app").await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait RegistryStore: RegistrySource + Send + Sync {
    /// Adds a client.
    ///
    /// Fails with [`StoreError::AlreadyExists`] when the id is taken, be it by a revoked client.
    fn insert(&self, client: Client, origin: Origin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>>;

    /// Puts a client in the place of the one with its id. Origin, creation and last use stay.
    ///
    /// Fails with [`StoreError::Missing`] when there is none, or it is revoked.
    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>>;

    /// Revokes a client for good. It stays, so that its id never comes back as another client; revoking it
    /// again changes nothing.
    ///
    /// Fails with [`StoreError::Missing`] when there is none.
    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a client without a trace.
    ///
    /// Fails with [`StoreError::Missing`] when there is none.
    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Records that a client was used; the token endpoint calls it. An earlier time than the recorded one
    /// changes nothing.
    ///
    /// Fails with [`StoreError::Missing`] when there is none.
    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>>;

    /// A client with what is known about it.
    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>>;

    /// A page of clients, ordered by the bytes of their ids: at most `limit`, beginning behind the id `after`.
    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>>;

    /// How many clients are there that registered themselves and are not revoked.
    fn count_registered(&self) -> BoxFuture<'_, Result<u64, RegistryError>>;

    /// Removes clients that registered themselves before `created_before`, were never used and are not
    /// revoked: the oldest first, `most` at the most. Answers how many.
    fn remove_unused(&self, created_before: SystemTime, most: u64) -> BoxFuture<'_, Result<u64, RegistryError>>;

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
    fn insert(&self, client: Client, origin: Origin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        (**self).insert(client, origin)
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        (**self).replace(client)
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).revoke(client_id)
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).remove(client_id)
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

    fn count_registered(&self) -> BoxFuture<'_, Result<u64, RegistryError>> {
        (**self).count_registered()
    }

    fn remove_unused(&self, created_before: SystemTime, most: u64) -> BoxFuture<'_, Result<u64, RegistryError>> {
        (**self).remove_unused(created_before, most)
    }
}

/// A client with what a store knows about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The client.
    pub client: Arc<Client>,
    /// Where it came from.
    pub origin: Origin,
    /// When it was added, in whole seconds.
    pub created_at: SystemTime,
    /// When it was last replaced or revoked, in whole seconds.
    pub updated_at: SystemTime,
    /// When it was last [touched](RegistryStore::touch), in whole seconds.
    pub last_used_at: Option<SystemTime>,
}

/// Where a client of a store came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// From configuration.
    Configured,
    /// It registered itself.
    Registered,
    /// Registered on behalf of an upstream identity provider.
    Upstream,
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
    /// The store failed.
    Registry(RegistryError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists => f.write_str("a client with this id exists"),
            Self::Missing => f.write_str("there is no client with this id"),
            Self::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadyExists | Self::Missing => None,
            Self::Registry(error) => error.source(),
        }
    }
}

impl From<RegistryError> for StoreError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}
