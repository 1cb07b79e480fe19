//! Why a registration service could not be set up.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use tower::BoxError;

/// A registration service could not be set up: a setting is wrong.
#[derive(Debug)]
pub struct RegistrationConfigError {
    setting: &'static str,
    problem: Cow<'static, str>,
    source: Option<BoxError>,
}

impl RegistrationConfigError {
    pub(super) fn new(setting: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { setting, problem: problem.into(), source: None }
    }

    #[cfg(feature = "upstream-registration")]
    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The name of the parameter or method that set it.
    #[must_use]
    pub fn setting(&self) -> &str {
        self.setting
    }
}

impl fmt::Display for RegistrationConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl Error for RegistrationConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
