//! The time of a lookup, the memory of a client, and whether replacing all clients delays readers.
//!
//! `cargo bench --bench registry --features full`

#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, Uri};
use http_body_util::Full;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_oauth_client_validation::{
    CachedRegistry, Client, ClientValidationLayer, FileRegistry, MemoryRegistry, RegistrySource,
};

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, Subject, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// 3 redirect URIs and 4 scopes.
fn client(number: usize) -> Client {
    Client::builder(format!("client-{number:07}"))
        .confidential()
        .redirect_uri(format!("https://app{number:07}.example/callback"))
        .redirect_uri(format!("https://app{number:07}.example/silent"))
        .redirect_uri("http://127.0.0.1/callback")
        .scope("openid profile email offline_access")
        .build()
        .expect("a legal client")
}

/// The same with the plain strings that one would write by hand.
#[derive(Debug)]
#[expect(dead_code, reason = "it is there to be weighed")]
struct PlainClient {
    redirect_uris: Vec<String>,
    scopes: Vec<String>,
}

fn plain_client(number: usize) -> (String, Arc<PlainClient>) {
    let redirect_uris = vec![
        format!("https://app{number:07}.example/callback"),
        format!("https://app{number:07}.example/silent"),
        "http://127.0.0.1/callback".to_owned(),
    ];
    let scopes = ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec();
    (format!("client-{number:07}"), Arc::new(PlainClient { redirect_uris, scopes }))
}

fn main() {
    let quick = measure::is_quick();
    let count = if quick { 20_000 } else { 1_000_000 };
    measure::describe_machine();
    lookups();
    contention(quick);
    weights(count);
    load(count);
    swap(count, quick);
}

/// A hit, alone and as part of a request.
fn lookups() {
    let memory: MemoryRegistry = (0..10_000).map(client).collect();
    let cached = CachedRegistry::new(memory.clone());
    let boxed = memory.clone().boxed();
    let locked = Locked::new(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(cached.find_client(ID)).expect("found").expect("known");
    let subjects = vec![
        Subject::new("memory", || memory.find_client(black_box(ID)).now_or_never()),
        Subject::new("a lock around a map", || locked.get(black_box(ID))),
        Subject::new("cached, a hit", || cached.find_client(black_box(ID)).now_or_never()),
        Subject::new("memory, boxed", || boxed.find_client(black_box(ID)).now_or_never()),
        Subject::new("memory, unknown", || memory.find_client(black_box("client-x")).now_or_never()),
    ];
    measure::print_table("a lookup among 10,000 clients", subjects);
    let subjects = vec![
        Subject::new("memory", request(memory)),
        Subject::new("cached, a hit", request(cached)),
        Subject::new("memory, boxed", request(boxed)),
    ];
    measure::print_table("an accepted request, with the layer and a service that does nothing", subjects);
}

/// What one would write without the memory registry's maps.
struct Locked(RwLock<HashMap<Box<str>, Arc<Client>>>);

impl Locked {
    fn new(count: usize) -> Self {
        let clients = (0..count).map(client).map(|client| (client.id().into(), Arc::new(client)));
        Self(RwLock::new(clients.collect()))
    }

    fn get(&self, id: &str) -> Option<Arc<Client>> {
        self.0.read().expect("no panic").get(id).cloned()
    }
}

/// Lookups on every core, alone and while one client after the other is replaced: a lock makes readers write to one
/// place, and wait for the writer.
fn contention(quick: bool) {
    let spell = Duration::from_millis(if quick { 100 } else { 5_000 });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\nlookups among 10,000 clients, in millions a second\n");
    println!("| | one thread | {cores} threads | {cores} threads, and a writer |\n|---|---:|---:|---:|");
    let memory: MemoryRegistry = (0..10_000).map(client).collect();
    let locked = Locked::new(10_000);
    let row = |name, get: &(dyn Fn(&str) -> Option<Arc<Client>> + Sync), write: &(dyn Fn(Client) + Sync)| {
        let rates = [(1, false), (cores, false), (cores, true)].map(|(threads, writes)| {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let readers: Vec<_> = (0..threads)
                    .map(|thread| {
                        scope.spawn({
                            let stop = &stop;
                            move || {
                                let ids: Vec<_> =
                                    (0..1_000).map(|number| client(number * 10 + thread).id().to_owned()).collect();
                                let mut lookups = 0;
                                while !stop.load(Ordering::Relaxed) {
                                    ids.iter()
                                        .for_each(|id| assert!(black_box(get(id)).is_some(), "no client is missing"));
                                    lookups += ids.len();
                                }
                                lookups
                            }
                        })
                    })
                    .collect();
                let end = Instant::now() + spell;
                while Instant::now() < end {
                    if writes {
                        (0..100).for_each(|number| write(client(number)));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                stop.store(true, Ordering::Relaxed);
                let lookups: usize = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
                lookups as f64 / spell.as_secs_f64() / 1e6
            })
        });
        println!("| {name} | {:.1} | {:.1} | {:.1} |", rates[0], rates[1], rates[2]);
    };
    row("memory", &|id| memory.get(id), &|client| drop(memory.replace(client)));
    row("a lock around a map", &|id| locked.get(id), &|client| {
        locked.0.write().expect("no panic").insert(client.id().into(), Arc::new(client));
    });
}

const ID: &str = "client-0000005";

fn request<R: RegistrySource>(registry: R) -> impl FnMut() {
    let inner = |_: Request<Full<Bytes>>| ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    let service = ClientValidationLayer::new(registry).layer(service_fn(inner));
    let uri = format!("/authorize?response_type=code&client_id={ID}&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback");
    let uri: Uri = uri.parse().expect("a legal URI");
    move || {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri.clone();
        let answer = service.clone().oneshot(request).now_or_never();
        assert!(matches!(answer, Some(Ok(response)) if response.status().is_success()));
    }
}

fn live_bytes() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    // A reallocation counts the whole new size and the whole old one.
    stats.bytes_allocated - stats.bytes_deallocated
}

