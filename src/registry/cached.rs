//! A cache in front of a slow source.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::field::display;

use super::store::{Change, Record, RegistryStore, StoreError, forward_reads};
use super::{RegistryError, RegistrySource};
use crate::client::{Causes, Client, ClientOrigin, Untrusted};
use crate::fetch::single_flight::{Interrupted, Lookup, LookupFuture, SingleFlight};

/// Longer unknown ids are not remembered, because anyone can make them up to fill the memory.
const MAX_UNKNOWN_ID_BYTES: usize = 256;

/// moka panics above 1,000 years.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Settings of a [`CachedRegistry`].
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::CacheConfig;
///
/// let config = CacheConfig::new().ttl(Duration::from_secs(300)).max_bytes(256 * 1024 * 1024);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheConfig {
    ttl: Duration,
    negative_ttl: Duration,
    stale_if_error: Duration,
    max_clients: u64,
    max_bytes: u64,
    max_unknown_ids: u64,
    max_concurrent_lookups: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            stale_if_error: Duration::from_secs(300),
            max_clients: 10_000,
            max_bytes: 64 * 1024 * 1024,
            max_unknown_ids: 10_000,
            max_concurrent_lookups: 64,
        }
    }
}

impl CacheConfig {
    /// The defaults that the setters name.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a client is answered without asking the source, from the moment that the source was asked (default:
    /// 60 seconds).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long an id stays unknown without asking the source (default: 5 seconds).
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// How long after its [`ttl`](Self::ttl) a client is still answered while the source fails with transient errors
    /// (default: 300 seconds). Zero: never.
    pub fn stale_if_error(mut self, bound: Duration) -> Self {
        self.stale_if_error = bound;
        self
    }

    /// How many clients are kept (default: 10,000).
    pub fn max_clients(mut self, clients: u64) -> Self {
        self.max_clients = clients;
        self
    }

    /// How much memory the kept clients take, by an estimate of their size (default: 64 MiB).
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many unknown ids are kept (default: 10,000). They never evict clients. Ids of more than 256 bytes are not
    /// kept.
    pub fn max_unknown_ids(mut self, ids: u64) -> Self {
        self.max_unknown_ids = ids;
        self
    }

    /// How many lookups of ids that the cache does not know run in the source at the same time, at least 1 (default:
    /// 64). One more fails with a transient error. Clients that the cache knows are looked up again beyond this limit,
    /// so that a flood of unknown ids cannot keep them from being refreshed.
    pub fn max_concurrent_lookups(mut self, lookups: usize) -> Self {
        self.max_concurrent_lookups = lookups.clamp(1, Semaphore::MAX_PERMITS);
        self
    }
}

/// A cache in front of a source. Cheap to clone; clones share the cache.
///
/// - A client that was found is answered for its [`ttl`](CacheConfig::ttl) without asking the source, an unknown one for
///   [`negative_ttl`](CacheConfig::negative_ttl). Time is monotonic: changes of the wall clock have no effect.
/// - The source is asked once for all requests that look up a client at the same time. Cancelling one of them does not
///   cancel the lookup for the rest.
/// - Errors are never kept. While the source fails with [transient](RegistryError::is_transient) errors, a client that
///   was known is answered for [`stale_if_error`](CacheConfig::stale_if_error) longer; each such request asks the source
///   first.
/// - An [invalidated](Self::invalidate) client is not answered before the source is asked again, not even by a lookup
///   that was in flight.
/// - More than [`max_concurrent_lookups`](CacheConfig::max_concurrent_lookups) end in a transient error, which the layer
///   answers with 503 `temporarily_unavailable`. So requests with random ids cannot overload the source, and clients in
///   the cache do not notice them.
///
/// A lookup in a source that never answers stays in flight for as long as a request waits for it: give the source a
/// timeout.
///
/// ```
/// use tower_oauth_client_validation::{CacheConfig, CachedRegistry, Client, RegistrySource, registry_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slow = registry_fn(|id: String| async move {
///     Ok((id == "photo-app").then(|| Client::builder(id).build().unwrap().into()))
/// });
/// let registry = CachedRegistry::with_config(slow, CacheConfig::new().max_clients(50_000));
/// assert!(registry.find_client("photo-app").await?.is_some());
/// assert!(registry.find_client("photo-app").await?.is_some());
/// assert_eq!(registry.stats().hits, 1);
/// assert_eq!(registry.stats().source_lookups, 1);
/// # Ok(())
/// # }
/// ```
///
/// # As a store
///
/// In front of a [`RegistryStore`] the cache is a store too, which invalidates what it changes. A write runs in its own
/// Tokio task, so that cancelling the caller does not lose the invalidation. Changes by other nodes come in through
/// [`CachedRegistry::follow`].
pub struct CachedRegistry<S> {
    shared: Arc<Shared<S>>,
}

