//! Scope values, and the scopes that a client may ask for.

use std::fmt;
use std::sync::Arc;

/// Scope tokens in their order, without repeats (RFC 6749 §3.3). May be empty. Cheap to clone.
///
/// ```
/// use tower_oauth_client_validation::Scope;
///
/// let scope = Scope::parse("openid email openid")?;
/// assert_eq!(scope.as_str(), "openid email");
/// assert!(scope.contains("email"));
/// assert!(!scope.contains("Email"));
/// assert!(Scope::parse("two  spaces").is_err());
/// # Ok::<(), tower_oauth_client_validation::ScopeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Parses a scope value: one or more tokens, separated by single spaces.
    ///
    /// # Errors
    ///
    /// When the value does not follow the grammar of RFC 6749 §3.3.
    pub fn parse(value: &str) -> Result<Self, ScopeError> {
        if !is_scope_value(value) {
            return Err(ScopeError);
        }
        Ok(Self::from_valid_tokens(value.split(' ')))
    }

    /// Collects tokens. There may be none.
    ///
    /// # Errors
    ///
    /// When a token is empty or holds a character that RFC 6749 §3.3 does not allow.
    pub fn from_tokens<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Result<Self, ScopeError> {
        let tokens: Vec<T> = tokens.into_iter().collect();
        if tokens.iter().all(|token| is_scope_token(token.as_ref())) {
            Ok(Self::from_valid_tokens(tokens.iter().map(AsRef::as_ref)))
        } else {
            Err(ScopeError)
        }
    }

    pub(crate) fn from_valid_tokens<'a>(tokens: impl Iterator<Item = &'a str>) -> Self {
        let mut seen = std::collections::HashSet::new();
        let mut text = String::new();
        for token in tokens.filter(|token| seen.insert(*token)) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(token);
        }
        Self(text.into())
    }

    /// The tokens, joined by single spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        tokens(&self.0)
    }

    /// Whether `token` is one of the tokens. Case matters.
    #[must_use]
    pub fn contains(&self, token: &str) -> bool {
        self.iter().any(|own| own == token)
    }

    /// Whether there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self("".into())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Scope {
    type Err = ScopeError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

/// The scopes that a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AllowedScopes {
    /// Every scope: the list holds the token `*`.
    All,
    /// These scopes.
    Listed(Scope),
}

impl AllowedScopes {
    /// Allows these tokens, or every scope if `*` is among them.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        if scope.contains("*") { Self::All } else { Self::Listed(scope) }
    }

    /// Whether `scope` is allowed. `*` itself never is.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        match self {
            Self::All => scope != "*",
            Self::Listed(allowed) => allowed.contains(scope),
        }
    }

    /// The scopes as a scope value; `*` means all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Listed(scope) => scope.as_str(),
        }
    }
}

/// The value does not follow the scope grammar of RFC 6749 §3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeError;

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a scope: tokens of visible ASCII without quote and backslash, separated by single spaces")
    }
}

impl std::error::Error for ScopeError {}

/// The tokens of a value that follows the grammar, or of the empty string.
pub(crate) fn tokens(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        // Tokens are short, so setting up a searcher would cost more than this loop.
        let start = rest.bytes().position(|byte| byte != b' ')?;
        let token = &rest[start..];
        let end = token.bytes().position(|byte| byte == b' ').unwrap_or(token.len());
        let (token, after) = token.split_at(end);
        rest = after;
        Some(token)
    })
}

/// Whether this is a `scope = scope-token *( SP scope-token )` (RFC 6749 §3.3).
pub(crate) fn is_scope_value(value: &str) -> bool {
    let mut token_is_empty = true;
    for byte in value.bytes() {
        match byte {
            b' ' if token_is_empty => return false,
            b' ' => token_is_empty = true,
            0x21 | 0x23..=0x5B | 0x5D..=0x7E => token_is_empty = false,
            _ => return false,
        }
    }
    !token_is_empty
}

/// Whether this is a `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )` (RFC 6749 §3.3).
fn is_scope_token(token: &str) -> bool {
    !token.contains(' ') && is_scope_value(token)
}
