//! The cache in front of a source.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt, join_all};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_oauth_client_validation::{
    CacheConfig, CachedRegistry, Change, Client, ClientOrigin, ClientStatus, MemoryRegistry, Record,
    RegistrationPolicy, RegistrationService, RegistryError, RegistrySource, RegistryStore, StoreError,
};

use crate::contract::contract;
use crate::wait::{eventually, in_time};

/// A source that the test controls.
#[derive(Clone)]
struct Source(Arc<Inner>);

struct Inner {
    clients: MemoryRegistry,
    failure: Mutex<Option<RegistryError>>,
    lookups: AtomicUsize,
    /// A lookup reads the client, and then waits for a permit.
    gate: Semaphore,
}

impl Source {
    fn new(ids: &[&str]) -> Self {
        let clients = ids.iter().map(|id| client(id)).collect();
        Self(Arc::new(Inner {
            clients,
            failure: Mutex::default(),
            lookups: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }))
    }

    fn closed(ids: &[&str]) -> Self {
        let source = Self::new(ids);
        source.close();
        source
    }

    fn close(&self) {
        self.0.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.0.gate.add_permits(1_000_000);
    }

    fn fail(&self, failure: Option<RegistryError>) {
        *self.0.failure.lock().unwrap() = failure;
    }

    fn lookups(&self) -> usize {
        self.0.lookups.load(Ordering::SeqCst)
    }

    async fn until_lookups(&self, count: usize) {
        eventually(async || (self.lookups() >= count).then_some(())).await;
    }
}

impl RegistrySource for Source {
    type Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let (source, client_id) = (self.clone(), client_id.to_owned());
        async move {
            let answer = match &*source.0.failure.lock().unwrap() {
                Some(failure) => Err(failure.clone()),
                None => Ok(source.0.clients.get(&client_id)),
            };
            source.0.lookups.fetch_add(1, Ordering::SeqCst);
            source.0.gate.acquire().await.unwrap().forget();
            answer
        }
        .boxed()
    }
}

fn client(id: &str) -> Client {
    Client::builder(id).redirect_uri("https://app.example/cb").build().unwrap()
}

fn down() -> Option<RegistryError> {
    Some(RegistryError::transient("down"))
}

async fn is_known(registry: &CachedRegistry<Source>, id: &str) -> bool {
    registry.find_client(id).await.unwrap().is_some()
}

async fn cached_memory() -> Option<(CachedRegistry<MemoryRegistry>, ())> {
    Some((CachedRegistry::new(MemoryRegistry::new()), ()))
}

contract!(cached_store, super::cached_memory);

#[tokio::test]
async fn a_hit_is_ready_and_does_not_ask_the_source() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    assert!(is_known(&registry, "app").await);
    assert!(!is_known(&registry, "other").await);
    source.fail(Some(RegistryError::permanent("nobody may ask")));
    for _ in 0..100 {
        assert!(registry.find_client("app").now_or_never().unwrap().unwrap().is_some());
        assert!(registry.find_client("other").now_or_never().unwrap().unwrap().is_none());
    }
    assert_eq!(source.lookups(), 2);
    let stats = registry.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.source_lookups, stats.stale_answers, stats.refused_lookups),
        (200, 2, 2, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_for_their_ttl() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    let second = Duration::from_secs(1);
    assert!(is_known(&registry, "app").await);
    assert!(!is_known(&registry, "other").await);
    tokio::time::advance(5 * second - Duration::from_millis(1)).await;
    assert!(!is_known(&registry, "other").await);
    assert_eq!(source.lookups(), 2);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!is_known(&registry, "other").await);
    assert_eq!(source.lookups(), 3);
    tokio::time::advance(55 * second - Duration::from_millis(1)).await;
    assert!(is_known(&registry, "app").await);
    assert_eq!(source.lookups(), 3);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(is_known(&registry, "app").await);
    assert_eq!(source.lookups(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_for_a_cold_client_ask_once() {
    let source = Source::closed(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    let requests: Vec<_> = (0..10_000)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.find_client("app").await })
        })
        .collect();
    source.until_lookups(1).await;
    eventually(async || (registry.stats().misses >= 5_000).then_some(())).await;
    source.open();
    for request in requests {
        assert_eq!(in_time(request).await.unwrap().unwrap().unwrap().id(), "app");
    }
    assert_eq!(source.lookups(), 1);
    assert_eq!(registry.stats().source_lookups, 1);
}

