//! What an operator lets clients register.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use serde_json::{Map, Value};

use super::credential::digest;
use super::members::is_reserved;
use crate::client::member::PRIVATE_KEY_JWT;
use crate::client::secret::is_digest_of;
use crate::client::{AllowedScopes, DynamicClientRules, GrantTypes, Scope};
use crate::registry::ConfigError;

const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024;
const DEFAULT_MAX_REGISTRATIONS: u64 = 10_000;
const DEFAULT_IDLE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

type SourceHook = dyn Fn(&Parts) -> Option<String> + Send + Sync;
type TokenHook = dyn Fn(String) -> BoxFuture<'static, bool> + Send + Sync;
type StatementHook =
    dyn Fn(String) -> BoxFuture<'static, Result<Map<String, Value>, SoftwareStatementError>> + Send + Sync;

/// What an operator lets clients register.
///
/// By default anyone may register, without scopes and with metadata that follows [`DynamicClientRules`]. There may be up to
/// 10,000 clients, which expire 90 days after their last use. A wrong setting fails when the service is built.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::{RegistrationPolicy, Scope};
///
/// let policy = RegistrationPolicy::new()
///     .initial_access_token("let-me-in")
///     .redirect_hosts(["app.example", "localhost", "127.0.0.1"])
///     .allowed_scopes(Scope::parse("openid files:read files:write")?)
///     .default_scopes(Scope::parse("openid files:read")?)
///     .unused_lifetime(Duration::from_secs(7 * 24 * 3600));
/// # Ok::<(), tower_oauth_client_validation::ScopeError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct RegistrationPolicy {
    pub(super) initial_access: InitialAccess,
    pub(super) rules: DynamicClientRules,
    pub(super) redirect_schemes: Option<BTreeSet<String>>,
    pub(super) redirect_hosts: Option<BTreeSet<String>>,
    pub(super) allowed_scopes: Option<AllowedScopes>,
    pub(super) default_scopes: Option<Scope>,
    pub(super) narrow_scopes: bool,
    pub(super) grant_all_scopes: bool,
    pub(super) grant_types: GrantTypes,
    pub(super) auth_methods: Vec<String>,
    pub(super) extra_members: BTreeSet<String>,
    pub(super) statement_hook: Option<Arc<StatementHook>>,
    source_hook: Option<Arc<SourceHook>>,
    pub(super) unused_lifetime: Option<Duration>,
    pub(super) idle_lifetime: Option<Duration>,
    pub(super) max_registrations: Option<u64>,
    max_registrations_per_source: Option<u64>,
    pub(super) reuse_identical: bool,
    pub(super) max_body_bytes: usize,
}

impl RegistrationPolicy {
    /// The defaults that the methods state.
    pub fn new() -> Self {
        Self {
            initial_access: InitialAccess::Open,
            rules: DynamicClientRules::new(),
            redirect_schemes: None,
            redirect_hosts: None,
            allowed_scopes: None,
            default_scopes: None,
            narrow_scopes: false,
            grant_all_scopes: false,
            grant_types: GrantTypes::AUTHORIZATION_CODE
                .with(GrantTypes::IMPLICIT)
                .with(GrantTypes::REFRESH_TOKEN)
                .with(GrantTypes::DEVICE_CODE),
            auth_methods: ["none", "client_secret_basic", "client_secret_post", PRIVATE_KEY_JWT]
                .map(str::to_owned)
                .into(),
            extra_members: BTreeSet::new(),
            statement_hook: None,
            source_hook: None,
            unused_lifetime: None,
            idle_lifetime: Some(DEFAULT_IDLE_LIFETIME),
            max_registrations: Some(DEFAULT_MAX_REGISTRATIONS),
            max_registrations_per_source: None,
            reuse_identical: false,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        }
    }

    /// Requires this token as `Authorization: Bearer` for registrations (default: anyone may register; RFC 7591 §3).
    /// Each call adds a token. Only the SHA-256 is kept.
    pub fn initial_access_token(mut self, token: impl AsRef<str>) -> Self {
        let digest = digest(token.as_ref());
        match &mut self.initial_access {
            InitialAccess::Tokens(digests) => digests.push(digest),
            InitialAccess::Open | InitialAccess::Hook(_) => self.initial_access = InitialAccess::Tokens(vec![digest]),
        }
        self
    }

