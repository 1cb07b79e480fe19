//! The contract of stores, where each function takes an empty store, and of sources, at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tower_oauth_client_validation::{
    CachedRegistry, Client, ClientOrigin, ClientStatus, FileRegistry, HttpRegistry, MemoryRegistry, RegistrySource,
    RegistryStore, StoreError,
};

use crate::registration::Recording;

pub(crate) trait Store: RegistryStore<Future: Send> + Clone + 'static {}
impl<S: RegistryStore<Future: Send> + Clone + 'static> Store for S {}

/// A test of each promise; `$open` gives a store and what must live as long, or `None` where it cannot be had.
macro_rules! contract {
    ($module:ident, $open:path) => {
        mod $module {
            crate::contract::contract!(@tests $open;
                an_inserted_client_is_found_as_it_was
                an_id_is_taken_once
                replacing_keeps_where_it_came_from
                a_revoked_client_stays_revoked
                a_removed_client_is_unknown
                ids_are_compared_by_their_bytes
                every_legal_character_is_kept
                large_metadata_is_kept
                pages_hold_every_client_once
                pages_follow_changes
                uses_are_recorded
                unused_registrations_are_removed
                writers_at_once_do_not_lose_a_write
                many_inserts_of_one_id_have_one_winner
                times_are_recorded
                live_registrations_are_counted
                readers_see_whole_clients
                only_what_is_still_as_it_was_read_is_replaced
                only_what_is_still_as_it_was_read_is_removed
                changes_at_once_do_not_overwrite_each_other
                a_revocation_at_the_same_time_is_not_overwritten
                one_removal_at_a_time_takes_a_registration
                the_oldest_unused_registration_goes_first
                registrations_of_a_source_are_counted
                unused_registrations_of_a_source_are_removed
                idle_registrations_are_removed
                the_registration_that_was_not_used_for_longest_goes_first
            );
        }
    };
    (@tests $open:path; $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                if let Some((store, _keep)) = $open().await {
                    crate::wait::in_time(crate::contract::$promise(&store)).await;
                }
            }
        )*
    };
}
pub(crate) use contract;

async fn memory() -> Option<(tower_oauth_client_validation::MemoryRegistry, ())> {
    Some((tower_oauth_client_validation::MemoryRegistry::new(), ()))
}

contract!(in_memory, super::memory);

/// Such as a store that has only the methods it must have: the others read all clients.
async fn least() -> Option<(Recording, ())> {
    Some((Recording::default(), ()))
}

contract!(with_the_default_methods, super::least);

#[tokio::test]
async fn the_default_methods_read_more_than_one_page() {
    let (store, ()) = least().await.unwrap();
    for n in 0..1_001 {
        let client = client(&n.to_string()).to_builder().metadata("registration_source", "a").build().unwrap();
        store.insert(client, ClientOrigin::Registered).await.unwrap();
    }
    assert_eq!(store.count_by_source(ClientOrigin::Registered, "a").await.unwrap(), 1_001);
}

fn day() -> Duration {
    Duration::from_secs(86_400)
}

fn client(id: &str) -> Client {
    Client::builder(id).redirect_uri("https://app.example/cb").scope("openid").build().unwrap()
}

fn disabled(id: &str) -> Client {
    client(id).to_builder().disabled(true).build().unwrap()
}

async fn ids(store: &impl Store) -> Vec<String> {
    let all = store.list(None, usize::MAX).await.unwrap();
    all.iter().map(|record| record.client.id().to_owned()).collect()
}

pub(crate) async fn an_inserted_client_is_found_as_it_was(store: &impl Store) {
    let document = serde_json::json!({
        "client_id": "app",
        "client_name": "Grüße \u{0} \"quoted\" \\ 🦀",
        "redirect_uris": ["https://app.example/cb?x=1", "http://127.0.0.1/cb", "http://localhost:*"],
        "scope": "openid profile",
        "default_scope": "openid",
        "response_types": ["code", "code id_token", "of-its-own"],
        "grant_types": ["authorization_code", "implicit"],
        "token_endpoint_auth_method": "private_key_jwt",
        "application_type": "native",
        "trusted": true,
        "dynamic": true,
        "disabled": true,
        "expires_at": 4_102_444_800_u64,
        "contacts": ["a@app.example"],
        "own": {"nested": [1, -2.5, null, true]},
    });
    let inserted = Client::from_metadata(document).unwrap();
    let returned = store.insert(inserted.clone(), ClientOrigin::Registered).await.unwrap();
    assert_eq!(*returned, inserted);
    assert_eq!(*store.find_client("app").await.unwrap().unwrap(), inserted);
    let record = store.record("app").await.unwrap().unwrap();
    assert_eq!(*record.client, inserted);
    assert_eq!(record.origin, ClientOrigin::Registered);
    assert_eq!(record.last_used_at, None);
    assert_eq!(record.created_at, record.updated_at);
    assert!(record.created_at > SystemTime::UNIX_EPOCH);
    assert!(store.find_client("other").await.unwrap().is_none());
    assert!(store.record("other").await.unwrap().is_none());
}

