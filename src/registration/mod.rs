//! Clients that register themselves (RFC 7591), look after their registration (RFC 7592), or come by way of an
//! upstream identity provider.

mod answer;
mod bounds;
mod credential;
mod members;
mod metadata;
#[cfg(feature = "upstream-registration")]
mod narrow;
mod policy;
mod request;
mod service;
#[cfg(feature = "upstream-registration")]
mod upstream;
#[cfg(feature = "upstream-registration")]
mod withdrawal;

pub use self::credential::verify_client_secret;
pub use self::policy::{RegistrationPolicy, SoftwareStatementError};
pub use self::request::EndpointError;
pub use self::service::{RegistrationFuture, RegistrationService};
#[cfg(feature = "upstream-registration")]
#[cfg_attr(docsrs, doc(cfg(feature = "upstream-registration")))]
pub use self::upstream::{Upstream, UpstreamError, UpstreamRegistration};
