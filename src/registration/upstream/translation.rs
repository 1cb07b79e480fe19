//! Translates registrations between this server and the upstream.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::super::credential::{self, digest};
use super::super::members::{ACCESS_TOKEN, CLIENT_SECRET, UPSTREAM_URI, is_reserved, public_metadata};
use super::super::metadata::{grant_scopes, is_understood, plain_member, supported_grants, uses_secret};
use super::super::policy::RegistrationPolicy;
use crate::client::member::{AUTH_METHOD, AUTH_METHODS, strings, usable_auth_methods};
use crate::client::{AllowedScopes, Client, GrantTypes, ResponseType, Scope, is_scope_value, tokens};

/// What the upstream is asked for. Scopes that this server grants to every client may be any scopes there.
pub(super) fn request(judged: &Map<String, Value>) -> Map<String, Value> {
    let mut members = judged.clone();
    members.retain(|name, _| !is_reserved(name));
    if members.get("scope").is_some_and(|scope| scope == "*") {
        members.remove("scope");
        let own = judged.get("default_scope").filter(|scope| *scope != "");
        members.extend(own.map(|scope| ("scope".to_owned(), scope.clone())));
    }
    members
}

/// An answer of the upstream.
pub(super) struct Answered<'a> {
    pub(super) members: &'a Map<String, Value>,
    /// The metadata that it answers.
    pub(super) judged: &'a Map<String, Value>,
    /// The client as it is here, unless it is new.
    pub(super) known: Option<&'a Client>,
    /// The client configuration endpoint that it names.
    pub(super) upstream_uri: Option<String>,
}

/// The client that an answer describes.
pub(super) struct Translated {
    pub(super) client: Client,
    /// What the answer says besides, such as a secret.
    others: Map<String, Value>,
}

impl Translated {
    /// What the client may see once it is stored as `stored`.
    pub(super) fn answer(self, stored: &Client) -> Map<String, Value> {
        let mut members = self.others;
        members.extend(description(stored));
        members
    }
}

/// The client may do no more than the policy allows, and has no redirect URIs but those that were asked for. `None`: the
/// answer describes no client that could be used here.
pub(super) fn translate(answered: Answered<'_>, policy: &RegistrationPolicy) -> Option<Translated> {
    let Answered { members, judged, known, upstream_uri } = answered;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let id = text("client_id").filter(|id| known.is_none_or(|known| known.id() == *id))?;
    let before = known.map(Client::to_metadata);
    // The upstream may leave out what has not changed.
    let kept = |member: &str| before.as_ref()?.get(member)?.as_str().map(str::to_owned);

    let mut stored = within_policy(members, judged, before.as_ref(), policy)?;
    let secret_digest = text("client_secret").map(digest).or_else(|| kept(CLIENT_SECRET));
    let method = text(AUTH_METHOD).unwrap_or_else(|| match judged.get(AUTH_METHOD).and_then(Value::as_str) {
        Some(method) if uses_secret(judged) == secret_digest.is_some() => method,
        _ if secret_digest.is_some() => "client_secret_basic",
        _ => "none",
    });
    let has_keys = stored.contains_key("jwks") || stored.contains_key("jwks_uri");
    if usable_auth_methods(&[method], &policy.auth_methods, has_keys).is_empty() {
        return None;
    }
    // The upstream has decided.
    stored.remove(AUTH_METHODS);
    let (access_token, token_digest) = match (text("registration_access_token"), kept(ACCESS_TOKEN)) {
        (Some(token), _) => (Some(token.to_owned()), digest(token)),
        (None, Some(digest)) => (None, digest),
        (None, None) => {
            let token = credential::secret().ok()?;
            let digest = digest(&token);
            (Some(token), digest)
        }
    };
    stored.insert("client_id".into(), id.into());
    stored.insert(AUTH_METHOD.into(), method.into());
    stored.insert(ACCESS_TOKEN.into(), token_digest.into());
    stored.extend(secret_digest.map(|digest| (CLIENT_SECRET.to_owned(), digest.into())));
    stored.extend(upstream_uri.or_else(|| kept(UPSTREAM_URI)).map(|uri| (UPSTREAM_URI.to_owned(), uri.into())));
    let client = match Client::from_metadata(stored) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the upstream answered with a client that breaks a rule");
            return None;
        }
    };

    let mut others = public_metadata(members.clone());
    others.retain(|name, value| !value.is_null() && !is_understood(name, policy));
    if let Some(secret) = text("client_secret") {
        others.insert("client_secret".into(), secret.into());
        others.entry("client_secret_expires_at").or_insert(0.into());
    }
    others.extend(access_token.map(|token| ("registration_access_token".to_owned(), token.into())));
    Some(Translated { client, others })
}

/// What a client may see of itself. `*` is no scope that it could request.
pub(super) fn description(client: &Client) -> Map<String, Value> {
    let mut members = public_metadata(client.to_metadata());
    members.retain(|name, value| name != "scope" || value != "*");
    members
}

/// The members that are understood here, or that the policy keeps, if their types are right.
pub(super) fn understood(members: &Map<String, Value>, policy: &RegistrationPolicy) -> Map<String, Value> {
    let has_right_type =
        |name: &str, value: &Value| plain_member(name).is_none_or(|(_, shape)| shape.check(value, policy).is_ok());
    let present = members.iter().filter(|(_, value)| !value.is_null());
    let understood = present.filter(|(name, value)| is_understood(name, policy) && has_right_type(name, value));
    understood.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn within_policy(
    answered: &Map<String, Value>,
    judged: &Map<String, Value>,
    before: Option<&Map<String, Value>>,
    policy: &RegistrationPolicy,
) -> Option<Map<String, Value>> {
    let mut stored = understood(answered, policy);
    for name in ["redirect_uris", "response_types", "grant_types", "application_type", "client_name"] {
        if let (false, Some(value)) = (stored.contains_key(name), judged.get(name)) {
            stored.insert(name.into(), value.clone());
        }
    }
    if !stored.contains_key("jwks") && !stored.contains_key("jwks_uri") {
        let keys = ["jwks", "jwks_uri"].into_iter().filter_map(|name| judged.get_key_value(name));
        stored.extend(keys.map(|(name, keys)| (name.clone(), keys.clone())));
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
    let scope = answered_scope.as_ref().and_then(Value::as_str).or_else(|| own_scope(before.unwrap_or(judged), policy));
    grant_scopes(scope.and_then(|scope| scope_within(scope, policy)), policy, &mut stored);
    Some(stored)
}

/// A client's own scopes, also if it [may request all](RegistrationPolicy::grant_all_scopes).
fn own_scope<'m>(members: &'m Map<String, Value>, policy: &RegistrationPolicy) -> Option<&'m str> {
    let own = members.get("default_scope").filter(|_| policy.grant_all_scopes);
    own.or_else(|| members.get("scope")).and_then(Value::as_str)
}

/// `*` in an answer permits no scope. `None`: nothing else is in it.
fn scope_within(scope: &str, policy: &RegistrationPolicy) -> Option<Scope> {
    let registrable = policy.registrable_scopes().map_or(AllowedScopes::All, AllowedScopes::Listed);
    let within = Scope::from_valid_tokens(
        tokens(scope).filter(|token| is_scope_value(token) && *token != "*" && registrable.contains(token)),
    );
    Some(within).filter(|within| !within.is_empty() || scope != "*")
}
