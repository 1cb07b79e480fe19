//! Client ids that are the URL of a document, checked as strings.

use url::Url;

use super::rule::Rule;
use crate::client::uri::{LOOPBACK_HOSTS, is_dot_segment};
use crate::fetch::AddressFilter;
use crate::registry::MAX_ID_BYTES;

/// Whether the id is meant to be the address of a document.
pub(super) fn is_document_id(client_id: &str, filter: AddressFilter) -> bool {
    client_id.starts_with("https://") || (filter.allows_loopback() && client_id.starts_with("http://"))
}

/// The address of the document, if the id follows the rules of the draft: `https`, a path, no dot segment, fragment or
/// userinfo. The host must be written as URL parsers normalize it, so that no two of them disagree about it.
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
    if path.is_empty() {
        return Err(Rule::Path);
    }
    if path.as_bytes().split(|byte| *byte == b'/').any(is_dot_segment) {
        return Err(Rule::DotSegment);
    }
    let address = Url::parse(client_id).map_err(|_| Rule::Syntax)?;
    // An explicit default port is allowed, and part of the id.
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
    if !filter.admits_host_of(&address) {
        return Err(Rule::Address);
    }
    Ok(address)
}
