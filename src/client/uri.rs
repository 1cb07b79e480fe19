//! Splits URIs into their parts without validating them.

use percent_encoding::percent_decode;

/// The only hosts that count as loopback, as a URI spells them.
pub(crate) const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The parts of a URI (RFC 3986 §3). Any string can be split.
pub(crate) struct UriParts<'a> {
    pub(crate) scheme: &'a str,
    /// With the userinfo, if there is one.
    pub(crate) host: &'a str,
    pub(crate) port: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

impl<'a> UriParts<'a> {
    pub(crate) fn split(uri: &'a str) -> Self {
        let (scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 literal belong to the host.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        Self { scheme, host, port, path, query }
    }
}

/// Whether a path segment is `.` or `..`, each dot raw or as `%2e`.
pub(crate) fn is_dot_segment(segment: &[u8]) -> bool {
    segment.len() <= "%2e%2e".len()
        && percent_decode(segment).all(|byte| byte == b'.')
        && matches!(percent_decode(segment).count(), 1 | 2)
}
