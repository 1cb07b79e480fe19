use std::fmt;
use std::sync::Arc;

use tower::BoxError;

/// A [`StateStore`](crate::StateStore) could not do what it was asked.
///
/// Keeps its cause as [`source`](std::error::Error::source).
#[derive(Clone, Debug)]
pub struct StateError {
    kind: StateErrorKind,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure a [`StateError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateErrorKind {
    /// The next attempt may succeed: a timeout, a lost connection. Answer 503.
    Unavailable,
    /// Somebody has to fix something: wrong credentials, a missing table. Answer 500.
    Failed,
    /// A bound is reached, of the caller or of the store. Answer 429.
    Full,
    /// The key or value is too long.
    TooLarge,
}

impl StateError {
    /// The next attempt may succeed.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self { kind: StateErrorKind::Unavailable, source: Some(source.into().into()) }
    }

    /// Somebody has to fix something.
    pub fn failed(source: impl Into<BoxError>) -> Self {
        Self { kind: StateErrorKind::Failed, source: Some(source.into().into()) }
    }

    /// A bound is reached.
    #[must_use]
    pub fn full() -> Self {
        Self { kind: StateErrorKind::Full, source: None }
    }

    /// The key or value is too long.
    pub fn too_large(source: impl Into<BoxError>) -> Self {
        Self { kind: StateErrorKind::TooLarge, source: Some(source.into().into()) }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StateErrorKind {
        self.kind
    }

    /// Whether the next attempt may succeed: the store is unavailable or full.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StateErrorKind::Unavailable | StateErrorKind::Full)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StateErrorKind::Unavailable => "the state store is temporarily unavailable",
            StateErrorKind::Failed => "the state store failed",
            StateErrorKind::Full => "the state store takes no more values for now",
            StateErrorKind::TooLarge => "a key or value is too long for the state store",
        })
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
