//! Measures closures in turn and prints tables of ratios.

use std::time::Duration;

use cpu_time::ThreadTime;
pub(crate) use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
pub(crate) use std::alloc::System;

/// Whether `BENCH_QUICK` asks for a short run.
pub(crate) fn is_quick() -> bool {
    std::env::var_os("BENCH_QUICK").is_some()
}

/// What one call costs.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) nanoseconds: f64,
    pub(crate) allocations: usize,
    pub(crate) bytes: usize,
}

/// Something to measure.
pub(crate) struct Subject<'a> {
    name: &'a str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new<T>(name: &'a str, mut run: impl FnMut() -> T + 'a) -> Self {
        Self { name, run: Box::new(move || drop(run())) }
    }
}

/// Prints what each costs; the first one is what the ratios refer to.
pub(crate) fn print_table(title: &str, mut subjects: Vec<Subject<'_>>) {
    let costs = costs(subjects.iter_mut().map(|subject| &mut *subject.run).collect());
    println!("\n{title}\n\n| | ns | of the first | allocations | bytes |\n|---|---:|---:|---:|---:|");
    for (subject, Cost { nanoseconds, allocations, bytes }) in subjects.iter().zip(&costs) {
        let ratio = nanoseconds / costs[0].nanoseconds;
        println!("| {} | {nanoseconds:.0} | {ratio:.2} | {allocations} | {bytes} |", subject.name);
    }
}

/// The median of what each costs. Round by round, so that a slow spell of the machine hits all alike.
pub(crate) fn costs<T>(mut runs: Vec<&mut (dyn FnMut() -> T + '_)>) -> Vec<Cost> {
    let (rounds, slice) = if is_quick() { (3, Duration::from_millis(2)) } else { (21, Duration::from_millis(20)) };
    let mut samples = vec![Vec::with_capacity(rounds); runs.len()];
    // The first warms up.
    for round in 0..=rounds {
        for (run, samples) in runs.iter_mut().zip(&mut samples) {
            let nanoseconds = time(run, slice);
            if round > 0 {
                samples.push(nanoseconds);
            }
        }
    }
    let medians = samples.into_iter().map(median);
    runs.into_iter()
        .zip(medians)
        .map(|(run, nanoseconds)| {
            let (allocations, bytes) = count(run);
            Cost { nanoseconds, allocations, bytes }
        })
        .collect()
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Nanoseconds that this thread computes: what else the machine does takes part only through the caches.
fn time<T>(run: &mut dyn FnMut() -> T, slice: Duration) -> f64 {
    let start = ThreadTime::now();
    let mut calls = 0_u32;
    // The clock is not read after each call, but a slow one is not repeated for long.
    let mut batch = 1;
    loop {
        for _ in 0..batch {
            run();
        }
        calls += batch;
        let elapsed = start.elapsed();
        if elapsed >= slice {
            return elapsed.as_secs_f64() * 1e9 / f64::from(calls);
        }
        batch = 64.min(batch * 2);
    }
}

/// Allocations and bytes of one call; reallocations count as allocations.
fn count<T>(run: &mut dyn FnMut() -> T) -> (usize, usize) {
    run();
    let before = INSTRUMENTED_SYSTEM.stats();
    run();
    let change = INSTRUMENTED_SYSTEM.stats() - before;
    (change.allocations + change.reallocations, change.bytes_allocated)
}

/// The machine and the compiler, for the head of a table.
pub(crate) fn describe_machine() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let field = |name| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Some(format!("{} (model {})", field("model name")?, field("model\t")?))
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{}, {cores} cores, {}", processor.as_deref().unwrap_or("unknown processor"), rustc_version());
}

/// The compiler that `cargo` uses here.
pub(crate) fn rustc_version() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("--version").output();
    output.map_or_else(
        |_| "unknown compiler".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
