//! Codes and refresh tokens: secrets that work once.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use tower_oauth_client_validation::{CodeChallengeMethod, ValidatedRequest};

/// Separates the two parts of a secret; neither contains one.
const SEPARATOR: char = '.';

/// 256 random bits as text.
///
/// # Errors
///
/// If the operating system has no random bytes.
pub fn secret() -> Result<String, Refused> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Refused::NoEntropy)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Why no secret was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The operating system has no random bytes.
    NoEntropy,
    /// The store holds as many bytes as it may.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntropy => "the operating system has no random bytes",
            Self::Full => "the store is full",
        })
    }
}

impl std::error::Error for Refused {}

/// What a user agreed to. A code and all tokens that come from it share one grant.
#[derive(Debug)]
pub struct Grant {
    /// The client that may act for the user.
    pub client_id: String,
    /// What the client may do.
    pub scope: String,
    /// Where the client may do it (RFC 8707); anywhere if empty.
    pub resources: Vec<String>,
    revoked: AtomicBool,
}

impl Grant {
    /// The grant that the request asks for.
    #[must_use]
    pub fn new(request: &ValidatedRequest) -> Self {
        Self {
            client_id: request.client_id().to_owned(),
            scope: request.scope().to_owned(),
            resources: request.resources().map(str::to_owned).collect(),
            revoked: AtomicBool::new(false),
        }
    }

    /// Invalidates all tokens of the grant.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    /// Whether [`revoke`](Self::revoke) was called.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    fn size(&self) -> usize {
        self.client_id.len() + self.scope.len() + self.resources.iter().map(String::len).sum::<usize>()
    }
}

/// The grant behind an authorization code.
#[derive(Clone, Debug)]
pub struct Code {
    /// What the user agreed to.
    pub grant: Arc<Grant>,
    /// The redirect URI if the request named it: the token request must repeat it then.
    pub redirect_uri: Option<String>,
    /// The PKCE challenge.
    pub challenge: Option<(String, CodeChallengeMethod)>,
}

impl Code {
    /// A code for all that the request asks for.
    #[must_use]
    pub fn new(request: &ValidatedRequest) -> Self {
        Self {
            grant: Arc::new(Grant::new(request)),
            redirect_uri: request.redirect_uri_is_explicit().then(|| request.redirect_uri().to_owned()),
            challenge: request.code_challenge().map(|code| (code.challenge.to_owned(), code.method)),
        }
    }
}

/// A value that a [`OneTime`] store keeps for a client.
pub trait Issued: Clone {
    /// The client that it belongs to.
    fn client_id(&self) -> &str;
    /// Roughly how many bytes it takes.
    fn size(&self) -> usize;
}

impl Issued for Code {
    fn client_id(&self) -> &str {
        &self.grant.client_id
    }

    fn size(&self) -> usize {
        let challenge = self.challenge.as_ref().map_or(0, |(challenge, _)| challenge.len());
        self.grant.size() + self.redirect_uri.as_ref().map_or(0, String::len) + challenge
    }
}

impl Issued for Arc<Grant> {
    fn client_id(&self) -> &str {
        &self.client_id
    }

    fn size(&self) -> usize {
        Grant::size(self)
    }
}

/// Values that are handed out under a secret and can be taken once.
///
/// A client that exceeds its share loses its own oldest values. No client can displace the values of another: when the
/// whole store is full, new values are refused instead.
#[derive(Debug)]
pub struct OneTime<T> {
    lifetime: Duration,
    max_per_client: usize,
    max_bytes: usize,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    /// By client, then by the first part of the secret.
    clients: HashMap<String, HashMap<String, Entry<T>>>,
    bytes: usize,
}

/// A value with the secret for it. Renewed secrets have the same first part, so one entry recognizes all of them.
#[derive(Debug)]
struct Entry<T> {
    value: T,
    size: usize,
    /// The current secret; `None` once it was used.
    secret: Option<String>,
    end: Instant,
}

/// The value behind a secret.
#[derive(Debug)]
pub enum Taken<T> {
    /// The value, for the first time.
    First(T),
    /// The secret was used before: one of its two users stole it.
    Again(T),
    /// The secret was never issued to this client, or has expired.
    Unknown,
}

/// An estimate of what an entry costs beside its value.
const ENTRY_BYTES: usize = 300;