type Answer = Result<Option<Arc<Client>>, RegistryError>;

struct Shared<S> {
    source: S,
    config: CacheConfig,
    found: Cache<Box<str>, Held>,
    missing: Cache<Box<str>, Held>,
    lookups: Arc<SingleFlight<Answer>>,
    permits: Arc<Semaphore>,
    /// Counts invalidations of everything.
    epoch: AtomicU64,
    hits: Counter,
    misses: Counter,
    source_lookups: Counter,
    stale: Counter,
    refused: Counter,
}

/// An answer of the source.
#[derive(Clone)]
struct Held {
    client: Option<Arc<Client>>,
    /// When the source was asked.
    at: Instant,
    epoch: u64,
}

impl<S> CachedRegistry<S> {
    /// Puts a cache in front of `source`, with the defaults of [`CacheConfig`].
    #[must_use]
    pub fn new(source: S) -> Self {
        Self::with_config(source, CacheConfig::new())
    }

    /// Puts a cache in front of `source`.
    #[must_use]
    pub fn with_config(source: S, config: CacheConfig) -> Self {
        // The lifetimes only free memory: whether an answer is fresh is decided at each lookup.
        let lifetime = config.ttl.saturating_add(config.stale_if_error).min(MAX_LIFETIME);
        // Each client weighs at least its share of the bytes, which keeps both bounds with one.
        let min_weight = config.max_bytes / config.max_clients.max(1);
        let found = Cache::<Box<str>, Held>::builder()
            .max_capacity(if config.max_clients == 0 { 0 } else { config.max_bytes })
            .weigher(move |id, held| {
                let bytes = id.len() + held.client.as_ref().map_or(0, |client| client.memory_size());
                u32::try_from(min_weight.max(bytes as u64)).unwrap_or(u32::MAX)
            })
            .time_to_live(lifetime)
            .build();
        let missing = Cache::builder()
            .max_capacity(config.max_unknown_ids)
            .time_to_live(config.negative_ttl.min(MAX_LIFETIME))
            .build();
        let shared = Shared {
            source,
            found,
            missing,
            lookups: SingleFlight::new(),
            permits: Arc::new(Semaphore::new(config.max_concurrent_lookups)),
            config,
            epoch: AtomicU64::new(0),
            hits: counter!("hit"),
            misses: counter!("miss"),
            source_lookups: counter!("source_lookup"),
            stale: counter!("stale"),
            refused: counter!("refused"),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.shared.source
    }

    /// Forgets a client: the next lookup asks the source.
    pub fn invalidate(&self, client_id: &str) {
        self.shared.invalidate(client_id);
    }

    /// Forgets all clients.
    pub fn invalidate_all(&self) {
        self.shared.invalidate_all();
    }

    /// Counts of what happened since the start.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let read = |counter: &Counter| counter.count.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.shared.hits),
            misses: read(&self.shared.misses),
            source_lookups: read(&self.shared.source_lookups),
            stale_answers: read(&self.shared.stale),
            refused_lookups: read(&self.shared.refused),
        }
    }

    /// Invalidates what other nodes change, until `changes` ends or the future is dropped. Spawn it:
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_oauth_client_validation::{CachedRegistry, PostgresRegistry};
    ///
    /// let postgres = PostgresRegistry::connect("postgres://oauth@db.example/oauth").await?;
    /// let registry = CachedRegistry::new(postgres.clone());
    /// tokio::spawn(registry.follow(postgres.changes()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow<C>(&self, changes: C) -> impl Future<Output = ()> + use<S, C>
    where
        C: Stream<Item = Change>,
    {
        let shared = Arc::clone(&self.shared);
        changes.for_each(move |change| {
            match change {
                Change::Changed(client_id) => shared.invalidate(&client_id),
                Change::Reset => shared.invalidate_all(),
            }
            ready(())
        })
    }
}

impl<S> RegistrySource for CachedRegistry<S>
where
    S: RegistrySource + Send + Sync + 'static,
    S::Future: Send,
{
    type Future = LookupFuture<Answer>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let shared = &self.shared;
        match shared.fresh(client_id) {
            Some(answer) => {
                shared.hits.increment();
                LookupFuture::ready(answer)
            }
            None => Shared::join(shared, client_id),
        }
    }
}

