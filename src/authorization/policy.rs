//! What the authorization server requires of requests.

use std::fmt;
use std::sync::Arc;

use crate::client::{
    AllowedScopes, LoopbackPorts, RedirectUri, RedirectUriError, ResponseTypes, Scope, ScopeError, tokens,
};

use super::authorization_details::AUTHORIZATION_DETAILS;
use super::dpop::DPOP_JKT;
use super::error::AuthorizationError;
use super::extensions::can_be_declared;
use super::openid;
use super::resource::is_resource;
use super::rules::{
    Pkce, RedirectErrors, RequestObjects, Rules, ScopeExcess, ScopeMatcher, UnknownClients, UnlistedScopes,
};
use super::validated::ValidatedRequest;

/// What the authorization server requires of requests, beyond the rules that no server may relax. Cheap to clone.
///
/// Start with a preset, change what differs, and build it:
///
/// | preset | requires |
/// |---|---|
/// | [`Policy::oauth2`] | RFC 6749 as it stands: PKCE is optional |
/// | [`Policy::rfc9700`] (default) | the same with PKCE for public clients, as RFC 9700 §2.1.1 demands |
/// | [`Policy::oauth21`] | PKCE with `S256`, response type `code` |
/// | [`Policy::mcp`] | the same, for MCP servers: `resource` is accepted from everyone and checked where a set is given |
///
/// ```
/// use tower_oauth_client_validation::{Pkce, Policy};
///
/// let policy = Policy::rfc9700().issuer("https://login.example").pkce(Pkce::Required).build()?;
/// # Ok::<(), tower_oauth_client_validation::PolicyError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(super) rules: Arc<Rules>,
    pub(super) checks: Arc<[Arc<dyn RequestCheck>]>,
}

impl Policy {
    /// RFC 6749 as it stands: response type `code`, PKCE checked only where it is used (`S256`), scopes bounded by
    /// the client, unknown clients refused.
    pub fn oauth2() -> PolicyBuilder {
        Self::rfc9700().pkce(Pkce::Optional)
    }

    /// Today's best practice (RFC 9700) and the default of the crate: [`Policy::oauth2`], with PKCE required of public
    /// clients.
    pub fn rfc9700() -> PolicyBuilder {
        PolicyBuilder {
            rules: Rules::default(),
            declared: Vec::new(),
            unlisted_scopes: UnlistedScopes::None,
            checks: Vec::new(),
            wrong: None,
        }
    }

    /// OAuth 2.1: PKCE required, `S256` only, response type `code` only.
    pub fn oauth21() -> PolicyBuilder {
        Self::rfc9700().pkce(Pkce::Required)
    }

    /// OAuth 2.1 as the authorization specification of the Model Context Protocol requires it. Client ID Metadata
    /// Documents must then have a `client_name`, which is a setting of their source.
    pub fn mcp() -> PolicyBuilder {
        Self::oauth21()
    }

    pub(crate) fn forwards_unknown_clients(&self) -> bool {
        self.rules.unknown_clients == UnknownClients::Forward
    }

    #[cfg(feature = "sealed-requests")]
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.rules.issuer.as_deref()
    }

    /// What the server's metadata tells clients about this policy.
    pub(crate) fn announced(&self) -> Announced<'_> {
        let rules = &*self.rules;
        Announced {
            issuer: rules.issuer.as_deref(),
            response_types: rules.response_types,
            scopes: match &rules.supported_scopes {
                Some(AllowedScopes::Listed(scopes)) => Some(scopes),
                Some(AllowedScopes::All) | None => None,
            },
            plain_pkce: rules.plain_pkce,
            openid: rules.openid,
            authorization_details_types: rules.authorization_details_types.as_deref(),
            refuses_request_objects: rules.request_objects == RequestObjects::Refuse,
            requires_pushed_requests: rules.pushed_required,
            requires_signed_requests: rules.signed_required,
        }
    }
}

/// See [`Policy::announced`].
pub(crate) struct Announced<'a> {
    pub(crate) issuer: Option<&'a str>,
    pub(crate) response_types: ResponseTypes,
    pub(crate) scopes: Option<&'a Scope>,
    pub(crate) plain_pkce: bool,
    pub(crate) openid: bool,
    pub(crate) authorization_details_types: Option<&'a [Box<str>]>,
    pub(crate) refuses_request_objects: bool,
    pub(crate) requires_pushed_requests: bool,
    pub(crate) requires_signed_requests: bool,
}

/// Builds a [`Policy`]. Nothing fails before [`PolicyBuilder::build`].
#[derive(Clone, Debug)]
#[must_use = "a policy must be built"]
pub struct PolicyBuilder {
    rules: Rules,
    /// Without repeats.
    declared: Vec<Box<str>>,
    unlisted_scopes: UnlistedScopes,
    checks: Vec<Arc<dyn RequestCheck>>,
    /// The first setting that is wrong.
    wrong: Option<PolicyError>,
}

