//! The bounds on what the example servers keep.

use std::sync::Arc;
use std::time::Duration;

use shared::store::{Issued, OneTime, Refused, Taken};

const LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
struct Value {
    client_id: &'static str,
    text: Arc<str>,
}

impl Issued for Value {
    fn client_id(&self) -> &str {
        self.client_id
    }

    fn size(&self) -> usize {
        self.text.len()
    }
}

fn value(client_id: &'static str, text: &str) -> Value {
    Value { client_id, text: text.into() }
}

fn is_there(store: &OneTime<Value>, client_id: &str, secret: &str) -> bool {
    matches!(store.take(client_id, secret, |_| true), Taken::First(_))
}

#[test]
fn a_secret_works_once_and_for_its_client_only() {
    let store = OneTime::new(LIFETIME, 10, 100_000);
    let secret = store.put(value("app", "text")).unwrap();
    assert!(matches!(store.take("other", &secret, |_| true), Taken::Unknown));
    assert!(matches!(store.take("app", &secret, |_| false), Taken::Unknown));
    assert!(matches!(store.take("app", &secret, |value| &*value.text == "text"), Taken::First(_)));
    assert!(matches!(store.take("app", &secret, |_| true), Taken::Again(_)));

    let renewed = store.renew(&secret, value("app", "text")).unwrap();
    assert!(matches!(store.take("app", &secret, |_| true), Taken::Again(_)));
    assert!(matches!(store.take("app", &renewed, |_| true), Taken::First(_)));
}

#[test]
fn a_value_expires() {
    let store = OneTime::new(Duration::ZERO, 10, 100_000);
    let secret = store.put(value("app", "text")).unwrap();
    assert!(matches!(store.take("app", &secret, |_| true), Taken::Unknown));
}

#[test]
fn a_client_evicts_its_own_values_only() {
    let store = OneTime::new(LIFETIME, 3, 100_000);
    let other = store.put(value("other", "text")).unwrap();
    let secrets: Vec<String> = (0..5).map(|_| store.put(value("app", "text")).unwrap()).collect();
    let kept: Vec<bool> = secrets.iter().map(|secret| is_there(&store, "app", secret)).collect();
    assert_eq!(kept, [false, false, true, true, true]);
    assert!(is_there(&store, "other", &other));
}

#[test]
fn used_secrets_are_evicted_first() {
    let store = OneTime::new(LIFETIME, 3, 100_000);
    let secrets: Vec<String> = (0..3).map(|_| store.put(value("app", "text")).unwrap()).collect();
    assert!(is_there(&store, "app", &secrets[2]));
    store.put(value("app", "text")).unwrap();
    assert!(is_there(&store, "app", &secrets[0]));
}

#[test]
fn a_renewal_takes_no_more_room() {
    let store = OneTime::new(LIFETIME, 2, 100_000);
    let quiet = store.put(value("app", "text")).unwrap();
    let mut busy = store.put(value("app", "text")).unwrap();
    for _ in 0..100 {
        assert!(is_there(&store, "app", &busy));
        busy = store.renew(&busy, value("app", "text")).unwrap();
    }
    assert!(is_there(&store, "app", &quiet));
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let store = OneTime::new(LIFETIME, 1_000, 100_000);
    let large = "x".repeat(10_000);
    let clients = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let secrets = clients.map(|client_id| store.put(value(client_id, &large)).unwrap());
    assert_eq!(store.put(value("j", &large)).unwrap_err(), Refused::Full);
    for (client_id, secret) in clients.iter().zip(&secrets) {
        assert!(is_there(&store, client_id, secret));
    }
}

#[test]
fn expired_values_are_evicted() {
    let store = OneTime::new(Duration::ZERO, 1_000, 100_000);
    let large = "x".repeat(10_000);
    for client_id in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        store.put(value(client_id, &large)).unwrap();
    }
}
