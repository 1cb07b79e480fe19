//! Clients whose id is the URL of their metadata: which documents are fetched, accepted and kept.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{FutureExt, join_all};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tower::{Layer, ServiceExt};
use tower_oauth_client_validation::{
    Client, ClientKind, ClientOrigin, ClientValidationLayer, DynamicClientError, DynamicClientRules, LoopbackPorts,
    MemoryRegistry, MetadataDocumentBuilder, MetadataDocumentRegistry, RegistryError, RegistrySource, Scope,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::wait::{eventually, in_time};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server on this machine that counts connections.
struct Server {
    port: u16,
    hits: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream, String, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hits = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&hits);
        let serve = Arc::new(serve);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let hit = counter.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    serve(stream, path, hit).await;
                });
            }
        });
        Self { port, hits }
    }

    /// Answers by the path and the number of the request.
    async fn answering(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |mut stream, path, hit| {
            let answer = answer(&path, hit);
            async move {
                // The client may have gone already.
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    fn id(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn raw(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn ok(headers: &str, body: &Value) -> Vec<u8> {
    raw("200 OK", &format!("content-type: application/json\r\n{headers}"), body.to_string().as_bytes())
}

fn document(id: &str) -> Value {
    json!({
        "client_id": id,
        "client_name": "App",
        "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
    })
}

/// Development: `localhost` is this machine.
fn development() -> MetadataDocumentBuilder {
    MetadataDocumentRegistry::builder().insecure_allow_loopback(true).resolver(|_| async { Ok(vec![LOOPBACK]) })
}

/// A server that has one document under every path, and the registry that reads it.
async fn with_document(
    change: impl Fn(&str, usize, Value) -> Vec<u8> + Send + Sync + 'static,
) -> (Server, MetadataDocumentRegistry) {
    let port = Arc::new(AtomicUsize::new(0));
    let known = Arc::clone(&port);
    let server = Server::answering(move |path, hit| {
        let id = format!("http://localhost:{}{path}", known.load(Ordering::SeqCst));
        change(path, hit, document(&id))
    })
    .await;
    port.store(server.port.into(), Ordering::SeqCst);
    (server, development().build().unwrap())
}

async fn find(registry: &MetadataDocumentRegistry, id: &str) -> Result<Option<Arc<Client>>, RegistryError> {
    in_time(registry.find_client(id)).await
}

#[track_caller]
fn assert_unavailable(found: Result<Option<Arc<Client>>, RegistryError>) {
    let error = found.expect_err("a failure");
    assert!(error.is_transient() && error.is_client_hosted());
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

async fn advance(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_document_becomes_a_client() {
    let (server, registry) = with_document(|_, _, document| ok("", &document)).await;
    let id = server.id("/client.json");
    let client = find(&registry, &id).await.unwrap().unwrap();
    assert_eq!((client.id(), client.name(), client.kind()), (&*id, Some("App"), ClientKind::Public));
    let admits = |uri| client.check_redirect_uri(uri, LoopbackPorts::Any).is_ok();
    assert!(admits("http://localhost:57470/callback") && admits("http://127.0.0.1:1/callback"));
    for other in [
        "http://localhost:57470/other",
        "http://localhost:57470/callback/",
        "https://localhost:57470/callback",
        "http://[::1]:57470/callback",
        "http://evil.example/callback",
    ] {
        assert!(!admits(other), "{other}");
    }
    // The draft advises against the path `/` and against a query, and forbids neither.
    let root = server.id("/");
    assert_eq!(find(&registry, &root).await.unwrap().unwrap().id(), root);
    let with_query = server.id("/client.json?x=/../y");
    assert_eq!(find(&registry, &with_query).await.unwrap().unwrap().id(), with_query);
    // From the cache.
    assert!(Arc::ptr_eq(&find(&registry, &id).await.unwrap().unwrap(), &client));
    assert_eq!(server.hits(), 3);
    registry.invalidate(&id);
    assert!(find(&registry, &id).await.unwrap().is_some());
    assert_eq!(server.hits(), 4);
}

#[tokio::test]
async fn ids_of_another_kind_are_unknown_and_ids_that_break_a_rule_too() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lookups);
    let registry = MetadataDocumentRegistry::builder()
        .resolver(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Ok(vec![LOOPBACK]) }
        })
        .build()
        .unwrap();
    let (log, _guard) = Log::listen();
    for id in
        ["app", "", "http://app.example/client", "HTTPS://app.example/client", "urn:x", "com.example:/x", "https:/x"]
    {
        assert!(find(&registry, id).await.unwrap().is_none(), "{id}");
        assert_eq!(log.take(), "", "{id}");
    }
    let long = format!("https://app.example/{}", "x".repeat(2048));
    for (id, rule) in [
        ("https://app.example", "client_id_path"),
        ("https://app.example?x=/y", "client_id_path"),
        ("https://app.example/a/../b", "client_id_dot_segment"),
        ("https://app.example/./b", "client_id_dot_segment"),
        ("https://app.example/a/%2e%2E/b", "client_id_dot_segment"),
        ("https://app.example/a/.%2e", "client_id_dot_segment"),
        ("https://app.example/a#", "client_id_fragment"),
        ("https://app.example/a#b", "client_id_fragment"),
        ("https://user@app.example/a", "client_id_userinfo"),
        ("https://user:pass@app.example/a", "client_id_userinfo"),
        ("https://@app.example/a", "client_id_userinfo"),
        ("https://app.example\\a/b", "client_id_characters"),
        ("https://app.example/a b", "client_id_characters"),
        ("https://app.example/a\tb", "client_id_characters"),
        ("https://ä.example/a", "client_id_characters"),
        ("https:///a", "client_id_host_spelling"),
        ("https://App.example/a", "client_id_host_spelling"),
        ("https://app%2eexample/a", "client_id_host_spelling"),
        ("https://app.example:/a", "client_id_host_spelling"),
        ("https://app.example:0443/a", "client_id_host_spelling"),
        ("https://app.example:70000/a", "client_id_syntax"),
        ("https://app.example/%zz", "client_id_syntax"),
        ("https://app.example/<a>", "client_id_syntax"),
        (&*long, "client_id_length"),
    ] {
        assert!(find(&registry, id).await.unwrap().is_none(), "{id}");
        let logged = log.take();
        assert!(logged.contains(&format!("rule=\"{rule}\"")), "{id}: {logged}");
    }
    assert_eq!(lookups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn literal_addresses_are_filtered_in_every_notation() {
    let server = Server::answering(|_, _| panic!("nobody may connect")).await;
    let registry = MetadataDocumentRegistry::builder()
        .resolver(|host| async move { panic!("{host} is looked up") })
        .build()
        .unwrap();
    let (log, _guard) = Log::listen();
    for host in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2001:db8::1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00::1]",
        "[ff02::1]",
        "[fec0::1]",
        "[100::1]",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "[0:0:0:0:0:0:0:1]",
        "[::FFFF:127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[fe80::1%25lo]",
        "[v1.127]",
        "0",
        "0x0",
        "127.0.0.0x1",
        "１２７.0.0.1",
    ] {
        let id = format!("https://{host}:{}/client", server.port);
        assert!(find(&registry, &id).await.unwrap().is_none(), "{host}");
        let logged = log.take();
        assert!(logged.contains("address_not_public") || logged.contains("client_id_"), "{host}: {logged}");
    }
    assert_eq!(server.hits(), 0);
}

/// Strangers must not learn which names this server can resolve to a private address.
#[tokio::test]
async fn names_with_a_forbidden_address_and_names_without_an_address_look_alike() {
    let mut answers = std::collections::BTreeSet::new();
    let server = Server::answering(|_, _| panic!("nobody may connect")).await;
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["10.1.2.3"],
        &["169.254.169.254"],
        &["192.168.1.1"],
        &["fd00::1"],
        &["::ffff:127.0.0.1"],
        &["::ffff:10.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::1"],
        &["2001:0:7f00:1::1"],
        &["0.0.0.0"],
        &["::"],
        &["100.64.0.1"],
        &["fe80::1"],
        &["ff02::1"],
        &["224.0.0.1"],
        // One public and one private, in either order.
        &["93.184.216.34", "127.0.0.1"],
        &["127.0.0.1", "93.184.216.34"],
        &["2606:4700::1111", "10.0.0.1"],
        &[],
    ] {
        let addresses: Vec<IpAddr> = answer.iter().map(|address| address.parse().unwrap()).collect();
        let documents = MetadataDocumentRegistry::builder()
            .resolver(move |_| futures::future::ready(Ok(addresses.clone())))
            .build()
            .unwrap();
        let id = format!("https://app.example:{}/client", server.port);
        assert_unavailable(find(&documents, &id).await);
        let (status, body) = authorize(&documents, &id).await;
        assert_eq!(status, 503);
        answers.insert(body);
    }
    assert_eq!((answers.len(), server.hits()), (1, 0), "{answers:?}");
}

#[tokio::test]
async fn another_address_at_the_second_lookup_is_judged_again() {
    let (server, _) = with_document(|_, _, document| ok("cache-control: no-store\r\n", &document)).await;
    let lookups = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lookups);
    let registry = MetadataDocumentRegistry::builder()
        .insecure_allow_loopback(true)
        .resolver(move |_| {
            let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
            async move { Ok(vec![if first { LOOPBACK } else { "10.0.0.1".parse().unwrap() }]) }
        })
        .build()
        .unwrap();
    let id = server.id("/client");
    assert!(find(&registry, &id).await.unwrap().is_some());
    // One lookup for judging and connecting: there is no gap for another answer.
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
    assert_unavailable(find(&registry, &id).await);
    assert_eq!((lookups.load(Ordering::SeqCst), server.hits()), (2, 1));
}

#[tokio::test]
async fn the_loopback_switch_admits_loopback_only() {
    let registry = MetadataDocumentRegistry::builder()
        .insecure_allow_loopback(true)
        .resolver(|_| async { Ok(vec!["192.168.0.1".parse().unwrap()]) })
        .build()
        .unwrap();
    let (log, _guard) = Log::listen();
    for (id, rule) in [
        ("http://app.example/client", "client_id_plain_http"),
        ("http://127.0.0.2/client", "client_id_plain_http"),
        ("http://10.0.0.1/client", "client_id_plain_http"),
        ("https://10.0.0.1/client", "address_not_public"),
        ("https://[::ffff:10.0.0.1]/client", "client_id_host_spelling"),
    ] {
        assert!(find(&registry, id).await.unwrap().is_none(), "{id}");
        let logged = log.take();
        assert!(logged.contains(rule), "{id}: {logged}");
    }
    assert_unavailable(find(&registry, "https://app.example/client").await);
}

#[tokio::test]
async fn only_status_200_is_a_document() {
    let (server, registry) = with_document(|path, _, document| {
        let body = document.to_string();
        let headers = "content-type: application/json\r\nlocation: /200\r\n";
        raw(&format!("{} X", &path[1..]), headers, body.as_bytes())
    })
    .await;
    let (log, _guard) = Log::listen();
    assert!(find(&registry, &server.id("/200")).await.unwrap().is_some());
    for status in [404, 410] {
        assert!(find(&registry, &server.id(&format!("/{status}"))).await.unwrap().is_none(), "{status}");
        let logged = log.take();
        assert!(logged.contains("rule=\"withdrawn\""), "{status}: {logged}");
    }
    let others = [201, 202, 203, 204, 206, 300, 301, 302, 303, 307, 308, 400, 401, 403, 429, 451, 500, 502, 503, 504];
    for status in others {
        assert_unavailable(find(&registry, &server.id(&format!("/{status}"))).await);
    }
    // No redirect was followed.
    assert_eq!(server.hits(), 3 + others.len());
}

/// A server whose one document the test replaces, by status and body.
async fn changing(
    first: (&'static str, &'static str),
) -> (Server, MetadataDocumentRegistry, Arc<Mutex<(&'static str, &'static str)>>) {
    let answer = Arc::new(Mutex::new(first));
    let current = Arc::clone(&answer);
    let (server, registry) = with_document(move |_, _, document| {
        let (status, content_type) = *current.lock().unwrap();
        let headers = format!("content-type: {content_type}\r\ncache-control: max-age=100\r\n");
        raw(status, &headers, document.to_string().as_bytes())
    })
    .await;
    (server, registry, answer)
}

const JSON: &str = "application/json";

#[tokio::test]
async fn a_host_that_refuses_keeps_its_known_clients() {
    for refusal in ["301 X", "400 X", "401 X", "403 X", "429 X", "500 X", "503 X"] {
        let (server, registry, answer) = changing(("200 OK", JSON)).await;
        let id = server.id("/client");
        assert!(find(&registry, &id).await.unwrap().is_some());
        *answer.lock().unwrap() = (refusal, JSON);
        advance(Duration::from_secs(101)).await;
        assert!(find(&registry, &id).await.unwrap().is_some(), "{refusal}");
        assert_eq!(server.hits(), 2);
        // The host is asked again after a while, not at each request.
        assert!(find(&registry, &id).await.unwrap().is_some());
        assert_eq!(server.hits(), 2);
        *answer.lock().unwrap() = ("404 X", JSON);
        advance(Duration::from_secs(11)).await;
        assert!(find(&registry, &id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_withdrawn_document_is_not_answered_stale() {
    for gone in [("404 X", JSON), ("410 X", JSON), ("200 OK", "text/html")] {
        let (server, registry, answer) = changing(("200 OK", JSON)).await;
        let id = server.id("/client");
        assert!(find(&registry, &id).await.unwrap().is_some());
        advance(Duration::from_secs(101)).await;
        *answer.lock().unwrap() = gone;
        assert!(find(&registry, &id).await.unwrap().is_none());
        *answer.lock().unwrap() = ("503 X", JSON);
        assert_unavailable(find(&registry, &id).await);
    }
}

#[tokio::test]
async fn only_json_is_a_document() {
    const TYPES: [(&str, bool); 9] = [
        ("content-type: application/json\r\n", true),
        ("content-type: Application/JSON ; charset=utf-8\r\n", true),
        ("content-type: application/oauth-client+json\r\n", true),
        ("content-type: text/json\r\n", false),
        ("content-type: text/html\r\n", false),
        ("content-type: text/x+json\r\n", false),
        ("content-type: application/jsonp\r\n", false),
        ("content-type: application/octet-stream\r\n", false),
        ("", false),
    ];
    let (server, registry) = with_document(|path, _, document| {
        let (content_type, _) = TYPES[path[1..].parse::<usize>().unwrap()];
        raw("200 OK", content_type, document.to_string().as_bytes())
    })
    .await;
    for (index, (content_type, taken)) in TYPES.into_iter().enumerate() {
        let found = find(&registry, &server.id(&format!("/{index}"))).await.unwrap();
        assert_eq!(found.is_some(), taken, "{content_type}");
    }
}

#[tokio::test]
async fn a_document_has_at_most_5_kib() {
    let (server, registry) = with_document(|path, _, document| {
        let (framing, length) = path[1..].split_once('-').unwrap();
        let mut body = document.to_string().into_bytes();
        body.resize(length.parse().unwrap(), b' ');
        match framing {
            "length" => raw("200 OK", "content-type: application/json\r\n", &body),
            "close" => [&b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"[..], &body].concat(),
            _ => {
                let mut answer =
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n".to_vec();
                for chunk in body.chunks(100) {
                    answer.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
                answer
            }
        }
    })
    .await;
    let (log, _guard) = Log::listen();
    for framing in ["length", "close", "chunked"] {
        let found = find(&registry, &server.id(&format!("/{framing}-5120"))).await.unwrap();
        assert!(found.is_some(), "{framing}: {}", log.take());
        let found = find(&registry, &server.id(&format!("/{framing}-5121"))).await.unwrap();
        assert!(found.is_none(), "{framing}");
        assert!(log.take().contains("rule=\"too_large\""), "{framing}");
    }
}

#[tokio::test]
async fn a_fetch_of_an_endless_document_ends() {
    let ended = Arc::new(Notify::new());
    let notify = Arc::clone(&ended);
    let server = Server::start(move |mut stream, _, _| {
        let ended = Arc::clone(&notify);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
            ended.notify_one();
        }
    })
    .await;
    let registry = development().build().unwrap();
    let (log, _guard) = Log::listen();
    assert!(find(&registry, &server.id("/client")).await.unwrap().is_none());
    assert!(log.take().contains("rule=\"too_large\""));
    // The connection is closed, rather than left to the server.
    in_time(ended.notified()).await;
}

#[tokio::test]
async fn a_slow_fetch_times_out() {
    for (head, seconds) in
        [("", 3), ("HTTP/1.1 200 OK\r\n", 3), ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{", 10)]
    {
        let sent = Arc::new(Notify::new());
        let notify = Arc::clone(&sent);
        let server = Server::start(move |mut stream, _, _| {
            let sent = Arc::clone(&notify);
            async move {
                let _ = stream.write_all(head.as_bytes()).await;
                sent.notify_one();
                // Until the client closes the connection.
                let _ = stream.read_u8().await;
            }
        })
        .await;
        let registry = development().build().unwrap();
        let fetch = tokio::spawn(registry.find_client(&server.id("/client")));
        in_time(sent.notified()).await;
        if seconds == 3 {
            advance(Duration::from_millis(2_900)).await;
            tokio::task::yield_now().await;
            assert!(!fetch.is_finished());
        }
        advance(Duration::from_secs(seconds)).await;
        assert_unavailable(in_time(fetch).await.unwrap());
    }
}

#[tokio::test]
async fn a_document_that_arrives_byte_by_byte_times_out() {
    let (drop_by_drop, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (next, sent) = (Arc::clone(&drop_by_drop), Arc::clone(&dropped));
    let server = Server::start(move |mut stream, _, _| {
        let (next, sent) = (Arc::clone(&next), Arc::clone(&sent));
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await;
            while stream.write_all(b" ").await.is_ok() {
                sent.notify_one();
                next.notified().await;
            }
        }
    })
    .await;
    let registry = development().build().unwrap();
    let fetch = tokio::spawn(registry.find_client(&server.id("/client")));
    // Never is it silent for long.
    for _ in 0..4 {
        in_time(dropped.notified()).await;
        advance(Duration::from_secs(3)).await;
        drop_by_drop.notify_one();
    }
    assert_unavailable(in_time(fetch).await.unwrap());
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_a_transient_failure() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    assert_unavailable(find(&development().build().unwrap(), &format!("http://localhost:{closed}/client")).await);

    let no_address = MetadataDocumentRegistry::builder().resolver(|_| async { Ok(Vec::new()) }).build().unwrap();
    assert_unavailable(find(&no_address, "https://app.example/client").await);
    let fails =
        MetadataDocumentRegistry::builder().resolver(|_| async { Err(io::Error::other("down")) }).build().unwrap();
    assert_unavailable(find(&fails, "https://app.example/client").await);

    // Broken off in the middle.
    let half = Server::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{".to_vec()
    })
    .await;
    assert_unavailable(find(&development().build().unwrap(), &half.id("/client")).await);
}

#[tokio::test]
async fn the_document_follows_the_rules() {
    fn change(path: &str, mut document: Value) -> (Value, Option<&'static str>) {
        let id = document["client_id"].as_str().unwrap().to_owned();
        let port_at_end = id.strip_suffix(path).unwrap().to_owned();
        let (member, value, rule) = match path {
            "/as-it-is" => ("client_name", json!("App"), None),
            "/trailing-slash" => ("client_id", json!(format!("{id}/")), Some("client_id_mismatch")),
            "/other-port" => ("client_id", json!(format!("http://localhost:80{path}")), Some("client_id_mismatch")),
            "/other-case" => ("client_id", json!(format!("{port_at_end}/Other-case")), Some("client_id_mismatch")),
            "/encoded" => ("client_id", json!(format!("{port_at_end}/%65ncoded")), Some("client_id_mismatch")),
            "/no-id" => ("client_id", Value::Null, Some("client_id_mismatch")),
            "/id-type" => ("client_id", json!([id]), Some("client_id_mismatch")),
            "/secret" => ("client_secret", json!("s"), Some("client_secret")),
            "/empty-secret" => ("client_secret", json!(""), Some("client_secret")),
            "/secret-expiry" => ("client_secret_expires_at", json!(0), Some("client_secret")),
            "/basic" => ("token_endpoint_auth_method", json!("client_secret_basic"), Some("shared_secret_method")),
            "/post" => ("token_endpoint_auth_method", json!("client_secret_post"), Some("shared_secret_method")),
            "/jwt" => ("token_endpoint_auth_method", json!("client_secret_jwt"), Some("shared_secret_method")),
            "/method-type" => ("token_endpoint_auth_method", json!(1), Some("metadata")),
            "/no-keys" => ("token_endpoint_auth_method", json!("private_key_jwt"), Some("keys")),
            "/rsa" => {
                ("jwks", json!({ "keys": [{ "kty": "RSA", "n": "x", "e": "AQAB", "d": "x" }] }), Some("private_key"))
            }
            "/ec" => ("jwks", json!({ "keys": [{ "kty": "EC" }, { "kty": "EC", "d": "x" }] }), Some("private_key")),
            "/oct" => ("jwks", json!({ "keys": [{ "kty": "oct", "k": "x" }] }), Some("private_key")),
            "/prime" => ("jwks", json!({ "keys": [{ "kty": "RSA", "p": "x" }] }), Some("private_key")),
            "/lone-key" => ("jwks", json!({ "kty": "EC", "d": "x" }), Some("private_key")),
            "/both-keys" => {
                document["jwks_uri"] = json!("https://app.example/keys");
                ("jwks", json!({ "keys": [] }), Some("keys"))
            }
            "/keys-type" => ("jwks", json!("x"), Some("keys")),
            "/keys-uri" => ("jwks_uri", json!("http://app.example/keys"), Some("keys")),
            "/public-key" => ("jwks", json!({ "keys": [{ "kty": "RSA", "n": "x", "e": "AQAB" }] }), None),
            "/no-redirect" => ("redirect_uris", Value::Null, Some("no_redirect_uri")),
            "/empty-redirect" => ("redirect_uris", json!([]), Some("no_redirect_uri")),
            "/redirect-type" => ("redirect_uris", json!("https://app.example/"), Some("redirect_uri")),
            "/redirect-http" => ("redirect_uris", json!(["http://app.example/"]), Some("redirect_uri")),
            "/redirect-wildcard" => ("redirect_uris", json!(["http://localhost:*"]), Some("redirect_uri")),
            "/redirect-script" => {
                ("redirect_uris", json!(["https://app.example/", "javascript:x"]), Some("redirect_uri"))
            }
            "/scope" => ("scope", json!("two  spaces"), Some("scope")),
            "/name-type" => ("client_name", json!(1), Some("metadata")),
            "/array" => return (json!([document]), Some("not_a_json_object")),
            _ => unreachable!("{path}"),
        };
        document[member] = value;
        (document, rule)
    }
    let (server, registry) = with_document(|path, _, document| ok("", &change(path, document).0)).await;
    let (log, _guard) = Log::listen();
    for path in [
        "/as-it-is",
        "/trailing-slash",
        "/other-port",
        "/other-case",
        "/encoded",
        "/no-id",
        "/id-type",
        "/secret",
        "/empty-secret",
        "/secret-expiry",
        "/basic",
        "/post",
        "/jwt",
        "/method-type",
        "/no-keys",
        "/rsa",
        "/ec",
        "/oct",
        "/prime",
        "/lone-key",
        "/both-keys",
        "/keys-type",
        "/keys-uri",
        "/public-key",
        "/no-redirect",
        "/empty-redirect",
        "/redirect-type",
        "/redirect-http",
        "/redirect-wildcard",
        "/redirect-script",
        "/scope",
        "/name-type",
        "/array",
    ] {
        let id = server.id(path);
        let (_, rule) = change(path, document(&id));
        let found = find(&registry, &id).await.unwrap();
        assert_eq!(found.is_some(), rule.is_none(), "{path}");
        let logged = log.take();
        if let Some(rule) = rule {
            assert!(logged.contains(&format!("rule=\"{rule}\"")) && logged.contains(&id), "{path}: {logged}");
        }
    }
}

/// The bounds and the hook that registrations have, too.
#[tokio::test]
async fn the_rules_for_dynamic_clients_apply_to_documents() {
    let (server, registry) = with_document(|path, _, mut document| {
        match path {
            "/scheme" => document["redirect_uris"] = json!(["launcher://run"]),
            "/system" => document["redirect_uris"] = json!(["ms-msdt:/id"]),
            "/cursor" => document["redirect_uris"] = json!(["cursor://anysphere.cursor-mcp/oauth/callback"]),
            "/many" => document["redirect_uris"] = (0..33).map(|n| json!(format!("https://a.example/{n}"))).collect(),
            "/list" => document["contacts"] = json!(vec![""; 33]),
            "/text" => document["client_name"] = json!("App\u{202e}ppA"),
            _ => {}
        }
        ok("", &document)
    })
    .await;
    let (log, _guard) = Log::listen();
    for (path, detail) in [
        ("/scheme", Some("redirect_uris[0]: ")),
        ("/system", Some("redirect_uris[0]: ")),
        ("/many", Some("redirect_uris: ")),
        ("/list", Some("contacts: ")),
        ("/text", Some("client_name: ")),
        ("/cursor", None),
        ("/plain", None),
    ] {
        let client = find(&registry, &server.id(path)).await.unwrap();
        assert_eq!(client.is_none(), detail.is_some(), "{path}");
        assert!(client.is_none_or(|client| client.is_dynamic()));
        let logged = log.take();
        assert!(logged.contains(detail.unwrap_or_default()), "{path}: {logged}");
    }
    let rules = DynamicClientRules::new().check(|origin, metadata| {
        assert_eq!(origin, ClientOrigin::MetadataDocument);
        assert!(metadata["client_id"].as_str().is_some());
        Err(DynamicClientError::new("client_name", "is not ours"))
    });
    let registry = development().rules(rules).build().unwrap();
    assert!(find(&registry, &server.id("/plain")).await.unwrap().is_none());
    assert!(log.take().contains("client_name: is not ours"));
}

/// OpenID Connect RP Metadata Choices: a list of methods beside the one method of RFC 7591.
#[tokio::test]
async fn of_several_methods_that_a_document_offers_the_first_one_that_the_server_has_counts() {
    const METHOD: &str = "token_endpoint_auth_method";
    const METHODS: &str = "token_endpoint_auth_methods_supported";
    let keys = json!({ "keys": [{ "kty": "RSA", "n": "x", "e": "AQAB" }] });
    let cases = [
        (json!({}), Ok(ClientKind::Public)),
        (json!({ METHOD: "none" }), Ok(ClientKind::Public)),
        (json!({ METHOD: "private_key_jwt", "jwks": keys }), Ok(ClientKind::Confidential)),
        (
            json!({ METHOD: "private_key_jwt", METHODS: ["none", "private_key_jwt"], "jwks": keys }),
            Ok(ClientKind::Public),
        ),
        (
            json!({ METHOD: "none", METHODS: ["tls_client_auth", "private_key_jwt", "none"], "jwks": keys }),
            Ok(ClientKind::Confidential),
        ),
        (json!({ METHODS: ["private_key_jwt"], "jwks": keys }), Ok(ClientKind::Confidential)),
        (json!({ METHODS: ["private_key_jwt", "none"] }), Ok(ClientKind::Public)),
        (json!({ METHODS: ["tls_client_auth"], "jwks": keys }), Err("auth_method")),
        (json!({ METHOD: "tls_client_auth" }), Err("auth_method")),
        (json!({ METHODS: ["client_secret_basic", "none"] }), Ok(ClientKind::Public)),
        (json!({ METHODS: ["private_key_jwt"] }), Err("keys")),
        (json!({ METHODS: ["client_secret_post"] }), Err("shared_secret_method")),
        (json!({ METHODS: [] }), Err("shared_secret_method")),
        (json!({ METHODS: "none" }), Err("metadata")),
        (json!({ METHODS: [1] }), Err("metadata")),
    ];
    let served = cases.clone();
    let (server, registry) = with_document(move |path, _, mut document| {
        let case: usize = path[1..].parse().unwrap();
        document.as_object_mut().unwrap().extend(served[case].0.as_object().unwrap().clone());
        ok("", &document)
    })
    .await;
    let (log, _guard) = Log::listen();
    for (number, (members, expected)) in cases.into_iter().enumerate() {
        let client = find(&registry, &server.id(&format!("/{number}"))).await.unwrap();
        assert_eq!(client.as_ref().map(|client| client.kind()), expected.ok(), "{members}");
        let logged = log.take();
        if let Err(rule) = expected {
            assert!(logged.contains(&format!("rule=\"{rule}\"")), "{members}: {logged}");
        }
        if let Some((client, methods)) =
            client.and_then(|client| Some((client.clone(), client.metadata()?.get(METHODS)?.clone())))
        {
            let is_usable = |method: &Value| ["none", "private_key_jwt"].contains(&method.as_str().unwrap());
            assert!(methods.as_array().unwrap().iter().all(is_usable), "{methods}");
            assert_eq!(client.token_endpoint_auth_method(), methods[0]);
        }
    }
}

#[tokio::test]
async fn the_methods_of_a_server_without_keys_can_be_set() {
    let offered = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        let mut document = document(&request.uri().to_string());
        document["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt", "none"]);
        document["jwks_uri"] = json!("https://app.example/keys");
        let response = http::Response::builder().header("content-type", "application/json");
        Ok::<_, io::Error>(response.body(Full::<Bytes>::from(document.to_string())).unwrap())
    });
    let builder = || MetadataDocumentRegistry::builder().fetcher(offered);
    for (methods, method) in [
        (&["none", "client_secret_basic"][..], "none"),
        (&["none", "private_key_jwt"], "private_key_jwt"),
        (&["client_secret_basic", "private_key_jwt"], "private_key_jwt"),
    ] {
        let registry = builder().auth_methods(methods.iter().copied()).build().unwrap();
        let client = find(&registry, "https://app.example/client").await.unwrap().unwrap();
        assert_eq!(client.token_endpoint_auth_method(), method, "{methods:?}");
    }
    let error = builder().auth_methods(["client_secret_basic"]).build().unwrap_err();
    assert!(error.to_string().starts_with("auth_methods"), "{error}");
}

/// An egress proxy, or a recording in tests.
#[tokio::test]
async fn the_fetcher_can_be_replaced_and_the_limits_stay() {
    use http_body_util::BodyExt;

    let asked = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&asked);
    let recorded = tower::service_fn(move |request: Request<Full<Bytes>>| {
        requests.lock().unwrap().push((request.method().clone(), request.uri().to_string()));
        let id = request.uri().to_string();
        async move {
            let path = request.uri().path().to_owned();
            if path == "/slow" {
                std::future::pending::<()>().await;
            }
            if path == "/fails" {
                return Err("no route");
            }
            let mut body = document(&id).to_string();
            if path == "/large" {
                body.push_str(&" ".repeat(6_000));
            }
            let stalls = path == "/stalls";
            let frames = futures::stream::once(async move {
                if stalls {
                    std::future::pending::<()>().await;
                }
                Ok::<_, io::Error>(http_body::Frame::data(Bytes::from(body)))
            });
            let body = http_body_util::StreamBody::new(frames).boxed_unsync();
            Ok(http::Response::builder().header("content-type", "application/json").body(body).unwrap())
        }
    });
    let registry = MetadataDocumentRegistry::builder()
        .fetcher(recorded)
        .resolver(|host| async move { panic!("{host} is looked up") })
        .headers_timeout(Duration::from_millis(50))
        .timeout(Duration::from_millis(100))
        .max_fetches_per_domain(1)
        .build()
        .unwrap();
    let id = |path: &str| format!("https://app.example/{path}");
    assert_eq!(find(&registry, &id("client")).await.unwrap().unwrap().name(), Some("App"));
    assert_eq!(*asked.lock().unwrap(), [(http::Method::GET, id("client"))]);
    assert!(find(&registry, &id("large")).await.unwrap().is_none());
    assert_unavailable(find(&registry, &id("fails")).await);
    assert_unavailable(find(&registry, &id("stalls")).await);
    let slow = tokio::spawn(registry.find_client(&id("slow")));
    tokio::task::yield_now().await;
    assert_unavailable(find(&registry, &id("client2")).await);
    assert_unavailable(in_time(slow).await.unwrap());
    assert!(find(&registry, "https://10.0.0.1/client").await.unwrap().is_none());
}

#[tokio::test]
async fn a_default_port_that_is_written_out_is_a_part_of_the_id() {
    // The test server cannot listen on the default port, so the resolver counts the requests that get this far.
    let lookups = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lookups);
    let registry = MetadataDocumentRegistry::builder()
        .resolver(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Err(io::Error::other("no further")) }
        })
        .build()
        .unwrap();
    assert_unavailable(find(&registry, "https://app.example:443/client").await);
    assert_unavailable(find(&registry, "https://app.example/client").await);
    assert_eq!(lookups.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn members_that_only_an_operator_decides_are_ignored() {
    let (server, registry) = with_document(|_, _, mut document| {
        document.as_object_mut().unwrap().extend([
            ("trusted".to_owned(), json!(true)),
            ("revoked".to_owned(), json!(true)),
            ("expires_at".to_owned(), json!(1)),
            ("default_scope".to_owned(), json!("admin")),
            ("scope".to_owned(), json!("admin")),
            ("client_secret_sha256".to_owned(), json!("00")),
            ("client_secret_hash".to_owned(), json!("$argon2id$")),
            ("registration_shared".to_owned(), json!(true)),
            ("upstream_registration_client_uri".to_owned(), json!("https://app.example/")),
            ("logo_uri".to_owned(), json!("javascript:alert(1)")),
            ("client_uri#de".to_owned(), json!("data:x")),
            ("tos_uri".to_owned(), json!("https://app.example/tos")),
        ]);
        ok("", &document)
    })
    .await;
    let client = find(&registry, &server.id("/client")).await.unwrap().unwrap();
    assert!(!client.is_trusted() && client.is_dynamic() && client.expires_at().is_none());
    assert_eq!(client.status(), tower_oauth_client_validation::ClientStatus::Active);
    assert!(client.allowed_scopes().is_none() && client.default_scopes().is_none());
    assert_eq!(client.metadata().unwrap().keys().collect::<Vec<_>>(), ["tos_uri"]);
}

#[tokio::test]
async fn the_operator_decides_on_hosts_names_and_scopes() {
    let (server, _) = with_document(|path, _, mut document| {
        match path {
            "/no-name" => document["client_name"] = Value::Null,
            "/blank" => document["client_name"] = json!(" "),
            "/scoped" => document["scope"] = json!("write root"),
            _ => {}
        }
        ok("", &document)
    })
    .await;
    let (log, _guard) = Log::listen();
    let named = development().require_client_name(true).build().unwrap();
    assert!(find(&named, &server.id("/named")).await.unwrap().is_some());
    for path in ["/no-name", "/blank"] {
        assert!(find(&named, &server.id(path)).await.unwrap().is_none());
        assert!(log.take().contains("rule=\"no_client_name\""));
    }
    assert!(find(&development().build().unwrap(), &server.id("/no-name")).await.unwrap().is_some());

    let hits = server.hits();
    let hosts = development().allowed_hosts(["app.example"]).build().unwrap();
    for id in [
        &*server.id("/x"),
        "https://evilapp.example/x",
        "https://app.example.evil.example/x",
        "https://sub.app.example/x",
        "https://example/x",
    ] {
        assert!(find(&hosts, id).await.unwrap().is_none(), "{id}");
        assert!(log.take().contains("rule=\"not_trusted\""), "{id}");
    }
    assert_unavailable(find(&hosts, "https://app.example:1/x").await);
    let below = MetadataDocumentRegistry::builder().resolver(|_| async { Ok(Vec::new()) });
    let below = below.allowed_hosts(["*.app.example", "other.example"]).build().unwrap();
    for id in ["https://app.example/x", "https://evilapp.example/x", "https://.app.example/x"] {
        assert!(find(&below, id).await.unwrap().is_none(), "{id}");
        let logged = log.take();
        assert!(logged.contains("not_trusted") || logged.contains("client_id_"), "{id}: {logged}");
    }
    for id in ["https://a.app.example/x", "https://a.b.app.example/x", "https://other.example/x"] {
        assert_unavailable(find(&below, id).await);
    }
    let trust = development().trust(|address| address.path() != "/x").build().unwrap();
    assert!(find(&trust, &server.id("/x")).await.unwrap().is_none());
    assert_eq!(server.hits(), hits);
    assert!(find(&trust, &server.id("/y")).await.unwrap().is_some());

    let scopes = || {
        development().allowed_scopes(Scope::parse("read write").unwrap()).default_scopes(Scope::parse("read").unwrap())
    };
    let allowed = |client: Arc<Client>| client.allowed_scopes().unwrap().as_str().to_owned();
    let default = |client: Arc<Client>| client.default_scopes().unwrap().as_str().to_owned();
    let registry = scopes().build().unwrap();
    assert_eq!(allowed(find(&registry, &server.id("/x")).await.unwrap().unwrap()), "read");
    assert_eq!(allowed(find(&registry, &server.id("/scoped")).await.unwrap().unwrap()), "write");
    let defaults = development().default_scopes(Scope::parse("read write").unwrap()).build().unwrap();
    assert_eq!(allowed(find(&defaults, &server.id("/x")).await.unwrap().unwrap()), "read write");
    assert_eq!(allowed(find(&defaults, &server.id("/scoped")).await.unwrap().unwrap()), "write");
    let registry = scopes().grant_all_scopes(true).build().unwrap();
    for (path, own) in [("/x", "read"), ("/scoped", "write")] {
        let client = find(&registry, &server.id(path)).await.unwrap().unwrap();
        assert_eq!((allowed(Arc::clone(&client)), default(client)), ("read write".to_owned(), own.to_owned()));
    }
}

#[tokio::test]
async fn many_requests_for_one_cold_document_make_one_fetch() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let server = Server::start(move |mut stream, path, _| {
        let gate = Arc::clone(&wait);
        async move {
            let _permit = gate.acquire().await.unwrap();
            let port = stream.local_addr().unwrap().port();
            let answer = ok("cache-control: no-store\r\n", &document(&format!("http://localhost:{port}{path}")));
            stream.write_all(&answer).await.unwrap();
        }
    })
    .await;
    let registry = development().max_fetches(2).max_fetches_per_domain(1).build().unwrap();
    let id = server.id("/client");
    let tasks: Vec<_> = (0..200).map(|_| tokio::spawn(registry.find_client(&id))).collect();
    // Some are cancelled, the first one too.
    for task in tasks.iter().take(10) {
        task.abort();
    }
    gate.add_permits(1000);
    let found = join_all(tasks.into_iter().skip(10)).await;
    assert!(found.into_iter().all(|found| found.unwrap().unwrap().is_some()));
    assert_eq!(server.hits(), 1);
    // The permit is free again.
    assert!(find(&registry, &id).await.unwrap().is_some());
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn fetches_at_the_same_time_are_bounded() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let server = Server::start(move |mut stream, path, _| {
        let gate = Arc::clone(&wait);
        async move {
            let _permit = gate.acquire().await.unwrap();
            let port = stream.local_addr().unwrap().port();
            let host = if path.starts_with("/ip") { "127.0.0.1" } else { "localhost" };
            let _ = stream.write_all(&ok("", &document(&format!("http://{host}:{port}{path}")))).await;
        }
    })
    .await;
    let registry = development().max_fetches(3).max_fetches_per_domain(2).build().unwrap();
    let ip = |path: &str| format!("http://127.0.0.1:{}{path}", server.port);
    let begin = |id: &str| {
        let mut lookup = registry.find_client(id);
        assert!((&mut lookup).now_or_never().is_none(), "{id}");
        lookup
    };
    let first = begin(&server.id("/1"));
    let second = begin(&server.id("/2"));
    assert_unavailable(find(&registry, &server.id("/3")).await);
    let third = begin(&ip("/ip1"));
    assert_unavailable(find(&registry, &ip("/ip2")).await);
    // A cancelled fetch gives its permit back.
    drop(second);
    let fourth = begin(&ip("/ip2"));
    assert_unavailable(find(&registry, &server.id("/3")).await);
    gate.add_permits(1000);
    for found in join_all([first, third, fourth]).await {
        assert!(found.unwrap().is_some());
    }
    assert!(find(&registry, &server.id("/3")).await.unwrap().is_some());
}

/// The system looks names up in threads, and cannot cancel that.
#[tokio::test]
async fn a_name_lookup_that_outlives_its_fetch_holds_no_permit_and_is_bounded() {
    let (server, _) = with_document(|_, _, document| ok("", &document)).await;
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut looked_up) = tokio::sync::mpsc::unbounded_channel();
    let wait = Arc::clone(&gate);
    let registry = development()
        .max_fetches_per_domain(1)
        .resolver(move |host| {
            asked.send(host).unwrap();
            let gate = Arc::clone(&wait);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(vec![LOOPBACK])
            }
        })
        .build()
        .unwrap();
    // Two whose caller is cancelled, and one that is given up.
    for path in ["/1", "/2"] {
        let cancelled = tokio::spawn(registry.find_client(&server.id(path)));
        in_time(looked_up.recv()).await.unwrap();
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
    }
    let slow = tokio::spawn(registry.find_client(&server.id("/3")));
    in_time(looked_up.recv()).await.unwrap();
    advance(Duration::from_secs(4)).await;
    assert_unavailable(in_time(slow).await.unwrap());
    // Three lookups are still running, which is all that the domain of a stranger gets.
    assert_unavailable(find(&registry, &server.id("/5")).await);
    assert!(looked_up.try_recv().is_err(), "another lookup began");
    gate.add_permits(1000);
    assert!(eventually(async || find(&registry, &server.id("/5")).await.ok()).await.is_some());
}

