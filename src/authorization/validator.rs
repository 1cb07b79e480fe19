//! The rules for authorization requests, in their order.

use std::sync::Arc;
use std::time::SystemTime;

use crate::client::{Client, ClientKind, ClientStatus, ResponseType, is_client_id};

use super::arrival::Arrival;
use super::extensions::Extensions;
use super::policy::Policy;
use super::proven::ProvenRequest;
use super::reason::Reason;
use super::rejection::Rejection;
use super::request::{AuthorizationRequest, Parameter, names_parameter};
use super::resource;
use super::response_mode::ResponseMode;
use super::rules::{Pkce, RequestObjects, Rules};
use super::scope::{GrantedScope, grant_scope};
use super::validated::ValidatedRequest;
use super::{authorization_details, dpop, openid};

/// Decides about authorization requests by a [`Policy`]. Pure: no I/O, no HTTP, nothing async. Cheap to clone.
///
/// The layer uses it, and so can a pushed authorization request endpoint, another framework, or a test.
///
/// # Order
///
/// The first check that fails decides:
///
/// 1. `client_id` is present, once, in printable ASCII. See [`Validator::client_id`].
/// 2. (The caller asks its registry for the client.)
/// 3. The client exists and is not disabled, revoked or expired.
/// 4. `redirect_uri` is one of the client's, or left out if the client has only one (RFC 6749 §3.1.2.3).
/// 5. No other parameter is repeated or undecodable (RFC 6749 §3.1); `state` and `nonce` contain no control character.
/// 6. `request` and `request_uri` are absent, unless the policy forwards them, and the request was pushed or signed where
///    the policy or the client requires it (RFC 9101, RFC 9126).
/// 7. `response_type` is present, supported, and registered for the client, with the grant that it needs.
/// 8. `response_mode` is known, and not `query` for a response that carries a token.
/// 9. `scope` follows the grammar and is allowed (RFC 6749 §3.3).
/// 10. PKCE is present where it is required, and valid where it is present (RFC 7636).
/// 11. `resource` is an absolute URI without fragment, and one of the server's (RFC 8707).
///     Then the rules for extension parameters (row 11a), where the policy declares them: those of
///     [OpenID Connect](crate::PolicyBuilder::openid), `authorization_details` (RFC 9396) and `dpop_jkt` (RFC 9449 §10).
/// 12. The [checks](crate::PolicyBuilder::check) that were added to the policy.
///
/// Failures of checks 1 to 4 go to the user agent. Later ones go to the redirect URI, as [`RedirectErrors`](crate::RedirectErrors)
/// says.
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{AuthorizationRequest, Client, Delivery, Validator};
///
/// let client = Arc::new(Client::builder("app").confidential().redirect_uri("https://app.example/cb").scope("read").build()?);
/// let validator = Validator::default();
/// let judge = |query: &str| {
///     validator.validate(AuthorizationRequest::parse(query.as_bytes(), b""), Some(client.clone()))
/// };
///
/// let accepted = judge("client_id=app&response_type=code&scope=read").unwrap();
/// assert_eq!(accepted.redirect_uri(), "https://app.example/cb");
///
/// let refused = judge("client_id=app&response_type=code&redirect_uri=https://evil.example/cb").unwrap_err();
/// assert_eq!(refused.delivery(), Delivery::Direct);
///
/// let refused = judge("client_id=app&response_type=code&scope=write").unwrap_err();
/// assert_eq!(refused.delivery(), Delivery::Redirect);
/// assert_eq!(refused.error().as_str(), "invalid_scope");
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Validator {
    policy: Policy,
}

impl Validator {
    /// A validator for this policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Reads the parameters of a request, like [`AuthorizationRequest::parse`], and also those that the policy
    /// [declares](crate::PolicyBuilder::parameters).
    ///
    /// A request for a policy that declares parameters must be read with this method. The validator refuses any other as
    /// a fault of the server (`server_error`), because it cannot know what the request asks for.
    #[must_use]
    pub fn parse(&self, query: &[u8], body: &[u8]) -> AuthorizationRequest {
        AuthorizationRequest::read(query, body, self.policy.rules.declared.as_ref(), None)
    }

