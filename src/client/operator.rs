//! Keeps the changes that an operator made to a client when the client updates its metadata.
//!
//! A dynamic client remembers fingerprints of the metadata that it was granted last. A member that no longer matches was
//! changed by an operator.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::member::{CLIENT_SECRET, GRANTED, SECRETS, SOURCE_MEMBER, public_metadata};
use super::{Client, ClientError, tokens};

/// Remembers what a new client is granted.
pub(crate) fn with_granted(client: &Client) -> Result<Client, ClientError> {
    let granted = granted(&public_metadata(client.to_metadata()));
    client.to_builder().dynamic(true).metadata(GRANTED, granted).build()
}

/// A client whose metadata was replaced.
pub(crate) struct Replacement {
    pub(crate) client: Client,
    /// A list of which nothing is left, because an operator limited it to other values.
    #[cfg_attr(not(feature = "registration"), allow(dead_code))]
    pub(crate) emptied: Option<String>,
}

/// Replaces the metadata of a client: a list that an operator shortened is not extended, and any other member that an
/// operator changed is kept.
pub(crate) fn with_operator_changes(old: &Client, new: &Client) -> Result<Replacement, ClientError> {
    let before = public_metadata(old.to_metadata());
    let mut members = new.to_metadata();
    let mut now_granted = granted(&public_metadata(members.clone()));
    let mut emptied = None;
    if let Some(granted) = granted_last(old) {
        for name in changed(granted, &before) {
            let (granted, current) = (granted.get(name), before.get(name));
            let asked = members.get(name);
            let allowed = allowed(name, asked, current.filter(|_| granted.is_some())).or_else(|| current.cloned());
            if is_empty_list(allowed.as_ref()) && asked.is_some_and(|asked| !is_empty_list(Some(asked))) {
                emptied.get_or_insert_with(|| name.clone());
            }
            match allowed {
                Some(value) => members.insert(name.clone(), value),
                None => members.remove(name),
            };
            // The old fingerprint stays, so that the next update detects the change again.
            match granted {
                Some(granted) => now_granted.insert(name.clone(), granted.clone()),
                None => now_granted.remove(name),
            };
        }
        limit_default_scope(&mut members);
    }
    members.insert(GRANTED.into(), now_granted.into());
    members.insert("dynamic".into(), true.into());
    let has_secret = members.contains_key(CLIENT_SECRET);
    // The operator may have given the client more secrets.
    let kept = SECRETS.into_iter().filter(|_| has_secret).chain([SOURCE_MEMBER]);
    members.extend(kept.filter_map(|name| Some((name.to_owned(), old.metadata()?.get(name)?.clone()))));
    let client = Client::from_metadata(members)?.with_operator_decisions(old);
    Ok(Replacement { client, emptied })
}

/// Whether an operator changed or limited a dynamic client.
#[cfg(feature = "metadata-document")]
pub(crate) fn is_changed_by_operator(client: &Client) -> bool {
    let metadata = public_metadata(client.to_metadata());
    client.expires_at().is_some()
        || granted_last(client).is_some_and(|granted| changed(granted, &metadata).next().is_some())
}

fn granted_last(client: &Client) -> Option<&Map<String, Value>> {
    client.metadata()?.get(GRANTED)?.as_object()
}

/// The members that an operator changed.
fn changed<'m>(granted: &'m Map<String, Value>, current: &'m Map<String, Value>) -> impl Iterator<Item = &'m String> {
    let names: BTreeSet<&String> = granted.keys().chain(current.keys()).collect();
    let names = names.into_iter().filter(|name| *name != "client_id");
    names.filter(|name| is_changed(name, granted.get(*name), current.get(*name)))
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.and_then(Value::as_array).is_some_and(Vec::is_empty)
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
    Sha256::digest(text)[..16].iter().fold(String::new(), |mut digest, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digest, "{byte:02x}");
        digest
    })
}

/// JSON with sorted names: a database may have reordered them.
fn write_canonically(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
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

/// What a client gets that asks for a member which an operator changed to `current`, where that is a part of it.
fn allowed(name: &str, asked: Option<&Value>, current: Option<&Value>) -> Option<Value> {
    match (asked?, current?) {
        (Value::Array(asked), Value::Array(current)) => {
            Some(asked.iter().filter(|part| current.contains(part)).cloned().collect())
        }
        (Value::String(asked), Value::String(current)) if name == "scope" => {
            let both: Vec<_> = tokens(current).filter(|token| tokens(asked).any(|asked| asked == *token)).collect();
            // A client without scopes could ask for none at all.
            Some(both.join(" ").into()).filter(|both| both != "")
        }
        _ => None,
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
