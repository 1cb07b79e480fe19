//! One binary for all integration tests; a module by topic.

mod composition;
mod fixture;
mod log;
mod mock;
mod property;
mod sources;
mod store_contract;