    /// Reads parameters that did not come from the user agent.
    pub(crate) fn parse_arrived(&self, form: &[u8], arrival: Arrival) -> AuthorizationRequest {
        AuthorizationRequest::read(form, b"", self.policy.rules.declared.as_ref(), Some(Box::new(arrival)))
    }

    /// Whether a form names a recognized or declared parameter, with or without a value.
    #[cfg_attr(not(feature = "pushed-requests"), expect(dead_code))]
    pub(crate) fn names_parameter(&self, form: &[u8]) -> bool {
        let declared = self.policy.rules.declared.as_ref();
        names_parameter(form) || declared.is_some_and(|declared| Extensions::new(declared).read(form))
    }

    /// The id to ask the registry for (row 1).
    ///
    /// # Errors
    ///
    /// If it is missing, repeated, undecodable, or contains a character that is not printable ASCII, or if query and
    /// body both name parameters.
    pub fn client_id<'r>(&self, request: &'r AuthorizationRequest) -> Result<&'r str, Rejection> {
        client_id(request, &self.policy.rules).map_err(|reason| self.direct(reason, Some(request.clone())))
    }

    /// A rejection for the user agent, for failures outside of the validator, such as a registry that does not answer.
    #[must_use]
    pub fn direct(&self, reason: Reason, request: Option<AuthorizationRequest>) -> Rejection {
        Rejection::direct(reason, &self.policy.rules, request, None)
    }

    /// Rows 1 and 3, for a request whose parameters must be fetched before the other rows.
    pub(crate) fn check_client(
        &self,
        request: &AuthorizationRequest,
        client: Option<Arc<Client>>,
    ) -> Result<Arc<Client>, Rejection> {
        check_client(request, client, &self.policy.rules, SystemTime::now)
            .map_err(|reason| self.direct(reason, Some(request.clone())))
    }

    /// Judges a request, with the client that the registry found for [`Validator::client_id`].
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn validate(
        &self,
        request: AuthorizationRequest,
        client: Option<Arc<Client>>,
    ) -> Result<ValidatedRequest, Rejection> {
        self.validate_with_clock(request, client, SystemTime::now)
    }

    /// Like [`Validator::validate`], at another time than now.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn validate_at(
        &self,
        request: AuthorizationRequest,
        client: Option<Arc<Client>>,
        now: SystemTime,
    ) -> Result<ValidatedRequest, Rejection> {
        self.validate_with_clock(request, client, || now)
    }

    fn validate_with_clock(
        &self,
        request: AuthorizationRequest,
        client: Option<Arc<Client>>,
        now: impl FnOnce() -> SystemTime,
    ) -> Result<ValidatedRequest, Rejection> {
        let client = match check_client(&request, client, &self.policy.rules, now) {
            Ok(client) => client,
            Err(reason) => return Err(self.direct(reason, Some(request))),
        };
        let proven =
            ProvenRequest::prove(request, client, &self.policy.rules).map_err(|(reason, request, client)| {
                Rejection::direct(reason, &self.policy.rules, Some(request), Some(client))
            })?;
        match check_proven(&proven) {
            Ok(accepted) => self.run_checks(accepted.attach(proven)),
            Err(reason) => {
                let mode = proven.error_mode();
                Err(Rejection::of_proven(reason, reason.to_error(), proven, mode))
            }
        }
    }

    /// Row 12.
    fn run_checks(&self, validated: ValidatedRequest) -> Result<ValidatedRequest, Rejection> {
        for check in &*self.policy.checks {
            if let Err(error) = check.check(&validated) {
                return Err(validated.refuse(Reason::CHECK, error));
            }
        }
        Ok(validated)
    }
}

/// Row 1.
fn client_id<'r>(request: &'r AuthorizationRequest, rules: &Rules) -> Result<&'r str, Reason> {
    check_read(request, rules)?;
    if let Some(fault) = request.fault(Parameter::ClientId) {
        return Err(Reason::of_fault(fault));
    }
    let id = request.get(Parameter::ClientId).ok_or(Reason::CLIENT_ID_MISSING)?;
    if is_client_id(id) { Ok(id) } else { Err(Reason::CLIENT_ID_CHARACTER) }
}

