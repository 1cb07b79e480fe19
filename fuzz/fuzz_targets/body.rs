//! How a body is split into frames makes no difference, and it reaches the inner service unchanged.
//!
//! Parts: the lengths of the pieces as bytes, settings, query, body.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tower_oauth_client_validation_fuzz::{parts, service_agrees_in_pieces};

fuzz_target!(|input: &[u8]| -> Corpus {
    let [lengths, limit, query, body] = parts(input);
    if service_agrees_in_pieces(lengths, limit, query, body) { Corpus::Keep } else { Corpus::Reject }
});