#[tokio::test]
async fn a_fetch_in_flight_is_repeated_after_an_invalidation() {
    let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrived, gate) = (Arc::clone(&asked), Arc::clone(&release));
    let server = Server::start(move |mut stream, path, hit| {
        let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
        async move {
            let port = stream.local_addr().unwrap().port();
            let mut document = document(&format!("http://localhost:{port}{path}"));
            document["client_name"] = json!(format!("Version {hit}"));
            if hit == 0 {
                arrived.notify_one();
                gate.notified().await;
            }
            let _ = stream.write_all(&ok("", &document)).await;
        }
    })
    .await;
    let registry = development().build().unwrap();
    let id = server.id("/client");
    let name = |client: &Arc<Client>| client.name().unwrap().to_owned();

    let first = tokio::spawn(registry.find_client(&id));
    in_time(asked.notified()).await;
    registry.invalidate(&id);
    let second = tokio::spawn(registry.find_client(&id));
    release.notify_one();
    for found in [first, second] {
        assert_eq!(name(&in_time(found).await.unwrap().unwrap().unwrap()), "Version 1");
    }
    assert_eq!(name(&find(&registry, &id).await.unwrap().unwrap()), "Version 1");
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn documents_are_kept_within_bounds() {
    let (server, registry) = with_document(|path, _, document| {
        let headers = match path {
            "/silent" => "",
            "/short" => "cache-control: max-age=1\r\n",
            "/hours" => "cache-control: max-age=7200\r\n",
            "/year" => "cache-control: max-age=31536000\r\n",
            "/no-store" => "cache-control: no-store\r\n",
            "/private" => "cache-control: private, max-age=7200\r\n",
            "/vary" => "cache-control: max-age=7200\r\nvary: *\r\n",
            _ => unreachable!(),
        };
        ok(headers, &document)
    })
    .await;
    let fetches = async |path: &str| {
        let before = server.hits();
        assert!(find(&registry, &server.id(path)).await.unwrap().is_some(), "{path}");
        server.hits() - before
    };
    for path in ["/silent", "/short", "/hours", "/year", "/no-store", "/private", "/vary"] {
        assert_eq!(fetches(path).await, 1, "{path}");
    }
    for path in ["/silent", "/short", "/hours", "/year"] {
        assert_eq!(fetches(path).await, 0, "{path}");
    }
    for path in ["/no-store", "/private", "/vary"] {
        assert_eq!(fetches(path).await, 1, "{path}");
    }
    advance(Duration::from_secs(61)).await;
    for (path, expected) in [("/silent", 1), ("/short", 1), ("/hours", 0), ("/year", 0)] {
        assert_eq!(fetches(path).await, expected, "{path}");
    }
    advance(Duration::from_secs(7200)).await;
    for (path, expected) in [("/hours", 1), ("/year", 0)] {
        assert_eq!(fetches(path).await, expected, "{path}");
    }
    advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(fetches("/year").await, 1);
}

