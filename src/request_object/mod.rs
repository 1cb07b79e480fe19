//! Requests that do not come as parameters from the user agent: pushed, signed or sealed.

#[cfg(all(feature = "pushed-requests", feature = "sealed-requests"))]
mod carried;
#[cfg(feature = "sealed-requests")]
mod log;
#[cfg(feature = "pushed-requests")]
mod one_time;
#[cfg(feature = "pushed-requests")]
mod pushed;
pub(crate) mod reason;
#[cfg(feature = "sealed-requests")]
mod seal;
#[cfg(feature = "sealed-requests")]
mod sealer;
#[cfg(feature = "request-object")]
mod signed;
mod sources;
#[cfg(feature = "pushed-requests")]
mod store;

#[cfg(feature = "pushed-requests")]
pub use self::pushed::PushedRequestService;
#[cfg(feature = "sealed-requests")]
pub use self::seal::{SealError, SealKeys, SealKeysError};
#[cfg(feature = "sealed-requests")]
pub use self::sealer::{OpenError, OpenErrorKind, RequestSealer};
#[cfg(feature = "request-object")]
pub use self::signed::{SignedRequests, SignedRequestsBuilder};
pub(crate) use self::sources::{RequestSources, Unresolved};
#[cfg(feature = "pushed-requests")]
pub use self::store::{PushedRequests, PushedRequestsBuilder};
