//! One binary for all integration tests; a module by topic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the exception for tests does not reach their helpers")]

mod answers;
mod bodies;
mod composition;
mod contract;
mod documents;
mod examples;
mod faults;
mod fixture;
mod log;
mod metadata_document;
mod mock;
mod postgres_cluster;
mod property;
mod registration;
mod registry_sql;
mod server_metadata;
mod sources;
mod store_contract;
mod upstream_registration;
mod vectors;
