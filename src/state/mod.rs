//! Short-lived facts that nodes share.

mod bounds;
mod error;
mod memory;
mod prefixed;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

pub use self::bounds::StateBounds;
pub use self::error::{StateError, StateErrorKind};
pub use self::memory::MemoryStateStore;
pub use self::prefixed::PrefixedStateStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStateStore;
#[cfg(feature = "postgres")]
pub use self::sql::PostgresStateStore;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::sql::SqlStateStore;
#[cfg(feature = "sqlite")]
pub use self::sql::SqliteStateStore;

/// Keeps short-lived facts, so that each holds once on all nodes: that an assertion was used, what a client pushed.
///
/// | store | nodes | survives a restart |
/// |---|---|---|
/// | [`MemoryStateStore`] | one | no |
/// | `SqliteStateStore` (feature `sqlite`) | of one machine | yes |
/// | `PostgresStateStore` (feature `postgres`) | many | yes |
/// | `RedisStateStore` (feature `redis`) | many | when Redis writes an append-only file |
///
/// A key is at most 512 bytes long and a value 128 KiB, of any content. Hash what strangers choose before it becomes
/// part of a key. A lifetime of more than a year counts as a year.
///
/// A failure is always an error, never `true` or `None`: a caller that cannot tell whether a fact holds must refuse
/// the request. A call that failed may have taken effect.
///
/// ```
/// use std::time::Duration;
/// use futures::executor::block_on;
/// use tower_oauth_client_validation::{MemoryStateStore, StateStore};
///
/// # block_on(async {
/// let store = MemoryStateStore::new();
/// let minute = Duration::from_secs(60);
/// assert!(store.put_new("assertion/4711", b"", minute).await?);
/// assert!(!store.put_new("assertion/4711", b"", minute).await?);
///
/// store.put_new("pushed/0815", b"client_id=app", minute).await?;
/// assert_eq!(store.take("pushed/0815").await?.as_deref(), Some(&b"client_id=app"[..]));
/// assert_eq!(store.take("pushed/0815").await?, None);
/// # Ok::<(), tower_oauth_client_validation::StateError>(())
/// # }).unwrap();
/// ```
pub trait StateStore: Send + Sync {
    /// Stores a value under a key that holds no live value, within bounds. `true` when it was stored, `false` if the
    /// key has a live value. Of racing callers, one gets `true`.
    ///
    /// # Errors
    ///
    /// [`StateErrorKind::Full`] when a bound is reached, [`StateErrorKind::TooLarge`] when the key or value is too
    /// long, or the store fails.
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>>;

    /// [`put_new_bounded`](Self::put_new_bounded) without bounds, other than those of the store.
    ///
    /// # Errors
    ///
    /// As for [`put_new_bounded`](Self::put_new_bounded).
    fn put_new(&self, key: &str, value: &[u8], lifetime: Duration) -> BoxFuture<'_, Result<bool, StateError>> {
        self.put_new_bounded(key, value, lifetime, StateBounds::NONE)
    }

    /// The live value of a key.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>>;

    /// Removes the live value of a key and returns it. Of racing callers, one gets it.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>>;

    /// This store with a prefix before its keys and before the kinds of [`StateBounds`], so that tenants share a store
    /// but no facts and no bounds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::executor::block_on;
    /// use tower_oauth_client_validation::{MemoryStateStore, StateStore};
    ///
    /// # block_on(async {
    /// let store = MemoryStateStore::new();
    /// let (one, other) = (store.clone().prefixed("tenant-1"), store.prefixed("tenant-2"));
    /// assert!(one.put_new("key", b"", Duration::from_secs(60)).await?);
    /// assert_eq!(other.get("key").await?, None);
    /// # Ok::<(), tower_oauth_client_validation::StateError>(())
    /// # }).unwrap();
    /// ```
    fn prefixed(self, prefix: impl Into<String>) -> PrefixedStateStore<Self>
    where
        Self: Sized,
    {
        PrefixedStateStore::new(self, prefix.into())
    }
}

impl<S: StateStore + ?Sized> StateStore for Arc<S> {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        (**self).put_new_bounded(key, value, lifetime, bounds)
    }

    fn put_new(&self, key: &str, value: &[u8], lifetime: Duration) -> BoxFuture<'_, Result<bool, StateError>> {
        (**self).put_new(key, value, lifetime)
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        (**self).get(key)
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        (**self).take(key)
    }
}
