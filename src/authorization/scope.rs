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
    if allowed.is_some_and(|allowed| is_common_case(value, allowed, rules)) {
        return Ok(GrantedScope::Requested(span));
    }
    if !is_scope_value(value) {
        return Err(Reason::SCOPE_MALFORMED);
    }
    // `*` is how a registration says "all"; nobody can ask for it.
    if tokens(value).any(|token| token == "*") {
        return Err(Reason::SCOPE_NOT_ALLOWED);
    }
    let Some(allowed) = allowed else {
        return Err(Reason::SCOPE_NOT_ALLOWED);
    };
    let allowed = ScopeRule::new(Some(allowed), rules);
    let supported = ScopeRule::new(rules.supported_scopes.as_ref(), rules);
    let granted = |token: &str| allowed.allows(token) && supported.allows(token);
    if tokens(value).all(granted) {
        return Ok(if has_repeats(value) {
            GrantedScope::Other(Scope::from_valid_tokens(tokens(value)))
        } else {
            GrantedScope::Requested(span)
        });
    }
    match rules.scope_excess {
        ScopeExcess::Reject => Err(Reason::SCOPE_NOT_ALLOWED),
        ScopeExcess::Narrow => {
            let narrowed = Scope::from_valid_tokens(tokens(value).filter(|token| granted(token)));
            if narrowed.is_empty() { Err(Reason::SCOPE_NOT_ALLOWED) } else { Ok(GrantedScope::Other(narrowed)) }
        }
    }
}

/// Whether the tokens stand in the order of the allowed ones: found in one pass over both, and then there is
/// no repeat, and the grammar holds as it does for the allowed ones.
fn is_common_case(value: &str, allowed: &AllowedScopes, rules: &Rules) -> bool {
    let (AllowedScopes::Listed(allowed), None, None) = (allowed, &rules.supported_scopes, &rules.scope_matcher) else {
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
    fn new(list: Option<&'a AllowedScopes>, rules: &'a Rules) -> Self {
        match (list, &rules.scope_matcher) {
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
