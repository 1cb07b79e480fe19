//! Clients in memory.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::{Ready, ready};
use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::store::{Record, RegistryStore, StoreError, registration_source};
use super::{RegistryError, RegistrySource};
use crate::client::{Client, ClientOrigin, ClientScopes, ClientStatus, from_unix_seconds, unix_seconds};

/// Clients in memory. Cheap to clone; clones share the clients.
///
/// Lookups take no lock and allocate nothing. Clients can be added, replaced and revoked at run time, and the whole set
/// can be [replaced](MemoryRegistry::replace_all) in one step while lookups go on.
///
/// ```
/// use tower_oauth_client_validation::{Client, ClientStatus, MemoryRegistry};
///
/// let registry = MemoryRegistry::from_clients([
///     Client::builder("photo-app").redirect_uri("https://photos.example/callback").scope("openid").build()?,
/// ]);
/// assert!(registry.get("photo-app").is_some());
/// registry.revoke("photo-app");
/// assert_eq!(registry.get("photo-app").unwrap().status(), ClientStatus::Revoked);
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
///
/// # As a store
///
/// The methods here never wait, and add configured clients. Methods of [`RegistryStore`] that have the same names are
/// called through the trait, in code that is generic over stores, or through
/// [`boxed_store`](RegistryStore::boxed_store):
///
/// ```
/// use tower_oauth_client_validation::{Client, ClientOrigin, MemoryRegistry, RegistryStore};
///
/// # futures::executor::block_on(async {
/// let registry = MemoryRegistry::new();
/// registry.insert(Client::builder("configured").build()?)?;
/// RegistryStore::insert(&registry, Client::builder("registered").build()?, ClientOrigin::Registered).await?;
///
/// let store = registry.clone().boxed_store();
/// assert_eq!(store.list(None, 10).await?.len(), registry.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Bounds
///
/// Strangers choose how large the clients are that they register: 64 KiB of metadata can take ten times as much memory. The
/// clients may therefore occupy [`max_bytes`](Self::max_bytes) together; above it, inserting a client or making one larger
/// fails with [`StoreError::Full`].
#[derive(Clone)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    clients: ArcSwap<Clients>,
    /// Only writers lock it.
    ledger: Mutex<Ledger>,
}

/// Readers neither write to shared memory nor wait for a writer; docs/performance.md compares it with a lock.
type Clients = papaya::HashMap<Id, Held>;

const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

impl MemoryRegistry {
    /// Creates an empty registry.
    #[must_use]
    pub fn new() -> Self {
        let ledger = Ledger { max_bytes: DEFAULT_MAX_BYTES, ..Ledger::default() };
        Self { shared: Arc::new(Shared { clients: ArcSwap::default(), ledger: Mutex::new(ledger) }) }
    }

    /// Creates a registry of these clients. If two have the same id, the later one is kept.
    pub fn from_clients(clients: impl IntoIterator<Item = Client>) -> Self {
        let registry = Self::new();
        registry.replace_all(clients);
        registry
    }

    /// Sets how many bytes the clients may occupy together (default: 256 MiB). Applies to all clones.
    ///
    /// [`replace_all`](Self::replace_all) and [`from_clients`](Self::from_clients) do not check it: they take what the
    /// operator configured.
    ///
    /// ```
    /// use tower_oauth_client_validation::{Client, MemoryRegistry, StoreError};
    ///
    /// assert_eq!(MemoryRegistry::new().bytes(), 0);
    /// let registry = MemoryRegistry::new().max_bytes(10_000);
    /// let large = Client::builder("app").metadata("contacts", vec![""; 1_000]).build()?;
    /// assert!(matches!(registry.insert(large), Err(StoreError::Full)));
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> Self {
        self.write().ledger.max_bytes = bytes;
        self
    }

