//! Programs that are killed, and databases that go away.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::clients::{clients, sqlite};
use super::http::{Answer, form, get};
use super::process::{BOUND, Running, command};
use crate::postgres_cluster::Cluster;

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
    let args = ["--listen", "127.0.0.1:0", "--auto-approve", "--registry", registry];
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
async fn a_postgres_that_is_killed_under_load_never_makes_a_wrong_answer() {
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