impl PolicyBuilder {
    /// Whether `redirect_uri` is required even of clients that registered only one (default: no;
    /// RFC 6749 §3.1.2.3).
    pub fn redirect_uri_required(mut self, required: bool) -> Self {
        self.rules.redirect_uri_required = required;
        self
    }

    /// Which loopback redirect URIs match with any port (default: [`LoopbackPorts::Any`]).
    pub fn loopback_ports(mut self, loopback_ports: LoopbackPorts) -> Self {
        self.rules.loopback_ports = loopback_ports;
        self
    }

    /// What happens to `request` and `request_uri` that the server does not read itself (default:
    /// [`RequestObjects::Refuse`]).
    pub fn request_objects(mut self, request_objects: RequestObjects) -> Self {
        self.rules.request_objects = request_objects;
        self
    }

    /// Whether every client must push its requests (default: no; RFC 9126 §5). A client can also require it of itself, by
    /// its metadata member `require_pushed_authorization_requests`.
    pub fn require_pushed_requests(mut self, required: bool) -> Self {
        self.rules.pushed_required = required;
        self
    }

    /// Whether every client must sign its requests (default: no; RFC 9101 §10.5). A client can also require it of itself,
    /// by its metadata member `require_signed_request_object`.
    pub fn require_signed_requests(mut self, required: bool) -> Self {
        self.rules.signed_required = required;
        self
    }

    /// The response types that the server supports (default: `code`).
    pub fn response_types(mut self, response_types: ResponseTypes) -> Self {
        self.rules.response_types = response_types;
        self
    }

    /// Whether a request without `scope` is refused (default: no; it is granted the client's default scopes).
    pub fn scope_required(mut self, required: bool) -> Self {
        self.rules.scope_required = required;
        self
    }

    /// What happens to a request for more scopes than are allowed (default: [`ScopeExcess::Reject`]).
    pub fn scope_excess(mut self, scope_excess: ScopeExcess) -> Self {
        self.rules.scope_excess = scope_excess;
        self
    }

    /// What a client without a scope list may have (default: [`UnlistedScopes::None`], so its requests must omit
    /// `scope`). A string names scopes, separated by spaces; `*` allows every scope.
    ///
    /// This is one rule for clients from every source: those that registered without `scope`, metadata documents without
    /// it, and rows without it.
    ///
    /// ```
    /// use tower_oauth_client_validation::{Policy, UnlistedScopes};
    ///
    /// let supported = Policy::mcp().supported_scopes("files:read files:write");
    /// let everyone = supported.clone().unlisted_scopes(UnlistedScopes::Supported).build()?;
    /// let readers = supported.unlisted_scopes("files:read").build()?;
    /// # let _ = (everyone, readers);
    /// # Ok::<(), tower_oauth_client_validation::PolicyError>(())
    /// ```
    pub fn unlisted_scopes(mut self, scopes: impl Into<UnlistedScopes>) -> Self {
        self.unlisted_scopes = scopes.into();
        self
    }

    /// The scopes that the server supports, separated by spaces (default: any). A scope must be among these and
    /// among the client's.
    pub fn supported_scopes(mut self, scopes: impl AsRef<str>) -> Self {
        self.rules.supported_scopes = self.scopes(scopes.as_ref(), PolicyError::SupportedScopes);
        self
    }

    /// How a requested scope is compared with an allowed one (default: as strings).
    pub fn scope_matcher(mut self, matcher: impl ScopeMatcher + 'static) -> Self {
        self.rules.scope_matcher = Some(Arc::new(matcher));
        self
    }

    /// Who must use PKCE (default: [`Pkce::RequiredForPublicClients`]).
    pub fn pkce(mut self, pkce: Pkce) -> Self {
        self.rules.pkce = pkce;
        self
    }

    /// Whether the challenge method `plain` is accepted, also as the meaning of a missing method (default: no;
    /// RFC 9700 §2.1.1).
    pub fn plain_pkce(mut self, allowed: bool) -> Self {
        self.rules.plain_pkce = allowed;
        self
    }

    /// The resources that may be named (RFC 8707), absolute URIs without fragment (default: any).
    ///
    /// Scheme and host are compared without case and an empty path like `/`, the rest byte for byte.
    pub fn resources<T: AsRef<str>>(mut self, resources: impl IntoIterator<Item = T>) -> Self {
        let resources: Box<[Box<str>]> = resources.into_iter().map(|resource| resource.as_ref().into()).collect();
        if let Some(index) = resources.iter().position(|resource| !is_resource(resource)) {
            self.wrong.get_or_insert(PolicyError::Resource { index });
        }
        self.rules.resources = Some(resources);
        self
    }

