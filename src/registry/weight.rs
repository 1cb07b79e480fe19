//! How many bytes a client occupies in memory.

use std::mem::size_of;

use serde_json::{Map, Value};

use crate::client::{Client, ClientScopes, RedirectUri};

/// The bytes that a client occupies, without its scopes, which clients share. An upper bound that is close for
/// anything but tiny metadata.
pub(super) fn client_bytes(client: &Client) -> usize {
    let redirect_uris: usize =
        client.redirect_uris().iter().map(|uri| size_of::<RedirectUri>() + uri.as_str().len()).sum();
    let details = client.name().map_or(0, str::len) + client.metadata().map_or(0, map_bytes);
    // The box of the details, where there is one, is about as large as this.
    let details = if details > 0 || client.expires_at().is_some() { details + size_of::<Client>() } else { 0 };
    ARC_HEADER + size_of::<Client>() + client.id().len() + redirect_uris + details
}

/// The bytes that a list of scopes occupies.
pub(super) fn scopes_bytes(scopes: &ClientScopes) -> usize {
    let allowed = scopes.allowed.as_ref().map_or(0, |allowed| allowed.as_str().len());
    let default = scopes.default.as_ref().map_or(0, |default| default.as_str().len());
    ARC_HEADER * 3 + size_of::<ClientScopes>() + allowed + default
}

/// The two counters of an `Arc`.
const ARC_HEADER: usize = 2 * size_of::<usize>();

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.capacity(),
        Value::Array(values) => values.capacity() * size_of::<Value>() + values.iter().map(value_bytes).sum::<usize>(),
        Value::Object(members) => map_bytes(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The nodes of a B-tree have 11 places, and all but the root hold at least 5 members.
fn map_bytes(members: &Map<String, Value>) -> usize {
    const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 4 * size_of::<usize>();
    let nodes = if members.is_empty() { 0 } else { members.len() / 5 + 1 };
    nodes * NODE + members.iter().map(|(name, value)| name.capacity() + value_bytes(value)).sum::<usize>()
}
