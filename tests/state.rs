//! The contract of state stores, and their failures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tower_oauth_client_validation::{
    MemoryStateStore, PostgresStateStore, RedisStateStore, SqlConfig, SqliteStateStore, StateBounds, StateError,
    StateErrorKind, StateStore,
};

use crate::postgres_cluster::Cluster;
use crate::redis_server::RedisServer;
use crate::wait::{eventually, in_time};

/// Longer than a test takes.
const HOUR: Duration = Duration::from_secs(3600);
/// So short that a test waits for the end.
const MOMENT: Duration = Duration::from_millis(20);

pub(crate) type Store = Arc<dyn StateStore>;

/// A test of each promise; `$open` gives two nodes of an empty store and what must live as long, or `None` where it
/// cannot be had.
macro_rules! contract {
    ($module:ident, $open:path) => {
        mod $module {
            crate::state::contract!(@tests $open;
                a_key_is_put_once
                a_taken_value_is_absent
                an_expired_value_is_absent
                a_key_can_be_put_again_after_its_value_expired
                a_value_is_taken_on_another_node
                keys_and_values_hold_any_content
                long_keys_and_values_are_refused
                of_racing_puts_one_wins
                of_racing_puts_over_an_expired_value_one_wins
                of_racing_takes_one_wins
                the_values_of_an_owner_are_bounded
                the_values_of_a_kind_are_bounded
                expired_values_are_not_counted
                a_full_store_says_that_a_key_is_taken
                racing_puts_keep_the_bound_of_an_owner
                prefixes_share_no_keys_and_no_bounds
            );
        }
    };
    (@tests $open:path; $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                if let Some((nodes, _keep)) = $open().await {
                    crate::wait::in_time(crate::state::$promise(nodes)).await;
                }
            }
        )*
    };
}
use contract;

pub(crate) async fn memory() -> Option<([Store; 2], ())> {
    let store = MemoryStateStore::new();
    Some(([Arc::new(store.clone()), Arc::new(store)], ()))
}

fn patient() -> SqlConfig {
    SqlConfig::default().acquire_timeout(Duration::from_secs(20)).statement_timeout(Duration::from_secs(20))
}

