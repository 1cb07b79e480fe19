//! Refused requests, and where their errors go.

use std::fmt;
use std::sync::Arc;

use crate::client::{Client, RedirectUri, RedirectUriMismatch, Untrusted, UriPart};

use super::error::{AuthorizationError, ErrorCode};
use super::proven::{ProvenRequest, RedirectTarget};
use super::reason::Reason;
use super::request::{AuthorizationRequest, Parameter};
use super::response_mode::ResponseMode;
use super::rules::{RedirectErrors, Rules};
use super::scope::refused_scope;

/// A refused authorization request.
///
/// The layer also puts it into the extensions of the response, so that outer layers can count and trace it. It contains
/// details that strangers must not see, for logs, an operator's tool or a test:
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{AuthorizationRequest, Client, UriPart, Validator};
///
/// let client = Client::builder("app")
///     .redirect_uri("https://app.example/callback")
///     .redirect_uri("https://staging.app.example/callback")
///     .build()?;
/// let request = "client_id=app&response_type=code&redirect_uri=https://app.example/Callback";
/// let request = AuthorizationRequest::parse(request.as_bytes(), b"");
///
/// let rejection = Validator::default().validate(request, Some(Arc::new(client))).unwrap_err();
/// assert_eq!(rejection.reason().as_str(), "redirect_uri_not_registered");
/// assert_eq!(rejection.rule(), "RFC 6749 §3.1.2.3, RFC 9700 §4.1.3");
/// assert_eq!(rejection.closest_redirect_uri().unwrap().as_str(), "https://app.example/callback");
/// assert_eq!(rejection.differences().collect::<Vec<_>>(), [UriPart::LetterCase]);
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
#[derive(Clone)]
pub struct Rejection {
    reason: Reason,
    error: AuthorizationError,
    subject: Subject,
}

/// What was refused.
#[derive(Clone)]
enum Subject {
    /// Nothing may be sent to a redirect URI.
    Unproven {
        request: Option<AuthorizationRequest>,
        client: Option<Arc<Client>>,
        rules: Arc<Rules>,
    },
    Proven {
        request: ProvenRequest,
        mode: ResponseMode,
    },
}

/// Who gets the error of a [`Rejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// The user agent gets it, and nothing is sent to any redirect URI.
    Direct,
    /// The redirect URI gets it at once; it was proven to belong to the client.
    Redirect,
    /// The user decides whether the redirect URI gets it: a browser gets a page with a link there, anyone else the error
    /// itself. See [`RedirectErrors::Vouched`].
    Confirm,
}

impl Rejection {
    pub(super) fn direct(
        reason: Reason,
        rules: &Arc<Rules>,
        request: Option<AuthorizationRequest>,
        client: Option<Arc<Client>>,
    ) -> Self {
        Self::new(reason, reason.to_error(), Subject::Unproven { request, client, rules: Arc::clone(rules) })
    }

    /// Only a request whose redirect URI is proven can be refused by redirect.
    pub(super) fn of_proven(
        reason: Reason,
        error: AuthorizationError,
        request: ProvenRequest,
        mode: ResponseMode,
    ) -> Self {
        Self::new(reason, error, Subject::Proven { request, mode })
    }

    fn new(reason: Reason, error: AuthorizationError, subject: Subject) -> Self {
        let mut rejection = Self { reason, error, subject };
        if rejection.rules().detailed_errors {
            if let Some(detail) = rejection.sendable_detail() {
                let description = format!("{}: {detail}", rejection.description());
                rejection.error = AuthorizationError::new(rejection.error(), description);
            }
        }
        rejection
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
        self.rules().error_uri.as_deref()
    }

