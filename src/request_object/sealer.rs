//! Requests that travel through login and consent pages.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use super::log;
use super::seal::{Binding, SealError, SealFault, SealKeys};
#[cfg(feature = "pushed-requests")]
use super::store::PushedRequests;
use crate::authorization::arrival::{Arrival, OneTime};
use crate::authorization::reason::reasons;
use crate::authorization::{
    AuthorizationError, AuthorizationRequest, ErrorCode, Reason, Rejection, ValidatedRequest, Validator,
};
use crate::registry::{RegistryError, RegistrySource};

reasons! {
    /// A sealed request cannot be opened: it was changed, has expired, or was sealed by another server or for another
    /// user.
    SEAL_INVALID = "seal_invalid", InvalidRequest, "the request is no longer valid, please start again",
        "RFC 9110 §15.5.1";
    /// The client was changed after the request was sealed, and would now get another scope or redirect URI than the user
    /// saw.
    SEALED_REQUEST_CHANGED = "sealed_request_changed", InvalidRequest,
        "the registration of the client has changed, please start again", "RFC 6749 §10.2";
}

/// Seals validated requests into text that the browser carries through login and consent pages, so that any node can
/// continue with them and no server memory is needed. Cheap to clone.
///
/// The text fits a form field, a cookie or a URL, and takes less than 4 KiB for ordinary requests. It is encrypted and
/// authenticated, and opens only
///
/// | setting | default |
/// |---|---|
/// | with the same [keys](SealKeys) | |
/// | for the same issuer, where the policy has one | |
/// | for the same [`purpose`](Self::purpose) | `consent` |
/// | for the same [`tenant`](Self::tenant) | none |
/// | for the session or user that it is [`bound_to`](Self::bound_to) | none |
/// | within its [`lifetime`](Self::lifetime) | 10 minutes |
///
/// [`open`](Self::open) judges the request again, by the client and the policy as they are then. A seal opens any number
/// of times: what must happen once, such as the answer to a [pushed request](ValidatedRequest::use_up), is kept apart.
///
/// ```
/// use tower_oauth_client_validation::{
///     AuthorizationRequest, Client, MemoryRegistry, RegistrySource, RequestSealer, SealKeys, Validator,
/// };
///
/// # futures::executor::block_on(async {
/// # let validator = Validator::default();
/// let clients = MemoryRegistry::from_clients([
///     Client::builder("app").confidential().redirect_uri("https://app.example/cb").build()?,
/// ]);
/// # let request = AuthorizationRequest::parse(b"client_id=app&response_type=code&state=xyz", b"");
/// # let validated = validator.validate(request, clients.find_client("app").await?).unwrap();
/// let sealer = RequestSealer::new(SealKeys::generate()?);
///
/// // The consent page carries the request in a form field.
/// let session = "the id of the user's session";
/// let field = sealer.clone().bound_to(session).seal(&validated)?;
/// assert!(field.len() < 512);
///
/// // The form is posted, to this node or another one.
/// let opened = sealer.clone().bound_to(session).open(&field, &clients, &validator).await?;
/// assert_eq!(opened.state(), Some("xyz"));
///
/// // Another browser cannot use it.
/// assert!(sealer.bound_to("another session").open(&field, &clients, &validator).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct RequestSealer {
    keys: SealKeys,
    purpose: Arc<str>,
    tenant: Option<Arc<str>>,
    context: Option<Arc<str>>,
    lifetime: Duration,
    #[cfg(feature = "pushed-requests")]
    pushed: Option<PushedRequests>,
}

impl RequestSealer {
    /// Seals with these keys.
    pub fn new(keys: SealKeys) -> Self {
        Self {
            keys,
            purpose: "page consent".into(),
            tenant: None,
            context: None,
            lifetime: Duration::from_secs(600),
            #[cfg(feature = "pushed-requests")]
            pushed: None,
        }
    }

    /// Sets what seals are for (default: `consent`). A seal for the login page then does not open as one from the consent
    /// page.
    pub fn purpose(mut self, purpose: impl AsRef<str>) -> Self {
        self.purpose = format!("page {}", purpose.as_ref()).into();
        self
    }

    /// Sets the tenant that seals are for (default: none). Tenants whose policies have different issuers need none.
    pub fn tenant(mut self, tenant: impl AsRef<str>) -> Self {
        self.tenant = Some(tenant.as_ref().into());
        self
    }

    /// Binds seals to the id of the user's session, or of the user (default: not bound). Without it, an attacker can
    /// make a user decide about somebody else's request.
    pub fn bound_to(mut self, context: impl AsRef<str>) -> Self {
        self.context = Some(context.as_ref().into());
        self
    }

