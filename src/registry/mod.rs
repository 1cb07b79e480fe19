//! Sources of clients, and their combinators.

mod asynchronous;
mod boxed;
#[cfg(feature = "cache")]
mod cached;
mod chain;
#[cfg(any(
    feature = "client-authentication",
    feature = "http-registry",
    feature = "metadata-document",
    feature = "registration"
))]
mod config_error;
mod env;
#[cfg(feature = "file")]
mod file;
mod function;
#[cfg(feature = "http-registry")]
mod http;
mod memory;
#[cfg(feature = "metadata-document")]
mod metadata_document;
mod service;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
mod store;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tower::BoxError;

pub use self::asynchronous::{AsyncRegistry, AsyncSource};
use self::boxed::Boxed;
pub use self::boxed::{BoxRegistry, BoxStore};
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use self::cached::{CacheConfig, CacheStats, CachedRegistry};
pub use self::chain::{Or, OrFuture};
#[cfg(any(
    feature = "client-authentication",
    feature = "http-registry",
    feature = "metadata-document",
    feature = "registration"
))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(
        feature = "client-authentication",
        feature = "http-registry",
        feature = "metadata-document",
        feature = "registration"
    )))
)]
pub use self::config_error::ConfigError;
pub use self::env::{CheckError, Environment, EnvironmentRegistry, EnvironmentWarning, RegisterError, WellKnownClient};
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub use self::file::{FileError, FileRegistry, FileWatch, FileWatchConfig};
pub use self::function::{RegistryFn, registry_fn};
#[cfg(feature = "http-registry")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-registry")))]
pub use self::http::{HttpRegistry, HttpRegistryBuilder};
pub use self::memory::MemoryRegistry;
#[cfg(feature = "metadata-document")]
#[cfg_attr(docsrs, doc(cfg(feature = "metadata-document")))]
pub use self::metadata_document::{MetadataDocumentBuilder, MetadataDocumentRegistry};
pub use self::service::{RegistryService, ServiceFuture, ServiceRegistry};
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::sql::PostgresRegistry;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use self::sql::SqlRegistry;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sql::SqliteRegistry;
pub use self::store::{Change, Record, RegistryStore, StoreError};
use crate::client::Client;
#[cfg(any(feature = "http-registry", feature = "postgres", feature = "sqlite"))]
use crate::client::is_client_id;
#[cfg(any(feature = "cache", feature = "metadata-document"))]
use crate::fetch::single_flight::Interrupted;

/// The longest client id that is stored in or asked of another system: what an index of PostgreSQL can hold, and what
/// servers accept in a URL.
#[cfg(any(feature = "http-registry", feature = "metadata-document", feature = "postgres", feature = "sqlite"))]
const MAX_ID_BYTES: usize = 2048;

/// Whether another system can know a client with this id at all.
#[cfg(any(feature = "http-registry", feature = "postgres", feature = "sqlite"))]
fn can_be_known_elsewhere(client_id: &str) -> bool {
    !client_id.is_empty() && client_id.len() <= MAX_ID_BYTES && is_client_id(client_id)
}

/// Finds clients by their id.
///
/// Use one of the sources of this crate, such as [`MemoryRegistry`]. For your own storage, write an `async fn` with
/// [`AsyncRegistry`], wrap a closure by [`registry_fn`], or implement this trait. Sources combine by [`or`](RegistrySource::or). As a
/// [`tower::Service`](RegistrySource::into_service), a source takes every `tower` middleware: timeout, retry,
/// concurrency limit, load shed, buffer.
///
/// # Implementing it
///
/// Return `Ok(None)` for a client that does not exist: the request is refused. Return an error where you cannot know:
/// the request is refused too, but the client does not count as unknown. Return disabled, revoked and expired clients as
/// they are; the layer refuses them.
///
/// The id is what the user agent sent: printable ASCII of any length, with any punctuation.
///
/// `find_client` starts the lookup, and its future must not borrow from `self` or `client_id`. A source that knows its
/// clients at once returns [`std::future::Ready`] and allocates nothing:
///
/// ```
/// use std::collections::HashMap;
/// use std::future::{Ready, ready};
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{Client, RegistryError, RegistrySource};
///
/// struct Clients(HashMap<String, Arc<Client>>);
///
/// impl RegistrySource for Clients {
///     type Future = Ready<Result<Option<Arc<Client>>, RegistryError>>;
///
///     fn find_client(&self, client_id: &str) -> Self::Future {
///         ready(Ok(self.0.get(client_id).cloned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `RegistrySource`",
    note = "wrap a closure in `registry_fn(|client_id: String| async move {{ … }})` or a `tower::Service` in `ServiceRegistry::new(…)`",
    note = "or implement `AsyncRegistry` with an `async fn find_client(&self, client_id: &str)` and pass `.into_source()`"
)]
pub trait RegistrySource {
    /// The lookup.
    type Future: Future<Output = Result<Option<Arc<Client>>, RegistryError>>;

