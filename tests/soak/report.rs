//! Resources of the servers over time, as a table and as a plot.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::stage::Stage;

/// Shorter runs are all warm-up, and say nothing about growth.
const SHORTEST_TO_JUDGE: Duration = Duration::from_secs(600);

/// How much more the last fifth of the run may need than the second, as means.
const GROWTH: [(&str, Column, f64); 3] = [
    ("MiB of memory", |sample| sample.memory, 5.0),
    ("file descriptors", |sample| sample.descriptors, 4.0),
    ("threads", |sample| sample.threads, 2.0),
];

/// A database that is there may be too busy for one request of so many.
const BUSY: u64 = 100;

type Column = fn(&Sample) -> f64;

#[derive(Clone, Debug)]
struct Sample {
    seconds: f64,
    memory: f64,
    descriptors: f64,
    threads: f64,
    requests: f64,
    median: f64,
    p99: f64,
    unavailable: f64,
}

#[derive(Default)]
struct Series {
    samples: Vec<Sample>,
    statuses: BTreeMap<u16, u64>,
    outages: Vec<(f64, f64)>,
    busy: u64,
    /// What else was done, in words.
    done: String,
}

pub(crate) struct Report {
    begin: Instant,
    length: Duration,
    last: Instant,
    /// When, on what, and of which commit; as it was at the begin.
    caption: String,
    series: BTreeMap<&'static str, Series>,
}

impl Report {
    pub(crate) fn new(begin: Instant, length: Duration) -> Self {
        Self { begin, length, last: begin, caption: caption(length), series: BTreeMap::new() }
    }

    /// As many points as fit into the picture.
    pub(crate) fn interval(&self) -> Duration {
        (self.length / 360).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }

