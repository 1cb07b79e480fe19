//! Registration at an upstream identity provider.

mod client;
mod configured;
mod service;
mod translation;
mod withdrawal;

pub use self::client::Upstream;
pub use self::service::UpstreamRegistration;