    /// Whether a request must name a resource (default: no).
    pub fn resource_required(mut self, required: bool) -> Self {
        self.rules.resource_required = required;
        self
    }

    /// Declares extension parameters, beside those that are always read (default: none). Every call adds to them.
    ///
    /// The handler reads them with [`ValidatedRequest::extension`]. They are refused like any other parameter when they
    /// are repeated or undecodable. Parameters that are not declared are ignored.
    ///
    /// `authorization_details` and `dpop_jkt` must also follow their rules, see
    /// [`authorization_details_types`](Self::authorization_details_types) and
    /// [`dpop_jkt_required`](Self::dpop_jkt_required).
    pub fn parameters<T: AsRef<str>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        for (index, name) in names.into_iter().enumerate() {
            let name = name.as_ref();
            if !can_be_declared(name) {
                self.wrong.get_or_insert(PolicyError::Parameter { index });
            }
            if self.declared.iter().all(|declared| **declared != *name) {
                self.declared.push(name.into());
            }
        }
        self
    }

    /// Makes the server an OpenID provider (default: no). A request is refused with `invalid_request` unless
    ///
    /// - `prompt` has only the values of [`Prompt`](crate::Prompt), and `none` is alone,
    /// - `max_age` is a non-negative integer,
    /// - `nonce` is there, and the scope `openid` is granted, where the response type has an ID token
    ///   (OpenID Connect Core §3.2.2.1, §3.3.2.1).
    ///
    /// Declares these [`parameters`](Self::parameters): `prompt`, `max_age`, `claims`, `id_token_hint`, `login_hint`,
    /// `acr_values`, `ui_locales` and `display`. See [`ValidatedRequest::prompts`] and [`ValidatedRequest::max_age`].
    pub fn openid(mut self) -> Self {
        self.rules.openid = true;
        self.parameters(openid::PARAMETERS)
    }

    /// Declares `authorization_details` (RFC 9396), and the types that the server supports (default: not declared).
    ///
    /// The parameter must be a JSON array of objects. The `type` of each must be among these and among the
    /// [`authorization_details_types`](crate::Client::authorization_details_types) of the client. Anything else is refused
    /// with `invalid_authorization_details`. Where only [`parameters`](Self::parameters) declares it, the types of the
    /// client decide alone.
    pub fn authorization_details_types<T: AsRef<str>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.rules.authorization_details_types = Some(types.into_iter().map(|name| name.as_ref().into()).collect());
        self.parameters([AUTHORIZATION_DETAILS])
    }

    /// Declares `dpop_jkt` (RFC 9449 §10), and says whether a client with
    /// [`dpop_bound_access_tokens`](crate::Client::dpop_bound_access_tokens) must send it (default: not declared).
    ///
    /// It must be 43 base64url characters.
    pub fn dpop_jkt_required(mut self, required: bool) -> Self {
        self.rules.dpop_jkt_required = required;
        self.parameters([DPOP_JKT])
    }

    /// Adds a check of your own. Checks run in the order in which they were added, after all rules.
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthorizationError, ErrorCode, Policy, ValidatedRequest};
    ///
    /// let policy = Policy::oauth2().check(|request: &ValidatedRequest| match request.nonce() {
    ///     Some(_) => Ok(()),
    ///     None => Err(AuthorizationError::new(ErrorCode::InvalidRequest, "nonce is required")),
    /// });
    /// # policy.build().unwrap();
    /// ```
    pub fn check(mut self, check: impl RequestCheck + 'static) -> Self {
        self.checks.push(Arc::new(check));
        self
    }

    /// When errors go to the redirect URI (default: [`RedirectErrors::Vouched`]).
    pub fn redirect_errors(mut self, redirect_errors: RedirectErrors) -> Self {
        self.rules.redirect_errors = redirect_errors;
        self
    }

    /// The issuer identifier, sent as `iss` in every authorization response (default: none is sent; RFC 9207).
    ///
    /// It must be the string that the server's metadata announces: an `https` URL without query and fragment
    /// (RFC 8414 §2). `http` is accepted on `localhost`, `127.0.0.1` and `[::1]`.
    pub fn issuer(self, issuer: impl AsRef<str>) -> Self {
        self.issuer_by(RedirectUri::parse, issuer.as_ref())
    }

    /// Like [`issuer`](Self::issuer), but accepts `http` on any host.
    ///
    /// Anyone on the network can then read and change what clients fetch from the server. For development only.
    pub fn insecure_http_issuer(self, issuer: impl AsRef<str>) -> Self {
        self.issuer_by(RedirectUri::insecure_http, issuer.as_ref())
    }

    /// A page about errors, sent as `error_uri` (default: none). It must be an absolute URI (RFC 3986).
    pub fn error_uri(mut self, uri: impl AsRef<str>) -> Self {
        // The grammar leaves only characters that RFC 6749 §4.1.2.1 allows.
        if fluent_uri::Uri::parse(uri.as_ref()).is_err() {
            self.wrong.get_or_insert(PolicyError::ErrorUri);
        }
        self.rules.error_uri = Some(uri.as_ref().into());
        self
    }

    /// Whether answers say exactly what is wrong, such as how the closest registered redirect URI differs
    /// (default: no). For development only: it shows strangers how clients are registered.
    pub fn insecure_detailed_errors(mut self, detailed: bool) -> Self {
        self.rules.detailed_errors = detailed;
        self
    }

    /// What happens to requests of unknown clients (default: [`UnknownClients::Refuse`]).
    pub fn unknown_clients(mut self, unknown_clients: UnknownClients) -> Self {
        self.rules.unknown_clients = unknown_clients;
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// Names the first setting that is wrong.
    ///
    /// ```
    /// use tower_oauth_client_validation::Policy;
    ///
    /// let error = Policy::oauth2().issuer("http://login.example").build().unwrap_err();
    /// assert_eq!(error.to_string(), "issuer: must be an https URL without query and fragment");
    /// ```
    pub fn build(mut self) -> Result<Policy, PolicyError> {
        self.rules.unlisted_scopes = match std::mem::take(&mut self.unlisted_scopes) {
            UnlistedScopes::None => None,
            UnlistedScopes::Supported => Some(self.rules.supported_scopes.clone().unwrap_or(AllowedScopes::All)),
            UnlistedScopes::Listed(scopes) => self.scopes(&scopes, PolicyError::UnlistedScopes),
        };
        self.rules.declared = (!self.declared.is_empty()).then(|| self.declared.into());
        match self.wrong {
            None => Ok(Policy { rules: Arc::new(self.rules), checks: self.checks.into() }),
            Some(error) => Err(error),
        }
    }

    fn scopes(&mut self, scopes: &str, error: fn(ScopeError) -> PolicyError) -> Option<AllowedScopes> {
        match Scope::from_tokens(tokens(scopes)) {
            Ok(scope) => Some(AllowedScopes::new(scope)),
            Err(source) => {
                self.wrong.get_or_insert(error(source));
                None
            }
        }
    }

    /// An issuer obeys the rules for redirect URIs, and has no query.
    fn issuer_by(mut self, parse: fn(&str) -> Result<RedirectUri, RedirectUriError>, issuer: &str) -> Self {
        let is_url = issuer.starts_with("https://") || issuer.starts_with("http://");
        let is_plain = is_url && !issuer.contains(['?', '*']);
        match parse(issuer) {
            Ok(_) if is_plain => {}
            parsed => {
                self.wrong.get_or_insert(PolicyError::Issuer(parsed.err()));
            }
        }
        self.rules.issuer = Some(issuer.into());
        self
    }
}

