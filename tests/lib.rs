//! One binary for all integration tests; a module by topic.

mod composition;
mod fixture;
mod mock;
mod sources;
mod store_contract;