    /// How many bytes the clients occupy. A close estimate that tends to be too high.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.write().ledger.bytes()
    }

    /// Finds the client with this id.
    #[must_use]
    pub fn get(&self, client_id: &str) -> Option<Arc<Client>> {
        let clients = self.shared.clients.load();
        clients.pin().get(client_id).map(|held| Arc::clone(&held.client))
    }

    /// Where the client with this id came from.
    #[must_use]
    pub fn origin(&self, client_id: &str) -> Option<ClientOrigin> {
        self.shared.clients.load().pin().get(client_id).map(|held| held.origin)
    }

    /// All clients, ordered by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.write().page(None, usize::MAX, |held| Arc::clone(&held.client))
    }

    /// The number of clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.clients.load().len()
    }

    /// Whether there is no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a configured client.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`] or [`StoreError::Full`].
    pub fn insert(&self, client: Client) -> Result<Arc<Client>, StoreError> {
        self.insert_from(client, ClientOrigin::Configured)
    }

    /// Replaces the client with this id unconditionally, and returns the old one. Its origin stays. For changes that
    /// depend on the old client there is [`RegistryStore::replace_unchanged`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] where no client has this id or the client is revoked, or [`StoreError::Full`].
    pub fn replace(&self, client: Client) -> Result<Arc<Client>, StoreError> {
        self.write().replace_live(client).map(|replaced| replaced.old)
    }

    /// Revokes a client and returns it as it was. No other client can get its id.
    #[allow(clippy::must_use_candidate)]
    pub fn revoke(&self, client_id: &str) -> Option<Arc<Client>> {
        let mut writer = self.write();
        let old = self.get(client_id)?;
        if old.status() == ClientStatus::Revoked {
            return Some(old);
        }
        let mut client = Client::clone(&*old);
        client.set_status(ClientStatus::Revoked);
        writer.replace(client).map(|replaced| replaced.old).ok()
    }

    /// Removes a client and returns it.
    #[allow(clippy::must_use_candidate)]
    pub fn remove(&self, client_id: &str) -> Option<Arc<Client>> {
        self.write().remove(client_id)
    }

    /// Replaces all clients by these, which count as configured, in one step: a lookup sees the old set or the new one.
    /// If two have the same id, the later one is kept.
    pub fn replace_all(&self, clients: impl IntoIterator<Item = Client>) {
        let clients = clients.into_iter();
        let mut fresh = Ledger::default();
        let now = seconds(SystemTime::now());
        let map = Clients::with_capacity(clients.size_hint().0);
        let guard = map.pin();
        for client in clients {
            let held = Held::new(fresh.scope_lists.enter(client), ClientOrigin::Configured, now);
            fresh.add(&held);
            if let Some(earlier) = guard.insert(held.id(), held) {
                fresh.subtract(earlier);
            }
        }
        drop(guard);
        let Writer { mut ledger, .. } = self.write();
        fresh.max_bytes = ledger.max_bytes;
        *ledger = fresh;
        self.shared.clients.store(Arc::new(map));
    }

    pub(super) fn insert_from(&self, client: Client, origin: ClientOrigin) -> Result<Arc<Client>, StoreError> {
        self.write().insert(client, origin)
    }

    /// Replaces a client that still is `known`.
    pub(super) fn exchange(&self, known: &Client, client: Client) -> Result<Arc<Client>, StoreError> {
        let mut writer = self.write();
        writer.compare(known)?;
        if client.id() != known.id() {
            return Err(StoreError::Changed);
        }
        writer.replace(client).map(|replaced| replaced.new)
    }

    fn write(&self) -> Writer<'_> {
        // A panic cannot leave the ledger half written: no code of others runs while it changes.
        let ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Writer { ledger, clients: self.shared.clients.load_full() }
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl RegistrySource for MemoryRegistry {
    type Future = Ready<Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        ready(Ok(self.get(client_id)))
    }
}

