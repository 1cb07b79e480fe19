//! Redirect URIs, as strings.

/// Nothing else counts as loopback.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Parameters that only an authorization server may add to a redirect URI.
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

/// Whether a registered URI admits a requested one. `any_port` is what the policy says about this client.
pub(crate) fn admits(registered: &str, requested: &str, any_port: bool) -> bool {
    if !registered.contains(":*") && registered == requested {
        return true;
    }
    let (Some(registered), Some(asked)) = (loopback(registered), loopback(requested)) else {
        return false;
    };
    let is_pattern = registered.port == Some("*");
    let port_is_right = match asked.port {
        None => !is_pattern,
        Some(port) => is_port(port),
    };
    let rest_is_right = match is_pattern && registered.rest.is_empty() {
        true => is_harmless(asked.rest),
        false => registered.rest == asked.rest,
    };
    (is_pattern || any_port) && registered.host == asked.host && port_is_right && rest_is_right
}

/// Never a redirect URI, whoever registers it.
fn is_forbidden(scheme: &str) -> bool {
    match scheme {
        // Windows apps and the Windows account broker get answers there.
        "ms-app" | "ms-appx-web" => false,
        "about" | "afp" | "android-app" | "app-prefs" | "applescript" | "appstream" | "apt" | "apturl" | "blob"
        | "callto" | "chrome" | "cifs" | "content" | "data" | "dav" | "davs" | "disk" | "disks" | "edge"
        | "facetime" | "facetime-audio" | "file" | "filesystem" | "flatpak" | "flatpak+https" | "ftp" | "ftps"
        | "geo" | "ghelp" | "hcp" | "help" | "ie.http" | "intent" | "itms" | "its" | "jar" | "javascript" | "ldap"
        | "ldapi" | "ldaps" | "macappstore" | "macappstores" | "mailto" | "man" | "market" | "mhtml"
        | "microsoft-edge" | "mk" | "news" | "nfs" | "nntp" | "prefs" | "rdp" | "res" | "resource" | "rlogin"
        | "search" | "search-ms" | "sftp" | "shell" | "shortcuts" | "sip" | "sips" | "smb" | "sms" | "smsto"
        | "snap" | "snews" | "ssh" | "steam" | "tel" | "telnet" | "telprompt" | "tn3270" | "urn" | "vbscript"
        | "view-source" | "vnc" | "vnd.ms.radio" | "webcal" | "windowsdefender" | "workflow" | "ws" | "wss"
        | "x-help-action" | "x-man-page" => true,
        family => family.starts_with("ms-") || family.starts_with("itms-") || family.starts_with("x-apple"),
    }
}

/// Whether a dynamic client may register it; `schemes` are those allowed without a period.
pub(crate) fn is_registrable_by_strangers(uri: &str, schemes: &[&str]) -> bool {
    let scheme = uri.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_allowed = scheme == "https" || scheme == "http" || scheme.contains('.') || schemes.contains(&&*scheme);
    is_allowed && !uri.contains('*') && is_registrable(uri, false)
}

/// Whether it can be registered; `insecure` where `http` may go to any host.
pub(crate) fn is_registrable(uri: &str, insecure: bool) -> bool {
    let is_pattern = loopback(uri).is_some_and(|uri| uri.port == Some("*"));
    let uri = &if is_pattern { uri.replacen(":*", ":1", 1) } else { uri.to_owned() };
    let Some((scheme, after)) = uri.split_once(':') else {
        return false;
    };
    let lower = scheme.to_ascii_lowercase();
    if uri.contains('*') || !is_absolute_uri(uri) || is_forbidden(&lower) {
        return false;
    }
    let (hierarchy, query) = after.split_once('?').unwrap_or((after, ""));
    let (authority, path) = match hierarchy.strip_prefix("//") {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", hierarchy),
    };
    let (host, port) = host_and_port(authority);
    let port = match port.strip_prefix(':') {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port @ 1..) => Some(port),
            Ok(0) | Err(_) => return false,
        },
    };
    if authority.contains('@') || path.split('/').any(is_dots) || holds_response_parameter(query) {
        return false;
    }
    if lower != "http" && lower != "https" {
        // `localhost:8080/cb` is a host without a scheme.
        return !hierarchy.starts_with(|c: char| c.is_ascii_digit());
    }
    let Ok(browser) = url::Url::parse(uri) else {
        return false;
    };
    let default = if lower == "http" { 80 } else { 443 };
    // RFC 1035 §2.3.4: 253 bytes, and a dot for the root.
    let length_is_right = (1..=254).contains(&host.len());
    scheme == lower
        && length_is_right
        && browser.host_str() == Some(host)
        && browser.port_or_known_default() == Some(port.unwrap_or(default))
        && (scheme == "https" || insecure || LOOPBACK.contains(&host))
}