    /// Requires a token that `hook` accepts for registrations. Replaces [tokens](Self::initial_access_token) set
    /// before.
    ///
    /// ```
    /// use tower_oauth_client_validation::RegistrationPolicy;
    ///
    /// let policy = RegistrationPolicy::new()
    ///     .initial_access_token_hook(|token: String| async move { token.starts_with("partner-") });
    /// ```
    pub fn initial_access_token_hook<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.initial_access = InitialAccess::Hook(Arc::new(move |token| hook(token).boxed()));
        self
    }

    /// The rules for metadata of dynamic clients: sizes, texts, schemes of redirect URIs, and your own check (default:
    /// [`DynamicClientRules::new`]).
    pub fn rules(mut self, rules: DynamicClientRules) -> Self {
        self.rules = rules;
        self
    }

    /// The schemes that redirect URIs may have, in lower case (default: any that the [rules](Self::rules) allow). Also holds for
    /// `post_logout_redirect_uris` and `initiate_login_uri`, since users are sent there too.
    pub fn redirect_schemes<T: Into<String>>(mut self, schemes: impl IntoIterator<Item = T>) -> Self {
        self.redirect_schemes = Some(schemes.into_iter().map(Into::into).collect());
        self
    }

    /// The hosts that `http` and `https` redirect URIs may have, compared as strings (default: any that the rules
    /// allow). Loopback hosts must be named: `localhost`, `127.0.0.1`, `[::1]`. Also holds for
    /// `post_logout_redirect_uris` and `initiate_login_uri`, since users are sent there too.
    pub fn redirect_hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.redirect_hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// The scopes that clients may register in addition to the [default ones](Self::default_scopes); `*` allows any
    /// (default: none, so metadata with another `scope` is refused).
    pub fn allowed_scopes(mut self, scopes: Scope) -> Self {
        self.allowed_scopes = Some(AllowedScopes::new(scopes));
        self
    }

    /// The scopes of a client whose metadata names none (default: no scope list, so
    /// [`PolicyBuilder::unlisted_scopes`](crate::PolicyBuilder::unlisted_scopes) decides).
    pub fn default_scopes(mut self, scopes: Scope) -> Self {
        self.default_scopes = Some(scopes);
        self
    }

    /// Whether a client that names more scopes than allowed is registered with the allowed ones (default: no, it is
    /// refused with `invalid_client_metadata`).
    pub fn narrow_scopes(mut self, narrow: bool) -> Self {
        self.narrow_scopes = narrow;
        self
    }

    /// Whether every client may request all [allowed scopes](Self::allowed_scopes), even those that it did not register
    /// (default: no). A request without scopes then gets those that the client registered, or else the
    /// [default ones](Self::default_scopes).
    ///
    /// For step-up authorization, where clients request more than they registered.
    pub fn grant_all_scopes(mut self, all: bool) -> Self {
        self.grant_all_scopes = all;
        self
    }

    /// The grant types that clients may register (default: `authorization_code`, `implicit`, `refresh_token` and
    /// `device_code`). Others are dropped, as RFC 7591 §2 allows; if none is left, the registration is refused.
    pub fn grant_types(mut self, grant_types: GrantTypes) -> Self {
        self.grant_types = grant_types;
        self
    }

    /// The values of `token_endpoint_auth_method` that clients may register (default: `none`, `client_secret_basic`,
    /// `client_secret_post`, `private_key_jwt`). Name those that your token endpoint accepts, such as
    /// `AuthenticationPolicy::methods`. `client_secret_jwt` cannot be named: secrets are stored as digests.
    ///
    /// `private_key_jwt` needs `jwks` or `jwks_uri`. A client that offers several methods
    /// (`token_endpoint_auth_methods_supported`) is registered for the first of them that is named here, and keeps the
    /// others that are.
    pub fn auth_methods<T: Into<String>>(mut self, methods: impl IntoIterator<Item = T>) -> Self {
        self.auth_methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Unknown members to store unchecked (default: none; unknown members are ignored, RFC 7591 §2).
    /// Members that only the server sets cannot be named.
    pub fn keep_members<T: Into<String>>(mut self, members: impl IntoIterator<Item = T>) -> Self {
        self.extra_members.extend(members.into_iter().map(Into::into));
        self
    }

    /// Verifies software statements (RFC 7591 §2.3) and returns their claims, which replace the members beside the
    /// statement (default: software statements are refused). The claims are checked like metadata from the client.
    pub fn software_statement_hook<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Map<String, Value>, SoftwareStatementError>> + Send + 'static,
    {
        self.statement_hook = Some(Arc::new(move |statement| hook(statement).boxed()));
        self
    }

    /// How long a registration stays if it is never used (default: forever).
    ///
    /// [`RegistrationService::clean_up`](super::RegistrationService::clean_up) enforces it; registrations do too, once a
    /// minute. A client counts as used once the token endpoint has called
    /// [`RegistryStore::touch`](crate::RegistryStore::touch).
    pub fn unused_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.unused_lifetime = lifetime.into();
        self
    }

    /// How long a registration that was used stays after its last use (default: 90 days). Enforced like
    /// [`unused_lifetime`](Self::unused_lifetime).
    pub fn idle_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.idle_lifetime = lifetime.into();
        self
    }

    /// How many registrations there may be (default: 10,000). One more replaces the oldest one that was never used, or
    /// if there is none, the one that was not used for longest: refusing it would let anyone lock others out. Clients
    /// that were used within a day, and clients that an operator disabled, stay; if there are no others, the answer is
    /// 503 `temporarily_unavailable`.
    ///
    /// Servers that share a store may each exceed the number by one, since each counts before it inserts.
    pub fn max_registrations(mut self, max: impl Into<Option<u64>>) -> Self {
        self.max_registrations = max.into();
        self
    }

    /// How many registrations of one source there may be (default: half of
    /// [`max_registrations`](Self::max_registrations)), so that one source cannot fill the store alone. One more replaces
    /// a client of the same source.
    ///
    /// The source is the initial access token, or what [`source_hook`](Self::source_hook) returns. Without either, all
    /// registrations count as unrelated and only `max_registrations` holds.
    pub fn max_registrations_per_source(mut self, max: u64) -> Self {
        self.max_registrations_per_source = Some(max);
        self
    }

    /// Names the source of a registration, such as its network, account or tenant. Replaces the initial access token as
    /// source. Only a SHA-256 of it is stored.
    ///
    /// ```
    /// use std::net::{IpAddr, SocketAddr};
    /// use tower_oauth_client_validation::RegistrationPolicy;
    ///
    /// // With `axum::extract::ConnectInfo<SocketAddr>` or the like in the extensions.
    /// let policy = RegistrationPolicy::new().max_registrations_per_source(100).source_hook(|parts| {
    ///     Some(match parts.extensions.get::<SocketAddr>()?.ip().to_canonical() {
    ///         IpAddr::V4(address) => address.to_string(),
    ///         IpAddr::V6(address) => format!("{:?}", &address.segments()[..4]),
    ///     })
    /// });
    /// ```
    pub fn source_hook(mut self, hook: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.source_hook = Some(Arc::new(hook));
        self
    }

    /// Whether a public client with the same metadata as an earlier one gets the earlier one's id (default: no).
    ///
    /// Strangers share such a client, so it cannot be changed: a `PUT` with other metadata is answered with 403, and a
    /// `DELETE` only withdraws the access token. Each registration issues a new access token and invalidates the one
    /// before.
    pub fn reuse_identical(mut self, reuse: bool) -> Self {
        self.reuse_identical = reuse;
        self
    }

    /// The largest request body (default: 64 KiB). A larger one is answered with 413.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// The scopes that a client can register, including the default ones, for the server's metadata. `None`: any.
    #[must_use]
    pub fn registrable_scopes(&self) -> Option<Scope> {
        let default = self.default_scopes.iter().flat_map(Scope::iter);
        match &self.allowed_scopes {
            Some(AllowedScopes::All) => None,
            Some(AllowedScopes::Listed(allowed)) => Some(Scope::from_valid_tokens(allowed.iter().chain(default))),
            None => Some(Scope::from_valid_tokens(default)),
        }
    }

    pub(super) fn per_source_limit(&self) -> Option<u64> {
        let half = self.max_registrations.map(|max| max.div_ceil(2));
        self.max_registrations_per_source.or(half)
    }

    /// The digest of the source of a registration, if it is known.
    pub(super) fn source(&self, parts: &Parts, initial_access_token: Option<&str>) -> Option<String> {
        let source = match (&self.source_hook, &self.initial_access) {
            (Some(hook), _) => hook(parts)?,
            (None, InitialAccess::Open) => return None,
            (None, InitialAccess::Tokens(_) | InitialAccess::Hook(_)) => initial_access_token?.to_owned(),
        };
        Some(digest(&source)[..32].to_owned())
    }

    /// Finds settings that cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting, problem: String| Err(ConfigError::new(setting, problem));
        let is_scheme = |scheme: &String| {
            let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
            scheme.starts_with(|c: char| c.is_ascii_lowercase()) && scheme.bytes().all(tail)
        };
        let is_host = |host: &String| url::Host::parse(host).is_ok_and(|parsed| parsed.to_string() == *host);
        if let Some(scheme) = self.redirect_schemes.iter().flatten().find(|scheme| !is_scheme(scheme)) {
            return wrong("redirect_schemes", format!("{scheme:?} is not a scheme in lower case"));
        }
        if let Some(host) = self.redirect_hosts.iter().flatten().find(|host| !is_host(host)) {
            return wrong("redirect_hosts", format!("{host:?} is not a host as URLs write it"));
        }
        if self.grant_all_scopes && self.allowed_scopes.is_none() {
            return wrong("grant_all_scopes", "needs allowed_scopes".to_owned());
        }
        if self.grant_types == GrantTypes::EMPTY {
            return wrong("grant_types", "must not be empty".to_owned());
        }
        if self.auth_methods.is_empty() || self.auth_methods.iter().any(|method| method == "client_secret_jwt") {
            return wrong("auth_methods", "must not be empty or name client_secret_jwt".to_owned());
        }
        if let Some(member) = self.extra_members.iter().find(|member| is_reserved(member)) {
            return wrong("keep_members", format!("only the server sets {member}"));
        }
        if self.max_registrations == Some(0) {
            return wrong("max_registrations", "must not be 0".to_owned());
        }
        if self.max_registrations_per_source == Some(0) {
            return wrong("max_registrations_per_source", "must not be 0".to_owned());
        }
        Ok(())
    }

    /// The values of `token_endpoint_auth_method` that a client can register, for the server's metadata.
    pub fn registrable_auth_methods(&self) -> impl Iterator<Item = &str> {
        self.auth_methods.iter().map(String::as_str)
    }
}

