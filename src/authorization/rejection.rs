//! Refused requests, and who gets the answer.

use std::fmt;
use std::sync::Arc;

use crate::client::{Client, RedirectUri, RedirectUriMismatch, UriPart};

use super::error::{AuthorizationError, ErrorCode};
use super::proven::{ProvenRequest, RedirectTarget};
use super::reason::Reason;
use super::request::{AuthorizationRequest, Parameter};
use super::response_mode::ResponseMode;
use super::rules::{RedirectErrors, Rules};

/// A refused authorization request.
///
/// The layer also puts it into the extensions of the response, so that outer layers can count and trace it.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// The user agent gets the error, and nothing is sent to any redirect URI.
    Direct(DirectError),
    /// The redirect URI gets the error; it was proven to belong to the client.
    Redirect(RedirectError),
}

impl Rejection {
    /// Refuses a request whose redirect URI was proven.
    pub(super) fn of_proven(
        reason: Reason,
        error: AuthorizationError,
        proven: ProvenRequest,
        mode: ResponseMode,
    ) -> Self {
        let is_redirected = match proven.rules().redirect_errors {
            RedirectErrors::Always => true,
            RedirectErrors::TrustedClients => proven.client().is_trusted(),
            RedirectErrors::Never => false,
        };
        if is_redirected {
            let error = Subject::of(&proven).detailed(reason, error);
            return Self::Redirect(RedirectError { reason, error, proven, mode });
        }
        let (request, client, rules) = proven.into_parts();
        Self::Direct(DirectError::new(reason, error, rules, Some(request), Some(client)))
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

    /// Why, for logs and metrics: it tells more than the answer does.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Direct(error) => error.reason,
            Self::Redirect(error) => error.reason,
        }
    }

    /// The `client_id` that was sent, where it could be read. Chosen by the sender: escape it.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.subject().request?.get(Parameter::ClientId)
    }

    /// What exactly is wrong, such as the name of a repeated parameter. It tells how the client is registered: keep it
    /// from strangers.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        self.subject().detail(self.reason())
    }

    /// The section that the request breaks: like [`Reason::rule`], and more precise where the rule depends on the
    /// request.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.subject().rule(self.reason())
    }

    /// The registered redirect URI that is closest to the requested one, where none matches.
    #[must_use]
    pub fn closest_redirect_uri(&self) -> Option<&RedirectUri> {
        let subject = self.subject();
        match subject.mismatch(self.reason())? {
            RedirectUriMismatch::NotRegistered(closest) => subject.client?.redirect_uris().get(closest.index()?),
            RedirectUriMismatch::Malformed(_) => None,
        }
    }

    /// How the closest registered redirect URI differs from the requested one.
    pub fn differences(&self) -> impl Iterator<Item = UriPart> + use<> {
        let closest = match self.subject().mismatch(self.reason()) {
            Some(RedirectUriMismatch::NotRegistered(closest)) => Some(closest),
            Some(RedirectUriMismatch::Malformed(_)) | None => None,
        };
        closest.into_iter().flat_map(|closest| closest.parts())
    }

    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Direct(error) => error.subject(),
            Self::Redirect(error) => Subject::of(&error.proven),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error(), self.description())
    }
}

impl std::error::Error for Rejection {}

/// An error that the user agent gets.
#[derive(Clone)]
pub struct DirectError {
    reason: Reason,
    error: AuthorizationError,
    rules: Arc<Rules>,
    request: Option<AuthorizationRequest>,
    client: Option<Arc<Client>>,
}

