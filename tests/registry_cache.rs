//! The cache in front of a source: what it answers itself, and what it never does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt, join_all};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_oauth_client_validation::{
    CacheOptions, CachedRegistry, Change, Client, ClientOrigin, ClientStatus, MemoryRegistry, RegistrationPolicy,
    RegistrationService, RegistryError, RegistrySource, RegistryStore,
};

use crate::contract::contract;
use crate::registration::Recording;

/// A source under the test's thumb.
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
        source.0.gate.forget_permits(Semaphore::MAX_PERMITS);
        source
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
        while self.lookups() < count {
            tokio::task::yield_now().await;
        }
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
async fn a_hit_is_ready_and_asks_nobody() {
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
    assert_eq!((stats.hits, stats.misses, stats.source_lookups, stats.stale, stats.refused), (200, 2, 2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_for_their_time() {
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
    while registry.stats().misses < 5_000 {
        tokio::task::yield_now().await;
    }
    source.open();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().unwrap().id(), "app");
    }
    assert_eq!(source.lookups(), 1);
    assert_eq!(registry.stats().source_lookups, 1);
}

#[tokio::test]
async fn who_goes_away_takes_the_answer_from_nobody() {
    let source = Source::closed(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    let mut first = registry.find_client("app");
    assert!((&mut first).now_or_never().is_none());
    let second = tokio::spawn(registry.find_client("app"));
    tokio::task::yield_now().await;
    drop(first);
    source.open();
    assert!(second.await.unwrap().unwrap().is_some());
    assert_eq!(source.lookups(), 1);
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_makes_room() {
    let source = Source::closed(&["app", "other"]);
    let registry = CachedRegistry::with_options(source.clone(), CacheOptions::default().max_concurrent_lookups(1));
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
async fn a_known_client_outlives_a_source_that_is_down_for_a_while() {
    let source = Source::new(&["app"]);
    let registry = CachedRegistry::new(source.clone());
    assert!(is_known(&registry, "app").await);
    source.fail(down());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(is_known(&registry, "app").await);
    assert!(registry.find_client("other").await.unwrap_err().is_transient());
    assert_eq!(registry.stats().stale, 1);
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
async fn what_was_invalidated_is_never_stale() {
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
        assert_eq!(registry.stats().stale, 0);
    }
}

#[tokio::test]
async fn an_invalidation_reaches_a_lookup_under_way() {
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
        assert_eq!(waiting.await.unwrap().unwrap().unwrap().status(), ClientStatus::Revoked);
        assert_eq!(source.lookups(), 2);
        assert_eq!(registry.find_client("app").await.unwrap().unwrap().status(), ClientStatus::Revoked);
        assert_eq!(source.lookups(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_reaches_a_failing_lookup_under_way() {
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
    assert!(waiting.await.unwrap().unwrap_err().is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_not_stale() {
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

#[tokio::test(start_paused = true)]
async fn too_many_lookups_at_once_are_refused() {
    let source = Source::closed(&["app", "known", "stale"]);
    let registry = CachedRegistry::with_options(source.clone(), CacheOptions::default().max_concurrent_lookups(3));
    source.0.gate.add_permits(2);
    assert!(is_known(&registry, "stale").await);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(is_known(&registry, "known").await);
    let waiting: Vec<_> = ["1", "2", "app"].map(|id| tokio::spawn(registry.find_client(id))).into();
    source.until_lookups(5).await;
    let refused = registry.find_client("4").now_or_never().unwrap().unwrap_err();
    assert!(refused.is_transient());
    assert_eq!(registry.stats().refused, 1);
    assert!(registry.find_client("known").now_or_never().unwrap().unwrap().is_some());
    assert!(registry.find_client("stale").now_or_never().unwrap().unwrap().is_some());
    let joined = tokio::spawn(registry.find_client("app"));
    tokio::task::yield_now().await;
    source.open();
    assert!(join_all(waiting).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(joined.await.unwrap().unwrap().is_some());
    assert!(!is_known(&registry, "4").await);
    assert_eq!(source.lookups(), 6);
}

#[tokio::test]
async fn unknown_ids_push_no_client_out() {
    let ids: Vec<_> = (0..10).map(|n| format!("client-{n}")).collect();
    let source = Source::new(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let options = CacheOptions::default().capacity(10).negative_capacity(100);
    let registry = CachedRegistry::with_options(source.clone(), options);
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
    while registry.find_client("app").await.unwrap().unwrap().status() != ClientStatus::Revoked {
        tokio::task::yield_now().await;
    }
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
async fn clients_that_are_evicted_push_no_other_client_out() {
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
async fn a_client_that_is_evicted_is_forgotten() {
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

/// Nobody knows whom it took away.
#[tokio::test]
async fn a_removal_that_fails_forgets_all_clients() {
    let store = Recording::default();
    let registry = CachedRegistry::new(store.clone());
    registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    assert!(registry.find_client("app").await.unwrap().is_some());
    // The removal was done, and the answer got lost.
    store.remove("app").await.unwrap();
    store.cannot_remove.store(true, Ordering::SeqCst);
    assert!(registry.remove_unused(ClientOrigin::Registered, SystemTime::now(), 1).await.is_err());
    assert!(registry.find_client("app").await.unwrap().is_none());
}
