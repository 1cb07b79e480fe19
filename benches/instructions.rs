//! Counts the instructions of a request, which do not depend on the load of the machine.
//!
//! `cargo bench --features axum --bench instructions` counts with valgrind and prints what changed against
//! `benches/instructions.json`; `-- --record` writes that file.

mod floor;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;
#[allow(dead_code, reason = "each bench uses a part of it")]
mod subjects;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, System, rustc_version};
use self::subjects::{AXUM_LAYER, AXUM_QUERY, BARE, CASES, HYPER_LAYER, LAYER};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.json");

/// Enough that what only the first request does is less than one instruction of each.
const ROUNDS: u32 = 2_000;

/// Row and case, by number.
type Subject = (&'static str, usize);

/// Under valgrind the setup takes longer than the requests; each of these costs a second.
const SUBJECTS: [Subject; 10] = [
    (BARE, 0),
    (LAYER, 0),
    (LAYER, 1),
    (LAYER, 2),
    (LAYER, 3),
    (LAYER, 4),
    (LAYER, 5),
    (AXUM_QUERY, 0),
    (AXUM_LAYER, 0),
    (HYPER_LAYER, 0),
];

#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    rustc: String,
    instructions_per_request: BTreeMap<String, u64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--count") {
        Some(place) => run(&arguments[place + 1], &arguments[place + 2], &arguments[place + 3]),
        None => compare(arguments.iter().any(|argument| argument == "--record")),
    }
}

/// What valgrind sees.
fn run(row: &str, case: &str, rounds: &str) {
    let mut row = subjects::rows(10).into_iter().find(|known| known.name == row).expect("a row");
    let case: usize = case.parse().expect("a number");
    let run = &mut row.runs[case];
    // What the first request sets up is not part of any.
    assert!(run() || !CASES[case].is_accepted);
    for _ in 0..rounds.parse().expect("a number") {
        run();
    }
}

fn compare(is_to_record: bool) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: instructions are not counted");
        return;
    }
    let counted: BTreeMap<_, _> = SUBJECTS
        .iter()
        .map(|&(row, case)| {
            // Start and end of the program are in both.
            let instructions = (count(row, case, ROUNDS) - count(row, case, 0)) / u64::from(ROUNDS);
            (format!("{row}: {}", CASES[case].name), instructions)
        })
        .collect();
    let record = Record { rustc: rustc_version(), instructions_per_request: counted };
    if is_to_record || !Path::new(RECORD).exists() {
        let text = serde_json::to_string_pretty(&record).expect("JSON");
        std::fs::write(RECORD, text + "\n").expect("the file can be written");
        println!("recorded in benches/instructions.json");
    }
    print(&record);
}

fn print(counted: &Record) {
    let text = std::fs::read(RECORD).expect("the file can be read");
    let recorded: Record = serde_json::from_slice(&text).expect("a record");
    println!("\ninstructions of a request, recorded with {}\n", recorded.rustc);
    if counted.rustc != recorded.rustc {
        println!("counted with {}: the compiler alone may make a difference\n", counted.rustc);
    }
    println!("| | recorded | now | ratio |\n|---|---:|---:|---:|");
    for (name, now) in &counted.instructions_per_request {
        match recorded.instructions_per_request.get(name) {
            Some(before) => {
                let ratio = *now as f64 / *before as f64;
                println!("| {name} | {before} | {now} | {ratio:.3} |");
            }
            None => println!("| {name} | - | {now} | - |"),
        }
    }
}

/// All instructions of a program run that handles this many requests.
fn count(row: &str, case: usize, rounds: u32) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--read-inline-info=no"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--count", row, &case.to_string(), &rounds.to_string()])
        .output()
        .expect("valgrind runs");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "valgrind: {report}");
    let line = report.lines().find_map(|line| line.split_once("Collected :")).expect("valgrind reports a sum");
    line.1.trim().parse().expect("a number")
}
