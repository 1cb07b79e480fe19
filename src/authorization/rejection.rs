//! Why a request is refused, and to whom that is told.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use crate::client::RedirectUriMismatch;

use super::Policy;
use super::proven::ProvenRequest;
use super::request::{AuthorizationRequest, Parameter, ParameterFault};
use super::response::{AnswerTo, DirectAnswers, RedirectTarget, ResponseMode, reject};

/// A refused authorization request. There are just these two kinds, and will be.
///
/// Also put into the extensions of the response, so that outer layers can count and trace it.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// Told to the user agent itself; nothing is sent to any redirect URI.
    Direct(DirectError),
    /// Sent to the redirect URI, which was proven to be the client's.
    Redirect(RedirectError),
}

impl Rejection {
    /// A rejection that is told to the user agent, for checks outside of this crate.
    #[must_use]
    pub fn direct(reason: Reason) -> Self {
        Self::Direct(DirectError { error: reason.to_error(), reason, error_uri: None, request: None })
    }

    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        match self {
            Self::Direct(error) => error.error(),
            Self::Redirect(error) => error.error(),
        }
    }

    /// The human-readable `error_description`.
    #[must_use]
    pub fn description(&self) -> &str {
        match self {
            Self::Direct(error) => error.description(),
            Self::Redirect(error) => error.description(),
        }
    }

    /// The answer to a request with this method and these headers: what the layer would answer. For endpoints that
    /// ask a [`Validator`](super::Validator) themselves.
    ///
    /// ```
    /// use http::{HeaderMap, Method};
    /// use tower_oauth_client_validation::{AuthorizationRequest, Policy, Validator};
    ///
    /// let request = AuthorizationRequest::parse(b"client_id=nobody", b"");
    /// let rejection = Validator::new(Policy::oauth2()).validate(request, None).unwrap_err();
    /// let response: http::Response<bytes::Bytes> = rejection.into_http(&Method::GET, &HeaderMap::new());
    /// assert_eq!(response.status(), 400);
    /// ```
    #[must_use]
    pub fn into_http<B: From<Bytes>>(self, method: &Method, headers: &HeaderMap) -> Response<B> {
        reject(self, AnswerTo { method, headers }, &DirectAnswers::default()).map(B::from)
    }

    /// Why. For logs and metrics: it tells more than the answer does.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Direct(error) => error.reason(),
            Self::Redirect(error) => error.reason(),
        }
    }

    /// The `client_id` that was sent, where one could be read. Chosen by whoever sent it: escape it.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Direct(error) => error.request.as_ref()?.get(Parameter::ClientId),
            Self::Redirect(error) => Some(error.proven.client().id()),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error(), self.description())
    }
}

impl std::error::Error for Rejection {}

/// An error that the user agent gets itself.
#[derive(Clone, Debug)]
pub struct DirectError {
    reason: Reason,
    error: AuthorizationError,
    error_uri: Option<Arc<str>>,
    request: Option<AuthorizationRequest>,
}

impl DirectError {
    pub(super) fn new(
        reason: Reason,
        error: AuthorizationError,
        policy: &Policy,
        request: Option<AuthorizationRequest>,
    ) -> Self {
        let error = error.with_detail(reason, policy);
        Self { reason, error, error_uri: policy.error_uri.clone(), request }
    }

    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        self.error.code
    }

    /// The human-readable `error_description`.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.error.description
    }

    /// The `error_uri`, where the policy sets one.
    #[must_use]
    pub fn error_uri(&self) -> Option<&str> {
        self.error_uri.as_deref()
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether the error says just what its reason says, so that its answer is known beforehand.
    pub(super) fn is_plain(&self) -> bool {
        self.error_uri.is_none()
            && matches!(self.error.description, Cow::Borrowed(_))
            && self.reason != Reason::Validator
    }
}

