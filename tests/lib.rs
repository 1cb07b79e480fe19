//! One binary for all integration tests; a module by topic.

mod contract;
#[cfg(feature = "postgres")]
mod postgres_cluster;
#[cfg(feature = "cache")]
mod registry_cache;
#[cfg(feature = "file")]
mod registry_file;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod registry_sql;