    /// Sets how long seals open (default: 10 minutes).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the pushed requests of this server, so that a pushed request that was sealed can be
    /// [used up](ValidatedRequest::use_up) (default: none, so it cannot).
    #[cfg(feature = "pushed-requests")]
    #[cfg_attr(docsrs, doc(cfg(feature = "pushed-requests")))]
    pub fn pushed_requests(mut self, pushed: PushedRequests) -> Self {
        self.pushed = Some(pushed);
        self
    }

    /// Seals a request.
    ///
    /// # Errors
    ///
    /// When the operating system has no random bytes.
    pub fn seal(&self, request: &ValidatedRequest) -> Result<String, SealError> {
        let expires_at = SystemTime::now() + self.lifetime;
        self.keys.seal(&self.binding(request.issuer()), expires_at, &Content::of(request).to_bytes())
    }

    /// Opens a seal: looks the client up, and judges the request by the client and the policy as they are now.
    ///
    /// The checks of the policy run again; [those of the layer](crate::ClientValidationLayer::check) do not.
    ///
    /// # Errors
    ///
    /// If the seal is not valid, the request is no longer accepted, or the registry fails. [`OpenError::into_http`]
    /// answers it.
    pub async fn open<R: RegistrySource>(
        &self,
        seal: &str,
        registry: &R,
        validator: &Validator,
    ) -> Result<ValidatedRequest, OpenError> {
        let binding = self.binding(validator.policy().issuer());
        let content = self.keys.open(seal, &binding, SystemTime::now()).map(|(content, _)| content);
        let content = content.map_err(|fault| invalid(fault, validator))?;
        let content = Content::parse(&content).ok_or_else(|| invalid(SealFault::Malformed, validator))?;
        let request = self.request(&content, validator)?;
        let client_id = validator.client_id(&request).map_err(OpenError::refused)?;
        let found = registry.find_client(client_id).await;
        let client = found.map_err(|error| {
            let reason = if error.is_transient() { Reason::REGISTRY_UNAVAILABLE } else { Reason::REGISTRY_FAULT };
            OpenError::unavailable(validator.direct(reason, Some(request.clone())), Some(error))
        })?;
        let validated = validator.validate(request, client).map_err(OpenError::refused)?;
        // The user agreed to what the page showed.
        if Content::of(&validated).granted() != content.granted() {
            let reason = Reason::SEALED_REQUEST_CHANGED;
            let error = AuthorizationError::new(ErrorCode::InvalidRequest, reason.description());
            return Err(OpenError::refused(validated.refuse(reason, error)));
        }
        Ok(validated)
    }

    fn request(&self, content: &Content<'_>, validator: &Validator) -> Result<AuthorizationRequest, OpenError> {
        if !content.is_pushed && !content.is_signed {
            return Ok(validator.parse(content.query.as_bytes(), b""));
        }
        let one_time = self.one_time(content);
        if content.is_pushed && !self.knows_pushed() {
            tracing::error!("a pushed request was sealed, but the sealer has no pushed requests to use it up");
            return Err(OpenError::unavailable(validator.direct(Reason::REQUEST_STORE_FAULT, None), None));
        }
        let Content { is_pushed, is_signed, .. } = *content;
        let arrival = Arrival { is_pushed, is_signed, one_time, ..Arrival::default() };
        Ok(validator.parse_arrived(content.query.as_bytes(), arrival))
    }

    #[cfg(feature = "pushed-requests")]
    fn one_time(&self, content: &Content<'_>) -> Option<Arc<dyn OneTime>> {
        self.pushed.as_ref()?.one_time(content.request_uri)
    }

    #[cfg(feature = "pushed-requests")]
    fn knows_pushed(&self) -> bool {
        self.pushed.is_some()
    }

    #[cfg(not(feature = "pushed-requests"))]
    #[expect(clippy::unused_self, reason = "without the feature nothing is pushed")]
    fn one_time(&self, _content: &Content<'_>) -> Option<Arc<dyn OneTime>> {
        None
    }

    #[cfg(not(feature = "pushed-requests"))]
    #[expect(clippy::unused_self, reason = "without the feature nothing is pushed")]
    fn knows_pushed(&self) -> bool {
        false
    }

    fn binding<'a>(&'a self, issuer: Option<&'a str>) -> Binding<'a> {
        let (tenant, context) = (self.tenant.as_deref(), self.context.as_deref());
        Binding { purpose: &self.purpose, issuer, tenant, context }
    }
}

impl fmt::Debug for RequestSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSealer")
            .field("keys", &self.keys)
            .field("purpose", &self.purpose)
            .field("tenant", &self.tenant)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// What is sealed: the request, and what the user saw of the answer.
