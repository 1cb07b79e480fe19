use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::bounds::NewValue;
use super::{StateBounds, StateError, StateStore};

/// Roughly what an entry takes in addition to its texts.
const ENTRY_BYTES: usize = 256;

/// Facts in the memory of one process. Clones share them.
///
/// | setting | default |
/// |---|---|
/// | [`max_entries`](Self::max_entries) | 200,000 |
/// | [`max_bytes`](Self::max_bytes) | 64 MiB |
/// | [`max_bytes_per_owner`](Self::max_bytes_per_owner) | 8 MiB |
///
/// A restart forgets everything, so an assertion could be used again. Over a limit, values are refused; live ones are
/// never dropped.
#[derive(Clone)]
#[must_use]
pub struct MemoryStateStore {
    max_entries: usize,
    max_bytes: usize,
    max_bytes_per_owner: usize,
    entries: Arc<Mutex<Entries>>,
}

impl Default for MemoryStateStore {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self { max_entries: 200_000, max_bytes: 64 * MIB, max_bytes_per_owner: 8 * MIB, entries: Arc::default() }
    }
}

impl MemoryStateStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many values are kept (default: 200,000).
    pub fn max_entries(mut self, max: usize) -> Self {
        self.max_entries = max;
        self
    }

    /// Sets how many bytes all values take, with keys and about 256 bytes for each (default: 64 MiB).
    pub fn max_bytes(mut self, max: usize) -> Self {
        self.max_bytes = max;
        self
    }

    /// Sets how many bytes the values of one owner take, see [`StateBounds`] (default: 8 MiB).
    pub fn max_bytes_per_owner(mut self, max: usize) -> Self {
        self.max_bytes_per_owner = max;
        self
    }

    fn put(&self, new: &NewValue<'_>) -> Result<bool, StateError> {
        let now = Instant::now();
        let mut entries = self.live(now);
        if entries.by_key.contains_key(new.key) {
            return Ok(false);
        }
        let entry = Entry {
            value: new.value.into(),
            expiry: (now + new.lifetime, entries.sequence),
            group: new.bounds.group().map(|(kind, owner)| Group { kind: kind.into(), owner: owner.into() }),
        };
        let bytes = entry.bytes(new.key);
        let (in_all, of_owner) = entries.usage(entry.group.as_ref());
        let is_full = entries.by_key.len() >= self.max_entries
            || entries.bytes + bytes > self.max_bytes
            || of_owner.bytes + bytes > self.max_bytes_per_owner && entry.group.is_some()
            || of_owner.count >= new.bounds.get_max_per_owner()
            || in_all >= new.bounds.get_max_in_all();
        if is_full {
            return Err(StateError::full());
        }
        entries.insert(new.key.into(), entry);
        Ok(true)
    }

    /// The entries without those that have expired.
    fn live(&self, now: Instant) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, key)) = entries.by_expiry.first_key_value().filter(|((expiry, _), _)| *expiry <= now) {
            let key = Arc::clone(key);
            entries.remove(&key);
        }
        entries
    }
}

impl StateStore for MemoryStateStore {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        ready(NewValue::check(key, value, lifetime, bounds).and_then(|new| self.put(&new))).boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        let entries = self.live(Instant::now());
        let value = entries.by_key.get(key).map(|entry| entry.value.to_vec());
        ready(Ok(value)).boxed()
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        let value = self.live(Instant::now()).remove(key).map(|entry| entry.value.into_vec());
        ready(Ok(value)).boxed()
    }
}

impl fmt::Debug for MemoryStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStateStore")
            .field("max_entries", &self.max_entries)
            .field("max_bytes", &self.max_bytes)
            .field("max_bytes_per_owner", &self.max_bytes_per_owner)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Arc<str>, Entry>,
    /// A number makes each expiry unique.
    by_expiry: BTreeMap<(Instant, u64), Arc<str>>,
    sequence: u64,
    bytes: usize,
    kinds: HashMap<Box<str>, Kind>,
}

struct Entry {
    value: Box<[u8]>,
    expiry: (Instant, u64),
    group: Option<Group>,
}

struct Group {
    kind: Box<str>,
    owner: Box<str>,
}

/// The live values of a kind, counted. Kinds and owners without any are removed.
#[derive(Default)]
struct Kind {
    count: u64,
    owners: HashMap<Box<str>, Usage>,
}

#[derive(Clone, Copy, Default)]
struct Usage {
    count: u64,
    bytes: usize,
}

impl Entry {
    fn bytes(&self, key: &str) -> usize {
        let group = self.group.as_ref().map_or(0, |group| group.kind.len() + group.owner.len());
        key.len() + self.value.len() + group + ENTRY_BYTES
    }
}

impl Entries {
    /// The number of values of the kind, and what those of the owner take.
    fn usage(&self, group: Option<&Group>) -> (u64, Usage) {
        let Some((kind, group)) = group.and_then(|group| Some((self.kinds.get(&group.kind)?, group))) else {
            return Default::default();
        };
        (kind.count, kind.owners.get(&group.owner).copied().unwrap_or_default())
    }

    fn insert(&mut self, key: Arc<str>, entry: Entry) {
        let bytes = entry.bytes(&key);
        if let Some(group) = &entry.group {
            let kind = self.kinds.entry(group.kind.clone()).or_default();
            kind.count += 1;
            let owner = kind.owners.entry(group.owner.clone()).or_default();
            owner.count += 1;
            owner.bytes += bytes;
        }
        self.bytes += bytes;
        self.sequence += 1;
        self.by_expiry.insert(entry.expiry, Arc::clone(&key));
        self.by_key.insert(key, entry);
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.by_expiry.remove(&entry.expiry);
        let bytes = entry.bytes(key);
        self.bytes -= bytes;
        if let Some((kind, group)) =
            entry.group.as_ref().and_then(|group| Some((self.kinds.get_mut(&group.kind)?, group)))
        {
            kind.count -= 1;
            if let Some(owner) = kind.owners.get_mut(&group.owner) {
                owner.count -= 1;
                owner.bytes -= bytes;
                if owner.count == 0 {
                    kind.owners.remove(&group.owner);
                }
            }
            if kind.count == 0 {
                self.kinds.remove(&group.kind);
            }
        }
        Some(entry)
    }
}
