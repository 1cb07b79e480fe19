//! For any request, policy and client, the service does what the reference says.
//!
//! Parts: settings, client metadata (or nothing: the clients of the vectors), method, headers, query, body.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tower_oauth_client_validation_fuzz::service_agrees;

fuzz_target!(|input: &[u8]| -> Corpus { if service_agrees(input) { Corpus::Keep } else { Corpus::Reject } });
