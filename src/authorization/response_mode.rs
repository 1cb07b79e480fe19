//! How responses reach the client.

/// How a response goes back to the client (OAuth 2.0 Multiple Response Type Encoding Practices, Form Post Response
/// Mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    Query,
    /// In the fragment of the redirect URI.
    Fragment,
    /// As a form that the browser posts to the redirect URI.
    FormPost,
}

impl ResponseMode {
    /// The mode with this name.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "query" => Self::Query,
            "fragment" => Self::Fragment,
            "form_post" => Self::FormPost,
            _ => return None,
        })
    }

    /// The value of the `response_mode` parameter.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Fragment => "fragment",
            Self::FormPost => "form_post",
        }
    }

    pub(super) fn default_for(carries_token: bool) -> Self {
        if carries_token { Self::Fragment } else { Self::Query }
    }

    /// A query ends up in logs and in the `Referer` header, so it must not carry a token.
    pub(super) fn suits(self, carries_token: bool) -> bool {
        self != Self::Query || !carries_token
    }
}