impl DirectError {
    pub(super) fn new(
        reason: Reason,
        error: AuthorizationError,
        rules: Arc<Rules>,
        request: Option<AuthorizationRequest>,
        client: Option<Arc<Client>>,
    ) -> Self {
        let subject = Subject { request: request.as_ref(), client: client.as_deref(), rules: &rules };
        let error = subject.detailed(reason, error);
        Self { reason, error, rules, request, client }
    }

    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        self.error.code()
    }

    /// The human-readable `error_description`.
    #[must_use]
    pub fn description(&self) -> &str {
        self.error.description()
    }

    /// The `error_uri`, where the policy sets one.
    #[must_use]
    pub fn error_uri(&self) -> Option<&str> {
        self.rules.error_uri.as_deref()
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.reason.row.status
    }

    /// The body of the answer in JSON, if the error says no more than its reason.
    pub(super) fn prepared_json(&self) -> Option<&'static str> {
        let is_plain = self.error_uri().is_none() && self.error == self.reason.to_error();
        is_plain.then_some(self.reason.row.json)
    }

    fn subject(&self) -> Subject<'_> {
        Subject { request: self.request.as_ref(), client: self.client.as_deref(), rules: &self.rules }
    }
}

/// An error for a redirect URI that was proven to belong to the client. There is no way to make one without that proof.
#[derive(Clone)]
pub struct RedirectError {
    reason: Reason,
    error: AuthorizationError,
    proven: ProvenRequest,
    mode: ResponseMode,
}

impl RedirectError {
    /// The OAuth error.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        self.error.code()
    }

    /// The human-readable `error_description`.
    #[must_use]
    pub fn description(&self) -> &str {
        self.error.description()
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
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

impl fmt::Debug for DirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectError")
            .field("reason", &self.reason)
            .field("error", &self.error)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Without `state`, which must not be logged.
impl fmt::Debug for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedirectError")
            .field("reason", &self.reason)
            .field("error", &self.error)
            .field("redirect_uri", &self.redirect_uri())
            .finish_non_exhaustive()
    }
}

/// What was judged. Details are computed from it when somebody asks for them.
struct Subject<'a> {
    request: Option<&'a AuthorizationRequest>,
    client: Option<&'a Client>,
    rules: &'a Rules,
}

impl<'a> Subject<'a> {
    fn of(proven: &'a ProvenRequest) -> Self {
        Self { request: Some(proven.request()), client: Some(proven.client()), rules: proven.rules() }
    }

    fn detail(&self, reason: Reason) -> Option<String> {
        if let Some(mismatch) = self.mismatch(reason) {
            return Some(match mismatch {
                RedirectUriMismatch::Malformed(error) => error.to_string(),
                RedirectUriMismatch::NotRegistered(closest) if closest.index().is_none() => {
                    "no redirect URI is registered".to_owned()
                }
                RedirectUriMismatch::NotRegistered(closest) => {
                    format!("the closest registered one differs in {closest}")
                }
            });
        }
        self.faulty_parameter(reason).map(|parameter| parameter.as_str().to_owned())
    }

    fn rule(&self, reason: Reason) -> &'static str {
        match (self.mismatch(reason), self.faulty_parameter(reason)) {
            (Some(RedirectUriMismatch::Malformed(error)), _) => error.rule().section(),
            (_, Some(Parameter::Nonce)) if reason == Reason::PARAMETER_CONTROL_CHARACTER => {
                "OpenID Connect Core §3.1.2.1"
            }
            _ => reason.rule(),
        }
    }

    /// Why the redirect URI was refused, if that is the reason.
    fn mismatch(&self, reason: Reason) -> Option<RedirectUriMismatch> {
        if reason != Reason::REDIRECT_URI_MALFORMED && reason != Reason::REDIRECT_URI_NOT_REGISTERED {
            return None;
        }
        let requested = self.request?.get(Parameter::RedirectUri)?;
        self.client?.check_redirect_uri(requested, self.rules.loopback_ports).err()
    }

    /// The parameter that has no usable value, if that is the reason.
    fn faulty_parameter(&self, reason: Reason) -> Option<Parameter> {
        let (parameter, fault) = self.request?.first_fault()?;
        (Reason::of_fault(fault) == reason).then_some(parameter)
    }

    /// Adds the detail where the policy says so.
    fn detailed(&self, reason: Reason, error: AuthorizationError) -> AuthorizationError {
        match self.rules.detailed_errors.then(|| self.detail(reason)).flatten() {
            Some(detail) => AuthorizationError::new(error.code(), format!("{}: {detail}", error.description())),
            None => error,
        }
    }
}
