//! Settings that a builder refuses.

use std::error::Error;
use std::fmt;

use tower::BoxError;

/// A registry cannot be built as it was configured. The message begins with the name of the setting.
#[derive(Debug)]
pub struct RegistryConfigError {
    setting: &'static str,
    problem: &'static str,
    source: Option<BoxError>,
}

impl RegistryConfigError {
    pub(super) fn new(setting: &'static str, problem: &'static str) -> Self {
        Self { setting, problem, source: None }
    }

    pub(super) fn with_source(setting: &'static str, problem: &'static str) -> impl FnOnce(reqwest::Error) -> Self {
        move |source| Self { setting, problem, source: Some(source.into()) }
    }

    /// The method of the builder that set what is wrong.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for RegistryConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl Error for RegistryConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
