//! The order of the checks: the first failure decides.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::client::{
    AllowedScopes, Client, ClientKind, ClientStatus, ResponseType, Scope, is_client_id, is_scope_value, tokens,
};

use super::policy::{Pkce, Policy, RequestObjects, ScopeExcess, ScopeMatcher};
use super::proven::ProvenRequest;
use super::request::{AuthorizationRequest, Parameter, Span};
use super::response::ResponseMode;
use super::validated::GrantedScope;
use super::{DirectError, Reason, Rejection, ValidatedRequest};

/// Decides about authorization requests, by a [`Policy`]. Pure: no I/O, no HTTP, nothing async. Cheap to clone.
///
/// The layer uses it; so can a pushed authorization request endpoint, another framework, or a test.
///
/// # Order
///
/// 1. `client_id` is there, once, in printable ASCII. See [`Validator::client_id`].
/// 2. (The registry is asked for the client; that is the caller's.)
/// 3. The client exists and is not disabled, revoked or expired.
/// 4. `redirect_uri` is one of the client's, or left out where the client has just one (RFC 6749 §3.1.2.3).
/// 5. No other parameter is repeated or undecodable (RFC 6749 §3.1); `state` and `nonce` hold no control character.
/// 6. `request` and `request_uri` are refused unless forwarded (RFC 9101, RFC 9126).
/// 7. `response_type` is there, supported, and registered for the client, with the grant that it needs.
/// 8. `response_mode` is known, and not `query` for a response that carries a token.
/// 9. `scope` follows the grammar and is allowed (RFC 6749 §3.3).
/// 10. PKCE is there where it must be, and in order where it is (RFC 7636).
/// 11. `resource` is an absolute URI without fragment, and one of the server's (RFC 8707).
/// 12. The [checks](Policy::check) that were added.
///
/// Failures up to 4 are [direct](Rejection::Direct), later ones [redirected](Rejection::Redirect).
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{AuthorizationRequest, Client, Policy, Rejection, Validator};
///
/// let client = Arc::new(Client::builder("app").redirect_uri("https://app.example/cb").scope("read").build()?);
/// let validator = Validator::new(Policy::oauth2());
/// let judge = |query: &str| {
///     validator.validate(AuthorizationRequest::parse(query.as_bytes(), b""), Some(client.clone()))
/// };
///
/// let accepted = judge("client_id=app&response_type=code&scope=read").unwrap();
/// assert_eq!(accepted.redirect_uri(), "https://app.example/cb");
///
/// let refused = judge("client_id=app&response_type=code&redirect_uri=https://evil.example/cb").unwrap_err();
/// assert!(matches!(refused, Rejection::Direct(_)));
///
/// let refused = judge("client_id=app&response_type=code&scope=write").unwrap_err();
/// assert!(matches!(refused, Rejection::Redirect(_)));
/// assert_eq!(refused.error().as_str(), "invalid_scope");
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Validator {
    policy: Arc<Policy>,
}

impl Validator {
    /// Decides by this policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy) }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The id to ask the registry for (row 1).
    ///
    /// # Errors
    ///
    /// When it is missing, repeated, undecodable, or holds something else than printable ASCII.
    pub fn client_id<'r>(&self, request: &'r AuthorizationRequest) -> Result<&'r str, Rejection> {
        client_id(request).map_err(|reason| self.direct(reason, Some(request.clone())))
    }

    /// A rejection that is told to the user agent, as this policy words it.
    #[must_use]
    pub fn direct(&self, reason: Reason, request: Option<AuthorizationRequest>) -> Rejection {
        Rejection::Direct(DirectError::new(reason, reason.to_error(), &self.policy, request))
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
        let client = match check_client(&request, client, now) {
            Ok(client) => client,
            Err(reason) => return Err(self.direct(reason, Some(request))),
        };
        let proven = ProvenRequest::prove(request, client, &self.policy)?;
        match check_proven(&proven) {
            Ok(accepted) => self.run_checks(accepted.attach(proven)),
            Err(reason) => {
                let mode = proven.error_mode();
                Err(proven.refuse(reason, reason.to_error(), mode))
            }
        }
    }

    /// Row 12.
    fn run_checks(&self, validated: ValidatedRequest) -> Result<ValidatedRequest, Rejection> {
        for check in &self.policy.checks {
            if let Err(error) = check.check(&validated) {
                return Err(validated.refuse(error));
            }
        }
        Ok(validated)
    }
}

