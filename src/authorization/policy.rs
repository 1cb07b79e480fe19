//! What the authorization server asks of requests.

use std::fmt;
use std::sync::Arc;

use crate::client::{AllowedScopes, LoopbackPorts, ResponseTypes, Scope};

use super::{AuthorizationError, ValidatedRequest};

/// What the authorization server asks of requests, beyond the rules that no server may relax.
///
/// Begins with a preset, and every method changes one thing:
///
/// | preset | is |
/// |---|---|
/// | [`Policy::oauth2`] (default) | the defaults that the methods name |
/// | [`Policy::oauth21`] | PKCE required, `S256` only, response type `code` only |
/// | [`Policy::mcp`] | `oauth21` for MCP servers: `resource` is taken from everyone and checked where a set is given |
///
/// ```
/// use tower_oauth_client_validation::{Pkce, Policy};
///
/// let policy = Policy::oauth2().pkce(Pkce::RequiredForPublicClients).issuer("https://login.example");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(super) redirect_uri_required: bool,
    pub(super) loopback_ports: LoopbackPorts,
    pub(super) request_objects: RequestObjects,
    pub(super) response_types: ResponseTypes,
    pub(super) scope_required: bool,
    pub(super) scope_excess: ScopeExcess,
    pub(super) unlisted_scopes: Option<AllowedScopes>,
    pub(super) supported_scopes: Option<AllowedScopes>,
    pub(super) scope_matcher: Option<Arc<dyn ScopeMatcher>>,
    pub(super) pkce: Pkce,
    pub(super) plain_pkce: bool,
    pub(super) resources: Option<Arc<[String]>>,
    pub(super) resource_required: bool,
    pub(super) checks: Vec<Arc<dyn RequestCheck>>,
    pub(super) redirect_errors: RedirectErrors,
    pub(super) issuer: Option<Arc<str>>,
    pub(super) error_uri: Option<Arc<str>>,
    pub(super) detailed_errors: bool,
    pub(super) unknown_clients: UnknownClients,
}

impl Policy {
    /// The defaults: response type `code`, PKCE checked where it is used (`S256` only), scopes bounded by
    /// the client, redirect errors always redirected, unknown clients refused.
    pub fn oauth2() -> Self {
        Self {
            redirect_uri_required: false,
            loopback_ports: LoopbackPorts::default(),
            request_objects: RequestObjects::default(),
            response_types: ResponseTypes::CODE,
            scope_required: false,
            scope_excess: ScopeExcess::default(),
            unlisted_scopes: None,
            supported_scopes: None,
            scope_matcher: None,
            pkce: Pkce::default(),
            plain_pkce: false,
            resources: None,
            resource_required: false,
            checks: Vec::new(),
            redirect_errors: RedirectErrors::default(),
            issuer: None,
            error_uri: None,
            detailed_errors: false,
            unknown_clients: UnknownClients::default(),
        }
    }

    /// OAuth 2.1: PKCE required, `S256` only, response type `code` only.
    pub fn oauth21() -> Self {
        Self { pkce: Pkce::Required, ..Self::oauth2() }
    }

    /// OAuth 2.1 as the authorization specification of the Model Context Protocol asks for it. Client ID Metadata
    /// Documents must then have a `client_name`, which is a setting of their source.
    pub fn mcp() -> Self {
        Self::oauth21()
    }

    /// Whether `redirect_uri` must be there even when the client registered just one (default: no;
    /// RFC 6749 §3.1.2.3).
    pub fn redirect_uri_required(mut self, required: bool) -> Self {
        self.redirect_uri_required = required;
        self
    }

    /// Which loopback redirect URIs match with any port (default: [`LoopbackPorts::Any`]).
    pub fn loopback_ports(mut self, loopback_ports: LoopbackPorts) -> Self {
        self.loopback_ports = loopback_ports;
        self
    }

    /// What becomes of `request` and `request_uri` (default: [`RequestObjects::Refuse`]).
    pub fn request_objects(mut self, request_objects: RequestObjects) -> Self {
        self.request_objects = request_objects;
        self
    }

    /// The response types that the server supports (default: `code`).
    pub fn response_types(mut self, response_types: ResponseTypes) -> Self {
        self.response_types = response_types;
        self
    }

    /// Whether a request without `scope` is refused (default: no; it gets the client's default scopes).
    pub fn scope_required(mut self, required: bool) -> Self {
        self.scope_required = required;
        self
    }

    /// What becomes of a request that asks for more scopes than allowed (default: [`ScopeExcess::Reject`]).
    pub fn scope_excess(mut self, scope_excess: ScopeExcess) -> Self {
        self.scope_excess = scope_excess;
        self
    }