pub(crate) async fn an_id_is_taken_once(store: &impl Store) {
    store.insert(client("app"), ClientOrigin::Configured).await.unwrap();
    let other = Client::builder("app").name("other").build().unwrap();
    let again = store.insert(other, ClientOrigin::Registered).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists)), "{again:?}");
    assert_eq!(*store.find_client("app").await.unwrap().unwrap(), client("app"));
    assert_eq!(store.record("app").await.unwrap().unwrap().origin, ClientOrigin::Configured);
}

pub(crate) async fn replacing_keeps_where_it_came_from(store: &impl Store) {
    assert!(matches!(store.replace(client("app")).await, Err(StoreError::Missing)));
    assert!(store.find_client("app").await.unwrap().is_none());
    store.insert(client("app"), ClientOrigin::Upstream).await.unwrap();
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    store.touch("app", used).await.unwrap();
    let before = store.record("app").await.unwrap().unwrap();
    let renamed = client("app").to_builder().name("renamed").dynamic(true).build().unwrap();
    assert_eq!(*store.replace(renamed.clone()).await.unwrap(), renamed);
    let after = store.record("app").await.unwrap().unwrap();
    assert_eq!(*after.client, renamed);
    assert_eq!(
        (after.origin, after.created_at, after.last_used_at),
        (ClientOrigin::Upstream, before.created_at, Some(used))
    );
}

pub(crate) async fn a_revoked_client_stays_revoked(store: &impl Store) {
    assert!(matches!(store.revoke("app").await, Err(StoreError::Missing)));
    store.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    store.revoke("app").await.unwrap();
    let revoked_at = store.record("app").await.unwrap().unwrap().updated_at;
    next_second().await;
    store.revoke("app").await.unwrap();
    assert_eq!(store.record("app").await.unwrap().unwrap().updated_at, revoked_at, "nothing was changed");
    assert_eq!(store.find_client("app").await.unwrap().unwrap().status(), ClientStatus::Revoked);
    assert!(matches!(store.replace(client("app")).await, Err(StoreError::Missing)));
    assert!(matches!(store.insert(client("app"), ClientOrigin::Configured).await, Err(StoreError::AlreadyExists)));
    assert_eq!(store.find_client("app").await.unwrap().unwrap().status(), ClientStatus::Revoked);
    assert_eq!(store.record("app").await.unwrap().unwrap().client.status(), ClientStatus::Revoked);
    assert_eq!(ids(store).await, ["app"]);
}

pub(crate) async fn a_removed_client_is_unknown(store: &impl Store) {
    assert!(matches!(store.remove("app").await, Err(StoreError::Missing)));
    store.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    store.insert(client("stays"), ClientOrigin::Registered).await.unwrap();
    store.remove("app").await.unwrap();
    assert!(store.find_client("app").await.unwrap().is_none());
    assert!(matches!(store.remove("app").await, Err(StoreError::Missing)));
    assert_eq!(ids(store).await, ["stays"]);
}

pub(crate) async fn ids_are_compared_by_their_bytes(store: &impl Store) {
    let sorted = ["!", " a", "A", "B", "a", "a ", "a!", "aA", "aa", "b", "~"];
    let mut sorted: Vec<_> = sorted.to_vec();
    sorted.sort_unstable();
    for id in sorted.iter().rev() {
        store.insert(client(id), ClientOrigin::Configured).await.unwrap();
    }
    assert_eq!(ids(store).await, sorted);
    assert!(store.find_client("AA").await.unwrap().is_none());
    assert!(store.find_client("%").await.unwrap().is_none());
    assert!(store.find_client("").await.unwrap().is_none());
    for illegal in ["ä", "a\0", "a\n"] {
        assert!(store.find_client(illegal).await.unwrap().is_none());
        assert!(matches!(store.revoke(illegal).await, Err(StoreError::Missing)));
    }
}

pub(crate) async fn every_legal_character_is_kept(store: &impl Store) {
    let all: String = (0x20..=0x7E_u8).map(char::from).collect();
    store.insert(client(&all), ClientOrigin::Configured).await.unwrap();
    assert_eq!(store.find_client(&all).await.unwrap().unwrap().id(), all);
    for character in all.chars() {
        let id = format!("-{character}-");
        store.insert(client(&id), ClientOrigin::Configured).await.unwrap();
        assert_eq!(store.find_client(&id).await.unwrap().unwrap().id(), id);
    }
    assert_eq!(ids(store).await.len(), all.len() + 1);
    let long = "x".repeat(2048);
    store.insert(client(&long), ClientOrigin::Configured).await.unwrap();
    assert_eq!(store.find_client(&long).await.unwrap().unwrap().id(), long);
    assert!(store.find_client(&"x".repeat(100_000)).await.unwrap().is_none());
}

