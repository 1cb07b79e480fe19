//! Public errors.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use tower::BoxError;

use crate::http::endpoint::Refusal;

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

/// Metadata that [`RegistrationPolicy::judge`](super::RegistrationPolicy::judge) refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationError {
    code: &'static str,
    description: String,
}

impl RegistrationError {
    /// The `error` of RFC 7591 §3.2.2, such as `invalid_redirect_uri`.
    #[must_use]
    pub fn code(&self) -> &str {
        self.code
    }
}

impl From<&Refusal> for RegistrationError {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.error(), description: refusal.description().to_owned() }
    }
}

/// The `error_description`.
impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl Error for RegistrationError {}
