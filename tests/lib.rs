//! One binary for all integration tests; a module by topic.

mod answers;
mod bodies;
mod composition;
mod faults;
mod fixture;
mod log;
mod mock;
mod property;
mod sources;
mod store_contract;