pub(crate) async fn large_metadata_is_kept(store: &impl Store) {
    let text: String = (0..64 * 1024_u32).map(|n| char::from(b' ' + u8::try_from(n * 7 % 95).unwrap())).collect();
    let large = client("large").to_builder().metadata("text", text).dynamic(true).build().unwrap();
    store.insert(large.clone(), ClientOrigin::Registered).await.unwrap();
    assert_eq!(*store.find_client("large").await.unwrap().unwrap(), large);
}

pub(crate) async fn pages_hold_every_client_once(store: &impl Store) {
    let expected: BTreeSet<_> = (0..25).map(|n| format!("client-{}", n * 7919 % 1000)).collect();
    for id in &expected {
        store.insert(client(id), ClientOrigin::Configured).await.unwrap();
    }
    let mut paged = Vec::new();
    loop {
        let page = store.list(paged.last().map(String::as_str), 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 10);
        paged.extend(page.iter().map(|record| record.client.id().to_owned()));
    }
    assert_eq!(paged, expected.into_iter().collect::<Vec<_>>());
    assert!(store.list(None, 0).await.unwrap().is_empty());
    // No id holds a NUL, but a page may begin after one.
    for before in ["client-", "client-\0"] {
        assert_eq!(store.list(Some(before), 1).await.unwrap()[0].client.id(), paged[0]);
    }
}

pub(crate) async fn pages_follow_changes(store: &impl Store) {
    for id in ["a", "b", "c", "d"] {
        store.insert(client(id), ClientOrigin::Configured).await.unwrap();
    }
    assert_eq!(ids(store).await, ["a", "b", "c", "d"]);
    store.remove("a").await.unwrap();
    store.remove("b").await.unwrap();
    store.insert(client("cc"), ClientOrigin::Configured).await.unwrap();
    store.replace(client("c").to_builder().name("new").build().unwrap()).await.unwrap();
    let page = store.list(None, 2).await.unwrap();
    let page: Vec<_> = page.iter().map(|record| (record.client.id(), record.client.name())).collect();
    assert_eq!(page, [("c", Some("new")), ("cc", None)]);
}

pub(crate) async fn uses_are_recorded(store: &impl Store) {
    let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(matches!(store.touch("app", time(1)).await, Err(StoreError::Missing)));
    store.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    for (at, recorded) in [(1_000, 1_000), (3_000, 3_000), (2_000, 3_000)] {
        store.touch("app", time(at)).await.unwrap();
        assert_eq!(store.record("app").await.unwrap().unwrap().last_used_at, Some(time(recorded)));
    }
}

pub(crate) async fn unused_registrations_are_removed(store: &impl Store) {
    for id in ["r1", "r2", "r3", "used", "disabled", "revoked"] {
        store.insert(client(id), ClientOrigin::Registered).await.unwrap();
    }
    store.insert(client("configured"), ClientOrigin::Configured).await.unwrap();
    store.insert(client("upstream"), ClientOrigin::Upstream).await.unwrap();
    store.touch("used", SystemTime::now()).await.unwrap();
    store.replace(disabled("disabled")).await.unwrap();
    store.revoke("revoked").await.unwrap();
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 5);
    let day = Duration::from_secs(86_400);
    assert!(store.remove_unused(ClientOrigin::Registered, SystemTime::now() - day, u64::MAX).await.unwrap().is_empty());
    let mut removed = store.remove_unused(ClientOrigin::Registered, SystemTime::now() + day, 2).await.unwrap();
    assert_eq!(removed.len(), 2);
    for id in &removed {
        assert!(store.find_client(id).await.unwrap().is_none());
    }
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 3);
    removed.extend(store.remove_unused(ClientOrigin::Registered, SystemTime::now() + day, u64::MAX).await.unwrap());
    removed.sort_unstable();
    assert_eq!(removed, ["r1", "r2", "r3"]);
    assert!(store.remove_unused(ClientOrigin::Registered, SystemTime::now() + day, u64::MAX).await.unwrap().is_empty());
    assert_eq!(ids(store).await, ["configured", "disabled", "revoked", "upstream", "used"]);

    store.replace(client("disabled")).await.unwrap();
    store.insert(disabled("from the start"), ClientOrigin::Registered).await.unwrap();
    assert_eq!(
        store.remove_unused(ClientOrigin::Registered, SystemTime::now() + day, u64::MAX).await.unwrap(),
        ["disabled"]
    );
    assert_eq!(
        store.remove_unused(ClientOrigin::Upstream, SystemTime::now() + day, u64::MAX).await.unwrap(),
        ["upstream"]
    );
}

