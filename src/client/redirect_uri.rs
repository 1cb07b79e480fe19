//! Registered redirect URIs and the three ways in which a requested one matches.
//!
//! Strings are compared raw (RFC 3986 §6.2.1, RFC 9700 §2.1). URIs are parsed only to judge them when
//! they are registered, and to cut the port out of a loopback URI.

use std::fmt;

use fluent_uri::Uri;
use percent_encoding::percent_decode;

/// Hosts that count as loopback, as they are written in a URI. Nothing else does.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// 253 bytes and a dot for the root.
const LONGEST_HOST: usize = 254;

/// Schemes that run script, read local data, start other programs or name no place to return to.
const FORBIDDEN_SCHEMES: [&str; 19] = [
    "javascript",
    "data",
    "vbscript",
    "file",
    "blob",
    "about",
    "mailto",
    "filesystem",
    "view-source",
    "urn",
    "ws",
    "wss",
    "ftp",
    "intent",
    "jar",
    "chrome",
    "tel",
    "sms",
    "ldap",
];

/// Parameters that an authorization response adds; a redirect URI that brings one of its own lets an
/// attacker choose which of the two the client reads (CVE-2026-9689).
const RESPONSE_PARAMETERS: [&str; 12] = [
    "code",
    "state",
    "error",
    "error_description",
    "error_uri",
    "iss",
    "access_token",
    "id_token",
    "token_type",
    "expires_in",
    "session_state",
    "response",
];

/// A redirect URI as a client registered it.
///
/// # What can be registered
///
/// - an absolute RFC 3986 URI in ASCII, without fragment, userinfo, backslash, white space, control
///   characters or dot segments (also percent-encoded ones), with a port of 1-65535 where it has a colon;
/// - `https`, `http` on a loopback host (`localhost`, `127.0.0.1`, `[::1]`), or a private-use scheme
///   (RFC 8252 §7.1) such as `com.example.app:/cb`. `http` elsewhere takes [`RedirectUri::insecure_http`];
/// - for `http` and `https`: a host that stands as a browser writes it;
/// - a query without parameters of the authorization response;
/// - `*` as the port of an `http` loopback URI, and nowhere else: `http://localhost:*` takes any port, path
///   and query, `http://localhost:*/cb` any port and just that path.
///
/// # What matches
///
/// A requested URI matches when it is the same string, byte for byte. An `http` loopback URI also matches
/// with any port or none (RFC 8252 §7.3): native apps listen on an ephemeral one. A wildcard-port pattern
/// needs an explicit port.
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
    /// Judges a URI by the rules above.
    ///
    /// # Errors
    ///
    /// Says which rule is broken, and at which byte.
    pub fn parse(uri: &str) -> Result<Self, RedirectUriError> {
        Self::register(uri, PlainHttp::LoopbackOnly)
    }

    /// Like [`RedirectUri::parse`], but takes `http` on any host.
    ///
    /// The authorization code then crosses the network in the clear; RFC 9700 §2.6 forbids it.
    ///
    /// # Errors
    ///
    /// Says which of the other rules is broken, and at which byte.
    pub fn insecure_http(uri: &str) -> Result<Self, RedirectUriError> {
        Self::register(uri, PlainHttp::Anywhere)
    }

    fn register(uri: &str, plain_http: PlainHttp) -> Result<Self, RedirectUriError> {
        match uri.find('*') {
            None => judge(uri, plain_http)?,
            Some(at) => judge_wildcard(uri, at, plain_http)?,
        }
        Ok(Self(uri.into()))
    }

    /// The URI as it was registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the port is the wildcard `*`.
    #[must_use]
    pub fn has_wildcard_port(&self) -> bool {
        Loopback::split(&self.0).is_some_and(|loopback| loopback.port == Some("*"))
    }

    /// Whether this is an `http` URI on `localhost`, `127.0.0.1` or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        Loopback::split(&self.0).is_some()
    }

    /// Whether `requested` matches, with [`LoopbackPorts::Any`].
    #[must_use]
    pub fn matches(&self, requested: &str) -> bool {
        find(requested, std::slice::from_ref(self), LoopbackRule::AnyHost).is_ok()
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
/// RFC 8252 §7.3 asks for it on loopback IP literals, RFC 9700 §2.1 names `localhost` too. A wildcard-port
/// pattern is not affected: it was registered to take any port.
///
/// ```
/// use tower_oauth_client_validation::LoopbackPorts;
/// assert_eq!(LoopbackPorts::default(), LoopbackPorts::Any);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopbackPorts {
    /// `localhost`, `127.0.0.1` and `[::1]` (the default): widely used native clients register
    /// `http://localhost/callback` and come with an ephemeral port.
    #[default]
    Any,
    /// `127.0.0.1` and `[::1]` only (RFC 8252 §8.3).
    IpLiterals,
    /// Only for clients whose `application_type` is `native`.
    NativeClients,
}