/// An error that goes to a redirect URI, which was proven to be the client's. There is no way to make one
/// without that proof.
#[derive(Clone)]
pub struct RedirectError {
    reason: Reason,
    error: AuthorizationError,
    proven: ProvenRequest,
    mode: ResponseMode,
}

impl RedirectError {
    pub(super) fn new(reason: Reason, error: AuthorizationError, proven: ProvenRequest, mode: ResponseMode) -> Self {
        let error = error.with_detail(reason, proven.policy());
        Self { reason, error, proven, mode }
    }

    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        self.error.code
    }

    /// The human-readable `error_description`.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.error.description
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The URI that the error goes to.
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        self.proven.redirect_uri()
    }

    pub(super) fn target(&self) -> RedirectTarget<'_> {
        self.proven.target(self.mode)
    }

    pub(super) fn authorization_error(&self) -> &AuthorizationError {
        &self.error
    }
}

/// Without `state`, which is not for logs.
impl fmt::Debug for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedirectError")
            .field("reason", &self.reason)
            .field("error", &self.error)
            .field("redirect_uri", &self.redirect_uri())
            .finish_non_exhaustive()
    }
}

/// An error for the client: a code and a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationError {
    code: ErrorCode,
    description: Cow<'static, str>,
}

impl AuthorizationError {
    /// The description is for developers, in ASCII. Characters that RFC 6749 §4.1.2.1 does not allow in it
    /// (all but %x20-21, %x23-5B, %x5D-7E) become `?`. Never put text of the request into it.
    #[must_use]
    pub fn new(code: ErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        let allowed = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
        let mut description = description.into();
        if !description.chars().all(allowed) {
            description = description.chars().map(|c| if allowed(c) { c } else { '?' }).collect();
        }
        Self { code, description }
    }

    fn with_detail(self, reason: Reason, policy: &Policy) -> Self {
        match reason.detail_for(policy) {
            Some(detail) => Self::new(self.code, format!("{}: {detail}", self.description)),
            None => self,
        }
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
    };
}

error_codes! {
    /// RFC 6749 §4.1.2.1
    InvalidRequest = "invalid_request",
    /// RFC 6749 §5.2, used here for what the client must never be told by redirect
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
    /// RFC 9470 §3
    UnmetAuthenticationRequirements = "unmet_authentication_requirements",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request is refused: finer than the error, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The method is not one of `GET`, `HEAD`, `POST`, `OPTIONS`.
    Method,
    /// A `POST` body is not `application/x-www-form-urlencoded`.
    ContentType,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body could not be read to its end.
    BodyUnreadable,
    /// `client_id` is missing.
    ClientIdMissing,
    /// `client_id` holds something else than printable ASCII.
    ClientIdCharacter,
    /// The registry could not answer for now.
    RegistryUnavailable,
    /// The registry cannot answer.
    RegistryFault,
    /// The registry answered for another client.
    ClientIdMismatch,
    /// The client is unknown.
    ClientUnknown,
    /// The client is disabled.
    ClientDisabled,
    /// The client is revoked.
    ClientRevoked,
    /// The registration has ended.
    ClientExpired,
    /// `redirect_uri` is missing and cannot be told otherwise.
    RedirectUriMissing,
    /// `redirect_uri` is not one of the client's.
    RedirectUri(RedirectUriMismatch),
    /// A parameter has no usable value.
    Parameter(Parameter, ParameterFault),
    /// `request` is not supported.
    RequestObject,
    /// `request_uri` is not supported.
    RequestUri,
    /// `response_type` is missing.
    ResponseTypeMissing,
    /// The server does not support the response type.
    ResponseTypeUnsupported,
    /// The client did not register the response type.
    ResponseTypeNotRegistered,
    /// The client did not register the grant that the response type needs.
    GrantTypeNotRegistered,
    /// `response_mode` is none of those that are known.
    ResponseModeUnknown,
    /// `response_mode` is `query` although the answer carries a token.
    ResponseModeQuery,
    /// `scope` is missing.
    ScopeMissing,
    /// `scope` does not follow the grammar.
    ScopeMalformed,
    /// The client, or the server, does not allow a scope.
    ScopeNotAllowed,
    /// The client must use PKCE.
    CodeChallengeMissing,
    /// `code_challenge` does not follow the grammar.
    CodeChallengeMalformed,
    /// `code_challenge_method` is not supported.
    CodeChallengeMethod,
    /// `code_challenge_method` came without a challenge.
    CodeChallengeMethodAlone,
    /// `resource` is missing.
    ResourceMissing,
    /// A `resource` is no absolute URI without fragment.
    ResourceMalformed,
    /// A `resource` is not one of the server's.
    ResourceNotAllowed,
    /// A [`RequestCheck`](super::RequestCheck) refused the request.
    Validator,
}

