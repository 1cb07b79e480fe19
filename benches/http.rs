//! Requests per second over HTTP: an axum server on one core, with this layer and without it.
//!
//! `cargo bench --features full --bench http` starts the servers, each held to the first core, and asks them in turn from
//! the second one, in one run. The last two keep their clients in SQLite and in PostgreSQL, behind the cache.

#[allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
mod measure;
#[path = "../tests/postgres_cluster.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "shared with the tests, which use more of it")]
mod postgres_cluster;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_oauth_client_validation::{
    CachedRegistry, Client, ClientOrigin, ClientValidationLayer, MemoryRegistry, PostgresRegistry, RegistrySource,
    RegistryStore, SqliteRegistry, ValidatedRequest,
};

use self::measure::median;
use self::postgres_cluster::Cluster;

/// Name in the table, and on the command line of the server.
const SUBJECTS: [(&str, &str); 6] = [
    ("no layer, a handler that always gives the same answer", "without"),
    ("this layer, the same handler", "with"),
    ("no layer, a handler that reads `Query` or `Form` and redirects", "by-hand"),
    ("this layer, the example's handler, which redirects", "memory"),
    ("the same, SQLite behind the cache", "sqlite"),
    ("the same, PostgreSQL behind the cache", "postgres"),
];

const CONNECTIONS: usize = 32;

const PARAMETERS: &str = "response_type=code&client_id=photo-app\
    &redirect_uri=https%3A%2F%2Fphotos.example%2Fcallback&scope=profile+photos%3Aread&state=af0ifjsldkj8d7f6g5h4\
    &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

fn client() -> Client {
    Client::builder("photo-app")
        .redirect_uri("https://photos.example/callback")
        .scope("profile photos:read")
        .build()
        .expect("a legal client")
}

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |place: usize| arguments.get(place).map(String::as_str).unwrap_or_default();
    match argument(1) {
        "--serve" => serve(argument(2), argument(3)),
        "--load" => load(argument(2).parse()?, argument(3), Duration::from_millis(argument(4).parse()?)),
        _ => compare(),
    }
}

#[tokio::main]
async fn compare() -> Result<(), AnyError> {
    let (rounds, millis) = if measure::is_quick() { (1, 200) } else { (11, 1_000) };
    let folder = tempfile::tempdir()?;
    let sqlite = format!("sqlite://{}", folder.path().join("clients.db").display());
    let store = SqliteRegistry::connect(&sqlite).await?;
    store.migrate().await?;
    store.insert(client(), ClientOrigin::Configured).await?;
    let cluster = Cluster::new();
    let postgres = match &cluster {
        Some(cluster) => {
            cluster.connect().await;
            let url = cluster.database().await;
            let store = PostgresRegistry::connect(&url).await?;
            store.migrate().await?;
            store.insert(client(), ClientOrigin::Configured).await?;
            Some(url)
        }
        None => None,
    };
    let mut servers = Vec::new();
    for (name, kind) in SUBJECTS {
        let url = match kind {
            "sqlite" => &sqlite,
            "postgres" => match &postgres {
                Some(url) => url,
                None => continue,
            },
            _ => "",
        };
        servers.push((name, Server::start(kind, url)?));
    }

    let methods = ["GET", "POST"];
    let mut samples = vec![[const { Vec::new() }; 2]; servers.len()];
    for _ in 0..rounds {
        for ((_, server), samples) in servers.iter().zip(&mut samples) {
            for (method, samples) in methods.into_iter().zip(samples) {
                samples.push(server.sample(method, millis)?);
            }
        }
    }
    measure::describe_machine();
    // Both halves of a ratio are from the same round.
    let ratio = |own: usize, other: usize, method: usize, of: fn(&Sample) -> f64| {
        let pairs = samples[own][method].iter().zip(&samples[other][method]);
        median(pairs.map(|(own, other)| of(own) / of(other)).collect())
    };
    let rate: fn(&Sample) -> f64 = |sample| sample.requests_per_second;
    let time: fn(&Sample) -> f64 = |sample| sample.microseconds;
    println!("\nan axum server on one core, {CONNECTIONS} connections, as ratios to the first server\n");
    for (method, name) in methods.into_iter().enumerate() {
        let first = |of: fn(&Sample) -> f64| median(samples[0][method].iter().map(of).collect());
        println!("- {name}: {:.0} requests a second, {:.1} µs of the processor for each", first(rate), first(time));
    }
    println!("\n| | GET a second | POST a second | GET, processor | POST, processor |\n|---|---:|---:|---:|---:|");
    let row = |name: &str, own: usize, other: usize| {
        let [get, post] = [0, 1].map(|method| ratio(own, other, method, rate) * 100.0);
        let [get_time, post_time] = [0, 1].map(|method| ratio(own, other, method, time));
        println!("| {name} | {get:.1}% | {post:.1}% | {get_time:.2} | {post_time:.2} |");
    };
    for (own, (name, _)) in servers.iter().enumerate() {
        row(name, own, 0);
    }
    println!("\n| with this layer, of without it | GET a second | POST a second | GET, processor | POST, processor |");
    println!("|---|---:|---:|---:|---:|");
    println!("| target | 95.0% | 95.0% | | |");
    row("the same handler, which reads nothing", 1, 0);
    row("a handler that redirects, of one that reads `Query` or `Form`", 3, 2);
    Ok(())
}

/// What one spell of load showed.
#[derive(Clone, Copy)]
struct Sample {
    requests_per_second: f64,
    /// Of the processor, for a request; nearly free of what else the machine does.
    microseconds: f64,
}

