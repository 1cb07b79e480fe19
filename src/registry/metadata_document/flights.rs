//! Fetches under way: one for each document, and not too many.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::Found;
use crate::client::Client;

/// A fetch that any number of lookups wait for. It ends when none of them does any more.
pub(super) type SharedFetch = Shared<BoxFuture<'static, Found>>;

tokio::task_local! {
    static PLACE: Arc<Place>;
}

/// The place of the fetch that is being polled; `None` outside of one.
pub(super) fn place() -> Option<Arc<Place>> {
    PLACE.try_with(Arc::clone).ok()
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) per_host: usize,
}

pub(super) enum Flight {
    /// It is there already.
    Landed(Arc<Client>),
    UnderWay(SharedFetch),
    TooMany,
}

pub(super) struct Flights {
    bounds: Bounds,
    air: Arc<Mutex<Air>>,
}

#[derive(Default)]
struct Air {
    by_id: HashMap<Box<str>, (u64, WeakShared<BoxFuture<'static, Found>>)>,
    by_host: HashMap<Box<str>, usize>,
    /// Under way, also where nobody waits any more and the end was not noticed yet.
    all: usize,
    last_number: u64,
}

impl Flights {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, air: Arc::default() }
    }

    /// The fetch that is under way for this document, or else a new one, which `begin` gives a number to land
    /// with. `landed` is asked once more, since a fetch may have ended since it was asked last.
    pub(super) fn join<F>(
        &self,
        client_id: &str,
        host: &str,
        landed: impl FnOnce() -> Option<Arc<Client>>,
        begin: impl FnOnce(u64) -> F,
    ) -> Flight
    where
        F: Future<Output = Found> + Send + 'static,
    {
        let mut air = lock(&self.air);
        if let Some(flight) = air.by_id.get(client_id).and_then(|(_, flight)| flight.upgrade()) {
            return Flight::UnderWay(flight);
        }
        if let Some(client) = landed() {
            return Flight::Landed(client);
        }
        let at_host = air.by_host.get(host).copied().unwrap_or_default();
        if air.all >= self.bounds.all || at_host >= self.bounds.per_host {
            return Flight::TooMany;
        }
        air.all += 1;
        air.last_number += 1;
        *air.by_host.entry(host.into()).or_default() += 1;
        let number = air.last_number;
        let place = Place { air: Arc::clone(&self.air), number, client_id: client_id.into(), host: host.into() };
        let flight = PLACE.scope(Arc::new(place), begin(number)).boxed().shared();
        if let Some(weak) = flight.downgrade() {
            air.by_id.insert(client_id.into(), (number, weak));
        }
        Flight::UnderWay(flight)
    }

    /// Runs `keep`, unless the document was [forgotten](Self::forget) since the fetch of this number began.
    pub(super) fn land(&self, client_id: &str, number: u64, keep: impl FnOnce()) {
        let air = lock(&self.air);
        if air.by_id.get(client_id).is_some_and(|(current, _)| *current == number) {
            keep();
        }
    }

    /// Runs `remove`, and lets no fetch land that began before.
    pub(super) fn forget(&self, client_id: &str, remove: impl FnOnce()) {
        let mut air = lock(&self.air);
        air.by_id.remove(client_id);
        remove();
    }
}

fn lock(air: &Mutex<Air>) -> MutexGuard<'_, Air> {
    // Nothing panics while it is held.
    air.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the air, given back when the fetch ends or nobody waits for it any more, and its lookup has ended.
pub(super) struct Place {
    air: Arc<Mutex<Air>>,
    number: u64,
    client_id: Box<str>,
    host: Box<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut air = lock(&self.air);
        air.all -= 1;
        if let Some(at_host) = air.by_host.get_mut(&self.host) {
            *at_host -= 1;
            if *at_host == 0 {
                air.by_host.remove(&self.host);
            }
        }
        if air.by_id.get(&self.client_id).is_some_and(|(number, _)| *number == self.number) {
            air.by_id.remove(&self.client_id);
        }
    }
}