pub(crate) async fn the_oldest_unused_registration_goes_first(store: &impl Store) {
    store.insert(client("b, the first"), ClientOrigin::Registered).await.unwrap();
    next_second().await;
    for id in ["a", "c"] {
        store.insert(client(id), ClientOrigin::Registered).await.unwrap();
    }
    let soon = SystemTime::now() + Duration::from_secs(86_400);
    assert_eq!(store.remove_unused(ClientOrigin::Registered, soon, 1).await.unwrap(), ["b, the first"]);
    assert_eq!(ids(store).await, ["a", "c"]);
}

async fn insert_from(store: &impl Store, ids: &[&str], source: &str) {
    for id in ids {
        let client = client(id).to_builder().metadata("registration_source", source).build().unwrap();
        store.insert(client, ClientOrigin::Registered).await.unwrap();
    }
}

pub(crate) async fn registrations_of_a_source_are_counted(store: &impl Store) {
    insert_from(store, &["a1", "a2", "a3", "disabled", "revoked"], "a").await;
    insert_from(store, &["b1"], "b").await;
    store.insert(client("none"), ClientOrigin::Registered).await.unwrap();
    let number = client("number").to_builder().metadata("registration_source", 1).build().unwrap();
    store.insert(number, ClientOrigin::Registered).await.unwrap();
    let upstream = client("upstream").to_builder().metadata("registration_source", "a").build().unwrap();
    store.insert(upstream, ClientOrigin::Upstream).await.unwrap();
    let read = store.record("disabled").await.unwrap().unwrap().client;
    store.replace(read.to_builder().disabled(true).build().unwrap()).await.unwrap();
    store.revoke("revoked").await.unwrap();
    let count = async |source: &'static str| store.count_by_source(ClientOrigin::Registered, source).await.unwrap();
    for (source, expected) in [("a", 4), ("b", 1), ("A", 0), ("a ", 0), ("1", 0), ("", 0), ("\0", 0), ("ä", 0)] {
        assert_eq!(count(source).await, expected, "{source:?}");
    }
    assert_eq!(store.count_by_source(ClientOrigin::Upstream, "a").await.unwrap(), 1);

    // A replacement has the source that its metadata says.
    store.touch("a1", SystemTime::now()).await.unwrap();
    store.replace(client("a1")).await.unwrap();
    let read = store.record("a2").await.unwrap().unwrap().client;
    let moved = read.to_builder().metadata("registration_source", "b").build().unwrap();
    store.replace_unchanged(&read, moved).await.unwrap();
    assert_eq!((count("a").await, count("b").await), (2, 2));
    store.remove("a3").await.unwrap();
    assert_eq!(count("a").await, 1);
}

pub(crate) async fn unused_registrations_of_a_source_are_removed(store: &impl Store) {
    insert_from(store, &["c, the first"], "a").await;
    next_second().await;
    insert_from(store, &["b, the second", "used", "disabled", "revoked"], "a").await;
    insert_from(store, &["other"], "b").await;
    store.insert(client("none"), ClientOrigin::Registered).await.unwrap();
    store.insert(client("upstream"), ClientOrigin::Upstream).await.unwrap();
    store.touch("used", SystemTime::now()).await.unwrap();
    store.replace(disabled_from("disabled", "a")).await.unwrap();
    store.revoke("revoked").await.unwrap();
    let remove = async |source: &'static str, before, max| {
        store.remove_unused_by_source(ClientOrigin::Registered, source, before, max).await.unwrap()
    };
    let tomorrow = SystemTime::now() + day();
    assert!(remove("a", SystemTime::now() - day(), 9).await.is_empty());
    for unknown in ["c", "A", "", "\0"] {
        assert!(remove(unknown, tomorrow, 9).await.is_empty());
    }
    assert!(remove("a", tomorrow, 0).await.is_empty());
    assert_eq!(remove("a", tomorrow, 1).await, ["c, the first"]);
    assert_eq!(remove("a", tomorrow, u64::MAX).await, ["b, the second"]);
    assert_eq!(ids(store).await, ["disabled", "none", "other", "revoked", "upstream", "used"]);
}

fn disabled_from(id: &str, source: &str) -> Client {
    disabled(id).to_builder().metadata("registration_source", source).build().unwrap()
}

pub(crate) async fn idle_registrations_are_removed(store: &impl Store) {
    insert_from(store, &["a1", "a2", "disabled", "never used", "revoked", "used just now"], "a").await;
    insert_from(store, &["b1"], "b").await;
    store.insert(client("none"), ClientOrigin::Registered).await.unwrap();
    store.insert(client("upstream"), ClientOrigin::Upstream).await.unwrap();
    for id in ["a1", "a2", "b1", "disabled", "none", "revoked", "upstream"] {
        store.touch(id, SystemTime::now() - 2 * day()).await.unwrap();
    }
    store.touch("used just now", SystemTime::now()).await.unwrap();
    store.replace(disabled_from("disabled", "a")).await.unwrap();
    store.revoke("revoked").await.unwrap();
    let remove = async |source, before| {
        let mut removed = store.remove_idle(ClientOrigin::Registered, source, before, u64::MAX).await.unwrap();
        removed.sort_unstable();
        removed
    };
    let yesterday = SystemTime::now() - day();
    assert!(remove(None, SystemTime::now() - 3 * day()).await.is_empty());
    for unknown in ["c", "A", "", "\0"] {
        assert!(remove(Some(unknown), yesterday).await.is_empty());
    }
    assert_eq!(remove(Some("a"), yesterday).await, ["a1", "a2"]);
    assert_eq!(remove(None, yesterday).await, ["b1", "none"]);
    assert_eq!(ids(store).await, ["disabled", "never used", "revoked", "upstream", "used just now"]);
}

