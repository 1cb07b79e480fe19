//! Measures closures in turn and prints a table of ratios.

use std::time::{Duration, Instant};

pub(crate) use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
pub(crate) use std::alloc::System;

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

/// Subjects that are measured in turn; the first one is what the ratios refer to.
pub(crate) struct Table<'a> {
    title: &'a str,
    subjects: Vec<Subject<'a>>,
    rounds: usize,
    slice: Duration,
}

impl<'a> Table<'a> {
    pub(crate) fn new(title: &'a str, quick: bool) -> Self {
        let (rounds, slice) = if quick { (3, Duration::from_millis(5)) } else { (21, Duration::from_millis(20)) };
        Self { title, subjects: Vec::new(), rounds, slice }
    }

    pub(crate) fn add(&mut self, subject: Subject<'a>) {
        self.subjects.push(subject);
    }

    pub(crate) fn run(mut self) {
        let mut samples = vec![Vec::with_capacity(self.rounds); self.subjects.len()];
        // Round by round, so that a slow spell of the machine hits all subjects alike. The first warms up.
        for round in 0..=self.rounds {
            for (subject, samples) in self.subjects.iter_mut().zip(&mut samples) {
                let nanoseconds = time(&mut subject.run, self.slice);
                if round > 0 {
                    samples.push(nanoseconds);
                }
            }
        }
        println!("\n{}\n| subject | ns | of the first | allocations | bytes |\n|---|---:|---:|---:|---:|", self.title);
        let mut first = None;
        for (subject, samples) in self.subjects.iter_mut().zip(&mut samples) {
            samples.sort_by(f64::total_cmp);
            let median = samples[samples.len() / 2];
            let base = *first.get_or_insert(median);
            let (allocations, bytes) = count(&mut subject.run);
            println!("| {} | {median:.0} | {:.2} | {allocations} | {bytes} |", subject.name, median / base);
        }
    }
}

fn time(run: &mut dyn FnMut(), slice: Duration) -> f64 {
    let start = Instant::now();
    let mut calls = 0_u32;
    loop {
        for _ in 0..64 {
            run();
        }
        calls += 64;
        let elapsed = start.elapsed();
        if elapsed >= slice {
            return elapsed.as_secs_f64() * 1e9 / f64::from(calls);
        }
    }
}

/// Allocations and bytes of one call; reallocations count as allocations.
fn count(run: &mut dyn FnMut()) -> (usize, usize) {
    run();
    let before = INSTRUMENTED_SYSTEM.stats();
    run();
    let change = INSTRUMENTED_SYSTEM.stats() - before;
    (change.allocations + change.reallocations, change.bytes_allocated)
}

pub(crate) fn describe_machine() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {}, {cores} cores", processor.as_deref().unwrap_or("unknown processor"));
}
