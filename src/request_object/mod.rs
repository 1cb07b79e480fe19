//! Requests that come pushed, signed or sealed.

#[cfg(feature = "sealed-requests")]
mod seal;
#[cfg(feature = "request-object")]
mod signed;

#[cfg(feature = "sealed-requests")]
pub use self::seal::{SealError, SealKeys, SealKeysError};
#[cfg(feature = "request-object")]
pub use self::signed::{SignedRequests, SignedRequestsBuilder, SignedRequestsError};
