//! How much memory the crate allocates. A separate program, because the allocator counts for all threads.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    Client, ClientOrigin, ClientValidationLayer, MemoryRegistry, RegistryStore, StoreError,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, so that nothing else allocates at the same time.
#[test]
fn memory() {
    the_bytes_are_those_that_are_allocated();
    a_flood_of_large_clients_stays_within_the_bound();
    all_pages_together_allocate_what_one_does();
    a_refusal_allocates_little();
}

fn live_bytes() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn client(number: usize, members: Value) -> Client {
    let mut members = members;
    members["client_id"] = format!("client-{number:05}").into();
    if let Some(scope) = members.get("scope") {
        members["scope"] = format!("{}{number}", scope.as_str().unwrap()).into();
    }
    members["redirect_uris"] = json!([format!("https://app{number:05}.example/callback")]);
    Client::from_metadata(members).unwrap()
}

fn the_bytes_are_those_that_are_allocated() {
    let empty_strings = json!(vec![""; 1_000]);
    let members: serde_json::Map<String, Value> = (0..200).map(|number| (format!("m{number}"), json!({}))).collect();
    for (shape, members) in [
        ("plain", json!({})),
        ("a name", json!({"client_name": "A client with a name"})),
        ("a scope list of its own", json!({"scope": "s".repeat(2_000)})),
        ("one member", json!({"software_id": "x"})),
        ("empty strings", json!({"contacts": empty_strings})),
        ("nested lists", json!({"contacts": vec![json!([[], []]); 100]})),
        ("many members", Value::Object(members)),
        ("objects", json!({"own": vec![json!({"a": 1}); 100]})),
        ("a long text", json!({"client_uri": format!("https://app.example/{}", "a".repeat(8_000))})),
    ] {
        let count = 1_000;
        let registry = MemoryRegistry::new().max_bytes(usize::MAX);
        // The map allocates room for more than it holds.
        let before = live_bytes();
        for number in 0..count {
            registry.insert(client(number, members.clone())).unwrap();
        }
        let live = (live_bytes() - before) / count;
        let counted = registry.bytes() / count;
        assert!(counted * 10 >= live * 9, "{shape}: {counted} bytes are counted, {live} are live");
        assert!(counted <= live * 2, "{shape}: {counted} bytes are counted, {live} are live");
        for number in 0..count {
            registry.remove(&format!("client-{number:05}")).unwrap();
        }
        // Scope lists that no client has any more make room.
        registry.clone().max_bytes(500_000).insert(client(0, members)).unwrap();
    }
}

/// 64 KiB of JSON, which take ten times as much once they are stored.
fn a_flood_of_large_clients_stays_within_the_bound() {
    const MAX_BYTES: usize = 8 * 1024 * 1024;
    let registry = MemoryRegistry::new().max_bytes(MAX_BYTES);
    let large = json!({"contacts": vec![""; 21_000]});
    registry.insert(client(0, json!({}))).unwrap();
    let before = live_bytes();
    let mut refused = 0;
    for number in 1..=200 {
        let inserted =
            RegistryStore::insert(&registry, client(number, large.clone()), ClientOrigin::Registered).now_or_never();
        match inserted.unwrap() {
            Ok(_) => {}
            Err(StoreError::Full) => refused += 1,
            Err(error) => unreachable!("{error}"),
        }
    }
    assert!((100..200).contains(&refused), "{refused} of 200 were refused");
    assert!(live_bytes() - before < MAX_BYTES + MAX_BYTES / 4, "{} bytes are live", live_bytes() - before);
    assert!(registry.bytes() <= MAX_BYTES);

    // Nor does a client grow past the bound; but it may shrink, be revoked, and make room.
    let grown = |number| client(number, json!({"contacts": vec![""; 60_000]}));
    assert!(matches!(registry.replace(grown(0)), Err(StoreError::Full)));
    assert!(matches!(registry.replace(grown(1)), Err(StoreError::Full)));
    let known = registry.get("client-00000").unwrap();
    let exchanged = registry.replace_unchanged(&known, grown(0)).now_or_never().unwrap();
    assert!(matches!(exchanged, Err(StoreError::Full)));
    registry.revoke("client-00001").unwrap();
    registry.replace(client(2, json!({}))).unwrap();
    registry.remove("client-00003").unwrap();
    registry.insert(client(900, large)).unwrap();
    // What the operator configured is not refused.
    registry.replace_all([grown(0), grown(1), grown(2), grown(3), grown(4), grown(5)]);
    assert_eq!(registry.len(), 6);
    assert!(matches!(registry.insert(client(7, json!({}))), Err(StoreError::Full)));
}

