//! Changes to clients and databases during the soak.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower_oauth_client_validation::{
    BoxStore, Client, ClientOrigin, PostgresRegistry, RegistryStore, SqliteRegistry, StoreError,
};

use crate::load::Connection;
use crate::postgres_cluster::Cluster;
use crate::random::Random;
use crate::stage::{CHANGING, Document, Run, Slot, Stage, document, is_active};

/// Only a bound: until then every change counts and every server has healed.
const BOUND: Duration = Duration::from_secs(300);

/// Writers of a store at the same time.
const WRITERS: usize = 4;

/// Where the clients of a stage are.
pub(crate) struct Source {
    pub(crate) name: &'static str,
    /// As it is passed to the server.
    pub(crate) location: String,
    place: Place,
}

enum Place {
    Sqlite(BoxStore),
    Postgres(BoxStore, Arc<Cluster>),
    File(PathBuf),
}

impl Source {
    pub(crate) async fn sqlite(folder: &Path) -> Self {
        let location = format!("sqlite://{}", folder.join("clients.db").display());
        let store = SqliteRegistry::connect(&location).await.unwrap();
        store.migrate().await.unwrap();
        Self { name: "SQLite", location, place: Place::Sqlite(store.boxed_store()) }
    }

    pub(crate) async fn postgres(cluster: Cluster) -> Self {
        cluster.connect().await;
        let location = cluster.database().await;
        let store = PostgresRegistry::connect(&location).await.unwrap();
        store.migrate().await.unwrap();
        Self { name: "PostgreSQL", location, place: Place::Postgres(store.boxed_store(), Arc::new(cluster)) }
    }

    pub(crate) fn file(folder: &Path) -> Self {
        let path = folder.join("clients.json");
        Self { name: "file", location: path.display().to_string(), place: Place::File(path) }
    }

    pub(crate) async fn fill(&self, slots: &[Slot]) {
        match &self.place {
            Place::Sqlite(store) | Place::Postgres(store, _) => {
                for slot in slots {
                    let client = client(&slot.current().expect("all are there at first"));
                    store.insert(client, ClientOrigin::Configured).await.unwrap();
                }
            }
            Place::File(path) => std::fs::write(path, text(slots.iter().map(Slot::current), 0)).unwrap(),
        }
    }
}

fn client(document: &Value) -> Client {
    Client::from_metadata(document.clone()).expect("it is a client")
}

pub(crate) fn start(tasks: &mut JoinSet<Result<(), String>>, run: &Arc<Run>, stage: &Arc<Stage>, source: &Source) {
    let shared = || (Arc::clone(run), Arc::clone(stage));
    let mut writers = |store: &BoxStore, is_cached| {
        for number in 0..WRITERS {
            let (run, stage) = shared();
            tasks.spawn(write(run, stage, store.clone(), number, is_cached));
        }
    };
    match &source.place {
        Place::Sqlite(store) => writers(store, false),
        Place::Postgres(store, cluster) => {
            writers(store, true);
            let (run, stage) = shared();
            tasks.spawn(restart(run, stage, Arc::clone(cluster)));
        }
        Place::File(path) => {
            let (run, stage) = shared();
            tasks.spawn(rewrite(run, stage, path.clone()));
        }
    }
}

async fn pause(random: &mut Random, longest: usize) {
    tokio::time::sleep(Duration::from_millis(random.below(longest) as u64)).await;
}

/// What a client becomes by one write.
fn next(slot: &Slot, random: &mut Random) -> Document {
    let Some(known) = slot.current() else {
        return Some(Arc::new(document(&slot.id, random)));
    };
    // For good.
    if known["revoked"] == true {
        return None;
    }
    let mut changed = match random.below(10) {
        0..5 => document(&slot.id, random),
        5 => return None,
        _ => Value::clone(&known),
    };
    match random.below(10) {
        0..4 => {
            changed["disabled"] = (known["disabled"] != true).into();
        }
        4 => {
            // Exactly what it was before, else it is unclear what was revoked.
            changed = Value::clone(&known);
            changed["revoked"] = true.into();
        }
        _ => {}
    }
    Some(Arc::new(changed))
}

