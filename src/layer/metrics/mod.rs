//! Counts decisions and times lookups if the feature `metrics` is on.

#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;

#[cfg(not(feature = "metrics"))]
pub(super) use self::off::{Lookup, accepted, forwarded, rejected, time};
#[cfg(feature = "metrics")]
pub(super) use self::on::{Lookup, accepted, forwarded, rejected, time};
