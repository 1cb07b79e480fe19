//! One binary for all integration tests; a module by topic.

#[cfg(feature = "registration")]
mod registration;

#[cfg(feature = "metadata-document")]
mod metadata_document;

#[cfg(feature = "upstream-registration")]
mod upstream_registration;

mod server_metadata;
