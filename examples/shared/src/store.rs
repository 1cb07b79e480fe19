//! What the server remembers between requests: tickets, codes, refresh tokens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use tower_oauth_client_validation::{CodeChallengeMethod, ValidatedRequest};

/// Memory stays bounded whatever strangers send: what was used goes first, then the oldest.
const CAPACITY: usize = 2_000;

/// Between the two parts of a secret; neither holds one.
const SEPARATOR: char = '.';

/// 256 bits that nobody can guess, as text.
pub fn secret() -> Result<String, NoEntropy> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// The operating system gave no random bytes.
#[derive(Debug)]
pub struct NoEntropy;

/// What a user agreed to. Shared by the code and all tokens that come of it.
#[derive(Debug)]
pub struct Grant {
    pub client_id: String,
    pub scope: String,
    pub resources: Vec<String>,
    revoked: AtomicBool,
}

impl Grant {
    pub fn new(request: &ValidatedRequest) -> Self {
        Self {
            client_id: request.client_id().to_owned(),
            scope: request.scope().to_owned(),
            resources: request.resources().map(str::to_owned).collect(),
            revoked: AtomicBool::new(false),
        }
    }

    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }
}

/// What an authorization code stands for.
#[derive(Clone, Debug)]
pub struct Code {
    pub grant: Arc<Grant>,
    /// Where the request named it; the token request must repeat it then.
    pub redirect_uri: Option<String>,
    pub challenge: Option<(String, CodeChallengeMethod)>,
}

impl Code {
    pub fn new(request: &ValidatedRequest) -> Self {
        Self {
            grant: Arc::new(Grant::new(request)),
            redirect_uri: request.redirect_uri_is_explicit().then(|| request.redirect_uri().to_owned()),
            challenge: request.code_challenge().map(|code| (code.challenge.to_owned(), code.method)),
        }
    }
}

/// Values that are handed out under a secret and taken back once, or for another secret.
#[derive(Debug)]
pub struct OneTime<T> {
    life: Duration,
    entries: Mutex<HashMap<String, Entry<T>>>,
}

/// All secrets for one value begin with one key, so that one entry knows them all, however often it was renewed.
#[derive(Debug)]
struct Entry<T> {
    value: T,
    /// The one that is good now; `None` once it was taken.
    secret: Option<String>,
    end: Instant,
}

/// What is behind a secret.
#[derive(Debug)]
pub enum Taken<T> {
    First(T),
    /// Somebody came with it before: one of the two has stolen it.
    Again(T),
    Unknown,
}

impl<T: Clone> OneTime<T> {
    pub fn new(life: Duration) -> Self {
        Self { life, entries: Mutex::default() }
    }

    pub fn put(&self, value: T) -> Result<String, NoEntropy> {
        self.put_under(secret()?, value)
    }

    /// A new secret for what was taken with this one.
    pub fn renew(&self, taken: &str, value: T) -> Result<String, NoEntropy> {
        self.put_under(key(taken).to_owned(), value)
    }

    fn put_under(&self, key: String, value: T) -> Result<String, NoEntropy> {
        let secret = format!("{key}{SEPARATOR}{}", secret()?);
        let mut entries = self.entries();
        while entries.len() >= CAPACITY && !entries.contains_key(&key) {
            // What was taken only tells thieves; what was not is still of use.
            let least = entries.iter().min_by_key(|(_, entry)| (entry.secret.is_some(), entry.end));
            let Some(least) = least.map(|(key, _)| key.clone()) else { break };
            entries.remove(&least);
        }
        let end = Instant::now() + self.life;
        entries.insert(key, Entry { value, secret: Some(secret.clone()), end });
        Ok(secret)
    }

    /// A secret in the hands of somebody whom it does not belong to is as good as unknown, and stays good.
    pub fn take(&self, secret: &str, belongs: impl FnOnce(&T) -> bool) -> Taken<T> {
        match self.entries().get_mut(key(secret)) {
            Some(entry) if belongs(&entry.value) => {
                let value = entry.value.clone();
                let is_good = entry.secret.as_ref().is_some_and(|good| good.as_bytes().ct_eq(secret.as_bytes()).into());
                if is_good {
                    entry.secret = None;
                    Taken::First(value)
                } else {
                    Taken::Again(value)
                }
            }
            _ => Taken::Unknown,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry<T>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        entries.retain(|_, entry| entry.end > now);
        entries
    }
}

fn key(secret: &str) -> &str {
    secret.split(SEPARATOR).next().unwrap_or(secret)
}
