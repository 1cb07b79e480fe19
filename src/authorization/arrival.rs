//! How a request came, if not as parameters from the user agent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use tower::BoxError;

/// Where the parameters of a request were read from.
#[derive(Default)]
pub(crate) struct Arrival {
    pub(crate) is_pushed: bool,
    pub(crate) is_signed: bool,
    /// Present where the request counts once.
    pub(crate) one_time: Option<Arc<dyn OneTime>>,
    pub(crate) is_used_up: AtomicBool,
}

/// The handle by which a request is used up.
pub(crate) trait OneTime: Send + Sync {
    /// The `request_uri` that the client got.
    fn request_uri(&self) -> &str;

    /// Of all calls for one `request_uri`, on all nodes, exactly one succeeds.
    fn use_up(&self) -> BoxFuture<'static, Result<(), UseUpFailure>>;
}

/// Why a request was not used up.
pub(crate) struct UseUpFailure {
    pub(crate) kind: UseUpErrorKind,
    pub(crate) source: Option<BoxError>,
}

/// Why [`ValidatedRequest::use_up`](crate::ValidatedRequest::use_up) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UseUpErrorKind {
    /// A code was already issued for the request, or its lifetime is over. Answer 400.
    Used,
    /// The store cannot answer at the moment. Answer 503.
    Unavailable,
    /// The store failed permanently. Answer 500.
    Fault,
}

impl Arrival {
    /// Whether a code may be issued: the request counts any number of times, or was used up by this server.
    pub(super) fn may_be_answered(&self) -> bool {
        !self.is_pushed || self.is_used_up.load(Ordering::Acquire)
    }

    pub(super) fn set_used_up(&self) {
        self.is_used_up.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("is_pushed", &self.is_pushed)
            .field("is_signed", &self.is_signed)
            .finish_non_exhaustive()
    }
}
