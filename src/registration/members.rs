//! Metadata members that only this server writes.

use serde_json::{Map, Value};

use crate::client::member::is_operator_member;
use crate::client::secret::OTHER_SECRETS;
use crate::registry::SOURCE_MEMBER;

/// SHA-256 of the registration access token, in hexadecimal.
pub(super) const ACCESS_TOKEN: &str = "registration_access_token_sha256";
/// Set on a client that strangers share, see [`RegistrationPolicy::reuse_identical`](super::RegistrationPolicy::reuse_identical).
pub(super) const SHARED: &str = "registration_shared";
/// Fingerprints of the metadata that the client's last request granted, see [`operator`](super::operator).
pub(super) const GRANTED: &str = "registration_granted";
/// The client configuration endpoint at the upstream.
pub(super) const UPSTREAM_URI: &str = "upstream_registration_client_uri";

const INTERNAL_MEMBERS: [&str; 4] = [SHARED, GRANTED, SOURCE_MEMBER, UPSTREAM_URI];

/// Members that the server answers with and a client never sets.
pub(super) const ANSWER_MEMBERS: [&str; 4] =
    ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];

/// Members that metadata from outside cannot set: they would name another client or give privileges.
pub(super) fn is_reserved(name: &str) -> bool {
    is_internal(name) || ANSWER_MEMBERS.contains(&name) || name == "client_id"
}

/// Members that a store keeps and does not show.
fn is_internal(name: &str) -> bool {
    is_operator_member(name) || INTERNAL_MEMBERS.contains(&name) || OTHER_SECRETS.contains(&name)
}

/// What may be shown of metadata.
pub(super) fn public_metadata(mut members: Map<String, Value>) -> Map<String, Value> {
    members.retain(|name, _| !is_internal(name));
    members
}