impl Default for RegistrationPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RegistrationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationPolicy")
            .field("open", &matches!(self.initial_access, InitialAccess::Open))
            .field("rules", &self.rules)
            .field("redirect_schemes", &self.redirect_schemes)
            .field("redirect_hosts", &self.redirect_hosts)
            .field("allowed_scopes", &self.allowed_scopes)
            .field("default_scopes", &self.default_scopes)
            .field("narrow_scopes", &self.narrow_scopes)
            .field("grant_all_scopes", &self.grant_all_scopes)
            .field("grant_types", &self.grant_types)
            .field("auth_methods", &self.auth_methods)
            .field("unused_lifetime", &self.unused_lifetime)
            .field("idle_lifetime", &self.idle_lifetime)
            .field("max_registrations", &self.max_registrations)
            .field("max_registrations_per_source", &self.per_source_limit())
            .field("reuse_identical", &self.reuse_identical)
            .field("max_body_bytes", &self.max_body_bytes)
            .finish_non_exhaustive()
    }
}

/// Who may register.
#[derive(Clone)]
pub(super) enum InitialAccess {
    Open,
    Tokens(Vec<String>),
    Hook(Arc<TokenHook>),
}

impl InitialAccess {
    pub(super) async fn admits(&self, presented: Option<&str>) -> bool {
        match (self, presented) {
            (Self::Open, _) => true,
            (Self::Tokens(_) | Self::Hook(_), None) => false,
            // Compares with all: the time must not depend on which one matches.
            (Self::Tokens(digests), Some(token)) => {
                digests.iter().fold(false, |found, digest| is_digest_of(Some(digest), token) | found)
            }
            (Self::Hook(hook), Some(token)) => hook(token.to_owned()).await,
        }
    }
}

/// A software statement that is refused (RFC 7591 §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SoftwareStatementError {
    /// It is malformed, or its signature is wrong: `invalid_software_statement`.
    Invalid,
    /// It is not approved here: `unapproved_software_statement`.
    Unapproved,
}

impl fmt::Display for SoftwareStatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the software statement is not valid",
            Self::Unapproved => "the software statement is not approved",
        })
    }
}

impl std::error::Error for SoftwareStatementError {}
