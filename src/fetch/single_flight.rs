//! One lookup for all callers that ask for the same key at the same time.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

/// How often a lookup is repeated because its key was invalidated while it ran.
const MAX_ROUNDS: usize = 8;

/// A lookup that [`SingleFlight`] runs.
pub(crate) trait Lookup: Send + Sync + 'static {
    /// What is read, before it is kept.
    type Read: Send;
    /// The answer that every waiter gets.
    type Answer: Clone + Send + Sync + 'static;

    fn read(&self, key: &str) -> impl Future<Output = Self::Read> + Send;

    /// Stores what was read. Called only if the key was not invalidated during the read, under the lock that
    /// invalidations take, so it must be short and must not call the [`SingleFlight`].
    fn keep(&self, key: &str, read: Self::Read) -> Self::Answer;

    fn interrupted(&self, why: Interrupted) -> Self::Answer;
}

/// Why a lookup has no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interrupted {
    Panicked,
    ChangedTooOften,
}

impl Interrupted {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Panicked => "the lookup panicked",
            Self::ChangedTooOften => "the client was changed again and again during the lookup",
        }
    }
}

/// The lookups in flight, at most one for each key. A lookup is dropped with its last waiter.
pub(crate) struct SingleFlight<A> {
    in_flight: Mutex<InFlight<A>>,
}

struct InFlight<A> {
    by_key: HashMap<Box<str>, Entry<A>>,
    last_number: u64,
}

struct Entry<A> {
    number: u64,
    future: WeakShared<BoxFuture<'static, A>>,
    /// The key was invalidated after the lookup began.
    outdated: bool,
}

impl<A: Clone + Send + Sync + 'static> SingleFlight<A> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { in_flight: Mutex::new(InFlight { by_key: HashMap::new(), last_number: 0 }) })
    }

    /// Waits for the lookup of `key`, which begins now unless it is in flight. `cached` is asked under the lock, so that
    /// a lookup that completed a moment ago is not repeated; `begin` may refuse with an answer.
    pub(crate) fn join<L>(
        self: &Arc<Self>,
        key: &str,
        cached: impl FnOnce() -> Option<A>,
        begin: impl FnOnce() -> Result<L, A>,
    ) -> LookupFuture<A>
    where
        L: Lookup<Answer = A>,
    {
        let mut in_flight = self.lock();
        if let Some(answer) = cached() {
            return LookupFuture::ready(answer);
        }
        if let Some(future) = in_flight.by_key.get(key).and_then(|entry| entry.future.upgrade()) {
            return LookupFuture(State::InFlight(future));
        }
        let lookup = match begin() {
            Ok(lookup) => lookup,
            Err(refused) => return LookupFuture::ready(refused),
        };
        in_flight.last_number += 1;
        let number = in_flight.last_number;
        let ticket = Ticket { flights: Arc::clone(self), key: key.into(), number };
        let future = ticket.run(lookup).boxed().shared();
        if let Some(weak) = future.downgrade() {
            in_flight.by_key.insert(key.into(), Entry { number, future: weak, outdated: false });
        }
        LookupFuture(State::InFlight(future))
    }

    /// Runs `forget`, and lets no lookup that is in flight keep what it read before.
    pub(crate) fn invalidate(&self, key: &str, forget: impl FnOnce()) {
        let mut in_flight = self.lock();
        if let Some(entry) = in_flight.by_key.get_mut(key) {
            entry.outdated = true;
        }
        forget();
    }

    /// Does the same for all keys.
    #[cfg(feature = "cache")]
    pub(crate) fn invalidate_all(&self, forget: impl FnOnce()) {
        let mut in_flight = self.lock();
        for entry in in_flight.by_key.values_mut() {
            entry.outdated = true;
        }
        forget();
    }
}

impl<A> SingleFlight<A> {
    fn lock(&self) -> MutexGuard<'_, InFlight<A>> {
        // No panic leaves the map half changed.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a lookup when it completes, or with its last waiter.
struct Ticket<A> {
    flights: Arc<SingleFlight<A>>,
    key: Box<str>,
    number: u64,
}

impl<A: Clone + Send + Sync + 'static> Ticket<A> {
    async fn run<L>(self, lookup: L) -> A
    where
        L: Lookup<Answer = A>,
    {
        for _ in 0..MAX_ROUNDS {
            // A panic would reach every waiter.
            let read = AssertUnwindSafe(async { lookup.read(&self.key).await }).catch_unwind().await;
            let Ok(read) = read else {
                return lookup.interrupted(Interrupted::Panicked);
            };
            if let Some(answer) = self.complete(|| lookup.keep(&self.key, read)) {
                return answer;
            }
        }
        lookup.interrupted(Interrupted::ChangedTooOften)
    }

    /// `None` when the lookup must be repeated.
    fn complete(&self, keep: impl FnOnce() -> A) -> Option<A> {
        let mut in_flight = self.flights.lock();
        if let Some(entry) = in_flight.by_key.get_mut(&self.key).filter(|entry| entry.number == self.number) {
            if std::mem::take(&mut entry.outdated) {
                return None;
            }
            in_flight.by_key.remove(&self.key);
        }
        Some(keep())
    }
}

impl<A> Drop for Ticket<A> {
    fn drop(&mut self) {
        let mut in_flight = self.flights.lock();
        if in_flight.by_key.get(&self.key).is_some_and(|entry| entry.number == self.number) {
            in_flight.by_key.remove(&self.key);
        }
    }
}

/// A lookup that callers may share. Ready at once if the answer is cached.
#[must_use = "futures do nothing unless polled"]
pub struct LookupFuture<A>(State<A>);

enum State<A> {
    Ready(Ready<A>),
    InFlight(Shared<BoxFuture<'static, A>>),
}

impl<A> LookupFuture<A> {
    pub(crate) fn ready(answer: A) -> Self {
        Self(State::Ready(ready(answer)))
    }
}

impl<A: Clone> Future for LookupFuture<A> {
    type Output = A;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A> {
        match &mut self.0 {
            State::Ready(answer) => answer.poll_unpin(cx),
            State::InFlight(lookup) => lookup.poll_unpin(cx),
        }
    }
}

impl<A> fmt::Debug for LookupFuture<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupFuture").finish_non_exhaustive()
    }
}
