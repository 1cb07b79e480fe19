//! Clients in memory.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::future::{Ready, ready};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::env::DEFAULT_REDIRECT_URIS;
use super::store::{ClientOrigin, Record, RegistryStore, StoreError};
use super::{RegistryError, RegistrySource};
use crate::client::{
    Client, ClientError, ClientScopes, ClientStatus, LoopbackPorts, RedirectUriMismatch, is_scope_value, tokens,
};

/// Clients in memory. Cheap to clone; clones share the clients.
///
/// Lookups take no lock and allocate nothing. Clients can be added, replaced and revoked at run time, and the
/// whole set can be [replaced](MemoryRegistry::replace_all) at once while lookups go on.
///
/// ```
/// use tower_oauth_client_validation::{Client, MemoryRegistry};
///
/// let registry = MemoryRegistry::from_clients([
///     Client::builder("photo-app").redirect_uri("https://photos.example/callback").scope("openid").build()?,
/// ]);
/// assert!(registry.check("photo-app", Some("https://photos.example/callback"), Some("openid")).is_ok());
/// assert!(registry.check("photo-app", Some("https://evil.example/callback"), None).is_err());
/// assert!(registry.revoke("photo-app").is_some());
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
///
/// # As a store
///
/// The methods here wait for nothing, and add what is configured. Those of [`RegistryStore`] that have the same
/// names are called by the name of the trait, in code that is generic over stores, or through
/// [`boxed_store`](RegistryStore::boxed_store):
///
/// ```
/// use tower_oauth_client_validation::{Client, MemoryRegistry, ClientOrigin, RegistryStore};
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
#[derive(Clone, Default)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
    dynamic_registration: bool,
}

#[derive(Default)]
struct Shared {
    clients: ArcSwap<Clients>,
    /// Held by writers only; keeps equal scope lists once.
    writer: Mutex<ScopeLists>,
}

type Clients = papaya::HashMap<Id, Held>;

impl MemoryRegistry {
    /// An empty registry. Clients cannot register themselves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry of these clients; of two with the same id the later one stays.
    pub fn from_clients(clients: impl IntoIterator<Item = Client>) -> Self {
        let registry = Self::new();
        registry.replace_all(clients);
        registry
    }

    /// Whether [`MemoryRegistry::register`] takes clients (default: no). Holds for this handle and its clones; an
    /// earlier clone shares the clients, and stays as it is.
    #[must_use]
    pub fn dynamic_registration(mut self, allowed: bool) -> Self {
        self.dynamic_registration = allowed;
        self
    }

    /// The client of this id.
    #[must_use]
    pub fn get(&self, client_id: &str) -> Option<Arc<Client>> {
        let clients = self.shared.clients.load();
        clients.pin().get(client_id).map(|held| Arc::clone(&held.client))
    }

    /// Where the client of this id came from.
    #[must_use]
    pub fn origin(&self, client_id: &str) -> Option<ClientOrigin> {
        self.shared.clients.load().pin().get(client_id).map(|held| held.origin)
    }

    /// All clients, ordered by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Client>> {
        let clients = self.shared.clients.load();
        let mut list: Vec<_> = clients.pin().values().map(|held| Arc::clone(&held.client)).collect();
        list.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        list
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

    /// Adds a client from configuration.
    ///
    /// # Errors
    ///
    /// When there is one with this id.
    pub fn insert(&self, client: Client) -> Result<Arc<Client>, RegisterError> {
        self.write().insert(client, ClientOrigin::Configured)
    }

    /// Puts a client in the place of the one with its id, whatever that became meanwhile, and returns the old one;
    /// `None`, and nothing done, when there is none, or it is revoked. Its origin stays.
    ///
    /// [`RegistryStore::replace_unchanged`] is for changes that were decided by looking at the client.
    #[allow(clippy::must_use_candidate)]
    pub fn replace(&self, client: Client) -> Option<Arc<Client>> {
        self.write().replace_live(client).map(|replaced| replaced.old)
    }