#[tokio::test]
async fn cancelling_one_waiter_does_not_cancel_the_lookup_for_the_rest() {
    let source = Source::closed(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    let mut first = registry.find_client("app");
    assert!((&mut first).now_or_never().is_none());
    let second = tokio::spawn(registry.find_client("app"));
    tokio::task::yield_now().await;
    drop(first);
    source.open();
    assert!(in_time(second).await.unwrap().unwrap().is_some());
    assert_eq!(source.lookups(), 1);
}

#[tokio::test]
async fn an_abandoned_lookup_releases_its_permit() {
    let source = Source::closed(&["app", "other"]);
    let registry = CachedRegistry::with_config(source.clone(), CacheConfig::new().max_concurrent_lookups(1));
    let mut left = registry.find_client("app");
    assert!((&mut left).now_or_never().is_none());
    assert!(registry.find_client("other").await.unwrap_err().is_transient());
    drop(left);
    source.open();
    assert!(is_known(&registry, "other").await);
    assert!(is_known(&registry, "app").await);
}

#[tokio::test]
async fn errors_are_not_kept() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    for failure in [RegistryError::transient("down"), RegistryError::permanent("broken")] {
        let is_transient = failure.is_transient();
        source.fail(Some(failure));
        for _ in 0..2 {
            assert_eq!(registry.find_client("app").await.unwrap_err().is_transient(), is_transient);
        }
    }
    assert_eq!(source.lookups(), 4);
    source.fail(None);
    assert!(is_known(&registry, "app").await);
}

#[tokio::test(start_paused = true)]
async fn a_known_client_is_answered_while_the_source_is_down() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    assert!(is_known(&registry, "app").await);
    source.fail(down());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(is_known(&registry, "app").await);
    assert!(registry.find_client("other").await.unwrap_err().is_transient());
    assert_eq!(registry.stats().stale_answers, 1);
    source.fail(Some(RegistryError::permanent("broken")));
    assert!(!registry.find_client("app").await.unwrap_err().is_transient());
    source.fail(down());
    tokio::time::advance(Duration::from_secs(300) - Duration::from_millis(1)).await;
    assert!(is_known(&registry, "app").await);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(registry.find_client("app").await.unwrap_err().is_transient());
    source.fail(None);
    assert!(is_known(&registry, "app").await);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_client_is_never_answered_stale() {
    for all in [false, true] {
        let source = Source::new(&["app"]);
        let registry = CachedRegistry::new(source.clone());
        assert!(is_known(&registry, "app").await);
        if all {
            registry.invalidate_all()
        } else {
            registry.invalidate("app")
        }
        source.fail(down());
        assert!(registry.find_client("app").await.unwrap_err().is_transient());
        assert_eq!(registry.stats().stale_answers, 0);
    }
}

