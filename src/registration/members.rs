//! Metadata members that only this server writes.

use serde_json::{Map, Value};

use crate::client::member::is_operator_member;
use crate::registry::SOURCE_MEMBER;

/// SHA-256 of the client secret, in hexadecimal.
pub(super) const CLIENT_SECRET: &str = "client_secret_sha256";
/// SHA-256 of the registration access token, in hexadecimal.
pub(super) const ACCESS_TOKEN: &str = "registration_access_token_sha256";
/// Set on a client that strangers share, see [`RegistrationPolicy::reuse_identical`](super::RegistrationPolicy::reuse_identical).
pub(super) const SHARED: &str = "registration_shared";
/// Fingerprints of the metadata that the client's last request granted, see [`operator`](super::operator).
pub(super) const GRANTED: &str = "registration_granted";
/// The client configuration endpoint at the upstream.
pub(super) const UPSTREAM_URI: &str = "upstream_registration_client_uri";

const INTERNAL_MEMBERS: [&str; 4] = [SHARED, GRANTED, SOURCE_MEMBER, UPSTREAM_URI];

/// Secrets that an operator gave a client in addition to the one that was issued here.
pub(super) const SECRETS: [&str; 3] = ["client_secret", "client_secret_hash", "previous_client_secret_sha256"];

/// Members of the response that a client never sets.
pub(super) const ANSWER_MEMBERS: [&str; 4] =
    ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];

/// Members that metadata from outside cannot set: they would name another client or grant privileges.
pub(super) fn is_reserved(name: &str) -> bool {
    is_internal(name) || ANSWER_MEMBERS.contains(&name) || name == "client_id"
}

/// Members that a store keeps and does not show.
fn is_internal(name: &str) -> bool {
    is_operator_member(name) || INTERNAL_MEMBERS.contains(&name) || SECRETS.contains(&name)
}

/// The part of the metadata that may be shown.
pub(super) fn public_metadata(mut members: Map<String, Value>) -> Map<String, Value> {
    members.retain(|name, _| !is_internal(name));
    members
}
