//! Parsing agrees with `form_urlencoded` wherever both accept. Parts: query, body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_oauth_client_validation::{AuthorizationRequest, Parameter, ParameterFault};
use tower_oauth_client_validation_fuzz::parts;

fuzz_target!(|input: &[u8]| {
    let [query, body] = parts(input);
    let request = AuthorizationRequest::parse(query, body);
    let theirs: Vec<_> = url::form_urlencoded::parse(query).chain(url::form_urlencoded::parse(body)).collect();
    for parameter in Parameter::ALL.iter().copied() {
        let copies: Vec<_> =
            theirs.iter().filter(|(name, _)| name == parameter.as_str()).map(|(_, value)| value).collect();
        match (parameter, request.fault(parameter)) {
            (Parameter::Resource, None) => {
                let given = copies.iter().map(|value| &***value).filter(|value| !value.is_empty());
                assert!(request.resources().eq(given));
            }
            (_, None) => {
                assert!(copies.len() <= 1);
                let value = copies.first().map(|value| &***value).filter(|value| !value.is_empty());
                assert_eq!(request.get(parameter), value);
            }
            (_, Some(fault)) => {
                assert!(!copies.is_empty());
                assert_eq!(fault == ParameterFault::Repeated, copies.len() > 1 && parameter != Parameter::Resource);
                assert_eq!(request.get(parameter), None);
            }
        }
    }
});
