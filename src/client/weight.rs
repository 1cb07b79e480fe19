//! How much memory metadata takes.

use std::mem::size_of;

use serde_json::{Map, Value};

use super::{Client, ClientScopes, Details, RedirectUri};

/// What the allocator adds to each allocation.
const ALLOCATION: usize = 16;

/// A leaf of a B-tree of members: room for 11.
const MAP_LEAF: usize = 11 * size_of::<(String, Value)>() + ALLOCATION;

/// The fewest members that each leaf of a large B-tree holds.
const MIN_LEAF_MEMBERS: usize = 5;

impl Client {
    /// Roughly how many bytes of memory the client takes, for stores and caches that are bounded by size. This is an
    /// upper estimate: scope lists that clients share count for each of them.
    #[must_use]
    pub fn memory_size(&self) -> usize {
        self.own_size() + self.scopes.size()
    }

    /// Without the scope lists.
    pub(crate) fn own_size(&self) -> usize {
        let uris = self.redirect_uris.iter().map(|uri| size_of::<RedirectUri>() + text(uri.as_str()));
        let details = self.details.as_ref().map_or(0, |details| {
            size_of::<Details>() + details.name.as_deref().map_or(0, text) + members_size(&details.metadata)
        });
        size_of::<Self>() + text(&self.id) + uris.sum::<usize>() + details
    }
}

impl ClientScopes {
    pub(crate) fn size(&self) -> usize {
        let allowed = self.allowed.as_ref().map_or(0, |allowed| text(allowed.as_str()));
        let default = self.default.as_ref().map_or(0, |default| text(default.as_str()));
        size_of::<Self>() + ALLOCATION + allowed + default
    }
}

fn text(text: &str) -> usize {
    text.len() + ALLOCATION
}

/// The bytes that an object takes on the heap.
pub(super) fn members_size(members: &Map<String, Value>) -> usize {
    let leaves = match members.len() {
        0 => 0,
        1..=11 => 1,
        members => 1 + members / MIN_LEAF_MEMBERS,
    };
    let member = |(name, value): (&String, &Value)| name.len() + ALLOCATION + value_size(value);
    leaves * MAP_LEAF + members.iter().map(member).sum::<usize>()
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() + ALLOCATION,
        Value::Array(values) => {
            ALLOCATION + values.capacity() * size_of::<Value>() + values.iter().map(value_size).sum::<usize>()
        }
        Value::Object(members) => members_size(members),
    }
}