/// A server in a separate process, which ends when this value is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(kind: &str, url: &str) -> Result<Self, AnyError> {
        let mut process = on_core(0)?.args(["--serve", kind, url]).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().parse()? })
    }

    fn sample(&self, method: &str, millis: u64) -> Result<Sample, AnyError> {
        let (address, millis) = (self.address.to_string(), millis.to_string());
        let before = self.processor_time()?;
        let output = on_core(1)?.args(["--load", &address, method, &millis]).stderr(Stdio::inherit()).output()?;
        let spent = self.processor_time()? - before;
        let report = String::from_utf8(output.stdout)?;
        let (count, seconds) = report.trim().split_once(' ').ok_or("the load generator failed")?;
        let count: f64 = count.parse()?;
        Ok(Sample {
            requests_per_second: count / seconds.parse::<f64>()?,
            microseconds: spent.as_secs_f64() * 1e6 / count,
        })
    }

    /// Of all threads.
    fn processor_time(&self) -> Result<Duration, AnyError> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let statistics = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += statistics.split(' ').next().ok_or("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// This program again, held to one core.
fn on_core(core: usize) -> std::io::Result<Command> {
    let core = core.min(std::thread::available_parallelism()?.get() - 1);
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(std::env::current_exe()?);
    Ok(command)
}

#[tokio::main]
async fn serve(kind: &str, url: &str) -> Result<(), AnyError> {
    let router = match kind {
        "without" => get(constant).post(constant),
        "with" => get(constant).post(constant).layer(ClientValidationLayer::new(memory())),
        "by-hand" => get(query).post(form),
        "memory" => validated(memory()),
        "sqlite" => validated(CachedRegistry::new(SqliteRegistry::connect(url).await?)),
        "postgres" => validated(CachedRegistry::new(PostgresRegistry::connect(url).await?)),
        _ => return Err("--serve: no such server".into()),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/authorize", router)).await?;
    Ok(())
}

fn memory() -> MemoryRegistry {
    MemoryRegistry::from_clients([client()])
}

/// The route of `examples/axum.rs`.
fn validated<R>(registry: R) -> MethodRouter
where
    R: RegistrySource + Send + Sync + 'static,
    R::Future: Send + 'static,
{
    get(authorize).post(authorize).layer(ClientValidationLayer::new(registry))
}

async fn authorize(method: Method, validated: ValidatedRequest) -> Response {
    let code = format!("a-code-for-{}", validated.client_id());
    validated.success([("code", code.as_str())]).into_http(&method)
}

/// The headers of the example's answer.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

async fn constant(method: Method) -> Response {
    let location = "https://photos.example/callback?code=a-code-for-photo-app&state=af0ifjsldkj8d7f6g5h4";
    (status(&method), HEADERS, [(header::LOCATION, HeaderValue::from_static(location))]).into_response()
}

fn status(method: &Method) -> StatusCode {
    if method == Method::POST { StatusCode::SEE_OTHER } else { StatusCode::FOUND }
}

#[derive(serde::Deserialize)]
struct Parameters {
    client_id: String,
    redirect_uri: String,
    state: String,
}

async fn query(method: Method, Query(parameters): Query<Parameters>) -> Response {
    parameters.redirect(&method)
}

async fn form(method: Method, axum::Form(parameters): axum::Form<Parameters>) -> Response {
    parameters.redirect(&method)
}

impl Parameters {
    fn redirect(self, method: &Method) -> Response {
        let Self { client_id, redirect_uri, state } = self;
        let location = format!("{redirect_uri}?code=a-code-for-{client_id}&state={state}");
        (status(method), HEADERS, [(header::LOCATION, location)]).into_response()
    }
}

/// Asks as fast as answers come, and prints how often and for how many seconds.
#[tokio::main(flavor = "current_thread")]
async fn load(address: SocketAddr, method: &str, spell: Duration) -> Result<(), AnyError> {
    let head = "host: as.example\r\nuser-agent: Mozilla/5.0\r\naccept: text/html,application/json;q=0.9,*/*;q=0.8\r\n";
    let request = match method {
        "POST" => format!(
            "POST /authorize HTTP/1.1\r\n{head}content-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{PARAMETERS}",
            PARAMETERS.len()
        ),
        _ => format!("GET /authorize?{PARAMETERS} HTTP/1.1\r\n{head}\r\n"),
    };
    let start = Instant::now();
    let connections = (0..CONNECTIONS).map(|_| ask(address, request.as_bytes(), start + spell));
    let count: u64 = futures::future::try_join_all(connections).await?.into_iter().sum();
    println!("{count} {}", start.elapsed().as_secs_f64());
    Ok(())
}

async fn ask(address: SocketAddr, request: &[u8], end: Instant) -> Result<u64, AnyError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = [0; 4096];
    stream.write_all(request).await?;
    // The first answer comes in one piece, has no body, and all others are as long.
    let length = stream.read(&mut answer).await?;
    let is_redirect = answer.starts_with(b"HTTP/1.1 302 ") || answer.starts_with(b"HTTP/1.1 303 ");
    if !is_redirect || !answer[..length].ends_with(b"\r\n\r\n") {
        return Err(String::from_utf8_lossy(&answer[..length]).into());
    }
    let mut count = 1;
    while Instant::now() < end {
        stream.write_all(request).await?;
        stream.read_exact(&mut answer[..length]).await?;
        count += 1;
    }
    Ok(count)
}
