//! Parsing a scope keeps each token once, in order, and scopes round-trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_oauth_client_validation::Scope;

fuzz_target!(|value: &str| {
    let legal =
        |token: &str| !token.is_empty() && token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E));
    let scope = Scope::parse(value);
    assert_eq!(scope.is_ok(), value.split(' ').all(legal));
    if let Ok(scope) = scope {
        let mut once = Vec::new();
        for token in value.split(' ') {
            if !once.contains(&token) {
                once.push(token);
            }
        }
        assert!(scope.iter().eq(once));
        assert_eq!(Scope::parse(scope.as_str()).as_ref(), Ok(&scope));
    }
});