/// [`LoopbackPorts`], resolved for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopbackRule {
    AnyHost,
    IpLiterals,
    SamePort,
}

/// The registered URI that `requested` matches, or why there is none.
pub(super) fn find<'c>(
    requested: &str,
    registered: &'c [RedirectUri],
    rule: LoopbackRule,
) -> Result<&'c RedirectUri, RedirectUriMismatch> {
    find_equal(requested, registered)
        .or_else(|| find_loopback(requested, registered, rule))
        .ok_or_else(|| explain(requested, registered))
}

/// The same string, byte for byte.
///
/// A registered URI was judged when it was registered, so an equal one needs no judging. A pattern is no URI:
/// asking for it literally is asking for the port `*`, which is malformed.
fn find_equal<'c>(requested: &str, registered: &'c [RedirectUri]) -> Option<&'c RedirectUri> {
    registered.iter().find(|uri| *uri.0 == *requested).filter(|uri| !uri.has_wildcard_port())
}

/// The same `http` loopback URI but for the port (RFC 8252 §7.3).
fn find_loopback<'c>(requested: &str, registered: &'c [RedirectUri], rule: LoopbackRule) -> Option<&'c RedirectUri> {
    let asked = Loopback::split(requested)?;
    if !asked.port.is_none_or(is_plain_port) {
        return None;
    }
    let any_port = match rule {
        LoopbackRule::AnyHost => true,
        LoopbackRule::IpLiterals => asked.host != "localhost",
        LoopbackRule::SamePort => false,
    };
    registered.iter().find(|uri| {
        Loopback::split(&uri.0).is_some_and(|own| {
            own.host == asked.host
                && match (own.port, own.rest) {
                    // Any path and query: the only bytes that no registered URI vouches for.
                    (Some("*"), "") => asked.port.is_some() && judge(requested, PlainHttp::LoopbackOnly).is_ok(),
                    (Some("*"), rest) => asked.port.is_some() && asked.rest == rest,
                    (_, rest) => any_port && asked.rest == rest,
                }
        })
    })
}

/// Why nothing matched: a rule that the URI breaks in itself, or what the nearest registered URI has different.
fn explain(requested: &str, registered: &[RedirectUri]) -> RedirectUriMismatch {
    // Plain `http` is a matter of what was registered, not of syntax.
    match judge(requested, PlainHttp::Anywhere) {
        Err(error) => RedirectUriMismatch::Malformed(error),
        Ok(()) => RedirectUriMismatch::NotRegistered(nearest(requested, registered)),
    }
}

/// An `http` URI on a loopback host, cut around its port.
struct Loopback<'a> {
    host: &'a str,
    port: Option<&'a str>,
    rest: &'a str,
}

impl<'a> Loopback<'a> {
    fn split(uri: &'a str) -> Option<Self> {
        let after_scheme = uri.strip_prefix("http://")?;
        let host = LOOPBACK_HOSTS.into_iter().find(|host| after_scheme.starts_with(host))?;
        let after_host = &after_scheme[host.len()..];
        match after_host.bytes().next() {
            None | Some(b'/' | b'?') => Some(Self { host, port: None, rest: after_host }),
            Some(b':') => {
                let after_colon = &after_host[1..];
                let end = after_colon.find(['/', '?']).unwrap_or(after_colon.len());
                let (port, rest) = after_colon.split_at(end);
                Some(Self { host, port: Some(port), rest })
            }
            Some(_) => None,
        }
    }
}

