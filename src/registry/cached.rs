//! A cache in front of a slow source.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, Shared as SharedFuture, WeakShared};
use futures::{FutureExt, Stream, StreamExt};
use moka::sync::Cache;
use tokio::time::Instant;

use super::store::{Change, ClientOrigin, Record, RegistryStore, StoreError};
use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// Longer ids that are unknown are not remembered: anybody can make them up, at the cost of our memory.
const LONGEST_NEGATIVE_ID: usize = 256;

/// How often a lookup is begun again because its client was invalidated meanwhile.
const ROUNDS: usize = 8;

/// moka panics above 1,000 years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Bounds of a [`CachedRegistry`].
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::CacheOptions;
///
/// let options = CacheOptions::default();
/// assert_eq!(options.ttl, Duration::from_secs(60));
/// assert_eq!(options.negative_ttl, Duration::from_secs(5));
/// assert_eq!(options.stale_if_error, Duration::from_secs(300));
/// assert_eq!(options.capacity, 10_000);
/// assert_eq!(options.negative_capacity, 10_000);
/// assert_eq!(options.max_concurrent_lookups, 64);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How long a client is answered without asking (default: 60 s).
    pub ttl: Duration,
    /// How long a client stays unknown without asking (default: 5 s).
    pub negative_ttl: Duration,
    /// How long after `ttl` a client is still answered while the source fails for the time being (default:
    /// 300 s). Zero: never.
    pub stale_if_error: Duration,
    /// Clients at the most (default: 10,000).
    pub capacity: u64,
    /// Unknown ids at the most (default: 10,000). They never push clients out. Ids of more than 256 bytes are
    /// not remembered.
    pub negative_capacity: u64,
    /// Lookups in the source at the same time (default: 64). One more fails with a transient error.
    pub max_concurrent_lookups: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            stale_if_error: Duration::from_secs(300),
            capacity: 10_000,
            negative_capacity: 10_000,
            max_concurrent_lookups: 64,
        }
    }
}

impl CacheOptions {
    /// Sets [`ttl`](Self::ttl).
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets [`negative_ttl`](Self::negative_ttl).
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Sets [`stale_if_error`](Self::stale_if_error).
    #[must_use]
    pub fn stale_if_error(mut self, bound: Duration) -> Self {
        self.stale_if_error = bound;
        self
    }

    /// Sets [`capacity`](Self::capacity).
    #[must_use]
    pub fn capacity(mut self, clients: u64) -> Self {
        self.capacity = clients;
        self
    }

    /// Sets [`negative_capacity`](Self::negative_capacity).
    #[must_use]
    pub fn negative_capacity(mut self, ids: u64) -> Self {
        self.negative_capacity = ids;
        self
    }

    /// Sets [`max_concurrent_lookups`](Self::max_concurrent_lookups).
    #[must_use]
    pub fn max_concurrent_lookups(mut self, lookups: usize) -> Self {
        self.max_concurrent_lookups = lookups;
        self
    }
}

/// A cache in front of a source. Cheap to clone; clones share the cache.
///
/// - A client that was found is answered for [`ttl`](CacheOptions::ttl) without asking the source, an unknown
///   one for [`negative_ttl`](CacheOptions::negative_ttl). Time is monotonic: the wall clock does not matter.
/// - However many ask for a client at once, the source is asked once. Who goes away does not take the answer
///   from the others.
/// - Errors are never kept. While the source fails with [transient](RegistryError::is_transient) errors, a
///   client that was known is answered for [`stale_if_error`](CacheOptions::stale_if_error) longer; each such
///   request asks the source first.
/// - What was [invalidated](Self::invalidate) is not answered again before the source was asked, not even by a
///   lookup that was under way.
/// - More than [`max_concurrent_lookups`](CacheOptions::max_concurrent_lookups) at once end in a transient error,
///   which the layer answers with 503 `temporarily_unavailable`: requests with random ids do not make the
///   source slow, and never concern clients that are in the cache.
///
/// A source that never answers keeps one of the lookups for as long as somebody waits: give it a time-out.
///
/// ```
/// use tower_oauth_client_validation::{CacheOptions, CachedRegistry, Client, RegistrySource, registry_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slow = registry_fn(|id: String| async move {
///     Ok((id == "photo-app").then(|| Client::builder(id).build().unwrap().into()))
/// });
/// let registry = CachedRegistry::with_options(slow, CacheOptions::default().capacity(50_000));
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
/// In front of a [`RegistryStore`] it is one, which invalidates what it changes. Writes run in a task of their
/// own, so that the cache hears of each that was done, and need a Tokio runtime.
/// Changes by other nodes come through [`CachedRegistry::follow`].
pub struct CachedRegistry<S> {
    shared: Arc<Shared<S>>,
}

