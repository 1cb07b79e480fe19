//! What an operator lets clients register.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::credential::{digest, is_digest_of};
use crate::client::{AllowedScopes, GrantTypes, Scope};

/// The largest request that is read unless [`RegistrationPolicy::max_body_bytes`] says otherwise: 64 KiB.
const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024;

/// How many unused and used registrations there may be unless [`RegistrationPolicy::max_registrations`] says
/// otherwise.
const DEFAULT_MAX_REGISTRATIONS: u64 = 10_000;

type TokenHook = dyn Fn(String) -> BoxFuture<'static, bool> + Send + Sync;
type StatementHook =
    dyn Fn(String) -> BoxFuture<'static, Result<Map<String, Value>, SoftwareStatementError>> + Send + Sync;

/// What an operator lets clients register.
///
/// The default: anyone may register, up to 10,000 clients, with any redirect URI that the rules of
/// [`RedirectUri`](crate::RedirectUri) admit, and without naming scopes.
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
    pub(super) unused_lifetime: Option<Duration>,
    pub(super) max_registrations: Option<u64>,
    pub(super) reuse_identical: bool,
    pub(super) max_body_bytes: usize,
}

impl RegistrationPolicy {
    /// The defaults that the methods name.
    pub fn new() -> Self {
        Self {
            initial_access: InitialAccess::Open,
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
            auth_methods: ["none", "client_secret_basic", "client_secret_post"].map(str::to_owned).into(),
            extra_members: BTreeSet::new(),
            statement_hook: None,
            unused_lifetime: None,
            max_registrations: Some(DEFAULT_MAX_REGISTRATIONS),
            reuse_identical: false,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        }
    }

    /// Only who presents this token as `Authorization: Bearer` may register (default: anyone; RFC 7591 §3).
    /// Called again, it adds another token. Only its SHA-256 is kept.
    pub fn initial_access_token(mut self, token: impl AsRef<str>) -> Self {
        let digest = digest(token.as_ref());
        match &mut self.initial_access {
            InitialAccess::Tokens(digests) => digests.push(digest),
            InitialAccess::Open | InitialAccess::Hook(_) => self.initial_access = InitialAccess::Tokens(vec![digest]),
        }
        self
    }

    /// Only who presents a token that `hook` says yes to may register. Takes the place of
    /// [tokens](Self::initial_access_token) set before.
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

    /// The schemes that redirect URIs may have, in lower case (default: any that the rules admit).
    /// `post_logout_redirect_uris` and `initiate_login_uri`, where users are sent too, are held to it as well.
    pub fn redirect_schemes<T: Into<String>>(mut self, schemes: impl IntoIterator<Item = T>) -> Self {
        self.redirect_schemes = Some(schemes.into_iter().map(Into::into).collect());
        self
    }

    /// The hosts that `http` and `https` redirect URIs may have, compared as strings (default: any that the
    /// rules admit). Loopback hosts are let in by naming them: `localhost`, `127.0.0.1`, `[::1]`.
    /// `post_logout_redirect_uris` and `initiate_login_uri`, where users are sent too, are held to it as well.
    pub fn redirect_hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.redirect_hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// The scopes that clients may register beside the [default ones](Self::default_scopes); `*` is any
    /// (default: none, so that metadata with another `scope` is refused).
    pub fn allowed_scopes(mut self, scopes: Scope) -> Self {
        self.allowed_scopes = Some(AllowedScopes::new(scopes));
        self
    }

    /// The scopes that a client gets whose metadata names none (default: no scope list, which leaves it to
    /// [`PolicyBuilder::unlisted_scopes`](crate::PolicyBuilder::unlisted_scopes)).
    pub fn default_scopes(mut self, scopes: Scope) -> Self {
        self.default_scopes = Some(scopes);
        self
    }

    /// Whether a client that names more scopes than allowed is registered with those that are (default: no,
    /// `invalid_client_metadata`).
    pub fn narrow_scopes(mut self, narrow: bool) -> Self {
        self.narrow_scopes = narrow;
        self
    }

    /// Whether every client may ask for all of [`allowed_scopes`](Self::allowed_scopes), whatever it
    /// registered (default: no). What it registered, or else the
    /// [default](Self::default_scopes), is then granted to a request that names none.
    ///
    /// For step-up authorization, where clients ask for more than they registered.
    pub fn grant_all_scopes(mut self, all: bool) -> Self {
        self.grant_all_scopes = all;
        self
    }

    /// The grant types that clients may register (default: `authorization_code`, `implicit`, `refresh_token`
    /// and `device_code`). Others are left out of what is registered, as RFC 7591 §2 allows; where none is
    /// left the registration is refused.
    pub fn grant_types(mut self, grant_types: GrantTypes) -> Self {
        self.grant_types = grant_types;
        self
    }

