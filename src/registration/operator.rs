//! What an operator decided about a client, and a change by the client must keep.

use crate::client::{Client, ClientError};

/// Keeps the trust in `old`, as long as the redirect URIs that were trusted stay, and the end of the registration.
pub(super) fn keep_decisions(old: &Client, new: &Client) -> Result<Client, ClientError> {
    let is_trusted = old.is_trusted() && old.redirect_uris() == new.redirect_uris();
    new.to_builder().trusted(is_trusted).expires_at(old.expires_at()).build()
}
