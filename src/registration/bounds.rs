//! Limits on the number of registrations and on the lifetime of unused ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex, Semaphore};

use super::policy::RegistrationPolicy;
use crate::client::{Client, ClientError, ClientOrigin, unix_seconds};
use crate::http::endpoint::Refusal;
use crate::registry::{RegistryError, RegistryStore, StoreError};

/// How often a registration also removes those whose lifetime has ended.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(60);

/// How many registrations are removed at once: few enough for a store to finish while a request waits.
const BATCH: u64 = 1_000;

/// How many registrations may wait for their turn. Further ones are refused.
const MAX_WAITING: usize = 1_000;

/// A client that was used within this time is never removed to make room.
const RECENTLY_USED: Duration = Duration::from_secs(24 * 3600);

/// The bounds of a policy on the registrations of one origin.
pub(super) struct Bounds {
    origin: ClientOrigin,
    max_registrations: Option<u64>,
    max_registrations_per_source: Option<u64>,
    unused_lifetime: Option<Duration>,
    idle_lifetime: Option<Duration>,
    waiting: Semaphore,
    /// Locked from counting to inserting, so that concurrent registrations do not exceed the maximum. Fair, so that no registration
    /// waits forever. Holds when the store was last unavailable.
    adding: Mutex<Option<Instant>>,
    /// Seconds since the epoch.
    cleaned_up_at: AtomicU64,
}

/// A client was not added.
pub(super) enum AddError {
    Store(RegistryError),
    Refused(Refusal),
}

impl Bounds {
    pub(super) fn new(origin: ClientOrigin, policy: &RegistrationPolicy) -> Self {
        Self {
            origin,
            max_registrations: policy.max_registrations,
            max_registrations_per_source: policy.per_source_limit(),
            unused_lifetime: policy.unused_lifetime,
            idle_lifetime: policy.idle_lifetime,
            waiting: Semaphore::new(MAX_WAITING),
            adding: Mutex::new(None),
            cleaned_up_at: AtomicU64::new(0),
        }
    }

