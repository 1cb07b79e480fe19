//! Registered redirect URIs, and how a requested one matches them.
//!
//! URIs are compared as strings, byte for byte (RFC 3986 §6.2.1, RFC 9700 §2.1). They are parsed only to validate them
//! and to find the port of a loopback URI.

mod closest;
mod loopback;
mod rule;

use std::fmt;

use self::loopback::Loopback;
use self::rule::{PlainHttp, judge, judge_registered};

pub use self::closest::{ClosestMatch, UriPart};
pub use self::rule::{RedirectUriError, RedirectUriRule};
use super::uri::UriParts;

/// A registered redirect URI.
///
/// # What can be registered
///
/// - An absolute RFC 3986 URI in ASCII, without a fragment, userinfo, backslash, white space, control character or dot
///   segment (raw or percent-encoded). A port, where there is a colon, is 1-65535.
/// - `https`, `http` on a loopback host (`localhost`, `127.0.0.1`, `[::1]`), or a private-use scheme (RFC 8252 §7.1)
///   such as `com.example.app:/cb`. Other `http` URIs need [`RedirectUri::insecure_http`].
/// - `http` and `https` URIs spell their host as a browser does: lower case, punycode, full IP addresses.
/// - The query holds no parameter of the authorization response, such as `code` or `state`.
/// - `*` may stand for the port of an `http` loopback URI: `http://localhost:*` matches any port, path and query,
///   `http://localhost:*/cb` any port with exactly that path.
///
/// # What matches
///
/// A requested URI matches when it is the same string, byte for byte. An `http` loopback URI also matches with any
/// port or none (RFC 8252 §7.3), because native apps listen on an ephemeral port. A wildcard-port pattern needs an
/// explicit port.
///
/// ```
/// use tower_oauth_client_validation::RedirectUri;
///
/// let uri = RedirectUri::parse("http://127.0.0.1/callback")?;
/// assert!(uri.matches("http://127.0.0.1:49152/callback"));
/// assert!(!uri.matches("http://localhost:49152/callback"));
///
/// let uri = RedirectUri::parse("https://app.example/callback")?;
/// assert!(uri.matches("https://app.example/callback"));
/// assert!(!uri.matches("https://app.example:443/callback"));
///
/// assert!(RedirectUri::parse("https://app.example/callback#top").is_err());
/// # Ok::<(), tower_oauth_client_validation::RedirectUriError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedirectUri(Box<str>);

impl RedirectUri {
    /// Checks a URI against the rules above.
    ///
    /// # Errors
    ///
    /// The error names the broken rule and the byte offset.
    pub fn parse(uri: &str) -> Result<Self, RedirectUriError> {
        judge_registered(uri, PlainHttp::LoopbackOnly).map(|()| Self(uri.into()))
    }

    /// Like [`RedirectUri::parse`], but allows `http` on any host.
    ///
    /// The authorization code then crosses the network in the clear, which RFC 9700 §2.6 forbids.
    ///
    /// # Errors
    ///
    /// The error names the broken rule and the byte offset.
    pub fn insecure_http(uri: &str) -> Result<Self, RedirectUriError> {
        judge_registered(uri, PlainHttp::Anywhere).map(|()| Self(uri.into()))
    }

    /// The URI as it was registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the port is the wildcard `*`.
    #[must_use]
    pub fn has_wildcard_port(&self) -> bool {
        Loopback::split(&self.0).is_some_and(|loopback| loopback.has_wildcard_port())
    }

    /// Whether this is an `http` URI on `localhost`, `127.0.0.1` or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        Loopback::split(&self.0).is_some()
    }

    /// Whether `requested` matches, with [`LoopbackPorts::Any`].
    #[must_use]
    pub fn matches(&self, requested: &str) -> bool {
        find(requested, std::slice::from_ref(self), |_host| true).is_some()
    }

    /// Whether only [`RedirectUri::insecure_http`] allows this URI.
    pub(crate) fn is_insecure_http(&self) -> bool {
        self.0.starts_with("http:") && !self.is_loopback()
    }

    /// The URI cut into its parts.
    pub(crate) fn parts(&self) -> UriParts<'_> {
        UriParts::split(&self.0)
    }
}

