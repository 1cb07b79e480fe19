use std::time::Duration;

use futures::future::BoxFuture;

use super::{StateBounds, StateError, StateStore};

/// A store with a prefix before its keys, see [`StateStore::prefixed`].
#[derive(Clone, Debug)]
pub struct PrefixedStateStore<S> {
    store: S,
    prefix: Box<str>,
}

impl<S> PrefixedStateStore<S> {
    pub(super) fn new(store: S, prefix: String) -> Self {
        Self { store, prefix: prefix.into() }
    }

    /// With its length, so that no other prefix and key give the same.
    fn prefixed(&self, key: &str) -> String {
        format!("{}:{}{key}", self.prefix.len(), self.prefix)
    }
}

impl<S: StateStore> StateStore for PrefixedStateStore<S> {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        let kind = bounds.group().map(|(kind, _)| self.prefixed(kind)).unwrap_or_default();
        self.store.put_new_bounded(&self.prefixed(key), value, lifetime, bounds.with_kind(&kind))
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        self.store.get(&self.prefixed(key))
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        self.store.take(&self.prefixed(key))
    }
}
