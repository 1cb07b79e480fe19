//! Metadata members of this crate's own, which a store keeps and nobody is told.

/// A client that strangers share, see [`RegistrationPolicy::reuse_identical`].
pub(super) const SHARED: &str = "registration_shared";
/// Where the upstream lets a registration be managed.
pub(super) const UPSTREAM_URI: &str = "upstream_registration_client_uri";

/// Members that a store keeps about a client and that are nobody else's business.
pub(super) fn is_internal(name: &str) -> bool {
    crate::client::member::is_operator_member(name) || name == SHARED || name == UPSTREAM_URI
}
