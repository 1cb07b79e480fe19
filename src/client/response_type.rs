//! Response types and grant types.

use std::fmt;

/// A response type: which of `code`, `token` and `id_token` the answer carries, or `none`.
///
/// ```
/// use tower_oauth_client_validation::ResponseType;
///
/// assert_eq!(ResponseType::parse("id_token code"), ResponseType::parse("code id_token"));
/// assert_eq!(ResponseType::parse("code code"), None);
/// assert_eq!(ResponseType::CODE.to_string(), "code");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponseType(u8);

impl ResponseType {
    /// The usual spelling of each set of bits.
    const NAMES: [&'static str; 9] = [
        "",
        "code",
        "id_token",
        "code id_token",
        "token",
        "code token",
        "id_token token",
        "code id_token token",
        "none",
    ];

    /// `code`
    pub const CODE: Self = Self(1);
    /// `id_token`
    pub const ID_TOKEN: Self = Self(2);
    /// `code id_token`
    pub const CODE_ID_TOKEN: Self = Self(3);
    /// `token`
    pub const TOKEN: Self = Self(4);
    /// `code token`
    pub const CODE_TOKEN: Self = Self(5);
    /// `id_token token`
    pub const ID_TOKEN_TOKEN: Self = Self(6);
    /// `code id_token token`
    pub const CODE_ID_TOKEN_TOKEN: Self = Self(7);
    /// `none`
    pub const NONE: Self = Self(8);

    /// Parses words in any order, none twice, separated by single spaces (RFC 6749 §3.1.1).
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut bits = 0;
        for word in value.as_bytes().split(|byte| *byte == b' ') {
            let bit = [1, 2, 4, 8].into_iter().find(|bit| Self(*bit).as_str().as_bytes() == word)?;
            if bits & bit != 0 {
                return None;
            }
            bits |= bit;
        }
        // `none` stands alone (OAuth 2.0 Multiple Response Type Encoding Practices §4).
        (bits <= Self::NONE.0).then_some(Self(bits))
    }

    /// Whether the answer carries a token or ID token, and so must not go into the query.
    #[must_use]
    pub fn carries_token(self) -> bool {
        self.0 & Self::ID_TOKEN_TOKEN.0 != 0
    }

    /// Whether the answer carries an ID token, so that the request needs a `nonce` (OpenID Connect Core §3.2.2.1).
    #[must_use]
    pub fn carries_id_token(self) -> bool {
        self.0 & Self::ID_TOKEN.0 != 0
    }

    /// Whether the answer carries a code.
    #[must_use]
    pub fn carries_code(self) -> bool {
        self.0 & Self::CODE.0 != 0
    }

    /// The grant types that it needs (OpenID Connect Dynamic Client Registration §2).
    #[must_use]
    pub fn required_grant_types(self) -> GrantTypes {
        let mut grants = GrantTypes::EMPTY;
        if self.carries_code() {
            grants = grants.with(GrantTypes::AUTHORIZATION_CODE);
        }
        if self.carries_token() {
            grants = grants.with(GrantTypes::IMPLICIT);
        }
        grants
    }

    /// The usual spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }
}

impl fmt::Display for ResponseType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`ResponseType`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseTypes(u16);

impl ResponseTypes {
    /// No response type.
    pub const EMPTY: Self = Self(0);
    /// Just `code`.
    pub const CODE: Self = Self::EMPTY.with(ResponseType::CODE);

    /// Adds a response type.
    #[must_use]
    pub const fn with(self, response_type: ResponseType) -> Self {
        Self(self.0 | 1 << response_type.0)
    }

    /// Whether the set holds `response_type`.
    #[must_use]
    pub const fn contains(self, response_type: ResponseType) -> bool {
        self.0 & 1 << response_type.0 != 0
    }

    /// The response types in the set.
    pub fn iter(self) -> impl Iterator<Item = ResponseType> {
        (1..=ResponseType::NONE.0).map(ResponseType).filter(move |response_type| self.contains(*response_type))
    }
}

impl FromIterator<ResponseType> for ResponseTypes {
    fn from_iter<I: IntoIterator<Item = ResponseType>>(types: I) -> Self {
        types.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// A set of grant types (RFC 7591 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantTypes(u8);

impl GrantTypes {
    const NAMES: [(&'static str, Self); 7] = [
        ("authorization_code", Self::AUTHORIZATION_CODE),
        ("implicit", Self::IMPLICIT),
        ("refresh_token", Self::REFRESH_TOKEN),
        ("client_credentials", Self::CLIENT_CREDENTIALS),
        ("password", Self::PASSWORD),
        ("urn:ietf:params:oauth:grant-type:device_code", Self::DEVICE_CODE),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", Self::JWT_BEARER),
    ];

    /// No grant type.
    pub const EMPTY: Self = Self(0);
    /// `authorization_code`
    pub const AUTHORIZATION_CODE: Self = Self(1);
    /// `implicit`
    pub const IMPLICIT: Self = Self(2);
    /// `refresh_token`
    pub const REFRESH_TOKEN: Self = Self(4);
    /// `client_credentials`
    pub const CLIENT_CREDENTIALS: Self = Self(8);
    /// `password`
    pub const PASSWORD: Self = Self(16);
    /// `urn:ietf:params:oauth:grant-type:device_code`
    pub const DEVICE_CODE: Self = Self(32);
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`
    pub const JWT_BEARER: Self = Self(64);

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this set holds all of `other`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names that metadata uses.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, grant)| self.contains(*grant)).map(|(name, _)| name)
    }

    /// The grant type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, grant)| *grant)
    }
}