    /// Revokes a client. Its id stays taken, so that it never comes back as another client.
    #[allow(clippy::must_use_candidate)]
    pub fn revoke(&self, client_id: &str) -> Option<Arc<Client>> {
        let mut writer = self.write();
        let old = self.get(client_id)?;
        if old.status() == ClientStatus::Revoked {
            return Some(old);
        }
        let mut client = Client::clone(&*old);
        client.set_status(ClientStatus::Revoked);
        writer.replace(client).map(|replaced| replaced.old)
    }

    /// Removes a client, and returns it.
    #[allow(clippy::must_use_candidate)]
    pub fn remove(&self, client_id: &str) -> Option<Arc<Client>> {
        let writer = self.write();
        let guard = writer.clients.pin();
        guard.remove(client_id).map(|held| Arc::clone(&held.client))
    }

    /// Puts these clients, as configured ones, in the place of all there are, at once: a lookup sees the old
    /// set or the new one. Of two with the same id the later one stays.
    pub fn replace_all(&self, clients: impl IntoIterator<Item = Client>) {
        let clients = clients.into_iter();
        let mut lists = ScopeLists::default();
        let now = seconds(SystemTime::now());
        let fresh = Clients::with_capacity(clients.size_hint().0);
        let guard = fresh.pin();
        for client in clients {
            let held = Held::new(lists.enter(client), ClientOrigin::Configured, now);
            guard.insert(held.id(), held);
        }
        drop(guard);
        let mut writer = self.write();
        *writer.lists = lists;
        self.shared.clients.store(Arc::new(fresh));
    }

    /// Takes a client that registers itself.
    ///
    /// # Errors
    ///
    /// When [dynamic registration](MemoryRegistry::dynamic_registration) is off, or the id is taken.
    pub fn register(&self, client: Client) -> Result<Arc<Client>, RegisterError> {
        if !self.dynamic_registration {
            return Err(RegisterError::RegistrationDisabled);
        }
        self.write().insert(client, ClientOrigin::Registered)
    }

    /// Takes a client that an upstream identity provider registered, so that its requests can be judged here.
    ///
    /// Without redirect URIs it gets [`DEFAULT_REDIRECT_URIS`]; without a name `DCR-` and the first 8
    /// characters of its id; its scopes are `*`, since the upstream decides about them. Registering it once
    /// more replaces it.
    ///
    /// # Errors
    ///
    /// When a redirect URI breaks a rule, or the id belongs to a client that is switched off or did not come this
    /// way.
    pub fn register_for_upstream<U: AsRef<str>>(
        &self,
        client_id: &str,
        redirect_uris: impl IntoIterator<Item = U>,
        name: Option<&str>,
    ) -> Result<Arc<Client>, RegisterError> {
        let mut builder = Client::builder(client_id).scope("*");
        let mut redirect_uris = redirect_uris.into_iter().peekable();
        if redirect_uris.peek().is_none() {
            builder = DEFAULT_REDIRECT_URIS.into_iter().fold(builder, |builder, uri| builder.redirect_uri(uri));
        }
        builder = redirect_uris.fold(builder, |builder, uri| builder.redirect_uri(uri));
        builder = match name {
            Some(name) => builder.name(name),
            None => builder.name(format!("DCR-{}", client_id.chars().take(8).collect::<String>())),
        };
        let client = builder.build().map_err(RegisterError::Client)?;
        let mut writer = self.write();
        let Some(old) = self.get(client_id) else {
            return writer.insert(client, ClientOrigin::Upstream);
        };
        if !old.is_active_at(SystemTime::now()) || self.origin(client_id) != Some(ClientOrigin::Upstream) {
            return Err(RegisterError::AlreadyExists);
        }
        let replaced = writer.replace(client.with_operator_decisions(&old));
        replaced.map(|replaced| replaced.new).ok_or(RegisterError::AlreadyExists)
    }