pub(crate) async fn the_registration_that_was_not_used_for_longest_goes_first(store: &impl Store) {
    insert_from(store, &["a", "b", "c", "d"], "a").await;
    for (id, days) in [("a", 2), ("b", 4), ("c", 3), ("d", 5)] {
        store.touch(id, SystemTime::now() - days * day()).await.unwrap();
    }
    let remove =
        async |source, max| store.remove_idle(ClientOrigin::Registered, source, SystemTime::now(), max).await.unwrap();
    assert!(remove(None, 0).await.is_empty());
    assert_eq!(remove(None, 1).await, ["d"]);
    assert_eq!(remove(Some("a"), 1).await, ["b"]);
    assert_eq!(remove(None, 1).await, ["c"]);
    assert_eq!(ids(store).await, ["a"]);
}

/// Waits for the clock, which stores read in whole seconds.
async fn next_second() {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let rest = Duration::from_secs(since_epoch.as_secs() + 1) - since_epoch;
    tokio::time::sleep(rest).await;
}

/// Many nodes may make room at once.
pub(crate) async fn one_removal_at_a_time_takes_a_registration(store: &impl Store) {
    let registered: BTreeSet<_> = (0..40).map(|n| format!("r{n}")).collect();
    for id in &registered {
        store.insert(client(id), ClientOrigin::Registered).await.unwrap();
    }
    let soon = SystemTime::now() + Duration::from_secs(86_400);
    let removals = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.remove_unused(ClientOrigin::Registered, soon, 4).await.unwrap() })
    });
    let mut removed = Vec::new();
    for removal in removals.collect::<Vec<_>>() {
        let ids = removal.await.unwrap();
        assert_eq!(ids.len(), 4, "there were enough for all");
        removed.extend(ids);
    }
    let left: BTreeSet<_> = ids(store).await.into_iter().collect();
    assert_eq!((removed.len(), left.len()), (32, 8));
    assert_eq!(removed.into_iter().chain(left).collect::<BTreeSet<_>>(), registered);
}

pub(crate) async fn only_what_is_still_as_it_was_read_is_replaced(store: &impl Store) {
    let renamed = |name: &str| client("app").to_builder().name(name).dynamic(true).build().unwrap();
    let missing = store.replace_unchanged(&client("app"), renamed("early")).await;
    assert!(matches!(missing, Err(StoreError::Missing)), "{missing:?}");
    assert!(store.find_client("app").await.unwrap().is_none());

    store.insert(client("app"), ClientOrigin::Upstream).await.unwrap();
    let read = store.record("app").await.unwrap().unwrap();
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    store.touch("app", used).await.unwrap();
    assert_eq!(*store.replace_unchanged(&read.client, renamed("first")).await.unwrap(), renamed("first"));
    let after = store.record("app").await.unwrap().unwrap();
    assert_eq!(*after.client, renamed("first"));
    assert_eq!(
        (after.origin, after.created_at, after.last_used_at),
        (ClientOrigin::Upstream, read.created_at, Some(used))
    );

    let late = store.replace_unchanged(&read.client, renamed("late")).await;
    assert!(matches!(late, Err(StoreError::Changed)), "{late:?}");
    assert_eq!(*store.find_client("app").await.unwrap().unwrap(), renamed("first"));

    // No other client can take its place, even one that exists.
    store.insert(client("other"), ClientOrigin::Configured).await.unwrap();
    for id in ["other", "new"] {
        let other = store.replace_unchanged(&after.client, disabled(id)).await;
        assert!(matches!(other, Err(StoreError::Changed)), "{other:?}");
    }
    assert_eq!(*store.find_client("other").await.unwrap().unwrap(), client("other"));
    assert_eq!(ids(store).await, ["app", "other"]);

    store.revoke("app").await.unwrap();
    let revoked = store.record("app").await.unwrap().unwrap().client;
    for known in [&after.client, &revoked] {
        let late = store.replace_unchanged(known, renamed("late")).await;
        assert!(matches!(late, Err(StoreError::Missing)), "{late:?}");
    }
    assert_eq!(store.find_client("app").await.unwrap().unwrap().status(), ClientStatus::Revoked);
}

