//! Times in whole seconds since the epoch, as registries and metadata store them.

use std::time::{Duration, SystemTime};

/// The seconds since the epoch; 0 for earlier times.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time this many seconds after the epoch; `None` if `SystemTime` cannot represent it.
pub(crate) fn from_unix_seconds(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