impl<S> Shared<S> {
    /// The cached answer, fresh or not.
    fn held(&self, cache: &Cache<Box<str>, Held>, client_id: &str) -> Option<Held> {
        cache.get(client_id).filter(|held| held.epoch == self.epoch.load(Ordering::Acquire))
    }

    fn fresh(&self, client_id: &str) -> Option<Answer> {
        let now = Instant::now();
        let within = |ttl| move |held: &Held| now.saturating_duration_since(held.at) < ttl;
        let found = self.held(&self.found, client_id).filter(within(self.config.ttl));
        let held = found.or_else(|| self.held(&self.missing, client_id).filter(within(self.config.negative_ttl)));
        held.map(|held| Ok(held.client))
    }

    /// Answers with a client beyond its TTL, where that is allowed.
    fn stale_or(&self, client_id: &str, error: RegistryError) -> Answer {
        let bound = self.config.ttl.saturating_add(self.config.stale_if_error);
        let is_usable = |held: &Held| error.is_transient() && held.at.elapsed() < bound;
        match self.held(&self.found, client_id).filter(is_usable) {
            Some(held) => {
                self.stale.increment();
                let (client_id, cause) = (display(Untrusted(client_id)), display(Causes(&error)));
                tracing::warn!(client_id, cause, "the source failed, a stale client is used");
                Ok(held.client)
            }
            None => Err(error),
        }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, RegistryError> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            self.refused.increment();
            // No stale client instead: our own limit is not an outage of the source.
            RegistryError::transient("too many lookups of clients are in flight")
        })
    }

    fn keep(&self, client_id: &str, asked_at: Instant, client: Option<Arc<Client>>) {
        let held = Held { client, at: asked_at, epoch: self.epoch.load(Ordering::Acquire) };
        let (new, old) =
            if held.client.is_some() { (&self.found, &self.missing) } else { (&self.missing, &self.found) };
        old.invalidate(client_id);
        if held.client.is_some() || client_id.len() <= MAX_UNKNOWN_ID_BYTES {
            new.insert(client_id.into(), held);
        }
    }

    fn invalidate(&self, client_id: &str) {
        self.lookups.invalidate(client_id, || {
            self.found.invalidate(client_id);
            self.missing.invalidate(client_id);
        });
    }

    fn invalidate_all(&self) {
        self.lookups.invalidate_all(|| {
            // The outdated entries stay as a record of which ids are known.
            self.epoch.fetch_add(1, Ordering::AcqRel);
            self.missing.invalidate_all();
        });
    }
}

impl<S> Shared<S>
where
    S: RegistrySource + Send + Sync + 'static,
    S::Future: Send,
{
    fn join(shared: &Arc<Self>, client_id: &str) -> LookupFuture<Answer> {
        let cached = || {
            let answer = shared.fresh(client_id);
            let counter = if answer.is_some() { &shared.hits } else { &shared.misses };
            counter.increment();
            answer
        };
        let begin = || {
            let is_known = shared.found.contains_key(client_id);
            let permit = if is_known { None } else { Some(shared.permit().map_err(Err)?) };
            Ok(SourceLookup { shared: Arc::clone(shared), _permit: permit })
        };
        shared.lookups.join(client_id, cached, begin)
    }
}

/// A lookup in the source.
struct SourceLookup<S> {
    shared: Arc<Shared<S>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Lookup for SourceLookup<S>
where
    S: RegistrySource + Send + Sync + 'static,
    S::Future: Send,
{
    type Read = (Instant, Answer);
    type Answer = Answer;

    async fn read(&self, client_id: &str) -> Self::Read {
        self.shared.source_lookups.increment();
        (Instant::now(), self.shared.source.find_client(client_id).await)
    }

    fn keep(&self, client_id: &str, (asked_at, answer): Self::Read) -> Answer {
        match answer {
            Ok(client) => {
                self.shared.keep(client_id, asked_at, client.clone());
                Ok(client)
            }
            Err(error) => self.shared.stale_or(client_id, error),
        }
    }

    fn interrupted(&self, why: Interrupted) -> Answer {
        Err(why.into())
    }
}

/// What happened in a [`CachedRegistry`] since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Lookups that the cache answered.
    pub hits: u64,
    /// Lookups that waited for the source or were refused.
    pub misses: u64,
    /// Lookups in the source.
    pub source_lookups: u64,
    /// Lookups that were answered with a client beyond its [`ttl`](CacheConfig::ttl) because the source failed.
    pub stale_answers: u64,
    /// Lookups that were refused because [too many](CacheConfig::max_concurrent_lookups) were in flight.
    pub refused_lookups: u64,
}