/// A setting of a [`Policy`] that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// [`PolicyBuilder::issuer`], and the rule for URIs that it breaks, where it breaks one.
    Issuer(Option<RedirectUriError>),
    /// [`PolicyBuilder::error_uri`]
    ErrorUri,
    /// [`PolicyBuilder::parameters`]
    Parameter {
        /// The position of the name.
        index: usize,
    },
    /// [`PolicyBuilder::resources`]
    Resource {
        /// The position of the resource.
        index: usize,
    },
    /// [`PolicyBuilder::supported_scopes`]
    SupportedScopes(ScopeError),
    /// [`PolicyBuilder::unlisted_scopes`]
    UnlistedScopes(ScopeError),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer(_) => f.write_str("issuer: must be an https URL without query and fragment"),
            Self::ErrorUri => f.write_str("error_uri: must be an absolute URI"),
            Self::Parameter { index } => {
                write!(f, "parameters[{index}]: must be the name of a parameter that is not always read")
            }
            Self::Resource { index } => write!(f, "resources[{index}]: must be an absolute URI without fragment"),
            Self::SupportedScopes(_) => f.write_str("supported_scopes: must be scopes separated by spaces"),
            Self::UnlistedScopes(_) => f.write_str("unlisted_scopes: must be scopes separated by spaces"),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Issuer(source) => source.as_ref().map(|source| source as _),
            Self::SupportedScopes(source) | Self::UnlistedScopes(source) => Some(source),
            Self::ErrorUri | Self::Parameter { .. } | Self::Resource { .. } => None,
        }
    }
}

/// A check of your own on requests that passed every rule. Closures implement it.
///
/// It can only accept the request, or refuse it with an error. That error goes to the proven redirect URI or to the
/// user agent, as [`RedirectErrors`] says.
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

impl fmt::Debug for dyn RequestCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestCheck")
    }
}
