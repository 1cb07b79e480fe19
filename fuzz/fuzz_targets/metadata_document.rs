//! For any document that a server sends: accepted documents follow the rules, as plain code checks them.
//!
//! Parts: settings (words), client_id, status, content type, cache-control, document. `{origin}` stands for the server, and `{id}` in
//! the document for the client_id.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tower_oauth_client_validation::{Client, ClientStatus, MetadataDocumentRegistry, RegistrySource, Scope};
use tower_oauth_client_validation_fuzz::parts;

const LIMIT: usize = 5 * 1024;

/// A server of this very thread, and registries of several settings.
struct World {
    runtime: Runtime,
    origin: String,
    answer: Arc<Mutex<Vec<u8>>>,
    registries: [MetadataDocumentRegistry; 4],
}

const PLAIN: usize = 0;
const NAMED: usize = 1;
const SCOPED: usize = 2;
const STEPPED: usize = 3;

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let origin = format!("http://localhost:{}", listener.local_addr().expect("bound").port());
        let answer = Arc::default();
        runtime.spawn(serve(listener, Arc::clone(&answer)));
        let scope = |text| Scope::parse(text).expect("legal");
        let builder = || {
            MetadataDocumentRegistry::builder()
                .insecure_allow_loopback(true)
                .resolver(|_| async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
        };
        let registries = [
            builder(),
            builder().require_client_name(true),
            builder().allowed_scopes(scope("read write")).default_scopes(scope("openid")),
            builder().allowed_scopes(scope("read write")).grant_all_scopes(true),
        ];
        let registries = registries.map(|builder| builder.build().expect("a client"));
        Self { runtime, origin, answer, registries }
    }

    fn find(&self, registry: &MetadataDocumentRegistry, client_id: &str) -> Option<Arc<Client>> {
        let _guard = self.runtime.enter();
        let found = self.runtime.block_on(registry.find_client(client_id));
        registry.invalidate(client_id);
        found.ok().flatten()
    }
}

async fn serve(listener: TcpListener, answer: Arc<Mutex<Vec<u8>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&answer)));
    }
}