/// Counts for [`CachedRegistry::stats`] and for the metrics recorder.
struct Counter {
    count: AtomicU64,
    #[cfg(feature = "metrics")]
    record: fn(),
}

/// The label is a literal, so that recording allocates nothing.
macro_rules! counter {
    ($event:literal) => {
        Counter {
            count: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            record: || metrics::counter!("oauth_client_cache_events_total", "event" => $event).increment(1),
        }
    };
}
use counter;

impl Counter {
    fn increment(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        (self.record)();
    }
}

impl<S> Clone for CachedRegistry<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for CachedRegistry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedRegistry")
            .field("config", &self.shared.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<S> Shared<S>
where
    S: RegistryStore + 'static,
    S::Future: Send,
{
    /// Runs a write in its own task, so that the invalidation follows even if the caller is cancelled. A failed write
    /// invalidates too: it may have failed after the change was made.
    fn write<T, W>(
        shared: &Arc<Self>,
        client_id: &str,
        write: impl FnOnce(Arc<Self>) -> W,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (write, shared, client_id) = (write(Arc::clone(shared)), Arc::clone(shared), client_id.to_owned());
        in_own_task(async move {
            let written = write.await;
            shared.invalidate(&client_id);
            written
        })
    }

    /// Does the same for a removal of clients that the source chooses.
    fn remove_many<W>(
        shared: &Arc<Self>,
        remove: impl FnOnce(Arc<Self>) -> W,
    ) -> BoxFuture<'static, Result<Vec<String>, RegistryError>>
    where
        W: Future<Output = Result<Vec<String>, RegistryError>> + Send + 'static,
    {
        let (remove, shared) = (remove(Arc::clone(shared)), Arc::clone(shared));
        in_own_task(async move {
            let removed = remove.await;
            match &removed {
                Ok(ids) => ids.iter().for_each(|id| shared.invalidate(id)),
                // It may have removed any clients before it failed.
                Err(_) => shared.invalidate_all(),
            }
            removed
        })
    }
}

fn in_own_task<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> BoxFuture<'static, Result<T, E>>
where
    T: Send + 'static,
    E: From<RegistryError> + Send + 'static,
{
    let task = tokio::spawn(work);
    async move { task.await.unwrap_or_else(|stopped| Err(RegistryError::permanent(stopped).into())) }.boxed()
}

impl<S> RegistryStore for CachedRegistry<S>
where
    S: RegistryStore<Future: Send> + 'static,
{
    forward_reads!(self => self.shared.source);

    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        let id = client.id().to_owned();
        Shared::write(&self.shared, &id, |shared| async move { shared.source.insert(client, origin).await })
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        let id = client.id().to_owned();
        Shared::write(&self.shared, &id, |shared| async move { shared.source.replace(client).await })
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        let old = known.clone();
        Shared::write(
            &self.shared,
            known.id(),
            |shared| async move { shared.source.replace_unchanged(&old, client).await },
        )
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let id = client_id.to_owned();
        Shared::write(&self.shared, client_id, |shared| async move { shared.source.revoke(&id).await })
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let id = client_id.to_owned();
        Shared::write(&self.shared, client_id, |shared| async move { shared.source.remove(&id).await })
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        let client = known.clone();
        Shared::write(&self.shared, known.id(), |shared| async move { shared.source.remove_unchanged(&client).await })
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        Shared::remove_many(&self.shared, move |shared| async move {
            shared.source.remove_unused(origin, created_before, max).await
        })
    }

    fn remove_unused_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        let source = source.to_owned();
        Shared::remove_many(&self.shared, move |shared| async move {
            shared.source.remove_unused_by_source(origin, &source, created_before, max).await
        })
    }

    fn remove_idle<'a>(
        &'a self,
        origin: ClientOrigin,
        source: Option<&'a str>,
        used_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        let source = source.map(str::to_owned);
        Shared::remove_many(&self.shared, move |shared| async move {
            shared.source.remove_idle(origin, source.as_deref(), used_before, max).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = CacheConfig::new();
        assert_eq!(config.ttl, Duration::from_secs(60));
        assert_eq!(config.negative_ttl, Duration::from_secs(5));
        assert_eq!(config.stale_if_error, Duration::from_secs(300));
        assert_eq!((config.max_clients, config.max_unknown_ids), (10_000, 10_000));
        assert_eq!(config.max_bytes, 64 * 1024 * 1024);
        assert_eq!(config.max_concurrent_lookups, 64);
    }
}
