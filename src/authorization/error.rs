//! OAuth error codes, and errors made of a code and a description.

use std::borrow::Cow;
use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// An OAuth error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])+ $variant,)+
        }

        impl ErrorCode {
            /// The value of the `error` parameter.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        /// The text of a code as a literal.
        macro_rules! error_code_text {
            $(($variant) => { $name };)+
        }
    };
}

error_codes! {
    /// RFC 6749 §4.1.2.1
    InvalidRequest = "invalid_request",
    /// RFC 6749 §5.2. Sent to the user agent only, never to a redirect URI.
    InvalidClient = "invalid_client",
    /// RFC 6749 §4.1.2.1
    UnauthorizedClient = "unauthorized_client",
    /// RFC 6749 §4.1.2.1
    AccessDenied = "access_denied",
    /// RFC 6749 §4.1.2.1
    UnsupportedResponseType = "unsupported_response_type",
    /// RFC 6749 §4.1.2.1
    InvalidScope = "invalid_scope",
    /// RFC 6749 §4.1.2.1
    ServerError = "server_error",
    /// RFC 6749 §4.1.2.1
    TemporarilyUnavailable = "temporarily_unavailable",
    /// RFC 8707 §2
    InvalidTarget = "invalid_target",
    /// RFC 9101 §6.1
    InvalidRequestObject = "invalid_request_object",
    /// RFC 9101 §6.1
    InvalidRequestUri = "invalid_request_uri",
    /// OpenID Connect Core §3.1.2.6
    RequestNotSupported = "request_not_supported",
    /// OpenID Connect Core §3.1.2.6
    RequestUriNotSupported = "request_uri_not_supported",
    /// OpenID Connect Core §3.1.2.6
    RegistrationNotSupported = "registration_not_supported",
    /// OpenID Connect Core §3.1.2.6
    InteractionRequired = "interaction_required",
    /// OpenID Connect Core §3.1.2.6
    LoginRequired = "login_required",
    /// OpenID Connect Core §3.1.2.6
    AccountSelectionRequired = "account_selection_required",
    /// OpenID Connect Core §3.1.2.6
    ConsentRequired = "consent_required",
    /// RFC 9396 §5
    InvalidAuthorizationDetails = "invalid_authorization_details",
    /// RFC 9470 §3
    UnmetAuthenticationRequirements = "unmet_authentication_requirements",
}
pub(crate) use error_code_text as text_of;

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error for the client: a code and a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationError {
    code: ErrorCode,
    description: Cow<'static, str>,
}

impl AuthorizationError {
    /// An error with a description for the client's developers, in ASCII.
    ///
    /// Characters that RFC 6749 §4.1.2.1 forbids in a description (all but %x20-21, %x23-5B, %x5D-7E) are replaced
    /// by `?`. Never put text of the request into it.
    #[must_use]
    pub fn new(code: ErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        let is_allowed = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
        let mut description = description.into();
        if !description.chars().all(is_allowed) {
            description = description.chars().map(|c| if is_allowed(c) { c } else { '?' }).collect();
        }
        Self { code, description }
    }

    /// For descriptions that are known to be allowed.
    pub(super) fn from_static(code: ErrorCode, description: &'static str) -> Self {
        Self { code, description: Cow::Borrowed(description) }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The description.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }
}
