//! A source whose type is hidden.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use super::store::{ClientOrigin, Record, RegistryStore, StoreError};
use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// A source of any type, see [`RegistrySource::boxed`]. Each lookup allocates its future.
pub type BoxRegistry =
    Arc<dyn RegistrySource<Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>> + Send + Sync>;

/// A store of any type, see [`RegistryStore::boxed_store`]. Each lookup allocates its future.
pub type BoxStore = Arc<dyn RegistryStore<Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>>>;

/// A source whose futures are boxed.
pub(super) struct Boxed<S>(S);

impl<S> Boxed<S> {
    pub(super) fn new(source: S) -> Self {
        Self(source)
    }
}

impl<S> RegistrySource for Boxed<S>
where
    S: RegistrySource,
    S::Future: Send + 'static,
{
    type Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        Box::pin(self.0.find_client(client_id))
    }
}

impl<S> RegistryStore for Boxed<S>
where
    S: RegistryStore,
    S::Future: Send + 'static,
{
    fn insert(&self, client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        self.0.insert(client, origin)
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        self.0.replace(client)
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        self.0.replace_unchanged(known, client)
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.revoke(client_id)
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.remove(client_id)
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.remove_unchanged(known)
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.touch(client_id, at)
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        self.0.record(client_id)
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        self.0.list(after, limit)
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
        self.0.remove_unused(origin, created_before, most)
    }

    fn count_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
    ) -> BoxFuture<'a, Result<u64, RegistryError>> {
        self.0.count_by_source(origin, source)
    }

    fn remove_unused_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        self.0.remove_unused_by_source(origin, source, created_before, max)
    }

    fn remove_idle<'a>(
        &'a self,
        origin: ClientOrigin,
        source: Option<&'a str>,
        used_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        self.0.remove_idle(origin, source, used_before, max)
    }
}

impl<S> fmt::Debug for Boxed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}
