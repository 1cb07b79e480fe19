//! What an upstream makes of metadata, and how much of that counts here.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::metadata::{grant_scopes, is_reserved, plain_member, supported_grants};
use super::policy::RegistrationPolicy;
use crate::client::member::strings;
use crate::client::{AllowedScopes, GrantTypes, ResponseType, Scope, ScopeError, tokens};

/// Cut to members that are understood here, or are among `extra`, and have the right type.
pub(super) fn understood(
    members: &Map<String, Value>,
    extra: &BTreeSet<String>,
    policy: &RegistrationPolicy,
) -> Map<String, Value> {
    const JUDGED_LATER: [&str; 6] =
        ["redirect_uris", "response_types", "grant_types", "scope", "token_endpoint_auth_method", "application_type"];
    let is_understood = |(name, value): &(&String, &Value)| {
        JUDGED_LATER.contains(&name.as_str())
            || plain_member(name).is_some_and(|(_, shape)| shape.judge(value, policy).is_ok())
            || extra.contains(*name)
    };
    let present = members.iter().filter(|(name, value)| !value.is_null() && !is_reserved(name));
    present.filter(is_understood).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What an upstream made of metadata that was `judged`: no more than the policy allows and, of redirect URIs, than
/// was asked for. What it leaves out has not changed since the client was `known`. `None`: nothing that a client
/// could use.
pub(super) fn within(
    answered: &Map<String, Value>,
    judged: &Map<String, Value>,
    known: Option<&Map<String, Value>>,
    policy: &RegistrationPolicy,
) -> Option<Map<String, Value>> {
    let mut stored = understood(answered, &policy.extra_members, policy);
    for name in ["redirect_uris", "response_types", "grant_types", "application_type", "client_name"] {
        if let (false, Some(value)) = (stored.contains_key(name), judged.get(name)) {
            stored.insert(name.into(), value.clone());
        }
    }
    let listed = |name: &str| stored.get(name).map_or(Some(Vec::new()), strings);
    let asked: HashSet<&str> = judged.get("redirect_uris").and_then(strings).into_iter().flatten().collect();
    let uris: Vec<&str> = listed("redirect_uris")?.into_iter().filter(|uri| asked.contains(uri)).collect();
    let grants = supported_grants(&listed("grant_types")?, policy);
    if (uris.is_empty() && !asked.is_empty()) || grants == GrantTypes::EMPTY {
        return None;
    }
    let types = listed("response_types")?.into_iter().filter_map(ResponseType::parse);
    let types = types.filter(|response_type| grants.contains(response_type.required_grant_types()));
    let (uris, types): (Value, Value) = (uris.into_iter().collect(), types.map(ResponseType::as_str).collect());
    stored.insert("redirect_uris".into(), uris);
    stored.insert("grant_types".into(), grants.names().collect());
    stored.insert("response_types".into(), types);
    let answered_scope = stored.remove("scope");
    let scopes = match (answered_scope.as_ref().and_then(Value::as_str), known) {
        (Some(answered), _) => Some(answered),
        (None, Some(known)) => own_scopes(known, policy),
        (None, None) if policy.allowed_scopes.is_some() => own_scopes(judged, policy),
        // The upstream decides.
        (None, None) => Some(policy.default_scopes.as_ref().map_or("*", Scope::as_str)),
    };
    grant_scopes(scopes.map(|scopes| scopes_within(scopes, policy)).transpose().ok()?, policy, &mut stored).ok()?;
    Some(stored)
}

/// The scopes of a client itself, where it [may ask for all](RegistrationPolicy::grant_all_scopes) too.
fn own_scopes<'m>(members: &'m Map<String, Value>, policy: &RegistrationPolicy) -> Option<&'m str> {
    let own = members.get("default_scope").filter(|_| policy.grant_all_scopes);
    own.or_else(|| members.get("scope")).and_then(Value::as_str)
}

/// Unless the policy names scopes, the upstream decides about them.
fn scopes_within(scopes: &str, policy: &RegistrationPolicy) -> Result<Scope, ScopeError> {
    let scopes = Scope::from_tokens(tokens(scopes))?;
    let Some(registrable) = policy.allowed_scopes.as_ref().and_then(|_| policy.registrable_scopes()) else {
        return Ok(scopes);
    };
    Ok(match AllowedScopes::new(scopes) {
        AllowedScopes::All => registrable,
        AllowedScopes::Listed(scopes) => Scope::from_tokens(scopes.iter().filter(|token| registrable.contains(token)))?,
    })
}
