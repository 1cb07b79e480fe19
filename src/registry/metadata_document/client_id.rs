//! Client ids that are the address of a document, judged as they are written.

use url::{Host, Url};

use super::address::AddressFilter;
use super::rule::Rule;
use crate::client::is_dot_segment;
use crate::registry::MAX_ID_BYTES;

/// Hosts that `http` reaches with the loopback switch on.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Whether an id asks for a document at all, rather than being one of another kind.
pub(super) fn is_document_id(client_id: &str, filter: AddressFilter) -> bool {
    client_id.starts_with("https://") || (filter.allow_loopback && client_id.starts_with("http://"))
}

/// Where the document is, if the id follows the rules of the draft: `https`, a path that is not empty, no dot
/// segment, fragment or userinfo. Parsers that disagree about an odd id must not matter, so the host has to be
/// written as it will be read.
pub(super) fn document_address(client_id: &str, filter: AddressFilter) -> Result<Url, Rule> {
    if client_id.len() > MAX_ID_BYTES {
        return Err(Rule::Length);
    }
    if !client_id.bytes().all(|byte| matches!(byte, 0x21..=0x7E) && byte != b'\\') {
        return Err(Rule::Characters);
    }
    if client_id.contains('#') {
        return Err(Rule::Fragment);
    }
    let (scheme, rest) = client_id.split_once("://").ok_or(Rule::Syntax)?;
    let before_query = rest.split('?').next().unwrap_or(rest);
    let (authority, path) = before_query.split_at(before_query.find('/').unwrap_or(before_query.len()));
    if authority.contains('@') {
        return Err(Rule::UserInfo);
    }
    if path.len() < 2 {
        return Err(Rule::Path);
    }
    if path.split('/').any(is_dot_segment) {
        return Err(Rule::DotSegment);
    }
    if fluent_uri::Uri::parse(client_id).is_err() {
        return Err(Rule::Syntax);
    }
    let address = Url::parse(client_id).map_err(|_| Rule::Syntax)?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    // A default port may be written out; it is then a part of the id.
    let port_agrees = port.is_none_or(|port| {
        address.port_or_known_default().is_some_and(|read| port.parse() == Ok(read) && !port.starts_with('0'))
    });
    if address.host_str() != Some(host) || !port_agrees {
        return Err(Rule::HostSpelling);
    }
    if scheme == "http" && !LOOPBACK_HOSTS.contains(&host) {
        return Err(Rule::PlainHttp);
    }
    let literal = match address.host() {
        Some(Host::Ipv4(literal)) => Some(literal.into()),
        Some(Host::Ipv6(literal)) => Some(literal.into()),
        Some(Host::Domain(_)) | None => None,
    };
    if literal.is_some_and(|literal| !filter.admits(literal)) {
        return Err(Rule::Address);
    }
    Ok(address)
}