struct Loopback<'a> {
    host: &'a str,
    port: Option<&'a str>,
    /// All that follows the authority.
    rest: &'a str,
}

fn loopback(uri: &str) -> Option<Loopback<'_>> {
    let after = uri.strip_prefix("http://")?;
    let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    for host in LOOPBACK {
        if authority == host {
            return Some(Loopback { host, port: None, rest });
        }
        if let Some(port) = authority.strip_prefix(host).and_then(|port| port.strip_prefix(':')) {
            return Some(Loopback { host, port: Some(port), rest });
        }
    }
    None
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0 && port.to_string() == text)
}

/// What may follow the authority of a redirect URI.
fn is_harmless(rest: &str) -> bool {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (path.is_empty() || path.starts_with('/'))
        && is_spelled(path, "/:@")
        && is_spelled(query, "/:@?")
        && !path.split('/').any(is_dots)
        && !holds_response_parameter(query)
}

fn is_dots(segment: &str) -> bool {
    let segment = segment.replace("%2e", ".").replace("%2E", ".");
    segment == "." || segment == ".."
}

fn holds_response_parameter(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = super::decoded(pair.split('=').next().unwrap_or_default().as_bytes());
        name.is_some_and(|name| RESPONSE_PARAMETERS.contains(&&*String::from_utf8_lossy(&name).to_ascii_lowercase()))
    })
}

/// RFC 3986: unreserved characters, sub-delimiters, whole escapes, and those of `more`.
fn is_spelled(text: &str, more: &str) -> bool {
    let pieces: Vec<&str> = text.split('%').collect();
    let is_plain = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c) || more.contains(c))
    };
    let is_escape = |piece: &&str| {
        piece.len() >= 2 && piece.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()) && is_plain(&piece[2..])
    };
    is_plain(pieces[0]) && pieces[1..].iter().all(is_escape)
}

/// RFC 3986 §4.3: a URI without fragment.
pub(super) fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, after)) = text.split_once(':') else {
        return false;
    };
    let scheme_is_right = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (hierarchy, query) = after.split_once('?').unwrap_or((after, ""));
    let (authority, path) = match hierarchy.strip_prefix("//") {
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            (Some(authority), path)
        }
        None => (None, hierarchy),
    };
    scheme_is_right && authority.is_none_or(is_authority) && is_spelled(path, "/:@") && is_spelled(query, "/:@?")
}

fn is_authority(authority: &str) -> bool {
    let (user, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = self::host_and_port(host_and_port);
    let host_is_right = match host.strip_prefix('[').and_then(|literal| literal.strip_suffix(']')) {
        Some(literal) => is_ip_literal(literal),
        None => is_spelled(host, ""),
    };
    is_spelled(user, ":") && host_is_right && port.chars().skip(1).all(|c| c.is_ascii_digit())
}

/// The port with its colon.
fn host_and_port(text: &str) -> (&str, &str) {
    let port_at = text.rfind(':').filter(|&at| !text[at..].contains(']'));
    text.split_at(port_at.unwrap_or(text.len()))
}

fn is_ip_literal(literal: &str) -> bool {
    let future =
        literal.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')).is_some_and(|(version, rest)| {
            !version.is_empty()
                && version.chars().all(|c| c.is_ascii_hexdigit())
                && !rest.is_empty()
                && !rest.contains('%')
                && is_spelled(rest, ":")
        });
    future || literal.parse::<std::net::Ipv6Addr>().is_ok()
}
