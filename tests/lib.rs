//! One binary for all integration tests; a module by topic.

// A test fails by panicking, helpers included; clippy knows that of `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)]

mod answers;
mod bodies;
#[cfg(feature = "axum")]
mod composition;
mod faults;
mod fixture;
mod log;
mod mock;
mod property;
#[cfg(feature = "axum")]
mod socket;
mod sources;
mod store_contract;
