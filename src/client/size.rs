//! How much memory a client takes.

use serde_json::Value;

use super::{Client, RedirectUri};

impl Client {
    /// An estimate of the bytes that this client takes, with what it points to. Scopes that clients share count for each.
    pub(crate) fn size(&self) -> usize {
        let uris: usize = self.redirect_uris.iter().map(|uri| size_of::<RedirectUri>() + uri.as_str().len()).sum();
        let allowed = self.scopes.allowed.as_ref().map_or(0, |allowed| allowed.as_str().len());
        let default = self.scopes.default.as_ref().map_or(0, |default| default.as_str().len());
        let details = self.details.as_ref().map_or(0, |details| {
            let name = details.name.as_ref().map_or(0, |name| name.len());
            size_of_val(&**details) + name + members_size(&details.metadata)
        });
        size_of::<Self>() + self.id.len() + uris + allowed + default + details
    }
}

/// A member costs its name, its value, and about as much again for its place in the map.
fn members_size(members: &serde_json::Map<String, Value>) -> usize {
    const ENTRY: usize = size_of::<String>() + size_of::<Value>();
    members.iter().map(|(name, value)| 2 * ENTRY + name.len() + heap_size(value)).sum()
}

fn heap_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(values) => values.capacity() * size_of::<Value>() + values.iter().map(heap_size).sum::<usize>(),
        Value::Object(members) => members_size(members),
    }
}
