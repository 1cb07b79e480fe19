//! One binary for all integration tests; a module by topic.

// A test fails by panicking, helpers included; clippy knows that of `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)]

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
mod metrics;
mod mock;
mod postgres_cluster;
mod property;
mod registration;
mod registry_cache;
mod registry_file;
mod registry_http;
mod registry_sql;
mod server_metadata;
mod socket;
mod sources;
mod upstream_registration;
mod vectors;