/// Whether this is a port of 1-65535 without a leading zero.
fn is_plain_port(port: &str) -> bool {
    !port.starts_with('0') && is_port(port)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlainHttp {
    LoopbackOnly,
    Anywhere,
}

fn judge_wildcard(uri: &str, at: usize, plain_http: PlainHttp) -> Result<(), RedirectUriError> {
    let broken = |at| RedirectUriError { rule: RedirectUriRule::Wildcard, at };
    if let Some(second) = uri[at + 1..].find('*') {
        return Err(broken(at + 1 + second));
    }
    let wildcard_port = Loopback::split(uri).is_some_and(|loopback| loopback.port == Some("*"));
    if !wildcard_port {
        return Err(broken(at));
    }
    // One byte stands for one byte, so offsets stay true.
    judge(&uri.replacen('*', "1", 1), plain_http)
}

/// The rules that hold for a registered and for a requested URI alike.
fn judge(uri: &str, plain_http: PlainHttp) -> Result<(), RedirectUriError> {
    let broken = |rule, at| Err(RedirectUriError { rule, at });
    for (at, byte) in uri.bytes().enumerate() {
        match byte {
            b' ' => return broken(RedirectUriRule::Whitespace, at),
            0x00..=0x1F | 0x7F => return broken(RedirectUriRule::ControlCharacter, at),
            0x80.. => return broken(RedirectUriRule::NotAscii, at),
            b'\\' => return broken(RedirectUriRule::Backslash, at),
            b'#' => return broken(RedirectUriRule::Fragment, at),
            _ => {}
        }
    }
    let Some((scheme, after_scheme)) = uri.split_once(':') else {
        return broken(RedirectUriRule::NotAbsolute, 0);
    };
    if FORBIDDEN_SCHEMES.iter().any(|forbidden| scheme.eq_ignore_ascii_case(forbidden)) {
        return broken(RedirectUriRule::ForbiddenScheme, 0);
    }
    let after_colon = scheme.len() + 1;
    if after_scheme.starts_with(|first: char| first.is_ascii_digit()) {
        return broken(RedirectUriRule::HostWithoutScheme, after_colon);
    }
    let Ok(parsed) = Uri::parse(uri) else {
        return broken(RedirectUriRule::Syntax, 0);
    };
    let after_slashes = after_colon + 2;
    if let Some(authority) = parsed.authority() {
        if authority.has_userinfo() {
            return broken(RedirectUriRule::UserInfo, after_slashes);
        }
        if authority.port().is_some_and(|port| !is_port(port.as_str())) {
            return broken(RedirectUriRule::Port, after_slashes + authority.host().len());
        }
    }
    if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") {
        let host = parsed.authority().map_or("", |authority| authority.host());
        if host.is_empty() {
            return broken(RedirectUriRule::HostMissing, after_colon);
        }
        // Longer names do not exist (RFC 1035 §2.3.4), and reading punycode takes more than linear time.
        if host.len() > LONGEST_HOST || !browser_agrees(&parsed) {
            return broken(RedirectUriRule::BrowserSpelling, 0);
        }
        if plain_http == PlainHttp::LoopbackOnly && scheme == "http" && !LOOPBACK_HOSTS.contains(&host) {
            return broken(RedirectUriRule::PlainHttp, 0);
        }
    }
    if parsed.path().as_str().split('/').any(is_dot_segment) {
        return broken(RedirectUriRule::DotSegment, uri.len() - after_path(&parsed));
    }
    if let Some(query) = parsed.query() {
        let query = query.as_str();
        if query.split(['&', ';']).any(is_response_parameter) {
            return broken(RedirectUriRule::ResponseParameter, uri.len() - query.len());
        }
    }
    Ok(())
}

/// Length of everything from the path on.
fn after_path(uri: &Uri<&str>) -> usize {
    uri.path().as_str().len() + uri.query().map_or(0, |query| query.as_str().len() + 1)
}

/// A browser goes where `url::Url` says; it must be where the RFC 3986 parser says that the URI leads.
fn browser_agrees(uri: &Uri<&str>) -> bool {
    let scheme = uri.scheme().as_str();
    if matches!(scheme, "http" | "https") && uri.authority().is_some_and(|authority| is_plain_host(authority.host())) {
        return true;
    }
    let (Ok(browser), Some(authority)) = (url::Url::parse(uri.as_str()), uri.authority()) else {
        return false;
    };
    let port = authority.port().and_then(|port| port.as_str().parse().ok());
    browser.scheme() == uri.scheme().as_str()
        && browser.host_str() == Some(authority.host())
        && [browser.port(), browser.port_or_known_default()].contains(&port)
}

/// A host that browsers leave as it is: lower-case labels without punycode, the last of which cannot begin a
/// number. Most are, and need no second parser.
fn is_plain_host(host: &str) -> bool {
    let is_plain_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with("xn--")
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    last.starts_with(|first: char| first.is_ascii_lowercase()) && host.split('.').all(is_plain_label)
}

