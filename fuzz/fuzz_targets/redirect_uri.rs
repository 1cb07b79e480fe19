//! What is registered is what browsers read; what matches differs from it in nothing but a loopback port.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_oauth_client_validation::RedirectUri;

fuzz_target!(|input: (&str, &str)| {
    let (registered, requested) = input;
    let Ok(uri) = RedirectUri::parse(registered) else {
        return;
    };
    assert!(registered.is_ascii() && !registered.contains(['#', '\\', ' ', '\r', '\n', '\t']));
    assert_eq!(uri.matches(registered), !uri.has_wildcard_port());
    if !uri.has_wildcard_port() {
        let strict = fluent_uri::Uri::parse(registered).expect("an RFC 3986 URI");
        if matches!(strict.scheme().as_str(), "http" | "https") {
            let browser = url::Url::parse(registered).expect("a URL");
            assert_eq!(browser.host_str(), strict.authority().map(|authority| authority.host()));
        }
    }
    if uri.matches(requested) {
        if requested != registered {
            assert!(uri.is_loopback());
        }
        let asked = fluent_uri::Uri::parse(requested).expect("an RFC 3986 URI");
        assert!(!asked.has_fragment());
        if uri.is_loopback() {
            let browser = url::Url::parse(requested).expect("a URL");
            let host = browser.host_str().expect("a host");
            assert!(registered.starts_with(&format!("http://{host}")), "{registered} {requested}");
            assert!(["localhost", "127.0.0.1", "[::1]"].contains(&host));
        }
    }
});
