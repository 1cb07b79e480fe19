//! Documents that were fetched, for as long as RFC 9111 and the operator let them serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, Request, Response, StatusCode};
use http_cache_semantics::CachePolicy;
use tokio::time::Instant;

use crate::client::Client;

#[derive(Clone, Copy, Debug)]
pub(super) struct CacheBounds {
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
    pub(super) stale: Duration,
    pub(super) capacity: usize,
}

/// How long a document serves from when it was answered; `None` where it must not be stored.
pub(super) type Lifetime = Option<Times>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    fresh_until: Instant,
    /// Where the document cannot be had anew.
    serves_until: Instant,
}

struct Cached {
    client: Arc<Client>,
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
        self.until(client_id, |times| times.fresh_until)
    }

    pub(super) fn stale(&self, client_id: &str) -> Option<Arc<Client>> {
        self.until(client_id, |times| times.serves_until)
    }

    fn until(&self, client_id: &str, end: impl Fn(&Times) -> Instant) -> Option<Arc<Client>> {
        let documents = self.documents.pin();
        let cached = documents.get(client_id)?;
        (Instant::now() < end(&cached.times)).then(|| Arc::clone(&cached.client))
    }

    pub(super) fn remove(&self, client_id: &str) {
        self.documents.pin().remove(client_id);
    }

    pub(super) fn put(&self, client_id: &str, client: &Arc<Client>, lifetime: Lifetime) {
        let Some(times) = lifetime else {
            return self.remove(client_id);
        };
        let documents = self.documents.pin();
        documents.insert(client_id.into(), Cached { client: Arc::clone(client), times });
        for _ in self.bounds.capacity..documents.len() {
            // Of the host that has most of them, so that one host cannot push out the documents of all others.
            let mut of_hosts: HashMap<&str, usize> = HashMap::new();
            for id in documents.keys() {
                *of_hosts.entry(host(id)).or_default() += 1;
            }
            let victim = documents
                .iter()
                .max_by_key(|(id, cached)| (of_hosts.get(host(id)), std::cmp::Reverse(cached.times.serves_until)));
            if let Some((id, _)) = victim {
                documents.remove(id);
            }
        }
    }

    pub(super) fn lifetime(&self, address: &str, status: StatusCode, headers: &HeaderMap) -> Lifetime {
        let request = Request::get(address).body(()).ok()?;
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        let policy = CachePolicy::new(&request, &response);
        // Names of directives know no case (RFC 9111 §5.2).
        let directives: Vec<_> = words(headers, CACHE_CONTROL)
            .map(|word| word.split('=').next().unwrap_or(word).trim().to_ascii_lowercase())
            .collect();
        let forbids_storing = directives.iter().any(|name| matches!(&**name, "no-store" | "private"));
        // What varies with everything can never serve twice (RFC 9111 §4.1).
        if forbids_storing || !policy.is_storable() || words(headers, VARY).any(|word| word == "*") {
            return None;
        }
        let bounds = &self.bounds;
        let fresh = policy.time_to_live(SystemTime::now()).min(bounds.longest).max(bounds.shortest);
        // RFC 9111 §4.2.4.
        let forbids_stale = directives
            .iter()
            .any(|name| matches!(&**name, "must-revalidate" | "proxy-revalidate" | "no-cache" | "s-maxage"));
        let stale = if forbids_stale { Duration::ZERO } else { bounds.stale };
        let now = Instant::now();
        let fresh_until = now.checked_add(fresh)?;
        Some(Times { fresh_until, serves_until: fresh_until.checked_add(stale)? })
    }
}

/// The host of an id that was judged.
fn host(client_id: &str) -> &str {
    client_id.split('/').nth(2).unwrap_or_default()
}

fn words(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