    /// Whether a client may use this redirect URI and these scopes, outside of any request.
    ///
    /// What is `None` is not checked. Dynamic registration makes no difference: who is not registered is
    /// unknown.
    ///
    /// # Errors
    ///
    /// Says what the client may not.
    pub fn check(
        &self,
        client_id: &str,
        redirect_uri: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Arc<Client>, CheckError> {
        let client = self.get(client_id).ok_or(CheckError::ClientUnknown)?;
        if !client.is_active_at(SystemTime::now()) {
            return Err(CheckError::ClientInactive);
        }
        if let Some(redirect_uri) = redirect_uri {
            client.check_redirect_uri(redirect_uri, LoopbackPorts::Any).map_err(CheckError::RedirectUri)?;
        }
        if let Some(scope) = scope {
            let allowed = |token| client.allowed_scopes().is_some_and(|allowed| allowed.contains(token));
            if !is_scope_value(scope) || !tokens(scope).all(allowed) {
                return Err(CheckError::Scope);
            }
        }
        Ok(client)
    }

    fn write(&self) -> Writer<'_> {
        // The lists are a cache; one that a panic left behind is still a good one.
        let lists = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Writer { lists, clients: self.shared.clients.load_full() }
    }
}

impl RegistrySource for MemoryRegistry {
    type Future = Ready<Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        ready(Ok(self.get(client_id)))
    }
}

/// Nothing here waits: each future is ready.
impl RegistryStore for MemoryRegistry {
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        let inserted = self.write().insert(client, origin).map_err(|_| StoreError::AlreadyExists);
        ready(inserted).boxed()
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        let replaced = self.write().replace_live(client).map(|replaced| replaced.new);
        ready(replaced.ok_or(StoreError::Missing)).boxed()
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        let mut writer = self.write();
        let replaced = match writer.compare(known) {
            Ok(()) if client.id() != known.id() => Err(StoreError::Changed),
            Ok(()) => writer.replace(client).map(|replaced| replaced.new).ok_or(StoreError::Missing),
            Err(error) => Err(error),
        };
        ready(replaced).boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Self::revoke(self, client_id).map(drop).ok_or(StoreError::Missing)).boxed()
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Self::remove(self, client_id).map(drop).ok_or(StoreError::Missing)).boxed()
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        let writer = self.write();
        let removed = writer.compare(known).map(|()| {
            writer.clients.pin().remove(known.id());
        });
        ready(removed).boxed()
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        // A writer copies the last use, or removes what was never used; no use may get lost meanwhile.
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
        let clients = self.shared.clients.load();
        let pinned = clients.pin();
        let mut page: Vec<_> =
            pinned.values().filter(|held| after.is_none_or(|after| held.client.id() > after)).collect();
        page.sort_unstable_by(|a, b| a.client.id().cmp(b.client.id()));
        page.truncate(limit);
        ready(Ok(page.into_iter().map(Held::record).collect())).boxed()
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        // As a writer: a count while one comes and another goes may miss both, and the cap depends on it.
        let writer = self.write();
        let is_counted = |held: &&Held| held.origin == origin && held.client.status() != ClientStatus::Revoked;
        let counted = writer.clients.pin().values().filter(is_counted).count();
        drop(writer);
        ready(Ok(counted as u64)).boxed()
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        most: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        let writer = self.write();
        let clients = writer.clients.pin();
        let before = seconds(created_before);
        let is_unused = |held: &&Held| held.origin == origin && held.is_unused() && held.created_at < before;
        let mut unused: Vec<&Held> = clients.values().filter(is_unused).collect();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if most < unused.len() {
            // Without sorting them all: a flood of registrations comes along here.
            unused.select_nth_unstable_by_key(most, |held| held.created_at);
            unused.truncate(most);
        }
        let remove = |held: &Held| {
            clients.remove(held.client.id());
            held.client.id().to_owned()
        };
        ready(Ok(unused.into_iter().map(remove).collect())).boxed()
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

/// One writer at a time; readers never wait for it.
struct Writer<'a> {
    lists: MutexGuard<'a, ScopeLists>,
    clients: Arc<Clients>,
}

