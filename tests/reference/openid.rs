//! Extension parameters, and what OpenID Connect, `authorization_details` and `dpop_jkt` ask for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{INVALID_REQUEST, Registered, Settings};

const OF_OPENID: [&str; 8] =
    ["acr_values", "claims", "display", "id_token_hint", "login_hint", "max_age", "prompt", "ui_locales"];

const INVALID_DETAILS: &str = "invalid_authorization_details";

/// The names that the policy declares.
pub(super) fn declared(policy: Settings<'_>) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = policy.texts("parameters").unwrap_or_default().into_iter().collect();
    if policy.flag("openid") {
        names.extend(OF_OPENID);
    }
    if policy.texts("authorization_details_types").is_some() {
        names.insert("authorization_details");
    }
    if policy.0.contains_key("dpop_jkt_required") {
        names.insert("dpop_jkt");
    }
    names
}

pub(super) fn check(
    policy: Settings<'_>,
    client: Registered<'_>,
    extension: &dyn Fn(&str) -> Option<String>,
    response_type: &[&str],
    scope: &str,
    has_nonce: bool,
) -> Result<(), &'static str> {
    if policy.flag("openid") {
        if let Some(prompt) = extension("prompt") {
            let all_known =
                prompt.split(' ').all(|word| ["none", "login", "consent", "select_account"].contains(&word));
            let none_with_others = prompt != "none" && prompt.split(' ').any(|word| word == "none");
            if !all_known || none_with_others {
                return Err(INVALID_REQUEST);
            }
        }
        if extension("max_age").is_some_and(|age| !age.chars().all(|digit| digit.is_ascii_digit())) {
            return Err(INVALID_REQUEST);
        }
        if response_type.contains(&"id_token") && !(has_nonce && scope.split(' ').any(|token| token == "openid")) {
            return Err(INVALID_REQUEST);
        }
    }
    if let Some(details) = extension("authorization_details") {
        let types = types(&details).ok_or(INVALID_DETAILS)?;
        let registered = client.texts("authorization_details_types").unwrap_or_default();
        let supported = policy.texts("authorization_details_types");
        let known = |name: &&str| {
            registered.contains(name) && supported.as_ref().is_none_or(|supported| supported.contains(name))
        };
        if !types.iter().map(|name| &**name).all(|name| known(&name)) {
            return Err(INVALID_DETAILS);
        }
    }
    match extension("dpop_jkt") {
        Some(thumbprint) => {
            let fits = thumbprint.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if fits && thumbprint.chars().count() == 43 { Ok(()) } else { Err(INVALID_REQUEST) }
        }
        None if policy.flag("dpop_jkt_required") && client.flag("dpop_bound_access_tokens") => Err(INVALID_REQUEST),
        None => Ok(()),
    }
}

pub(super) fn prompts(extension: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let known = |word: &&str| ["none", "login", "consent", "select_account"].contains(word);
    extension("prompt").unwrap_or_default().split(' ').filter(known).map(str::to_owned).collect()
}

pub(super) fn max_age(extension: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let age = extension("max_age").filter(|age| age.chars().all(|digit| digit.is_ascii_digit()))?;
    Some(age.parse().unwrap_or(u64::MAX))
}

pub(super) fn authorization_details(extension: &dyn Fn(&str) -> Option<String>) -> String {
    let details: Option<Value> = extension("authorization_details").and_then(|text| text.parse().ok());
    details.map_or("[]".to_owned(), |details| details.to_string())
}

/// The types of the objects; `None` where this is no array of objects with one type each.
fn types(text: &str) -> Option<Vec<String>> {
    let parsed: Value = text.parse().ok()?;
    let types: Vec<String> = parsed
        .as_array()?
        .iter()
        .map(|detail| Some(detail.as_object()?.get("type")?.as_str()?.to_owned()))
        .collect::<Option<_>>()?;
    (names_of_objects(text).iter().filter(|name| *name == "type").count() == types.len()).then_some(types)
}

/// The names of the members of each object in an array, in legal JSON, with those that are repeated.
fn names_of_objects(json: &str) -> Vec<String> {
    let (mut names, mut depth, mut rest) = (Vec::new(), 0, json);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let mut escaped = false;
                let end = rest.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
                rest = after.strip_prefix('"').unwrap_or(after);
                if depth == 2 && rest.trim_start().starts_with(':') {
                    names.extend(serde_json::from_str::<String>(&format!("\"{text}\"")));
                }
            }
            _ => {}
        }
    }
    names
}
