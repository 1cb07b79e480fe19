//! The cost of a request: this layer, two floors, and axum and hyper without validation.
//!
//! `cargo bench --features axum --bench authorize` measures all subjects of a table in turn in one run, so that the
//! ratios hold although the machine drifts. `-- 10000` measures with that number of clients only. `benches/compare` is
//! the same with other crates beside it.

mod floor;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod subjects;

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    subjects::main(subjects::rows);
}