/// Changes clients in a store, as another process does.
async fn write(
    run: Arc<Run>,
    stage: Arc<Stage>,
    store: BoxStore,
    number: usize,
    is_cached: bool,
) -> Result<(), String> {
    let mut random = Random::new();
    let mut connection = Connection::open(&stage).await?;
    let slots: Vec<&Slot> = stage.slots[..CHANGING].iter().skip(number).step_by(WRITERS).collect();
    while !run.controllers_are_over() {
        pause(&mut random, 300).await;
        let slot = slots[random.below(slots.len())];
        let (old, new) = (slot.current(), next(slot, &mut random));
        slot.begin(new.clone());
        let begin = Instant::now();
        while let Err(error) = apply(&store, &slot.id, &old, &new).await {
            let is_transient = matches!(&error, StoreError::Registry(error) if error.is_transient());
            if !is_transient || begin.elapsed() > BOUND {
                return Err(format!("{}: {} cannot be changed: {error:?}", stage.name, slot.id));
            }
            pause(&mut random, 100).await;
        }
        let acknowledged = Instant::now();
        if is_cached {
            until_it_counts(&stage, &mut connection, &slot.id, &old, &new).await?;
        }
        slot.settle();
        let mut slowest = stage.tally.slowest_change.lock().unwrap();
        *slowest = acknowledged.elapsed().max(*slowest);
        stage.tally.changes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// What was done already, but not acknowledged, counts as done.
async fn apply(store: &BoxStore, id: &str, old: &Document, new: &Document) -> Result<(), StoreError> {
    match (old, new) {
        (None, None) => Ok(()),
        (None, Some(new)) => match store.insert(client(new), ClientOrigin::Configured).await {
            Err(StoreError::AlreadyExists) => Ok(()),
            inserted => inserted.map(drop),
        },
        (Some(_), None) => match store.remove(id).await {
            Err(StoreError::Missing) => Ok(()),
            removed => removed,
        },
        (Some(_), Some(new)) if new["revoked"] == true => store.revoke(id).await,
        (Some(_), Some(new)) => store.replace(client(new)).await.map(drop),
    }
}

/// Waits until the server answers as of now. Each document has its own scope.
async fn until_it_counts(
    stage: &Stage,
    connection: &mut Connection,
    id: &str,
    old: &Document,
    new: &Document,
) -> Result<(), String> {
    if !is_active(old) && !is_active(new) {
        return Ok(());
    }
    let own = new.as_ref().filter(|_| is_active(new)).and_then(|new| new["scope"].as_str()?.split(' ').next_back());
    let begin = Instant::now();
    loop {
        let answer = connection.probe(id, own).await?;
        let counts = match own {
            Some(_) => answer.header("location").contains("code="),
            None => answer.status == StatusCode::BAD_REQUEST,
        };
        if counts {
            return Ok(());
        }
        if begin.elapsed() > BOUND {
            return Err(format!("{}: a change of {id} does not count: {old:?} is not {new:?}", stage.name));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends the database in the ways in which databases end, and starts it again.
async fn restart(run: Arc<Run>, stage: Arc<Stage>, cluster: Arc<Cluster>) -> Result<(), String> {
    let mut random = Random::new();
    loop {
        let until = Instant::now() + Duration::from_millis(3_000 + random.below(27_000) as u64);
        while Instant::now() < until {
            if run.controllers_are_over() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stage.outage_begins();
        // A clean stop, a fast stop, and a crash.
        let signal = random.pick(&["-INT", "-QUIT", "-KILL"]);
        tokio::task::block_in_place(|| cluster.stop(signal));
        pause(&mut random, 4_000).await;
        cluster.start();
        cluster.connect().await;
        // A connection from before the outage may have been idle longer than the server allows.
        let mut connection = Connection::open(&stage).await?;
        until_healed(&stage, &mut connection, &mut random).await?;
        stage.outage_ends();
        stage.tally.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ids that no cache knows are answered, on more connections than the server has to the database.
async fn until_healed(stage: &Stage, connection: &mut Connection, random: &mut Random) -> Result<(), String> {
    let begin = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 30 {
        let answer = connection.probe(&format!("nobody-{:x}", random.number()), None).await?;
        in_a_row = if answer.status == StatusCode::SERVICE_UNAVAILABLE { 0 } else { in_a_row + 1 };
        if begin.elapsed() > BOUND {
            return Err(format!("{}: the server does not heal", stage.name));
        }
    }
    Ok(())
}

fn text(documents: impl Iterator<Item = Document>, version: u64) -> String {
    let marker = json!({ "client_id": format!("marker-{version}"), "redirect_uris": [format!("https://marker-{version}.example/cb")] });
    let all: Vec<Value> = documents.flatten().map(|document| Value::clone(&document)).chain([marker]).collect();
    serde_json::to_string_pretty(&all).unwrap()
}

/// Rewrites the file, as editors and as programs do, and breaks it now and then.
async fn rewrite(run: Arc<Run>, stage: Arc<Stage>, path: PathBuf) -> Result<(), String> {
    let mut random = Random::new();
    let mut connection = Connection::open(&stage).await?;
    let beside = path.with_extension("new");
    let mut version = 0;
    while !run.controllers_are_over() {
        pause(&mut random, 1_500).await;
        if random.percent(20) {
            let broken = random.pick(&["", "[{\"client_id\": \"nobody\"", "[{\"client_id\": 1}]", "{}"]);
            std::fs::write(&path, broken).unwrap();
            pause(&mut random, 500).await;
        }
        version += 1;
        for slot in &stage.slots[..CHANGING] {
            if random.percent(30) {
                slot.begin(next(slot, &mut random));
            }
        }
        let text = text(stage.slots.iter().map(Slot::current), version);
        if random.percent(50) {
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        }
        let written = Instant::now();
        // All of the file counts at once.
        while connection.probe(&format!("marker-{version}"), None).await?.status != StatusCode::FOUND {
            if written.elapsed() > BOUND {
                return Err(format!("{}: version {version} of the file does not count", stage.name));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for slot in &stage.slots[..CHANGING] {
            slot.settle();
        }
        let mut slowest = stage.tally.slowest_change.lock().unwrap();
        *slowest = written.elapsed().max(*slowest);
        stage.tally.changes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
