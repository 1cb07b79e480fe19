//! Client ids that are the address of a document, judged as strings.

use url::Url;

use super::rule::Rule;
use crate::client::is_dot_segment;
use crate::fetch::AddressFilter;

const MAX_ID_BYTES: usize = 2048;

/// The hosts that `http` ids may have when loopback is allowed.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Whether the id is meant to be the address of a document.
pub(super) fn is_document_id(client_id: &str, filter: AddressFilter) -> bool {
    client_id.starts_with("https://") || (filter.allows_loopback() && client_id.starts_with("http://"))
}

/// The address of the document, if the id follows the rules of the draft: `https`, a path, no dot segment, fragment or
/// userinfo. The host must be written as URL parsers normalise it, so that no two of them disagree about it.
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
    // A default port may be written out, and is part of the id then.
    let port_agrees = port.is_none_or(|port| {
        address.port_or_known_default().is_some_and(|read| port.parse() == Ok(read) && !port.starts_with('0'))
    });
    if address.host_str() != Some(host) || !port_agrees {
        return Err(Rule::HostSpelling);
    }
    if scheme == "http" && !LOOPBACK_HOSTS.contains(&host) {
        return Err(Rule::PlainHttp);
    }
    if !filter.admits_host_of(&address) {
        return Err(Rule::Address);
    }
    Ok(address)
}
