//! The gate at endpoints that clients call themselves: which client is calling (RFC 6749 §2.3).

mod assertion;
mod authenticator;
#[cfg(feature = "axum")]
mod axum;
mod credentials;
mod failure;
#[cfg(feature = "metadata-document")]
mod fetched_keys;
mod future;
pub(crate) mod jws;
pub(crate) mod keys;
mod layer;
mod log;
mod method;
mod metrics;
mod parameters;
mod policy;
mod secret;

pub use self::authenticator::{AuthenticatedClient, ClientAuthenticator};
#[cfg(feature = "axum")]
pub use self::axum::MissingAuthentication;
pub use self::failure::{AuthenticationError, AuthenticationFailure};
#[cfg(feature = "metadata-document")]
pub use self::fetched_keys::{FetchedKeys, FetchedKeysBuilder};
pub use self::future::AuthenticationFuture;
pub use self::jws::SigningAlgorithm;
pub use self::keys::{KeyError, KeySource};
pub use self::layer::{ClientAuthentication, ClientAuthenticationLayer};
pub use self::method::{AuthenticationMethod, Claim, CustomMethod};
pub use self::parameters::FormParameters;
pub use self::policy::{AuthenticationPolicy, AuthenticationPolicyBuilder};