fn check_read(request: &AuthorizationRequest, rules: &Rules) -> Result<(), Reason> {
    if rules.declared.as_ref().is_some_and(|declared| !request.covers(declared)) {
        return Err(Reason::EXTENSIONS_NOT_READ);
    }
    if request.is_split() { Err(Reason::SPLIT_PARAMETERS) } else { Ok(()) }
}

/// Rows 1 and 3, and that the client is the one that was asked for.
fn check_client(
    request: &AuthorizationRequest,
    client: Option<Arc<Client>>,
    rules: &Rules,
    now: impl FnOnce() -> SystemTime,
) -> Result<Arc<Client>, Reason> {
    match client {
        // A client has a legal id, so it is not checked again.
        Some(client) if request.get(Parameter::ClientId) == Some(client.id()) => {
            check_read(request, rules)?;
            check_status(&client, now)?;
            Ok(client)
        }
        Some(_) => Err(client_id(request, rules).err().unwrap_or(Reason::CLIENT_ID_MISMATCH)),
        None => Err(client_id(request, rules).err().unwrap_or(Reason::CLIENT_UNKNOWN)),
    }
}

fn check_status(client: &Client, now: impl FnOnce() -> SystemTime) -> Result<(), Reason> {
    match client.status() {
        ClientStatus::Disabled => Err(Reason::CLIENT_DISABLED),
        ClientStatus::Revoked => Err(Reason::CLIENT_REVOKED),
        // Reads the clock only if the registration can expire.
        ClientStatus::Active if client.expires_at().is_some() && client.is_expired_at(now()) => {
            Err(Reason::CLIENT_EXPIRED)
        }
        ClientStatus::Active => Ok(()),
    }
}

struct Findings {
    response_type: ResponseType,
    response_mode: ResponseMode,
    scope: GrantedScope,
}

impl Findings {
    fn attach(self, proven: ProvenRequest) -> ValidatedRequest {
        ValidatedRequest::new(proven, self.response_type, self.response_mode, self.scope)
    }
}

/// Rows 5 to 11a.
fn check_proven(proven: &ProvenRequest) -> Result<Findings, Reason> {
    let (request, client, rules) = (proven.request(), proven.client(), proven.rules());
    check_parameters(request)?;
    check_request_objects(request, rules)?;
    check_arrival(request, client, rules)?;
    let response_type = check_response_type(request, client, rules)?;
    let response_mode = check_response_mode(request, response_type)?;
    let scope = grant_scope(request, client, rules)?;
    check_pkce(request, client, rules)?;
    check_resources(request, rules)?;
    if rules.declared.is_some() {
        check_extensions(request, client, rules, response_type, scope.as_str(request))?;
    }
    Ok(Findings { response_type, response_mode, scope })
}

/// Row 5.
fn check_parameters(request: &AuthorizationRequest) -> Result<(), Reason> {
    let fault = request.first_fault().map(|(_, fault)| fault);
    match fault.or_else(|| request.first_extension_fault().map(|(_, fault)| fault)) {
        None => Ok(()),
        Some(fault) => Err(Reason::of_fault(fault)),
    }
}

/// Row 6. Both at once are refused even where each would be forwarded (RFC 9101 §5).
fn check_request_objects(request: &AuthorizationRequest, rules: &Rules) -> Result<(), Reason> {
    let object = request.get(Parameter::Request).is_some();
    let uri = request.get(Parameter::RequestUri).is_some();
    match (object, uri, rules.request_objects) {
        (false, false, _) | (true, false, RequestObjects::Forward) | (false, true, RequestObjects::Forward) => Ok(()),
        (true, _, _) => Err(Reason::REQUEST_OBJECT),
        (false, true, _) => Err(Reason::REQUEST_URI),
    }
}

