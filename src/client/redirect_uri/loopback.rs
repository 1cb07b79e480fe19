//! `http` URIs on a loopback host, split around the port.

use crate::client::uri::LOOPBACK_HOSTS;

/// An `http` URI on a loopback host.
pub(super) struct Loopback<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<&'a str>,
    /// Everything after the authority.
    pub(super) rest: &'a str,
}

impl<'a> Loopback<'a> {
    pub(super) fn split(uri: &'a str) -> Option<Self> {
        let after_scheme = uri.strip_prefix("http://")?;
        let host = LOOPBACK_HOSTS.into_iter().find(|host| after_scheme.starts_with(host))?;
        let after_host = &after_scheme[host.len()..];
        match after_host.bytes().next() {
            None | Some(b'/' | b'?') => Some(Self { host, port: None, rest: after_host }),
            Some(b':') => {
                let after_colon = &after_host[1..];
                let end = after_colon.bytes().position(|byte| matches!(byte, b'/' | b'?'));
                let end = end.unwrap_or(after_colon.len());
                let (port, rest) = after_colon.split_at(end);
                Some(Self { host, port: Some(port), rest })
            }
            Some(_) => None,
        }
    }

    pub(super) fn has_wildcard_port(&self) -> bool {
        self.port == Some("*")
    }

    /// Whether a requested URI may have this port: none, or 1-65535 without a leading zero.
    pub(super) fn has_plain_port(&self) -> bool {
        self.port.is_none_or(|port| !port.starts_with('0') && is_port(port))
    }
}

/// Whether this is a port of 1-65535.
pub(super) fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
}