/// Every future is ready at once.
impl RegistryStore for MemoryRegistry {
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        ready(self.insert_from(client, origin)).boxed()
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        ready(self.write().replace_live(client).map(|replaced| replaced.new)).boxed()
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        ready(self.exchange(known, client)).boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Self::revoke(self, client_id).map(drop).ok_or(StoreError::Missing)).boxed()
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Self::remove(self, client_id).map(drop).ok_or(StoreError::Missing)).boxed()
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut writer = self.write();
        let removed = writer.compare(known).map(|()| drop(writer.remove(known.id())));
        ready(removed).boxed()
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        // Locked, because a writer copies the last use of a client, or removes a client that was never used.
        let writer = self.write();
        let touched = writer.clients.pin().get(client_id).map(|held| {
            held.last_used_at.fetch_max(seconds(at), Ordering::Relaxed);
        });
        drop(writer);
        ready(touched.ok_or(StoreError::Missing)).boxed()
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        let clients = self.shared.clients.load();
        let record = clients.pin().get(client_id).map(Held::record);
        ready(Ok(record)).boxed()
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        ready(Ok(self.write().page(after, limit, Held::record))).boxed()
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        ready(Ok(self.write().ledger.live.get(&origin).copied().unwrap_or_default())).boxed()
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        let before = seconds(created_before);
        let is_unused = |held: &Held| held.is_from(origin, None) && held.is_unused() && held.created_at < before;
        ready(Ok(self.write().remove_oldest(max, is_unused, |held| held.created_at))).boxed()
    }

    fn count_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
    ) -> BoxFuture<'a, Result<u64, RegistryError>> {
        let writer = self.write();
        let is_counted =
            |held: &&Held| held.client.status() != ClientStatus::Revoked && held.is_from(origin, Some(source));
        let counted = writer.clients.pin().values().filter(is_counted).count();
        drop(writer);
        ready(Ok(counted as u64)).boxed()
    }

    fn remove_unused_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        let before = seconds(created_before);
        let is_unused =
            |held: &Held| held.is_unused() && held.created_at < before && held.is_from(origin, Some(source));
        ready(Ok(self.write().remove_oldest(max, is_unused, |held| held.created_at))).boxed()
    }

    fn remove_idle<'a>(
        &'a self,
        origin: ClientOrigin,
        source: Option<&'a str>,
        used_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        let before = seconds(used_before);
        let last_used_at = |held: &Held| held.last_used_at.load(Ordering::Relaxed);
        let is_idle = |held: &Held| {
            let is_used = held.client.status() == ClientStatus::Active && last_used_at(held) != 0;
            is_used && last_used_at(held) < before && held.is_from(origin, source)
        };
        ready(Ok(self.write().remove_oldest(max, is_idle, last_used_at))).boxed()
    }
}

impl FromIterator<Client> for MemoryRegistry {
    fn from_iter<I: IntoIterator<Item = Client>>(clients: I) -> Self {
        Self::from_clients(clients)
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegistry").field("clients", &self.len()).finish_non_exhaustive()
    }
}

/// The only writer at this time; readers never wait for it.
struct Writer<'a> {
    ledger: MutexGuard<'a, Ledger>,
    clients: Arc<Clients>,
}

