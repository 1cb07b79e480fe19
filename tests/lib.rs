//! One binary for all integration tests; a module by topic.

mod composition;
mod fixture;
mod mock;
