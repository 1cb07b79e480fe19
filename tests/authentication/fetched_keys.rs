//! Key sets behind a `jwks_uri`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_oauth_client_validation::{
    AuthenticationFailure, AuthenticationPolicy, Client, ClientAuthenticator, FetchedKeys, FetchedKeysBuilder,
    KeySource, MemoryRegistry, MemoryStateStore,
};

use super::{ISSUER, assertion, assertion_form, form};
use crate::signing::{key, key_set};

fn client(uri: &str) -> Client {
    let method = "private_key_jwt";
    Client::from_metadata(json!({ "client_id": "jwt", "token_endpoint_auth_method": method, "jwks_uri": uri })).unwrap()
}

/// Answers with these documents in turn, the last one again and again, and counts.
fn host(answers: &[(u16, Value)], asked: &Arc<AtomicUsize>) -> FetchedKeysBuilder {
    let (answers, asked) = (answers.to_vec(), Arc::clone(asked));
    FetchedKeys::builder().fetcher(tower::service_fn(move |_: Request<Full<Bytes>>| {
        let (status, document) = &answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
        let response = Response::builder().status(*status).body(Full::<Bytes>::from(document.to_string()));
        std::future::ready(response)
    }))
}

async fn authenticate(keys: impl KeySource + 'static, id: &str) -> Result<(), AuthenticationFailure> {
    let store = Arc::new(MemoryStateStore::new());
    let policy = AuthenticationPolicy::builder().issuer(ISSUER).replay_store(store).keys(keys).build().unwrap();
    let clients = MemoryRegistry::from_clients([client("https://app.example/keys")]);
    let (parts, _) = form("").into_parts();
    let body = assertion_form(&assertion(&json!({ "jti": id })));
    let decision = ClientAuthenticator::new(clients, policy).authenticate(&parts, body.as_bytes()).await;
    decision.map(drop).map_err(|error| error.failure())
}

#[tokio::test]
async fn a_set_is_fetched_once_and_used_until_it_is_too_old() {
    let asked = Arc::default();
    let keys = host(&[(200, key_set(&["es256"], &json!({})))], &asked).build().unwrap();
    for id in ["1", "2", "3"] {
        assert_eq!(authenticate(keys.clone(), id).await, Ok(()));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let asked = Arc::default();
    let keys = host(&[(200, key_set(&["es256"], &json!({})))], &asked).lifetime(Duration::ZERO).build().unwrap();
    assert_eq!((authenticate(keys.clone(), "1").await, authenticate(keys, "2").await), (Ok(()), Ok(())));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_unknown_key_is_fetched_again_but_not_more_often_than_set() {
    let (old, new) = (key_set(&["rsa"], &json!({})), key_set(&["rsa", "es256"], &json!({})));
    let asked = Arc::default();
    let keys = host(&[(200, old.clone()), (200, new)], &asked).refresh_interval(Duration::ZERO).build().unwrap();
    assert_eq!(authenticate(keys, "1").await, Ok(()));
    assert_eq!(asked.load(Ordering::Relaxed), 2);

    let asked = Arc::default();
    let keys = host(&[(200, old)], &asked).build().unwrap();
    for id in ["1", "2", "3"] {
        assert_eq!(authenticate(keys.clone(), id).await, Err(AuthenticationFailure::AssertionKey));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "anybody can name unknown keys");
}

#[tokio::test]
async fn the_last_set_is_used_while_its_host_fails() {
    let set = key_set(&["es256"], &json!({}));
    let failing = [(200, set.clone()), (503, json!({}))];
    let asked = Arc::default();
    let keys = host(&failing, &asked).lifetime(Duration::ZERO).build().unwrap();
    assert_eq!((authenticate(keys.clone(), "1").await, authenticate(keys, "2").await), (Ok(()), Ok(())));
    assert_eq!(asked.load(Ordering::Relaxed), 2);

    let asked = Arc::default();
    let keys = host(&failing, &asked).lifetime(Duration::ZERO).stale_if_error(Duration::ZERO).build().unwrap();
    assert_eq!(authenticate(keys.clone(), "1").await, Ok(()));
    assert_eq!(authenticate(keys, "2").await, Err(AuthenticationFailure::KeysUnavailable));
}

#[tokio::test]
async fn anything_but_a_set_of_public_keys_is_rejected() {
    let mut private = key("es256").public();
    private["d"] = "AA".into();
    for (status, document) in [
        (404, key_set(&["es256"], &json!({}))),
        (302, key_set(&["es256"], &json!({}))),
        (200, json!({ "keys": [private] })),
        (200, json!({ "keys": "none" })),
        (200, json!("text")),
        (200, json!({ "keys": [], "padding": "x".repeat(70_000) })),
    ] {
        let keys = host(&[(status, document)], &Arc::default()).build().unwrap();
        assert_eq!(authenticate(keys, "1").await, Err(AuthenticationFailure::KeysUnavailable), "{status}");
    }
}

#[tokio::test]
async fn private_addresses_are_not_connected_to() {
    for uri in ["https://127.0.0.1/keys", "https://localhost/keys", "https://10.0.0.1/keys", "https://[::1]/keys"] {
        let keys = FetchedKeys::builder().resolver(|_| async { Ok(vec!["127.0.0.1".parse().unwrap()]) });
        assert!(keys.build().unwrap().keys(&client(uri), false).await.is_err(), "{uri}");
    }
}

#[tokio::test]
async fn registered_keys_take_precedence_over_a_jwks_uri() {
    let asked = Arc::default();
    let keys = host(&[(500, json!({}))], &asked).build().unwrap();
    assert_eq!(keys.keys(&super::jwt_client(), true).await.unwrap().as_deref(), Some(&key_set(&["es256"], &json!({}))));
    assert!(keys.keys(&Client::builder("app").build().unwrap(), false).await.unwrap().is_none());
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