    /// What a client that was registered without a scope list may ask for (default: nothing; its requests
    /// must leave `scope` out).
    pub fn unlisted_scopes(mut self, scopes: AllowedScopes) -> Self {
        self.unlisted_scopes = Some(match scopes {
            AllowedScopes::All => AllowedScopes::All,
            // A list that holds `*` is none.
            AllowedScopes::Listed(scopes) => AllowedScopes::new(scopes),
        });
        self
    }

    /// The scopes that the server supports (default: any). A scope must be among these and among the
    /// client's.
    pub fn supported_scopes(mut self, scopes: Scope) -> Self {
        self.supported_scopes = Some(AllowedScopes::new(scopes));
        self
    }

    /// How a requested scope is held against an allowed one (default: the same string).
    pub fn scope_matcher(mut self, matcher: impl ScopeMatcher + 'static) -> Self {
        self.scope_matcher = Some(Arc::new(matcher));
        self
    }

    /// Who must use PKCE (default: [`Pkce::Optional`]).
    pub fn pkce(mut self, pkce: Pkce) -> Self {
        self.pkce = pkce;
        self
    }

    /// Whether the challenge method `plain` is taken, also where the method is left out (default: no;
    /// RFC 9700 §2.1.1).
    pub fn plain_pkce(mut self, allowed: bool) -> Self {
        self.plain_pkce = allowed;
        self
    }

    /// The resources that may be named (RFC 8707), compared as strings (default: any).
    pub fn resources<T: Into<String>>(mut self, resources: impl IntoIterator<Item = T>) -> Self {
        self.resources = Some(resources.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a request must name a resource (default: no).
    pub fn resource_required(mut self, required: bool) -> Self {
        self.resource_required = required;
        self
    }

    /// Adds a check of your own. It runs after all others, in the order of adding.
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthorizationError, ErrorCode, Policy, ValidatedRequest};
    ///
    /// let policy = Policy::oauth2().check(|request: &ValidatedRequest| match request.nonce() {
    ///     Some(_) => Ok(()),
    ///     None => Err(AuthorizationError::new(ErrorCode::InvalidRequest, "nonce is required")),
    /// });
    /// ```
    pub fn check(mut self, check: impl RequestCheck + 'static) -> Self {
        self.checks.push(Arc::new(check));
        self
    }

    /// When errors go to the redirect URI (default: [`RedirectErrors::Always`]).
    pub fn redirect_errors(mut self, redirect_errors: RedirectErrors) -> Self {
        self.redirect_errors = redirect_errors;
        self
    }

    /// The issuer identifier, sent as `iss` in every authorization response (default: none is sent;
    /// RFC 9207). Must be the very string that the server's metadata announces.
    pub fn issuer(mut self, issuer: impl AsRef<str>) -> Self {
        self.issuer = Some(issuer.as_ref().into());
        self
    }

    /// A page with more about errors, sent as `error_uri` (default: none).
    ///
    /// # Errors
    ///
    /// When it is no absolute RFC 3986 URI.
    pub fn error_uri(mut self, uri: impl AsRef<str>) -> Result<Self, PolicyError> {
        fluent_uri::Uri::parse(uri.as_ref()).map_err(|_| PolicyError::ErrorUri)?;
        self.error_uri = Some(uri.as_ref().into());
        Ok(self)
    }

    /// Whether answers tell what exactly is wrong, such as in what the nearest registered redirect URI
    /// differs (default: no). For development: it tells strangers how clients are registered.
    pub fn insecure_detailed_errors(mut self, detailed: bool) -> Self {
        self.detailed_errors = detailed;
        self
    }

    /// What becomes of requests of unknown clients (default: [`UnknownClients::Refuse`]).
    pub fn unknown_clients(mut self, unknown_clients: UnknownClients) -> Self {
        self.unknown_clients = unknown_clients;
        self
    }

    pub(crate) fn forwards_unknown_clients(&self) -> bool {
        self.unknown_clients == UnknownClients::Forward
    }

    /// What the server's metadata tells clients about this policy.
    pub(crate) fn announced(&self) -> Announced<'_> {
        Announced {
            issuer: self.issuer.as_deref(),
            response_types: self.response_types,
            scopes: match &self.supported_scopes {
                Some(AllowedScopes::Listed(scopes)) => Some(scopes),
                Some(AllowedScopes::All) | None => None,
            },
            plain_pkce: self.plain_pkce,
            refuses_request_objects: self.request_objects == RequestObjects::Refuse,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::oauth2()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("redirect_uri_required", &self.redirect_uri_required)
            .field("loopback_ports", &self.loopback_ports)
            .field("request_objects", &self.request_objects)
            .field("response_types", &self.response_types)
            .field("scope_required", &self.scope_required)
            .field("scope_excess", &self.scope_excess)
            .field("unlisted_scopes", &self.unlisted_scopes)
            .field("supported_scopes", &self.supported_scopes)
            .field("pkce", &self.pkce)
            .field("plain_pkce", &self.plain_pkce)
            .field("resources", &self.resources)
            .field("resource_required", &self.resource_required)
            .field("checks", &self.checks.len())
            .field("redirect_errors", &self.redirect_errors)
            .field("issuer", &self.issuer)
            .field("error_uri", &self.error_uri)
            .field("detailed_errors", &self.detailed_errors)
            .field("unknown_clients", &self.unknown_clients)
            .finish_non_exhaustive()
    }
}

/// See [`Policy::announced`].
pub(crate) struct Announced<'a> {
    pub(crate) issuer: Option<&'a str>,
    pub(crate) response_types: ResponseTypes,
    pub(crate) scopes: Option<&'a Scope>,
    pub(crate) plain_pkce: bool,
    pub(crate) refuses_request_objects: bool,
}

