//! Clients that were removed here and are to be deleted at the upstream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::client::Management;

/// Access tokens of clients in the clear, which no store has, for the youngest clients.
pub(super) struct Withdrawals {
    max: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_age: VecDeque<(String, Management)>,
    due: VecDeque<(String, Management)>,
}

impl Withdrawals {
    pub(super) fn new(max: u64) -> Self {
        Self { max: usize::try_from(max).unwrap_or(usize::MAX), known: Mutex::default() }
    }

    pub(super) fn remember(&self, client_id: &str, management: Management) {
        let mut known = self.known();
        known.take(client_id);
        known.by_age.push_back((client_id.to_owned(), management));
        if known.by_age.len() > self.max {
            known.by_age.pop_front();
        }
    }

    pub(super) fn forget(&self, client_id: &str) {
        self.known().take(client_id);
    }

    /// Marks a client for deletion at the upstream. Returns whether that is possible.
    pub(super) fn schedule(&self, client_id: &str) -> bool {
        let mut known = self.known();
        let management = known.take(client_id).filter(|_| known.due.len() < self.max);
        management.map(|management| known.due.push_back((client_id.to_owned(), management))).is_some()
    }

    /// The next client to delete.
    pub(super) fn next(&self) -> Option<(String, Management)> {
        self.known().due.pop_front()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The oldest clients are removed first, so the search ends early.
    fn take(&mut self, client_id: &str) -> Option<Management> {
        let position = self.by_age.iter().position(|(id, _)| id == client_id)?;
        self.by_age.remove(position).map(|(_, management)| management)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn management(token: &str) -> Management {
        Management { uri: "https://idp.example/x".parse().expect("a URL"), token: token.to_owned() }
    }

    fn due(withdrawals: &Withdrawals) -> Vec<(String, String)> {
        std::iter::from_fn(|| withdrawals.next()).map(|(id, management)| (id, management.token)).collect()
    }

    #[test]
    fn tokens_are_remembered_for_the_youngest_clients_only() {
        let withdrawals = Withdrawals::new(2);
        for id in ["a", "b", "c"] {
            withdrawals.remember(id, management(id));
        }
        assert!(!withdrawals.schedule("a") && withdrawals.schedule("b") && withdrawals.schedule("c"));
        assert!(!withdrawals.schedule("b"), "it is due already");
        // No more are due at once.
        withdrawals.remember("d", management("d"));
        assert!(!withdrawals.schedule("d"));
        assert_eq!(due(&withdrawals), [("b".to_owned(), "b".to_owned()), ("c".to_owned(), "c".to_owned())]);
    }

    #[test]
    fn the_token_that_was_remembered_last_counts() {
        let withdrawals = Withdrawals::new(2);
        for token in ["old", "new"] {
            withdrawals.remember("a", management(token));
        }
        assert!(withdrawals.schedule("a") && !withdrawals.schedule("a"));
        assert_eq!(due(&withdrawals), [("a".to_owned(), "new".to_owned())]);
        withdrawals.remember("b", management("b"));
        withdrawals.forget("b");
        assert!(!withdrawals.schedule("b"));
    }
}
