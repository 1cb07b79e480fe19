//! How many registrations there may be, and how long those stay that were never used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

use super::answer::Refusal;
use super::policy::RegistrationPolicy;
use crate::client::unix_seconds;
use crate::registry::{ClientOrigin, RegistryError, RegistryStore};

/// How often registrations that were never used are looked for by the way.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(60);

/// How many registrations are removed at a time: no more than a store gets done while somebody waits.
const BATCH: u64 = 1_000;

/// The bounds of a policy on the registrations of one origin.
pub(super) struct Bounds {
    origin: ClientOrigin,
    most: Option<u64>,
    unused_lifetime: Option<Duration>,
    /// Held from counting to inserting, so that registrations at the same time do not go past the cap.
    /// Holds when the store last failed for the time being. First come, first served: nobody waits for ever.
    entering: Mutex<Option<Instant>>,
    /// Seconds since the epoch.
    cleaned_up_at: AtomicU64,
}

impl Bounds {
    pub(super) fn new(origin: ClientOrigin, policy: &RegistrationPolicy) -> Self {
        Self {
            origin,
            most: policy.max_registrations,
            unused_lifetime: policy.unused_lifetime,
            entering: Mutex::new(None),
            cleaned_up_at: AtomicU64::new(0),
        }
    }

    /// Lets one registration after the other count and insert.
    pub(super) async fn alone<T>(&self, enter: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let arrived = Instant::now();
        let mut last_outage = self.entering.lock().await;
        // Or all that wait would find it out one after the other, each for as long as the store takes to fail.
        if last_outage.is_some_and(|at| at >= arrived) {
            return Err(Refusal::outage());
        }
        let entered = enter.await;
        if entered.as_ref().is_err_and(|refusal| refusal.is_outage) {
            *last_outage = Some(Instant::now());
        }
        entered
    }

    /// Makes room for one more. What had to go is in `removed`, whether that was enough or not.
    pub(super) async fn make_room(&self, store: &impl RegistryStore, removed: &mut Vec<String>) -> Result<(), Refusal> {
        let Some(most) = self.most else {
            return Ok(());
        };
        let too_many = (store.count(self.origin).await? + 1).saturating_sub(most).min(BATCH);
        if too_many > 0 {
            // Stores keep whole seconds: those of this very second count too.
            let just_now = SystemTime::now() + Duration::from_secs(2);
            let evicted = store.remove_unused(self.origin, just_now, too_many).await?;
            let is_enough = evicted.len() as u64 >= too_many;
            tracing::info!(removed = evicted.len(), "unused registrations made room for a new one");
            removed.extend(evicted);
            if !is_enough {
                return Err(Refusal::unavailable("no more clients can be registered for now"));
            }
        }
        Ok(())
    }

    /// Removes all that were not used in their time. What went is in `removed`, also before a failure.
    pub(super) async fn clean_up(
        &self,
        store: &impl RegistryStore,
        removed: &mut Vec<String>,
    ) -> Result<(), RegistryError> {
        let now = SystemTime::now();
        while self.clean_up_batch(store, now, removed).await? {}
        Ok(())
    }

    /// Whether there may be more.
    async fn clean_up_batch(
        &self,
        store: &impl RegistryStore,
        now: SystemTime,
        removed: &mut Vec<String>,
    ) -> Result<bool, RegistryError> {
        let Some(created_before) = self.unused_lifetime.and_then(|lifetime| now.checked_sub(lifetime)) else {
            return Ok(false);
        };
        let batch = store.remove_unused(self.origin, created_before, BATCH).await?;
        let is_full = batch.len() as u64 >= BATCH;
        removed.extend(batch);
        Ok(is_full)
    }

    /// A failure is no reason to refuse anybody: the cap is held without it.
    pub(super) async fn clean_up_by_the_way(&self, store: &impl RegistryStore, removed: &mut Vec<String>) {
        let now = SystemTime::now();
        let since_last = unix_seconds(now).saturating_sub(self.cleaned_up_at.load(Ordering::Relaxed));
        if since_last < CLEAN_UP_EVERY.as_secs() {
            return;
        }
        self.cleaned_up_at.store(unix_seconds(now), Ordering::Relaxed);
        match self.clean_up_batch(store, now, removed).await {
            Ok(false) => {}
            // The next registration goes on.
            Ok(true) => self.cleaned_up_at.store(0, Ordering::Relaxed),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(cause, "registrations that were never used could not be removed");
            }
        }
    }
}
