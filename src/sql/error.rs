use tower::BoxError;

use super::backend::Backend;

/// A failure of the database, before a store makes its own error of it.
#[derive(Debug)]
pub(crate) struct SqlError {
    pub(crate) is_transient: bool,
    pub(crate) source: BoxError,
}

impl SqlError {
    pub(crate) fn new<B: Backend>(error: sqlx::Error) -> Self {
        let is_transient = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| B::is_transient(&code)),
            _ => false,
        };
        Self { is_transient, source: error.into() }
    }

    pub(crate) fn transient(source: impl Into<BoxError>) -> Self {
        Self { is_transient: true, source: source.into() }
    }

    pub(crate) fn permanent(source: impl Into<BoxError>) -> Self {
        Self { is_transient: false, source: source.into() }
    }

    pub(super) fn timed_out() -> Self {
        Self::transient("the database did not answer in time")
    }
}

/// sqlx accepts any scheme.
pub(super) fn check_scheme(url: &str, schemes: &[&str]) -> Result<(), SqlError> {
    let is_known = schemes.iter().any(|scheme| url.starts_with(scheme));
    if is_known { Ok(()) } else { Err(SqlError::permanent(format!("the URL does not begin with {}", schemes[0]))) }
}
