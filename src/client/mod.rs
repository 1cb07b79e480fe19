//! Registered clients: their redirect URIs, scopes and metadata.

mod builder;
mod dynamic;
mod error;
pub(crate) mod member;
mod metadata;
#[cfg(any(feature = "metadata-document", feature = "registration"))]
pub(crate) mod operator;
mod origin;
mod redirect_uri;
mod response_type;
mod scope;
#[cfg(any(feature = "client-authentication", feature = "registration"))]
pub(crate) mod secret;
mod text;
mod time;
mod typed;
pub(crate) mod uri;
mod weight;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

pub use self::builder::ClientBuilder;
pub use self::dynamic::{DynamicClientError, DynamicClientRules};
pub use self::error::{ClientError, ClientErrorKind};
pub use self::origin::ClientOrigin;
pub(crate) use self::redirect_uri::judge_requested;
pub use self::redirect_uri::{
    ClosestMatch, LoopbackPorts, RedirectUri, RedirectUriError, RedirectUriMismatch, RedirectUriRule, UriPart,
};
pub use self::response_type::{GrantTypes, ResponseType, ResponseTypes};
pub use self::scope::{AllowedScopes, Scope, ScopeError};
pub(crate) use self::scope::{is_scope_value, tokens};
pub(crate) use self::text::{Causes, Untrusted};
pub(crate) use self::time::{from_unix_seconds, unix_seconds};
use self::typed::Requirements;

/// A registered OAuth client.
///
/// Build one with [`Client::builder`], or read it from RFC 7591 client metadata with [`Client::from_metadata`]. Both
/// judge every redirect URI.
///
/// ```
/// use tower_oauth_client_validation::Client;
///
/// let client = Client::builder("photo-app")
///     .name("Photo App")
///     .redirect_uri("https://photos.example/callback")
///     .redirect_uri("http://127.0.0.1/callback")
///     .scope("openid photos:read")
///     .build()?;
/// assert_eq!(client.id(), "photo-app");
///
/// let refused = Client::builder("photo-app").redirect_uri("http://photos.example/callback").build();
/// assert_eq!(
///     refused.unwrap_err().to_string(),
///     r#"client "photo-app": redirect_uris[0]: http is allowed on localhost, 127.0.0.1 and [::1] only (at byte 0)"#,
/// );
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Client {
    id: Box<str>,
    redirect_uris: Box<[RedirectUri]>,
    scopes: Arc<ClientScopes>,
    details: Option<Box<Details>>,
    response_types: ResponseTypes,
    grant_types: GrantTypes,
    kind: ClientKind,
    application_type: Option<ApplicationType>,
    status: ClientStatus,
    trusted: bool,
    dynamic: bool,
}

/// Fields that most clients leave empty, boxed to save memory. `None` instead of an empty value, so that equal clients
/// compare equal.
#[derive(Clone, Debug, Default, PartialEq)]
struct Details {
    name: Option<Box<str>>,
    expires_at: Option<NonZeroU64>,
    metadata: Map<String, Value>,
    requirements: Requirements,
}

/// Shared by the clients of a registry that have the same lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ClientScopes {
    pub(crate) allowed: Option<AllowedScopes>,
    pub(crate) default: Option<Scope>,
}

