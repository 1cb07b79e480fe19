//! Why a document is unusable.

use crate::client::DynamicClientError;

/// The rule that a client id or its document breaks, by its name in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Length,
    Characters,
    Fragment,
    UserInfo,
    Path,
    DotSegment,
    Syntax,
    HostSpelling,
    PlainHttp,
    NotTrusted,
    Address,
    Withdrawn,
    ContentType,
    Size,
    NotAnObject,
    IdMismatch,
    ClientSecret,
    SharedSecretMethod,
    AuthMethod,
    Keys,
    PrivateKey,
    NoRedirectUri,
    /// One of the operator's rules for dynamic clients.
    Dynamic(DynamicClientError),
    RedirectUri,
    NoName,
    Scope,
    Metadata,
}

impl Rule {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Length => "client_id_length",
            Self::Characters => "client_id_characters",
            Self::Fragment => "client_id_fragment",
            Self::UserInfo => "client_id_userinfo",
            Self::Path => "client_id_path",
            Self::DotSegment => "client_id_dot_segment",
            Self::Syntax => "client_id_syntax",
            Self::HostSpelling => "client_id_host_spelling",
            Self::PlainHttp => "client_id_plain_http",
            Self::NotTrusted => "not_trusted",
            Self::Address => "address_not_public",
            Self::Withdrawn => "withdrawn",
            Self::ContentType => "content_type",
            Self::Size => "too_large",
            Self::NotAnObject => "not_a_json_object",
            Self::IdMismatch => "client_id_mismatch",
            Self::ClientSecret => "client_secret",
            Self::SharedSecretMethod => "shared_secret_method",
            Self::AuthMethod => "auth_method",
            Self::Keys => "keys",
            Self::PrivateKey => "private_key",
            Self::NoRedirectUri => "no_redirect_uri",
            Self::Dynamic(error) if error.is_redirect_uri() => "redirect_uri",
            Self::RedirectUri => "redirect_uri",
            Self::NoName => "no_client_name",
            Self::Scope => "scope",
            Self::Metadata | Self::Dynamic(_) => "metadata",
        }
    }

    /// What exactly is wrong, where that is more than the rule.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::Dynamic(error) => Some(error.to_string()),
            _ => None,
        }
    }
}
