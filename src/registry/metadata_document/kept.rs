//! Documents that a [`RegistryStore`] keeps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::cache::{Lifetime, RETRY_INTERVAL};
use crate::client::member::TIMES;
use crate::client::operator::{is_changed_by_operator, with_granted, with_operator_changes};
use crate::client::{Client, ClientOrigin, from_unix_seconds, unix_seconds};
use crate::registry::{BoxStore, RegistryError, RegistryStore, StoreError};

/// How long a document is kept without being used.
const MAX_IDLE: Duration = Duration::from_secs(90 * 86_400);

/// How often a write is repeated because the client was changed concurrently.
const MAX_ROUNDS: usize = 8;

/// The store, and state that it does not hold.
pub(super) struct KeptDocuments {
    store: BoxStore,
    max_documents: usize,
    /// When hosts that failed are asked again.
    retries: Mutex<HashMap<Box<str>, Instant>>,
}

/// What the store has for an id.
pub(super) enum Kept {
    Missing,
    /// A client that did not come from a document, or that the operator switched off: it is answered as it is.
    Decided(Arc<Client>),
    Document(Arc<Client>, Times),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) refresh_from: SystemTime,
    pub(super) fresh_until: SystemTime,
    pub(super) stale_until: SystemTime,
}

impl KeptDocuments {
    pub(super) fn new(store: BoxStore, max_documents: usize) -> Self {
        Self { store, max_documents, retries: Mutex::default() }
    }

    pub(super) async fn find(&self, client_id: &str) -> Result<Kept, RegistryError> {
        let Some(record) = self.store.record(client_id).await? else {
            return Ok(Kept::Missing);
        };
        let client = record.client;
        if record.origin != ClientOrigin::MetadataDocument || !client.is_active_at(SystemTime::now()) {
            return Ok(Kept::Decided(client));
        }
        let times = Times::of(&client);
        Ok(Kept::Document(client, times))
    }

    /// Keeps a document that was fetched, unless there is no room for it. What the operator decided about the client stays.
    pub(super) async fn put(&self, client: &Client, lifetime: Lifetime) -> Result<Arc<Client>, RegistryError> {
        let client = Times::from_now(lifetime).set(client)?;
        for _ in 0..MAX_ROUNDS {
            let written = match self.store.record(client.id()).await? {
                None if self.has_room().await? => {
                    let client = with_granted(&client).map_err(RegistryError::permanent)?;
                    self.store.insert(client, ClientOrigin::MetadataDocument).await
                }
                None => return Ok(Arc::new(client)),
                Some(record) if record.origin != ClientOrigin::MetadataDocument => return Ok(record.client),
                Some(record) if !record.client.is_active_at(SystemTime::now()) => return Ok(record.client),
                Some(record) => {
                    let new = with_operator_changes(&record.client, &client).map_err(RegistryError::permanent)?;
                    self.store.replace_unchanged(&record.client, new.client).await
                }
            };
            match written {
                Ok(client) => return Ok(client),
                Err(StoreError::AlreadyExists | StoreError::Changed | StoreError::Missing) => {}
                Err(StoreError::Full) => return Ok(Arc::new(client)),
                Err(StoreError::Registry(error)) => return Err(error),
            }
        }
        Err(RegistryError::transient(StoreError::Changed))
    }

    /// Removes a document that was withdrawn or became unusable, unless the operator switched the client off. A client
    /// that the operator limited stays without a document that could be answered: otherwise its host could withdraw the
    /// document and publish it again to get rid of the limit.
    pub(super) async fn remove(&self, client_id: &str) -> Result<(), RegistryError> {
        for _ in 0..MAX_ROUNDS {
            let Kept::Document(client, times) = self.find(client_id).await? else {
                return Ok(());
            };
            let removed = match is_changed_by_operator(&client) {
                true if times == Times::NEVER => return Ok(()),
                true => self.store.replace_unchanged(&client, Times::NEVER.set(&client)?).await.map(drop),
                false => self.store.remove_unchanged(&client).await,
            };
            match removed {
                Ok(()) => return Ok(()),
                Err(StoreError::Registry(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Err(RegistryError::transient(StoreError::Changed))
    }

    /// The oldest document that was never used makes room, or else one that was not used for long.
    async fn has_room(&self) -> Result<bool, RegistryError> {
        let origin = ClientOrigin::MetadataDocument;
        if self.store.count(origin).await? < self.max_documents as u64 {
            return Ok(true);
        }
        let now = SystemTime::now();
        let unused = self.store.remove_unused(origin, now + Duration::from_secs(1), 1).await?;
        let idle_since = now.checked_sub(MAX_IDLE).unwrap_or(now);
        Ok(!unused.is_empty() || !self.store.remove_idle(origin, None, idle_since, 1).await?.is_empty())
    }

    /// Whether the host failed a moment ago.
    pub(super) fn failed_recently(&self, client_id: &str) -> bool {
        self.retries().get(client_id).is_some_and(|retry_at| Instant::now() < *retry_at)
    }

    pub(super) fn host_failed(&self, client_id: &str) {
        let mut retries = self.retries();
        let now = Instant::now();
        if retries.len() >= self.max_documents {
            retries.retain(|_, retry_at| now < *retry_at);
        }
        retries.insert(client_id.into(), now + RETRY_INTERVAL);
    }

    fn retries(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    const NEVER: Self = Self {
        refresh_from: SystemTime::UNIX_EPOCH,
        fresh_until: SystemTime::UNIX_EPOCH,
        stale_until: SystemTime::UNIX_EPOCH,
    };

    fn of(client: &Client) -> Self {
        let times = client.metadata().and_then(|members| members.get(TIMES)).and_then(Value::as_array);
        let at = |index: usize| {
            let seconds = times.and_then(|times| times.get(index)?.as_u64()).unwrap_or_default();
            from_unix_seconds(seconds).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        Self { refresh_from: at(0), fresh_until: at(1), stale_until: at(2) }
    }

    /// A document that forbids storing is kept for the operator, but fetched each time.
    fn from_now(lifetime: Lifetime) -> Self {
        let now = SystemTime::now();
        let after = |duration: Duration| now.checked_add(duration).unwrap_or(now);
        let (fresh, stale) = lifetime.map_or_else(Default::default, |lifetime| (lifetime.fresh, lifetime.stale));
        Self { refresh_from: after(fresh / 4 * 3), fresh_until: after(fresh), stale_until: after(fresh + stale) }
    }

    fn set(self, client: &Client) -> Result<Client, RegistryError> {
        let [refresh_from, fresh_until, stale_until] =
            [self.refresh_from, self.fresh_until, self.stale_until].map(unix_seconds);
        let times = json!([refresh_from, fresh_until, stale_until]);
        client.to_builder().metadata(TIMES, times).build().map_err(RegistryError::permanent)
    }
}
