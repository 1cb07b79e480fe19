//! What is registered is what the reference lets be registered, and what browsers read; what matches is what the
//! reference lets match, on a registered host.
//!
//! Parts: registered, requested.
#![no_main]

use fluent_uri::Uri;
use libfuzzer_sys::{Corpus, fuzz_target};
use tower_oauth_client_validation::RedirectUri;
use tower_oauth_client_validation_fuzz::{admits, is_registrable, texts};
use url::Url;

/// The host that two foreign parsers see, where the scheme has one for browsers.
fn host(uri: &str) -> Option<String> {
    let strict = Uri::parse(uri).expect("an RFC 3986 URI");
    assert!(!strict.has_fragment() && strict.authority().is_none_or(|authority| !authority.has_userinfo()));
    let host = strict.authority().map(|authority| authority.host().to_owned());
    if !matches!(strict.scheme().as_str(), "http" | "https") {
        return host;
    }
    let browser = Url::parse(uri).expect("a URL");
    assert_eq!(browser.host_str(), host.as_deref());
    assert!(host.is_some() && uri.starts_with(&format!("{}://", browser.scheme())));
    host
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some([registered, requested]) = texts(input) else {
        return Corpus::Reject;
    };
    let parsed = RedirectUri::parse(registered);
    let insecure = RedirectUri::insecure_http(registered);
    assert_eq!(parsed.is_ok(), is_registrable(registered, false), "{registered}: {parsed:?}");
    assert_eq!(insecure.is_ok(), is_registrable(registered, true), "{registered}: {insecure:?}");
    let is_secure = parsed.is_ok();
    let Ok(uri) = insecure else {
        return Corpus::Keep;
    };
    assert!(registered.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\".contains(&byte)));
    assert_eq!(uri.as_str(), registered);
    assert_eq!(uri.has_wildcard_port(), registered.contains(":*"));
    let registered_host = host(&registered.replacen(":*", ":1", 1));
    let is_loopback = matches!(registered_host.as_deref(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if registered.starts_with("http://") {
        assert_eq!(is_secure, is_loopback);
    }
    assert_eq!(uri.is_loopback(), is_loopback && registered.starts_with("http://"));
    assert_eq!(uri.matches(registered), !uri.has_wildcard_port());
    assert_eq!(uri.matches(requested), admits(registered, requested), "{registered} {requested}");
    if uri.matches(requested) {
        assert_eq!(host(requested), registered_host);
        assert!(requested == registered || uri.is_loopback());
    }
    Corpus::Keep
});
