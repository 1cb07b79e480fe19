//! What every store promises. `contract` runs over any of them, one empty store for each promise.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tower_oauth_client_validation::{
    ApplicationType, Client, ClientStatus, GrantTypes, MemoryRegistry, Origin, RegistryError, RegistryStore,
    ResponseType, ResponseTypes, StoreError,
};

type Find = Result<Option<Arc<Client>>, RegistryError>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    contract(async || MemoryRegistry::new()).await;
}

/// Runs every promise; `empty` gives a store without clients each time.
pub(crate) async fn contract<S, F>(empty: impl AsyncFn() -> S)
where
    S: RegistryStore<Future = F> + 'static,
    F: Future<Output = Find> + Send + 'static,
{
    finds_what_was_inserted(&empty().await).await;
    keeps_every_part_of_a_client(&empty().await).await;
    inserts_no_id_twice(&empty().await).await;
    replaces_for_good(&empty().await).await;
    revokes_for_good(&empty().await).await;
    removes_without_a_trace(&empty().await).await;
    takes_every_legal_id(&empty().await).await;
    tells_ids_apart(&empty().await).await;
    takes_large_metadata(&empty().await).await;
    lists_in_pages(&empty().await).await;
    records_uses(&empty().await).await;
    records_times(&empty().await).await;
    counts_registrations(&empty().await).await;
    removes_the_oldest_unused(&empty().await).await;
    one_of_many_writers_wins(Arc::new(empty().await)).await;
    many_writers_lose_nothing(Arc::new(empty().await)).await;
    readers_see_whole_clients(Arc::new(empty().await)).await;
}

fn client(id: &str) -> Client {
    Client::builder(id).redirect_uri("https://app.example/cb").scope("read").build().unwrap()
}

fn named(id: &str, name: &str) -> Client {
    client(id).to_builder().name(name).build().unwrap()
}

fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

async fn name_of<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>, id: &str) -> Option<String> {
    store.find_client(id).await.unwrap().and_then(|client| client.name().map(str::to_owned))
}

async fn ids<F: Future<Output = Find>>(
    store: &dyn RegistryStore<Future = F>,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    store.list(after, limit).await.unwrap().iter().map(|record| record.client.id().to_owned()).collect()
}

async fn finds_what_was_inserted<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert!(store.find_client("a").await.unwrap().is_none());
    assert!(store.record("a").await.unwrap().is_none());
    let inserted = store.insert(client("a"), Origin::Registered).await.unwrap();
    assert_eq!(*inserted, client("a"));
    assert_eq!(*store.find_client("a").await.unwrap().unwrap(), client("a"));
    let record = store.record("a").await.unwrap().unwrap();
    assert_eq!((&*record.client, record.origin), (&client("a"), Origin::Registered));
    assert_eq!(record.last_used_at, None);
    assert!(store.find_client("b").await.unwrap().is_none());
}

async fn keeps_every_part_of_a_client<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    let full = Client::builder("full")
        .name("Ünïcode \u{1F980} \"quoted\" <b>")
        .redirect_uri("https://app.example/cb?a=1&b=%20")
        .redirect_uri("http://localhost:*")
        .redirect_uri("com.example.app:/cb")
        .scope("openid read write")
        .default_scope("read")
        .response_types(ResponseTypes::CODE.with(ResponseType::CODE_ID_TOKEN).with(ResponseType::NONE))
        .grant_types(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::IMPLICIT).with(GrantTypes::REFRESH_TOKEN))
        .confidential()
        .application_type(ApplicationType::Native)
        .trusted(true)
        .expires_at(at(4_000_000_000))
        .metadata("contacts", json!(["a@example.org", null, {"deep": [1, 2.5, -3, true]}]))
        .metadata("zero", "")
        .build()
        .unwrap();
    let all = Client::builder("all").scope("*").build().unwrap();
    let none = Client::builder("none").scope("").build().unwrap();
    let unlisted = Client::builder("unlisted").build().unwrap();
    let disabled = Client::builder("disabled").disabled(true).build().unwrap();
    for expected in [full, all, none, unlisted, disabled] {
        store.insert(expected.clone(), Origin::Configured).await.unwrap();
        assert_eq!(*store.find_client(expected.id()).await.unwrap().unwrap(), expected);
        assert_eq!(*store.record(expected.id()).await.unwrap().unwrap().client, expected);
    }
}

async fn inserts_no_id_twice<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    for (id, origin) in [("a", Origin::Configured), ("b", Origin::Registered), ("c", Origin::Upstream)] {
        store.insert(named(id, "first"), origin).await.unwrap();
        for again in [Origin::Configured, Origin::Registered, Origin::Upstream] {
            let refused = store.insert(named(id, "second"), again).await;
            assert!(matches!(refused, Err(StoreError::AlreadyExists)), "{refused:?}");
        }
        assert_eq!(name_of(store, id).await.as_deref(), Some("first"));
        assert_eq!(store.record(id).await.unwrap().unwrap().origin, origin);
    }
}

