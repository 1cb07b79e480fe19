//! Why a client cannot be built.

use std::error::Error;
use std::fmt;

use super::redirect_uri::RedirectUriError;
use super::scope::ScopeError;

/// A client cannot be built, or read from its metadata.
///
/// ```
/// use tower_oauth_client_validation::{Client, ClientErrorKind};
///
/// let error = Client::builder("app").redirect_uri("https://app.example/cb#top").build().unwrap_err();
/// assert_eq!(error.to_string(), r#"client "app": redirect_uris[0]: a fragment is not allowed (at byte 22)"#);
/// assert_eq!((error.client_id(), error.kind().member()), (Some("app"), Some("redirect_uris")));
/// assert!(matches!(error.kind(), ClientErrorKind::RedirectUri { index: 0, .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    client_id: Option<Box<str>>,
    kind: ClientErrorKind,
}

/// What is wrong with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The metadata is not a JSON object.
    NotAnObject,
    /// The member `client_id` is missing.
    IdMissing,
    /// The id is empty, or holds something other than printable ASCII (RFC 6749 appendix A.1).
    Id,
    /// A member has the wrong type.
    Type {
        /// The member.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A redirect URI breaks a rule.
    RedirectUri {
        /// Its position.
        index: usize,
        /// The rule.
        source: RedirectUriError,
    },
    /// A scope list does not follow the grammar.
    Scope {
        /// The member: `scope` or `default_scope`.
        member: &'static str,
        /// The rule.
        source: ScopeError,
    },
    /// A default scope is not among the allowed ones.
    DefaultScope,
    /// [`ClientBuilder::metadata`](crate::ClientBuilder::metadata) was called with a member that another method sets.
    BuilderMember(String),
}

impl ClientError {
    pub(super) fn new(client_id: &str, kind: ClientErrorKind) -> Self {
        Self { client_id: Some(client_id).filter(|id| !id.is_empty()).map(Into::into), kind }
    }

    /// The id of the client, unless it is missing. It is arbitrary text if the kind is [`ClientErrorKind::Id`].
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// What is wrong with it.
    #[must_use]
    pub fn kind(&self) -> &ClientErrorKind {
        &self.kind
    }
}

impl ClientErrorKind {
    /// The metadata member that is wrong.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        match self {
            Self::NotAnObject => None,
            Self::IdMissing | Self::Id => Some("client_id"),
            Self::Type { member, .. } | Self::Scope { member, .. } => Some(member),
            Self::RedirectUri { .. } => Some("redirect_uris"),
            Self::DefaultScope => Some("default_scope"),
            Self::BuilderMember(member) => Some(member),
        }
    }
}

impl From<ClientErrorKind> for ClientError {
    fn from(kind: ClientErrorKind) -> Self {
        Self { client_id: None, kind }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client_id) = &self.client_id {
            write!(f, "client {client_id:?}: ")?;
        }
        self.kind.fmt(f)
    }
}

/// Without the client's id.
impl fmt::Display for ClientErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("client metadata must be a JSON object"),
            Self::IdMissing => f.write_str("client_id: missing"),
            Self::Id => f.write_str("client_id: must be printable ASCII and not empty"),
            Self::Type { member, expected } => write!(f, "{member}: must be {expected}"),
            Self::RedirectUri { index, source } => write!(f, "redirect_uris[{index}]: {source}"),
            Self::Scope { member, source } => write!(f, "{member}: {source}"),
            Self::DefaultScope => f.write_str("default_scope: must be among the allowed scopes"),
            Self::BuilderMember(member) => write!(f, "{member}: has its own setting, so it cannot be other metadata"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ClientErrorKind::RedirectUri { source, .. } => Some(source),
            ClientErrorKind::Scope { source, .. } => Some(source),
            ClientErrorKind::NotAnObject
            | ClientErrorKind::IdMissing
            | ClientErrorKind::Id
            | ClientErrorKind::Type { .. }
            | ClientErrorKind::DefaultScope
            | ClientErrorKind::BuilderMember(_) => None,
        }
    }
}