macro_rules! facts {
    ($name:literal, $variant:ident = $code:literal, $description:literal) => {
        Facts {
            name: $name,
            code: ErrorCode::$variant,
            description: $description,
            json: concat!("{\"error\":\"", $code, "\",\"error_description\":\"", $description, "\"}"),
        }
    };
}

/// What there is to say about a reason, all of it known beforehand.
struct Facts {
    name: &'static str,
    code: ErrorCode,
    description: &'static str,
    json: &'static str,
}

impl Reason {
    /// A short name for logs and metrics; there is a fixed number of them.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.facts().name
    }

    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        self.facts().code
    }

    /// What the answer says.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.facts().description
    }

    pub(super) fn to_error(self) -> AuthorizationError {
        let facts = self.facts();
        AuthorizationError { code: facts.code, description: Cow::Borrowed(facts.description) }
    }

    /// The JSON body of the plain answer.
    pub(super) fn json(&self) -> &'static str {
        self.facts().json
    }

    /// What only a log, or an answer with details, may tell.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::RedirectUri(RedirectUriMismatch::Malformed(error)) => Some(error.to_string()),
            Self::RedirectUri(RedirectUriMismatch::NotRegistered(nearest)) if nearest.index().is_none() => {
                Some("no redirect URI is registered".to_owned())
            }
            Self::RedirectUri(RedirectUriMismatch::NotRegistered(nearest)) => {
                Some(format!("the nearest registered one differs in {nearest}"))
            }
            Self::Parameter(parameter, _) => Some(parameter.to_string()),
            _ => None,
        }
    }

    fn detail_for(&self, policy: &Policy) -> Option<String> {
        if policy.detailed_errors { self.detail() } else { None }
    }

    /// The section that says so, such as `RFC 7636 §4.4.1`. For people: the text may become more exact.
    ///
    /// ```
    /// use tower_oauth_client_validation::Reason;
    /// assert_eq!(Reason::RedirectUriMissing.rule(), "RFC 6749 §3.1.2.3");
    /// ```
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Method | Self::Parameter(_, ParameterFault::Repeated) => "RFC 6749 §3.1",
            Self::ContentType | Self::Parameter(_, ParameterFault::Undecodable) => "RFC 6749 appendix B",
            Self::BodyTooLarge => "RFC 9110 §15.5.14",
            Self::BodyUnreadable => "RFC 9110 §15.5.1",
            Self::ClientIdMissing => "RFC 6749 §4.1.1",
            Self::ClientIdCharacter => "RFC 6749 appendix A.1",
            Self::RegistryUnavailable
            | Self::RegistryFault
            | Self::ClientIdMismatch
            | Self::ClientUnknown
            | Self::ClientDisabled
            | Self::ClientRevoked
            | Self::ClientExpired
            | Self::Validator => "RFC 6749 §4.1.2.1",
            Self::RedirectUriMissing => "RFC 6749 §3.1.2.3",
            Self::RedirectUri(RedirectUriMismatch::Malformed(error)) => error.rule().section(),
            Self::RedirectUri(RedirectUriMismatch::NotRegistered(_)) => "RFC 6749 §3.1.2.3, RFC 9700 §4.1.3",
            Self::Parameter(Parameter::Nonce, ParameterFault::ControlCharacter) => "OpenID Connect Core §3.1.2.1",
            Self::Parameter(_, ParameterFault::ControlCharacter) => "RFC 6749 appendix A.5",
            Self::RequestObject | Self::RequestUri => "OpenID Connect Core §3.1.2.6",
            Self::ResponseTypeMissing | Self::ResponseTypeUnsupported => "RFC 6749 §3.1.1",
            Self::ResponseTypeNotRegistered => "RFC 7591 §2",
            Self::GrantTypeNotRegistered => "RFC 7591 §2.1",
            Self::ResponseModeUnknown => "OAuth 2.0 Multiple Response Type Encoding Practices §2.1",
            Self::ResponseModeQuery => "OAuth 2.0 Multiple Response Type Encoding Practices §5",
            Self::ScopeMissing | Self::ScopeMalformed | Self::ScopeNotAllowed => "RFC 6749 §3.3",
            Self::CodeChallengeMissing | Self::CodeChallengeMethod => "RFC 7636 §4.4.1",
            Self::CodeChallengeMalformed => "RFC 7636 §4.2",
            Self::CodeChallengeMethodAlone => "RFC 7636 §4.3",
            Self::ResourceMissing | Self::ResourceMalformed | Self::ResourceNotAllowed => "RFC 8707 §2",
        }
    }

    fn facts(&self) -> &'static Facts {
        match self {
            Self::Method => {
                &facts!("method", InvalidRequest = "invalid_request", "the authorization endpoint takes GET and POST")
            }
            Self::ContentType => &facts!(
                "content_type",
                InvalidRequest = "invalid_request",
                "the body must be application/x-www-form-urlencoded"
            ),
            Self::BodyTooLarge => {
                &facts!("body_too_large", InvalidRequest = "invalid_request", "the body is too large")
            }
            Self::BodyUnreadable => {
                &facts!("body_unreadable", InvalidRequest = "invalid_request", "the body could not be read")
            }
            Self::ClientIdMissing => {
                &facts!("client_id_missing", InvalidRequest = "invalid_request", "client_id is missing")
            }
            Self::ClientIdCharacter => &facts!(
                "client_id_character",
                InvalidRequest = "invalid_request",
                "client_id holds a character that is not allowed"
            ),
            Self::RegistryUnavailable => &facts!(
                "registry_unavailable",
                TemporarilyUnavailable = "temporarily_unavailable",
                "clients cannot be looked up at the moment, please try again"
            ),
            Self::RegistryFault => {
                &facts!("registry_fault", ServerError = "server_error", "clients cannot be looked up")
            }
            Self::ClientIdMismatch => {
                &facts!("client_id_mismatch", ServerError = "server_error", "clients cannot be looked up")
            }
            // These four look the same from outside: which ids exist is nobody's business.
            Self::ClientUnknown => {
                &facts!("client_unknown", InvalidClient = "invalid_client", "the client is not registered here")
            }
            Self::ClientDisabled => {
                &facts!("client_disabled", InvalidClient = "invalid_client", "the client is not registered here")
            }
            Self::ClientRevoked => {
                &facts!("client_revoked", InvalidClient = "invalid_client", "the client is not registered here")
            }
            Self::ClientExpired => {
                &facts!("client_expired", InvalidClient = "invalid_client", "the client is not registered here")
            }
            Self::RedirectUriMissing => {
                &facts!("redirect_uri_missing", InvalidRequest = "invalid_request", "redirect_uri is missing")
            }
            Self::RedirectUri(RedirectUriMismatch::Malformed(_)) => {
                &facts!("redirect_uri_malformed", InvalidRequest = "invalid_request", "redirect_uri is malformed")
            }
            Self::RedirectUri(RedirectUriMismatch::NotRegistered(_)) => &facts!(
                "redirect_uri_not_registered",
                InvalidRequest = "invalid_request",
                "redirect_uri is not registered for this client"
            ),
            Self::Parameter(_, ParameterFault::Repeated) => {
                &facts!("parameter_repeated", InvalidRequest = "invalid_request", "a parameter is repeated")
            }
            Self::Parameter(_, ParameterFault::Undecodable) => &facts!(
                "parameter_undecodable",
                InvalidRequest = "invalid_request",
                "a parameter has a broken percent-encoding or is not UTF-8"
            ),
            Self::Parameter(_, ParameterFault::ControlCharacter) => &facts!(
                "parameter_control_character",
                InvalidRequest = "invalid_request",
                "a parameter holds a control character"
            ),
            Self::RequestObject => &facts!(
                "request_object",
                RequestNotSupported = "request_not_supported",
                "the request parameter is not supported"
            ),
            Self::RequestUri => &facts!(
                "request_uri",
                RequestUriNotSupported = "request_uri_not_supported",
                "the request_uri parameter is not supported"
            ),
            Self::ResponseTypeMissing => {
                &facts!("response_type_missing", InvalidRequest = "invalid_request", "response_type is missing")
            }
            Self::ResponseTypeUnsupported => &facts!(
                "response_type_unsupported",
                UnsupportedResponseType = "unsupported_response_type",
                "this response_type is not supported"
            ),
            Self::ResponseTypeNotRegistered => &facts!(
                "response_type_not_registered",
                UnauthorizedClient = "unauthorized_client",
                "the client may not use this response_type"
            ),
            Self::GrantTypeNotRegistered => &facts!(
                "grant_type_not_registered",
                UnauthorizedClient = "unauthorized_client",
                "the client may not use the grant type that this response_type needs"
            ),
            Self::ResponseModeUnknown => &facts!(
                "response_mode_unknown",
                InvalidRequest = "invalid_request",
                "response_mode must be query, fragment or form_post"
            ),
            Self::ResponseModeQuery => &facts!(
                "response_mode_query",
                InvalidRequest = "invalid_request",
                "response_mode must not be query when the response carries a token"
            ),
            Self::ScopeMissing => &facts!("scope_missing", InvalidScope = "invalid_scope", "scope is missing"),
            Self::ScopeMalformed => &facts!("scope_malformed", InvalidScope = "invalid_scope", "scope is malformed"),
            Self::ScopeNotAllowed => {
                &facts!("scope_not_allowed", InvalidScope = "invalid_scope", "the client may not ask for this scope")
            }
            Self::CodeChallengeMissing => {
                &facts!("code_challenge_missing", InvalidRequest = "invalid_request", "code_challenge is required")
            }
            Self::CodeChallengeMalformed => &facts!(
                "code_challenge_malformed",
                InvalidRequest = "invalid_request",
                "code_challenge must be 43 to 128 unreserved characters"
            ),
            Self::CodeChallengeMethod => &facts!(
                "code_challenge_method",
                InvalidRequest = "invalid_request",
                "this code_challenge_method is not supported, use S256"
            ),
            Self::CodeChallengeMethodAlone => &facts!(
                "code_challenge_method_alone",
                InvalidRequest = "invalid_request",
                "code_challenge_method without code_challenge"
            ),
            Self::ResourceMissing => {
                &facts!("resource_missing", InvalidTarget = "invalid_target", "resource is required")
            }
            Self::ResourceMalformed => &facts!(
                "resource_malformed",
                InvalidTarget = "invalid_target",
                "resource must be an absolute URI without fragment"
            ),
            Self::ResourceNotAllowed => {
                &facts!("resource_not_allowed", InvalidTarget = "invalid_target", "this resource is not served here")
            }
            Self::Validator => &facts!("validator", InvalidRequest = "invalid_request", "the request was refused"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}
