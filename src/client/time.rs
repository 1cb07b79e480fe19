//! Times as registries and metadata write them: in whole seconds since the epoch.

use std::time::{Duration, SystemTime};

/// The seconds since the epoch; 0 for earlier times.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time that is so many seconds after the epoch; `None` where the clock of this system does not reach.
pub(crate) fn from_unix_seconds(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