impl Writer<'_> {
    fn insert(&mut self, mut client: Client, origin: ClientOrigin) -> Result<Arc<Client>, RegisterError> {
        client.set_origin(origin);
        let client = self.lists.enter(client);
        let held = Held::new(Arc::clone(&client), origin, seconds(SystemTime::now()));
        match self.clients.pin().try_insert(held.id(), held) {
            Ok(_) => Ok(client),
            Err(_) => Err(RegisterError::AlreadyExists),
        }
    }

    /// Whether the client is still what somebody read.
    fn compare(&self, known: &Client) -> Result<(), StoreError> {
        match self.clients.pin().get(known.id()) {
            Some(held) if held.client.status() == ClientStatus::Revoked => Err(StoreError::Missing),
            Some(held) if *held.client == *known => Ok(()),
            Some(_) => Err(StoreError::Changed),
            None => Err(StoreError::Missing),
        }
    }

    /// Unless it is revoked: that is for good.
    fn replace_live(&mut self, client: Client) -> Option<Replaced> {
        let is_revoked = self.clients.pin().get(client.id())?.client.status() == ClientStatus::Revoked;
        if is_revoked { None } else { self.replace(client) }
    }

    fn replace(&mut self, mut client: Client) -> Option<Replaced> {
        let clients = self.clients.pin();
        let old = clients.get(client.id())?;
        client.set_origin(old.origin);
        let new = old.updated(self.lists.enter(client), seconds(SystemTime::now()));
        let replaced = Replaced { old: Arc::clone(&old.client), new: Arc::clone(&new.client) };
        clients.insert(new.id(), new);
        Some(replaced)
    }
}

struct Replaced {
    old: Arc<Client>,
    new: Arc<Client>,
}

/// Each scope list that clients share, once.
#[derive(Default)]
struct ScopeLists {
    lists: HashSet<Arc<ClientScopes>>,
    sweep_at: usize,
}

impl ScopeLists {
    fn enter(&mut self, mut client: Client) -> Arc<Client> {
        if let Some(shared) = self.lists.get(client.scopes_arc()) {
            client.share_scopes(Arc::clone(shared));
        } else {
            if self.lists.len() >= self.sweep_at {
                self.lists.retain(|list| Arc::strong_count(list) > 1);
                self.sweep_at = (self.lists.len() * 2).max(64);
            }
            self.lists.insert(Arc::clone(client.scopes_arc()));
        }
        Arc::new(client)
    }
}

/// A client and what is known about it. Times are seconds since the epoch, which 32 bits hold until 2106.
struct Held {
    client: Arc<Client>,
    origin: ClientOrigin,
    created_at: u32,
    updated_at: u32,
    /// 0: never.
    last_used_at: AtomicU32,
}

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
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX)
}

fn time(seconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into())
}

/// The id of a client, without a copy of it. After a replacement it may be that of the earlier client, which has the
/// same id; what is found under it is the new one.
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

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id().hash(state);
    }
}

/// A client was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Clients cannot register themselves here.
    RegistrationDisabled,
    /// The id is taken.
    AlreadyExists,
    /// A rule for clients is broken.
    Client(ClientError),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegistrationDisabled => f.write_str("dynamic registration is disabled"),
            Self::AlreadyExists => f.write_str("a client with this id exists"),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::RegistrationDisabled | Self::AlreadyExists => None,
            Self::Client(error) => error.source(),
        }
    }
}

/// What a client may not, see [`MemoryRegistry::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no such client.
    ClientUnknown,
    /// It is disabled, revoked or expired.
    ClientInactive,
    /// The redirect URI is none of its own.
    RedirectUri(RedirectUriMismatch),
    /// It may not ask for such a scope.
    Scope,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientUnknown => "the client is unknown",
            Self::ClientInactive => "the client is disabled, revoked or expired",
            Self::RedirectUri(RedirectUriMismatch::Malformed(_)) => "the redirect URI is malformed",
            Self::RedirectUri(RedirectUriMismatch::NotRegistered(_)) => "the redirect URI is not registered",
            Self::Scope => "the client may not ask for this scope",
        })
    }
}

impl std::error::Error for CheckError {}