#[tokio::test]
async fn an_invalidation_reaches_a_lookup_in_flight() {
    for all in [false, true] {
        let source = Source::closed(&["app"]);
        let registry = CachedRegistry::new(source.clone());
        let waiting = tokio::spawn(registry.find_client("app"));
        source.until_lookups(1).await;
        // The source has read the client, and then it is revoked.
        source.0.clients.revoke("app").unwrap();
        if all {
            registry.invalidate_all()
        } else {
            registry.invalidate("app")
        }
        source.open();
        assert_eq!(in_time(waiting).await.unwrap().unwrap().unwrap().status(), ClientStatus::Revoked);
        assert_eq!(source.lookups(), 2);
        assert_eq!(registry.find_client("app").await.unwrap().unwrap().status(), ClientStatus::Revoked);
        assert_eq!(source.lookups(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_reaches_a_failing_lookup_in_flight() {
    let source = Source::closed(&["app"]);
    source.0.gate.add_permits(1);
    let registry = CachedRegistry::new(source.clone());
    assert!(is_known(&registry, "app").await);
    tokio::time::advance(Duration::from_secs(61)).await;
    source.fail(down());
    let waiting = tokio::spawn(registry.find_client("app"));
    source.until_lookups(2).await;
    registry.invalidate("app");
    source.open();
    assert!(in_time(waiting).await.unwrap().unwrap_err().is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_removed_client_is_not_answered_stale() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    assert!(is_known(&registry, "app").await);
    source.0.clients.remove("app").unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!is_known(&registry, "app").await);
    source.fail(down());
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(registry.find_client("app").await.unwrap_err().is_transient());
}

#[tokio::test]
async fn too_many_lookups_at_once_are_refused() {
    let source = Source::closed(&["app", "known"]);
    let registry = CachedRegistry::with_config(source.clone(), CacheConfig::new().max_concurrent_lookups(3));
    source.0.gate.add_permits(1);
    assert!(is_known(&registry, "known").await);
    let waiting: Vec<_> = ["1", "2", "app"].map(|id| tokio::spawn(registry.find_client(id))).into();
    source.until_lookups(4).await;
    let refused = registry.find_client("4").now_or_never().unwrap().unwrap_err();
    assert!(refused.is_transient());
    assert_eq!(registry.stats().refused_lookups, 1);
    assert!(registry.find_client("known").now_or_never().unwrap().unwrap().is_some());
    let joined = tokio::spawn(registry.find_client("app"));
    tokio::task::yield_now().await;
    source.open();
    assert!(in_time(join_all(waiting)).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(in_time(joined).await.unwrap().unwrap().is_some());
    assert!(!is_known(&registry, "4").await);
    assert_eq!(source.lookups(), 5);
}

/// A flood of unknown ids uses up all permits. A refused lookup must not count as an outage of the source.
#[tokio::test(start_paused = true)]
async fn a_flood_of_lookups_does_not_revive_a_removed_client() {
    for invalidated in [false, true] {
        let source = Source::new(&["removed", "kept"]);
        let registry = CachedRegistry::with_config(source.clone(), CacheConfig::new().max_concurrent_lookups(2));
        for id in ["removed", "kept"] {
            assert!(is_known(&registry, id).await);
        }
        source.0.clients.remove("removed").unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
        if invalidated {
            registry.invalidate_all();
        }
        source.close();
        let flood: Vec<_> = ["1", "2"].map(|id| tokio::spawn(registry.find_client(id))).into();
        source.until_lookups(4).await;
        assert!(registry.find_client("3").now_or_never().unwrap().is_err());
        // Known clients are looked up beyond the limit.
        let removed = tokio::spawn(registry.find_client("removed"));
        let kept = tokio::spawn(registry.find_client("kept"));
        source.until_lookups(6).await;
        source.open();
        assert!(removed.await.unwrap().unwrap().is_none());
        assert!(kept.await.unwrap().unwrap().is_some());
        assert_eq!(registry.stats().stale_answers, 0);
        in_time(join_all(flood)).await;
    }
}

#[tokio::test]
async fn the_cache_is_bounded_by_the_size_of_clients() {
    let large = |id: String| {
        let contacts: Vec<&str> = vec![""; 1_000];
        Client::builder(id).metadata("contacts", contacts).build().unwrap()
    };
    let source = tower_oauth_client_validation::registry_fn(move |id: String| {
        let client = if id.starts_with("large") { large(id) } else { client(&id) };
        std::future::ready(Ok(Some(Arc::new(client))))
    });
    let registry = CachedRegistry::with_config(source, CacheConfig::new().max_bytes(500_000));
    let kept = async |kind: &str| {
        for round in 0..2 {
            for n in 0..100 {
                assert!(registry.find_client(&format!("{kind}-{n}")).await.unwrap().is_some(), "{round}");
            }
        }
        let before = registry.stats().hits;
        for n in 0..100 {
            registry.find_client(&format!("{kind}-{n}")).await.unwrap();
        }
        registry.stats().hits - before
    };
    assert_eq!(kept("small").await, 100);
    // Each takes more than 20 KB. The bound is kept in batches.
    assert!(kept("large").await < 50);
}

#[tokio::test(start_paused = true)]
async fn the_ttl_counts_from_the_moment_the_source_was_asked() {
    let source = Source::closed(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    let waiting = tokio::spawn(registry.find_client("app"));
    source.until_lookups(1).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    source.open();
    assert!(in_time(waiting).await.unwrap().unwrap().is_some());
    assert!(is_known(&registry, "app").await);
    assert_eq!(source.lookups(), 2);
}

#[tokio::test]
async fn long_unknown_ids_are_not_kept() {
    let source = Source::new(&[]);
    let registry = CachedRegistry::new(source.clone());
    for (length, lookups) in [(256, 1), (257, 3)] {
        for _ in 0..2 {
            assert!(!is_known(&registry, &"x".repeat(length)).await);
        }
        assert_eq!(source.lookups(), lookups, "{length}");
    }
}

#[tokio::test]
async fn a_cache_for_no_clients_keeps_none() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::with_config(source.clone(), CacheConfig::new().max_clients(0));
    for lookups in 1..4 {
        assert!(is_known(&registry, "app").await);
        assert_eq!(source.lookups(), lookups);
    }
}

#[tokio::test]
async fn unknown_ids_evict_no_client() {
    let ids: Vec<_> = (0..10).map(|n| format!("client-{n}")).collect();
    let source = Source::new(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let config = CacheConfig::new().max_clients(10).max_unknown_ids(100);
    let registry = CachedRegistry::with_config(source.clone(), config);
    for id in &ids {
        assert!(is_known(&registry, id).await);
    }
    for n in 0..10_000 {
        assert!(!is_known(&registry, &format!("random-{n}")).await);
    }
    source.fail(down());
    for id in &ids {
        assert!(registry.find_client(id).now_or_never().unwrap().unwrap().is_some());
    }
    let mut remembered = 0;
    for n in 0..10_000 {
        remembered += usize::from(registry.find_client(&format!("random-{n}")).await.is_ok());
    }
    // The bound is kept in batches.
    assert!(remembered < 1_000, "{remembered}");
}

#[tokio::test]
async fn a_source_that_panics_fails() {
    let calls = Arc::new(AtomicUsize::new(0));
    let registry = CachedRegistry::new(tower_oauth_client_validation::registry_fn(move |id: String| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(call > 0, "the first lookup panics");
            Ok(Some(Arc::new(client(&id))))
        }
    }));
    assert!(!registry.find_client("app").await.unwrap_err().is_transient());
    assert!(registry.find_client("app").await.unwrap().is_some());
}

#[tokio::test]
async fn writes_through_the_cache_are_seen_at_once() {
    let registry = CachedRegistry::new(MemoryRegistry::new());
    assert!(registry.find_client("app").await.unwrap().is_none());
    registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    assert!(registry.find_client("app").await.unwrap().is_some());
    registry.replace(client("app").to_builder().name("new").build().unwrap()).await.unwrap();
    assert_eq!(registry.find_client("app").await.unwrap().unwrap().name(), Some("new"));
    drop(registry.revoke("app"));
    let is_revoked = async || registry.find_client("app").await.unwrap().unwrap().status() == ClientStatus::Revoked;
    eventually(async || is_revoked().await.then_some(())).await;
    registry.remove("app").await.unwrap();
    assert!(registry.find_client("app").await.unwrap().is_none());
}

#[tokio::test]
async fn changes_are_followed() {
    let source = Source::new(&["a", "b"]);
    let registry = CachedRegistry::new(source.clone());
    let ask_both = || async {
        assert!(is_known(&registry, "a").await);
        assert!(is_known(&registry, "b").await);
        source.lookups()
    };
    assert_eq!(ask_both().await, 2);
    registry.follow(futures::stream::iter([Change::Changed("a".to_owned())])).await;
    assert_eq!(ask_both().await, 3);
    registry.follow(futures::stream::iter([Change::Reset])).await;
    assert_eq!(ask_both().await, 5);
}

#[tokio::test]
async fn evicted_registrations_do_not_evict_other_clients() {
    let memory = MemoryRegistry::new();
    let registry = CachedRegistry::new(memory.clone());
    registry.insert(client("app"), ClientOrigin::Configured).await.unwrap();
    assert!(registry.find_client("app").await.unwrap().is_some());
    let lookups = registry.stats().source_lookups;
    let policy = RegistrationPolicy::new().max_registrations(3);
    let service = RegistrationService::new(registry.clone(), "https://as.example/register", policy).unwrap();
    for _ in 0..20 {
        let body = r#"{"redirect_uris": ["http://127.0.0.1/"], "token_endpoint_auth_method": "none"}"#;
        let request = http::Request::post("/register").header("content-type", "application/json");
        let request = request.body(http_body_util::Full::<bytes::Bytes>::from(body)).unwrap();
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 201);
        assert!(registry.find_client("app").now_or_never().unwrap().unwrap().is_some());
    }
    assert_eq!(memory.len(), 4);
    assert_eq!(registry.stats().source_lookups, lookups);
}

#[tokio::test]
async fn an_evicted_registration_is_forgotten() {
    let registry = CachedRegistry::new(MemoryRegistry::new());
    for id in ["old", "used"] {
        registry.insert(client(id), ClientOrigin::Registered).await.unwrap();
        assert!(registry.find_client(id).await.unwrap().is_some());
    }
    registry.touch("used", SystemTime::now()).await.unwrap();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    assert_eq!(registry.remove_unused(ClientOrigin::Registered, tomorrow, u64::MAX).await.unwrap(), ["old"]);
    assert!(registry.find_client("old").await.unwrap().is_none());
    assert!(registry.find_client("used").now_or_never().unwrap().unwrap().is_some());
}

/// A store whose answers get lost: it does what it is asked for, and fails.
#[derive(Clone, Default)]
struct LosesAnswers(MemoryRegistry);

impl LosesAnswers {
    fn lose<'a, T: Send + 'a, E: From<RegistryError> + Send + 'a>(
        done: BoxFuture<'a, Result<T, E>>,
    ) -> BoxFuture<'a, Result<T, E>> {
        done.map(|_| Err(RegistryError::transient("the answer was lost").into())).boxed()
    }
}

impl RegistrySource for LosesAnswers {
    type Future = <MemoryRegistry as RegistrySource>::Future;

    fn find_client(&self, client_id: &str) -> Self::Future {
        self.0.find_client(client_id)
    }
}

impl RegistryStore for LosesAnswers {
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        Self::lose(RegistryStore::insert(&self.0, client, origin))
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        Self::lose(RegistryStore::replace(&self.0, client))
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        Self::lose(self.0.replace_unchanged(known, client))
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Self::lose(RegistryStore::revoke(&self.0, client_id))
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Self::lose(RegistryStore::remove(&self.0, client_id))
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        Self::lose(self.0.remove_unchanged(known))
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.touch(client_id, at)
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        self.0.record(client_id)
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        RegistryStore::list(&self.0, after, limit)
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        self.0.count(origin)
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        most: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        Self::lose(self.0.remove_unused(origin, created_before, most))
    }
}