    /// Looks up the client with this id.
    fn find_client(&self, client_id: &str) -> Self::Future;

    /// Asks `other` for clients that this source does not know.
    ///
    /// The first source that knows the client answers. If this source fails, the lookup fails, so that `other` can never
    /// answer for a client of this one.
    ///
    /// ```
    /// use futures::executor::block_on;
    /// use tower_oauth_client_validation::{Client, MemoryRegistry, RegistrySource};
    ///
    /// let ours = MemoryRegistry::from_clients([Client::builder("a").name("ours").build()?]);
    /// let theirs = MemoryRegistry::from_clients([
    ///     Client::builder("a").name("theirs").build()?,
    ///     Client::builder("b").build()?,
    /// ]);
    /// let both = ours.or(theirs);
    /// assert_eq!(block_on(both.find_client("a"))?.unwrap().name(), Some("ours"));
    /// assert!(block_on(both.find_client("b"))?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn or<O>(self, other: O) -> Or<Self, O>
    where
        Self: Sized,
        O: RegistrySource,
    {
        Or::new(self, other)
    }

    /// Hides the type, for sources that are chosen at run time.
    ///
    /// ```
    /// use tower_oauth_client_validation::{BoxRegistry, MemoryRegistry, RegistrySource, registry_fn};
    ///
    /// let development = true;
    /// let registry: BoxRegistry = if development {
    ///     MemoryRegistry::new().boxed()
    /// } else {
    ///     registry_fn(|_id: String| async { Ok(None) }).boxed()
    /// };
    /// ```
    fn boxed(self) -> BoxRegistry
    where
        Self: Sized + Send + Sync + 'static,
        Self::Future: Send + 'static,
    {
        Arc::new(Boxed::new(self))
    }

    /// Turns the source into a `tower::Service<String>`, to put middleware around lookups. [`ServiceRegistry`] does the
    /// reverse.
    fn into_service(self) -> RegistryService<Self>
    where
        Self: Sized,
    {
        RegistryService::new(self)
    }
}

impl<S: RegistrySource + ?Sized> RegistrySource for Arc<S> {
    type Future = S::Future;

    fn find_client(&self, client_id: &str) -> Self::Future {
        (**self).find_client(client_id)
    }
}

/// A lookup failed, so it is not known whether the client exists.
///
/// Keeps its cause as [`source`](std::error::Error::source). Cheap to clone, because one failed lookup may answer
/// many requests.
///
/// | constructor | answer of the layer | event |
/// |---|---|---|
/// | [`transient`](Self::transient) | 503 `temporarily_unavailable` | `error` |
/// | [`client_hosted`](Self::client_hosted) | 503 `temporarily_unavailable` | `info` |
/// | [`permanent`](Self::permanent) | 500 `server_error` | `error` |
#[derive(Clone, Debug)]
pub struct RegistryError {
    kind: FailureKind,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureKind {
    Transient,
    ClientHosted,
    Permanent,
}

impl RegistryError {
    /// The next attempt may succeed: a timeout, a lost connection.
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Transient, source)
    }

    /// A host that the client chose failed, such as the one that serves its metadata document. The next attempt may
    /// succeed. Any stranger can cause this error, so it is logged as `info`.
    pub fn client_hosted(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::ClientHosted, source)
    }

    /// Every attempt fails until someone fixes the cause: wrong credentials, a row that cannot be read.
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Permanent, source)
    }

    fn new(kind: FailureKind, source: impl Into<BoxError>) -> Self {
        Self { kind, source: source.into().into() }
    }

    /// Whether the next attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind != FailureKind::Permanent
    }

    /// Whether a host that the client chose failed, rather than a part of this server.
    #[must_use]
    pub fn is_client_hosted(&self) -> bool {
        self.kind == FailureKind::ClientHosted
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            FailureKind::Transient => "the client registry is temporarily unavailable",
            FailureKind::ClientHosted => "a host of the client's choice is temporarily unavailable",
            FailureKind::Permanent => "the client registry failed",
        })
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

#[cfg(any(feature = "cache", feature = "metadata-document"))]
impl From<Interrupted> for RegistryError {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::Panicked => Self::permanent(why.as_str()),
            Interrupted::ChangedTooOften => Self::transient(why.as_str()),
        }
    }
}
