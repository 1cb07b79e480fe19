//! Client ids that are the address of a document, judged as they are written.

use url::{Host, Url};

use super::address::AddressFilter;
use super::rule::Rule;
use crate::client::uri::{LOOPBACK_HOSTS, is_dot_segment};
use crate::registry::MAX_ID_BYTES;

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
    let parsed = fluent_uri::Uri::parse(client_id).map_err(|_| Rule::Syntax)?;
    let authority = parsed.authority().ok_or(Rule::Syntax)?;
    if authority.has_userinfo() {
        return Err(Rule::UserInfo);
    }
    let path = parsed.path().as_str();
    if path.len() < 2 {
        return Err(Rule::Path);
    }
    if path.split('/').any(is_dot_segment) {
        return Err(Rule::DotSegment);
    }
    let address = Url::parse(client_id).map_err(|_| Rule::Syntax)?;
    // A default port may be written out; it is then a part of the id.
    let port_agrees = authority.port().is_none_or(|port| {
        let port = port.as_str();
        address.port_or_known_default().is_some_and(|read| port.parse() == Ok(read) && !port.starts_with('0'))
    });
    if address.host_str() != Some(authority.host()) || !port_agrees {
        return Err(Rule::HostSpelling);
    }
    if address.scheme() == "http" && !LOOPBACK_HOSTS.contains(&authority.host()) {
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