pub(crate) async fn only_what_is_still_as_it_was_read_is_removed(store: &impl Store) {
    assert!(matches!(store.remove_unchanged(&client("app")).await, Err(StoreError::Missing)));
    for id in ["app", "stays", "revoked"] {
        store.insert(client(id), ClientOrigin::Registered).await.unwrap();
    }
    store.replace(disabled("app")).await.unwrap();
    assert!(matches!(store.remove_unchanged(&client("app")).await, Err(StoreError::Changed)));
    assert_eq!(store.find_client("app").await.unwrap().unwrap().status(), ClientStatus::Disabled);
    let read = store.record("app").await.unwrap().unwrap().client;
    store.remove_unchanged(&read).await.unwrap();
    assert!(store.find_client("app").await.unwrap().is_none());
    store.revoke("revoked").await.unwrap();
    let revoked = store.record("revoked").await.unwrap().unwrap().client;
    for known in [&client("revoked"), &*revoked] {
        assert!(matches!(store.remove_unchanged(known).await, Err(StoreError::Missing)));
    }
    assert_eq!(ids(store).await, ["revoked", "stays"]);
}

/// Each adds its contact to what it read: none may get lost.
pub(crate) async fn changes_at_once_do_not_overwrite_each_other(store: &impl Store) {
    store.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..5 {
                loop {
                    let read = store.record("app").await.unwrap().unwrap().client;
                    let more = read.to_builder().metadata(format!("{writer}-{n}"), true).build().unwrap();
                    match store.replace_unchanged(&read, more).await {
                        Ok(_) => break,
                        Err(StoreError::Changed) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let metadata = store.find_client("app").await.unwrap().unwrap().to_metadata();
    for writer in 0..8 {
        assert!((0..5).all(|n| metadata.contains_key(&format!("{writer}-{n}"))), "{metadata:?}");
    }
}

pub(crate) async fn a_revocation_at_the_same_time_is_not_overwritten(store: &impl Store) {
    for round in 0..20 {
        let id = format!("app-{round}");
        store.insert(client(&id), ClientOrigin::Registered).await.unwrap();
        let read = store.record(&id).await.unwrap().unwrap().client;
        let writers = (0..4).map(|writer| {
            let (store, read, id) = (store.clone(), read.clone(), id.clone());
            tokio::spawn(async move {
                if writer == 0 {
                    return store.revoke(&id).await.map(|()| false);
                }
                let new = read.to_builder().name(writer.to_string()).build().unwrap();
                store.replace_unchanged(&read, new).await.map(|_| true)
            })
        });
        let mut replaced = 0;
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                Ok(is_replacement) => replaced += u32::from(is_replacement),
                Err(StoreError::Changed | StoreError::Missing) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(replaced <= 1, "two replaced the same client");
        let found = store.find_client(&id).await.unwrap().unwrap();
        assert_eq!(found.status(), ClientStatus::Revoked);
        assert_eq!(found.name().is_some(), replaced == 1);
    }
}

pub(crate) async fn writers_at_once_do_not_lose_a_write(store: &impl Store) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..10 {
                let id = format!("{writer}-{n}");
                store.insert(client(&id), ClientOrigin::Registered).await.unwrap();
                store.replace(client(&id).to_builder().name("second").build().unwrap()).await.unwrap();
                store.touch(&id, SystemTime::now()).await.unwrap();
                if n % 2 == 0 {
                    store.revoke(&id).await.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let all = store.list(None, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 80);
    for record in all {
        assert_eq!(record.client.name(), Some("second"));
        assert!(record.last_used_at.is_some());
    }
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 40);
}

pub(crate) async fn many_inserts_of_one_id_have_one_winner(store: &impl Store) {
    let tries = (0..16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let client = Client::builder("app").name(format!("{n}")).build().unwrap();
            store.insert(client, ClientOrigin::Registered).await
        })
    });
    let mut winners: Vec<Arc<Client>> = Vec::new();
    for outcome in tries.collect::<Vec<_>>() {
        match outcome.await.unwrap() {
            Ok(client) => winners.push(client),
            Err(StoreError::AlreadyExists) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(*store.find_client("app").await.unwrap().unwrap(), *winners[0]);
}

pub(crate) async fn times_are_recorded(store: &impl Store) {
    let second = Duration::from_secs(1);
    let before = SystemTime::now() - second;
    store.insert(client("a"), ClientOrigin::Registered).await.unwrap();
    let inserted = store.record("a").await.unwrap().unwrap();
    assert!(before <= inserted.created_at && inserted.created_at <= SystemTime::now());
    assert_eq!(inserted.updated_at, inserted.created_at);
    store.replace(client("a")).await.unwrap();
    store.revoke("a").await.unwrap();
    let revoked = store.record("a").await.unwrap().unwrap();
    assert_eq!(revoked.created_at, inserted.created_at);
    assert!(revoked.updated_at >= inserted.updated_at && revoked.updated_at <= SystemTime::now());
    for time in [revoked.created_at, revoked.updated_at] {
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos(), 0, "whole seconds");
    }
}

pub(crate) async fn live_registrations_are_counted(store: &impl Store) {
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 0);
    for (id, origin) in [
        ("a", ClientOrigin::Registered),
        ("b", ClientOrigin::Registered),
        ("c", ClientOrigin::Registered),
        ("configured", ClientOrigin::Configured),
        ("upstream", ClientOrigin::Upstream),
    ] {
        store.insert(client(id), origin).await.unwrap();
    }
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 3);
    assert_eq!(store.count(ClientOrigin::Upstream).await.unwrap(), 1);
    store.touch("a", SystemTime::now()).await.unwrap();
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 3);
    store.revoke("a").await.unwrap();
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 2);
    store.remove("a").await.unwrap();
    store.remove("b").await.unwrap();
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 1);
    store.replace(client("configured")).await.unwrap();
    store.replace(client("c").to_builder().disabled(true).build().unwrap()).await.unwrap();
    assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 1);
}