/// Row 6, continued (RFC 9126 §5 and §6, RFC 9101 §10.5).
fn check_arrival(request: &AuthorizationRequest, client: &Client, rules: &Rules) -> Result<(), Reason> {
    let pushed_required = rules.pushed_required || client.require_pushed_authorization_requests();
    if pushed_required && !request.is_pushed() {
        return Err(Reason::PUSHED_REQUEST_REQUIRED);
    }
    let signed_required = rules.signed_required || client.require_signed_request_object();
    if signed_required && !request.is_signed() {
        return Err(Reason::SIGNED_REQUEST_REQUIRED);
    }
    Ok(())
}

/// Row 7.
fn check_response_type(request: &AuthorizationRequest, client: &Client, rules: &Rules) -> Result<ResponseType, Reason> {
    let value = request.get(Parameter::ResponseType).ok_or(Reason::RESPONSE_TYPE_MISSING)?;
    let response_type = ResponseType::parse(value)
        .filter(|response_type| rules.response_types.contains(*response_type))
        .ok_or(Reason::RESPONSE_TYPE_UNSUPPORTED)?;
    if !client.response_types().contains(response_type) {
        return Err(Reason::RESPONSE_TYPE_NOT_REGISTERED);
    }
    if !client.grant_types().contains(response_type.required_grant_types()) {
        return Err(Reason::GRANT_TYPE_NOT_REGISTERED);
    }
    Ok(response_type)
}

/// Row 8 (OAuth 2.0 Multiple Response Type Encoding Practices §2.1, §5).
fn check_response_mode(request: &AuthorizationRequest, response_type: ResponseType) -> Result<ResponseMode, Reason> {
    let carries_token = response_type.carries_token();
    let Some(value) = request.get(Parameter::ResponseMode) else {
        return Ok(ResponseMode::default_for(carries_token));
    };
    let mode = ResponseMode::parse(value).ok_or(Reason::RESPONSE_MODE_UNKNOWN)?;
    if mode.suits(carries_token) { Ok(mode) } else { Err(Reason::RESPONSE_MODE_QUERY) }
}

/// Row 10 (RFC 7636 §4.2, §4.3, §4.4.1).
fn check_pkce(request: &AuthorizationRequest, client: &Client, rules: &Rules) -> Result<(), Reason> {
    let method = request.get(Parameter::CodeChallengeMethod);
    let Some(challenge) = request.get(Parameter::CodeChallenge) else {
        if method.is_some() {
            return Err(Reason::CODE_CHALLENGE_METHOD_ALONE);
        }
        let required = match rules.pkce {
            Pkce::Optional => false,
            Pkce::RequiredForPublicClients => client.kind() == ClientKind::Public || client.offers_none(),
            Pkce::Required => true,
        };
        return if required { Err(Reason::CODE_CHALLENGE_MISSING) } else { Ok(()) };
    };
    // `unreserved`, RFC 3986 §2.3.
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    // Branch-free: faster than returning early on so few bytes.
    let all_unreserved = || challenge.bytes().fold(true, |all, byte| all & is_unreserved(byte));
    if !(43..=128).contains(&challenge.len()) || !all_unreserved() {
        return Err(Reason::CODE_CHALLENGE_MALFORMED);
    }
    match method {
        Some("S256") => Ok(()),
        Some("plain") | None if rules.plain_pkce => Ok(()),
        Some(_) | None => Err(Reason::CODE_CHALLENGE_METHOD),
    }
}

/// Row 11 (RFC 8707 §2).
fn check_resources(request: &AuthorizationRequest, rules: &Rules) -> Result<(), Reason> {
    let mut none = true;
    for resource in request.resources() {
        none = false;
        if !resource::is_resource(resource) {
            return Err(Reason::RESOURCE_MALFORMED);
        }
        if rules.resources.as_ref().is_some_and(|set| resource::find(set, resource).is_none()) {
            return Err(Reason::RESOURCE_NOT_ALLOWED);
        }
    }
    if none && rules.resource_required { Err(Reason::RESOURCE_MISSING) } else { Ok(()) }
}

/// Row 11a.
fn check_extensions(
    request: &AuthorizationRequest,
    client: &Client,
    rules: &Rules,
    response_type: ResponseType,
    scope: &str,
) -> Result<(), Reason> {
    if rules.openid {
        openid::check(request, response_type, scope)?;
    }
    authorization_details::check(request, client, rules)?;
    dpop::check(request, client, rules)
}