/// A policy that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// The `error_uri` is no absolute URI.
    ErrorUri,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorUri => f.write_str("error_uri: must be an absolute URI"),
        }
    }
}

impl std::error::Error for PolicyError {}

/// What becomes of `request` and `request_uri` (RFC 9101).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestObjects {
    /// Refused with `request_not_supported` or `request_uri_not_supported` (the default).
    #[default]
    Refuse,
    /// Left to the inner service. The parameters beside it are still checked by every other rule, so a request
    /// must repeat them outside, as OpenID Connect Core §6 has it; one that leaves them out, as after a pushed
    /// authorization request (RFC 9126 §4), is refused. Those inside are not seen, and the inner service must
    /// check them itself. A request that has both is refused all the same.
    Forward,
}

/// What becomes of a request that asks for more scopes than allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeExcess {
    /// `invalid_scope` (the default).
    #[default]
    Reject,
    /// It gets those that are allowed (RFC 6749 §3.3); `invalid_scope` when none is left.
    Narrow,
}

/// Who must use PKCE (RFC 7636).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pkce {
    /// Nobody (the default); a challenge that is there must be right all the same.
    #[default]
    Optional,
    /// Public clients (RFC 9700 §2.1.1).
    RequiredForPublicClients,
    /// Everybody.
    Required,
}

/// When errors go to a proven redirect URI, rather than to the user (RFC 9700 §4.11.2).
///
/// Redirecting an error at once, without the user doing anything, lets whoever can register a client use
/// the server as a redirector to the URI of that client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectErrors {
    /// Always (the default).
    #[default]
    Always,
    /// Only to clients that are [trusted](crate::Client::is_trusted).
    TrustedClients,
    /// Never.
    Never,
}

/// What becomes of requests of unknown clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownClients {
    /// 400 `invalid_client` (the default).
    #[default]
    Refuse,
    /// **Insecure** unless the inner service does the whole work: the request reaches it unchecked, with an
    /// `UnregisteredClient` extension instead of a [`ValidatedRequest`].
    ///
    /// Nothing but the form of `client_id` was looked at. The inner service must find out whether the client
    /// exists, whether the redirect URI is its own **before it redirects anything to it**, and whether
    /// repeated parameters, response type, scope, PKCE and resource are in order; for instance by registering
    /// the client and then asking [`Validator::validate`](crate::Validator::validate).
    Forward,
}

/// A check of your own, run on requests that passed all others.
///
/// It can only accept, or answer with an error that goes to the proven redirect URI. Closures implement it.
pub trait RequestCheck: Send + Sync {
    /// Judges the request.
    ///
    /// # Errors
    ///
    /// The error that the client gets.
    fn check(&self, request: &ValidatedRequest) -> Result<(), AuthorizationError>;
}

impl<F> RequestCheck for F
where
    F: Fn(&ValidatedRequest) -> Result<(), AuthorizationError> + Send + Sync,
{
    fn check(&self, request: &ValidatedRequest) -> Result<(), AuthorizationError> {
        self(request)
    }
}

/// How a requested scope is held against an allowed one. Closures implement it.
///
/// It is asked for each pair until one matches, so its cost grows with both lists.
///
/// ```
/// use tower_oauth_client_validation::Policy;
///
/// // `files` allows `files:read` and `files:write`.
/// let policy = Policy::oauth2().scope_matcher(|allowed: &str, requested: &str| {
///     requested.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
/// });
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
