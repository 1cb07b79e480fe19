//! Metadata members that only this server writes.

#[cfg(feature = "upstream-registration")]
pub(super) use crate::client::member::UPSTREAM_URI;
pub(super) use crate::client::member::{CLIENT_SECRET, SHARED, SOURCE_MEMBER, is_internal, public_metadata};

use crate::client::operator::with_granted;
use crate::client::{Client, ClientError};

/// SHA-256 of the registration access token, in hexadecimal.
pub(super) const ACCESS_TOKEN: &str = "registration_access_token_sha256";

/// Members of the response that a client never sets.
pub(super) const ANSWER_MEMBERS: [&str; 4] =
    ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];

/// Members that metadata from outside cannot set: they would name another client or grant privileges.
pub(super) fn is_reserved(name: &str) -> bool {
    is_internal(name) || ANSWER_MEMBERS.contains(&name) || name == "client_id"
}

/// A new registration remembers what it was granted, and where it comes from.
pub(super) fn with_source(client: &Client, source: Option<&str>) -> Result<Client, ClientError> {
    let client = with_granted(client)?;
    match source {
        Some(source) => client.to_builder().metadata(SOURCE_MEMBER, source).build(),
        None => Ok(client),
    }
}