async fn replaces_for_good<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert!(matches!(store.replace(client("a")).await, Err(StoreError::Missing)));
    assert!(store.find_client("a").await.unwrap().is_none());
    store.insert(named("a", "first"), Origin::Registered).await.unwrap();
    store.touch("a", at(1_000)).await.unwrap();
    let before = store.record("a").await.unwrap().unwrap();
    for round in 0..20 {
        let next = Client::builder("a").name(format!("{round}")).redirect_uri("https://b.example/cb").build().unwrap();
        assert_eq!(*store.replace(next.clone()).await.unwrap(), next);
        assert_eq!(*store.find_client("a").await.unwrap().unwrap(), next);
        let record = store.record("a").await.unwrap().unwrap();
        assert_eq!(*record.client, next);
        assert_eq!((record.origin, record.created_at), (Origin::Registered, before.created_at));
        assert_eq!(record.last_used_at, Some(at(1_000)));
        assert!(record.updated_at >= before.updated_at);
        let listed = store.list(None, 10).await.unwrap();
        assert_eq!((listed.len(), &*listed[0].client), (1, &next));
    }
    // A replaced client may come disabled, and back.
    store.replace(client("a").to_builder().disabled(true).build().unwrap()).await.unwrap();
    assert_eq!(store.find_client("a").await.unwrap().unwrap().status(), ClientStatus::Disabled);
    store.replace(client("a")).await.unwrap();
    assert_eq!(store.find_client("a").await.unwrap().unwrap().status(), ClientStatus::Active);
}

async fn revokes_for_good<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert!(matches!(store.revoke("a").await, Err(StoreError::Missing)));
    store.insert(named("a", "first"), Origin::Registered).await.unwrap();
    for _ in 0..2 {
        store.revoke("a").await.unwrap();
        let found = store.find_client("a").await.unwrap().unwrap();
        assert_eq!((found.status(), found.name()), (ClientStatus::Revoked, Some("first")));
    }
    assert!(matches!(store.insert(client("a"), Origin::Registered).await, Err(StoreError::AlreadyExists)));
    assert!(matches!(store.replace(client("a")).await, Err(StoreError::Missing)));
    assert_eq!(store.find_client("a").await.unwrap().unwrap().status(), ClientStatus::Revoked);
    assert_eq!(ids(store, None, 10).await, ["a"]);
}

async fn removes_without_a_trace<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert!(matches!(store.remove("a").await, Err(StoreError::Missing)));
    store.insert(client("a"), Origin::Registered).await.unwrap();
    store.touch("a", at(1_000)).await.unwrap();
    store.remove("a").await.unwrap();
    assert!(store.find_client("a").await.unwrap().is_none());
    assert!(store.record("a").await.unwrap().is_none());
    assert!(ids(store, None, 10).await.is_empty());
    assert!(matches!(store.remove("a").await, Err(StoreError::Missing)));
    assert!(matches!(store.replace(client("a")).await, Err(StoreError::Missing)));
    store.insert(client("a"), Origin::Configured).await.unwrap();
    let record = store.record("a").await.unwrap().unwrap();
    assert_eq!((record.origin, record.last_used_at), (Origin::Configured, None));
    store.revoke("a").await.unwrap();
    store.remove("a").await.unwrap();
    store.insert(client("a"), Origin::Configured).await.unwrap();
}

async fn takes_every_legal_id<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    let all: String = (0x20_u8..=0x7E).map(char::from).collect();
    let mut ids: Vec<String> = (0x20_u8..=0x7E).map(|byte| char::from(byte).to_string()).collect();
    ids.extend(all.chars().map(|c| format!("x{c}y")));
    ids.extend([
        all,
        "%".repeat(10),
        "_".to_owned() + "%",
        "' OR 1=1 --".to_owned(),
        "https://c.example/id".to_owned(),
    ]);
    ids.push("a".repeat(2_000));
    for id in &ids {
        store.insert(named(id, id), Origin::Configured).await.unwrap();
    }
    for id in &ids {
        assert_eq!(name_of(store, id).await.as_ref(), Some(id));
        store.replace(named(id, "replaced")).await.unwrap();
        store.touch(id, at(1_000)).await.unwrap();
        store.revoke(id).await.unwrap();
        store.remove(id).await.unwrap();
        assert!(store.find_client(id).await.unwrap().is_none());
    }
}