#[tokio::test]
async fn the_cache_has_a_capacity() {
    let (server, _) = with_document(|_, _, document| ok("cache-control: max-age=7200\r\n", &document)).await;
    let registry = development().max_cached_documents(3).build().unwrap();
    for number in 0..10 {
        assert!(find(&registry, &server.id(&format!("/{number}"))).await.unwrap().is_some());
    }
    for number in 7..10 {
        assert!(find(&registry, &server.id(&format!("/{number}"))).await.unwrap().is_some());
    }
    assert_eq!(server.hits(), 10);
    assert!(find(&registry, &server.id("/0")).await.unwrap().is_some());
    assert_eq!(server.hits(), 11);
}

/// A server of documents whose ids have this host.
async fn documents_at(host: &'static str, extra: impl Fn(&str) -> Value + Send + Sync + 'static) -> Server {
    let port = Arc::new(AtomicUsize::new(0));
    let known = Arc::clone(&port);
    let server = Server::answering(move |path, _| {
        let mut document = document(&format!("http://{host}:{}{path}", known.load(Ordering::SeqCst)));
        document["contacts"] = extra(path);
        ok("cache-control: max-age=7200\r\n", &document)
    })
    .await;
    port.store(server.port.into(), Ordering::SeqCst);
    server
}

#[tokio::test]
async fn a_domain_cannot_evict_the_documents_of_another() {
    let honest = documents_at("localhost", |_| json!([])).await;
    let greedy = documents_at("127.0.0.1", |_| json!([])).await;
    let registry = development().max_cached_documents(3).build().unwrap();
    assert!(find(&registry, &honest.id("/app")).await.unwrap().is_some());
    for number in 0..10 {
        let id = format!("http://127.0.0.1:{}/{number}", greedy.port);
        assert!(find(&registry, &id).await.unwrap().is_some());
    }
    assert!(find(&registry, &honest.id("/app")).await.unwrap().is_some());
    assert_eq!(honest.hits(), 1);
}