impl Writer<'_> {
    fn insert(&mut self, mut client: Client, origin: ClientOrigin) -> Result<Arc<Client>, StoreError> {
        let clients = self.clients.pin();
        if clients.contains_key(client.id()) {
            return Err(StoreError::AlreadyExists);
        }
        client.set_origin(origin);
        self.ledger.make_room(&client, 0)?;
        let held = Held::new(self.ledger.scope_lists.enter(client), origin, seconds(SystemTime::now()));
        let client = Arc::clone(&held.client);
        self.ledger.add(&held);
        clients.insert(held.id(), held);
        Ok(client)
    }

    /// Removes the clients that `selects` selects and that have the least `age`, and returns their ids.
    fn remove_oldest(&mut self, max: u64, selects: impl Fn(&Held) -> bool, age: impl Fn(&Held) -> u32) -> Vec<String> {
        let clients = Arc::clone(&self.clients);
        let clients = clients.pin();
        let mut selected: Vec<&Held> = clients.values().filter(|held| selects(held)).collect();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if max < selected.len() {
            // Does not sort all of them: a flood of registrations calls this for each.
            selected.select_nth_unstable_by_key(max, |held| age(held));
            selected.truncate(max);
        }
        let remove = |held: &Held| self.remove(held.client.id()).map(|client| client.id().to_owned());
        selected.into_iter().filter_map(remove).collect()
    }

    /// Whether a client still is what somebody read.
    fn compare(&self, known: &Client) -> Result<(), StoreError> {
        match self.clients.pin().get(known.id()) {
            Some(held) if held.client.status() == ClientStatus::Revoked => Err(StoreError::Missing),
            Some(held) if *held.client == *known => Ok(()),
            Some(_) => Err(StoreError::Changed),
            None => Err(StoreError::Missing),
        }
    }

    /// A revoked client stays revoked.
    fn replace_live(&mut self, client: Client) -> Result<Replaced, StoreError> {
        let is_revoked = |held: &Held| held.client.status() == ClientStatus::Revoked;
        if self.clients.pin().get(client.id()).is_none_or(is_revoked) {
            return Err(StoreError::Missing);
        }
        self.replace(client)
    }

    fn replace(&mut self, mut client: Client) -> Result<Replaced, StoreError> {
        let clients = self.clients.pin();
        let old = clients.get(client.id()).ok_or(StoreError::Missing)?;
        client.set_origin(old.origin);
        self.ledger.make_room(&client, old.bytes())?;
        let new = old.updated(self.ledger.scope_lists.enter(client), seconds(SystemTime::now()));
        let replaced = Replaced { old: Arc::clone(&old.client), new: Arc::clone(&new.client) };
        self.ledger.subtract(old);
        self.ledger.add(&new);
        clients.insert(new.id(), new);
        Ok(replaced)
    }

    fn remove(&mut self, client_id: &str) -> Option<Arc<Client>> {
        let clients = self.clients.pin();
        let held = clients.remove(client_id)?;
        self.ledger.subtract(held);
        if let Some(ids) = &mut self.ledger.ordered {
            ids.remove(client_id);
        }
        Some(Arc::clone(&held.client))
    }

    /// At most `limit` clients, ordered by id, beginning after an id.
    fn page<T>(&mut self, after: Option<&str>, limit: usize, item: impl Fn(&Held) -> T) -> Vec<T> {
        let clients = self.clients.pin();
        let ids = self.ledger.ordered.get_or_insert_with(|| clients.values().map(Held::id).collect());
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = ids.range::<str, _>((after, Bound::Unbounded)).take(limit);
        ids.filter_map(|id| clients.get(id)).map(item).collect()
    }
}

struct Replaced {
    old: Arc<Client>,
    new: Arc<Client>,
}

/// Totals over all clients, for writers.
#[derive(Default)]
struct Ledger {
    max_bytes: usize,
    /// Without those of the scope lists.
    client_bytes: usize,
    scope_lists: ScopeLists,
    /// How many clients of each origin are not revoked.
    live: HashMap<ClientOrigin, u64>,
    /// Built for the first page, so that a registry that is never listed does not need it.
    ordered: Option<BTreeSet<Id>>,
}

impl Ledger {
    fn bytes(&self) -> usize {
        self.client_bytes + self.scope_lists.bytes
    }

    /// Whether `client` may take the place of `old_bytes`.
    fn make_room(&mut self, client: &Client, old_bytes: usize) -> Result<(), StoreError> {
        let new_bytes = ENTRY_BYTES + client.own_size();
        if new_bytes <= old_bytes {
            return Ok(());
        }
        let added = new_bytes - old_bytes + self.scope_lists.added_bytes(client);
        if self.bytes() + added > self.max_bytes {
            self.scope_lists.sweep();
        }
        if self.bytes() + added > self.max_bytes { Err(StoreError::Full) } else { Ok(()) }
    }