    /// Runs one `add` after the other.
    pub(super) async fn one_at_a_time<T>(&self, add: impl Future<Output = Result<T, AddError>>) -> Result<T, Refusal> {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Refusal::unavailable("too many clients are being registered"));
        };
        let arrived = Instant::now();
        let mut last_outage = self.adding.lock().await;
        // Otherwise each waiter would run into the timeout of the store, one after the other.
        if last_outage.is_some_and(|at| at >= arrived) {
            return Err(Refusal::unavailable("the client registry is temporarily unavailable"));
        }
        add.await.map_err(|error| match error {
            AddError::Refused(refusal) => refusal,
            AddError::Store(error) => {
                if error.is_transient() {
                    *last_outage = Some(Instant::now());
                }
                error.into()
            }
        })
    }

    /// Makes room for one more client from this source. `removed` gets the clients that were removed, also when they
    /// were too few.
    pub(super) async fn make_room(
        &self,
        source: Option<&str>,
        store: &impl RegistryStore,
        removed: &mut Vec<String>,
    ) -> Result<(), AddError> {
        if let (Some(max), Some(source)) = (self.max_registrations_per_source, source) {
            let count = store.count_by_source(self.origin, source).await?;
            self.evict_all((count + 1).saturating_sub(max), Some(source), store, removed).await?;
        }
        if let Some(max) = self.max_registrations {
            let count = store.count(self.origin).await?;
            self.evict_all((count + 1).saturating_sub(max), None, store, removed).await?;
        }
        Ok(())
    }

    /// Adds a client, or returns `None` if its id is taken. In a store that is full, others make room for it.
    pub(super) async fn insert(
        &self,
        client: Client,
        store: &impl RegistryStore,
        removed: &mut Vec<String>,
    ) -> Result<Option<Arc<Client>>, AddError> {
        // Doubled, since a large client takes the room of many small ones.
        let mut too_many = 1;
        loop {
            match store.insert(client.clone(), self.origin).await {
                Err(StoreError::AlreadyExists) => return Ok(None),
                Err(StoreError::Full) if too_many <= BATCH => {
                    if self.evict(too_many, None, store, removed).await? == too_many {
                        return Err(StoreError::Full.into());
                    }
                    too_many *= 2;
                }
                inserted => return Ok(Some(inserted?)),
            }
        }
    }

    async fn evict_all(
        &self,
        too_many: u64,
        source: Option<&str>,
        store: &impl RegistryStore,
        removed: &mut Vec<String>,
    ) -> Result<(), AddError> {
        match self.evict(too_many, source, store, removed).await? {
            0 => Ok(()),
            _ => Err(StoreError::Full.into()),
        }
    }

    /// Removes clients that were never used, or else those that were not used for longest. Returns how many are still
    /// too many.
    async fn evict(
        &self,
        too_many: u64,
        source: Option<&str>,
        store: &impl RegistryStore,
        removed: &mut Vec<String>,
    ) -> Result<u64, RegistryError> {
        let mut left = too_many.min(BATCH);
        if left == 0 {
            return Ok(0);
        }
        let now = SystemTime::now();
        // Stores keep whole seconds: include those of the current one.
        let just_now = now + Duration::from_secs(2);
        let unused = match source {
            Some(source) => store.remove_unused_by_source(self.origin, source, just_now, left).await?,
            None => store.remove_unused(self.origin, just_now, left).await?,
        };
        left = left.saturating_sub(unused.len() as u64);
        removed.extend(unused);
        if let (1.., Some(used_before)) = (left, now.checked_sub(RECENTLY_USED)) {
            let idle = store.remove_idle(self.origin, source, used_before, left).await?;
            left = left.saturating_sub(idle.len() as u64);
            removed.extend(idle);
        }
        tracing::info!(removed = removed.len(), by_source = source.is_some(), "a new registration replaces others");
        Ok(left)
    }

    /// Removes all registrations whose lifetime has ended. `removed` gets them, also before a failure.
    pub(super) async fn clean_up(
        &self,
        store: &impl RegistryStore,
        removed: &mut Vec<String>,
    ) -> Result<(), RegistryError> {
        let now = SystemTime::now();
        while self.clean_up_batch(store, now, removed).await? {}
        Ok(())
    }

    /// Removes a batch if none was removed recently. A failure refuses no registration: the maximum holds without it.
    pub(super) async fn clean_up_if_due(&self, store: &impl RegistryStore, removed: &mut Vec<String>) {
        let now = SystemTime::now();
        let since_last = unix_seconds(now).saturating_sub(self.cleaned_up_at.load(Ordering::Relaxed));
        if since_last < CLEAN_UP_EVERY.as_secs() {
            return;
        }
        self.cleaned_up_at.store(unix_seconds(now), Ordering::Relaxed);
        match self.clean_up_batch(store, now, removed).await {
            Ok(false) => {}
            // The next registration continues.
            Ok(true) => self.cleaned_up_at.store(0, Ordering::Relaxed),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(cause, "registrations whose lifetime has ended could not be removed");
            }
        }
    }

    /// Returns whether there may be more.
    async fn clean_up_batch(
        &self,
        store: &impl RegistryStore,
        now: SystemTime,
        removed: &mut Vec<String>,
    ) -> Result<bool, RegistryError> {
        let before = |lifetime: Option<Duration>| lifetime.and_then(|lifetime| now.checked_sub(lifetime));
        let mut is_full = false;
        if let Some(created_before) = before(self.unused_lifetime) {
            let unused = store.remove_unused(self.origin, created_before, BATCH).await?;
            is_full |= unused.len() as u64 >= BATCH;
            removed.extend(unused);
        }
        if let Some(used_before) = before(self.idle_lifetime) {
            let idle = store.remove_idle(self.origin, None, used_before, BATCH).await?;
            is_full |= idle.len() as u64 >= BATCH;
            removed.extend(idle);
        }
        Ok(is_full)
    }
}

impl From<RegistryError> for AddError {
    fn from(error: RegistryError) -> Self {
        Self::Store(error)
    }
}

impl From<StoreError> for AddError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Registry(error) => Self::Store(error),
            error => Self::Refused(error.into()),
        }
    }
}

impl From<Refusal> for AddError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ClientError> for AddError {
    fn from(error: ClientError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<getrandom::Error> for AddError {
    fn from(error: getrandom::Error) -> Self {
        Self::Refused(error.into())
    }
}