/// A write may fail after the change was made.
#[tokio::test]
async fn a_failed_write_invalidates() {
    let name = |client: Option<Arc<Client>>| client.and_then(|client| client.name().map(str::to_owned));
    let named = |name: &str| client("app").to_builder().name(name).build().unwrap();
    let store = LosesAnswers::default();
    let registry = CachedRegistry::new(store.clone());
    let find = async || registry.find_client("app").await.unwrap();

    assert!(find().await.is_none());
    assert!(registry.insert(named("first"), ClientOrigin::Registered).await.is_err());
    let first = find().await.unwrap();
    assert!(registry.replace(named("second")).await.is_err());
    assert_eq!(name(find().await), Some("second".to_owned()));
    let second = find().await.unwrap();
    assert!(registry.replace_unchanged(&second, named("third")).await.is_err());
    assert_eq!(name(find().await), Some("third".to_owned()));
    assert!(registry.revoke("app").await.is_err());
    assert_eq!(find().await.unwrap().status(), ClientStatus::Revoked);
    assert!(registry.remove("app").await.is_err());
    assert!(find().await.is_none());

    store.0.insert((*first).clone()).unwrap();
    assert!(find().await.is_none(), "the cache does not know of changes made elsewhere");
    registry.invalidate("app");
    assert!(registry.remove_unchanged(&find().await.unwrap()).await.is_err());
    assert!(find().await.is_none());
}