/// Until the other side has enough.
async fn converse(mut stream: TcpStream, answer: Arc<Mutex<Vec<u8>>>) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer).await.inspect(|&read| head.extend_from_slice(&buffer[..read])) {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

thread_local! {
    static WORLD: World = World::new();
}

fn is_web(uri: &str) -> bool {
    url::Url::parse(uri).is_ok_and(|uri| matches!(uri.scheme(), "http" | "https") && uri.has_host())
}

fn check(
    client: &Client,
    settings: usize,
    origin: &str,
    client_id: &str,
    status: &str,
    content_type: &str,
    text: &[u8],
) {
    assert_eq!(client.id(), client_id);
    let path = client_id.strip_prefix(origin).expect("nothing else answers");
    assert!(path.starts_with('/') && client_id.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!client_id.contains(['#', '\\']));
    let dots = path.split('?').next().unwrap_or_default().to_lowercase().replace("%2e", ".");
    assert!(!dots.split('/').any(|segment| segment == "." || segment == ".."), "{client_id}");
    assert_eq!(status, "200");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_lowercase();
    assert!(essence == "application/json" || essence.ends_with("+json"), "{content_type}");
    assert!(text.len() <= LIMIT);

    let document: Value = serde_json::from_slice(text).expect("JSON");
    let given = |name: &str| document.get(name).filter(|value| !value.is_null());
    assert_eq!(given("client_id").and_then(Value::as_str), Some(client_id));
    assert!(given("client_secret").is_none() && given("client_secret_expires_at").is_none());
    let method = given("token_endpoint_auth_method").map(|method| method.as_str().expect("a string"));
    assert!(!method.is_some_and(|method| method.starts_with("client_secret")));
    assert!(method != Some("private_key_jwt") || given("jwks").is_some() || given("jwks_uri").is_some());
    for key in given("jwks").and_then(|jwks| jwks["keys"].as_array()).into_iter().flatten() {
        assert!(["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().all(|member| key.get(member).is_none()), "{key}");
    }
    let uris = given("redirect_uris").and_then(Value::as_array).expect("a list");
    assert!(!uris.is_empty());
    for uri in uris {
        let uri = uri.as_str().expect("a string");
        assert!(client.redirect_uris().iter().any(|registered| registered.as_str() == uri));
        let strict = fluent_uri::Uri::parse(uri).expect("an RFC 3986 URI");
        assert!(!uri.contains(":*") && !strict.has_fragment());
        if matches!(strict.scheme().as_str(), "http" | "https") {
            let browser = url::Url::parse(uri).expect("a URL");
            assert_eq!(browser.host_str(), strict.authority().map(|authority| authority.host()));
            let is_loopback = matches!(browser.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            assert!(browser.scheme() == "https" || is_loopback);
        }
    }
    assert!(client.redirect_uris().iter().all(|uri| uris.iter().any(|given| given == uri.as_str())));

    assert!(!client.is_trusted() && client.status() == ClientStatus::Active && client.expires_at().is_none());
    let name = given("client_name").and_then(Value::as_str);
    assert_eq!(client.name(), name);
    assert!(settings != NAMED || name.is_some_and(|name| !name.trim().is_empty()));
    let scopes = client.allowed_scopes().map(|scopes| scopes.as_str().to_owned());
    let known = |scope: &str| match settings {
        SCOPED => ["read", "write", "openid"].contains(&scope),
        STEPPED => ["read", "write"].contains(&scope),
        _ => false,
    };
    assert!(scopes.iter().flat_map(|scopes| scopes.split(' ')).all(|scope| scope.is_empty() || known(scope)));
    assert_eq!(&Client::from_metadata(client.to_metadata()).expect("legal when it is read back"), client);
    for (name, value) in client.metadata().into_iter().flatten() {
        assert!(!["trusted", "disabled", "revoked", "expires_at", "default_scope"].contains(&name.as_str()));
        let is_link =
            ["client_uri", "logo_uri", "tos_uri", "policy_uri"].contains(&name.split('#').next().unwrap_or(""));
        assert!(!is_link || value.as_str().is_some_and(is_web), "{name}: {value}");
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let [settings, client_id, status, content_type, cache_control, document] = parts(input);
    let head = [settings, client_id, status, content_type, cache_control].map(std::str::from_utf8);
    let [Ok(settings), Ok(client_id), Ok(status), Ok(content_type), Ok(cache_control)] = head else {
        return Corpus::Reject;
    };
    let settings = match settings {
        "named" => NAMED,
        "scoped" => SCOPED,
        "stepped" => STEPPED,
        _ => PLAIN,
    };
    let is_header = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_status = status.len() == 3 && matches!(status.as_bytes()[0], b'2'..=b'5') && status.parse::<u16>().is_ok();
    // What no `http` server sends is for the HTTP client to judge.
    if !is_status || !is_header(content_type) || !is_header(cache_control) || document.len() > 2 * LIMIT {
        return Corpus::Reject;
    }
    WORLD.with(|world| {
        let client_id = client_id.replace("{origin}", &world.origin);
        let document = match std::str::from_utf8(document) {
            Ok(text) => text.replace("{id}", &client_id).replace("{origin}", &world.origin).into_bytes(),
            Err(_) => document.to_vec(),
        };
        let mut answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nCache-Control: {cache_control}\r\nContent-Length: {}\r\n\r\n",
            document.len()
        )
        .into_bytes();
        answer.extend_from_slice(&document);
        *world.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        if let Some(client) = world.find(&world.registries[settings], &client_id) {
            check(&client, settings, &world.origin, &client_id, status, content_type, &document);
        }
    });
    Corpus::Keep
});
