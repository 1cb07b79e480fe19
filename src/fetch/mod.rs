//! Safe fetching of documents that clients host. Knows bytes and addresses, not clients.

#[cfg(feature = "metadata-document")]
mod address;
#[cfg(any(feature = "http-registry", feature = "metadata-document"))]
mod body;
#[cfg(feature = "metadata-document")]
mod fetcher;
#[cfg(feature = "metadata-document")]
mod permits;
#[cfg(any(feature = "cache", feature = "metadata-document"))]
pub(crate) mod single_flight;
#[cfg(feature = "metadata-document")]
mod transport;

#[cfg(feature = "metadata-document")]
pub use self::address::AddressFilter;
#[cfg(feature = "http-registry")]
pub(crate) use self::body::{BodyError, read};
#[cfg(feature = "metadata-document")]
pub(crate) use self::{
    fetcher::{FetchError, Fetcher, FetcherConfig, fetcher_settings},
    permits::{Limits, TooManyFetches, registrable_domain},
};
