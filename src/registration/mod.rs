//! Clients that register themselves (RFC 7591) and manage their registration (RFC 7592), here or at an upstream
//! identity provider.

mod bounds;
mod credential;
mod endpoint;
mod error;
mod members;
mod metadata;
mod policy;
mod refusal;
mod service;
#[cfg(feature = "upstream-registration")]
mod upstream;

pub use self::error::RegistrationError;
pub use self::policy::{RegistrationPolicy, SoftwareStatementError};
pub use self::service::RegistrationService;
#[cfg(feature = "upstream-registration")]
pub use self::upstream::{Upstream, UpstreamRegistration};