fn weights(count: usize) {
    println!("\nlive bytes a client, of {count}\n\n| | bytes |\n|---|---:|");
    let before = live_bytes();
    let registry: MemoryRegistry = (0..count).map(client).collect();
    println!("| memory registry | {} |", (live_bytes() - before) / count);
    drop(registry);
    let before = live_bytes();
    let plain: HashMap<_, _> = (0..count).map(plain_client).collect();
    println!("| a map of plain strings | {} |", (live_bytes() - before) / count);
    drop(plain);
}

fn load(count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clients.json");
    let clients: Vec<_> = (0..count).map(|number| client(number).to_metadata()).collect();
    std::fs::write(&path, serde_json::to_vec(&clients).expect("JSON")).expect("written");
    drop(clients);
    let start = Instant::now();
    let registry = FileRegistry::load(&path).expect("a legal file");
    println!("\na file of {count} clients loads in {:.2} s", start.elapsed().as_secs_f64());
    assert!(registry.clients().len() == count);
}

/// The slowest lookups while the whole set is replaced again and again, and while it is not.
fn swap(count: usize, quick: bool) {
    let registry: MemoryRegistry = (0..count).map(client).collect();
    let spell = if quick { Duration::from_millis(200) } else { Duration::from_secs(10) };
    println!("\na lookup among {count} clients, in microseconds\n\n| | p50 | p99 | p99.9 |\n|---|---:|---:|---:|");
    print_quantiles("at rest", &lookup_for(&registry, spell, count));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                registry.replace_all((0..count).map(client));
                swaps += 1;
            }
            swaps
        });
        let samples = lookup_for(&registry, spell, count);
        stop.store(true, Ordering::Relaxed);
        print_quantiles("while all are replaced", &samples);
        println!("\nreplaced {} times meanwhile", swaps.join().expect("no panic"));
    });
}

fn lookup_for(registry: &MemoryRegistry, spell: Duration, count: usize) -> Vec<Duration> {
    let ids: Vec<_> = (0..1024).map(|number| format!("client-{:07}", number * 977 % count)).collect();
    let end = Instant::now() + spell;
    let mut samples = Vec::with_capacity(16_000_000);
    'spell: loop {
        for id in &ids {
            let start = Instant::now();
            assert!(black_box(registry.get(id)).is_some(), "no client is ever missing");
            let now = Instant::now();
            samples.push(now - start);
            if now >= end || samples.len() == samples.capacity() {
                break 'spell;
            }
        }
    }
    samples.sort_unstable();
    samples
}

fn print_quantiles(name: &str, samples: &[Duration]) {
    let quantile = |q: usize| samples[(samples.len() - 1) * q / 1000].as_secs_f64() * 1e6;
    println!("| {name} | {:.2} | {:.2} | {:.2} |", quantile(500), quantile(990), quantile(999));
}
