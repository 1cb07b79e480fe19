//! Who may ask: a client as it was registered.

mod metadata;
mod redirect_uri;
mod scope;
#[cfg(any(feature = "cache", feature = "metadata-document"))]
mod size;
mod text;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use self::metadata::AUTH_METHOD;
pub use self::metadata::MetadataError;
#[cfg(any(feature = "http-registry", feature = "metadata-document", feature = "registration"))]
pub(crate) use self::metadata::is_operator_member;
#[cfg(any(feature = "registration", feature = "metadata-document"))]
pub(crate) use self::metadata::{holds_private_key, is_web_uri};
use self::redirect_uri::LoopbackRule;
#[cfg(feature = "metadata-document")]
pub(crate) use self::redirect_uri::is_dot_segment;
pub use self::redirect_uri::{
    ClosestMatch, LoopbackPorts, RedirectUri, RedirectUriError, RedirectUriMismatch, RedirectUriRule, UriPart,
};
pub use self::scope::{AllowedScopes, Scope, ScopeError};
pub(crate) use self::scope::{is_scope_value, tokens};
pub(crate) use self::text::{Causes, Untrusted};

/// A registered OAuth client.
///
/// Built by [`Client::builder`], which judges every redirect URI, or read from RFC 7591 client metadata by
/// [`Client::from_metadata`].
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
///     "redirect_uris[0]: http is allowed on localhost, 127.0.0.1 and [::1] only (at byte 0)",
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
}

/// What many clients have none of, apart, so that they do not pay for it. Never there without anything in it, so that
/// equal clients are equal.
#[derive(Clone, Debug, Default, PartialEq)]
struct Details {
    name: Option<Box<str>>,
    expires_at: Option<NonZeroU64>,
    metadata: Map<String, Value>,
}

/// Kept apart, since most clients of a registry share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ClientScopes {
    pub(crate) allowed: Option<AllowedScopes>,
    pub(crate) default: Option<Scope>,
}

impl Client {
    /// Begins a client with this id: public, `code` with the grant `authorization_code` (the defaults of
    /// RFC 7591 §2), no redirect URI and no scope list.
    ///
    /// ```
    /// use tower_oauth_client_validation::{Client, ClientKind, GrantTypes, ResponseTypes};
    ///
    /// let client = Client::builder("a").build()?;
    /// assert_eq!(client.kind(), ClientKind::Public);
    /// assert_eq!(client.response_types(), ResponseTypes::CODE);
    /// assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
    /// assert!(client.redirect_uris().is_empty() && client.allowed_scopes().is_none());
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    pub fn builder(id: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            client: Self {
                id: id.into().into(),
                redirect_uris: Box::default(),
                scopes: Arc::default(),
                details: None,
                response_types: ResponseTypes::CODE,
                grant_types: GrantTypes::AUTHORIZATION_CODE,
                kind: ClientKind::Public,
                application_type: None,
                status: ClientStatus::Active,
                trusted: false,
            },
            redirect_uris: Vec::new(),
            allowed_scopes: None,
            default_scopes: None,
        }
    }

    /// Continues from this client, to register it again with changes.
    pub fn to_builder(&self) -> ClientBuilder {
        ClientBuilder {
            client: self.clone(),
            redirect_uris: self.redirect_uris.iter().cloned().map(Ok).collect(),
            allowed_scopes: self.scopes.allowed.clone().map(Ok),
            default_scopes: self.scopes.default.clone().map(Ok),
        }
    }

    /// The `client_id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A name for people (`client_name`). Chosen by the client: escape it wherever it is shown.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.details.as_ref()?.name.as_deref()
    }

    /// The registered redirect URIs, in their order, without repeats.
    #[must_use]
    pub fn redirect_uris(&self) -> &[RedirectUri] {
        &self.redirect_uris
    }

    /// What it may ask for; `None` where it was registered without a scope list.
    #[must_use]
    pub fn allowed_scopes(&self) -> Option<&AllowedScopes> {
        self.scopes.allowed.as_ref()
    }

    /// What it is granted when it asks for nothing: the default scopes that were set, else the allowed ones,
    /// and nothing where those are `*`.
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

    /// Whether it can keep a secret.
    #[must_use]
    pub fn kind(&self) -> ClientKind {
        self.kind
    }

    /// The `application_type` of OpenID Connect registration, where one was given.
    #[must_use]
    pub fn application_type(&self) -> Option<ApplicationType> {
        self.application_type
    }

    /// Whether the operator marked it as trusted, see
    /// [`RedirectErrors::TrustedClients`](crate::RedirectErrors::TrustedClients).
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whether it is active, disabled or revoked.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.status
    }

    /// When the registration ends, in whole seconds.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        let seconds = self.details.as_ref()?.expires_at?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.get()))
    }

    /// Whether the registration has ended at `now`.
    #[must_use]
    pub fn is_expired_at(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|end| end <= now)
    }

    /// Every other member of its metadata, as it was given.
    #[must_use]
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.details.as_ref().map(|details| &details.metadata).filter(|metadata| !metadata.is_empty())
    }

    /// A redirect URI that the rules admit for this client, or why `requested` is none.
    ///
    /// # Errors
    ///
    /// Says which rule `requested` breaks, or in what the nearest registered URI differs.
    pub fn check_redirect_uri(
        &self,
        requested: &str,
        loopback_ports: LoopbackPorts,
    ) -> Result<&RedirectUri, RedirectUriMismatch> {
        let rule = match loopback_ports {
            LoopbackPorts::Any => LoopbackRule::AnyHost,
            LoopbackPorts::IpLiterals => LoopbackRule::IpLiterals,
            LoopbackPorts::NativeClients if self.application_type == Some(ApplicationType::Native) => {
                LoopbackRule::AnyHost
            }
            LoopbackPorts::NativeClients => LoopbackRule::SamePort,
        };
        redirect_uri::find(requested, &self.redirect_uris, rule)
    }

    /// The URI that an authorization request may leave out: the only one, and no wildcard.
    #[must_use]
    pub fn sole_redirect_uri(&self) -> Option<&RedirectUri> {
        match &*self.redirect_uris {
            [sole] if !sole.has_wildcard_port() => Some(sole),
            _ => None,
        }
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
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

/// Builds a [`Client`]. Nothing fails before [`ClientBuilder::build`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    client: Client,
    redirect_uris: Vec<Result<RedirectUri, RedirectUriError>>,
    allowed_scopes: Option<Result<AllowedScopes, ScopeError>>,
    default_scopes: Option<Result<Scope, ScopeError>>,
}