#[tokio::test]
async fn removals_of_idle_clients_and_of_one_source_invalidate() {
    let registry = CachedRegistry::new(MemoryRegistry::new());
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let is_known = async |id: &str| registry.find_client(id).await.unwrap().is_some();
    for id in ["idle", "unused", "kept"] {
        let client = client(id).to_builder().metadata("registration_source", id).build().unwrap();
        registry.insert(client, ClientOrigin::Registered).await.unwrap();
        assert!(is_known(id).await);
    }
    registry.touch("idle", SystemTime::now()).await.unwrap();
    assert_eq!(registry.count_by_source(ClientOrigin::Registered, "unused").await.unwrap(), 1);
    let unused = registry.remove_unused_by_source(ClientOrigin::Registered, "unused", tomorrow, 9).await.unwrap();
    let idle = registry.remove_idle(ClientOrigin::Registered, None, tomorrow, 9).await.unwrap();
    assert_eq!((unused, idle), (vec!["unused".to_owned()], vec!["idle".to_owned()]));
    for (id, expected) in [("idle", false), ("unused", false), ("kept", true)] {
        assert_eq!(is_known(id).await, expected, "{id}");
    }
}

/// Nobody knows which clients a failed removal removed.
#[tokio::test]
async fn a_failed_removal_of_unused_clients_invalidates_all() {
    let registry = CachedRegistry::new(LosesAnswers::default());
    let _ = registry.insert(client("app"), ClientOrigin::Registered).await;
    assert!(registry.find_client("app").await.unwrap().is_some());
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    assert!(registry.remove_unused(ClientOrigin::Registered, tomorrow, 1).await.is_err());
    assert!(registry.find_client("app").await.unwrap().is_none());
}
