//! What the stores in SQL databases share: a connection pool with time limits, and migrations.

mod backend;
mod config;
mod error;
mod migration;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

pub(crate) use self::backend::{Argument, Backend};
pub use self::config::SqlConfig;
pub(crate) use self::error::SqlError;
pub(crate) use self::migration::Migrations;
pub(crate) use self::pool::{Access, BoundedPool};