impl ClientBuilder {
    /// A name for people.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.details().name = Some(name.into().into());
        self
    }

    /// Adds a redirect URI, see [`RedirectUri::parse`].
    pub fn redirect_uri(mut self, uri: impl AsRef<str>) -> Self {
        self.redirect_uris.push(RedirectUri::parse(uri.as_ref()));
        self
    }

    /// Adds a redirect URI that was judged before, such as one of [`RedirectUri::insecure_http`].
    pub fn parsed_redirect_uri(mut self, uri: RedirectUri) -> Self {
        self.redirect_uris.push(Ok(uri));
        self
    }

    /// Takes all redirect URIs away.
    pub fn clear_redirect_uris(mut self) -> Self {
        self.redirect_uris.clear();
        self
    }

    /// The scopes that it may ask for, separated by spaces; `*` allows all, an empty string none.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.allowed_scopes = Some(Scope::from_tokens(tokens(scope.as_ref())).map(AllowedScopes::new));
        self
    }

    /// What it is granted when it asks for nothing, separated by spaces. Must be among the allowed ones.
    pub fn default_scope(mut self, scope: impl AsRef<str>) -> Self {
        self.default_scopes = Some(Scope::from_tokens(tokens(scope.as_ref())));
        self
    }

    /// The response types that it may use. They need not fit the grant types: a request that needs what is
    /// missing is refused.
    pub fn response_types(mut self, response_types: ResponseTypes) -> Self {
        self.forget("response_types");
        self.client.response_types = response_types;
        self
    }

    /// The grant types that it may use.
    pub fn grant_types(mut self, grant_types: GrantTypes) -> Self {
        self.forget("grant_types");
        self.client.grant_types = grant_types;
        self
    }

    /// It can keep a secret.
    pub fn confidential(mut self) -> Self {
        self.forget(AUTH_METHOD);
        self.client.kind = ClientKind::Confidential;
        self
    }

    /// It cannot keep a secret (the default).
    pub fn public(mut self) -> Self {
        self.forget(AUTH_METHOD);
        self.client.kind = ClientKind::Public;
        self
    }

    /// The `application_type` of OpenID Connect registration.
    pub fn application_type(mut self, application_type: ApplicationType) -> Self {
        self.client.application_type = Some(application_type);
        self
    }

    /// Marks it as trusted.
    pub fn trusted(mut self, trusted: bool) -> Self {
        self.client.trusted = trusted;
        self
    }

    /// Switches it off for now.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.client.status = if disabled { ClientStatus::Disabled } else { ClientStatus::Active };
        self
    }

    /// The status.
    pub fn status(mut self, status: ClientStatus) -> Self {
        self.client.status = status;
        self
    }

    /// When the registration ends, cut to whole seconds. `None` and the epoch: never.
    pub fn expires_at(mut self, end: impl Into<Option<SystemTime>>) -> Self {
        self.details().expires_at = end.into().filter(|end| *end != SystemTime::UNIX_EPOCH).map(|end| {
            let since_epoch = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // What ended before the first second ended.
            NonZeroU64::new(since_epoch.as_secs()).unwrap_or(NonZeroU64::MIN)
        });
        self
    }

    /// Any other metadata. A name that has a method of its own here is without effect.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.details().metadata.insert(name.into(), value.into());
        self
    }

    /// What was set anew is no longer kept as it came.
    fn forget(&mut self, member: &str) {
        if let Some(details) = &mut self.client.details {
            details.metadata.remove(member);
        }
    }

    fn details(&mut self) -> &mut Details {
        self.client.details.get_or_insert_default()
    }

    /// Judges what was given.
    ///
    /// # Errors
    ///
    /// When the id is empty or not printable ASCII, a redirect URI breaks a rule, a scope does not follow the
    /// grammar, or a default scope is not allowed.
    pub fn build(mut self) -> Result<Client, ClientError> {
        if self.client.id.is_empty() || !is_client_id(&self.client.id) {
            return Err(ClientError::Id);
        }
        let mut redirect_uris: Vec<RedirectUri> = Vec::with_capacity(self.redirect_uris.len());
        let mut seen = std::collections::HashSet::with_capacity(self.redirect_uris.len());
        for (index, uri) in self.redirect_uris.into_iter().enumerate() {
            let uri = uri.map_err(|source| ClientError::RedirectUri { index, source })?;
            if seen.insert(uri.clone()) {
                redirect_uris.push(uri);
            }
        }
        let allowed = self.allowed_scopes.transpose().map_err(ClientError::Scope)?;
        let default = self.default_scopes.transpose().map_err(ClientError::Scope)?;
        if let Some(default) = &default {
            let is_allowed = |scope| allowed.as_ref().is_some_and(|allowed| allowed.contains(scope));
            if !default.iter().all(is_allowed) {
                return Err(ClientError::DefaultScope);
            }
        }
        if self.client.details.as_deref() == Some(&Details::default()) {
            self.client.details = None;
        }
        self.client.redirect_uris = redirect_uris.into();
        self.client.scopes = Arc::new(ClientScopes { allowed, default });
        Ok(self.client)
    }
}

