//! What the server remembers between requests: tickets, codes, refresh tokens.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tower_oauth_client_validation::{CodeChallengeMethod, ValidatedRequest};

/// Memory stays bounded whatever strangers send: the oldest entry goes first.
const CAPACITY: usize = 2_000;

/// 256 bits that nobody can guess, as text.
pub(crate) fn secret() -> Result<String, NoEntropy> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// The operating system gave no random bytes.
#[derive(Debug)]
pub(crate) struct NoEntropy;

/// What a user agreed to. Shared by the code and all tokens that come of it.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) client_id: String,
    pub(crate) scope: String,
    pub(crate) resources: Vec<String>,
    revoked: AtomicBool,
}

impl Grant {
    pub(crate) fn new(request: &ValidatedRequest) -> Self {
        Self {
            client_id: request.client_id().to_owned(),
            scope: request.scope().to_owned(),
            resources: request.resources().map(str::to_owned).collect(),
            revoked: AtomicBool::new(false),
        }
    }

    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }
}

/// What an authorization code stands for.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) grant: Arc<Grant>,
    /// Where the request named it; the token request must repeat it then.
    pub(crate) redirect_uri: Option<String>,
    pub(crate) challenge: Option<(String, CodeChallengeMethod)>,
}

impl Code {
    pub(crate) fn new(request: &ValidatedRequest) -> Self {
        Self {
            grant: Arc::new(Grant::new(request)),
            redirect_uri: request.redirect_uri_is_explicit().then(|| request.redirect_uri().to_owned()),
            challenge: request.code_challenge().map(|code| (code.challenge.to_owned(), code.method)),
        }
    }
}

/// Values that are handed out under a secret and taken back once.
#[derive(Debug)]
pub(crate) struct OneTime<T> {
    life: Duration,
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    by_secret: HashMap<String, Entry<T>>,
    by_age: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    taken: bool,
}

/// What is behind a secret.
#[derive(Debug)]
pub(crate) enum Taken<T> {
    First(T),
    /// Somebody came with it before: one of the two has stolen it.
    Again(T),
    Unknown,
}

impl<T: Clone> OneTime<T> {
    pub(crate) fn new(life: Duration) -> Self {
        Self { life, entries: Mutex::new(Entries { by_secret: HashMap::new(), by_age: VecDeque::new() }) }
    }

    pub(crate) fn put(&self, value: T) -> Result<String, NoEntropy> {
        let secret = secret()?;
        let mut entries = self.entries();
        while entries.by_age.len() >= CAPACITY {
            entries.forget_oldest();
        }
        entries.by_age.push_back((Instant::now() + self.life, secret.clone()));
        entries.by_secret.insert(secret.clone(), Entry { value, taken: false });
        Ok(secret)
    }

    /// A secret in the hands of somebody whom it does not belong to is as good as unknown, and stays good.
    pub(crate) fn take(&self, secret: &str, belongs: impl FnOnce(&T) -> bool) -> Taken<T> {
        match self.entries().by_secret.get_mut(secret) {
            Some(entry) if belongs(&entry.value) => {
                let value = entry.value.clone();
                if std::mem::replace(&mut entry.taken, true) { Taken::Again(value) } else { Taken::First(value) }
            }
            _ => Taken::Unknown,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries<T>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while entries.by_age.front().is_some_and(|(end, _)| *end <= now) {
            entries.forget_oldest();
        }
        entries
    }
}

impl<T> Entries<T> {
    fn forget_oldest(&mut self) {
        if let Some((_, secret)) = self.by_age.pop_front() {
            self.by_secret.remove(&secret);
        }
    }
}