async fn tells_ids_apart<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    let ids = ["a", "A", "a ", " a", "a%", "a_", "%", "_", "aa", "0", "00", "1", "1.0", "01", "1e0"];
    for id in ids {
        assert!(store.find_client(id).await.unwrap().is_none(), "{id:?}");
        store.insert(named(id, id), Origin::Configured).await.unwrap();
    }
    for id in ids {
        assert_eq!(name_of(store, id).await.as_deref(), Some(id));
    }
    // What no registered id can be finds nothing, and is no error.
    for id in ["", "\u{e4}", "a\0", "a\n"] {
        assert!(store.find_client(id).await.unwrap().is_none(), "{id:?}");
    }
}

async fn takes_large_metadata<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    let large = client("large").to_builder().metadata("software_statement", "\u{1F980}".repeat(16 * 1024)).build();
    let large = large.unwrap();
    store.insert(large.clone(), Origin::Registered).await.unwrap();
    assert_eq!(*store.find_client("large").await.unwrap().unwrap(), large);
    let many = client("large").to_builder().metadata("jwks", vec!["0123456789abcdef"; 4 * 1024]).build().unwrap();
    store.replace(many.clone()).await.unwrap();
    assert_eq!(*store.find_client("large").await.unwrap().unwrap(), many);
}

async fn lists_in_pages<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert!(ids(store, None, 10).await.is_empty());
    // By bytes: upper case before lower case, and no regard for any language.
    let expected: BTreeSet<String> = ["B", "a", "C", "~", " ", "b", "aa", "a-b", "a_b", "A", "10", "9", "a b"]
        .into_iter()
        .map(str::to_owned)
        .chain((0..50).map(|index| format!("client-{index}")))
        .collect();
    for id in &expected {
        store.insert(client(id), Origin::Configured).await.unwrap();
    }
    let expected: Vec<String> = expected.into_iter().collect();
    assert_eq!(ids(store, None, 1_000).await, expected);
    for size in [1, 7, expected.len(), expected.len() + 1] {
        let mut pages = Vec::new();
        loop {
            let after = pages.last().cloned();
            let page: Vec<String> = ids(store, after.as_deref(), size).await;
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, expected, "pages of {size}");
    }
    assert!(ids(store, None, 0).await.is_empty());
    // Behind an id that is not there.
    assert_eq!(ids(store, Some("client-zzz"), 10).await, ["~"]);
    assert!(ids(store, Some("~~"), 10).await.is_empty());
}

async fn records_uses<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert!(matches!(store.touch("a", at(1_000)).await, Err(StoreError::Missing)));
    store.insert(client("a"), Origin::Registered).await.unwrap();
    for (touched, expected) in [(2_000, 2_000), (1_000, 2_000), (2_000, 2_000), (3_000, 3_000)] {
        store.touch("a", at(touched)).await.unwrap();
        assert_eq!(store.record("a").await.unwrap().unwrap().last_used_at, Some(at(expected)));
    }
    store.touch("a", at(3_000) + Duration::from_millis(900)).await.unwrap();
    assert_eq!(store.record("a").await.unwrap().unwrap().last_used_at, Some(at(3_000)), "whole seconds");
    assert_eq!(*store.find_client("a").await.unwrap().unwrap(), client("a"));
    store.revoke("a").await.unwrap();
    assert_eq!(store.record("a").await.unwrap().unwrap().last_used_at, Some(at(3_000)));
}

async fn records_times<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    let second = Duration::from_secs(1);
    let before = SystemTime::now() - second;
    store.insert(client("a"), Origin::Registered).await.unwrap();
    let inserted = store.record("a").await.unwrap().unwrap();
    assert!(before <= inserted.created_at && inserted.created_at <= SystemTime::now());
    assert_eq!(inserted.updated_at, inserted.created_at);
    store.replace(named("a", "new")).await.unwrap();
    store.revoke("a").await.unwrap();
    let revoked = store.record("a").await.unwrap().unwrap();
    assert_eq!(revoked.created_at, inserted.created_at);
    assert!(revoked.updated_at >= inserted.updated_at && revoked.updated_at <= SystemTime::now());
    for time in [revoked.created_at, revoked.updated_at] {
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos(), 0, "whole seconds");
    }
}

async fn counts_registrations<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    assert_eq!(store.count_registered().await.unwrap(), 0);
    for (id, origin) in [
        ("a", Origin::Registered),
        ("b", Origin::Registered),
        ("c", Origin::Registered),
        ("configured", Origin::Configured),
        ("upstream", Origin::Upstream),
    ] {
        store.insert(client(id), origin).await.unwrap();
    }
    assert_eq!(store.count_registered().await.unwrap(), 3);
    store.touch("a", at(1_000)).await.unwrap();
    assert_eq!(store.count_registered().await.unwrap(), 3);
    store.revoke("a").await.unwrap();
    assert_eq!(store.count_registered().await.unwrap(), 2);
    store.remove("a").await.unwrap();
    store.remove("b").await.unwrap();
    assert_eq!(store.count_registered().await.unwrap(), 1);
    store.replace(client("configured")).await.unwrap();
    store.replace(client("c").to_builder().disabled(true).build().unwrap()).await.unwrap();
    assert_eq!(store.count_registered().await.unwrap(), 1);
}

