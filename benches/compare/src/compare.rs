//! This layer and other crates that validate authorization requests, each used as its documentation shows.
//!
//! `cargo bench --manifest-path benches/compare/Cargo.toml`

#[path = "../../floor/mod.rs"]
mod floor;
#[path = "../../measure/mod.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;
mod others;
#[path = "../../subjects/mod.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod subjects;

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    subjects::main(|count| {
        let mut rows = subjects::rows(count);
        rows.extend(others::rows(count));
        rows
    });
}
