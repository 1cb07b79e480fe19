//! The rules for redirect URIs, registered and requested ones.

use std::fmt;

use fluent_uri::Uri;
use percent_encoding::percent_decode;

use super::loopback::{Loopback, is_port};
use crate::client::uri::{LOOPBACK_HOSTS, is_dot_segment};

/// The longest host name: 253 bytes (RFC 1035 §2.3.4) and a dot for the root.
const MAX_HOST_BYTES: usize = 254;

/// Schemes that no redirect URI may have (RFC 9700 §4.11.2). Browsers refuse to open some of them from a page; a redirect
/// must not open the others.
const FORBIDDEN_SCHEMES: [&str; 8] = [
    // Script, local files and pages of the browser itself.
    "about blob chrome data edge file filesystem jar javascript res resource vbscript view-source",
    // Mail, calls and messages: nothing that takes a response.
    "callto facetime facetime-audio mailto news nntp sip sips sms smsto snews tel telprompt urn webcal ws wss",
    // File shares, directories and remote shells.
    "afp cifs dav davs disk disks ftp ftps ldap ldapi ldaps nfs rdp rlogin sftp smb ssh telnet tn3270 vnc",
    // Handlers of Windows, in addition to the prefix below.
    "hcp ie.http its mhtml microsoft-edge mk search search-ms shell vnd.ms.radio windowsdefender",
    // Handlers of macOS and iOS.
    "app-prefs applescript help itms macappstore macappstores prefs shortcuts workflow x-help-action x-man-page",
    // Handlers of Android.
    "android-app content geo intent market",
    // Handlers of Linux desktops.
    "appstream apt apturl flatpak flatpak+https ghelp man snap",
    // A launcher of other programs.
    "steam",
];

/// Families of system handlers, such as `ms-msdt`, `itms-services` and `x-apple.systempreferences`.
const FORBIDDEN_PREFIXES: [&str; 3] = ["ms-", "itms-", "x-apple"];

/// Redirect URIs of Windows apps and of the Windows account broker. They launch nothing.
const WINDOWS_APP_SCHEMES: [&str; 2] = ["ms-app", "ms-appx-web"];

/// Parameters of the authorization response. If a redirect URI already contains one, an attacker can choose which of the
/// two the client reads (CVE-2026-9689).
const RESPONSE_PARAMETERS: &str = "code state error error_description error_uri iss access_token id_token token_type \
                                   expires_in session_state response";

/// Where a URI may have the scheme `http`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PlainHttp {
    LoopbackOnly,
    Anywhere,
}

/// Checks a URI that a client registers, which may have a wildcard port.
pub(super) fn judge_registered(uri: &str, plain_http: PlainHttp) -> Result<(), RedirectUriError> {
    let Some(at) = uri.find('*') else {
        return judge(uri, plain_http);
    };
    let broken = |at| Err(RedirectUriError { rule: RedirectUriRule::Wildcard, at });
    if let Some(second) = uri[at + 1..].find('*') {
        return broken(at + 1 + second);
    }
    if !Loopback::split(uri).is_some_and(|loopback| loopback.has_wildcard_port()) {
        return broken(at);
    }
    // One digit is as long as the asterisk, so offsets stay correct.
    judge(&uri.replacen('*', "1", 1), plain_http)
}

/// Checks a URI against the rules for registered and requested URIs.
pub(super) fn judge(uri: &str, plain_http: PlainHttp) -> Result<(), RedirectUriError> {
    let broken = |rule, at| Err(RedirectUriError { rule, at });
    let is_forbidden = |byte: u8| !matches!(byte, b'!'..=b'~') || matches!(byte, b'\\' | b'#');
    if let Some(at) = uri.bytes().position(is_forbidden) {
        let rule = match uri.as_bytes()[at] {
            b' ' => RedirectUriRule::Whitespace,
            b'\\' => RedirectUriRule::Backslash,
            b'#' => RedirectUriRule::Fragment,
            0x80.. => RedirectUriRule::NotAscii,
            _ => RedirectUriRule::ControlCharacter,
        };
        return broken(rule, at);
    }
    let Some((scheme, after_scheme)) = uri.split_once(':') else {
        return broken(RedirectUriRule::NotAbsolute, 0);
    };
    if is_forbidden_scheme(scheme) {
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
        // Decoding punycode takes more than linear time, so check the length first.
        if host.len() > MAX_HOST_BYTES || !browser_agrees(&parsed) {
            return broken(RedirectUriRule::BrowserSpelling, 0);
        }
        if plain_http == PlainHttp::LoopbackOnly && scheme == "http" && !LOOPBACK_HOSTS.contains(&host) {
            return broken(RedirectUriRule::PlainHttp, 0);
        }
    }
    let path_and_query = |path: &str, query: Option<&str>| path.len() + query.map_or(0, |query| query.len() + 1);
    let (path, query) = (parsed.path().as_str(), parsed.query().map(|query| query.as_str()));
    if path.as_bytes().split(|byte| *byte == b'/').any(is_dot_segment) {
        return broken(RedirectUriRule::DotSegment, uri.len() - path_and_query(path, query));
    }
    if let Some(query) = query.filter(|query| query.split(['&', ';']).any(is_response_parameter)) {
        return broken(RedirectUriRule::ResponseParameter, uri.len() - query.len());
    }
    Ok(())
}

