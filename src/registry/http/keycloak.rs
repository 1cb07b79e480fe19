//! Keycloak's client representation.

use serde_json::{Map, Value};

use crate::client::{Client, GrantTypes, RedirectUri, ResponseType, ResponseTypes};
use tower::BoxError;

/// Finds the client of this id in the answer to `?clientId=`, which is a list.
pub(super) fn client(client_id: &str, answer: Value) -> Result<Option<Client>, BoxError> {
    let Value::Array(list) = answer else {
        return Err("the answer is not a list of clients".into());
    };
    let named = |members: &&Map<String, Value>| text(members, "clientId") == Some(client_id);
    let Some(members) = list.iter().filter_map(Value::as_object).find(named) else {
        return Ok(None);
    };
    if text(members, "protocol").is_some_and(|protocol| protocol != "openid-connect") {
        return Ok(None);
    }
    // An account without the role view-clients gets little more than the ids.
    let enabled = members.get("enabled").and_then(Value::as_bool);
    let enabled = enabled.ok_or("enabled is missing: does the account have the role view-clients?")?;
    let mut builder = Client::builder(client_id).disabled(!enabled);
    builder = if flag(members, "publicClient") { builder.public() } else { builder.confidential() };
    // `${…}` names a translation of Keycloak.
    if let Some(name) = text(members, "name").filter(|name| !name.is_empty() && !name.starts_with("${")) {
        builder = builder.name(name);
    }
    for uri in texts(members, "redirectUris")? {
        if let Some(uri) = redirect_uri(client_id, uri, text(members, "rootUrl")) {
            builder = builder.parsed_redirect_uri(uri);
        }
    }
    let (response_types, grant_types) = flows(members);
    let default = texts(members, "defaultClientScopes")?;
    // Every client may request `openid`, which is no client scope.
    let allowed = [vec!["openid"], default.clone(), texts(members, "optionalClientScopes")?].concat();
    builder = builder.response_types(response_types).grant_types(grant_types);
    Ok(Some(builder.scope(allowed.join(" ")).default_scope(default.join(" ")).build()?))
}

fn redirect_uri(client_id: &str, uri: &str, root_url: Option<&str>) -> Option<RedirectUri> {
    let absolute = match root_url.filter(|root| uri.starts_with('/') && !root.is_empty()) {
        Some(root) => format!("{}{uri}", root.trim_end_matches('/')),
        None => uri.to_owned(),
    };
    match RedirectUri::parse(&absolute) {
        Ok(uri) => Some(uri),
        Err(_) if uri.contains('*') => {
            tracing::warn!(
                client_id,
                redirect_uri = uri,
                "Keycloak redirect URI ignored: a wildcard would send codes to every page that it matches, such as an \
                 open redirect (RFC 9700 section 4.1.3); register the full URI"
            );
            None
        }
        Err(error) => {
            tracing::warn!(client_id, redirect_uri = uri, reason = %error, "Keycloak redirect URI ignored");
            None
        }
    }
}

fn flows(members: &Map<String, Value>) -> (ResponseTypes, GrantTypes) {
    let may_redirect = !flag(members, "bearerOnly");
    let standard = may_redirect && flag(members, "standardFlowEnabled");
    let implicit = may_redirect && flag(members, "implicitFlowEnabled");
    let mut types = ResponseTypes::EMPTY;
    let mut grants = GrantTypes::EMPTY;
    if standard {
        types = types.with(ResponseType::CODE).with(ResponseType::NONE);
        grants = grants.with(GrantTypes::AUTHORIZATION_CODE).with(GrantTypes::REFRESH_TOKEN);
    }
    if implicit {
        types = types.with(ResponseType::ID_TOKEN).with(ResponseType::TOKEN).with(ResponseType::ID_TOKEN_TOKEN);
        grants = grants.with(GrantTypes::IMPLICIT);
    }
    if standard && implicit {
        types = types.with(ResponseType::CODE_ID_TOKEN).with(ResponseType::CODE_TOKEN);
        types = types.with(ResponseType::CODE_ID_TOKEN_TOKEN);
    }
    if flag(members, "directAccessGrantsEnabled") {
        grants = grants.with(GrantTypes::PASSWORD);
    }
    if flag(members, "serviceAccountsEnabled") {
        grants = grants.with(GrantTypes::CLIENT_CREDENTIALS);
    }
    (types, grants)
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn flag(members: &Map<String, Value>, name: &str) -> bool {
    members.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn texts<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a str>, BoxError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => {
            let texts: Option<Vec<_>> = values.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| format!("{name}: must be a list of strings").into())
        }
        Some(_) => Err(format!("{name}: must be a list of strings").into()),
    }
}
