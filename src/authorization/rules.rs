//! The settings of a policy.

use std::fmt;
use std::sync::Arc;

use crate::client::{AllowedScopes, LoopbackPorts, ResponseTypes};

use super::extensions::Declared;

/// The settings of a [`Policy`](super::Policy), without its checks.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) redirect_uri_required: bool,
    pub(super) loopback_ports: LoopbackPorts,
    pub(super) request_objects: RequestObjects,
    pub(super) pushed_required: bool,
    pub(super) signed_required: bool,
    pub(super) response_types: ResponseTypes,
    pub(super) scope_required: bool,
    pub(super) scope_excess: ScopeExcess,
    pub(super) unlisted_scopes: Option<AllowedScopes>,
    pub(super) supported_scopes: Option<AllowedScopes>,
    pub(super) scope_matcher: Option<Arc<dyn ScopeMatcher>>,
    pub(super) pkce: Pkce,
    pub(super) plain_pkce: bool,
    pub(super) resources: Option<Box<[Box<str>]>>,
    pub(super) resource_required: bool,
    pub(super) declared: Option<Declared>,
    pub(super) openid: bool,
    pub(super) authorization_details_types: Option<Box<[Box<str>]>>,
    pub(super) dpop_jkt_required: bool,
    pub(super) redirect_errors: RedirectErrors,
    pub(super) issuer: Option<Box<str>>,
    pub(super) error_uri: Option<Box<str>>,
    pub(super) detailed_errors: bool,
    pub(super) unknown_clients: UnknownClients,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            redirect_uri_required: false,
            loopback_ports: LoopbackPorts::Any,
            request_objects: RequestObjects::Refuse,
            pushed_required: false,
            signed_required: false,
            response_types: ResponseTypes::CODE,
            scope_required: false,
            scope_excess: ScopeExcess::Reject,
            unlisted_scopes: None,
            supported_scopes: None,
            scope_matcher: None,
            pkce: Pkce::RequiredForPublicClients,
            plain_pkce: false,
            resources: None,
            resource_required: false,
            declared: None,
            openid: false,
            authorization_details_types: None,
            dpop_jkt_required: false,
            redirect_errors: RedirectErrors::Vouched,
            issuer: None,
            error_uri: None,
            detailed_errors: false,
            unknown_clients: UnknownClients::Refuse,
        }
    }
}

/// What happens to `request` and `request_uri` (RFC 9101) that the server does not read itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestObjects {
    /// They are refused with `request_not_supported` or `request_uri_not_supported` (the default).
    #[default]
    Refuse,
    /// They are left to the inner service, which must check the parameters inside them itself.
    ///
    /// Every other rule still applies to the parameters beside them, so a request must repeat them outside, as
    /// OpenID Connect Core §6 says; a request that leaves them out, as after a pushed authorization request
    /// (RFC 9126 §4), is refused. A request that has both `request` and `request_uri` is refused too.
    Forward,
}

/// What happens to a request for more scopes than are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeExcess {
    /// It is refused with `invalid_scope` (the default).
    #[default]
    Reject,
    /// It is granted the allowed scopes (RFC 6749 §3.3), and refused with `invalid_scope` if none is left.
    Narrow,
}

/// What a client may have that was registered without a scope list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlistedScopes {
    /// Nothing: its requests must omit `scope` (the default).
    #[default]
    None,
    /// Every scope that the server [supports](crate::PolicyBuilder::supported_scopes), also where the request omits
    /// `scope`. If the server supports any scope, the client may request any, and gets none where it omits `scope`.
    Supported,
    /// These scopes, separated by spaces, also where the request omits `scope`; `*` allows every scope.
    Listed(Box<str>),
}

impl From<&str> for UnlistedScopes {
    fn from(scopes: &str) -> Self {
        Self::Listed(scopes.into())
    }
}

impl From<String> for UnlistedScopes {
    fn from(scopes: String) -> Self {
        Self::Listed(scopes.into())
    }
}

/// Which clients must use PKCE (RFC 7636).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pkce {
    /// None. A challenge that is sent must still be valid.
    Optional,
    /// Public clients, and those that offer `none` among other authentication methods (the default; RFC 9700 §2.1.1).
    #[default]
    RequiredForPublicClients,
    /// Every client.
    Required,
}

/// When errors go to a proven redirect URI, rather than to the user (RFC 9700 §4.11.2).
///
/// If errors are redirected at once, without any action of the user, anyone who can register a client can use the
/// server as a redirector to the URI of that client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectErrors {
    /// At once, for every client.
    Always,
    /// At once for clients that the operator configured or [trusts](crate::Client::is_trusted) (the default).
    ///
    /// For other [dynamic](crate::Client::is_dynamic) clients, a browser gets a page that names the host of the
    /// redirect URI and has a link to continue there with the error. Any other user agent gets the error directly, as JSON.
    #[default]
    Vouched,
    /// Never: the user agent gets every error.
    Never,
}

/// What happens to requests of unknown clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownClients {
    /// They are refused with 400 `invalid_client` (the default).
    #[default]
    Refuse,
    /// **Insecure** unless the inner service does all the work: the request reaches it unchecked, with an
    /// `UnregisteredClient` extension instead of a [`ValidatedRequest`](crate::ValidatedRequest).
    ///
    /// Only the form of `client_id` was checked. The inner service must find out whether the client exists,
    /// whether the redirect URI belongs to it **before it redirects anything there**, and whether repeated
    /// parameters, response type, scope, PKCE and resource are valid; for instance by registering the client and
    /// then calling [`Validator::validate`](crate::Validator::validate).
    Forward,
}

/// How a requested scope is compared with an allowed one. Closures implement it.
///
/// It is called for each pair until one matches, so its cost grows with both lists.
///
/// ```
/// use tower_oauth_client_validation::Policy;
///
/// // `files` allows `files:read` and `files:write`.
/// let policy = Policy::oauth2().scope_matcher(|allowed: &str, requested: &str| {
///     requested.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
/// });
/// # policy.build().unwrap();
/// ```
pub trait ScopeMatcher: Send + Sync {
    /// Whether `allowed` covers `requested`. Neither is `*`.
    fn matches(&self, allowed: &str, requested: &str) -> bool;
}

impl<F> ScopeMatcher for F
where
    F: Fn(&str, &str) -> bool + Send + Sync,
{
    fn matches(&self, allowed: &str, requested: &str) -> bool {
        self(allowed, requested)
    }
}

impl fmt::Debug for dyn ScopeMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeMatcher")
    }
}