type Answer = Result<Option<Arc<Client>>, RegistryError>;

struct Shared<S> {
    source: S,
    options: CacheOptions,
    found: Cache<Box<str>, Held>,
    missing: Cache<Box<str>, Held>,
    /// Held by whoever writes to the caches too, so that an invalidation comes before an insertion or after.
    flights: Mutex<Flights>,
    /// Counts invalidations of everything.
    epoch: AtomicU64,
    hits: Counter,
    misses: Counter,
    source_lookups: Counter,
    stale: Counter,
    refused: Counter,
}

/// Kept for [`CachedRegistry::stats`], and told to the recorder where there is one.
struct Counter {
    count: AtomicU64,
    #[cfg(feature = "metrics")]
    tell: fn(),
}

/// The label is a literal, so that telling allocates nothing.
macro_rules! counter {
    ($event:literal) => {
        Counter {
            count: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            tell: || metrics::counter!("oauth_client_cache_events_total", "event" => $event).increment(1),
        }
    };
}

impl Counter {
    fn increment(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        (self.tell)();
    }
}

/// An answer of the source.
#[derive(Clone)]
struct Held {
    client: Option<Arc<Client>>,
    /// When the lookup began.
    at: Instant,
    epoch: u64,
}

#[derive(Default)]
struct Flights {
    by_id: HashMap<Box<str>, Flight>,
    count: u64,
}

/// A lookup under way.
struct Flight {
    number: u64,
    future: WeakShared<BoxFuture<'static, Answer>>,
    /// The client was invalidated after the lookup began.
    outdated: bool,
}

impl<S> CachedRegistry<S> {
    /// Puts a cache in front of `source`, with the defaults of [`CacheOptions`].
    #[must_use]
    pub fn new(source: S) -> Self {
        Self::with_options(source, CacheOptions::default())
    }

    /// Puts a cache in front of `source`.
    #[must_use]
    pub fn with_options(source: S, options: CacheOptions) -> Self {
        // Only to free memory: whether an answer is fresh is decided here.
        let cache =
            |capacity, ttl: Duration| Cache::builder().max_capacity(capacity).time_to_live(ttl.min(LONGEST)).build();
        let shared = Shared {
            source,
            found: cache(options.capacity, options.ttl.saturating_add(options.stale_if_error)),
            missing: cache(options.negative_capacity, options.negative_ttl),
            options,
            flights: Mutex::default(),
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

    /// Forgets a client: it is not answered again before the source was asked.
    pub fn invalidate(&self, client_id: &str) {
        self.shared.invalidate(client_id);
    }

    /// Forgets all clients.
    pub fn invalidate_all(&self) {
        self.shared.invalidate_all();
    }

    /// What happened since the start.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let read = |counter: &Counter| counter.count.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.shared.hits),
            misses: read(&self.shared.misses),
            source_lookups: read(&self.shared.source_lookups),
            stale: read(&self.shared.stale),
            refused: read(&self.shared.refused),
        }
    }

    /// Invalidates what other nodes change, as long as the future runs and `changes` goes on. Spawn it:
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
            std::future::ready(())
        })
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
            .field("options", &self.shared.options)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<S> RegistrySource for CachedRegistry<S>
where
    S: RegistrySource + Send + Sync + 'static,
    S::Future: Send,
{
    type Future = CachedFuture;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let state = match self.shared.fresh(client_id) {
            Some(held) => {
                self.shared.hits.increment();
                State::Ready(std::future::ready(Ok(held.client)))
            }
            None => self.shared.join(client_id),
        };
        CachedFuture { state }
    }
}

impl<S> Shared<S> {
    /// What the cache holds, whatever its age.
    fn held(&self, cache: &Cache<Box<str>, Held>, client_id: &str) -> Option<Held> {
        cache.get(client_id).filter(|held| held.epoch == self.epoch.load(Ordering::Acquire))
    }