/// A page that sorts the clients, or collects those that follow, allocates more the more clients there are.
fn all_pages_together_allocate_what_one_does() {
    let registry: MemoryRegistry = (0..20_000).map(|number| client(number, json!({}))).collect();
    let pages = |limit: usize| {
        let before = INSTRUMENTED_SYSTEM.stats().bytes_allocated;
        let (mut after, mut listed): (Option<String>, _) = (None, 0);
        loop {
            let page = RegistryStore::list(&registry, after.as_deref(), limit).now_or_never().unwrap().unwrap();
            let Some(last) = page.last() else { break };
            listed += page.len();
            after = Some(last.client.id().to_owned());
        }
        assert_eq!(listed, 20_000);
        INSTRUMENTED_SYSTEM.stats().bytes_allocated - before
    };
    let one = pages(20_000);
    let many = pages(100);
    assert!(many < one * 2, "200 pages allocated {many} bytes, one page {one}");
}

/// Floods consist of refused requests. One allocation keeps the request, three put the rejection into the extensions of
/// the response, two are for its headers; a redirect needs one more for its `Location`, and two more if that has escapes.
fn a_refusal_allocates_little() {
    let client = Client::builder("app").redirect_uri("https://app.example/cb").redirect_uri("http://127.0.0.1/cb");
    let client = client.scope("openid profile").build().unwrap();
    let layer = ClientValidationLayer::new(MemoryRegistry::from_clients([client]));
    let handler = |_: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) };
    let service = layer.layer(service_fn(handler));
    let allocations = |query: &str| {
        let request = Request::get(format!("/authorize?{query}")).body(Full::default()).unwrap();
        let service = service.clone();
        let before = INSTRUMENTED_SYSTEM.stats();
        let response = service.oneshot(request).now_or_never().unwrap().unwrap();
        let change = INSTRUMENTED_SYSTEM.stats() - before;
        (response.status(), change.allocations + change.reallocations)
    };
    // Labels that are not literals take one.
    let metrics = usize::from(cfg!(feature = "metrics"));
    // What is set up once does not count.
    allocations("client_id=app&redirect_uri=https://app.example/cb");
    allocations("client_id=app");

    for query in [
        "",
        "client_id=nobody&redirect_uri=https://app.example/cb",
        "client_id=app",
        "client_id=app&redirect_uri=https://app.example/other",
        "client_id=app&redirect_uri=http://127.0.0.1:8080/other",
        "client_id=app&redirect_uri=https://app.example/cb%23fragment",
        "client_id=app&redirect_uri=javascript:alert(1)",
    ] {
        assert_eq!(allocations(query), (StatusCode::BAD_REQUEST, 6 + metrics), "{query}");
    }
    for parameters in [
        "",
        "&response_type=token",
        "&response_type=code",
        "&response_type=code&scope=openid+admin",
        "&response_type=code&scope=%22&state=af0ifjsldkj",
        "&response_type=code&code_challenge=short",
    ] {
        let query = format!("client_id=app&redirect_uri=https://app.example/cb{parameters}");
        assert_eq!(allocations(&query), (StatusCode::FOUND, 7 + metrics), "{query}");
    }
    let escapes = "client_id=app&redirect_uri=https://app.example/cb&state=%2F%3D";
    assert_eq!(allocations(escapes), (StatusCode::FOUND, 9 + metrics));
}
