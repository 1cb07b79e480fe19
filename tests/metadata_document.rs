//! Clients whose id is the address of their metadata.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tower::{Layer, ServiceExt};
use tower_oauth_client_validation::{
    Client, ClientKind, ClientValidationLayer, LoopbackPorts, MemoryRegistry, MetadataDocumentBuilder,
    MetadataDocumentRegistry, RegistryError, RegistrySource, Scope,
};
use tracing_subscriber::fmt::MakeWriter;

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
    registry.find_client(id).await
}

#[track_caller]
fn assert_transient(found: Result<Option<Arc<Client>>, RegistryError>) {
    assert!(found.expect_err("a failure").is_transient());
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
async fn a_document_is_a_client() {
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
    // The draft advises against a query, and does not forbid it.
    let with_query = server.id("/client.json?x=/../y");
    assert_eq!(find(&registry, &with_query).await.unwrap().unwrap().id(), with_query);
    // From the cache.
    assert!(Arc::ptr_eq(&find(&registry, &id).await.unwrap().unwrap(), &client));
    assert_eq!(server.hits(), 2);
    registry.invalidate(&id);
    assert!(find(&registry, &id).await.unwrap().is_some());
    assert_eq!(server.hits(), 3);
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
        ("https://app.example/", "client_id_path"),
        ("https://app.example?x=/y", "client_id_path"),
        ("https://app.example/?x", "client_id_path"),
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

#[tokio::test]
async fn names_must_not_lead_to_an_address_that_is_not_public() {
    let server = Server::answering(|_, _| panic!("nobody may connect")).await;
    let (log, _guard) = Log::listen();
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
    ] {
        let addresses: Vec<IpAddr> = answer.iter().map(|address| address.parse().unwrap()).collect();
        let registry = MetadataDocumentRegistry::builder()
            .resolver(move |_| futures::future::ready(Ok(addresses.clone())))
            .build()
            .unwrap();
        let id = format!("https://app.example:{}/client", server.port);
        assert!(find(&registry, &id).await.unwrap().is_none(), "{answer:?}");
        let logged = log.take();
        assert!(logged.contains("rule=\"address_not_public\""), "{answer:?}: {logged}");
    }
    assert_eq!(server.hits(), 0);
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
    assert!(find(&registry, &id).await.unwrap().is_none());
    assert_eq!((lookups.load(Ordering::SeqCst), server.hits()), (2, 1));
}

#[tokio::test]
async fn the_loopback_switch_opens_loopback_only() {
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
        ("https://app.example/client", "address_not_public"),
    ] {
        assert!(find(&registry, id).await.unwrap().is_none(), "{id}");
        let logged = log.take();
        assert!(logged.contains(rule), "{id}: {logged}");
    }
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
    for status in [201, 202, 203, 204, 206, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 410] {
        assert!(find(&registry, &server.id(&format!("/{status}"))).await.unwrap().is_none(), "{status}");
        let logged = log.take();
        assert!(logged.contains("rule=\"status_not_200\""), "{status}: {logged}");
    }
    // No redirect was followed.
    assert_eq!(server.hits(), 17);
    for status in [429, 500, 502, 503, 504] {
        assert_transient(find(&registry, &server.id(&format!("/{status}"))).await);
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
async fn a_document_has_5_kib_at_the_most() {
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
async fn an_endless_document_is_given_up() {
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
    ended.notified().await;
}

#[tokio::test]
async fn a_slow_document_is_given_up_after_10_seconds() {
    for head in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"] {
        let sent = Arc::new(Notify::new());
        let notify = Arc::clone(&sent);
        let server = Server::start(move |mut stream, _, _| {
            let sent = Arc::clone(&notify);
            async move {
                let _ = stream.write_all(head.as_bytes()).await;
                sent.notify_one();
                // Until the client goes.
                let _ = stream.read_u8().await;
            }
        })
        .await;
        let registry = development().build().unwrap();
        let fetch = tokio::spawn(registry.find_client(&server.id("/client")));
        sent.notified().await;
        advance(Duration::from_secs(11)).await;
        assert_transient(fetch.await.unwrap());
    }
}

#[tokio::test]
async fn a_document_that_comes_byte_by_byte_is_given_up_all_the_same() {
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
        dropped.notified().await;
        advance(Duration::from_secs(3)).await;
        drop_by_drop.notify_one();
    }
    assert_transient(fetch.await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_had_for_now_is_a_transient_failure() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    assert_transient(find(&development().build().unwrap(), &format!("http://localhost:{closed}/client")).await);

    let no_address = MetadataDocumentRegistry::builder().resolver(|_| async { Ok(Vec::new()) }).build().unwrap();
    assert_transient(find(&no_address, "https://app.example/client").await);
    let fails =
        MetadataDocumentRegistry::builder().resolver(|_| async { Err(io::Error::other("down")) }).build().unwrap();
    assert_transient(find(&fails, "https://app.example/client").await);

    // Broken off in the middle.
    let half = Server::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{".to_vec()
    })
    .await;
    assert_transient(find(&development().build().unwrap(), &half.id("/client")).await);
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

#[tokio::test]
async fn a_default_port_that_is_written_out_is_a_part_of_the_id() {
    // A port of our own choice cannot be the default one, so the resolver counts who got as far as that.
    let lookups = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lookups);
    let registry = MetadataDocumentRegistry::builder()
        .resolver(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Err(io::Error::other("no further")) }
        })
        .build()
        .unwrap();
    assert_transient(find(&registry, "https://app.example:443/client").await);
    assert_transient(find(&registry, "https://app.example/client").await);
    assert_eq!(lookups.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_only_an_operator_decides_is_ignored() {
    let (server, registry) = with_document(|_, _, mut document| {
        document.as_object_mut().unwrap().extend([
            ("trusted".to_owned(), json!(true)),
            ("revoked".to_owned(), json!(true)),
            ("expires_at".to_owned(), json!(1)),
            ("default_scope".to_owned(), json!("admin")),
            ("scope".to_owned(), json!("admin")),
            ("client_secret_sha256".to_owned(), json!("00")),
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
async fn policies_of_the_operator() {
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
    assert!(find(&hosts, &server.id("/x")).await.unwrap().is_none());
    assert!(log.take().contains("rule=\"not_trusted\""));
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
    let registry = development().max_fetches(2, 1).build().unwrap();
    let id = server.id("/client");
    let tasks: Vec<_> = (0..200).map(|_| tokio::spawn(registry.find_client(&id))).collect();
    // Some that do not wait for the end, the first among them.
    for task in tasks.iter().take(10) {
        task.abort();
    }
    gate.add_permits(1000);
    let found = join_all(tasks.into_iter().skip(10)).await;
    assert!(found.into_iter().all(|found| found.unwrap().unwrap().is_some()));
    assert_eq!(server.hits(), 1);
    // Nothing is left of it: the next one fetches anew, and has a place.
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
    let registry = development().max_fetches(3, 2).build().unwrap();
    let ip = |path: &str| format!("http://127.0.0.1:{}{path}", server.port);
    let first = registry.find_client(&server.id("/1"));
    let second = registry.find_client(&server.id("/2"));
    assert_transient(find(&registry, &server.id("/3")).await);
    let third = registry.find_client(&ip("/ip1"));
    assert_transient(find(&registry, &ip("/ip2")).await);
    // Who waits no more gives the place back.
    drop(second);
    let fourth = registry.find_client(&ip("/ip2"));
    assert_transient(find(&registry, &server.id("/3")).await);
    gate.add_permits(1000);
    for found in join_all([first, third, fourth]).await {
        assert!(found.unwrap().is_some());
    }
    assert!(find(&registry, &server.id("/3")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lookup_that_goes_on_by_itself_keeps_its_place() {
    let (server, _) = with_document(|_, _, document| ok("", &document)).await;
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut looked_up) = tokio::sync::mpsc::unbounded_channel();
    let wait = Arc::clone(&gate);
    let registry = development()
        .max_fetches(3, 2)
        // As `getaddrinfo` does: in a thread, with no way to call it off.
        .resolver(move |host| {
            asked.send(host).unwrap();
            let gate = Arc::clone(&wait);
            async move {
                let _permit = gate.acquire().await.unwrap();
                Ok(vec![LOOPBACK])
            }
        })
        .build()
        .unwrap();
    let at =
        |host: &str, path: &str| format!("http://{host}:{}{path}", server.port).replace("http://docs", "https://docs");
    // One whose caller goes away, one that is given up.
    let gone = tokio::spawn(registry.find_client(&at("localhost", "/1")));
    assert_eq!(looked_up.recv().await.unwrap(), "localhost");
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let slow = tokio::spawn(registry.find_client(&at("localhost", "/2")));
    assert_eq!(looked_up.recv().await.unwrap(), "localhost");
    advance(Duration::from_secs(11)).await;
    assert_transient(slow.await.unwrap());

    assert_transient(find(&registry, &at("localhost", "/1")).await);
    let third = tokio::spawn(registry.find_client(&at("docs.test", "/3")));
    assert_eq!(looked_up.recv().await.unwrap(), "docs.test");
    third.abort();
    assert_transient(find(&registry, &at("docs.other", "/4")).await);
    assert!(looked_up.try_recv().is_err(), "another one began");

    gate.add_permits(1000);
    let found = async {
        loop {
            match find(&registry, &at("localhost", "/1")).await {
                Ok(found) => return found,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), found).await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_under_way_before_an_invalidation_is_not_kept() {
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
    asked.notified().await;
    registry.invalidate(&id);
    // Whoever asks from now on does not join it.
    let second = find(&registry, &id).await.unwrap().unwrap();
    assert_eq!(name(&second), "Version 1");
    release.notify_one();
    assert_eq!(name(&first.await.unwrap().unwrap().unwrap()), "Version 0");
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

#[tokio::test]
async fn one_host_cannot_push_out_the_documents_of_another() {
    let (honest, _) = with_document(|_, _, document| ok("cache-control: max-age=100\r\n", &document)).await;
    let (greedy, _) = with_document(|_, _, document| ok("cache-control: max-age=86400\r\n", &document)).await;
    let registry = development().max_cached_documents(3).build().unwrap();
    assert!(find(&registry, &honest.id("/app")).await.unwrap().is_some());
    for number in 0..10 {
        assert!(find(&registry, &greedy.id(&format!("/{number}"))).await.unwrap().is_some());
    }
    assert!(find(&registry, &honest.id("/app")).await.unwrap().is_some());
    assert_eq!(honest.hits(), 1);
}

#[tokio::test]
async fn failures_are_not_kept_and_the_last_document_serves_meanwhile() {
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
    assert_transient(find(&registry, &lenient).await);
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
    assert_transient(find(&registry, &strict).await);
    // A document that is there and breaks a rule ends it at once.
    broken.store(false, Ordering::SeqCst);
    assert!(find(&registry, &strict).await.unwrap().is_some());
    advance(Duration::from_secs(101)).await;
    invalid.store(true, Ordering::SeqCst);
    assert!(find(&registry, &strict).await.unwrap().is_none());
    broken.store(true, Ordering::SeqCst);
    assert!(find(&registry, &lenient).await.unwrap().is_some());
    advance(Duration::from_secs(3600)).await;
    assert_transient(find(&registry, &lenient).await);
}

#[tokio::test]
async fn a_registered_client_of_the_same_id_wins() {
    let (server, documents) = with_document(|_, _, document| ok("", &document)).await;
    let id = server.id("/client");
    let registered = MemoryRegistry::from_clients([Client::builder(&*id).name("Registered").build().unwrap()]);
    let both = registered.or(documents);
    assert_eq!(both.find_client(&id).await.unwrap().unwrap().name(), Some("Registered"));
    assert_eq!(server.hits(), 0);
    assert_eq!(both.find_client(&server.id("/other")).await.unwrap().unwrap().name(), Some("App"));
}

#[tokio::test]
async fn the_layer_tells_unusable_from_unavailable() {
    let (server, documents) = with_document(|path, _, document| match path {
        "/good" => ok("", &document),
        "/missing" => raw("404 Not Found", "", b""),
        _ => raw("500 Internal Server Error", "", b""),
    })
    .await;
    let service = ClientValidationLayer::new(documents).layer(tower::service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::from("in")))
    }));
    for (path, status) in [("/good", 200), ("/missing", 400), ("/broken", 503)] {
        let id: String = url::form_urlencoded::byte_serialize(server.id(path).as_bytes()).collect();
        let uri = format!(
            "/authorize?response_type=code&client_id={id}&redirect_uri=http%3A%2F%2Flocalhost%3A57470%2Fcallback"
        );
        let answer = service.clone().oneshot(Request::get(uri).body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert!(!answer.headers().contains_key("location"));
    }
}

/// A server with a certificate of its own; the PEM text of that, and the address of a document.
async fn tls_server() -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["docs.test".to_owned(), "localhost".to_owned()]).unwrap();
    let pem = certified.cert.pem();
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let id = format!("https://docs.test:{}/client", listener.local_addr().unwrap().port());
    let answer = ok("", &document(&id));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (pem, id)
}

#[tokio::test]
async fn documents_come_over_tls_from_hosts_whose_certificates_are_trusted() {
    let (pem, id) = tls_server().await;
    let trusting = development().root_certificates(pem.as_bytes()).unwrap().build().unwrap();
    assert_eq!(find(&trusting, &id).await.unwrap().unwrap().id(), id);
    // Not trusted; trusted, but for another name.
    assert_transient(find(&development().build().unwrap(), &id).await);
    assert_transient(find(&trusting, &id.replace("docs.test", "other.test")).await);
    assert!(
        development()
            .root_certificates(b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----")
            .is_ok_and(|b| b.build().is_err())
    );
}

/// Environment variables are read in a process of its own: certificates come from `SSL_CERT_FILE`, and proxies
/// do not matter.
#[tokio::test]
async fn the_environment_names_certificates_and_no_proxy() {
    let (pem, id) = tls_server().await;
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
