//! How much memory registrations of strangers can occupy.
//!
//! Parts: bodies of registrations. Each is sent more often than there is room for clients.
#![no_main]

use std::alloc::System;

use bytes::Bytes;
use futures::FutureExt;
use http::Request;
use http_body_util::Full;
use libfuzzer_sys::{Corpus, fuzz_target};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::ServiceExt;
use tower_oauth_client_validation::{
    DynamicClientRules, MemoryRegistry, RegistrationPolicy, RegistrationService, Scope,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MAX_CLIENTS: u64 = 4;
const MAX_METADATA_BYTES: usize = 1024;

/// Clients that were removed stay until the map of the store frees them, several at once.
const CLIENTS_AND_REMOVED_CLIENTS: usize = 4 + 128;

/// Eight times the serialized metadata (`DynamicClientRules`), and the digests that the server adds to it.
const MAX_CLIENT_BYTES: usize = 8 * MAX_METADATA_BYTES + 24 * 1024;

fuzz_target!(|input: &[u8]| -> Corpus {
    let region = Region::new(ALLOCATOR);
    let store = MemoryRegistry::new();
    let policy = RegistrationPolicy::new()
        .allowed_scopes(Scope::parse("*").expect("legal"))
        .keep_members(["x"])
        .rules(DynamicClientRules::new().max_metadata_bytes(MAX_METADATA_BYTES))
        .max_registrations(MAX_CLIENTS);
    let service = RegistrationService::new(store.clone(), "https://as.example/register", policy).expect("legal");
    let mut registered = false;
    for body in input.split(|&byte| byte == 0xFF).take(8) {
        for _ in 0..2 * MAX_CLIENTS {
            let request = Request::post("/register").header("content-type", "application/json");
            let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("legal");
            let answer = service.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
            registered |= answer.status() == 201;
            if answer.status() != 201 {
                break;
            }
        }
        assert!(store.len() as u64 <= MAX_CLIENTS);
        // The store counts no clients that were removed, so it can be held to less.
        let bound = 64 * 1024 + MAX_CLIENTS as usize * MAX_CLIENT_BYTES;
        assert!(store.bytes() <= bound, "{} bytes are counted, and {bound} allowed", store.bytes());
        let change = region.change();
        let live = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
        let bound = 64 * 1024 + CLIENTS_AND_REMOVED_CLIENTS * MAX_CLIENT_BYTES;
        assert!(live <= bound, "{live} bytes are kept, and {bound} allowed");
    }
    if registered { Corpus::Keep } else { Corpus::Reject }
});