/// `.` and `..`, each dot raw or as `%2e`.
pub(crate) fn is_dot_segment(segment: &str) -> bool {
    segment.len() <= "%2e%2e".len() && percent_decode(segment.as_bytes()).all(|byte| byte == b'.') && {
        let dots = percent_decode(segment.as_bytes()).count();
        dots == 1 || dots == 2
    }
}

fn is_response_parameter(pair: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    let decoded = || percent_decode(name.as_bytes()).map(|byte| byte.to_ascii_lowercase());
    RESPONSE_PARAMETERS.iter().any(|parameter| decoded().eq(parameter.bytes()))
}

/// A redirect URI that cannot be registered, or that was asked for although it never could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectUriError {
    rule: RedirectUriRule,
    at: usize,
}

impl RedirectUriError {
    /// The rule that is broken.
    #[must_use]
    pub fn rule(&self) -> RedirectUriRule {
        self.rule
    }

    /// The byte offset at which the offending part begins.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Display for RedirectUriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.rule.message(), self.at)
    }
}

impl std::error::Error for RedirectUriError {}

/// The rules for redirect URIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedirectUriRule {
    /// White space is not allowed.
    Whitespace,
    /// Control characters are not allowed.
    ControlCharacter,
    /// Only ASCII is allowed; international host names are written as punycode.
    NotAscii,
    /// A backslash is not allowed: browsers read it as a slash.
    Backslash,
    /// A fragment is not allowed, not even an empty one (RFC 6749 §3.1.2).
    Fragment,
    /// The URI must be absolute (RFC 6749 §3.1.2).
    NotAbsolute,
    /// The URI must follow the grammar of RFC 3986.
    Syntax,
    /// This scheme can never be a redirect URI.
    ForbiddenScheme,
    /// `word:digits` is a host without a scheme.
    HostWithoutScheme,
    /// `http` and `https` need `//` and a host.
    HostMissing,
    /// Userinfo is not allowed.
    UserInfo,
    /// After a colon the port must be a number of 1-65535.
    Port,
    /// Scheme, host and port must stand as a browser writes them.
    BrowserSpelling,
    /// `http` is for loopback hosts only (RFC 8252 §8.3, RFC 9700 §2.6).
    PlainHttp,
    /// `.` and `..` segments are not allowed.
    DotSegment,
    /// The query must not hold a parameter of the authorization response.
    ResponseParameter,
    /// `*` may stand only for the port of an `http` loopback URI.
    Wildcard,
}

impl RedirectUriRule {
    /// The rule in one sentence.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Whitespace => "white space is not allowed",
            Self::ControlCharacter => "control characters are not allowed",
            Self::NotAscii => "only ASCII is allowed",
            Self::Backslash => "a backslash is not allowed",
            Self::Fragment => "a fragment is not allowed",
            Self::NotAbsolute => "the URI must be absolute",
            Self::Syntax => "the URI must follow the grammar of RFC 3986",
            Self::ForbiddenScheme => "this scheme is not allowed",
            Self::HostWithoutScheme => "this looks like a host and port without a scheme",
            Self::HostMissing => "http and https need // and a host",
            Self::UserInfo => "userinfo is not allowed",
            Self::Port => "the port must be a number of 1-65535",
            Self::BrowserSpelling => "scheme, host and port must stand as a browser writes them",
            Self::PlainHttp => "http is allowed on localhost, 127.0.0.1 and [::1] only",
            Self::DotSegment => "dot segments are not allowed",
            Self::ResponseParameter => "the query must not hold a parameter of the authorization response",
            Self::Wildcard => "a * is allowed only as the port of an http loopback URI",
        }
    }

    /// The section that the rule is of.
    #[must_use]
    pub fn section(self) -> &'static str {
        match self {
            Self::Whitespace | Self::ControlCharacter | Self::NotAscii | Self::Backslash | Self::Syntax => {
                "RFC 3986 appendix A"
            }
            Self::Fragment | Self::NotAbsolute | Self::HostWithoutScheme => "RFC 6749 §3.1.2",
            Self::ForbiddenScheme => "RFC 7591 §5",
            Self::ResponseParameter | Self::DotSegment | Self::Wildcard => "RFC 9700 §4.1.3",
            Self::HostMissing => "RFC 9110 §4.2.1",
            Self::UserInfo => "RFC 9110 §4.2.4",
            Self::Port => "RFC 3986 §3.2.3",
            Self::BrowserSpelling => "RFC 3986 §6.2.1",
            Self::PlainHttp => "RFC 9700 §2.6",
        }
    }

    /// A short name for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whitespace => "whitespace",
            Self::ControlCharacter => "control_character",
            Self::NotAscii => "not_ascii",
            Self::Backslash => "backslash",
            Self::Fragment => "fragment",
            Self::NotAbsolute => "not_absolute",
            Self::Syntax => "syntax",
            Self::ForbiddenScheme => "forbidden_scheme",
            Self::HostWithoutScheme => "host_without_scheme",
            Self::HostMissing => "host_missing",
            Self::UserInfo => "userinfo",
            Self::Port => "port",
            Self::BrowserSpelling => "browser_spelling",
            Self::PlainHttp => "plain_http",
            Self::DotSegment => "dot_segment",
            Self::ResponseParameter => "response_parameter",
            Self::Wildcard => "wildcard",
        }
    }
}