fn is_forbidden_scheme(scheme: &str) -> bool {
    // Nearly all URIs are web addresses, and the lists are long.
    if matches!(scheme, "https" | "http") {
        return false;
    }
    let is = |other: &str| scheme.eq_ignore_ascii_case(other);
    let starts_with =
        |prefix: &&str| scheme.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    FORBIDDEN_SCHEMES.iter().flat_map(|group| group.split(' ')).any(is)
        || (FORBIDDEN_PREFIXES.iter().any(starts_with) && !WINDOWS_APP_SCHEMES.into_iter().any(is))
}

/// Whether `url::Url`, which reads as browsers do, finds the same scheme, host and port as the RFC 3986 parser.
fn browser_agrees(uri: &Uri<&str>) -> bool {
    let scheme = uri.scheme().as_str();
    let is_known = |host: &str| is_plain_host(host) || LOOPBACK_HOSTS.contains(&host);
    if matches!(scheme, "http" | "https") && uri.authority().is_some_and(|authority| is_known(authority.host())) {
        return true;
    }
    let (Ok(browser), Some(authority)) = (url::Url::parse(uri.as_str()), uri.authority()) else {
        return false;
    };
    let port = authority.port().and_then(|port| port.as_str().parse().ok());
    browser.scheme() == scheme
        && browser.host_str() == Some(authority.host())
        && [browser.port(), browser.port_or_known_default()].contains(&port)
}

/// Whether browsers leave this host as it is: lower-case labels without punycode, the last of which does not begin
/// like a number. Most hosts are like this and need no second parser.
fn is_plain_host(host: &str) -> bool {
    let is_plain_label = |label: &[u8]| {
        !label.is_empty()
            && !label.starts_with(b"xn--")
            && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let mut labels = host.as_bytes().rsplit(|byte| *byte == b'.');
    labels.next().is_some_and(|last| is_plain_label(last) && last[0].is_ascii_lowercase()) && labels.all(is_plain_label)
}

fn is_response_parameter(pair: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    let decoded = || percent_decode(name.as_bytes()).map(|byte| byte.to_ascii_lowercase());
    RESPONSE_PARAMETERS.split(' ').any(|parameter| decoded().eq(parameter.bytes()))
}

/// The rule that a redirect URI breaks, and where.
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

/// Defines [`RedirectUriRule`]: each rule with its name in logs, the section it comes from, and its message.
macro_rules! rules {
    ($($rule:ident: $name:literal, $section:literal, $message:literal;)*) => {
        /// The rules for redirect URIs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RedirectUriRule {
            $(
                #[doc = concat!("`", $name, "`: `", $message, "` (", $section, ").")]
                $rule,
            )*
        }

        impl RedirectUriRule {
            /// The name that logs use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }

            /// The section that the rule comes from.
            #[must_use]
            pub fn section(self) -> &'static str {
                match self {
                    $(Self::$rule => $section,)*
                }
            }

            /// The rule in one sentence.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self {
                    $(Self::$rule => $message,)*
                }
            }
        }
    };
}

rules! {
    Whitespace: "whitespace", "RFC 3986 appendix A", "white space is not allowed";
    ControlCharacter: "control_character", "RFC 3986 appendix A", "control characters are not allowed";
    NotAscii: "not_ascii", "RFC 3986 appendix A", "only ASCII is allowed";
    Backslash: "backslash", "RFC 3986 appendix A", "a backslash is not allowed";
    Fragment: "fragment", "RFC 6749 §3.1.2", "a fragment is not allowed";
    NotAbsolute: "not_absolute", "RFC 6749 §3.1.2", "the URI must be absolute";
    Syntax: "syntax", "RFC 3986 appendix A", "the URI must follow the grammar of RFC 3986";
    ForbiddenScheme: "forbidden_scheme", "RFC 7591 §5", "this scheme is not allowed";
    HostWithoutScheme: "host_without_scheme", "RFC 6749 §3.1.2", "this looks like a host and port without a scheme";
    HostMissing: "host_missing", "RFC 9110 §4.2.1", "http and https need // and a host";
    UserInfo: "userinfo", "RFC 9110 §4.2.4", "userinfo is not allowed";
    Port: "port", "RFC 3986 §3.2.3", "the port must be a number of 1-65535";
    BrowserSpelling: "browser_spelling", "RFC 3986 §6.2.1", "scheme, host and port must be spelled as browsers spell them";
    PlainHttp: "plain_http", "RFC 9700 §2.6", "http is allowed on localhost, 127.0.0.1 and [::1] only";
    DotSegment: "dot_segment", "RFC 9700 §4.1.3", "dot segments are not allowed";
    ResponseParameter: "response_parameter", "RFC 9700 §4.1.3", "the query must not hold a parameter of the authorization response";
    Wildcard: "wildcard", "RFC 9700 §4.1.3", "a * is allowed only as the port of an http loopback URI";
}
