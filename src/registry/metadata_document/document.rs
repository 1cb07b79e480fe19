//! The rules for documents.

use serde_json::{Map, Value};

use super::rule::Rule;
use crate::client::member::{
    AUTH_METHOD, AUTH_METHODS, PRIVATE_KEY_JWT, holds_private_key, is_internal, is_key_set, is_web_uri, strings,
    usable_auth_methods, uses_secret,
};
use crate::client::{AllowedScopes, Client, ClientErrorKind, ClientOrigin, DynamicClientRules, Scope};

/// The rules of the operator.
#[derive(Clone, Debug)]
pub(super) struct DocumentPolicy {
    pub(super) rules: DynamicClientRules,
    /// None that needs a secret.
    pub(super) auth_methods: Vec<String>,
    pub(super) require_name: bool,
    pub(super) allowed_scopes: Option<AllowedScopes>,
    pub(super) default_scopes: Option<Scope>,
    pub(super) grant_all_scopes: bool,
}

impl Default for DocumentPolicy {
    fn default() -> Self {
        Self {
            rules: DynamicClientRules::new(),
            auth_methods: ["none", PRIVATE_KEY_JWT].map(str::to_owned).into(),
            require_name: false,
            allowed_scopes: None,
            default_scopes: None,
            grant_all_scopes: false,
        }
    }
}

/// Members that pages show as links.
const LINKS: [&str; 4] = ["client_uri", "logo_uri", "tos_uri", "policy_uri"];

/// The client that a document describes.
pub(super) fn read(client_id: &str, document: &[u8], policy: &DocumentPolicy) -> Result<Client, Rule> {
    let Ok(Value::Object(document)) = serde_json::from_slice(document) else {
        return Err(Rule::NotAnObject);
    };
    let mut members: Map<String, Value> = document.into_iter().filter(|(_, value)| !value.is_null()).collect();
    if members.get("client_id").and_then(Value::as_str) != Some(client_id) {
        return Err(Rule::IdMismatch);
    }
    if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
        return Err(Rule::ClientSecret);
    }
    if members.get("redirect_uris").is_none_or(|uris| uris.as_array().is_some_and(Vec::is_empty)) {
        return Err(Rule::NoRedirectUri);
    }
    policy.rules.judge(ClientOrigin::MetadataDocument, &members).map_err(Rule::Dynamic)?;
    auth_method(&mut members, policy)?;
    let is_named = members.get("client_name").and_then(Value::as_str).is_some_and(|name| !name.trim().is_empty());
    if policy.require_name && !is_named {
        return Err(Rule::NoName);
    }
    members.retain(|name, value| !is_internal(name) && (!is_link(name) || is_web_uri(value, &["https", "http"])));
    scopes(&mut members, policy)?;
    members.insert("dynamic".into(), true.into());
    Client::from_metadata(members).map_err(|error| match error.kind() {
        ClientErrorKind::RedirectUri { .. } => Rule::RedirectUri,
        ClientErrorKind::Scope { .. } | ClientErrorKind::DefaultScope => Rule::Scope,
        _ => Rule::Metadata,
    })
}

