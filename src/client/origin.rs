//! Where clients come from.

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientOrigin {
    /// The operator configured it.
    Configured,
    /// It registered itself (RFC 7591).
    Registered,
    /// It registered itself with an upstream identity provider.
    Upstream,
    /// Its id is the address of a metadata document.
    MetadataDocument,
}

impl ClientOrigin {
    /// Whether such a client is dynamic, see [`Client::is_dynamic`](crate::Client::is_dynamic).
    #[must_use]
    pub fn is_dynamic(self) -> bool {
        match self {
            Self::Configured => false,
            Self::Registered | Self::Upstream | Self::MetadataDocument => true,
        }
    }
}
