//! Using up a request that counts once.

use std::fmt;
use std::sync::Arc;

use tracing::field::display;

use super::arrival::{UseUpErrorKind, UseUpFailure};
use super::reason::Reason;
use super::rejection::Rejection;
use crate::client::{Causes, Untrusted};

/// A pushed request was not used up, so no code may be issued for it.
///
/// [`rejection`](Self::rejection) answers the user agent. Keeps the failure of the store as
/// [`source`](std::error::Error::source).
#[derive(Clone)]
pub struct UseUpError {
    kind: UseUpErrorKind,
    rejection: Rejection,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl UseUpError {
    pub(super) fn new(failure: UseUpFailure, reject: impl FnOnce(Reason) -> Rejection) -> Self {
        let UseUpFailure { kind, source } = failure;
        let rejection = reject(match kind {
            UseUpErrorKind::Used => Reason::REQUEST_URI_USED,
            UseUpErrorKind::Unavailable => Reason::REQUEST_STORE_UNAVAILABLE,
            UseUpErrorKind::Fault => Reason::REQUEST_STORE_FAULT,
        });
        let error = Self { kind, rejection, source: source.map(Into::into) };
        error.log();
        error
    }

    /// In the fields that the layer logs.
    fn log(&self) {
        let (reason, error) = (self.rejection.reason().as_str(), self.rejection.error().as_str());
        let client_id = self.rejection.client_id().map(|id| display(Untrusted(id)));
        match &self.source {
            None => tracing::info!(outcome = "rejected", error, "error.type" = reason, reason, client_id),
            Some(source) => {
                let cause = display(Causes(&**source));
                tracing::error!(outcome = "rejected", error, "error.type" = reason, reason, client_id, cause);
            }
        }
    }

    /// Why.
    #[must_use]
    pub fn kind(&self) -> UseUpErrorKind {
        self.kind
    }

    /// The answer for the user agent: 400 `invalid_request_uri`, 503 `temporarily_unavailable` or 500 `server_error`.
    /// Nothing is sent to the redirect URI.
    #[must_use]
    pub fn rejection(&self) -> &Rejection {
        &self.rejection
    }

    /// The answer, to make a response of it with [`Rejection::into_http`].
    #[must_use]
    pub fn into_rejection(self) -> Rejection {
        self.rejection
    }
}

impl fmt::Display for UseUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            UseUpErrorKind::Used => "the pushed request was used before, or has expired",
            UseUpErrorKind::Unavailable => "the store of pushed requests is temporarily unavailable",
            UseUpErrorKind::Fault => "the store of pushed requests failed",
        })
    }
}

impl fmt::Debug for UseUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UseUpError").field("kind", &self.kind).field("source", &self.source).finish_non_exhaustive()
    }
}

impl std::error::Error for UseUpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
