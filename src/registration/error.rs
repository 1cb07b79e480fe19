//! Metadata that a policy refuses.

use std::error::Error;
use std::fmt;

use crate::http::endpoint::Refusal;

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