impl<T: Issued> OneTime<T> {
    /// A store whose values expire after `lifetime`, with at most `max_per_client` values of one client and `max_bytes`
    /// in all.
    #[must_use]
    pub fn new(lifetime: Duration, max_per_client: usize, max_bytes: usize) -> Self {
        Self { lifetime, max_per_client, max_bytes, kept: Mutex::new(Kept { clients: HashMap::new(), bytes: 0 }) }
    }

    /// Keeps a value under a new secret.
    ///
    /// # Errors
    ///
    /// If the store is full or there are no random bytes.
    pub fn put(&self, value: T) -> Result<String, Refused> {
        self.put_under(secret()?, value)
    }

    /// Keeps a value under a new secret that succeeds the `used` one.
    ///
    /// # Errors
    ///
    /// If the store is full or there are no random bytes.
    pub fn renew(&self, used: &str, value: T) -> Result<String, Refused> {
        self.put_under(key(used).to_owned(), value)
    }

    fn put_under(&self, key: String, value: T) -> Result<String, Refused> {
        let secret = format!("{key}{SEPARATOR}{}", secret()?);
        let size = value.size() + ENTRY_BYTES;
        let now = Instant::now();
        let mut kept = self.lock();
        kept.remove_expired(value.client_id(), now);
        kept.remove(value.client_id(), &key);
        if kept.count(value.client_id()) >= self.max_per_client {
            kept.remove_least(value.client_id());
        }
        if kept.bytes + size > self.max_bytes {
            kept.remove_all_expired(now);
        }
        if kept.bytes + size > self.max_bytes {
            return Err(Refused::Full);
        }
        kept.bytes += size;
        let entries = kept.clients.entry(value.client_id().to_owned()).or_default();
        entries.insert(key, Entry { value, size, secret: Some(secret.clone()), end: now + self.lifetime });
        Ok(secret)
    }

    /// Takes the value of the secret, unless it belongs to another client or `accept` says no. What is not taken stays.
    pub fn take(&self, client_id: &str, secret: &str, accept: impl FnOnce(&T) -> bool) -> Taken<T> {
        let mut kept = self.lock();
        kept.remove_expired(client_id, Instant::now());
        let entry = kept.clients.get_mut(client_id).and_then(|entries| entries.get_mut(key(secret)));
        match entry {
            Some(entry) if accept(&entry.value) => {
                let value = entry.value.clone();
                let current = entry.secret.take_if(|current| current.as_bytes().ct_eq(secret.as_bytes()).into());
                if current.is_some() { Taken::First(value) } else { Taken::Again(value) }
            }
            _ => Taken::Unknown,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Kept<T> {
    fn count(&self, client_id: &str) -> usize {
        self.clients.get(client_id).map_or(0, HashMap::len)
    }

    fn remove(&mut self, client_id: &str, key: &str) {
        let removed = self.clients.get_mut(client_id).and_then(|entries| entries.remove(key));
        self.bytes -= removed.map_or(0, |entry| entry.size);
    }

    /// Removes what is of least use to the client: used secrets, which only reveal thieves, then the oldest.
    fn remove_least(&mut self, client_id: &str) {
        let entries = self.clients.get(client_id).into_iter().flatten();
        let least = entries.min_by_key(|(_, entry)| (entry.secret.is_some(), entry.end));
        if let Some(key) = least.map(|(key, _)| key.clone()) {
            self.remove(client_id, &key);
        }
    }

    fn remove_expired(&mut self, client_id: &str, now: Instant) {
        if let Some(entries) = self.clients.get_mut(client_id) {
            self.bytes -= remove_expired(entries, now);
            if entries.is_empty() {
                self.clients.remove(client_id);
            }
        }
    }

    fn remove_all_expired(&mut self, now: Instant) {
        self.bytes -= self.clients.values_mut().map(|entries| remove_expired(entries, now)).sum::<usize>();
        self.clients.retain(|_, entries| !entries.is_empty());
    }
}

/// How many bytes that freed.
fn remove_expired<T>(entries: &mut HashMap<String, Entry<T>>, now: Instant) -> usize {
    entries.extract_if(|_, entry| entry.end <= now).map(|(_, entry)| entry.size).sum()
}

fn key(secret: &str) -> &str {
    secret.split(SEPARATOR).next().unwrap_or(secret)
}