#[tokio::test]
async fn cached_documents_are_bounded_by_their_memory() {
    let contacts = |path: &str| if path.starts_with("/large") { json!(["x".repeat(4_000)]) } else { json!([]) };
    let server = documents_at("localhost", contacts).await;
    let registry = development().max_cached_bytes(12_000).build().unwrap();
    for (kind, kept) in [("small", 5..=5), ("large", 1..=2)] {
        let ids: Vec<_> = (0..5).map(|number| server.id(&format!("/{kind}/{number}"))).collect();
        for id in &ids {
            assert!(find(&registry, id).await.unwrap().is_some());
        }
        let before = server.hits();
        for id in ids.iter().rev() {
            assert!(find(&registry, id).await.unwrap().is_some());
        }
        let hits = 5 - (server.hits() - before);
        assert!(kept.contains(&hits), "{kind}: {hits}");
    }
}

#[tokio::test]
async fn failures_are_not_cached_and_the_last_document_is_answered_while_they_last() {
    let broken = Arc::new(AtomicBool::new(true));
    let invalid = Arc::new(AtomicBool::new(false));
    let (is_broken, is_invalid) = (Arc::clone(&broken), Arc::clone(&invalid));
    let (server, registry) = with_document(move |path, _, mut document| {
        if is_broken.load(Ordering::SeqCst) {
            return raw("503 X", "cache-control: max-age=7200\r\n", b"");
        }
        if is_invalid.load(Ordering::SeqCst) {
            document["client_secret"] = json!("x");
        }
        match path {
            "/strict" => ok("cache-control: max-age=100, must-revalidate\r\n", &document),
            _ => ok("cache-control: max-age=100\r\n", &document),
        }
    })
    .await;
    let (lenient, strict) = (server.id("/lenient"), server.id("/strict"));
    assert_unavailable(find(&registry, &lenient).await);
    invalid.store(true, Ordering::SeqCst);
    broken.store(false, Ordering::SeqCst);
    assert!(find(&registry, &lenient).await.unwrap().is_none());
    invalid.store(false, Ordering::SeqCst);
    for id in [&lenient, &strict] {
        assert!(find(&registry, id).await.unwrap().is_some());
    }
    // Fresh, then stale, then too old.
    broken.store(true, Ordering::SeqCst);
    let hits = server.hits();
    assert!(find(&registry, &lenient).await.unwrap().is_some());
    assert_eq!(server.hits(), hits);
    advance(Duration::from_secs(101)).await;
    assert!(find(&registry, &lenient).await.unwrap().is_some());
    assert_eq!(server.hits(), hits + 1);
    assert_unavailable(find(&registry, &strict).await);
    // A document that is there and breaks a rule ends it at once.
    broken.store(false, Ordering::SeqCst);
    assert!(find(&registry, &strict).await.unwrap().is_some());
    advance(Duration::from_secs(101)).await;
    invalid.store(true, Ordering::SeqCst);
    assert!(find(&registry, &strict).await.unwrap().is_none());
    broken.store(true, Ordering::SeqCst);
    assert!(find(&registry, &lenient).await.unwrap().is_some());
    advance(Duration::from_secs(3600)).await;
    assert_unavailable(find(&registry, &lenient).await);
}

