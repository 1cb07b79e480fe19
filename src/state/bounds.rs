use std::time::Duration;

use super::error::StateError;

const MAX_KEY_BYTES: usize = 512;
const MAX_VALUE_BYTES: usize = 128 * 1024;
/// With an owner of the longest, an index of PostgreSQL still takes them.
const MAX_KIND_BYTES: usize = 256;
const MAX_OWNER_BYTES: usize = 2048;
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// How many live values of a kind there may be: for one owner, and in all.
///
/// The stores of this crate count the values of one owner exactly, except that concurrent calls on PostgreSQL may
/// exceed the bound by their number. SQL stores count all values of a kind once a second.
///
/// ```
/// use std::time::Duration;
/// use futures::executor::block_on;
/// use tower_oauth_client_validation::{MemoryStateStore, StateBounds, StateErrorKind, StateStore};
///
/// # block_on(async {
/// let store = MemoryStateStore::new();
/// let minute = Duration::from_secs(60);
/// let bounds = StateBounds::new("pushed request", "client-1").max_per_owner(1).max_in_all(100_000);
/// assert!(store.put_new_bounded("a", b"", minute, bounds).await?);
/// assert_eq!(store.put_new_bounded("b", b"", minute, bounds).await.unwrap_err().kind(), StateErrorKind::Full);
/// # Ok::<(), tower_oauth_client_validation::StateError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct StateBounds<'a> {
    group: Option<(&'a str, &'a str)>,
    max_per_owner: u64,
    max_in_all: u64,
}

impl<'a> StateBounds<'a> {
    /// The value is not counted.
    pub const NONE: Self = Self { group: None, max_per_owner: u64::MAX, max_in_all: u64::MAX };

    /// Counts the value for a kind, such as `pushed request`, and for the owner, such as a client id. A kind is at most
    /// 256 bytes long, an owner 2,048. Nothing is bounded until a bound is set.
    pub const fn new(kind: &'a str, owner: &'a str) -> Self {
        Self { group: Some((kind, owner)), ..Self::NONE }
    }

    /// Sets how many live values of the kind the owner may have (default: any number).
    pub const fn max_per_owner(mut self, max: u64) -> Self {
        self.max_per_owner = max;
        self
    }

    /// Sets how many live values of the kind there may be (default: any number).
    pub const fn max_in_all(mut self, max: u64) -> Self {
        self.max_in_all = max;
        self
    }

    /// The kind and the owner, for implementations of [`StateStore`](crate::StateStore).
    #[must_use]
    pub const fn group(&self) -> Option<(&'a str, &'a str)> {
        self.group
    }

    /// The bound for the owner, for implementations of [`StateStore`](crate::StateStore).
    #[must_use]
    pub const fn get_max_per_owner(&self) -> u64 {
        self.max_per_owner
    }

    /// The bound in all, for implementations of [`StateStore`](crate::StateStore).
    #[must_use]
    pub const fn get_max_in_all(&self) -> u64 {
        self.max_in_all
    }

    pub(super) fn with_kind<'b>(self, kind: &'b str) -> StateBounds<'b>
    where
        'a: 'b,
    {
        StateBounds { group: self.group.map(|(_, owner)| (kind, owner)), ..self }
    }
}

/// A value to store whose sizes are within bounds.
pub(super) struct NewValue<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
    pub(super) lifetime: Duration,
    pub(super) bounds: StateBounds<'a>,
}

impl<'a> NewValue<'a> {
    pub(super) fn check(
        key: &'a str,
        value: &'a [u8],
        lifetime: Duration,
        bounds: StateBounds<'a>,
    ) -> Result<Self, StateError> {
        let (kind, owner) = bounds.group.unwrap_or_default();
        let sizes = [
            ("key", key.len(), MAX_KEY_BYTES),
            ("value", value.len(), MAX_VALUE_BYTES),
            ("kind", kind.len(), MAX_KIND_BYTES),
            ("owner", owner.len(), MAX_OWNER_BYTES),
        ];
        match sizes.iter().find(|(_, bytes, max)| bytes > max) {
            Some((what, bytes, max)) => {
                Err(StateError::too_large(format!("the {what} has {bytes} bytes, more than {max}")))
            }
            // Redis counts in milliseconds and takes no zero.
            None => Ok(Self { key, value, lifetime: lifetime.clamp(Duration::from_millis(1), MAX_LIFETIME), bounds }),
        }
    }
}

/// Whether a value may have this key.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(super) fn is_key(key: &str) -> bool {
    key.len() <= MAX_KEY_BYTES
}
