//! How registrations can be taken back at the upstream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use url::Url;

/// A client configuration endpoint of the upstream, and the access token for it, in the clear: never for a store.
#[derive(Clone)]
pub(super) struct Withdrawal {
    pub(super) uri: Url,
    pub(super) token: String,
}

/// Those of the youngest clients.
pub(super) struct Withdrawals {
    most: usize,
    by_age: Mutex<VecDeque<(String, Withdrawal)>>,
}

impl Withdrawals {
    pub(super) fn new(most: u64) -> Self {
        Self { most: usize::try_from(most).unwrap_or(usize::MAX), by_age: Mutex::default() }
    }

    pub(super) fn remember(&self, client_id: &str, withdrawal: Withdrawal) {
        let mut by_age = self.by_age();
        take(&mut by_age, client_id);
        by_age.push_back((client_id.to_owned(), withdrawal));
        if by_age.len() > self.most {
            by_age.pop_front();
        }
    }

    pub(super) fn take(&self, client_id: &str) -> Option<Withdrawal> {
        take(&mut self.by_age(), client_id)
    }

    fn by_age(&self) -> MutexGuard<'_, VecDeque<(String, Withdrawal)>> {
        self.by_age.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients that are taken away are the oldest, so it is near the front.
fn take(by_age: &mut VecDeque<(String, Withdrawal)>, client_id: &str) -> Option<Withdrawal> {
    let position = by_age.iter().position(|(id, _)| id == client_id)?;
    by_age.remove(position).map(|(_, withdrawal)| withdrawal)
}
