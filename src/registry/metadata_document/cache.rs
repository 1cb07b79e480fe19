//! A cache of documents by RFC 9111, within bounds of the operator.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, Request, Response};
use http_cache_semantics::CachePolicy;
use tokio::time::Instant;
use url::Url;

use crate::client::Client;

/// How long a stale document is answered before its host is asked again, so that requests do not wait for a host that
/// is down.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(super) struct CacheBounds {
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
    pub(super) stale: Duration,
    pub(super) max_documents: usize,
    pub(super) max_bytes: usize,
}

/// `None` where a document must not be stored.
pub(super) type Lifetime = Option<Durations>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Durations {
    pub(super) fresh: Duration,
    /// How much longer the document is answered if its host fails.
    pub(super) stale: Duration,
}

#[derive(Clone, Copy)]
struct Times {
    /// From then on the document is fetched in the background when it is used.
    refresh_from: Instant,
    /// Until then the document is answered without asking its host.
    fresh_until: Instant,
    /// Until then the document is answered if its host fails.
    stale_until: Instant,
}

#[derive(Clone)]
struct Cached {
    client: Arc<Client>,
    domain: Box<str>,
    bytes: usize,
    times: Times,
}

/// Lookups take no lock and allocate nothing.
pub(super) struct Cache {
    documents: papaya::HashMap<Box<str>, Cached>,
    bounds: CacheBounds,
}

impl Cache {
    pub(super) fn new(bounds: CacheBounds) -> Self {
        Self { documents: papaya::HashMap::new(), bounds }
    }

    pub(super) fn fresh(&self, client_id: &str) -> Option<Arc<Client>> {
        let documents = self.documents.pin();
        let cached = documents.get(client_id)?;
        (Instant::now() < cached.times.fresh_until).then(|| Arc::clone(&cached.client))
    }

    /// Whether the document should be fetched in the background.
    pub(super) fn is_due(&self, client_id: &str) -> bool {
        self.documents.pin().get(client_id).is_some_and(|cached| cached.times.refresh_from <= Instant::now())
    }

    /// The document in place of one that its host failed to answer.
    pub(super) fn stale(&self, client_id: &str) -> Option<Arc<Client>> {
        let now = Instant::now();
        let documents = self.documents.pin();
        let mut cached = documents.get(client_id).filter(|cached| now < cached.times.stale_until)?.clone();
        let retry_at = cached.times.stale_until.min(now + RETRY_INTERVAL);
        cached.times.refresh_from = retry_at;
        cached.times.fresh_until = cached.times.fresh_until.max(retry_at);
        let client = Arc::clone(&cached.client);
        documents.insert(client_id.into(), cached);
        Some(client)
    }

    pub(super) fn remove(&self, client_id: &str) {
        self.documents.pin().remove(client_id);
    }

    pub(super) fn put(&self, client_id: &str, domain: &str, client: &Arc<Client>, lifetime: Lifetime) {
        let Some(times) = lifetime.and_then(Times::from_now) else {
            return self.remove(client_id);
        };
        let bytes = client_id.len() + size_of::<Cached>() + client.memory_size();
        let cached = Cached { client: Arc::clone(client), domain: domain.into(), bytes, times };
        self.documents.pin().insert(client_id.into(), cached);
        self.make_room();
    }

    /// Removes documents of the domain that takes the most memory, so that one domain cannot evict those of all others.
    /// Those that expire first are removed first.
    fn make_room(&self) {
        let documents = self.documents.pin();
        let mut by_domain: HashMap<&str, usize> = HashMap::new();
        for cached in documents.values() {
            *by_domain.entry(&cached.domain).or_default() += cached.bytes;
        }
        let mut bytes: usize = by_domain.values().sum();
        while documents.len() > self.bounds.max_documents || bytes > self.bounds.max_bytes {
            let victim = documents
                .iter()
                .max_by_key(|(_, cached)| (by_domain.get(&*cached.domain).copied(), Reverse(cached.times.stale_until)));
            let Some((id, cached)) = victim else {
                return;
            };
            bytes -= cached.bytes;
            if let Some(of_domain) = by_domain.get_mut(&*cached.domain) {
                *of_domain -= cached.bytes;
            }
            documents.remove(id);
        }
    }

    /// How long an answer of status 200 with these headers is kept.
    pub(super) fn lifetime(&self, address: &Url, headers: &HeaderMap) -> Lifetime {
        let request = Request::get(address.as_str()).body(()).ok()?;
        let mut response = Response::new(());
        *response.headers_mut() = headers.clone();
        let policy = CachePolicy::new(&request, &response);
        // Names of directives are case-insensitive (RFC 9111 §5.2).
        let directives: Vec<_> = words(headers, CACHE_CONTROL)
            .map(|word| word.split('=').next().unwrap_or(word).trim().to_ascii_lowercase())
            .collect();
        let has = |names: &[&str]| directives.iter().any(|name| names.contains(&&**name));
        // A response that varies with everything can never serve twice (RFC 9111 §4.1).
        let varies = words(headers, VARY).any(|word| word == "*");
        if has(&["no-store", "private"]) || !policy.is_storable() || varies {
            return None;
        }
        let bounds = &self.bounds;
        let fresh = policy.time_to_live(SystemTime::now()).min(bounds.longest).max(bounds.shortest);
        // RFC 9111 §4.2.4.
        let forbids_stale = has(&["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage"]);
        let stale = if forbids_stale { Duration::ZERO } else { bounds.stale };
        Some(Durations { fresh, stale })
    }
}

impl Times {
    fn from_now(Durations { fresh, stale }: Durations) -> Option<Self> {
        let now = Instant::now();
        let fresh_until = now.checked_add(fresh)?;
        Some(Self { refresh_from: now + fresh / 4 * 3, fresh_until, stale_until: fresh_until.checked_add(stale)? })
    }
}

fn words(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