pub(crate) async fn readers_see_whole_clients(store: &impl Store) {
    let version = |version: u32| {
        let uri = format!("https://v{version}.example/cb");
        Client::builder("a").name(version.to_string()).redirect_uri(uri).build().unwrap()
    };
    store.insert(version(0), ClientOrigin::Registered).await.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
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

/// A test of each promise of a source that can only be read; `$open` makes one that holds these clients, and gives
/// what must live as long.
macro_rules! read_contract {
    ($module:ident, $open:path) => {
        mod $module {
            crate::contract::read_contract!(@tests $open;
                what_is_there_is_found_as_it_is
                what_is_not_there_is_unknown
                every_legal_character_is_found
                ids_are_compared_byte_for_byte
                status_and_expiry_are_left_to_the_caller
                lookups_at_once_agree
            );
        }
    };
    (@tests $open:path; $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let (source, _keep) = $open(crate::contract::held()).await;
                crate::wait::in_time(crate::contract::$promise(&source)).await;
            }
        )*
    };
}
pub(crate) use read_contract;

pub(crate) trait Source: RegistrySource<Future: Send> + Clone + Send + Sync + 'static {}
impl<S: RegistrySource<Future: Send> + Clone + Send + Sync + 'static> Source for S {}

const SIMILAR: [&str; 8] = ["App", "app", "APP", "app ", " app", "app/", "app%20", "app+"];

fn legal_characters() -> String {
    (0x20..=0x7E_u8).map(char::from).collect()
}

fn whole() -> Value {
    json!({
        "client_id": "whole",
        "client_name": "Grüße \"quoted\" \\ 🦀",
        "redirect_uris": ["https://app.example/cb?x=1", "http://127.0.0.1/cb", "http://localhost:*"],
        "scope": "openid profile",
        "default_scope": "openid",
        "response_types": ["code", "code id_token"],
        "grant_types": ["authorization_code", "implicit"],
        "token_endpoint_auth_method": "private_key_jwt",
        "application_type": "native",
        "trusted": true,
        "contacts": ["a@app.example"],
        "own": {"nested": [1, -2.5, true, {"deep": "ä"}]},
    })
}

/// What each source of the contract holds, as RFC 7591 metadata.
pub(crate) fn held() -> Vec<Value> {
    let all = legal_characters();
    let ids = all.chars().map(|character| format!("-{character}-")).chain(SIMILAR.map(str::to_owned));
    let named = ids.chain([all.clone(), "x".repeat(512)]);
    let mut held: Vec<_> =
        named.map(|id| json!({"client_id": id, "client_name": format!("named {id}"), "scope": "read"})).collect();
    held.extend([
        whole(),
        json!({"client_id": "disabled", "disabled": true}),
        json!({"client_id": "revoked", "revoked": true}),
        json!({"client_id": "expired", "expires_at": 1_000_000_000}),
    ]);
    held
}

async fn find(source: &impl Source, id: &str) -> Option<Arc<Client>> {
    source.find_client(id).await.unwrap_or_else(|error| panic!("{id:?}: {error:?}"))
}

async fn assert_named(source: &impl Source, id: &str) {
    // The second answer may come from somewhere else than the first.
    for _ in 0..2 {
        let client = find(source, id).await.unwrap_or_else(|| panic!("{id:?} is unknown"));
        assert_eq!((client.id(), client.name()), (id, Some(&*format!("named {id}"))));
    }
}

pub(crate) async fn what_is_there_is_found_as_it_is(source: &impl Source) {
    let expected = Client::from_metadata(whole()).unwrap();
    for _ in 0..2 {
        assert_eq!(*find(source, "whole").await.unwrap(), expected);
    }
}

