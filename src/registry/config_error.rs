//! The error of builders.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use tower::BoxError;

/// A wrong setting. The message begins with its name.
#[derive(Debug)]
pub struct ConfigError {
    setting: &'static str,
    problem: Cow<'static, str>,
    source: Option<BoxError>,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { setting, problem: problem.into(), source: None }
    }

    #[cfg(any(feature = "http-registry", feature = "metadata-document", feature = "upstream-registration"))]
    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The name of the parameter or method that sets it.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
