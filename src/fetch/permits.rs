//! How many fetches run at the same time: in all, for one registrable domain, and for one network.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::Network;

/// Name lookups of one domain, as a multiple of its fetches: lookups that outlive their fetch must not use up its
/// permits, but they hold threads, so they need a limit too.
const LOOKUPS_PER_FETCH: usize = 4;

/// Domains whose hosts are remembered as reliable, and hosts of each.
const MAX_RELIABLE_DOMAINS: usize = 4096;
const MAX_RELIABLE_HOSTS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) all: usize,
    pub(crate) per_domain: usize,
    pub(crate) per_network: usize,
}

/// Hands out permits. A quarter of each limit is kept free for hosts whose last fetch was answered in time, so that
/// strangers with slow hosts cannot shut them out.
#[derive(Clone)]
pub(crate) struct Permits(Arc<Shared>);

struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fetches: usize,
    fetches_by_domain: Counts<String>,
    fetches_by_network: Counts<Network>,
    lookups: usize,
    lookups_by_domain: Counts<String>,
    reliable: ReliableHosts,
}

impl Permits {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    pub(crate) fn acquire(&self, host: &str) -> Result<Permit, TooManyFetches> {
        let domain = registrable_domain(host);
        let limits = &self.0.limits;
        let mut state = self.0.lock();
        let is_reliable = state.reliable.contains(domain, host);
        let max = |limit| if is_reliable { limit } else { for_strangers(limit) };
        if state.fetches >= max(limits.all) || !state.fetches_by_domain.add(domain, max(limits.per_domain)) {
            return Err(TooManyFetches);
        }
        state.fetches += 1;
        let host = Host { shared: Arc::clone(&self.0), host: host.into(), domain: domain.into(), is_reliable };
        Ok(Permit { host: Arc::new(host), networks: Mutex::default() })
    }
}

/// Permission to fetch from one host, released on drop.
pub(crate) struct Permit {
    host: Arc<Host>,
    /// The networks that it counts for, once the host is resolved.
    networks: Mutex<Vec<Network>>,
}

struct Host {
    shared: Arc<Shared>,
    host: Box<str>,
    domain: Box<str>,
    is_reliable: bool,
}

impl Permit {
    /// Permission to look the name of the host up, which may outlive the fetch.
    pub(super) fn lookup(&self) -> Result<LookupPermit, TooManyFetches> {
        let Host { shared, domain, .. } = &*self.host;
        let limits = &shared.limits;
        let mut state = shared.lock();
        let max_of_domain = self.host.max(limits.per_domain.saturating_mul(LOOKUPS_PER_FETCH));
        if state.lookups >= self.host.max(limits.all) || !state.lookups_by_domain.add(&**domain, max_of_domain) {
            return Err(TooManyFetches);
        }
        state.lookups += 1;
        Ok(LookupPermit(Arc::clone(&self.host)))
    }

    /// Counts the fetch for the networks of these addresses.
    pub(super) fn enter(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), TooManyFetches> {
        let shared = &self.host.shared;
        let mut entered = lock(&self.networks);
        for network in addresses.into_iter().map(Network::of) {
            if !entered.contains(&network) {
                let max = self.host.max(shared.limits.per_network);
                if !shared.lock().fetches_by_network.add(&network, max) {
                    return Err(TooManyFetches);
                }
                entered.push(network);
            }
        }
        Ok(())
    }

    /// Records whether the host answered in time.
    pub(super) fn answered(&self, in_time: bool) {
        let Host { shared, host, domain, .. } = &*self.host;
        let mut state = shared.lock();
        if in_time {
            state.reliable.insert(domain, host);
        } else {
            state.reliable.remove(domain, host);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.host.shared.lock();
        state.fetches -= 1;
        state.fetches_by_domain.remove(&*self.host.domain);
        for network in lock(&self.networks).drain(..) {
            state.fetches_by_network.remove(&network);
        }
    }
}

/// Permission for one name lookup, released on drop.
pub(super) struct LookupPermit(Arc<Host>);

impl Drop for LookupPermit {
    fn drop(&mut self) {
        let mut state = self.0.shared.lock();
        state.lookups -= 1;
        state.lookups_by_domain.remove(&*self.0.domain);
    }
}

impl Host {
    fn max(&self, limit: usize) -> usize {
        if self.is_reliable { limit } else { for_strangers(limit) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn for_strangers(limit: usize) -> usize {
    limit - limit / 4
}

/// The registrable domain by the public suffix list, since one owner can have any number of hosts below it. The host
/// itself if it has no such domain, for example an IP address.
pub(crate) fn registrable_domain(host: &str) -> &str {
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    if is_address { host } else { psl::domain_str(host).unwrap_or(host) }
}

struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// Counts one more, unless there are `max`.
    fn add<Q>(&mut self, key: &Q, max: usize) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        match self.0.get_mut(key) {
            Some(count) if *count < max => *count += 1,
            None if max > 0 => {
                self.0.insert(key.to_owned(), 1);
            }
            Some(_) | None => return false,
        }
        true
    }

    fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

/// Hosts whose last fetch was answered in time. The oldest domains and hosts are evicted first.
#[derive(Default)]
struct ReliableHosts {
    by_domain: HashMap<Box<str>, VecDeque<Box<str>>>,
    domains: VecDeque<Box<str>>,
}

impl ReliableHosts {
    fn contains(&self, domain: &str, host: &str) -> bool {
        self.by_domain.get(domain).is_some_and(|hosts| hosts.iter().any(|known| **known == *host))
    }

    fn insert(&mut self, domain: &str, host: &str) {
        if self.contains(domain, host) {
            return;
        }
        if !self.by_domain.contains_key(domain) {
            if self.domains.len() >= MAX_RELIABLE_DOMAINS {
                if let Some(oldest) = self.domains.pop_front() {
                    self.by_domain.remove(&oldest);
                }
            }
            self.domains.push_back(domain.into());
        }
        let hosts = self.by_domain.entry(domain.into()).or_default();
        if hosts.len() >= MAX_RELIABLE_HOSTS {
            hosts.pop_front();
        }
        hosts.push_back(host.into());
    }

    fn remove(&mut self, domain: &str, host: &str) {
        // The domain stays listed, and leaves in its turn.
        if let Some(hosts) = self.by_domain.get_mut(domain) {
            hosts.retain(|known| **known != *host);
        }
    }
}

/// A fetch was refused by our own limits, before anything was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooManyFetches;

impl fmt::Display for TooManyFetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many fetches are in flight")
    }
}

impl Error for TooManyFetches {}
