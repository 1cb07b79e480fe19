//! Resource indicators (RFC 8707).

use fluent_uri::Uri;

/// An absolute URI without fragment (RFC 8707 §2).
pub(super) fn is_resource(text: &str) -> bool {
    Uri::parse(text).is_ok_and(|uri| !uri.has_fragment())
}

/// The resource of the set that was requested, as the set spells it.
pub(super) fn find<'s>(set: &'s [Box<str>], requested: &str) -> Option<&'s str> {
    set.iter().map(|allowed| &**allowed).find(|allowed| is_same(allowed, requested))
}

/// Compares scheme and host without case, an empty path like `/`, and the rest byte for byte: clients request
/// `https://host/` where the server is `https://host`, and the MCP specification asks servers to accept upper case.
fn is_same(allowed: &str, requested: &str) -> bool {
    if allowed == requested {
        return true;
    }
    let (Ok(allowed), Ok(requested)) = (Uri::parse(allowed), Uri::parse(requested)) else {
        return false;
    };
    let is_same_place = match (allowed.authority(), requested.authority()) {
        (Some(ours), Some(theirs)) => {
            ours.host().eq_ignore_ascii_case(theirs.host())
                && ours.userinfo() == theirs.userinfo()
                && ours.port() == theirs.port()
                && non_empty(allowed.path().as_str()) == non_empty(requested.path().as_str())
        }
        (None, None) => allowed.path() == requested.path(),
        _ => false,
    };
    is_same_place
        && allowed.scheme().as_str().eq_ignore_ascii_case(requested.scheme().as_str())
        && allowed.query() == requested.query()
}

fn non_empty(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}