impl fmt::Debug for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for RedirectUri {
    type Err = RedirectUriError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        Self::parse(uri)
    }
}

/// Which registered `http` loopback URIs match with a port that differs from the registered one.
///
/// RFC 8252 §7.3 requires it for loopback IP literals, and RFC 9700 §2.1 for `localhost` too. Wildcard-port patterns match
/// any port in every case.
///
/// ```
/// use tower_oauth_client_validation::LoopbackPorts;
/// assert_eq!(LoopbackPorts::default(), LoopbackPorts::Any);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopbackPorts {
    /// Those on `localhost`, `127.0.0.1` and `[::1]` (the default). Widely used native clients register
    /// `http://localhost/callback` and request it with an ephemeral port.
    #[default]
    Any,
    /// Those on `127.0.0.1` and `[::1]` (RFC 8252 §8.3).
    IpLiterals,
    /// Those of clients whose `application_type` is `native`.
    NativeClients,
    /// None: the port must be the registered one.
    Exact,
}

/// Why a requested redirect URI is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectUriMismatch {
    /// It breaks a rule that applies to every redirect URI.
    Malformed(RedirectUriError),
    /// It matches no registered URI.
    NotRegistered(ClosestMatch),
}

/// The registered URI that `requested` matches. `any_port` says whether a loopback URI with this host matches with a
/// port that differs from the registered one.
pub(super) fn find<'c>(
    requested: &str,
    registered: &'c [RedirectUri],
    any_port: impl FnOnce(&str) -> bool,
) -> Option<&'c RedirectUri> {
    find_equal(requested, registered).or_else(|| find_loopback(requested, registered, any_port))
}

/// Finds the same string. It was checked at registration. A wildcard pattern is not a URI, so requesting it literally
/// matches nothing.
fn find_equal<'c>(requested: &str, registered: &'c [RedirectUri]) -> Option<&'c RedirectUri> {
    registered.iter().find(|uri| *uri.0 == *requested).filter(|uri| !uri.has_wildcard_port())
}

/// Finds an `http` loopback URI that differs in the port only (RFC 8252 §7.3).
fn find_loopback<'c>(
    requested: &str,
    registered: &'c [RedirectUri],
    any_port: impl FnOnce(&str) -> bool,
) -> Option<&'c RedirectUri> {
    let asked = Loopback::split(requested).filter(Loopback::has_plain_port)?;
    let any_port = any_port(asked.host);
    registered.iter().find(|uri| {
        Loopback::split(&uri.0).is_some_and(|own| {
            own.host == asked.host
                && match (own.port, own.rest) {
                    // The client chose path and query, so they must be checked.
                    (Some("*"), "") => asked.port.is_some() && judge(requested, PlainHttp::LoopbackOnly).is_ok(),
                    (Some("*"), rest) => asked.port.is_some() && asked.rest == rest,
                    (_, rest) => any_port && asked.rest == rest,
                }
        })
    })
}

/// Why nothing matched: the rule that the URI breaks, or how the closest registered URI differs.
pub(super) fn explain(requested: &str, registered: &[RedirectUri]) -> RedirectUriMismatch {
    if let Err(error) = judge_requested(requested) {
        return RedirectUriMismatch::Malformed(error);
    }
    RedirectUriMismatch::NotRegistered(ClosestMatch::find(requested, registered.iter().map(RedirectUri::as_str)))
}

/// Checks a requested URI against the rules that apply to every redirect URI. They allow plain `http`, which a client may
/// have registered.
pub(crate) fn judge_requested(requested: &str) -> Result<(), RedirectUriError> {
    judge(requested, PlainHttp::Anywhere)
}