    fn fresh(&self, client_id: &str) -> Option<Held> {
        let now = Instant::now();
        let within = |ttl| move |held: &Held| now.saturating_duration_since(held.at) < ttl;
        let found = self.held(&self.found, client_id).filter(within(self.options.ttl));
        found.or_else(|| self.held(&self.missing, client_id).filter(within(self.options.negative_ttl)))
    }

    /// In place of an answer that is not to be had.
    fn stale_or(&self, client_id: &str, error: RegistryError) -> Answer {
        let bound = self.options.ttl.saturating_add(self.options.stale_if_error);
        let usable = |held: &Held| error.is_transient() && held.at.elapsed() < bound;
        match self.held(&self.found, client_id).filter(usable) {
            Some(held) => {
                self.stale.increment();
                tracing::warn!(client_id, %error, cause = ?std::error::Error::source(&error), "a stale client is used");
                Ok(held.client)
            }
            None => Err(error),
        }
    }

    fn invalidate(&self, client_id: &str) {
        let mut flights = self.flights();
        if let Some(flight) = flights.by_id.get_mut(client_id) {
            flight.outdated = true;
        }
        self.found.invalidate(client_id);
        self.missing.invalidate(client_id);
    }

    fn invalidate_all(&self) {
        let mut flights = self.flights();
        for flight in flights.by_id.values_mut() {
            flight.outdated = true;
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.found.invalidate_all();
        self.missing.invalidate_all();
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        // Nothing panics half-way through a change.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a lookup, unless it must begin again: the client was invalidated while it was under way.
    fn land(&self, client_id: &str, number: u64, began: Instant, answer: Answer) -> Option<Answer> {
        let mut flights = self.flights();
        if let Some(flight) = flights.by_id.get_mut(client_id).filter(|flight| flight.number == number) {
            if flight.outdated && answer.is_ok() {
                flight.outdated = false;
                return None;
            }
            flights.by_id.remove(client_id);
        }
        let client = match answer {
            Ok(client) => client,
            Err(error) => return Some(self.stale_or(client_id, error)),
        };
        let held = Held { client: client.clone(), at: began, epoch: self.epoch.load(Ordering::Acquire) };
        if client.is_some() {
            self.missing.invalidate(client_id);
            self.found.insert(client_id.into(), held);
        } else {
            self.found.invalidate(client_id);
            if client_id.len() <= LONGEST_NEGATIVE_ID {
                self.missing.insert(client_id.into(), held);
            }
        }
        Some(Ok(client))
    }
}

impl<S> Shared<S>
where
    S: RegistrySource + Send + Sync + 'static,
    S::Future: Send,
{
    /// Waits for the lookup of this client, and begins it when there is none.
    fn join(self: &Arc<Self>, client_id: &str) -> State {
        let mut flights = self.flights();
        // One may have landed between the look into the cache and here.
        if let Some(held) = self.fresh(client_id) {
            self.hits.increment();
            return State::Ready(std::future::ready(Ok(held.client)));
        }
        self.misses.increment();
        let under_way = flights.by_id.get(client_id).and_then(|flight| flight.future.upgrade());
        if let Some(future) = under_way {
            return State::Waiting(future);
        }
        if flights.by_id.len() >= self.options.max_concurrent_lookups {
            drop(flights);
            self.refused.increment();
            let error = RegistryError::transient("too many lookups of clients at once");
            return State::Ready(std::future::ready(self.stale_or(client_id, error)));
        }
        flights.count += 1;
        let number = flights.count;
        let landing = Landing { shared: Arc::clone(self), client_id: client_id.into(), number };
        let future = landing.fly().boxed().shared();
        if let Some(weak) = future.downgrade() {
            flights.by_id.insert(client_id.into(), Flight { number, future: weak, outdated: false });
        }
        State::Waiting(future)
    }
}

/// Takes a lookup off the list, also when all who waited for it went away.
struct Landing<S> {
    shared: Arc<Shared<S>>,
    client_id: Box<str>,
    number: u64,
}

impl<S> Landing<S>
where
    S: RegistrySource + Send + Sync + 'static,
    S::Future: Send,
{
    async fn fly(self) -> Answer {
        let (shared, client_id) = (&self.shared, &*self.client_id);
        for _ in 0..ROUNDS {
            shared.source_lookups.increment();
            let began = Instant::now();
            let lookup = async { shared.source.find_client(client_id).await };
            // A panic would reach everybody who waits.
            let answer = AssertUnwindSafe(lookup).catch_unwind().await;
            let answer = answer.unwrap_or_else(|_| Err(RegistryError::permanent("the source panicked")));
            if let Some(answer) = shared.land(client_id, self.number, began, answer) {
                return answer;
            }
        }
        Err(RegistryError::transient("the client was changed again and again while it was looked up"))
    }
}

impl<S> Drop for Landing<S> {
    fn drop(&mut self) {
        let mut flights = self.shared.flights();
        if flights.by_id.get(&self.client_id).is_some_and(|flight| flight.number == self.number) {
            flights.by_id.remove(&self.client_id);
        }
    }
}

/// The lookup of [`CachedRegistry`]. Ready at once when the cache knows the answer.
#[must_use = "futures do nothing unless polled"]
pub struct CachedFuture {
    state: State,
}

enum State {
    Ready(std::future::Ready<Answer>),
    Waiting(SharedFuture<BoxFuture<'static, Answer>>),
}

impl Future for CachedFuture {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut self.state {
            State::Ready(answer) => Pin::new(answer).poll(cx),
            State::Waiting(flight) => Pin::new(flight).poll(cx),
        }
    }
}

impl fmt::Debug for CachedFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedFuture").finish_non_exhaustive()
    }
}

