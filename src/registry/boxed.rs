//! Sources and stores whose type is hidden.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use super::store::{Record, RegistryStore, StoreError, forward_store};
use super::{RegistryError, RegistrySource};
use crate::client::{Client, ClientOrigin};

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
    forward_store!(self => self.0);
}

impl<S> fmt::Debug for Boxed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}