/// Why a requested redirect URI was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectUriMismatch {
    /// It breaks a rule in itself.
    Malformed(RedirectUriError),
    /// It matches no registered URI.
    NotRegistered(ClosestMatch),
}

/// In what the nearest registered redirect URI differs from the requested one; empty where the client has
/// no redirect URI at all.
///
/// Its `Display` lists the parts: `port,path`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosestMatch {
    index: Option<usize>,
    parts: u8,
}

/// A part in which two redirect URIs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriPart {
    /// Nothing but a trailing slash of the path.
    TrailingSlash,
    /// Nothing but the case of letters, somewhere.
    LetterCase,
    /// The port.
    Port,
    /// The query.
    Query,
    /// The path.
    Path,
    /// The host.
    Host,
    /// The scheme.
    Scheme,
}

impl UriPart {
    const ALL: [Self; 7] =
        [Self::Scheme, Self::Host, Self::Port, Self::Path, Self::Query, Self::TrailingSlash, Self::LetterCase];

    /// Its bit; of as many differences, a larger one weighs more when the nearest URI is looked for.
    fn bit(self) -> u8 {
        1 << (self as u8)
    }

    /// The name that logs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::Host => "host",
            Self::Port => "port",
            Self::Path => "path",
            Self::Query => "query",
            Self::TrailingSlash => "trailing_slash",
            Self::LetterCase => "letter_case",
        }
    }
}

impl ClosestMatch {
    /// The position of the nearest URI among the client's redirect URIs.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// The parts that differ.
    pub fn parts(&self) -> impl Iterator<Item = UriPart> + use<> {
        let parts = self.parts;
        UriPart::ALL.into_iter().filter(move |part| parts & part.bit() != 0)
    }
}

impl fmt::Display for ClosestMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, part) in self.parts().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(part.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClosestMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClosestMatch({self})")
    }
}

fn nearest(requested: &str, registered: &[RedirectUri]) -> ClosestMatch {
    let requested = UriParts::split(requested);
    registered
        .iter()
        .enumerate()
        .map(|(index, registered)| ClosestMatch {
            index: Some(index),
            parts: requested.differences(&UriParts::split(&registered.0)),
        })
        // Few differences are near, whatever they are: https for http is nearer than another host and path.
        .min_by_key(|nearest| (nearest.parts.count_ones(), nearest.parts))
        .unwrap_or_default()
}

/// A cut that always succeeds, for comparing only.
struct UriParts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> UriParts<'a> {
    fn split(uri: &'a str) -> Self {
        let (scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        Self { scheme, host, port, path, query }
    }

    fn differences(&self, other: &Self) -> u8 {
        let mut parts = 0;
        let mut compare = |part: UriPart, ours: &str, theirs: &str| {
            if ours == theirs {
            } else if ours.eq_ignore_ascii_case(theirs) {
                parts |= UriPart::LetterCase.bit();
            } else if part == UriPart::Path
                && ours.strip_suffix('/').unwrap_or(ours) == theirs.strip_suffix('/').unwrap_or(theirs)
            {
                parts |= UriPart::TrailingSlash.bit();
            } else {
                parts |= part.bit();
            }
        };
        compare(UriPart::Scheme, self.scheme, other.scheme);
        compare(UriPart::Host, self.host, other.host);
        compare(UriPart::Port, self.port, other.port);
        compare(UriPart::Path, self.path, other.path);
        compare(UriPart::Query, self.query, other.query);
        parts
    }
}