async fn removes_the_oldest_unused<F: Future<Output = Find>>(store: &dyn RegistryStore<Future = F>) {
    for (id, origin) in [
        ("used", Origin::Registered),
        ("revoked", Origin::Registered),
        ("one", Origin::Registered),
        ("two", Origin::Registered),
        ("three", Origin::Registered),
        ("configured", Origin::Configured),
        ("upstream", Origin::Upstream),
    ] {
        store.insert(client(id), origin).await.unwrap();
    }
    store.touch("used", at(1_000)).await.unwrap();
    store.revoke("revoked").await.unwrap();
    let past = SystemTime::now() - Duration::from_secs(3600);
    assert_eq!(store.remove_unused(past, u64::MAX).await.unwrap(), 0);
    assert_eq!(store.remove_unused(soon(), 0).await.unwrap(), 0);
    assert_eq!(ids(store, None, 10).await.len(), 7);
    assert_eq!(store.remove_unused(soon(), 2).await.unwrap(), 2);
    assert_eq!(store.count_registered().await.unwrap(), 2);
    assert_eq!(store.remove_unused(soon(), u64::MAX).await.unwrap(), 1);
    assert_eq!(ids(store, None, 10).await, ["configured", "revoked", "upstream", "used"]);
    assert_eq!(store.remove_unused(soon(), u64::MAX).await.unwrap(), 0);
}

async fn one_of_many_writers_wins<S, F>(store: Arc<S>)
where
    S: RegistryStore<Future = F> + 'static,
    F: Future<Output = Find> + Send + 'static,
{
    let writers: Vec<_> = (0..32)
        .map(|index| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.insert(named("a", &index.to_string()), Origin::Registered).await })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(client) => winners.push(client.name().unwrap().to_owned()),
            Err(StoreError::AlreadyExists) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(name_of(&*store, "a").await.as_ref(), winners.first());
}

async fn many_writers_lose_nothing<S, F>(store: Arc<S>)
where
    S: RegistryStore<Future = F> + 'static,
    F: Future<Output = Find> + Send + 'static,
{
    store.insert(client("touched"), Origin::Registered).await.unwrap();
    let writers: Vec<_> = (0..16_u64)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..16_u64 {
                    let id = format!("{writer}-{round}");
                    store.insert(client(&id), Origin::Registered).await.unwrap();
                    store.touch("touched", at(1_000 + writer * 16 + round)).await.unwrap();
                    store.replace(named(&id, "replaced")).await.unwrap();
                    store.replace(named("touched", &id)).await.unwrap();
                    match round % 3 {
                        0 => store.revoke(&id).await.unwrap(),
                        1 => store.remove(&id).await.unwrap(),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // Of 16 rounds 6 were revoked, 5 removed, 5 left alone.
    assert_eq!(store.count_registered().await.unwrap(), 16 * 5 + 1);
    let listed = store.list(None, 1_000).await.unwrap();
    assert_eq!(listed.len(), 16 * 11 + 1);
    assert!(listed.iter().all(|record| record.client.id() == "touched" || record.client.name() == Some("replaced")));
    let touched = store.record("touched").await.unwrap().unwrap();
    assert_eq!(touched.last_used_at, Some(at(1_000 + 255)), "the latest use survives replacing");
}

async fn readers_see_whole_clients<S, F>(store: Arc<S>)
where
    S: RegistryStore<Future = F> + 'static,
    F: Future<Output = Find> + Send + 'static,
{
    let version = |version: u32| {
        let uri = format!("https://v{version}.example/cb");
        Client::builder("a").name(version.to_string()).redirect_uri(uri).build().unwrap()
    };
    store.insert(version(0), Origin::Registered).await.unwrap();
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for round in 1..=200 {
                store.replace(version(round)).await.unwrap();
            }
        }
    });
    let mut last = 0;
    loop {
        let was_finished = writer.is_finished();
        let found = store.find_client("a").await.unwrap().expect("it is never gone");
        let seen: u32 = found.name().unwrap().parse().unwrap();
        assert!(seen >= last, "an older client came back");
        assert_eq!(found.redirect_uris()[0].as_str(), format!("https://v{seen}.example/cb"));
        last = seen;
        if was_finished {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(last, 200);
}
