//! One binary for all integration tests; a module by topic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the exception for tests does not reach their helpers")]

mod vectors;