/// What happened in a [`CachedRegistry`] since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Answered from the cache.
    pub hits: u64,
    /// Not answered from the cache: waited for the source, or refused.
    pub misses: u64,
    /// Lookups in the source.
    pub source_lookups: u64,
    /// Answered with a client whose time was over, since the source failed.
    pub stale: u64,
    /// Not looked up, since too many lookups were under way.
    pub refused: u64,
}

/// A write that goes on when the caller goes away, so that the invalidation behind it is not left out.
fn in_own_task<T, E>(write: impl Future<Output = Result<T, E>> + Send + 'static) -> BoxFuture<'static, Result<T, E>>
where
    T: Send + 'static,
    E: From<RegistryError> + Send + 'static,
{
    let task = tokio::spawn(write);
    async move { task.await.unwrap_or_else(|stopped| Err(RegistryError::permanent(stopped).into())) }.boxed()
}

/// Invalidates after failures too: one may come after the change was made.
impl<S> RegistryStore for CachedRegistry<S>
where
    S: RegistryStore<Future: Send> + 'static,
{
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        let (shared, id) = (Arc::clone(&self.shared), client.id().to_owned());
        in_own_task(async move {
            let inserted = shared.source.insert(client, origin).await;
            shared.invalidate(&id);
            inserted
        })
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        let (shared, id) = (Arc::clone(&self.shared), client.id().to_owned());
        in_own_task(async move {
            let replaced = shared.source.replace(client).await;
            shared.invalidate(&id);
            replaced
        })
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        let (shared, known) = (Arc::clone(&self.shared), known.clone());
        in_own_task(async move {
            let replaced = shared.source.replace_unchanged(&known, client).await;
            shared.invalidate(known.id());
            replaced
        })
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let (shared, id) = (Arc::clone(&self.shared), client_id.to_owned());
        in_own_task(async move {
            let revoked = shared.source.revoke(&id).await;
            shared.invalidate(&id);
            revoked
        })
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let (shared, id) = (Arc::clone(&self.shared), client_id.to_owned());
        in_own_task(async move {
            let removed = shared.source.remove(&id).await;
            shared.invalidate(&id);
            removed
        })
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        let (shared, known) = (Arc::clone(&self.shared), known.clone());
        in_own_task(async move {
            let removed = shared.source.remove_unchanged(&known).await;
            shared.invalidate(known.id());
            removed
        })
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        self.shared.source.touch(client_id, at)
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        self.shared.source.record(client_id)
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        self.shared.source.list(after, limit)
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        self.shared.source.count(origin)
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        most: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        let shared = Arc::clone(&self.shared);
        in_own_task(async move {
            let removed = shared.source.remove_unused(origin, created_before, most).await;
            match &removed {
                Ok(ids) => ids.iter().for_each(|id| shared.invalidate(id)),
                // It may have been done, and nobody knows to whom.
                Err(_) => shared.invalidate_all(),
            }
            removed
        })
    }
}
