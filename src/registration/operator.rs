//! What an operator changed about a client stays changed, whatever the client writes later.
//!
//! A registration remembers fingerprints of the metadata that it granted last. A member that has become something else
//! since was changed by an operator.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;

use serde_json::{Map, Value};

use super::credential::digest;
use super::members::{GRANTED, public_metadata};
use super::refusal::{invalid_metadata, invalid_redirect_uri};
use crate::client::secret::{OTHER_SECRETS, SECRET_DIGEST};
use crate::client::{Client, tokens};
use crate::http::endpoint::Refusal;
use crate::registry::SOURCE_MEMBER;

/// Remembers what a new registration grants, and where it comes from.
pub(super) fn with_granted(client: &Client, source: Option<&str>) -> Result<Client, Refusal> {
    let granted = granted(&public_metadata(client.to_metadata()));
    let mut builder = client.to_builder().dynamic(true).metadata(GRANTED, granted);
    if let Some(source) = source {
        builder = builder.metadata(SOURCE_MEMBER, source);
    }
    Ok(builder.build()?)
}

/// What a client becomes when it replaces its metadata: a list that an operator shortened is not extended, and any other
/// member that an operator changed stays as it is.
pub(super) fn with_operator_changes(old: &Client, new: &Client) -> Result<Client, Refusal> {
    let stored = |name| old.metadata().and_then(|metadata| metadata.get(name));
    let before = public_metadata(old.to_metadata());
    let mut members = new.to_metadata();
    let mut now_granted = granted(&public_metadata(members.clone()));
    if let Some(granted) = stored(GRANTED).and_then(Value::as_object) {
        let names: BTreeSet<&String> = granted.keys().chain(before.keys()).collect();
        for name in names {
            let (granted, current) = (granted.get(name), before.get(name));
            if !is_changed(name, granted, current) {
                continue;
            }
            match allowed(name, members.get(name), granted.is_some(), current)? {
                Some(value) => members.insert(name.clone(), value),
                None => members.remove(name),
            };
            // The old fingerprint stays, so the next change finds out again.
            match granted {
                Some(granted) => now_granted.insert(name.clone(), granted.clone()),
                None => now_granted.remove(name),
            };
        }
        limit_default_scope(&mut members);
    }
    members.insert(GRANTED.into(), now_granted.into());
    members.insert("dynamic".into(), true.into());
    let has_secret = members.contains_key(SECRET_DIGEST);
    // The operator may have given the client more secrets.
    let kept = OTHER_SECRETS.into_iter().filter(|_| has_secret).chain([SOURCE_MEMBER]);
    members.extend(kept.filter_map(|name| Some((name.to_owned(), stored(name)?.clone()))));
    Ok(Client::from_metadata(members)?.with_operator_decisions(old))
}

fn granted(members: &Map<String, Value>) -> Map<String, Value> {
    members
        .iter()
        .filter(|(name, _)| *name != "client_id")
        .map(|(name, value)| (name.clone(), fingerprint(name, value)))
        .collect()
}

/// Fingerprints of the parts of a list, else one of the whole value.
fn fingerprint(name: &str, value: &Value) -> Value {
    match value {
        // Shorter than digests of its tokens.
        Value::String(_) if name == "scope" => value.clone(),
        Value::Array(values) => values.iter().map(short_digest).collect(),
        value => short_digest(value).into(),
    }
}

fn short_digest(value: &Value) -> String {
    let mut text = String::new();
    write_canonically(value, &mut text);
    let mut digest = digest(&text);
    digest.truncate(32);
    digest
}

/// JSON with sorted names: a database may have reordered them.
fn write_canonically(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let members: std::collections::BTreeMap<_, _> = members.iter().collect();
            for (name, value) in members {
                // Writing to a string cannot fail.
                let _ = write!(text, "{name:?}:");
                write_canonically(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            for value in values {
                write_canonically(value, text);
                text.push(',');
            }
            text.push(']');
        }
        value => {
            let _ = write!(text, "{value}");
        }
    }
}

/// Whether an operator changed a member. Additions to a list do not count.
fn is_changed(name: &str, granted: Option<&Value>, current: Option<&Value>) -> bool {
    let (Some(granted), Some(current)) = (granted, current) else {
        return granted.is_some() != current.is_some();
    };
    match (granted, &fingerprint(name, current)) {
        (Value::Array(granted), Value::Array(current)) => !granted.iter().all(|part| current.contains(part)),
        (Value::String(granted), Value::String(current)) if name == "scope" => {
            let current: HashSet<&str> = tokens(current).collect();
            !current.contains("*") && !tokens(granted).all(|token| current.contains(token))
        }
        (granted, current) => granted != current,
    }
}

/// The value of a member that an operator changed to `current`.
fn allowed(
    name: &str,
    asked: Option<&Value>,
    was_granted: bool,
    current: Option<&Value>,
) -> Result<Option<Value>, Refusal> {
    let Some(current) = current.filter(|_| was_granted) else {
        return Ok(current.cloned());
    };
    match (asked, current) {
        (Some(Value::Array(asked)), Value::Array(current)) => {
            let both: Vec<Value> = asked.iter().filter(|part| current.contains(part)).cloned().collect();
            if both.is_empty() && !asked.is_empty() {
                let description = format!("{name}: an operator of this server has limited it to other values");
                return Err(match name {
                    "redirect_uris" => invalid_redirect_uri(description),
                    _ => invalid_metadata(description),
                });
            }
            Ok(Some(both.into()))
        }
        (Some(Value::String(asked)), Value::String(current)) if name == "scope" && asked != "*" => {
            let both: Vec<_> = tokens(current).filter(|token| tokens(asked).any(|asked| asked == *token)).collect();
            // A client without scopes could ask for none at all.
            Ok(Some(if both.is_empty() { current.as_str().into() } else { both.join(" ").into() }))
        }
        _ => Ok(Some(current.clone())),
    }
}

/// What is granted by default must be allowed.
fn limit_default_scope(members: &mut Map<String, Value>) {
    let scope = members.get("scope").and_then(Value::as_str).unwrap_or_default();
    let is_allowed = |token: &&str| scope == "*" || tokens(scope).any(|allowed| allowed == *token);
    let Some(default) = members.get("default_scope").and_then(Value::as_str) else {
        return;
    };
    let limited: Vec<&str> = tokens(default).filter(is_allowed).collect();
    let limited = limited.join(" ");
    members.insert("default_scope".into(), limited.into());
}