#[tokio::test]
async fn a_document_in_use_is_refreshed_in_the_background() {
    let (server, registry) = with_document(|_, hit, mut document| {
        document["client_name"] = json!(format!("Version {hit}"));
        ok("cache-control: max-age=100\r\n", &document)
    })
    .await;
    let id = server.id("/client");
    let name = async || find(&registry, &id).await.unwrap().unwrap().name().unwrap().to_owned();
    assert_eq!(name().await, "Version 0");
    advance(Duration::from_secs(74)).await;
    assert_eq!((name().await, server.hits()), ("Version 0".to_owned(), 1));
    advance(Duration::from_secs(2)).await;
    // Nobody waits for the fetch.
    assert_eq!(registry.find_client(&id).now_or_never().unwrap().unwrap().unwrap().name(), Some("Version 0"));
    eventually(async || (name().await == "Version 1").then_some(())).await;
    assert_eq!(server.hits(), 2);
}

/// Documents that a store keeps.
mod store {
    use std::time::SystemTime;

    use tower_oauth_client_validation::{ClientStatus, GrantTypes, RegistryStore};

    use super::*;

    type Answers = Arc<Mutex<(&'static str, &'static str, &'static str)>>;

    /// A server that answers with this status, name and `Cache-Control`.
    async fn server(answers: &Answers) -> Server {
        let answers = Arc::clone(answers);
        let (server, _) = with_document(move |_, _, mut document| {
            let (status, name, cache_control) = *answers.lock().unwrap();
            document["client_name"] = json!(name);
            document["metadata_document_times"] = json!([u32::MAX, u32::MAX, u32::MAX]);
            let headers = format!("content-type: application/json\r\ncache-control: {cache_control}\r\n");
            raw(status, &headers, document.to_string().as_bytes())
        })
        .await;
        server
    }

    fn answers(status: &'static str, name: &'static str, cache_control: &'static str) -> Answers {
        Arc::new(Mutex::new((status, name, cache_control)))
    }

    /// Without a shortest lifetime, so that a document ends when it says so.
    fn registry(store: &MemoryRegistry) -> MetadataDocumentRegistry {
        let builder = development().store(store.clone()).max_cached_documents(2);
        builder.cache_lifetime(Duration::ZERO, Duration::from_secs(3600)).build().unwrap()
    }

    async fn name(registry: &MetadataDocumentRegistry, id: &str) -> Option<String> {
        find(registry, id).await.unwrap().map(|client| client.name().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_kept_document_survives_a_restart_and_its_host() {
        let store = MemoryRegistry::new();
        let host = server(&answers("200 OK", "App", "max-age=3600")).await;
        let id = host.id("/client");
        assert_eq!(name(&registry(&store), &id).await.as_deref(), Some("App"));
        let record = store.record(&id).await.unwrap().unwrap();
        assert_eq!((record.origin, record.client.is_dynamic()), (ClientOrigin::MetadataDocument, true));
        let unreachable = MetadataDocumentRegistry::builder()
            .insecure_allow_loopback(true)
            .resolver(|_| async { Err(io::Error::other("gone")) })
            .store(store)
            .build()
            .unwrap();
        assert_eq!(name(&unreachable, &id).await.as_deref(), Some("App"));
        assert_eq!(host.hits(), 1);
    }

    #[tokio::test]
    async fn a_kept_document_is_answered_while_its_host_fails_and_follows_its_changes() {
        let (store, answers) = (MemoryRegistry::new(), answers("200 OK", "First", "max-age=0"));
        let host = server(&answers).await;
        let id = host.id("/client");
        assert_eq!(name(&registry(&store), &id).await.as_deref(), Some("First"));
        *answers.lock().unwrap() = ("200 OK", "Second", "max-age=0");
        assert_eq!(name(&registry(&store), &id).await.as_deref(), Some("Second"));
        *answers.lock().unwrap() = ("403 X", "Third", "max-age=0");
        let failing = registry(&store);
        let (log, _guard) = Log::listen();
        assert_eq!(name(&failing, &id).await.as_deref(), Some("Second"));
        assert!(log.take().contains("403"));
        // The host is not asked at each lookup.
        let hits = host.hits();
        assert_eq!(name(&failing, &id).await.as_deref(), Some("Second"));
        assert_eq!(host.hits(), hits);
        *answers.lock().unwrap() = ("404 X", "", "max-age=0");
        assert_eq!(name(&registry(&store), &id).await, None);
        assert!(store.record(&id).await.unwrap().is_none());
        *answers.lock().unwrap() = ("503 X", "", "max-age=0");
        assert_unavailable(find(&registry(&store), &id).await);
    }

    #[tokio::test]
    async fn a_kept_document_is_not_answered_stale_if_it_forbids_that() {
        for forbids in ["no-store", "max-age=0, must-revalidate"] {
            let (store, answers) = (MemoryRegistry::new(), answers("200 OK", "App", forbids));
            let host = server(&answers).await;
            let id = host.id("/client");
            assert_eq!(name(&registry(&store), &id).await.as_deref(), Some("App"));
            *answers.lock().unwrap() = ("503 X", "", "");
            assert_unavailable(find(&registry(&store), &id).await);
        }
    }

    #[tokio::test]
    async fn the_operator_decides_about_kept_documents() {
        let (store, answers) = (MemoryRegistry::new(), answers("200 OK", "App", "max-age=0"));
        let host = server(&answers).await;
        let id = host.id("/client");
        let registry = registry(&store);
        let client = find(&registry, &id).await.unwrap().unwrap();
        let trusted = client.to_builder().trusted(true).build().unwrap();
        RegistryStore::replace(&store, trusted).await.unwrap();
        *answers.lock().unwrap() = ("200 OK", "Second", "max-age=0");
        let client = find(&registry, &id).await.unwrap().unwrap();
        assert_eq!((client.name(), client.is_trusted()), (Some("Second"), true));

        let disabled = client.to_builder().disabled(true).build().unwrap();
        RegistryStore::replace(&store, disabled).await.unwrap();
        *answers.lock().unwrap() = ("404 X", "", "");
        let hits = host.hits();
        assert_eq!(find(&registry, &id).await.unwrap().unwrap().status(), ClientStatus::Disabled);
        RegistryStore::revoke(&store, &id).await.unwrap();
        assert_eq!(find(&registry, &id).await.unwrap().unwrap().status(), ClientStatus::Revoked);
        assert_eq!(host.hits(), hits);
    }

    /// The document comes again with all that the operator took away.
    #[tokio::test]
    async fn restrictions_by_the_operator_survive_an_update() {
        let store = MemoryRegistry::new();
        let state = Arc::new(Mutex::new(("200 OK", json!({}))));
        let answers = Arc::clone(&state);
        let (host, _) = with_document(move |_, _, mut document| {
            let (status, members) = answers.lock().unwrap().clone();
            document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            raw(
                status,
                "content-type: application/json\r\ncache-control: max-age=0\r\n",
                document.to_string().as_bytes(),
            )
        })
        .await;
        let id = host.id("/client");
        let registry = || {
            let builder = development().store(store.clone()).allowed_scopes(Scope::parse("*").unwrap());
            builder.cache_lifetime(Duration::ZERO, Duration::from_secs(3600)).build().unwrap()
        };
        let wide = json!({
            "client_name": "Your Bank",
            "redirect_uris": ["https://app.example/a", "https://app.example/b"],
            "grant_types": ["authorization_code", "refresh_token"],
            "scope": "profile photos:write",
            "registration_granted": { "scope": "profile" },
            "registration_source": "a",
        });
        *state.lock().unwrap() = ("200 OK", wide.clone());
        let client = find(&registry(), &id).await.unwrap().unwrap();
        assert_eq!(client.allowed_scopes().unwrap().as_str(), "profile photos:write");
        assert!(!client.metadata().unwrap().contains_key("registration_source"));
        let narrowed = client.to_builder().clear_redirect_uris().redirect_uri("https://app.example/a").scope("profile");
        let narrowed = narrowed.grant_types(GrantTypes::AUTHORIZATION_CODE).name("App (not a bank)");
        RegistryStore::replace(&store, narrowed.build().unwrap()).await.unwrap();

        let assert_narrowed = async || {
            let client = find(&registry(), &id).await.unwrap().unwrap();
            let uris: Vec<_> = client.redirect_uris().iter().map(|uri| uri.as_str()).collect();
            assert_eq!(uris, ["https://app.example/a"]);
            assert_eq!(client.allowed_scopes().unwrap().as_str(), "profile");
            assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
            assert_eq!(client.name(), Some("App (not a bank)"));
        };
        assert_narrowed().await;
        // New members are taken over.
        let mut wider = wide.clone();
        wider["scope"] = json!("profile photos:write admin");
        wider["contacts"] = json!(["a@app.example"]);
        *state.lock().unwrap() = ("200 OK", wider);
        assert_narrowed().await;
        assert_eq!(store.get(&id).unwrap().metadata().unwrap()["contacts"], json!(["a@app.example"]));

        // A document that is withdrawn and comes again, or is broken in between.
        for (status, members) in [("404 X", wide.clone()), ("200 OK", json!({ "redirect_uris": [] }))] {
            *state.lock().unwrap() = (status, members);
            assert!(find(&registry(), &id).await.unwrap().is_none());
            assert!(find(&registry(), &id).await.unwrap().is_none());
            // The last document is not answered while its host fails.
            *state.lock().unwrap() = ("503 X", wide.clone());
            assert_unavailable(find(&registry(), &id).await);
            *state.lock().unwrap() = ("200 OK", wide.clone());
            assert_narrowed().await;
        }
        // Nothing is left of its redirect URIs.
        let mut other = wide.clone();
        other["redirect_uris"] = json!(["https://app.example/b"]);
        *state.lock().unwrap() = ("200 OK", other);
        assert!(find(&registry(), &id).await.unwrap().unwrap().redirect_uris().is_empty());
        // A list that was shortened is not extended.
        *state.lock().unwrap() = ("200 OK", wide);
        assert!(find(&registry(), &id).await.unwrap().unwrap().redirect_uris().is_empty());
    }

    #[tokio::test]
    async fn a_withdrawn_document_does_not_end_the_operators_expiry() {
        let (store, answers) = (MemoryRegistry::new(), answers("200 OK", "App", "max-age=0"));
        let host = server(&answers).await;
        let id = host.id("/client");
        let client = find(&registry(&store), &id).await.unwrap().unwrap();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        RegistryStore::replace(&store, client.to_builder().expires_at(end).build().unwrap()).await.unwrap();
        *answers.lock().unwrap() = ("404 X", "App", "max-age=0");
        assert!(find(&registry(&store), &id).await.unwrap().is_none());
        *answers.lock().unwrap() = ("200 OK", "App", "max-age=0");
        assert_eq!(find(&registry(&store), &id).await.unwrap().unwrap().expires_at(), Some(end));
    }

    /// An operator decides while the document is being fetched.
    #[tokio::test]
    async fn a_decision_during_a_fetch_is_obeyed() {
        type Decide = fn(&MemoryRegistry, &str);
        let disable: Decide = |store, id| {
            let client = store.get(id).unwrap().to_builder().disabled(true).build().unwrap();
            store.replace(client).unwrap();
        };
        let configure: Decide = |store, id| {
            store.insert(Client::builder(id).name("Configured").build().unwrap()).unwrap();
        };
        for (decide, is_known) in [(disable, true), (configure, false)] {
            let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (reached, gate) = (Arc::clone(&arrived), Arc::clone(&release));
            let host = Server::start(move |mut stream, path, hit| {
                let (reached, gate) = (Arc::clone(&reached), Arc::clone(&gate));
                async move {
                    let port = stream.local_addr().unwrap().port();
                    let document = document(&format!("http://localhost:{port}{path}"));
                    if hit == usize::from(is_known) {
                        reached.notify_one();
                        gate.notified().await;
                    }
                    let _ = stream.write_all(&ok("cache-control: max-age=0\r\n", &document)).await;
                }
            })
            .await;
            let (store, id) = (MemoryRegistry::new(), host.id("/client"));
            if is_known {
                assert!(find(&registry(&store), &id).await.unwrap().is_some());
            }
            let fetching = tokio::spawn(registry(&store).find_client(&id));
            in_time(arrived.notified()).await;
            decide(&store, &id);
            let decided = store.get(&id).unwrap();
            release.notify_one();
            assert_eq!(in_time(fetching).await.unwrap().unwrap().unwrap(), decided);
            assert_eq!(store.get(&id).unwrap(), decided);
        }
    }

    #[tokio::test]
    async fn other_clients_of_the_store_are_answered_as_they_are() {
        let store = MemoryRegistry::new();
        let host = server(&answers("200 OK", "Document", "max-age=0")).await;
        for id in ["app", &*host.id("/client"), "https://app.example/#odd"] {
            let client = Client::builder(id).name("Configured").build().unwrap();
            RegistryStore::insert(&store, client, ClientOrigin::Configured).await.unwrap();
        }
        let registry = registry(&store);
        for id in ["app", &*host.id("/client"), "https://app.example/#odd"] {
            assert_eq!(name(&registry, id).await.as_deref(), Some("Configured"), "{id}");
        }
        assert!(find(&registry, "other").await.unwrap().is_none());
        assert_eq!(host.hits(), 0);
    }

    #[tokio::test]
    async fn the_oldest_unused_document_is_evicted() {
        let store = MemoryRegistry::new();
        let host = server(&answers("200 OK", "App", "max-age=3600")).await;
        let registry = registry(&store);
        let id = |number: usize| host.id(&format!("/{number}"));
        for number in 0..2 {
            assert!(find(&registry, &id(number)).await.unwrap().is_some());
            store.touch(&id(number), SystemTime::now() - Duration::from_secs(89 * 86_400)).await.unwrap();
        }
        // No room: it works, and is not kept.
        assert!(find(&registry, &id(2)).await.unwrap().is_some());
        assert!(store.record(&id(2)).await.unwrap().is_none());
        store.remove(&id(0)).unwrap();
        for number in 3..5 {
            assert!(find(&registry, &id(number)).await.unwrap().is_some());
        }
        for (number, is_kept) in [(1, true), (3, false), (4, true)] {
            assert_eq!(store.record(&id(number)).await.unwrap().is_some(), is_kept, "{number}");
        }
    }

    #[tokio::test]
    async fn a_stored_document_in_use_is_refreshed_in_the_background() {
        let (store, answers) = (MemoryRegistry::new(), answers("200 OK", "First", "max-age=4000"));
        let host = server(&answers).await;
        let (id, registry) = (host.id("/client"), registry(&store));
        let first = find(&registry, &id).await.unwrap().unwrap();
        // As if three quarters of its time were over.
        let mut times = first.metadata().unwrap()["metadata_document_times"].clone();
        times[0] = json!(0);
        let due = first.to_builder().metadata("metadata_document_times", times).build().unwrap();
        RegistryStore::replace(&store, due).await.unwrap();
        *answers.lock().unwrap() = ("200 OK", "Second", "max-age=4000");
        assert_eq!(name(&registry, &id).await.as_deref(), Some("First"));
        eventually(async || (name(&registry, &id).await.as_deref() == Some("Second")).then_some(())).await;
        assert_eq!(host.hits(), 2);
    }
}

/// Documents of clients in use, written anew with the members of the originals as of autumn 2026.
mod published {
    use super::*;

    struct Published {
        /// The address of the original.
        id: &'static str,
        members: Value,
        /// A redirect URI that the client sends.
        requested: &'static str,
    }

    fn published() -> Vec<Published> {
        let public = |name: &str, uris: &[&str]| {
            json!({
                "client_name": name,
                "redirect_uris": uris,
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "token_endpoint_auth_method": "none",
            })
        };
        let with = |mut members: Value, more: Value| {
            members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            members
        };
        let loopback = ["http://localhost/callback", "http://127.0.0.1/callback"];
        vec![
            Published {
                id: "https://claude.ai/oauth/mcp-oauth-client-metadata",
                members: with(
                    public("Claude", &["https://claude.ai/api/mcp/auth_callback"]),
                    json!({ "client_uri": "https://claude.ai" }),
                ),
                requested: "https://claude.ai/api/mcp/auth_callback",
            },
            Published {
                id: "https://claude.ai/oauth/claude-code-client-metadata",
                members: public("Claude Code", &loopback),
                requested: "http://localhost:54545/callback",
            },
            Published {
                id: "https://chatgpt.com/oauth/client.json",
                members: with(
                    public("ChatGPT", &["https://chatgpt.com/connector_platform_oauth_redirect"]),
                    json!({
                        "token_endpoint_auth_method": "private_key_jwt",
                        "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
                        "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
                    }),
                ),
                requested: "https://chatgpt.com/connector_platform_oauth_redirect",
            },
            Published {
                id: "https://chatgpt.com/oauth/codex/client.json",
                members: public("Codex", &loopback),
                requested: "http://127.0.0.1:1455/callback",
            },
            Published {
                id: "https://vscode.dev/oauth/client-metadata.json",
                members: with(
                    public("Visual Studio Code", &["http://127.0.0.1:33418/", "https://vscode.dev/redirect"]),
                    json!({
                        "application_type": "native",
                        "client_uri": "https://vscode.dev/product",
                        "grant_types": [
                            "authorization_code",
                            "refresh_token",
                            "urn:ietf:params:oauth:grant-type:device_code",
                        ],
                    }),
                ),
                requested: "http://127.0.0.1:33418/",
            },
            Published {
                id: "https://cursor.com/oauth/mcp-client.json",
                members: public("Cursor", &["cursor://anysphere.cursor-mcp/oauth/callback"]),
                requested: "cursor://anysphere.cursor-mcp/oauth/callback",
            },
            Published {
                id: "https://zed.dev/oauth/client-metadata.json",
                members: public("Zed", &["http://127.0.0.1/callback"]),
                requested: "http://127.0.0.1:50000/callback",
            },
            // The shape that AT Protocol asks of a public client.
            Published {
                id: "https://atproto.example/client-metadata.json",
                members: with(
                    public("AT Protocol app", &["https://atproto.example/callback"]),
                    json!({
                        "application_type": "web",
                        "dpop_bound_access_tokens": true,
                        "scope": "atproto transition:generic",
                    }),
                ),
                requested: "https://atproto.example/callback",
            },
        ]
    }

    #[tokio::test]
    async fn published_documents_are_clients() {
        let served = tower::service_fn(|request: Request<Full<Bytes>>| async move {
            let id = request.uri().to_string();
            let published = published().into_iter().find(|published| published.id == id).unwrap();
            let mut document = published.members;
            document["client_id"] = json!(id);
            let response = http::Response::builder().header("content-type", "application/json");
            Ok::<_, io::Error>(response.body(Full::<Bytes>::from(document.to_string())).unwrap())
        });
        let documents = MetadataDocumentRegistry::builder().fetcher(served).require_client_name(true).build().unwrap();
        for Published { id, members, requested } in published() {
            let client = find(&documents, id).await.unwrap().unwrap_or_else(|| panic!("{id}"));
            assert_eq!(client.name(), members["client_name"].as_str(), "{id}");
            assert_eq!((client.kind(), client.is_dynamic()), (ClientKind::Public, true), "{id}");
            assert!(client.check_redirect_uri(requested, LoopbackPorts::Any).is_ok(), "{id}");
            assert!(client.check_redirect_uri("https://evil.example/", LoopbackPorts::Any).is_err(), "{id}");
        }
    }
}

/// A refused fetch must not count as an outage of the host.
#[tokio::test]
async fn a_flood_of_fetches_does_not_revive_a_withdrawn_document() {
    let server = Server::start(|mut stream, path, hit| async move {
        let port = stream.local_addr().unwrap().port();
        let document = document(&format!("http://localhost:{port}{path}"));
        if path == "/tarpit" {
            let _ = stream.read_u8().await;
        }
        let answer = if hit == 0 { ok("cache-control: max-age=100\r\n", &document) } else { raw("404 X", "", b"") };
        let _ = stream.write_all(&answer).await;
    })
    .await;
    let registry = development().max_fetches_per_domain(1).build().unwrap();
    let id = server.id("/client");
    assert!(find(&registry, &id).await.unwrap().is_some());
    advance(Duration::from_secs(101)).await;
    let flood = tokio::spawn(registry.find_client(&server.id("/tarpit")));
    tokio::task::yield_now().await;
    assert_unavailable(find(&registry, &id).await);
    flood.abort();
    assert!(flood.await.unwrap_err().is_cancelled());
    assert!(find(&registry, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_registered_client_takes_precedence_over_a_document() {
    let (server, documents) = with_document(|_, _, document| ok("", &document)).await;
    let id = server.id("/client");
    let registered = MemoryRegistry::from_clients([Client::builder(&*id).name("Registered").build().unwrap()]);
    let both = registered.or(documents);
    assert_eq!(both.find_client(&id).await.unwrap().unwrap().name(), Some("Registered"));
    assert_eq!(server.hits(), 0);
    assert_eq!(both.find_client(&server.id("/other")).await.unwrap().unwrap().name(), Some("App"));
}

/// Status and body of the answer to an authorization request of this client.
async fn authorize(documents: &MetadataDocumentRegistry, id: &str) -> (u16, String) {
    let inner = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::from("in")))
    });
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    let uri = format!(
        "/authorize?response_type=code&client_id={id}&redirect_uri=http%3A%2F%2Flocalhost%3A57470%2Fcallback\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    );
    let request = Request::get(uri).body(Full::default()).unwrap();
    let answer = ClientValidationLayer::new(documents.clone()).layer(inner).oneshot(request).await.unwrap();
    assert!(!answer.headers().contains_key("location"));
    (answer.status().as_u16(), crate::fixture::text(answer).await)
}

#[tokio::test]
async fn the_layer_distinguishes_unusable_from_unavailable() {
    let (server, documents) = with_document(|path, _, document| match path {
        "/good" => ok("", &document),
        "/missing" => raw("404 Not Found", "", b""),
        _ => raw("500 Internal Server Error", "", b""),
    })
    .await;
    for (path, status) in [("/good", 200), ("/missing", 400), ("/broken", 503)] {
        assert_eq!(authorize(&documents, &server.id(path)).await.0, status, "{path}");
    }
}

/// Strangers choose ids and hosts: they must neither raise alarms nor fill the log.
#[tokio::test]
async fn a_failing_document_is_an_info_event_of_bounded_size() {
    let (server, documents) = with_document(|path, _, document| match path.len() {
        _ if path.starts_with("/stale") => ok("cache-control: max-age=100\r\n", &document),
        _ if path.starts_with("/invalid") => ok("", &json!({})),
        _ => raw("500 X", "", b""),
    })
    .await;
    let unreachable = MetadataDocumentRegistry::builder()
        .resolver(|host| async move { Err(io::Error::other(format!("no such host: {host}"))) })
        .build()
        .unwrap();
    let (log, _guard) = Log::listen();
    let long = "x".repeat(1500);
    for path in ["/failing", "/invalid"] {
        authorize(&documents, &server.id(&format!("{path}/{long}"))).await;
        let logged = log.take();
        assert!(logged.contains("client_id") && logged.len() < 1500, "{logged}");
        assert!(!logged.contains("ERROR") && !logged.contains("WARN"), "{logged}");
    }
    authorize(&unreachable, &format!("https://app.example/{long}")).await;
    let logged = log.take();
    assert!(logged.contains("no such host: app.example") && logged.len() < 1500, "{logged}");
    assert!(!logged.contains("ERROR") && !logged.contains("WARN"), "{logged}");
}

/// A TLS server on this address with its own certificate for these hosts: its certificate as PEM text, and its port. It
/// has a document under every path of every host.
async fn tls_server(address: Ipv4Addr, hosts: &[&str]) -> (String, u16) {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let certified = rcgen::generate_simple_self_signed(hosts).unwrap();
    let pem = certified.cert.pem();
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap();
                let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
                let _ = stream.write_all(&ok("", &document(&format!("https://{host}{path}")))).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (pem, port)
}

#[tokio::test]
async fn documents_are_fetched_over_tls_with_trusted_certificates() {
    let (pem, port) = tls_server(Ipv4Addr::LOCALHOST, &["docs.test", "localhost"]).await;
    let id = format!("https://docs.test:{port}/client");
    let trusting = development().root_certificates(&pem).build().unwrap();
    assert_eq!(find(&trusting, &id).await.unwrap().unwrap().id(), id);
    // Not trusted; trusted, but for another name.
    assert_unavailable(find(&development().build().unwrap(), &id).await);
    assert_unavailable(find(&trusting, &id.replace("docs.test", "other.test")).await);
    let broken = development().root_certificates("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----").build();
    assert_eq!(broken.unwrap_err().setting(), "root_certificates");
}

#[test]
fn an_invalid_setting_is_named() {
    let builder = MetadataDocumentRegistry::builder;
    let hour = Duration::from_secs(3600);
    for (setting, wrong) in [
        ("max_fetches", builder().max_fetches(0)),
        ("max_fetches_per_domain", builder().max_fetches_per_domain(0)),
        ("max_fetches_per_network", builder().max_fetches_per_network(0)),
        ("max_document_bytes", builder().max_document_bytes(0)),
        ("cache_lifetime", builder().cache_lifetime(2 * hour, hour)),
        ("allowed_hosts", builder().allowed_hosts(["https://app.example"])),
        ("allowed_hosts", builder().allowed_hosts(["App.example"])),
        ("allowed_hosts", builder().allowed_hosts(["app.example:443"])),
        ("allowed_hosts", builder().allowed_hosts(["a*.example"])),
    ] {
        let error = wrong.build().unwrap_err();
        assert_eq!(error.setting(), setting);
        assert!(error.to_string().starts_with(&format!("{setting}: ")), "{error}");
    }
}

/// An attacker points many ids at hosts that accept connections and never answer.
mod tarpit {
    use super::*;

    /// A tarpit on all loopback addresses, and how many connections it holds.
    async fn tarpit() -> (u16, tokio::sync::watch::Receiver<usize>) {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (count, held) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.push(stream);
                count.send_replace(connections.len());
            }
        });
        (port, held)
    }

