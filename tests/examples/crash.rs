//! Killed programs and databases.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::clients::{clients, sqlite};
use super::http::{Answer, form, get, try_send};
use super::postgres_cluster::Cluster;
use super::process::{BOUND, Running, command};

const APPS: usize = 100_000;

fn app(n: usize) -> Value {
    json!({
        "client_id": format!("app-{n}"),
        "client_name": format!("App {n} {}", "x".repeat(500)),
        "redirect_uris": [format!("https://app-{n}.example/cb")],
        "scope": "read write",
        "token_endpoint_auth_method": "none",
    })
}

/// An import that is fed for as long as it runs.
struct Import {
    child: Child,
    acknowledged: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    ids: BTreeSet<String>,
    feeding: JoinHandle<()>,
}

impl Import {
    fn start(registry: &str) -> Self {
        let mut command = command("clients", &["--registry", registry, "import", "--at-once", "8"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeding = tokio::spawn(async move {
            for n in 0..APPS {
                // It has ended.
                if stdin.write_all(format!("{}\n", app(n)).as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let acknowledged = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, acknowledged, ids: BTreeSet::new(), feeding }
    }

    async fn wait_for(&mut self, writes: usize) {
        while self.ids.len() < writes {
            let line = tokio::time::timeout(BOUND, self.acknowledged.next_line()).await.unwrap().unwrap();
            self.ids.insert(line.unwrap());
        }
    }

    /// What was acknowledged until its end.
    async fn end(mut self) -> BTreeSet<String> {
        while let Some(line) = tokio::time::timeout(BOUND, self.acknowledged.next_line()).await.unwrap().unwrap() {
            self.ids.insert(line);
        }
        tokio::time::timeout(BOUND, self.child.wait()).await.unwrap().unwrap();
        self.feeding.await.unwrap();
        self.ids
    }
}

/// All that was acknowledged is there, and all that is there is whole.
async fn assert_whole(registry: &str, acknowledged: &BTreeSet<String>) {
    let listed = clients(registry, &["list", "--json"]).await.json();
    let listed: BTreeMap<&str, &Value> =
        listed.as_array().unwrap().iter().map(|client| (client["client_id"].as_str().unwrap(), client)).collect();
    assert!(listed.len() < APPS, "it was not in the middle");
    for id in acknowledged {
        assert!(listed.contains_key(&**id), "{id} was acknowledged and is gone");
    }
    for (id, client) in listed {
        let Some(n) = id.strip_prefix("app-").and_then(|n| n.parse().ok()) else {
            continue;
        };
        let sent = app(n);
        for (name, value) in sent.as_object().unwrap() {
            assert_eq!(&client["metadata"][name], value, "{id}: {name}");
        }
    }
}

async fn start(registry: &str) -> Running {
    let args = ["--listen", "127.0.0.1:0", "--profile", "oauth2", "--auto-approve", "--registry", registry];
    Running::start("authorization_server", &args).await
}

async fn ask(server: &Running, parameters: &[(&str, &str)]) -> Answer {
    let parameters = [&[("response_type", "code")], parameters].concat();
    get(&server.url(&format!("/authorize?{}", form(&parameters)))).await
}

#[tokio::test]
async fn what_sqlite_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let server = start(&url).await;
    let mut import = Import::start(&url);
    import.wait_for(1000).await;
    assert_eq!(ask(&server, &[("client_id", "app-0")]).await.status, StatusCode::FOUND);
    import.child.start_kill().unwrap();
    assert_eq!(server.stop("KILL").await, None);
    let acknowledged = import.end().await;

    let server = start(&url).await;
    for id in &acknowledged {
        let answer = ask(&server, &[("client_id", id)]).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{id}: {}", answer.body);
        assert!(answer.redirect().contains_key("code"), "{id}");
    }
    assert_whole(&url, &acknowledged).await;
    let next = clients(&url, &["add", "--id", "next"]).await;
    assert_eq!(next.code, Some(0), "{}", next.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_acknowledged_survives_a_kill() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.connect().await;
    let url = cluster.database().await;
    let mut import = Import::start(&url);
    import.wait_for(300).await;
    tokio::task::block_in_place(|| cluster.kill());
    // It stops by itself at the first write that fails.
    let acknowledged = import.end().await;
    cluster.start();
    cluster.connect().await;
    assert_whole(&url, &acknowledged).await;
}

/// Requests, and what is right for each; nothing else may ever be said, but that the answer is not known for now.
const REQUESTS: [(&[(&str, &str)], &str); 5] = [
    (&[("client_id", "good")], "code"),
    (&[("client_id", "good"), ("scope", "write")], "invalid_scope"),
    (&[("client_id", "good"), ("redirect_uri", "https://evil.example/cb")], "invalid_request"),
    (&[("client_id", "nobody")], "invalid_client"),
    (&[("client_id", "revoked")], "invalid_client"),
];

/// What was answered; `None` where it is not known for now.
fn outcome(answer: &Answer) -> Option<String> {
    match answer.status {
        StatusCode::SERVICE_UNAVAILABLE => {
            assert_eq!(answer.json()["error"], "temporarily_unavailable");
            None
        }
        StatusCode::FOUND => {
            let sent = answer.redirect();
            Some(
                sent.get("error")
                    .cloned()
                    .unwrap_or_else(|| sent.contains_key("code").then(|| "code".to_owned()).unwrap()),
            )
        }
        StatusCode::BAD_REQUEST => Some(answer.json()["error"].as_str().unwrap().to_owned()),
        other => panic!("{other}: {}", answer.body),
    }
}

#[derive(Default)]
struct Tally {
    right: AtomicUsize,
    unavailable: AtomicUsize,
    stop: AtomicBool,
}

/// Until so many more were counted.
async fn until_more(count: &AtomicUsize, more: usize) {
    let (begin, from) = (Instant::now(), count.load(Ordering::SeqCst));
    while count.load(Ordering::SeqCst) < from + more {
        assert!(begin.elapsed() < BOUND, "nothing happens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_postgres_under_load_never_leads_to_a_wrong_answer() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.connect().await;
    let url = cluster.database().await;
    let server = Arc::new(start(&url).await);
    for id in ["good", "revoked"] {
        let add = ["add", "--id", id, "--redirect-uri", "https://good.example/cb", "--scope", "read"];
        assert_eq!(clients(&url, &add).await.code, Some(0));
    }
    clients(&url, &["revoke", "revoked"]).await;

    let tally = Arc::new(Tally::default());
    let load: Vec<_> = (0..16)
        .map(|n| {
            let (server, tally) = (Arc::clone(&server), Arc::clone(&tally));
            tokio::spawn(async move {
                for (parameters, right) in REQUESTS.iter().cycle().skip(n) {
                    if tally.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    match outcome(&ask(&server, parameters).await) {
                        Some(said) => {
                            assert_eq!(said, *right, "{parameters:?}");
                            tally.right.fetch_add(1, Ordering::SeqCst);
                        }
                        None => {
                            tally.unavailable.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    for _ in 0..2 {
        until_more(&tally.right, 100).await;
        tokio::task::block_in_place(|| cluster.kill());
        until_more(&tally.unavailable, 32).await;
        cluster.start();
        until_more(&tally.right, 100).await;
    }
    tally.stop.store(true, Ordering::SeqCst);
    for task in load {
        tokio::time::timeout(BOUND, task).await.unwrap().unwrap();
    }
    for (parameters, right) in REQUESTS {
        assert_eq!(outcome(&ask(&server, parameters).await).as_deref(), Some(right));
    }
}

const REGISTRATIONS: usize = 1000;

async fn start_open(registry: &str) -> Running {
    let args = ["--listen", "127.0.0.1:0", "--profile", "oauth2", "--auto-approve", "--registration", "open"];
    let args = [&args[..], &["--registry", registry]].concat();
    Running::start("authorization_server", &args).await
}

fn registration(n: usize) -> Value {
    json!({
        "client_name": format!("Client {n} {}", "x".repeat(500)),
        "redirect_uris": [format!("https://client-{n}.example/cb"), "http://127.0.0.1/cb"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code"],
        "contacts": [format!("{n}@client.example")],
    })
}

/// Registrations that all wait for their answer at the same time.
struct Registrations {
    tasks: JoinSet<()>,
    acknowledged: mpsc::UnboundedReceiver<(String, usize)>,
    ids: BTreeMap<String, usize>,
}

impl Registrations {
    fn start(server: &Running) -> Self {
        let (acknowledge, acknowledged) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for n in 0..REGISTRATIONS {
            let (url, acknowledge) = (server.url("/register"), acknowledge.clone());
            tasks.spawn(async move {
                let headers = [("content-type", "application/json")];
                // Without a whole answer nothing was acknowledged.
                let Ok(answer) = try_send(Method::POST, &url, &headers, registration(n).to_string()).await else {
                    return;
                };
                match answer.status {
                    StatusCode::CREATED => {
                        let id = answer.json()["client_id"].as_str().unwrap().to_owned();
                        acknowledge.send((id, n)).unwrap();
                    }
                    other => assert_eq!(other, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body),
                }
            });
        }
        Self { tasks, acknowledged, ids: BTreeMap::new() }
    }

    /// Waits for some of them; how many is another number each time.
    async fn wait_for_some(&mut self) {
        let some = 50 + OsRng.try_next_u32().unwrap() as usize % 350;
        println!("goes on until {some} clients are registered");
        while self.ids.len() < some {
            let (id, n) = tokio::time::timeout(BOUND, self.acknowledged.recv()).await.unwrap().unwrap();
            self.ids.insert(id, n);
        }
    }

    /// All acknowledged registrations, and their clients.
    async fn end(mut self) -> BTreeMap<String, usize> {
        while let Some(ended) = tokio::time::timeout(BOUND, self.tasks.join_next()).await.unwrap() {
            ended.unwrap();
        }
        while let Some((id, n)) = self.acknowledged.recv().await {
            self.ids.insert(id, n);
        }
        println!("{} of {REGISTRATIONS} were registered", self.ids.len());
        assert!(self.ids.len() < REGISTRATIONS, "it was not in the middle");
        self.ids
    }
}

/// Every acknowledged registration is there, and none is partial.
async fn assert_registered(server: &Running, registry: &str, acknowledged: &BTreeMap<String, usize>) {
    for (id, n) in acknowledged {
        let uri = format!("https://client-{n}.example/cb");
        let answer = ask(server, &[("client_id", id), ("redirect_uri", &uri)]).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{id}: {}", answer.body);
        assert!(answer.redirect().contains_key("code"), "{id}: {:?}", answer.redirect());
    }
    let listed = clients(registry, &["list", "--json"]).await.json();
    let mut numbers = BTreeMap::new();
    for client in listed.as_array().unwrap() {
        let (id, metadata) = (client["client_id"].as_str().unwrap(), &client["metadata"]);
        let (n, _) = metadata["contacts"][0].as_str().unwrap().split_once('@').unwrap();
        let n: usize = n.parse().unwrap();
        for (name, value) in registration(n).as_object().unwrap() {
            assert_eq!(&metadata[name], value, "{id}: {name}");
        }
        assert_eq!((&client["status"], &client["origin"]), (&json!("active"), &json!("registered")), "{id}");
        numbers.insert(id, n);
    }
    for (id, n) in acknowledged {
        assert_eq!(numbers.get(&**id), Some(n), "{id} was acknowledged");
    }
}

async fn assert_registers(server: &Running) {
    let headers = [("content-type", "application/json")];
    let more = registration(REGISTRATIONS).to_string();
    let answer = try_send(Method::POST, &server.url("/register"), &headers, more).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
}

#[tokio::test]
async fn registrations_in_sqlite_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let server = start_open(&url).await;
    let mut registrations = Registrations::start(&server);
    registrations.wait_for_some().await;
    server.kill().await;
    let acknowledged = registrations.end().await;

    let server = start_open(&url).await;
    assert_registered(&server, &url, &acknowledged).await;
    assert_registers(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_in_postgres_survive_a_kill_of_it() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.connect().await;
    let url = cluster.database().await;
    let server = start_open(&url).await;
    let mut registrations = Registrations::start(&server);
    registrations.wait_for_some().await;
    tokio::task::block_in_place(|| cluster.kill());
    let acknowledged = registrations.end().await;
    cluster.start();
    cluster.connect().await;
    let begin = Instant::now();
    while outcome(&ask(&server, &[("client_id", "nobody")]).await).is_none() {
        assert!(begin.elapsed() < BOUND, "it does not heal");
    }
    assert_registered(&server, &url, &acknowledged).await;
    assert_registers(&server).await;
}

/// Asks over and over, and keeps what was answered and when.
struct Watch {
    answers: mpsc::UnboundedReceiver<(String, Instant)>,
    asking: JoinHandle<()>,
}

impl Watch {
    fn start(server: Arc<Running>, client_id: &'static str) -> Self {
        let (answered, answers) = mpsc::unbounded_channel();
        let asking = tokio::spawn(async move {
            loop {
                let said = outcome(&ask(&server, &[("client_id", client_id)]).await).unwrap();
                if answered.send((said, Instant::now())).is_err() {
                    return;
                }
            }
        });
        Self { answers, asking }
    }

    async fn next(&mut self) -> (String, Instant) {
        tokio::time::timeout(BOUND, self.answers.recv()).await.unwrap().unwrap()
    }
}

/// The server caches what it read; the tool, a separate process, notifies it through the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_revoked_by_another_process_is_refused_from_then_on() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    cluster.connect().await;
    let url = cluster.database().await;
    let server = Arc::new(start(&url).await);
    let add = ["add", "--id", "app", "--redirect-uri", "https://app.example/cb", "--scope", "read"];
    assert_eq!(clients(&url, &add).await.code, Some(0));

    let mut watch = Watch::start(server, "app");
    for _ in 0..50 {
        assert_eq!(watch.next().await.0, "code");
    }
    let revoked = clients(&url, &["revoke", "app"]).await;
    let exit = Instant::now();
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    let refused = loop {
        let (said, at) = watch.next().await;
        if said != "code" {
            assert_eq!(said, "invalid_client");
            break at;
        }
        assert!(at.saturating_duration_since(exit) < Duration::from_secs(30), "it is still accepted");
    };
    println!("refused {:?} after the end of `clients revoke`", refused.saturating_duration_since(exit));
    for _ in 0..200 {
        assert_eq!(watch.next().await.0, "invalid_client", "it came back");
    }
    watch.answers.close();
    while watch.answers.recv().await.is_some() {}
    watch.asking.await.unwrap();
}
