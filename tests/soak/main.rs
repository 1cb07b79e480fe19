//! The example server under full load for a long time, while clients are changed and databases restart.
//!
//! Each answer is compared with what the reference says of the clients as they were then. The first that is wrong
//! ends the run.

// A failure is a panic, as in tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod control;
#[path = "../examples/http.rs"]
#[expect(dead_code, reason = "for tests with other needs")]
mod http;
mod load;
#[path = "../postgres_cluster.rs"]
#[expect(dead_code, reason = "for tests with other needs")]
mod postgres_cluster;
#[path = "../examples/process.rs"]
#[expect(dead_code, reason = "for tests with other needs")]
mod process;
mod random;
#[path = "../reference/mod.rs"]
#[expect(dead_code, reason = "for tests with other needs")]
mod reference;
mod report;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::task::JoinSet;

use crate::control::Source;
use crate::postgres_cluster::Cluster;
use crate::report::Report;
use crate::stage::{Run, Stage};

/// Loads the example server, and checks every answer.
#[derive(Parser)]
#[command(bin_name = "cargo soak")]
struct Args {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,

    /// How many connections to each of the three servers
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,

    /// Where to write soak.csv and soak.svg
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match soak(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("WRONG: {wrong}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(args: &Args) -> Result<(), String> {
    let length = Duration::from_secs(args.seconds);
    let folder = tempfile::tempdir().expect("a folder");
    let mut sources = vec![Source::sqlite(folder.path()).await, Source::file(folder.path())];
    match Cluster::new() {
        Some(cluster) => sources.push(Source::postgres(cluster).await),
        None => eprintln!("without PostgreSQL"),
    }
    let mut stages = Vec::new();
    for source in &sources {
        stages.push(Arc::new(Stage::start(source).await));
    }

    let run = Arc::new(Run::new());
    let mut tasks = JoinSet::new();
    let mut controllers = JoinSet::new();
    for (stage, source) in stages.iter().zip(&sources) {
        for number in 0..args.connections {
            tasks.spawn(load::work(Arc::clone(&run), Arc::clone(stage), number));
        }
        control::start(&mut controllers, &run, stage, source);
    }

    let begin = Instant::now();
    let mut report = Report::new(begin, length);
    let mut ticks = tokio::time::interval(report.interval());
    ticks.tick().await;
    while begin.elapsed() < length && !run.is_over() {
        tokio::select! {
            _ = ticks.tick() => report.sample(&stages),
            // A controller or a worker ends early when something is wrong only.
            Some(ended) = tasks.join_next() => run.failed(ended.expect("it does not panic")),
            Some(ended) = controllers.join_next() => run.failed(ended.expect("it does not panic")),
        }
    }
    if run.is_over() {
        return run.outcome();
    }
    // Those first, so that they find the server as they left it.
    run.stop_controllers();
    while let Some(ended) = controllers.join_next().await {
        run.failed(ended.expect("it does not panic"));
    }
    run.stop();
    while let Some(ended) = tasks.join_next().await {
        run.failed(ended.expect("it does not panic"));
    }
    run.outcome()?;
    for stage in stages {
        let stage = Arc::into_inner(stage).expect("all tasks have ended");
        report.end(&stage);
        if stage.server.stop("TERM").await != Some(0) {
            return Err(format!("{}: the server does not end well", stage.name));
        }
    }
    report.finish(args.write.as_deref())
}