/// Sets the authentication method: of several that the document offers (OpenID Connect RP Metadata Choices), the first one
/// that the server has. The others that it has stay in the metadata.
///
/// A public document can hold no secret, so methods that need one are refused; without a method the client is public,
/// unlike in RFC 7591.
fn auth_method(members: &mut Map<String, Value>, policy: &DocumentPolicy) -> Result<(), Rule> {
    let has_keys = match (members.get("jwks"), members.get("jwks_uri")) {
        (None, None) => false,
        (Some(keys), None) if holds_private_key(keys) => return Err(Rule::PrivateKey),
        (Some(keys), None) if is_key_set(keys) => true,
        (None, Some(uri)) if is_web_uri(uri, &["https"]) => true,
        _ => return Err(Rule::Keys),
    };
    let single = match members.get(AUTH_METHOD) {
        None => "none",
        Some(Value::String(method)) if uses_secret(method) => return Err(Rule::SharedSecretMethod),
        Some(Value::String(method)) => method,
        Some(_) => return Err(Rule::Metadata),
    };
    let choices = members.get(AUTH_METHODS).map(|choices| strings(choices).ok_or(Rule::Metadata)).transpose()?;
    let offered = choices.clone().unwrap_or_else(|| vec![single]);
    let usable = usable_auth_methods(&offered, &policy.auth_methods, has_keys);
    let Some(method) = usable.first().copied() else {
        return Err(match usable_auth_methods(&offered, &policy.auth_methods, true).is_empty() {
            false => Rule::Keys,
            true if offered.iter().all(|method| uses_secret(method)) => Rule::SharedSecretMethod,
            true => Rule::AuthMethod,
        });
    };
    let (method, usable) = (Value::from(method), choices.is_some().then(|| Value::from(usable)));
    members.insert(AUTH_METHOD.into(), method);
    members.extend(usable.map(|usable| (AUTH_METHODS.to_owned(), usable)));
    Ok(())
}

/// Cuts the scopes of a document, which is written for many servers, to those that are allowed here.
fn scopes(members: &mut Map<String, Value>, policy: &DocumentPolicy) -> Result<(), Rule> {
    let named = match members.remove("scope") {
        None => None,
        Some(Value::String(scope)) if scope.is_empty() => None,
        Some(Value::String(scope)) => Some(Scope::parse(&scope).map_err(|_| Rule::Scope)?),
        Some(_) => return Err(Rule::Scope),
    };
    let is_default = |token: &str| policy.default_scopes.as_ref().is_some_and(|scopes| scopes.contains(token));
    let is_allowed = |token: &str| policy.allowed_scopes.as_ref().is_some_and(|allowed| allowed.contains(token));
    let within =
        |named: &Scope| Scope::from_tokens(named.iter().filter(|token| is_default(token) || is_allowed(token)));
    // Without scopes that are allowed or granted by default, the document's own do not count.
    let counts = policy.allowed_scopes.is_some() || policy.default_scopes.is_some();
    let named = named.as_ref().filter(|_| counts).map(within).transpose().map_err(|_| Rule::Scope)?;
    let own = named.or_else(|| policy.default_scopes.clone());
    let all = policy.allowed_scopes.as_ref().filter(|_| policy.grant_all_scopes);
    match (all, own) {
        (None, None) => {}
        (None, Some(own)) => {
            members.insert("scope".into(), own.as_str().into());
        }
        (Some(all), own) => {
            let own = own.unwrap_or_default();
            let all = match all {
                AllowedScopes::All => "*".to_owned(),
                AllowedScopes::Listed(all) => format!("{all} {own}"),
            };
            members.insert("scope".into(), all.into());
            members.insert("default_scope".into(), own.as_str().into());
        }
    }
    Ok(())
}

fn is_link(name: &str) -> bool {
    LINKS.contains(&name.split('#').next().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integration tests cannot listen on a default port.
    #[test]
    fn ids_are_compared_as_strings() {
        let judge = |id: &str, said: &str| {
            let document = format!(r#"{{"client_id": "{said}", "redirect_uris": ["https://app.example/cb"]}}"#);
            read(id, document.as_bytes(), &DocumentPolicy::default()).map(|client| client.id().to_owned())
        };
        let ids = [
            "https://app.example/client",
            "https://app.example:443/client",
            "https://app.example/client/",
            "https://app.example/Client",
            "https://app.example/%63lient",
            "https://app.example/client?",
            "http://app.example/client",
        ];
        for id in ids {
            for said in ids {
                let expected = if id == said { Ok(id.to_owned()) } else { Err(Rule::IdMismatch) };
                assert_eq!(judge(id, said), expected);
            }
        }
    }
}
