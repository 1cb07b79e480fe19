//! One binary for all integration tests; a module by topic.

// A test fails by panicking, helpers included; clippy knows that of `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)]

mod answers;
#[cfg(feature = "client-authentication")]
mod authentication;
mod bodies;
#[cfg(feature = "axum")]
mod composition;
#[cfg(feature = "full")]
mod contract;
mod documents;
mod dynamic;
mod faults;
mod fixture;
mod layer;
mod log;
#[cfg(feature = "full")]
mod metadata_document;
#[cfg(all(feature = "cache", feature = "metrics"))]
mod metrics;
mod mock;
mod openid;
#[cfg(feature = "full")]
mod postgres_cluster;
mod property;
#[cfg(all(feature = "axum", feature = "pushed-requests"))]
mod pushed;
#[cfg(feature = "full")]
mod redis_server;
mod reference;
#[cfg(feature = "registration")]
mod registration;
#[cfg(feature = "full")]
mod registration_both;
#[cfg(feature = "full")]
mod registry_cache;
#[cfg(feature = "full")]
mod registry_file;
#[cfg(feature = "full")]
mod registry_http;
#[cfg(feature = "full")]
mod registry_sql;
#[cfg(feature = "full")]
mod sealed;
mod server_metadata;
#[cfg(feature = "full")]
mod signed;
#[cfg(feature = "client-authentication")]
mod signing;
#[cfg(feature = "axum")]
mod socket;
mod sources;
#[cfg(feature = "full")]
mod state;
#[cfg(feature = "full")]
mod upstream_registration;
mod values;
mod vectors;
#[cfg(feature = "registration")]
#[cfg_attr(not(feature = "full"), allow(dead_code))]
mod wait;