impl Client {
    /// The `client_id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name shown to users (`client_name`). The client chose it: escape it wherever it is shown.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.details.as_ref()?.name.as_deref()
    }

    /// The registered redirect URIs in their order, without repeats.
    #[must_use]
    pub fn redirect_uris(&self) -> &[RedirectUri] {
        &self.redirect_uris
    }

    /// The scopes that the client may ask for. `None` if it was registered without a scope list.
    #[must_use]
    pub fn allowed_scopes(&self) -> Option<&AllowedScopes> {
        self.scopes.allowed.as_ref()
    }

    /// The scopes granted to a request without `scope`: the default scopes if set, else the allowed ones. `None` if
    /// those are `*`.
    #[must_use]
    pub fn default_scopes(&self) -> Option<&Scope> {
        match (&self.scopes.default, &self.scopes.allowed) {
            (Some(default), _) => Some(default),
            (None, Some(AllowedScopes::Listed(allowed))) => Some(allowed),
            (None, Some(AllowedScopes::All) | None) => None,
        }
    }

    /// The registered response types.
    #[must_use]
    pub fn response_types(&self) -> ResponseTypes {
        self.response_types
    }

    /// The registered grant types.
    #[must_use]
    pub fn grant_types(&self) -> GrantTypes {
        self.grant_types
    }

    /// Whether the client can keep a secret.
    #[must_use]
    pub fn kind(&self) -> ClientKind {
        self.kind
    }

    /// The `application_type` of OpenID Connect registration, if registered.
    #[must_use]
    pub fn application_type(&self) -> Option<ApplicationType> {
        self.application_type
    }

    /// Whether the operator marked the client as trusted, see
    /// [`RedirectErrors::Vouched`](crate::RedirectErrors::Vouched).
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whether the client registered itself or came with a metadata document, instead of being configured by the
    /// operator. The sources that accept such clients set it.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// Whether the client is active, disabled or revoked.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.status
    }

    /// When the registration expires, in whole seconds.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        let seconds = self.details.as_ref()?.expires_at?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.get()))
    }

    /// Whether the registration has expired at `now`.
    #[must_use]
    pub fn is_expired_at(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|end| end <= now)
    }

    /// Whether the client is neither disabled, revoked nor expired at `now`.
    #[must_use]
    pub fn is_active_at(&self, now: SystemTime) -> bool {
        self.status == ClientStatus::Active && !self.is_expired_at(now)
    }

    /// The metadata members without an accessor, as they were registered.
    ///
    /// A [dynamic](Self::is_dynamic) client chose them: escape its texts, and do not fetch its `logo_uri`, `client_uri`,
    /// `tos_uri` or `policy_uri` without an `AddressFilter` (feature `metadata-document`), since they may name private
    /// addresses.
    #[must_use]
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.details.as_ref().map(|details| &details.metadata).filter(|metadata| !metadata.is_empty())
    }

    /// Finds the registered redirect URI that `requested` matches.
    ///
    /// # Errors
    ///
    /// The error says which rule `requested` breaks, or how the closest registered URI differs from it.
    pub fn check_redirect_uri(
        &self,
        requested: &str,
        loopback_ports: LoopbackPorts,
    ) -> Result<&RedirectUri, RedirectUriMismatch> {
        self.find_redirect_uri(requested, loopback_ports)
            .ok_or_else(|| redirect_uri::explain(requested, &self.redirect_uris))
    }

    pub(crate) fn find_redirect_uri(&self, requested: &str, loopback_ports: LoopbackPorts) -> Option<&RedirectUri> {
        let any_port = |host: &str| match loopback_ports {
            LoopbackPorts::Any => true,
            LoopbackPorts::IpLiterals => host != "localhost",
            LoopbackPorts::NativeClients => self.application_type == Some(ApplicationType::Native),
            LoopbackPorts::Exact => false,
        };
        redirect_uri::find(requested, &self.redirect_uris, any_port)
    }

    /// The redirect URI that a request may leave out: the only one, unless it has a wildcard port.
    #[must_use]
    pub fn sole_redirect_uri(&self) -> Option<&RedirectUri> {
        match &*self.redirect_uris {
            [sole] if !sole.has_wildcard_port() => Some(sole),
            _ => None,
        }
    }

    /// Keeps what the operator decided about the client that this one replaces: its expiry, and trust unless the
    /// redirect URIs change, because those are what the operator trusts.
    pub(crate) fn with_operator_decisions(mut self, old: &Self) -> Self {
        self.trusted = old.trusted && old.redirect_uris == self.redirect_uris;
        let expires_at = old.details.as_ref().and_then(|details| details.expires_at);
        self.details.get_or_insert_default().expires_at = expires_at;
        self.without_empty_details()
    }

    fn without_empty_details(mut self) -> Self {
        self.details = self.details.filter(|details| **details != Details::default());
        self
    }

    pub(crate) fn scopes_arc(&self) -> &Arc<ClientScopes> {
        &self.scopes
    }

    pub(crate) fn share_scopes(&mut self, scopes: Arc<ClientScopes>) {
        self.scopes = scopes;
    }

    pub(crate) fn set_status(&mut self, status: ClientStatus) {
        self.status = status;
    }

    /// Marks a dynamic client. A configured one keeps what its configuration says.
    pub(crate) fn set_origin(&mut self, origin: ClientOrigin) {
        self.dynamic |= origin.is_dynamic();
    }
}

/// Without metadata, which may hold secrets.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("name", &self.name())
            .field("redirect_uris", &self.redirect_uris)
            .field("allowed_scopes", &self.scopes.allowed)
            .field("default_scopes", &self.scopes.default)
            .field("response_types", &self.response_types)
            .field("grant_types", &self.grant_types)
            .field("kind", &self.kind)
            .field("application_type", &self.application_type)
            .field("status", &self.status)
            .field("trusted", &self.trusted)
            .field("dynamic", &self.dynamic)
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

/// Whether this is a `client-id = *VSCHAR` (RFC 6749 appendix A.1).
pub(crate) fn is_client_id(id: &str) -> bool {
    id.bytes().all(|byte| matches!(byte, 0x20..=0x7E))
}

/// Whether a client can keep a secret (RFC 6749 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// The client cannot keep a secret: `token_endpoint_auth_method` is `none`.
    Public,
    /// The client can keep a secret.
    Confidential,
}

/// The `application_type` of OpenID Connect registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApplicationType {
    /// `native`
    Native,
    /// `web`
    Web,
}

impl ApplicationType {
    /// The name that metadata uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Web => "web",
        }
    }
}

/// Whether requests of a client are accepted. From outside, a client that is not active looks like an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientStatus {
    /// Requests are accepted.
    Active,
    /// Requests are refused until the client is active again.
    Disabled,
    /// Requests are refused permanently. No other client can get the id.
    Revoked,
}