pub(crate) async fn what_is_not_there_is_unknown(source: &impl Source) {
    let long = "x".repeat(513);
    let unknown = ["nobody", "", "*", "%", "who", "wholes", "whole\0", "whole\n", "ä", "../whole", "whole?", "_hole"];
    for id in unknown.into_iter().chain([&*long, &"x".repeat(100_000)]) {
        for _ in 0..2 {
            assert_eq!(find(source, id).await, None, "{id:?}");
        }
    }
}

pub(crate) async fn every_legal_character_is_found(source: &impl Source) {
    let all = legal_characters();
    for character in all.chars() {
        assert_named(source, &format!("-{character}-")).await;
    }
    assert_named(source, &all).await;
    assert_named(source, &"x".repeat(512)).await;
}

pub(crate) async fn ids_are_compared_byte_for_byte(source: &impl Source) {
    for id in SIMILAR {
        assert_named(source, id).await;
    }
    for id in ["aPP", "app  ", "app//", "app%2B", "Whole", "WHOLE", "whole ", " whole"] {
        assert_eq!(find(source, id).await, None, "{id:?}");
    }
}

pub(crate) async fn status_and_expiry_are_left_to_the_caller(source: &impl Source) {
    for _ in 0..2 {
        assert_eq!(find(source, "disabled").await.unwrap().status(), ClientStatus::Disabled);
        assert_eq!(find(source, "revoked").await.unwrap().status(), ClientStatus::Revoked);
        let expired = find(source, "expired").await.unwrap();
        assert_eq!(expired.expires_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)));
    }
}

pub(crate) async fn lookups_at_once_agree(source: &impl Source) {
    let expected = Client::from_metadata(whole()).unwrap();
    let askers = (0..32).map(|n| {
        let (source, expected) = (source.clone(), expected.clone());
        tokio::spawn(async move {
            for round in 0..8 {
                match (n + round) % 3 {
                    0 => assert_eq!(*find(&source, "whole").await.unwrap(), expected),
                    1 => assert_named(&source, SIMILAR[(n + round) % SIMILAR.len()]).await,
                    _ => assert_eq!(find(&source, &format!("nobody-{round}")).await, None),
                }
            }
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.unwrap();
    }
}

fn memory_of(held: Vec<Value>) -> MemoryRegistry {
    held.into_iter().map(|metadata| Client::from_metadata(metadata).unwrap()).collect()
}

async fn read_memory(held: Vec<Value>) -> (impl Source, ()) {
    (memory_of(held), ())
}

fn file_of(name: &str, text: &str) -> (FileRegistry, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (FileRegistry::load(path).unwrap(), folder)
}

async fn read_json(held: Vec<Value>) -> (impl Source, tempfile::TempDir) {
    file_of("clients.json", &json!({ "clients": held }).to_string())
}

async fn read_toml(held: Vec<Value>) -> (impl Source, tempfile::TempDir) {
    file_of("clients.toml", &toml::to_string(&json!({ "clients": held })).unwrap())
}

async fn read_cached(held: Vec<Value>) -> (impl Source, ()) {
    (CachedRegistry::new(memory_of(held)), ())
}

/// Half of them in each; and what both have is the first one's.
async fn read_chain(held: Vec<Value>) -> (impl Source, ()) {
    let (first, mut second): (Vec<_>, Vec<_>) = held.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    second.extend(first.iter().map(|(n, first)| (*n, json!({"client_id": first["client_id"]}))));
    let registry = |half: Vec<(usize, Value)>| memory_of(half.into_iter().map(|(_, metadata)| metadata).collect());
    (registry(first).or(registry(second)), ())
}

async fn read_boxed(held: Vec<Value>) -> (impl Source, ()) {
    (memory_of(held).boxed(), ())
}

/// Asks its own server, which answers 404 for unknown clients.
async fn read_http(held: Vec<Value>) -> (impl Source, ()) {
    use axum::extract::Path;
    use axum::http::StatusCode;

    let held: std::collections::HashMap<String, String> = held
        .into_iter()
        .map(|metadata| (metadata["client_id"].as_str().unwrap().to_owned(), metadata.to_string()))
        .collect();
    let held = Arc::new(held);
    let answer = move |Path(id): Path<String>| {
        let answer = held.get(&id).cloned().ok_or(StatusCode::NOT_FOUND);
        async move { answer }
    };
    let app = axum::Router::new().route("/clients/{id}", axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/clients", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    // What an operator alone decides is part of what is held, and this server is the operator's.
    (HttpRegistry::builder(base).operator_members(true).build().unwrap(), ())
}

read_contract!(read_from_memory, super::read_memory);
read_contract!(read_from_json, super::read_json);
read_contract!(read_from_toml, super::read_toml);
read_contract!(read_from_cache, super::read_cached);
read_contract!(read_from_chain, super::read_chain);
read_contract!(read_from_box, super::read_boxed);
read_contract!(read_from_server, super::read_http);
