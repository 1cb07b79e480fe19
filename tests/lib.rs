//! One binary for all integration tests; a module by topic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the exception for tests does not reach their helpers")]

#[cfg(feature = "registration")]
mod registration;

#[cfg(feature = "metadata-document")]
mod metadata_document;

#[cfg(feature = "upstream-registration")]
mod upstream_registration;

mod server_metadata;