    fn add(&mut self, held: &Held) {
        self.client_bytes += held.bytes();
        *self.live.entry(held.origin).or_default() += held.live();
        if let Some(ids) = &mut self.ordered {
            ids.replace(held.id());
        }
    }

    fn subtract(&mut self, held: &Held) {
        self.client_bytes -= held.bytes();
        *self.live.entry(held.origin).or_default() -= held.live();
    }
}

/// Each list of scopes once, because most clients share theirs.
#[derive(Default)]
struct ScopeLists {
    lists: HashSet<Arc<ClientScopes>>,
    bytes: usize,
    sweep_at: usize,
}

impl ScopeLists {
    fn enter(&mut self, mut client: Client) -> Arc<Client> {
        if let Some(shared) = self.lists.get(client.scopes_arc()) {
            client.share_scopes(Arc::clone(shared));
        } else {
            if self.lists.len() >= self.sweep_at {
                self.sweep();
            }
            self.bytes += client.scopes_arc().size();
            self.lists.insert(Arc::clone(client.scopes_arc()));
        }
        Arc::new(client)
    }

    fn added_bytes(&self, client: &Client) -> usize {
        if self.lists.contains(client.scopes_arc()) { 0 } else { client.scopes_arc().size() }
    }

    /// Drops the lists that no client has any more.
    fn sweep(&mut self) {
        self.lists.retain(|list| {
            let is_used = Arc::strong_count(list) > 1;
            if !is_used {
                self.bytes -= list.size();
            }
            is_used
        });
        self.sweep_at = (self.lists.len() * 2).max(64);
    }
}

/// A client and what is known about it. 32 bits hold the seconds since the epoch until 2106.
struct Held {
    client: Arc<Client>,
    origin: ClientOrigin,
    created_at: u32,
    updated_at: u32,
    /// 0: never.
    last_used_at: AtomicU32,
}

/// The entry in the map and in the ordered ids.
const ENTRY_BYTES: usize = size_of::<Held>() + size_of::<[usize; 8]>();

impl Held {
    fn new(client: Arc<Client>, origin: ClientOrigin, now: u32) -> Self {
        Self { client, origin, created_at: now, updated_at: now, last_used_at: AtomicU32::new(0) }
    }

    fn updated(&self, client: Arc<Client>, now: u32) -> Self {
        let last_used_at = AtomicU32::new(self.last_used_at.load(Ordering::Relaxed));
        Self { client, origin: self.origin, created_at: self.created_at, updated_at: now, last_used_at }
    }

    fn id(&self) -> Id {
        Id(Arc::clone(&self.client))
    }

    fn is_from(&self, origin: ClientOrigin, source: Option<&str>) -> bool {
        self.origin == origin && source.is_none_or(|source| registration_source(&self.client) == Some(source))
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.client.own_size()
    }

    fn live(&self) -> u64 {
        u64::from(self.client.status() != ClientStatus::Revoked)
    }

    fn is_unused(&self) -> bool {
        self.client.status() == ClientStatus::Active && self.last_used_at.load(Ordering::Relaxed) == 0
    }

    fn record(&self) -> Record {
        let last_used_at = self.last_used_at.load(Ordering::Relaxed);
        Record {
            client: Arc::clone(&self.client),
            origin: self.origin,
            created_at: time(self.created_at),
            updated_at: time(self.updated_at),
            last_used_at: (last_used_at != 0).then(|| time(last_used_at)),
        }
    }
}

fn seconds(time: SystemTime) -> u32 {
    u32::try_from(unix_seconds(time)).unwrap_or(u32::MAX)
}

fn time(seconds: u32) -> SystemTime {
    from_unix_seconds(seconds.into()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The id of a client, without a copy of it.
struct Id(Arc<Client>);

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        self.0.id()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for Id {}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id().cmp(other.0.id())
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id().hash(state);
    }
}