/// `client-id = *VSCHAR`, RFC 6749 appendix A.1.
pub(crate) fn is_client_id(id: &str) -> bool {
    id.bytes().all(|byte| matches!(byte, 0x20..=0x7E))
}

/// A client that cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The id is empty or holds something else than printable ASCII (RFC 6749 appendix A.1).
    Id,
    /// A redirect URI breaks a rule.
    RedirectUri {
        /// Its position.
        index: usize,
        /// The rule.
        source: RedirectUriError,
    },
    /// A scope does not follow the grammar.
    Scope(ScopeError),
    /// A default scope is not among the allowed ones.
    DefaultScope,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("client_id: must be printable ASCII and not empty"),
            Self::RedirectUri { index, source } => write!(f, "redirect_uris[{index}]: {source}"),
            Self::Scope(error) => write!(f, "scope: {error}"),
            Self::DefaultScope => f.write_str("default scope: must be among the allowed scopes"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Whether a client can keep a secret (RFC 6749 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// It cannot: `token_endpoint_auth_method` is `none`.
    Public,
    /// It can.
    Confidential,
}

/// `application_type` of OpenID Connect registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApplicationType {
    /// `native`
    Native,
    /// `web`
    Web,
}

impl ApplicationType {
    /// The name in metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Web => "web",
        }
    }
}

/// Whether requests of a client are taken. From outside, a client that is not active looks like an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientStatus {
    /// Taken.
    Active,
    /// Switched off for now.
    Disabled,
    /// Switched off for good; the id is never given to another client.
    Revoked,
}

/// A response type: which of `code`, `token` and `id_token` the answer carries, or `none`.
///
/// ```
/// use tower_oauth_client_validation::ResponseType;
///
/// assert_eq!(ResponseType::parse("id_token code"), ResponseType::parse("code id_token"));
/// assert_eq!(ResponseType::parse("code code"), None);
/// assert_eq!(ResponseType::CODE.to_string(), "code");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponseType(u8);