    /// The values of `token_endpoint_auth_method` that clients may register (default: `none`,
    /// `client_secret_basic`, `client_secret_post`). A method with a secret takes one that is kept as a digest, so
    /// `client_secret_jwt` cannot work and is refused even when it is named here.
    pub fn auth_methods<T: Into<String>>(mut self, methods: impl IntoIterator<Item = T>) -> Self {
        self.auth_methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Members to keep beside those of RFC 7591 §2, unjudged (default: none; what is not understood is
    /// ignored, RFC 7591 §2). Members that the server itself sets cannot be named.
    pub fn keep_members<T: Into<String>>(mut self, members: impl IntoIterator<Item = T>) -> Self {
        self.extra_members.extend(members.into_iter().map(Into::into));
        self
    }

    /// Verifies software statements (RFC 7591 §2.3) and gives their claims, which win over the members beside
    /// the statement (default: a software statement is refused).
    ///
    /// The claims are judged like metadata from the client.
    pub fn software_statement_hook<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Map<String, Value>, SoftwareStatementError>> + Send + 'static,
    {
        self.statement_hook = Some(Arc::new(move |statement| hook(statement).boxed()));
        self
    }

    /// How long a registration stays that was never used (default: for ever).
    ///
    /// Enforced by `clean_up` of the service, such as
    /// [`RegistrationService::clean_up`](super::RegistrationService::clean_up), which also runs by itself at times
    /// when a client registers. Use is what the token endpoint records with
    /// [`RegistryStore::touch`](crate::RegistryStore::touch): without that, no client counts as used.
    pub fn unused_lifetime(mut self, lifetime: Duration) -> Self {
        self.unused_lifetime = Some(lifetime);
        self
    }

    /// How many registrations there may be (default: 10,000). One more takes the place of the oldest one that
    /// was never used; a hard refusal would let anyone lock all others out. A client that was used, or that an
    /// operator disabled, is never taken away: when all were, the answer is 503 `temporarily_unavailable`.
    ///
    /// Each server that shares the store may count just before another one registers, so the bound is this number
    /// and one for each further server.
    pub fn max_registrations(mut self, most: impl Into<Option<u64>>) -> Self {
        self.max_registrations = most.into();
        self
    }

    /// Whether a public client whose metadata is the same as that of an earlier one gets the id of that
    /// (default: no).
    ///
    /// Such a client is shared by strangers. So it cannot be changed: a `PUT` with other metadata is answered
    /// with 403, and a `DELETE` takes back the access token only. Each registration gives a new access token,
    /// and the one before stops working.
    pub fn reuse_identical(mut self, reuse: bool) -> Self {
        self.reuse_identical = reuse;
        self
    }

    /// How many bytes of a request are read (default: 64 KiB).
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// The scopes that a client can register, the default ones included, for the server's metadata; `None` is
    /// any.
    #[must_use]
    pub fn registrable_scopes(&self) -> Option<Scope> {
        let default = self.default_scopes.iter().flat_map(Scope::iter);
        match &self.allowed_scopes {
            Some(AllowedScopes::All) => None,
            Some(AllowedScopes::Listed(allowed)) => Some(Scope::from_valid_tokens(allowed.iter().chain(default))),
            None => Some(Scope::from_valid_tokens(default)),
        }
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
            .field("redirect_schemes", &self.redirect_schemes)
            .field("redirect_hosts", &self.redirect_hosts)
            .field("allowed_scopes", &self.allowed_scopes)
            .field("default_scopes", &self.default_scopes)
            .field("narrow_scopes", &self.narrow_scopes)
            .field("grant_all_scopes", &self.grant_all_scopes)
            .field("grant_types", &self.grant_types)
            .field("auth_methods", &self.auth_methods)
            .field("unused_lifetime", &self.unused_lifetime)
            .field("max_registrations", &self.max_registrations)
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
            // Without a short cut, which would tell how far the search went.
            (Self::Tokens(digests), Some(token)) => {
                digests.iter().fold(false, |found, digest| is_digest_of(Some(digest), token) | found)
            }
            (Self::Hook(hook), Some(token)) => hook(token.to_owned()).await,
        }
    }
}

/// A software statement that is not taken (RFC 7591 §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SoftwareStatementError {
    /// It is malformed, or its signature is wrong: `invalid_software_statement`.
    Invalid,
    /// It is not approved of here: `unapproved_software_statement`.
    Unapproved,
}

impl fmt::Display for SoftwareStatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the software statement is not valid",
            Self::Unapproved => "the software statement is not approved of",
        })
    }
}

impl std::error::Error for SoftwareStatementError {}