    /// `net-N.…` is 127.0.N.1, any other host is 127.0.1.1.
    async fn resolve(host: String) -> io::Result<Vec<IpAddr>> {
        let network = host.strip_prefix("net-").and_then(|rest| rest.split('.').next()?.parse().ok()).unwrap_or(1);
        Ok(vec![Ipv4Addr::new(127, 0, network, 1).into()])
    }

    struct Stage {
        registry: MetadataDocumentRegistry,
        honest_port: u16,
        tarpit_port: u16,
        held: tokio::sync::watch::Receiver<usize>,
    }

    impl Stage {
        /// Fetches take forever, so that what the attack holds is held to the end.
        async fn new() -> Self {
            let (pem, honest_port) =
                tls_server(Ipv4Addr::new(127, 0, 1, 1), &["honest.test", "www.shared.test", "new.test"]).await;
            let (tarpit_port, held) = tarpit().await;
            let forever = Duration::from_secs(3600);
            let registry = development().root_certificates(pem).resolver(resolve);
            let registry = registry.headers_timeout(forever).timeout(forever).build().unwrap();
            Self { registry, honest_port, tarpit_port, held }
        }

        /// Sends a request for each host, and waits until the tarpit holds as many connections as the limits allow.
        async fn attack(&mut self, hosts: impl IntoIterator<Item = String>, held: usize) -> tokio::task::JoinSet<()> {
            let mut attack = tokio::task::JoinSet::new();
            for host in hosts {
                let lookup = self.registry.find_client(&format!("https://{host}:{}/client", self.tarpit_port));
                attack.spawn(async move { drop(lookup.await) });
            }
            let all_held = self.held.wait_for(|count| *count >= held);
            in_time(all_held).await.unwrap();
            attack
        }

