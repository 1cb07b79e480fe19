//! One binary for all integration tests; a module by topic.
#![allow(clippy::unwrap_used, clippy::panic)]

mod contract;
#[cfg(feature = "postgres")]
mod postgres_cluster;
#[cfg(feature = "cache")]
mod registry_cache;
#[cfg(feature = "file")]
mod registry_file;
#[cfg(feature = "http-registry")]
mod registry_http;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod registry_sql;