/// Row 1.
fn client_id(request: &AuthorizationRequest) -> Result<&str, Reason> {
    if let Some(fault) = request.fault(Parameter::ClientId) {
        return Err(Reason::Parameter(Parameter::ClientId, fault));
    }
    let id = request.get(Parameter::ClientId).ok_or(Reason::ClientIdMissing)?;
    if is_client_id(id) { Ok(id) } else { Err(Reason::ClientIdCharacter) }
}

/// Rows 1 and 3, and that the registry found what it was asked for.
fn check_client(
    request: &AuthorizationRequest,
    client: Option<Arc<Client>>,
    now: impl FnOnce() -> SystemTime,
) -> Result<Arc<Client>, Reason> {
    let asked_id = client_id(request)?;
    let client = client.ok_or(Reason::ClientUnknown)?;
    if client.id() != asked_id {
        return Err(Reason::ClientIdMismatch);
    }
    check_status(&client, now)?;
    Ok(client)
}

fn check_status(client: &Client, now: impl FnOnce() -> SystemTime) -> Result<(), Reason> {
    match client.status() {
        ClientStatus::Disabled => Err(Reason::ClientDisabled),
        ClientStatus::Revoked => Err(Reason::ClientRevoked),
        // The clock is read only where it matters.
        ClientStatus::Active if client.expires_at().is_some() && client.is_expired_at(now()) => {
            Err(Reason::ClientExpired)
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

/// Rows 5 to 11.
fn check_proven(proven: &ProvenRequest) -> Result<Findings, Reason> {
    let (request, client, policy) = (proven.request(), proven.client(), proven.policy());
    check_parameters(request)?;
    check_request_objects(request, policy)?;
    let response_type = check_response_type(request, client, policy)?;
    let response_mode = check_response_mode(request, response_type)?;
    let scope = grant_scope(request, client, policy)?;
    check_pkce(request, client, policy)?;
    check_resources(request, policy)?;
    Ok(Findings { response_type, response_mode, scope })
}

/// Row 5.
fn check_parameters(request: &AuthorizationRequest) -> Result<(), Reason> {
    request.first_fault().map_or(Ok(()), |(parameter, fault)| Err(Reason::Parameter(parameter, fault)))
}

/// Row 6. Both at once are refused even where each would be forwarded (RFC 9101 §5).
fn check_request_objects(request: &AuthorizationRequest, policy: &Policy) -> Result<(), Reason> {
    let object = request.get(Parameter::Request).is_some();
    let uri = request.get(Parameter::RequestUri).is_some();
    match (object, uri, policy.request_objects) {
        (false, false, _) | (true, false, RequestObjects::Forward) | (false, true, RequestObjects::Forward) => Ok(()),
        (true, _, _) => Err(Reason::RequestObject),
        (false, true, _) => Err(Reason::RequestUri),
    }
}

/// Row 7.
fn check_response_type(
    request: &AuthorizationRequest,
    client: &Client,
    policy: &Policy,
) -> Result<ResponseType, Reason> {
    let value = request.get(Parameter::ResponseType).ok_or(Reason::ResponseTypeMissing)?;
    let response_type = ResponseType::parse(value)
        .filter(|response_type| policy.response_types.contains(*response_type))
        .ok_or(Reason::ResponseTypeUnsupported)?;
    if !client.response_types().contains(response_type) {
        return Err(Reason::ResponseTypeNotRegistered);
    }
    if !client.grant_types().contains(response_type.required_grant_types()) {
        return Err(Reason::GrantTypeNotRegistered);
    }
    Ok(response_type)
}

/// Row 8 (OAuth 2.0 Multiple Response Type Encoding Practices §2.1, §5).
fn check_response_mode(request: &AuthorizationRequest, response_type: ResponseType) -> Result<ResponseMode, Reason> {
    let carries_token = response_type.carries_token();
    let Some(value) = request.get(Parameter::ResponseMode) else {
        return Ok(ResponseMode::default_for(carries_token));
    };
    let mode = ResponseMode::parse(value).ok_or(Reason::ResponseModeUnknown)?;
    if mode.suits(carries_token) { Ok(mode) } else { Err(Reason::ResponseModeQuery) }
}

/// Row 9 (RFC 6749 §3.3).
fn grant_scope(request: &AuthorizationRequest, client: &Client, policy: &Policy) -> Result<GrantedScope, Reason> {
    match request.span(Parameter::Scope) {
        None if policy.scope_required => Err(Reason::ScopeMissing),
        None => Ok(GrantedScope::Other(default_scope(client, policy))),
        Some(span) => grant_requested_scope(request.value(span), span, client, policy),
    }
}

fn default_scope(client: &Client, policy: &Policy) -> Scope {
    let unlisted = match (client.allowed_scopes(), &policy.unlisted_scopes) {
        (None, Some(AllowedScopes::Listed(scope))) => Some(scope),
        _ => None,
    };
    let Some(default) = client.default_scopes().or(unlisted) else {
        return Scope::default();
    };
    let supported = ScopeRule::new(policy.supported_scopes.as_ref(), policy);
    if default.iter().all(|token| supported.allows(token)) {
        return default.clone();
    }
    Scope::from_valid_tokens(default.iter().filter(|token| supported.allows(token)))
}

fn grant_requested_scope(value: &str, span: Span, client: &Client, policy: &Policy) -> Result<GrantedScope, Reason> {
    let allowed = client.allowed_scopes().or(policy.unlisted_scopes.as_ref());
    if allowed.is_some_and(|allowed| is_common_case(value, allowed, policy)) {
        return Ok(GrantedScope::Requested(span));
    }
    if !is_scope_value(value) {
        return Err(Reason::ScopeMalformed);
    }
    // `*` is how a registration says "all"; nobody can ask for it.
    if tokens(value).any(|token| token == "*") {
        return Err(Reason::ScopeNotAllowed);
    }
    let Some(allowed) = allowed else {
        return Err(Reason::ScopeNotAllowed);
    };
    let allowed = ScopeRule::new(Some(allowed), policy);
    let supported = ScopeRule::new(policy.supported_scopes.as_ref(), policy);
    let granted = |token: &str| allowed.allows(token) && supported.allows(token);
    if tokens(value).all(granted) {
        return Ok(if has_repeats(value) {
            GrantedScope::Other(Scope::from_valid_tokens(tokens(value)))
        } else {
            GrantedScope::Requested(span)
        });
    }
    match policy.scope_excess {
        ScopeExcess::Reject => Err(Reason::ScopeNotAllowed),
        ScopeExcess::Narrow => {
            let narrowed = Scope::from_valid_tokens(tokens(value).filter(|token| granted(token)));
            if narrowed.is_empty() { Err(Reason::ScopeNotAllowed) } else { Ok(GrantedScope::Other(narrowed)) }
        }
    }
}

/// Whether the tokens stand in the order of the allowed ones: found in one pass over both, and then there is
/// no repeat, and the grammar holds as it does for the allowed ones.
fn is_common_case(value: &str, allowed: &AllowedScopes, policy: &Policy) -> bool {
    let (AllowedScopes::Listed(allowed), None, None) = (allowed, &policy.supported_scopes, &policy.scope_matcher)
    else {
        return false;
    };
    let mut asked = value;
    for token in allowed.iter() {
        match asked.strip_prefix(token) {
            Some("") => return true,
            Some(rest) => asked = rest.strip_prefix(' ').unwrap_or(asked),
            None => {}
        }
    }
    false
}

/// Up to here, comparing each with each is faster than a set; beyond, a set keeps the cost linear.
const FEW: usize = 16;

fn has_repeats(value: &str) -> bool {
    if tokens(value).nth(FEW).is_some() {
        let mut seen = HashSet::new();
        return !tokens(value).all(|token| seen.insert(token));
    }
    tokens(value).enumerate().any(|(index, token)| tokens(value).take(index).any(|earlier| earlier == token))
}

/// What one list says about a token.
enum ScopeRule<'a> {
    All,
    Few(&'a Scope),
    Many(HashSet<&'a str>),
    Matcher(&'a Scope, &'a dyn ScopeMatcher),
}

impl<'a> ScopeRule<'a> {
    fn new(list: Option<&'a AllowedScopes>, policy: &'a Policy) -> Self {
        match (list, &policy.scope_matcher) {
            (None | Some(AllowedScopes::All), _) => Self::All,
            (Some(AllowedScopes::Listed(scope)), Some(matcher)) => Self::Matcher(scope, &**matcher),
            (Some(AllowedScopes::Listed(scope)), None) if scope.iter().nth(FEW).is_none() => Self::Few(scope),
            (Some(AllowedScopes::Listed(scope)), None) => Self::Many(scope.iter().collect()),
        }
    }

    fn allows(&self, token: &str) -> bool {
        match self {
            Self::All => true,
            Self::Few(scope) => scope.contains(token),
            Self::Many(set) => set.contains(token),
            Self::Matcher(scope, matcher) => scope.iter().any(|allowed| matcher.matches(allowed, token)),
        }
    }
}

/// `unreserved`, RFC 3986 §2.3.
static UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        let ascii = byte as u8;
        table[byte] = ascii.is_ascii_alphanumeric() || matches!(ascii, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Row 10 (RFC 7636 §4.2, §4.3, §4.4.1).
fn check_pkce(request: &AuthorizationRequest, client: &Client, policy: &Policy) -> Result<(), Reason> {
    let method = request.get(Parameter::CodeChallengeMethod);
    let Some(challenge) = request.get(Parameter::CodeChallenge) else {
        if method.is_some() {
            return Err(Reason::CodeChallengeMethodAlone);
        }
        let required = match policy.pkce {
            Pkce::Optional => false,
            Pkce::RequiredForPublicClients => client.kind() == ClientKind::Public,
            Pkce::Required => true,
        };
        return if required { Err(Reason::CodeChallengeMissing) } else { Ok(()) };
    };
    // Without a way out in the middle, which is faster for so few bytes.
    let is_unreserved = || challenge.bytes().fold(true, |all, byte| all & UNRESERVED[usize::from(byte)]);
    if !(43..=128).contains(&challenge.len()) || !is_unreserved() {
        return Err(Reason::CodeChallengeMalformed);
    }
    match method {
        Some("S256") => Ok(()),
        Some("plain") | None if policy.plain_pkce => Ok(()),
        Some(_) | None => Err(Reason::CodeChallengeMethod),
    }
}

/// Row 11 (RFC 8707 §2).
fn check_resources(request: &AuthorizationRequest, policy: &Policy) -> Result<(), Reason> {
    let mut none = true;
    for resource in request.resources() {
        none = false;
        if fluent_uri::Uri::parse(resource).map_or(true, |uri| uri.has_fragment()) {
            return Err(Reason::ResourceMalformed);
        }
        if policy.resources.as_ref().is_some_and(|set| !set.iter().any(|allowed| allowed == resource)) {
            return Err(Reason::ResourceNotAllowed);
        }
    }
    if none && policy.resource_required { Err(Reason::ResourceMissing) } else { Ok(()) }
}