    /// Who gets the error.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let Subject::Proven { request, .. } = &self.subject else {
            return Delivery::Direct;
        };
        match request.rules().redirect_errors {
            RedirectErrors::Vouched if request.client().is_dynamic() && !request.client().is_trusted() => {
                Delivery::Confirm
            }
            RedirectErrors::Always | RedirectErrors::Vouched => Delivery::Redirect,
            RedirectErrors::Never => Delivery::Direct,
        }
    }

    /// The redirect URI that gets the error, at once or when the user continues.
    #[must_use]
    pub fn redirect_uri(&self) -> Option<&str> {
        self.target().map(|target| target.uri)
    }

    /// Why the request was refused, for logs and metrics. It is finer than the error code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The section that the request breaks: like [`Reason::rule`], and more precise where it depends on the request.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match (self.mismatch(), self.faulty_parameter()) {
            (Some(RedirectUriMismatch::Malformed(error)), _) => error.rule().section(),
            (_, Some("nonce")) if self.reason == Reason::PARAMETER_CONTROL_CHARACTER => "OpenID Connect Core §3.1.2.1",
            _ => self.reason.rule(),
        }
    }

    /// What exactly is wrong, such as the name of a repeated parameter. It may reveal how the client is registered, so do
    /// not show it to strangers.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        self.refused_scope().or_else(|| self.sendable_detail())
    }

    /// Which scope is refused, and why, if that is the reason. It contains text of the request.
    fn refused_scope(&self) -> Option<String> {
        if self.reason != Reason::SCOPE_NOT_ALLOWED {
            return None;
        }
        let (scope, why) = refused_scope(self.request()?, self.client()?, self.rules())?;
        Some(format!("{} {why}", Untrusted(scope)))
    }

    /// The detail where it contains no text of the request, which must not get into an `error_description`.
    fn sendable_detail(&self) -> Option<String> {
        match self.mismatch() {
            Some(RedirectUriMismatch::Malformed(error)) => Some(error.to_string()),
            Some(RedirectUriMismatch::NotRegistered(closest)) if closest.index().is_none() => {
                Some("no redirect URI is registered".to_owned())
            }
            Some(RedirectUriMismatch::NotRegistered(closest)) => {
                Some(format!("the closest registered URI differs in {closest}"))
            }
            None => self.faulty_parameter().map(str::to_owned),
        }
    }

    /// The registered redirect URI that is closest to the requested one, where none matches.
    #[must_use]
    pub fn closest_redirect_uri(&self) -> Option<&RedirectUri> {
        match self.mismatch()? {
            RedirectUriMismatch::NotRegistered(closest) => self.client()?.redirect_uris().get(closest.index()?),
            RedirectUriMismatch::Malformed(_) => None,
        }
    }

    /// How the closest registered redirect URI differs from the requested one.
    pub fn differences(&self) -> impl Iterator<Item = UriPart> + use<> {
        let closest = match self.mismatch() {
            Some(RedirectUriMismatch::NotRegistered(closest)) => Some(closest),
            Some(RedirectUriMismatch::Malformed(_)) | None => None,
        };
        closest.into_iter().flat_map(|closest| closest.parts())
    }

    /// The `client_id` that was sent, where it could be read. Chosen by the sender: escape it.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.request()?.get(Parameter::ClientId)
    }

    /// Where the error goes, and how.
    pub(super) fn target(&self) -> Option<RedirectTarget<'_>> {
        match &self.subject {
            Subject::Proven { request, mode } if self.delivery() != Delivery::Direct => Some(request.target(*mode)),
            Subject::Proven { .. } | Subject::Unproven { .. } => None,
        }
    }

    pub(super) fn authorization_error(&self) -> &AuthorizationError {
        &self.error
    }

    /// The body of the answer in JSON, if the error says no more than its reason.
    pub(super) fn prepared_json(&self) -> Option<&'static str> {
        let is_plain = self.error_uri().is_none() && self.error == self.reason.to_error();
        is_plain.then_some(self.reason.row.json)
    }

    /// Why the redirect URI was refused, if that is the reason.
    fn mismatch(&self) -> Option<RedirectUriMismatch> {
        if self.reason != Reason::REDIRECT_URI_MALFORMED && self.reason != Reason::REDIRECT_URI_NOT_REGISTERED {
            return None;
        }
        let requested = self.request()?.get(Parameter::RedirectUri)?;
        self.client()?.check_redirect_uri(requested, self.rules().loopback_ports).err()
    }

    /// The parameter that has no usable value, if that is the reason.
    fn faulty_parameter(&self) -> Option<&str> {
        let request = self.request()?;
        let recognized = request.first_fault().map(|(parameter, fault)| (parameter.as_str(), fault));
        let (name, fault) = recognized.or_else(|| request.first_extension_fault())?;
        (Reason::of_fault(fault) == self.reason).then_some(name)
    }

    fn request(&self) -> Option<&AuthorizationRequest> {
        match &self.subject {
            Subject::Unproven { request, .. } => request.as_ref(),
            Subject::Proven { request, .. } => Some(request.request()),
        }
    }

    fn client(&self) -> Option<&Client> {
        match &self.subject {
            Subject::Unproven { client, .. } => client.as_deref(),
            Subject::Proven { request, .. } => Some(request.client()),
        }
    }

    fn rules(&self) -> &Rules {
        match &self.subject {
            Subject::Unproven { rules, .. } => rules,
            Subject::Proven { request, .. } => request.rules(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error(), self.description())
    }
}

/// Without `state`, which must not be logged.
impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.reason)
            .field("error", &self.error)
            .field("redirect_uri", &self.redirect_uri())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Rejection {}