async fn open_sqlite(folder: &tempfile::TempDir) -> SqliteStateStore {
    let url = format!("sqlite://{}", folder.path().join("state.sqlite").display());
    let store = SqliteStateStore::connect_with(&url, patient()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

pub(crate) async fn sqlite() -> Option<([Store; 2], tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    Some(([Arc::new(open_sqlite(&folder).await), Arc::new(open_sqlite(&folder).await)], folder))
}

async fn open_postgres(url: &str) -> PostgresStateStore {
    let store = PostgresStateStore::connect_with(url, patient()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

pub(crate) async fn postgres() -> Option<([Store; 2], ())> {
    let url = Cluster::shared()?.database().await;
    Some(([Arc::new(open_postgres(&url).await), Arc::new(open_postgres(&url).await)], ()))
}

/// The tests share a server, so each has a prefix.
pub(crate) async fn redis() -> Option<([Store; 2], ())> {
    static TESTS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let server = RedisServer::shared()?;
    let prefix = TESTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
    let node = async || {
        let store = RedisStateStore::connect(&server.url()).await.unwrap().timeout(Duration::from_secs(20));
        Arc::new(store.prefixed(prefix.clone())) as Store
    };
    Some(([node().await, node().await], ()))
}

async fn prefixed() -> Option<([Store; 2], ())> {
    let store = MemoryStateStore::new().prefixed("tenant");
    Some(([Arc::new(store.clone()), Arc::new(store)], ()))
}

contract!(in_memory, super::memory);
contract!(in_sqlite, super::sqlite);
contract!(in_postgres, super::postgres);
contract!(in_redis, super::redis);
contract!(behind_a_prefix, super::prefixed);

fn kind(outcome: &Result<bool, StateError>) -> Option<StateErrorKind> {
    outcome.as_ref().err().map(StateError::kind)
}

async fn until_gone(store: &Store, key: &str) {
    eventually(async || store.get(key).await.unwrap().is_none().then_some(())).await;
}

async fn a_key_is_put_once([store, other]: [Store; 2]) {
    assert_eq!(store.get("key").await.unwrap(), None);
    assert!(store.put_new("key", b"first", HOUR).await.unwrap());
    for store in [&store, &other] {
        assert!(!store.put_new("key", b"second", HOUR).await.unwrap());
        assert_eq!(store.get("key").await.unwrap().as_deref(), Some(&b"first"[..]));
    }
    assert!(store.put_new("another key", b"", HOUR).await.unwrap());
}

async fn a_taken_value_is_absent([store, _]: [Store; 2]) {
    assert_eq!(store.take("key").await.unwrap(), None);
    store.put_new("key", b"value", HOUR).await.unwrap();
    assert_eq!(store.take("key").await.unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(store.get("key").await.unwrap(), None);
    assert_eq!(store.take("key").await.unwrap(), None);
    assert!(store.put_new("key", b"again", HOUR).await.unwrap());
}

async fn an_expired_value_is_absent([store, _]: [Store; 2]) {
    assert!(store.put_new("short", b"", MOMENT).await.unwrap());
    assert!(store.put_new("none", b"", Duration::ZERO).await.unwrap());
    assert!(store.put_new("long", b"", Duration::MAX).await.unwrap());
    for key in ["short", "none"] {
        until_gone(&store, key).await;
        assert_eq!(store.take(key).await.unwrap(), None);
    }
    assert!(store.get("long").await.unwrap().is_some());
}

async fn a_key_can_be_put_again_after_its_value_expired([store, _]: [Store; 2]) {
    store.put_new("key", b"first", MOMENT).await.unwrap();
    eventually(async || store.put_new("key", b"second", HOUR).await.unwrap().then_some(())).await;
    assert_eq!(store.take("key").await.unwrap().as_deref(), Some(&b"second"[..]));
}

async fn a_value_is_taken_on_another_node([store, other]: [Store; 2]) {
    let bounds = StateBounds::new("kind", "owner").max_per_owner(1);
    store.put_new_bounded("key", b"value", HOUR, bounds).await.unwrap();
    assert_eq!(other.take("key").await.unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(store.take("key").await.unwrap(), None);
}

async fn keys_and_values_hold_any_content([store, _]: [Store; 2]) {
    let value: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    let keys = ["", " ", "\0", "%", "a\nb", "A", "a", "ä", "🦀", "'; DROP TABLE oauth_state; --", &"x".repeat(400)];
    for key in keys {
        assert!(store.put_new(key, &value, HOUR).await.unwrap(), "{key:?}");
    }
    for key in keys {
        let bounds = StateBounds::new(key.get(..100).unwrap_or(key), key);
        assert!(store.put_new_bounded(&format!("bounded {key}"), key.as_bytes(), HOUR, bounds).await.unwrap());
    }
    for key in keys {
        assert_eq!(store.take(key).await.unwrap().as_ref(), Some(&value), "{key:?}");
        assert_eq!(store.take(&format!("bounded {key}")).await.unwrap().as_deref(), Some(key.as_bytes()));
    }
}

async fn long_keys_and_values_are_refused([store, _]: [Store; 2]) {
    let key = "x".repeat(513);
    assert_eq!(kind(&store.put_new(&key, b"", HOUR).await), Some(StateErrorKind::TooLarge));
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.take(&key).await.unwrap(), None);
    let too_long = vec![0; 128 * 1024 + 1];
    assert_eq!(kind(&store.put_new("key", &too_long, HOUR).await), Some(StateErrorKind::TooLarge));
    for (kind_bytes, owner_bytes) in [(257, 1), (1, 2049)] {
        let (k, owner) = ("k".repeat(kind_bytes), "o".repeat(owner_bytes));
        let refused = store.put_new_bounded("key", b"", HOUR, StateBounds::new(&k, &owner)).await;
        assert_eq!(kind(&refused), Some(StateErrorKind::TooLarge));
    }
    assert_eq!(store.get("key").await.unwrap(), None);

    let (key, longest) = ("x".repeat(500), &too_long[1..]);
    let (k, owner) = ("k".repeat(240), "o".repeat(2048));
    assert!(store.put_new_bounded(&key, longest, HOUR, StateBounds::new(&k, &owner)).await.unwrap());
    assert_eq!(store.take(&key).await.unwrap().as_deref(), Some(longest));
}

/// Runs the same on both nodes, often at once, and returns the outcomes.
async fn race<T: Send + 'static>(nodes: &[Store; 2], racers: usize, run: impl AsyncRace<T>) -> Vec<T> {
    let tasks: Vec<_> =
        (0..racers).map(|racer| tokio::spawn(run.start(Arc::clone(&nodes[racer % 2]), racer))).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

trait AsyncRace<T> {
    fn start(&self, store: Store, racer: usize) -> futures::future::BoxFuture<'static, T>;
}

impl<T, F: Future<Output = T> + Send + 'static, R: Fn(Store, usize) -> F> AsyncRace<T> for R {
    fn start(&self, store: Store, racer: usize) -> futures::future::BoxFuture<'static, T> {
        Box::pin(self(store, racer))
    }
}

async fn of_racing_puts_one_wins(nodes: [Store; 2]) {
    for round in 0..10 {
        let put = move |store: Store, racer: usize| async move {
            store.put_new(&round.to_string(), racer.to_string().as_bytes(), HOUR).await.unwrap()
        };
        let outcomes = race(&nodes, 16, put).await;
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1, "{outcomes:?}");
        let winner = outcomes.iter().position(|won| *won).unwrap();
        let stored = nodes[0].get(&round.to_string()).await.unwrap().unwrap();
        assert_eq!(stored, winner.to_string().as_bytes());
    }
}

async fn of_racing_puts_over_an_expired_value_one_wins(nodes: [Store; 2]) {
    for round in 0..10 {
        let key = round.to_string();
        nodes[0].put_new(&key, b"", MOMENT).await.unwrap();
        until_gone(&nodes[0], &key).await;
        let put = move |store: Store, _| async move { store.put_new(&round.to_string(), b"", HOUR).await.unwrap() };
        let outcomes = race(&nodes, 16, put).await;
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1, "{outcomes:?}");
    }
}

async fn of_racing_takes_one_wins(nodes: [Store; 2]) {
    let bounds = StateBounds::new("kind", "owner").max_per_owner(2);
    for round in 0..10 {
        assert!(nodes[0].put_new_bounded(&round.to_string(), b"value", HOUR, bounds).await.unwrap());
        let take = move |store: Store, _| async move { store.take(&round.to_string()).await.unwrap() };
        let outcomes = race(&nodes, 16, take).await;
        let taken: Vec<_> = outcomes.into_iter().flatten().collect();
        assert_eq!(taken, [b"value"]);
    }
}

async fn the_values_of_an_owner_are_bounded([store, other]: [Store; 2]) {
    let bounds = |owner| StateBounds::new("kind", owner).max_per_owner(3);
    for key in ["1", "2", "3"] {
        assert!(store.put_new_bounded(key, b"", HOUR, bounds("one")).await.unwrap());
    }
    for store in [&store, &other] {
        assert_eq!(kind(&store.put_new_bounded("4", b"", HOUR, bounds("one")).await), Some(StateErrorKind::Full));
        assert_eq!(store.get("4").await.unwrap(), None);
    }
    // Neither another owner nor another kind is concerned, even if their texts joined are the same.
    assert!(other.put_new_bounded("other owner", b"", HOUR, bounds("two")).await.unwrap());
    let same_text = StateBounds::new("kindo", "ne").max_per_owner(3);
    assert!(other.put_new_bounded("other kind", b"", HOUR, same_text).await.unwrap());
    assert!(store.put_new("unbounded", b"", HOUR).await.unwrap());

    other.take("2").await.unwrap().unwrap();
    eventually(async || store.put_new_bounded("4", b"", HOUR, bounds("one")).await.ok()).await;
    assert_eq!(kind(&store.put_new_bounded("5", b"", HOUR, bounds("one")).await), Some(StateErrorKind::Full));
}

async fn the_values_of_a_kind_are_bounded([store, other]: [Store; 2]) {
    let bounds = |owner| StateBounds::new("kind", owner).max_in_all(3);
    for key in ["1", "2", "3"] {
        assert!(store.put_new_bounded(key, b"", HOUR, bounds(key)).await.unwrap());
    }
    for store in [&store, &other] {
        assert_eq!(kind(&store.put_new_bounded("4", b"", HOUR, bounds("4")).await), Some(StateErrorKind::Full));
    }
    let other_kind = StateBounds::new("other", "1").max_in_all(1);
    assert!(other.put_new_bounded("other", b"", HOUR, other_kind).await.unwrap());

    other.take("1").await.unwrap().unwrap();
    eventually(async || store.put_new_bounded("4", b"", HOUR, bounds("4")).await.ok()).await;
}

async fn expired_values_are_not_counted([store, _]: [Store; 2]) {
    let bounds = StateBounds::new("kind", "owner").max_per_owner(2).max_in_all(2);
    for key in ["1", "2"] {
        assert!(store.put_new_bounded(key, b"", MOMENT, bounds).await.unwrap());
    }
    eventually(async || store.put_new_bounded("3", b"", HOUR, bounds).await.ok()).await;
    eventually(async || store.put_new_bounded("4", b"", HOUR, bounds).await.ok()).await;
    assert_eq!(kind(&store.put_new_bounded("5", b"", HOUR, bounds).await), Some(StateErrorKind::Full));
}

async fn a_full_store_says_that_a_key_is_taken([store, _]: [Store; 2]) {
    let bounds = StateBounds::new("kind", "owner").max_per_owner(1);
    assert!(store.put_new_bounded("key", b"", HOUR, bounds).await.unwrap());
    assert!(!store.put_new_bounded("key", b"", HOUR, bounds).await.unwrap());
}

async fn racing_puts_keep_the_bound_of_an_owner(nodes: [Store; 2]) {
    let put = |store: Store, racer: usize| async move {
        let bounds = StateBounds::new("kind", "owner").max_per_owner(8);
        match store.put_new_bounded(&racer.to_string(), b"", HOUR, bounds).await {
            Ok(stored) => stored,
            Err(error) => {
                assert_eq!(error.kind(), StateErrorKind::Full);
                false
            }
        }
    };
    let stored = race(&nodes, 60, put).await.into_iter().filter(|stored| *stored).count();
    // PostgreSQL has 20 connections in this test, which do not see each other's values before they are committed.
    assert!((8..8 + 20).contains(&stored), "{stored}");
}

async fn prefixes_share_no_keys_and_no_bounds([store, _]: [Store; 2]) {
    let prefixed = |prefix: &str| store.clone().prefixed(prefix);
    // Joined with the key "bc", "a" gives the same text as "ab" with "c".
    let (one, other) = (prefixed("a"), prefixed("ab"));
    let bounds = StateBounds::new("kind", "owner").max_per_owner(1).max_in_all(1);
    assert!(one.put_new_bounded("bc", b"one", HOUR, bounds).await.unwrap());
    assert!(other.put_new_bounded("c", b"other", HOUR, bounds).await.unwrap());
    assert_eq!(kind(&one.put_new_bounded("second", b"", HOUR, bounds).await), Some(StateErrorKind::Full));
    assert_eq!(store.get("bc").await.unwrap(), None);
    assert_eq!(prefixed("a").take("bc").await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(other.take("c").await.unwrap().as_deref(), Some(&b"other"[..]));
}

mod memory_store {
    use super::*;

    #[tokio::test]
    async fn values_are_bounded_by_their_number() {
        let store = MemoryStateStore::new().max_entries(2);
        for key in ["1", "2"] {
            assert!(store.put_new(key, b"", HOUR).await.unwrap());
        }
        assert_eq!(kind(&store.put_new("3", b"", HOUR).await), Some(StateErrorKind::Full));
        assert!(!store.put_new("1", b"", HOUR).await.unwrap());
        store.take("1").await.unwrap().unwrap();
        assert!(store.put_new("3", b"", HOUR).await.unwrap());
    }

    #[tokio::test]
    async fn values_are_bounded_by_their_bytes() {
        let store = MemoryStateStore::new().max_bytes(10_000);
        let value = [0; 4000];
        for key in ["1", "2"] {
            assert!(store.put_new(key, &value, HOUR).await.unwrap());
        }
        assert_eq!(kind(&store.put_new("3", &value, HOUR).await), Some(StateErrorKind::Full));
        assert!(store.put_new("3", b"", HOUR).await.unwrap());
        store.take("1").await.unwrap().unwrap();
        assert!(store.put_new("4", &value, HOUR).await.unwrap());
        // Small values cost more than their bytes.
        let store = MemoryStateStore::new().max_bytes(10_000);
        let mut stored = 0;
        while store.put_new(&stored.to_string(), b"", HOUR).await.is_ok() {
            stored += 1;
        }
        assert!((30..100).contains(&stored), "{stored}");
    }

    #[tokio::test]
    async fn the_bytes_of_an_owner_are_bounded() {
        let store = MemoryStateStore::new().max_bytes_per_owner(5000);
        let value = [0; 4000];
        let bounds = |owner| StateBounds::new("kind", owner);
        assert!(store.put_new_bounded("1", &value, HOUR, bounds("one")).await.unwrap());
        assert_eq!(kind(&store.put_new_bounded("2", &value, HOUR, bounds("one")).await), Some(StateErrorKind::Full));
        assert!(store.put_new_bounded("2", &value, HOUR, bounds("other")).await.unwrap());
        store.take("1").await.unwrap().unwrap();
        assert!(store.put_new_bounded("3", &value, HOUR, bounds("one")).await.unwrap());
    }

    #[tokio::test]
    async fn the_default_limits_are_the_documented_ones() {
        let store = MemoryStateStore::new();
        assert_eq!(
            format!("{store:?}"),
            "MemoryStateStore { max_entries: 200000, max_bytes: 67108864, max_bytes_per_owner: 8388608, .. }"
        );
    }
}

mod failures {
    use super::*;

    #[test]
    fn errors_say_what_to_do_and_keep_their_cause() {
        use std::error::Error;
        let errors = [
            (StateError::unavailable("x"), StateErrorKind::Unavailable, true, true),
            (StateError::failed("x"), StateErrorKind::Failed, false, true),
            (StateError::full(), StateErrorKind::Full, true, false),
            (StateError::too_large("x"), StateErrorKind::TooLarge, false, true),
        ];
        for (error, kind, is_transient, has_source) in errors {
            assert_eq!(
                (error.kind(), error.is_transient(), error.source().is_some()),
                (kind, is_transient, has_source)
            );
        }
    }

    #[tokio::test]
    async fn a_malformed_address_is_a_permanent_failure() {
        let errors = [
            SqliteStateStore::connect("nothing://").await.unwrap_err(),
            PostgresStateStore::connect("nothing://").await.unwrap_err(),
            RedisStateStore::connect("nothing://").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StateErrorKind::Failed, "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_transient() {
        let nobody_listens = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = SqlConfig::default().acquire_timeout(Duration::from_millis(50));
        let errors = [
            PostgresStateStore::connect_with(&format!("postgres://oauth@{nobody_listens}/oauth"), config).await.err(),
            RedisStateStore::connect(&format!("redis://{nobody_listens}")).await.err(),
        ];
        for error in errors {
            assert_eq!(error.unwrap().kind(), StateErrorKind::Unavailable);
        }
    }

    #[tokio::test]
    async fn a_missing_table_is_a_permanent_failure() {
        let store = SqliteStateStore::connect("sqlite::memory:").await.unwrap();
        assert_eq!(store.get("key").await.unwrap_err().kind(), StateErrorKind::Failed);
        assert_eq!(kind(&store.put_new("key", b"", HOUR).await), Some(StateErrorKind::Failed));
    }

    #[tokio::test]
    async fn values_in_a_file_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_sqlite(&folder).await;
        assert!(store.put_new("used", b"", HOUR).await.unwrap());
        store.pool().close().await;
        assert_eq!(kind(&store.put_new("used", b"", HOUR).await), Some(StateErrorKind::Unavailable));
        assert!(!open_sqlite(&folder).await.put_new("used", b"", HOUR).await.unwrap());
    }

    #[tokio::test]
    async fn expired_rows_are_removed_while_new_ones_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let mut stores = vec![Rows::Sqlite(open_sqlite(&folder).await)];
        if let Some(cluster) = Cluster::shared() {
            stores.push(Rows::Postgres(open_postgres(&cluster.database().await).await));
        }
        for store in stores {
            for key in 0..70 {
                assert!(store.store().put_new(&format!("old {key}"), b"", MOMENT).await.unwrap());
            }
            assert!(store.store().put_new("live", b"", HOUR).await.unwrap());
            // More of them, until the old ones are gone.
            let key = std::sync::atomic::AtomicU32::new(0);
            eventually(async || {
                let key = key.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                store.store().put_new(&format!("new {key}"), b"", HOUR).await.unwrap();
                (store.count("old ").await == 0).then_some(())
            })
            .await;
            assert!(store.store().get("live").await.unwrap().is_some());
            assert!(store.store().get("new 0").await.unwrap().is_some());
        }
    }

    enum Rows {
        Sqlite(SqliteStateStore),
        Postgres(PostgresStateStore),
    }

    impl Rows {
        fn store(&self) -> &dyn StateStore {
            match self {
                Self::Sqlite(store) => store,
                Self::Postgres(store) => store,
            }
        }

        async fn count(&self, prefix: &str) -> i64 {
            let sql = "SELECT COUNT(*) FROM oauth_state WHERE substr(key, 1, 4) = $1";
            let prefix = prefix.as_bytes();
            match self {
                Self::Sqlite(store) => sqlx::query_scalar(sql).bind(prefix).fetch_one(store.pool()).await.unwrap(),
                Self::Postgres(store) => sqlx::query_scalar(sql).bind(prefix).fetch_one(store.pool()).await.unwrap(),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_postgres_accepts_nothing_twice() {
        let Some(cluster) = Cluster::new() else { return };
        let url = cluster.database().await;
        let config = SqlConfig::default().acquire_timeout(Duration::from_millis(500));
        let store = PostgresStateStore::connect_with(&url, config).await.unwrap();
        store.migrate().await.unwrap();
        accepts_nothing_twice(&store, || cluster.kill(), || cluster.start()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_redis_accepts_nothing_twice() {
        let Some(server) = RedisServer::new() else { return };
        let store = RedisStateStore::connect(&server.url()).await.unwrap().timeout(Duration::from_millis(500));
        accepts_nothing_twice(&store, || server.kill(), || server.start()).await;
    }

    /// Each fact is claimed by several callers, again and again, while the server is killed and started.
    async fn accepts_nothing_twice(store: &(impl StateStore + Clone + 'static), kill: impl Fn(), start: impl Fn()) {
        assert!(store.put_new("used", b"", HOUR).await.unwrap());
        assert!(store.put_new("pushed", b"once", HOUR).await.unwrap());
        for round in 0..3 {
            let (told, mut progress) = tokio::sync::mpsc::unbounded_channel();
            let restarted = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let claims: Vec<_> = (0..4)
                .map(|_| {
                    let (store, told, restarted) = (store.clone(), told.clone(), restarted.clone());
                    tokio::spawn(async move {
                        let mut claimed = BTreeSet::new();
                        let mut left: Option<u32> = None;
                        // Until the server has failed, and a little longer. Not every caller meets the failure.
                        for fact in 0.. {
                            if left.is_none() && restarted.load(std::sync::atomic::Ordering::Relaxed) {
                                left = Some(20);
                            }
                            if left == Some(0) {
                                break;
                            }
                            let key = format!("{round}-{fact}");
                            let is_new = loop {
                                match in_time(store.put_new(&key, b"", HOUR)).await {
                                    Ok(is_new) => break is_new,
                                    Err(error) => {
                                        assert_eq!(error.kind(), StateErrorKind::Unavailable, "{error:?}");
                                        left = Some(20);
                                        let _ = told.send(Err(()));
                                    }
                                }
                                tokio::time::sleep(MOMENT).await;
                            };
                            left = left.map(|left| left - 1);
                            if is_new {
                                claimed.insert(fact);
                            }
                            let _ = told.send(Ok(()));
                        }
                        claimed
                    })
                })
                .collect();
            // In the middle of it.
            for _ in 0..40 {
                in_time(progress.recv()).await.unwrap().unwrap();
            }
            tokio::task::block_in_place(&kill);
            while in_time(progress.recv()).await.unwrap().is_ok() {}
            tokio::task::block_in_place(&start);
            restarted.store(true, std::sync::atomic::Ordering::Relaxed);
            let mut all = BTreeSet::new();
            for claim in claims {
                for fact in in_time(claim).await.unwrap() {
                    assert!(all.insert(fact), "{fact} was accepted twice");
                }
            }
            let again = eventually(async || store.put_new("used", b"", HOUR).await.ok()).await;
            assert!(!again, "it was used before the server was killed");
        }
        assert_eq!(store.take("pushed").await.unwrap().as_deref(), Some(&b"once"[..]));
        assert_eq!(store.take("pushed").await.unwrap(), None);
    }
}
