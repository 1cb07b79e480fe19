//! Which scopes a request is granted (row 9).

use std::collections::HashSet;

use crate::client::{AllowedScopes, Client, Scope, is_scope_value, tokens};

use super::reason::Reason;
use super::request::{AuthorizationRequest, Parameter, Span};
use super::rules::{Rules, ScopeExcess, ScopeMatcher};

/// The scopes that were granted.
#[derive(Clone)]
pub(super) enum GrantedScope {
    /// Exactly as requested.
    Requested(Span),
    /// The default scopes, or what narrowing left.
    Other(Scope),
}

impl GrantedScope {
    /// The granted scopes of this request as a scope value.
    pub(super) fn as_str<'a>(&'a self, request: &'a AuthorizationRequest) -> &'a str {
        match self {
            Self::Requested(span) => request.value(*span),
            Self::Other(scope) => scope.as_str(),
        }
    }
}

/// Row 9 (RFC 6749 §3.3).
pub(super) fn grant_scope(
    request: &AuthorizationRequest,
    client: &Client,
    rules: &Rules,
) -> Result<GrantedScope, Reason> {
    match request.span(Parameter::Scope) {
        None if rules.scope_required => Err(Reason::SCOPE_MISSING),
        None => Ok(GrantedScope::Other(default_scope(client, rules))),
        Some(span) => grant_requested_scope(request.value(span), span, client, rules),
    }
}

fn default_scope(client: &Client, rules: &Rules) -> Scope {
    let unlisted = match (client.allowed_scopes(), &rules.unlisted_scopes) {
        (None, Some(AllowedScopes::Listed(scope))) => Some(scope),
        _ => None,
    };
    let Some(default) = client.default_scopes().or(unlisted) else {
        return Scope::default();
    };
    let supported = ScopeRule::new(rules.supported_scopes.as_ref(), rules);
    if default.iter().all(|token| supported.allows(token)) {
        return default.clone();
    }
    Scope::from_valid_tokens(default.iter().filter(|token| supported.allows(token)))
}

fn grant_requested_scope(value: &str, span: Span, client: &Client, rules: &Rules) -> Result<GrantedScope, Reason> {
    let allowed = client.allowed_scopes().or(rules.unlisted_scopes.as_ref());
    let Some(allowed) = allowed else {
        return Err(if is_scope_value(value) { Reason::SCOPE_NOT_ALLOWED } else { Reason::SCOPE_MALFORMED });
    };
    let Some(rest) = strip_allowed(value, allowed, rules) else {
        return Ok(GrantedScope::Requested(span));
    };
    if !is_scope_value(rest) {
        return Err(Reason::SCOPE_MALFORMED);
    }
    let allowed = ScopeRule::new(Some(allowed), rules);
    let supported = ScopeRule::new(rules.supported_scopes.as_ref(), rules);
    // `*` means "all" in a registration; it cannot be requested.
    let granted = |token: &str| token != "*" && allowed.allows(token) && supported.allows(token);
    if tokens(rest).all(granted) {
        return Ok(if has_repeats(value) {
            GrantedScope::Other(Scope::from_valid_tokens(tokens(value)))
        } else {
            GrantedScope::Requested(span)
        });
    }
    match rules.scope_excess {
        ScopeExcess::Narrow if tokens(value).all(|token| token != "*") => {
            let narrowed = Scope::from_valid_tokens(tokens(value).filter(|token| granted(token)));
            if narrowed.is_empty() { Err(Reason::SCOPE_NOT_ALLOWED) } else { Ok(GrantedScope::Other(narrowed)) }
        }
        ScopeExcess::Narrow | ScopeExcess::Reject => Err(Reason::SCOPE_NOT_ALLOWED),
    }
}

/// The first scope that a request may not have, and why, for logs.
pub(super) fn refused_scope<'r>(
    request: &'r AuthorizationRequest,
    client: &Client,
    rules: &Rules,
) -> Option<(&'r str, &'static str)> {
    let allowed = client.allowed_scopes().or(rules.unlisted_scopes.as_ref());
    let why = match (client.allowed_scopes(), allowed) {
        (Some(_), _) => "is not among the scopes of the client",
        (None, Some(_)) => "is not among the scopes of clients without a scope list",
        (None, None) => "was requested by a client without a scope list, which gets none",
    };
    let allowed = allowed.map(|allowed| ScopeRule::new(Some(allowed), rules));
    let supported = ScopeRule::new(rules.supported_scopes.as_ref(), rules);
    tokens(request.get(Parameter::Scope)?).find_map(|token| {
        let is_allowed = allowed.as_ref().is_some_and(|allowed| allowed.allows(token));
        match (is_allowed, supported.allows(token)) {
            _ if token == "*" => Some((token, "cannot be requested")),
            (false, _) => Some((token, why)),
            (true, false) => Some((token, "is not among the scopes of the server")),
            (true, true) => None,
        }
    })
}

/// Strips tokens that are allowed, as long as they come in the order of the allowed ones, which is the common case: one pass
/// over both, without repeats. `None` if all tokens were stripped.
fn strip_allowed<'v>(value: &'v str, allowed: &AllowedScopes, rules: &Rules) -> Option<&'v str> {
    let (AllowedScopes::Listed(allowed), None, None) = (allowed, &rules.supported_scopes, &rules.scope_matcher) else {
        return Some(value);
    };
    let mut rest = value;
    for token in allowed.iter() {
        match rest.strip_prefix(token) {
            Some("") => return None,
            Some(after) => rest = after.strip_prefix(' ').unwrap_or(rest),
            None => {}
        }
    }
    Some(rest)
}

/// Up to this number, comparing pairs is faster than a set; beyond it, a set keeps the cost linear.
const FEW: usize = 16;

fn is_few(scope: &str) -> bool {
    scope.bytes().filter(|byte| *byte == b' ').count() < FEW
}

fn has_repeats(value: &str) -> bool {
    if !is_few(value) {
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
    fn new(list: Option<&'a AllowedScopes>, rules: &'a Rules) -> Self {
        match (list, &rules.scope_matcher) {
            (None | Some(AllowedScopes::All), _) => Self::All,
            (Some(AllowedScopes::Listed(scope)), Some(matcher)) => Self::Matcher(scope, &**matcher),
            (Some(AllowedScopes::Listed(scope)), None) if is_few(scope.as_str()) => Self::Few(scope),
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
