//! Why requests are refused: a table with one row per reason.

use std::fmt;

use super::error::{AuthorizationError, ErrorCode};
use super::request::ParameterFault;

/// Why a request was refused: finer than the error code, for logs and metrics.
///
/// The answer contains only [`error`](Self::error) and [`description`](Self::description), unless
/// [`insecure_detailed_errors`](crate::PolicyBuilder::insecure_detailed_errors) is on.
///
/// ```
/// use tower_oauth_client_validation::Reason;
///
/// let reason = Reason::REDIRECT_URI_MISSING;
/// assert_eq!(reason.as_str(), "redirect_uri_missing");
/// assert_eq!(reason.error().as_str(), "invalid_request");
/// assert_eq!(reason.rule(), "RFC 6749 §3.1.2.3");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason {
    pub(crate) name: &'static str,
    pub(crate) row: &'static Row,
}

/// The properties of a reason.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) code: ErrorCode,
    pub(crate) description: &'static str,
    pub(crate) rule: &'static str,
    /// Where it differs from the one of the code.
    pub(crate) status: Option<u16>,
    /// The body of an answer in JSON.
    pub(crate) json: &'static str,
}

/// Adds reasons as constants of [`Reason`]: name, error code, description, the section that the request breaks, and
/// the HTTP status where it differs from the one of the code.
macro_rules! reasons {
    ($(
        $(#[$doc:meta])+
        $reason:ident = $name:literal, $code:ident, $description:literal, $rule:literal $(, $status:literal)?;
    )+) => {
        impl $crate::authorization::Reason {
            $(
                $(#[$doc])+
                pub const $reason: Self = Self {
                    name: $name,
                    row: &$crate::authorization::reason::Row {
                        code: $crate::authorization::ErrorCode::$code,
                        description: $description,
                        rule: $rule,
                        status: {
                            let _of_the_code: Option<u16> = None;
                            $(let _of_the_code = Some($status);)?
                            _of_the_code
                        },
                        json: concat!(
                            "{\"error\":\"",
                            $crate::authorization::error::text_of!($code),
                            "\",\"error_description\":\"",
                            $description,
                            "\"}"
                        ),
                    },
                };
            )+
        }
    };
}
pub(crate) use reasons;

reasons! {
    /// Query and body both name parameters: a handler that reads only one of them would see another request.
    SPLIT_PARAMETERS = "split_parameters", InvalidRequest,
        "the parameters must be either all in the query or all in the body", "RFC 6749 §3.1";
    /// `client_id` is missing.
    CLIENT_ID_MISSING = "client_id_missing", InvalidRequest, "client_id is missing", "RFC 6749 §4.1.1";
    /// `client_id` contains a character that is not printable ASCII.
    CLIENT_ID_CHARACTER = "client_id_character", InvalidRequest, "client_id holds a character that is not allowed",
        "RFC 6749 appendix A.1";
    /// The validator was given a client with another id than the request names.
    CLIENT_ID_MISMATCH = "client_id_mismatch", ServerError, "clients cannot be looked up", "RFC 6749 §4.1.2.1";
    /// The validator was given a request that was read without the parameters that its policy declares.
    EXTENSIONS_NOT_READ = "extensions_not_read", ServerError, "the request could not be read", "RFC 6749 §4.1.2.1";
    // The next four look the same from outside: strangers must not learn which ids exist.
    /// The client is unknown.
    CLIENT_UNKNOWN = "client_unknown", InvalidClient, "the client is not registered here", "RFC 6749 §4.1.2.1";
    /// The client is disabled.
    CLIENT_DISABLED = "client_disabled", InvalidClient, "the client is not registered here", "RFC 6749 §4.1.2.1";
    /// The client is revoked.
    CLIENT_REVOKED = "client_revoked", InvalidClient, "the client is not registered here", "RFC 6749 §4.1.2.1";
    /// The registration has expired.
    CLIENT_EXPIRED = "client_expired", InvalidClient, "the client is not registered here", "RFC 6749 §4.1.2.1";
    /// `redirect_uri` is missing, and the client has no single one to fall back to.
    REDIRECT_URI_MISSING = "redirect_uri_missing", InvalidRequest, "redirect_uri is missing", "RFC 6749 §3.1.2.3";
    /// `redirect_uri` breaks a rule that holds for every redirect URI.
    REDIRECT_URI_MALFORMED = "redirect_uri_malformed", InvalidRequest, "redirect_uri is malformed",
        "RFC 6749 §3.1.2";
    /// `redirect_uri` is not one of the client's.
    REDIRECT_URI_NOT_REGISTERED = "redirect_uri_not_registered", InvalidRequest,
        "redirect_uri is not registered for this client", "RFC 6749 §3.1.2.3, RFC 9700 §4.1.3";
    /// A parameter is repeated.
    PARAMETER_REPEATED = "parameter_repeated", InvalidRequest, "a parameter is repeated", "RFC 6749 §3.1";
    /// A parameter has a broken percent-encoding or is not UTF-8.
    PARAMETER_UNDECODABLE = "parameter_undecodable", InvalidRequest,
        "a parameter has a broken percent-encoding or is not UTF-8", "RFC 6749 appendix B";
    /// `state` or `nonce` contains a control character.
    PARAMETER_CONTROL_CHARACTER = "parameter_control_character", InvalidRequest,
        "a parameter holds a control character", "RFC 6749 appendix A.5";
    /// `request` is not supported.
    REQUEST_OBJECT = "request_object", RequestNotSupported, "the request parameter is not supported",
        "OpenID Connect Core §3.1.2.6";
    /// `request_uri` is not supported.
    REQUEST_URI = "request_uri", RequestUriNotSupported, "the request_uri parameter is not supported",
        "OpenID Connect Core §3.1.2.6";
    /// The request was not pushed, although the policy or the client requires it.
    PUSHED_REQUEST_REQUIRED = "pushed_request_required", InvalidRequest, "the request must be pushed", "RFC 9126 §5";
    /// The request was not signed, although the policy or the client requires it.
    SIGNED_REQUEST_REQUIRED = "signed_request_required", InvalidRequest, "the request must be signed",
        "RFC 9101 §10.5";
    /// The pushed request was used for a code before, or expired during the login.
    REQUEST_URI_USED = "request_uri_used", InvalidRequestUri, "the request_uri is not valid", "RFC 9126 §4";
    /// The store of pushed requests is unavailable at the moment.
    REQUEST_STORE_UNAVAILABLE = "request_store_unavailable", TemporarilyUnavailable,
        "pushed requests cannot be read at the moment, please try again", "RFC 6749 §4.1.2.1";
    /// The store of pushed requests failed permanently.
    REQUEST_STORE_FAULT = "request_store_fault", ServerError, "pushed requests cannot be read",
        "RFC 6749 §4.1.2.1";
    /// `response_type` is missing.
    RESPONSE_TYPE_MISSING = "response_type_missing", InvalidRequest, "response_type is missing", "RFC 6749 §3.1.1";
    /// The server does not support the response type.
    RESPONSE_TYPE_UNSUPPORTED = "response_type_unsupported", UnsupportedResponseType,
        "this response_type is not supported", "RFC 6749 §3.1.1";
    /// The client did not register the response type.
    RESPONSE_TYPE_NOT_REGISTERED = "response_type_not_registered", UnauthorizedClient,
        "the client may not use this response_type", "RFC 7591 §2";
    /// The client did not register the grant that the response type needs.
    GRANT_TYPE_NOT_REGISTERED = "grant_type_not_registered", UnauthorizedClient,
        "the client may not use the grant type that this response_type needs", "RFC 7591 §2.1";
    /// `response_mode` is unknown.
    RESPONSE_MODE_UNKNOWN = "response_mode_unknown", InvalidRequest,
        "response_mode must be query, fragment or form_post",
        "OAuth 2.0 Multiple Response Type Encoding Practices §2.1";
    /// `response_mode` is `query` although the response carries a token.
    RESPONSE_MODE_QUERY = "response_mode_query", InvalidRequest,
        "response_mode must not be query when the response carries a token",
        "OAuth 2.0 Multiple Response Type Encoding Practices §5";
    /// `scope` is missing.
    SCOPE_MISSING = "scope_missing", InvalidScope, "scope is missing", "RFC 6749 §3.3";
    /// `scope` does not follow the grammar.
    SCOPE_MALFORMED = "scope_malformed", InvalidScope, "scope is malformed", "RFC 6749 §3.3";
    /// The client or the server does not allow a scope.
    SCOPE_NOT_ALLOWED = "scope_not_allowed", InvalidScope, "the client may not ask for this scope", "RFC 6749 §3.3";
    /// The client must use PKCE.
    CODE_CHALLENGE_MISSING = "code_challenge_missing", InvalidRequest, "code_challenge is required",
        "RFC 7636 §4.4.1";
    /// `code_challenge` does not follow the grammar.
    CODE_CHALLENGE_MALFORMED = "code_challenge_malformed", InvalidRequest,
        "code_challenge must be 43 to 128 unreserved characters", "RFC 7636 §4.2";
    /// `code_challenge_method` is not supported.
    CODE_CHALLENGE_METHOD = "code_challenge_method", InvalidRequest,
        "this code_challenge_method is not supported, use S256", "RFC 7636 §4.4.1";
    /// `code_challenge_method` came without a challenge.
    CODE_CHALLENGE_METHOD_ALONE = "code_challenge_method_alone", InvalidRequest,
        "code_challenge_method without code_challenge", "RFC 7636 §4.3";
    /// `resource` is missing.
    RESOURCE_MISSING = "resource_missing", InvalidTarget, "resource is required", "RFC 8707 §2";
    /// A `resource` is not an absolute URI without fragment.
    RESOURCE_MALFORMED = "resource_malformed", InvalidTarget, "resource must be an absolute URI without fragment",
        "RFC 8707 §2";
    /// A `resource` is not one of the server's.
    RESOURCE_NOT_ALLOWED = "resource_not_allowed", InvalidTarget, "this resource is not served here", "RFC 8707 §2";
    /// `prompt` contains an unknown word.
    PROMPT_UNKNOWN = "prompt_unknown", InvalidRequest, "prompt must be none, login, consent or select_account",
        "OpenID Connect Core §3.1.2.1";
    /// `prompt` contains `none` and another word.
    PROMPT_NONE_COMBINED = "prompt_none_combined", InvalidRequest, "prompt must not combine none with another value",
        "OpenID Connect Core §3.1.2.1";
    /// `max_age` is not a non-negative integer.
    MAX_AGE_MALFORMED = "max_age_malformed", InvalidRequest, "max_age must be a number of seconds",
        "OpenID Connect Core §3.1.2.1";
    /// `nonce` is missing, and the response type has an ID token.
    NONCE_MISSING = "nonce_missing", InvalidRequest, "nonce is required for this response_type",
        "OpenID Connect Core §3.2.2.1";
    /// The scope `openid` is missing, and the response type has an ID token.
    SCOPE_OPENID_MISSING = "scope_openid_missing", InvalidRequest,
        "the scope openid is required for this response_type", "OpenID Connect Core §3.2.2.1";
    /// `authorization_details` is not a JSON array of objects with a `type`.
    AUTHORIZATION_DETAILS_MALFORMED = "authorization_details_malformed", InvalidAuthorizationDetails,
        "authorization_details must be a JSON array of objects with a type", "RFC 9396 §2";
    /// The server does not support a type of `authorization_details`.
    AUTHORIZATION_DETAILS_TYPE_UNKNOWN = "authorization_details_type_unknown", InvalidAuthorizationDetails,
        "this type of authorization_details is not supported", "RFC 9396 §5";
    /// The client did not register a type of `authorization_details`.
    AUTHORIZATION_DETAILS_TYPE_NOT_REGISTERED = "authorization_details_type_not_registered",
        InvalidAuthorizationDetails, "the client may not use this type of authorization_details", "RFC 9396 §10";
    /// `dpop_jkt` is not a SHA-256 thumbprint.
    DPOP_JKT_MALFORMED = "dpop_jkt_malformed", InvalidRequest, "dpop_jkt must be 43 base64url characters",
        "RFC 9449 §10";
    /// `dpop_jkt` is missing, and the client's access tokens are always bound to a DPoP key.
    DPOP_JKT_MISSING = "dpop_jkt_missing", InvalidRequest, "dpop_jkt is required", "RFC 9449 §10";
    /// A [`RequestCheck`](crate::RequestCheck) refused the request.
    CHECK = "check", InvalidRequest, "the request was refused", "RFC 6749 §4.1.2.1";
}

impl Reason {
    /// The name for logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.name
    }

    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        self.row.code
    }

    /// The `error_description`.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.row.description
    }

    /// The section that the request breaks, such as `RFC 7636 §4.4.1`. Meant for people; the text may become more
    /// precise.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.row.rule
    }

    /// The reason of a named check.
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, ..Self::CHECK }
    }

    pub(crate) fn of_fault(fault: ParameterFault) -> Self {
        match fault {
            ParameterFault::Repeated => Self::PARAMETER_REPEATED,
            ParameterFault::Undecodable => Self::PARAMETER_UNDECODABLE,
            ParameterFault::ControlCharacter => Self::PARAMETER_CONTROL_CHARACTER,
        }
    }

    pub(super) fn to_error(self) -> AuthorizationError {
        AuthorizationError::from_static(self.row.code, self.row.description)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reason").field(&self.name).finish()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}
