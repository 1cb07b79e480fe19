//! Metadata round-trips: a client that is written as metadata reads back as the same client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_oauth_client_validation::Client;

fuzz_target!(|text: &str| {
    let Ok(metadata) = text.parse::<serde_json::Value>() else {
        return;
    };
    if let Ok(client) = Client::from_metadata(metadata) {
        let again = Client::from_metadata(client.to_metadata()).expect("what was written is read");
        assert_eq!(client, again);
    }
});
