//! Configured clients that can answer a registration.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::lock::Mutex;
use tokio::time::Instant;

use crate::client::{Client, ClientKind, ClientOrigin, LoopbackPorts};
use crate::http::endpoint::Refusal;
use crate::registry::RegistryStore;

/// How many clients are read at once.
const PAGE: usize = 256;

/// How long the configured clients that were read are taken for all that exist.
const CURRENT_FOR: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct ConfiguredClients {
    read: Mutex<Option<(Instant, Arc<[Arc<Client>]>)>>,
}

impl ConfiguredClients {
    /// The only configured client that allows all these redirect URIs, if it is public: a stranger must not get the
    /// secret of a client.
    pub(super) async fn admitting(
        &self,
        redirect_uris: &[&str],
        store: &impl RegistryStore,
    ) -> Result<Option<Arc<Client>>, Refusal> {
        let admits = |client: &Client| {
            let admits = |uri: &&str| client.check_redirect_uri(uri, LoopbackPorts::Any).is_ok();
            client.is_active_at(SystemTime::now()) && redirect_uris.iter().all(admits)
        };
        if redirect_uris.is_empty() {
            return Ok(None);
        }
        let clients = self.all(store).await?;
        let mut admitting = clients.iter().filter(|client| admits(client));
        let (Some(only), None) = (admitting.next(), admitting.next()) else {
            return Ok(None);
        };
        // It may have changed since it was read.
        let record = store.record(only.id()).await?.filter(|record| record.origin == ClientOrigin::Configured);
        let is_usable = |client: &Arc<Client>| client.kind() == ClientKind::Public && admits(client);
        Ok(record.map(|record| record.client).filter(is_usable))
    }

    /// Read once for all registrations within a while: in a large store this takes many pages.
    async fn all(&self, store: &impl RegistryStore) -> Result<Arc<[Arc<Client>]>, Refusal> {
        let mut read = self.read.lock().await;
        if let Some((_, clients)) = read.as_ref().filter(|(at, _)| at.elapsed() < CURRENT_FOR) {
            return Ok(Arc::clone(clients));
        }
        let mut clients = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.list(after.as_deref(), PAGE).await?;
            after = page.last().filter(|_| page.len() == PAGE).map(|record| record.client.id().to_owned());
            let configured = page.into_iter().filter(|record| record.origin == ClientOrigin::Configured);
            clients.extend(configured.map(|record| record.client));
            if after.is_none() {
                let clients: Arc<[_]> = clients.into();
                *read = Some((Instant::now(), Arc::clone(&clients)));
                return Ok(clients);
            }
        }
    }
}