struct Content<'a> {
    is_pushed: bool,
    is_signed: bool,
    /// That of a pushed request; empty otherwise.
    request_uri: &'a str,
    scope: &'a str,
    /// Only where the request left it out; empty otherwise.
    redirect_uri: &'a str,
    query: std::borrow::Cow<'a, str>,
}

const PUSHED: u8 = 1;
const SIGNED: u8 = 2;

impl<'a> Content<'a> {
    fn of(request: &'a ValidatedRequest) -> Self {
        let asked = request.request();
        let one_time = asked.arrival().and_then(|arrival| arrival.one_time.as_deref());
        Self {
            is_pushed: asked.is_pushed(),
            is_signed: asked.is_signed(),
            request_uri: one_time.map(OneTime::request_uri).unwrap_or_default(),
            scope: request.scope(),
            redirect_uri: if request.redirect_uri_is_explicit() { "" } else { request.redirect_uri() },
            query: asked.parameters_to_query().into(),
        }
    }

    /// What the client gets that is not in the request.
    fn granted(&self) -> (&'a str, &'a str) {
        (self.scope, self.redirect_uri)
    }

    /// Flags, then the texts with their lengths, the query last.
    fn to_bytes(&self) -> Vec<u8> {
        let flags = (if self.is_pushed { PUSHED } else { 0 }) | (if self.is_signed { SIGNED } else { 0 });
        let texts = [self.request_uri, self.scope, self.redirect_uri];
        let length = texts.iter().map(|text| text.len() + 4).sum::<usize>() + self.query.len() + 1;
        let mut bytes = Vec::with_capacity(length);
        bytes.push(flags);
        for text in texts {
            // A request has less than 4 GiB.
            bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.query.as_bytes());
        bytes
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (flags, mut rest) = bytes.split_first()?;
        let mut text = || {
            let (length, after) = rest.split_first_chunk()?;
            let (text, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            rest = after;
            std::str::from_utf8(text).ok()
        };
        let (request_uri, scope, redirect_uri) = (text()?, text()?, text()?);
        Some(Self {
            is_pushed: flags & PUSHED != 0,
            is_signed: flags & SIGNED != 0,
            request_uri,
            scope,
            redirect_uri,
            query: std::str::from_utf8(rest).ok()?.into(),
        })
    }
}

/// A sealed request could not be opened. [`into_http`](Self::into_http) turns it into a response.
#[derive(Clone)]
pub struct OpenError {
    kind: OpenErrorKind,
    rejection: Rejection,
    source: Option<RegistryError>,
}

/// Why a sealed request could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// The seal was changed, has expired, or is for another purpose, tenant or user, or of another server. The answer and
    /// this value do not distinguish these; the log does.
    Invalid,
    /// The request is no longer accepted, or would be granted something other than the user saw.
    Refused,
    /// The registry failed, or the pushed request cannot be used up here.
    Unavailable,
}

fn invalid(fault: SealFault, validator: &Validator) -> OpenError {
    log::not_opened(fault.as_str());
    OpenError { kind: OpenErrorKind::Invalid, rejection: validator.direct(Reason::SEAL_INVALID, None), source: None }
}

impl OpenError {
    fn refused(rejection: Rejection) -> Self {
        log::refused(&rejection, None);
        Self { kind: OpenErrorKind::Refused, rejection, source: None }
    }

    fn unavailable(rejection: Rejection, source: Option<RegistryError>) -> Self {
        log::refused(&rejection, source.as_ref());
        Self { kind: OpenErrorKind::Unavailable, rejection, source }
    }

    /// Why.
    #[must_use]
    pub fn kind(&self) -> OpenErrorKind {
        self.kind
    }

    /// The answer: 400 `invalid_request` for a seal that is not valid, 503 or 500 where the registry fails, and the
    /// error of the request if it is no longer accepted.
    #[must_use]
    pub fn rejection(&self) -> &Rejection {
        &self.rejection
    }

    /// Answers a request with this method and these headers, like [`Rejection::into_http`].
    #[must_use]
    pub fn into_http<B: From<Bytes>>(self, method: &Method, headers: &HeaderMap) -> Response<B> {
        self.rejection.into_http(method, headers)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OpenErrorKind::Invalid => f.write_str("the sealed request is not valid"),
            OpenErrorKind::Refused => write!(f, "the sealed request is refused: {}", self.rejection),
            OpenErrorKind::Unavailable => f.write_str("the sealed request cannot be judged at the moment"),
        }
    }
}

impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenError")
            .field("kind", &self.kind)
            .field("rejection", &self.rejection)
            .field("source", &self.source)
            .finish()
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