impl ResponseType {
    const WORDS: [(&'static str, u8); 4] = [("code", 1), ("id_token", 2), ("token", 4), ("none", 8)];

    /// `code`
    pub const CODE: Self = Self(1);
    /// `id_token`
    pub const ID_TOKEN: Self = Self(2);
    /// `token`
    pub const TOKEN: Self = Self(4);
    /// `code id_token`
    pub const CODE_ID_TOKEN: Self = Self(3);
    /// `code token`
    pub const CODE_TOKEN: Self = Self(5);
    /// `id_token token`
    pub const ID_TOKEN_TOKEN: Self = Self(6);
    /// `code id_token token`
    pub const CODE_ID_TOKEN_TOKEN: Self = Self(7);
    /// `none`
    pub const NONE: Self = Self(8);

    const ALL: [Self; 8] = [
        Self::CODE,
        Self::ID_TOKEN,
        Self::TOKEN,
        Self::CODE_ID_TOKEN,
        Self::CODE_TOKEN,
        Self::ID_TOKEN_TOKEN,
        Self::CODE_ID_TOKEN_TOKEN,
        Self::NONE,
    ];

    /// Words in any order, none twice, separated by single spaces (RFC 6749 §3.1.1).
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut bits = 0;
        for word in value.split(' ') {
            let (_, bit) = Self::WORDS.iter().find(|(known, _)| *known == word)?;
            if bits & bit != 0 {
                return None;
            }
            bits += bit;
        }
        // `none` stands alone (OAuth 2.0 Multiple Response Type Encoding Practices §4).
        (bits & Self::NONE.0 == 0 || bits == Self::NONE.0).then_some(Self(bits))
    }

    /// Whether the answer carries a token or id_token, which keeps it out of the query.
    #[must_use]
    pub fn carries_token(self) -> bool {
        self.0 & Self::ID_TOKEN_TOKEN.0 != 0
    }

    /// Whether the answer carries a code.
    #[must_use]
    pub fn carries_code(self) -> bool {
        self.0 & Self::CODE.0 != 0
    }

    /// The grants that it needs (OpenID Connect Dynamic Client Registration §2).
    #[must_use]
    pub fn required_grant_types(self) -> GrantTypes {
        let mut grants = GrantTypes::EMPTY;
        if self.carries_code() {
            grants = grants.with(GrantTypes::AUTHORIZATION_CODE);
        }
        if self.carries_token() {
            grants = grants.with(GrantTypes::IMPLICIT);
        }
        grants
    }

    /// The usual spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self.0 {
            1 => "code",
            2 => "id_token",
            3 => "code id_token",
            4 => "token",
            5 => "code token",
            6 => "id_token token",
            7 => "code id_token token",
            _ => "none",
        }
    }
}

impl fmt::Display for ResponseType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`ResponseType`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseTypes(u16);

impl ResponseTypes {
    /// None at all.
    pub const EMPTY: Self = Self(0);
    /// Just `code`.
    pub const CODE: Self = Self::EMPTY.with(ResponseType::CODE);

    /// This set and `response_type`.
    #[must_use]
    pub const fn with(self, response_type: ResponseType) -> Self {
        Self(self.0 | 1 << response_type.0)
    }

    /// Whether `response_type` is in the set.
    #[must_use]
    pub const fn contains(self, response_type: ResponseType) -> bool {
        self.0 & 1 << response_type.0 != 0
    }

    /// The response types in the set.
    pub fn iter(self) -> impl Iterator<Item = ResponseType> {
        ResponseType::ALL.into_iter().filter(move |response_type| self.contains(*response_type))
    }
}

impl FromIterator<ResponseType> for ResponseTypes {
    fn from_iter<I: IntoIterator<Item = ResponseType>>(types: I) -> Self {
        types.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// A set of grant types (RFC 7591 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantTypes(u8);

impl GrantTypes {
    const NAMES: [(&'static str, Self); 7] = [
        ("authorization_code", Self::AUTHORIZATION_CODE),
        ("implicit", Self::IMPLICIT),
        ("refresh_token", Self::REFRESH_TOKEN),
        ("client_credentials", Self::CLIENT_CREDENTIALS),
        ("password", Self::PASSWORD),
        ("urn:ietf:params:oauth:grant-type:device_code", Self::DEVICE_CODE),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", Self::JWT_BEARER),
    ];

    /// None at all.
    pub const EMPTY: Self = Self(0);
    /// `authorization_code`
    pub const AUTHORIZATION_CODE: Self = Self(1);
    /// `implicit`
    pub const IMPLICIT: Self = Self(2);
    /// `refresh_token`
    pub const REFRESH_TOKEN: Self = Self(4);
    /// `client_credentials`
    pub const CLIENT_CREDENTIALS: Self = Self(8);
    /// `password`
    pub const PASSWORD: Self = Self(16);
    /// `urn:ietf:params:oauth:grant-type:device_code`
    pub const DEVICE_CODE: Self = Self(32);
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`
    pub const JWT_BEARER: Self = Self(64);

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names in metadata.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, grant)| self.contains(*grant)).map(|(name, _)| name)
    }

    /// The grant of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, grant)| *grant)
    }
}
