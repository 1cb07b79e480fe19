//! Requests that do not come as parameters from the user agent: pushed, signed or sealed.

#[cfg(feature = "pushed-requests")]
mod one_time;
#[cfg(feature = "pushed-requests")]
mod pushed;
pub(crate) mod reason;
mod sources;
#[cfg(feature = "pushed-requests")]
mod store;

#[cfg(feature = "pushed-requests")]
pub use self::pushed::PushedRequestService;
pub(crate) use self::sources::{RequestSources, Unresolved};
#[cfg(feature = "pushed-requests")]
pub use self::store::{PushedRequests, PushedRequestsBuilder, PushedRequestsError};