    pub(crate) fn sample(&mut self, stages: &[Arc<Stage>]) {
        let now = Instant::now();
        let interval = (now - self.last).as_secs_f64();
        self.last = now;
        for stage in stages {
            let mut latencies = std::mem::take(&mut *stage.tally.latencies.lock().unwrap());
            let statuses = std::mem::take(&mut *stage.tally.statuses.lock().unwrap());
            latencies.sort_unstable();
            let quantile = |share: usize| {
                latencies.get(latencies.len() * share / 100).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
            };
            let process = Path::new("/proc").join(stage.server.pid().to_string());
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
            };
            let series = self.series.entry(stage.name).or_default();
            series.samples.push(Sample {
                seconds: (now - self.begin).as_secs_f64(),
                memory: field("VmRSS") / 1024.0,
                descriptors: std::fs::read_dir(process.join("fd")).map_or(0, Iterator::count) as f64,
                threads: field("Threads"),
                requests: latencies.len() as f64 / interval,
                median: quantile(50),
                p99: quantile(99),
                unavailable: statuses.get(&503).copied().unwrap_or(0) as f64,
            });
            for (status, count) in statuses {
                *series.statuses.entry(status).or_default() += count;
            }
            let count = series.samples.len();
            if count % 12 == 0 {
                println!("{}: {:?}", stage.name, series.samples[count - 1]);
            }
        }
    }

    pub(crate) fn end(&mut self, stage: &Stage) {
        let tally = &stage.tally;
        let count = |count: &std::sync::atomic::AtomicU64| thousands(count.load(Ordering::Relaxed));
        let series = self.series.entry(stage.name).or_default();
        let seconds = |at: Instant| (at - self.begin).as_secs_f64();
        series.outages = stage
            .outages()
            .into_iter()
            .map(|(begin, end)| (seconds(begin), end.map_or(self.length.as_secs_f64(), seconds)))
            .collect();
        series.busy = tally.busy.load(Ordering::Relaxed);
        let changes = if stage.name == "file" { "reloads" } else { "changes of clients" };
        series.done = format!(
            "{} codes, {} token responses, {} registrations, {} {changes}, the slowest after {:.1} s",
            count(&tally.codes),
            count(&tally.tokens),
            count(&tally.registrations),
            count(&tally.changes),
            tally.slowest_change.lock().unwrap().as_secs_f64(),
        );
        if !series.outages.is_empty() {
            let _ = write!(series.done, ", {} restarts of the database", count(&tally.restarts));
        }
        if stage.has_database() {
            let _ = write!(series.done, ", 503 while it was there: {}", thousands(series.busy));
        }
    }

    /// Prints what was seen, writes it down, and judges it.
    pub(crate) fn finish(&self, folder: Option<&Path>) -> Result<(), String> {
        let mut faults = Vec::new();
        let mut story = vec![self.caption.clone()];
        for (name, series) in &self.series {
            let total: u64 = series.statuses.values().sum();
            let statuses: Vec<String> =
                series.statuses.iter().map(|(status, count)| format!("{status}: {}", thousands(*count))).collect();
            story.push(format!("{name}: {} requests ({})", thousands(total), statuses.join(", ")));
            story.push(format!("{name}: {}", series.done));
            if self.length >= SHORTEST_TO_JUDGE && series.busy > total / BUSY {
                faults.push(format!("{name}: {} answers with 503 while the database was there", series.busy));
            }
            let mut means = Vec::new();
            for (what, column, bound) in GROWTH {
                let (early, late) = (fifth(&series.samples, 1, column), fifth(&series.samples, 4, column));
                means.push(format!("{early:.1} → {late:.1} {what}"));
                if self.length >= SHORTEST_TO_JUDGE && late > early + bound {
                    faults.push(format!("{name}: {early:.1} → {late:.1} {what} is growth"));
                }
            }
            story.push(format!("{name}, second fifth of the run → last: {}", means.join(", ")));
        }
        for line in &story {
            println!("{line}");
        }
        if let Some(folder) = folder {
            let write = |name: &str, text: String| {
                std::fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))
            };
            write("soak.csv", self.table())?;
            write("soak.svg", self.picture(&story))?;
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    fn table(&self) -> String {
        let head = "server,seconds,memory_mib,descriptors,threads,requests_per_second,median_ms,p99_ms,unavailable\n";
        let mut table = head.to_owned();
        for (name, series) in &self.series {
            for sample in &series.samples {
                let Sample { seconds, memory, descriptors, threads, requests, median, p99, unavailable } = sample;
                let _ = writeln!(
                    table,
                    "{name},{seconds:.0},{memory:.1},{descriptors},{threads},{requests:.0},{median:.2},{p99:.2},{unavailable}"
                );
            }
        }
        table
    }

    #[expect(clippy::suboptimal_flops, reason = "places in a picture")]
    fn picture(&self, story: &[String]) -> String {
        let panels: [(&str, Column); 5] = [
            ("resident memory, MiB", |sample| sample.memory),
            ("open file descriptors", |sample| sample.descriptors),
            ("threads", |sample| sample.threads),
            ("requests per second", |sample| sample.requests),
            ("99th percentile of the latency, ms", |sample| sample.p99),
        ];
        let (left, width, height, gap) = (60.0, 860.0, 110.0, 34.0);
        let top = 50.0;
        let bottom = top + panels.len() as f64 * (height + gap);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 {0}\" width=\"960\" height=\"{0}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            bottom + 30.0 + 16.0 * (story.len() as f64)
        );
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"20\" font-size=\"15\">{TITLE}</text>");
        for (number, (name, color)) in self.series.keys().zip(COLORS).enumerate() {
            let x = left + 110.0 * number as f64;
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{color}\"/>");
            let _ = writeln!(svg, "<text x=\"{}\" y=\"37\">{name}</text>", x + 15.0);
        }
        let _ = writeln!(svg, "<rect x=\"390\" y=\"28\" width=\"10\" height=\"10\" fill=\"{OUTAGE}\"/>");
        let _ = writeln!(svg, "<text x=\"405\" y=\"37\">PostgreSQL is away</text>");
        let length = self.length.as_secs_f64();
        let at = |seconds: f64| left + width * (seconds / length).min(1.0);
        for (number, (title, column)) in panels.iter().enumerate() {
            let y = top + gap / 2.0 + number as f64 * (height + gap);
            let samples = self.series.values().flat_map(|series| &series.samples);
            let most = ceiling(samples.map(column).fold(1.0, f64::max));
            for (begin, end) in self.series.values().flat_map(|series| &series.outages) {
                let (x, wide) = (at(*begin), (at(*end) - at(*begin)).max(0.5));
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{wide:.1}\" height=\"{height}\" fill=\"{OUTAGE}\"/>"
                );
            }
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\">{title}</text>", y - 4.0);
            for share in [0.0, 0.5, 1.0] {
                let line = y + height * (1.0 - share);
                let _ = writeln!(svg, "<path d=\"M{left} {line}h{width}\" stroke=\"#ccc\" stroke-width=\"0.5\"/>");
                let (x, label) = (left - 6.0, most * share);
                let _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\" text-anchor=\"end\">{label}</text>", line + 4.0);
            }
            for (series, color) in self.series.values().zip(COLORS) {
                let points: Vec<String> = series
                    .samples
                    .iter()
                    .map(|sample| {
                        format!("{:.1},{:.1}", at(sample.seconds), y + height * (1.0 - column(sample) / most))
                    })
                    .collect();
                let points = points.join(" ");
                let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{color}\" points=\"{points}\"/>");
            }
        }
        for sixth in 0..=6 {
            let seconds = length * f64::from(sixth) / 6.0;
            let (x, label) = (at(seconds), if length < 600.0 { seconds } else { seconds / 60.0 });
            let unit = if length < 600.0 { "s" } else { "min" };
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label:.0} {unit}</text>",
                bottom + 4.0
            );
        }
        for (number, line) in story.iter().enumerate() {
            let y = bottom + 26.0 + 16.0 * number as f64;
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"{y}\" font-size=\"10\">{line}</text>");
        }
        svg.push_str("</svg>\n");
        svg
    }
}

const TITLE: &str = "The example server under full load, while clients change and databases restart";
const COLORS: [&str; 3] = ["#0b6e99", "#b3541e", "#4a7c2c"];
const OUTAGE: &str = "#f6dede";

fn caption(length: Duration) -> String {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    format!(
        "{}, {} s, {} build, commit {}, {} × {}, Linux: no wrong answer",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        length.as_secs(),
        if cfg!(debug_assertions) { "debug" } else { "release" },
        output("git", &["describe", "--always", "--dirty"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        cpu.map_or("CPU", |(_, name)| name.trim()),
    )
}

fn fifth(samples: &[Sample], number: usize, column: Column) -> f64 {
    let part = &samples[samples.len() * number / 5..samples.len() * (number + 1) / 5];
    part.iter().map(column).sum::<f64>() / part.len().max(1) as f64
}

/// The next number that is nice on an axis.
fn ceiling(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let nice = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().find(|nice| nice * power >= value);
    nice.unwrap_or(10.0) * power
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}