        async fn assert_served(&self, host: &str) {
            for number in 0..50 {
                let id = format!("https://{host}:{}/{number}", self.honest_port);
                let found = find(&self.registry, &id).await;
                assert!(found.as_ref().is_ok_and(Option::is_some), "{host} {number}: {found:?}");
            }
        }
    }

    #[tokio::test]
    async fn many_hosts_of_one_domain_get_the_fetches_of_one_domain() {
        let mut stage = Stage::new().await;
        let hosts = (0..300).map(|number| format!("h{number}.attacker.test"));
        let _attack = stage.attack(hosts, 3).await;
        stage.assert_served("honest.test").await;
        assert_eq!(*stage.held.borrow(), 3);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn many_domains_of_one_network_get_the_fetches_of_one_network() {
        let mut stage = Stage::new().await;
        let hosts = (0..300).map(|number| format!("net-2.attacker{number}.test"));
        let _attack = stage.attack(hosts, 12).await;
        stage.assert_served("honest.test").await;
        assert_eq!(*stage.held.borrow(), 12);
    }

    #[tokio::test]
    async fn a_host_that_answered_before_is_served_beside_a_tarpit_in_its_network() {
        let mut stage = Stage::new().await;
        stage.assert_served("honest.test").await;
        let hosts = (0..300).map(|number| format!("attacker{number}.test"));
        let _attack = stage.attack(hosts, 12).await;
        stage.assert_served("honest.test").await;
    }

    #[tokio::test]
    async fn a_host_that_answered_before_is_served_beside_a_tarpit_in_its_domain() {
        let mut stage = Stage::new().await;
        stage.assert_served("www.shared.test").await;
        let hosts = (0..300).map(|number| format!("attacker{number}.shared.test"));
        let _attack = stage.attack(hosts, 3).await;
        stage.assert_served("www.shared.test").await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_host_that_answered_before_is_served_when_the_attacker_has_many_networks() {
        let mut stage = Stage::new().await;
        stage.assert_served("honest.test").await;
        let hosts = (0..400).map(|number| format!("net-{}.attacker{number}.test", 2 + number % 200));
        let _attack = stage.attack(hosts, 192).await;
        stage.assert_served("honest.test").await;
        let refused = find(&stage.registry, &format!("https://new.test:{}/client", stage.honest_port)).await;
        assert_unavailable(refused);
    }

    /// A host that is slow once is a stranger again.
    #[tokio::test]
    async fn a_host_that_became_slow_loses_the_reserved_permits() {
        let (server, gate) = (documents_at("localhost", |_| json!([])).await, tarpit().await);
        let registry = development().max_fetches_per_domain(4).build().unwrap();
        let tarpit = |number: usize| format!("http://localhost:{}/{number}", gate.0);
        assert!(find(&registry, &server.id("/1")).await.unwrap().is_some());
        for permits in [4, 3] {
            let held: Vec<_> = (0..permits).map(|number| tokio::spawn(registry.find_client(&tarpit(number)))).collect();
            tokio::task::yield_now().await;
            assert_unavailable(find(&registry, &tarpit(9)).await);
            let mut connections = gate.1.clone();
            let arrived = connections.wait_for(|count| *count >= if permits == 4 { 4 } else { 7 });
            in_time(arrived).await.unwrap();
            advance(Duration::from_secs(4)).await;
            for found in in_time(join_all(held)).await {
                assert_unavailable(found.unwrap());
            }
        }
    }
}

/// Environment variables are read in a separate process: certificates come from `SSL_CERT_FILE`, and proxies
/// do not matter.
#[tokio::test]
async fn the_environment_names_certificates_and_no_proxy() {
    let (pem, port) = tls_server(Ipv4Addr::LOCALHOST, &["docs.test"]).await;
    let id = format!("https://docs.test:{port}/client");
    let plain = Server::answering({
        move |path, _| ok("", &json!({ "client_id": path, "redirect_uris": ["https://app.example/"] }))
    })
    .await;
    let proxy = Server::answering(|_, _| raw("502 X", "", b"")).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("roots.pem");
    std::fs::write(&file, pem).unwrap();
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "metadata_document::child_process", "--nocapture"])
        .env("SSL_CERT_FILE", &file)
        .env_remove("SSL_CERT_DIR")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .envs(
            ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
                .map(|name| (name, &address)),
        )
        .env("TEST_DOCUMENT", &id)
        .env("TEST_PLAIN", plain.id("/client"))
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!((proxy.hits(), plain.hits()), (0, 1));
}

#[tokio::test]
#[ignore = "run by `the_environment_names_certificates_and_no_proxy`"]
async fn child_process() {
    let Ok(id) = std::env::var("TEST_DOCUMENT") else { return };
    let registry = development().build().unwrap();
    assert_eq!(find(&registry, &id).await.unwrap().unwrap().id(), id);
    // Its document names another id; what matters is that the server was asked, and not a proxy.
    assert!(find(&registry, &std::env::var("TEST_PLAIN").unwrap()).await.unwrap().is_none());
}
