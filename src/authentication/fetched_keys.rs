//! Key sets that clients host (`jwks_uri`, RFC 7591 §2).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::keys::{KeyError, KeySource};
use crate::client::Client;
use crate::client::member::{holds_private_key, is_key_set, is_web_uri};
use crate::fetch::single_flight::{Interrupted, Lookup, SingleFlight};
use crate::fetch::{FetchError, Fetcher, FetcherConfig, fetcher_settings};
use crate::registry::ConfigError;

/// How many key sets are kept.
const MAX_KEY_SETS: usize = 1_000;

type Answer = Result<Arc<Value>, KeyError>;

/// The keys of clients: the `jwks` that they registered, or the document at their `jwks_uri`.
///
/// Fetches are guarded as those of [`MetadataDocumentRegistry`](crate::MetadataDocumentRegistry) are: public addresses
/// only, no proxy, no redirect, at most 64 KiB and 10 seconds, one fetch for everybody who waits for the same set, and
/// limits for each domain and network. A set is used for 5 minutes. When a signature names a key that is not in it, it
/// is fetched again, but at most once a minute. While the host fails, the last set is used for another hour.
///
/// Needs a Tokio runtime.
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{AuthenticationPolicy, FetchedKeys, MemoryStateStore};
///
/// let policy = AuthenticationPolicy::builder()
///     .issuer("https://login.example")
///     .replay_store(Arc::new(MemoryStateStore::new()))
///     .keys(FetchedKeys::builder().build()?)
///     .build()?;
/// # let _ = policy;
/// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct FetchedKeys {
    shared: Arc<Shared>,
}

struct Shared {
    fetcher: Fetcher,
    lifetime: Duration,
    refresh_interval: Duration,
    max_stale: Duration,
    flights: Arc<SingleFlight<Answer>>,
    cache: Mutex<HashMap<Box<str>, Cached>>,
}

#[derive(Clone)]
struct Cached {
    keys: Arc<Value>,
    fetched_at: Instant,
}

impl FetchedKeys {
    /// Begins with the defaults that the builder's methods name.
    pub fn builder() -> FetchedKeysBuilder {
        FetchedKeysBuilder {
            fetcher: FetcherConfig::new(64 * 1024),
            lifetime: Duration::from_secs(300),
            refresh_interval: Duration::from_secs(60),
            max_stale: Duration::from_secs(3600),
        }
    }
}

impl KeySource for FetchedKeys {
    fn keys<'a>(&'a self, client: &'a Client, refresh: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>> {
        if let Some(keys) = client.jwks() {
            return std::future::ready(Ok(Some(Arc::new(keys.clone())))).boxed();
        }
        let member = client.metadata().and_then(|members| members.get("jwks_uri"));
        let uri = member.filter(|uri| is_web_uri(uri, &["https", "http"])).and_then(Value::as_str);
        let Some(uri) = uri else {
            return std::future::ready(Ok(None)).boxed();
        };
        let shared = &self.shared;
        let cached = || shared.fresh(uri, refresh).map(Ok);
        let begin = || Ok(Fetch { shared: Arc::clone(shared) });
        shared.flights.join(uri, cached, begin).map(|keys| keys.map(Some)).boxed()
    }
}

impl Shared {
    /// The cached set, unless it is too old; for a `refresh`, unless it may be fetched again.
    fn fresh(&self, uri: &str, refresh: bool) -> Option<Arc<Value>> {
        let max_age = if refresh { self.refresh_interval } else { self.lifetime };
        self.younger_than(uri, max_age)
    }

    fn younger_than(&self, uri: &str, max_age: Duration) -> Option<Arc<Value>> {
        let cache = self.cache();
        let cached = cache.get(uri)?;
        (cached.fetched_at.elapsed() < max_age).then(|| Arc::clone(&cached.keys))
    }

    fn keep(&self, uri: &str, keys: &Arc<Value>) {
        let mut cache = self.cache();
        if cache.len() >= MAX_KEY_SETS && !cache.contains_key(uri) {
            let oldest = cache.iter().min_by_key(|(_, cached)| cached.fetched_at).map(|(uri, _)| uri.clone());
            oldest.map(|uri| cache.remove(&uri));
        }
        cache.insert(uri.into(), Cached { keys: Arc::clone(keys), fetched_at: Instant::now() });
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<Box<str>, Cached>> {
        // No panic leaves the map half changed.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, uri: &str) -> Result<Value, KeyError> {
        let url = Url::parse(uri).map_err(KeyError::new)?;
        let permit = self.fetcher.permit(&url).map_err(KeyError::new)?;
        let failed = |error: FetchError| match error {
            FetchError::TooMany => KeyError::new("too many key sets are being fetched"),
            FetchError::TooLarge => KeyError::new("the key set is too large"),
            FetchError::Failed(cause) => KeyError::new(cause),
        };
        let fetched = self.fetcher.get(&permit, &url).await.map_err(failed)?;
        if fetched.status != StatusCode::OK {
            return Err(KeyError::new(format!("the host answered {}", fetched.status)));
        }
        let document = fetched.bytes().await.map_err(failed)?;
        let keys: Value = serde_json::from_slice(&document).map_err(KeyError::new)?;
        if !is_key_set(&keys) || holds_private_key(&keys) {
            return Err(KeyError::new("the document is not a set of public keys"));
        }
        Ok(keys)
    }
}

struct Fetch {
    shared: Arc<Shared>,
}

impl Lookup for Fetch {
    type Read = Result<Value, KeyError>;
    type Answer = Answer;

    async fn read(&self, uri: &str) -> Self::Read {
        self.shared.fetch(uri).await
    }

    fn keep(&self, uri: &str, read: Self::Read) -> Answer {
        match read {
            Ok(keys) => {
                let keys = Arc::new(keys);
                self.shared.keep(uri, &keys);
                Ok(keys)
            }
            Err(error) => self.shared.younger_than(uri, self.shared.lifetime + self.shared.max_stale).ok_or(error),
        }
    }

    fn interrupted(&self, why: Interrupted) -> Answer {
        Err(KeyError::new(why.as_str()))
    }
}

/// Builds [`FetchedKeys`].
#[derive(Clone)]
#[must_use]
pub struct FetchedKeysBuilder {
    fetcher: FetcherConfig,
    lifetime: Duration,
    refresh_interval: Duration,
    max_stale: Duration,
}

impl FetchedKeysBuilder {
    /// How long a set is used without asking again (default: 5 minutes).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How long after a fetch a set is fetched again for a key that it does not hold (default: 1 minute). Anybody can
    /// name unknown keys, so this bounds the requests that a host gets.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// How much longer a set is used while its host fails (default: 1 hour).
    pub fn stale_if_error(mut self, bound: Duration) -> Self {
        self.max_stale = bound;
        self
    }

    fetcher_settings! {}

    /// Sets up the fetcher.
    ///
    /// # Errors
    ///
    /// When the certificates cannot be read, or TLS cannot be set up.
    pub fn build(self) -> Result<FetchedKeys, ConfigError> {
        let fetcher = Fetcher::new(self.fetcher)
            .map_err(|error| ConfigError::new("root_certificates", "TLS cannot be set up").with_source(error))?;
        let shared = Shared {
            fetcher,
            lifetime: self.lifetime,
            refresh_interval: self.refresh_interval,
            max_stale: self.max_stale,
            flights: SingleFlight::new(),
            cache: Mutex::default(),
        };
        Ok(FetchedKeys { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for FetchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedKeys").field("lifetime", &self.shared.lifetime).finish_non_exhaustive()
    }
}

impl fmt::Debug for FetchedKeysBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedKeysBuilder").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
