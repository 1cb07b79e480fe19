//! Clients that register, read, change and remove themselves, in any order and with anything in the body.
//!
//! Parts: settings (words), then requests: a line `METHOD path token`, where the content type may follow, then the
//! body. `{id0}`, `{token0}` and `{secret0}` stand for the values of the first registration.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower::ServiceExt;
use tower_oauth_client_validation::{
    AllowedScopes, Client, ClientOrigin, ClientStatus, MemoryRegistry, RegistrationPolicy, RegistrationService, Scope,
};
use tower_oauth_client_validation_fuzz::is_registrable_by_strangers;

const STATUSES: [u16; 11] = [200, 201, 204, 400, 401, 403, 404, 405, 413, 415, 503];

const MOST_REQUESTS: usize = 8;

fn policy(words: &str) -> RegistrationPolicy {
    let scope = |text| Scope::parse(text).expect("legal");
    words.split(' ').fold(RegistrationPolicy::new(), |policy, word| match word {
        "token" => policy.initial_access_token("initial"),
        "schemes" => policy.redirect_schemes(["https", "com.example.app"]),
        "hosts" => policy.redirect_hosts(["app.example", "localhost"]),
        "allowed" => policy.allowed_scopes(scope("read write")),
        "any" => policy.allowed_scopes(scope("*")),
        "default" => policy.default_scopes(scope("openid")),
        "narrow" => policy.narrow_scopes(true),
        "all" => policy.allowed_scopes(scope("read write")).grant_all_scopes(true),
        "keep" => policy.keep_members(["x", "software_statement"]),
        "few" => policy.max_registrations(2),
        "reuse" => policy.reuse_identical(true),
        "small" => policy.max_body_bytes(100),
        _ => policy,
    })
}

/// The last answer to a client.
#[derive(Clone, Default)]
struct Told {
    id: String,
    token: String,
    secret: String,
}

fn snapshot(store: &MemoryRegistry) -> BTreeMap<String, Arc<Client>> {
    store.list().into_iter().map(|client| (client.id().to_owned(), client)).collect()
}

fn check_client(client: &Client, words: &str) {
    let metadata = client.to_metadata();
    assert_eq!(&Client::from_metadata(metadata).expect("legal when it is read back"), client);
    assert!(client.is_dynamic() && client.redirect_uris().len() <= 32);
    assert!(!client.is_trusted() && client.status() == ClientStatus::Active && client.expires_at().is_none());
    for uri in client.redirect_uris() {
        let uri = uri.as_str();
        assert!(is_registrable_by_strangers(uri), "{uri}");
        let strict = fluent_uri::Uri::parse(uri).expect("an RFC 3986 URI");
        let is_web = matches!(strict.scheme().as_str(), "http" | "https");
        let host = strict.authority().map(|authority| authority.host());
        if is_web {
            assert_eq!(url::Url::parse(uri).expect("a URL").host_str(), host);
        }
        let has = |word: &str| words.split(' ').any(|it| it == word);
        assert!(!has("hosts") || !is_web || matches!(host, Some("app.example" | "localhost")), "{uri}");
        let scheme = strict.scheme().as_str().to_lowercase();
        assert!(!has("schemes") || matches!(&*scheme, "https" | "com.example.app"), "{uri}");
    }
    let any = words.split(' ').any(|word| word == "any");
    match client.allowed_scopes() {
        None => {}
        Some(AllowedScopes::All) => assert!(any),
        Some(AllowedScopes::Listed(scopes)) => {
            let known = |scope: &str| any || ["read", "write", "openid"].contains(&scope);
            assert!(scopes.iter().all(known), "{scopes} {words}");
        }
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let mut parts = input.split(|&byte| byte == 0xFF);
    let Some(Ok(words)) = parts.next().map(std::str::from_utf8) else {
        return Corpus::Reject;
    };
    let operators = Client::builder("operators").redirect_uri("https://app.example/cb").build().expect("legal");
    let store = MemoryRegistry::from_clients([operators.clone()]);
    let service = RegistrationService::new(store.clone(), "https://as.example/register", policy(words)).expect("legal");
    let mut registered: Vec<Told> = Vec::new();

    for text in parts.take(MOST_REQUESTS) {
        let Ok(text) = std::str::from_utf8(text) else {
            return Corpus::Reject;
        };
        let mut text = text.to_owned();
        for (number, told) in registered.iter().enumerate() {
            for (name, value) in [("id", &told.id), ("token", &told.token), ("secret", &told.secret)] {
                text = text.replace(&format!("{{{name}{number}}}"), value);
            }
        }
        let (line, body) = text.split_once('\n').unwrap_or((&text, ""));
        let mut line = line.splitn(4, ' ');
        let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let (token, content_type) = (line.next().unwrap_or_default(), line.next().unwrap_or("application/json"));
        let mut request = Request::builder().method(method).uri(path).header("content-type", content_type);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let Ok(request) = request.body(Full::<Bytes>::from(body.to_owned())) else {
            return Corpus::Reject;
        };
        let path = request.uri().path().to_owned();

        let before = snapshot(&store);
        let answer = service.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
        let after = snapshot(&store);
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        assert!(STATUSES.contains(&status), "{status}");
        for (name, value) in [("cache-control", "no-store"), ("pragma", "no-cache")] {
            assert!(head.headers.get_all(name).iter().eq([value]), "{name}: {:?}", head.headers);
        }
        let body = body.collect().now_or_never().expect("nothing waits").expect("infallible").to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };

        assert_eq!(*after["operators"], operators);
        assert_eq!(store.origin("operators"), Some(ClientOrigin::Configured));
        for (id, client) in after.iter().filter(|(id, _)| *id != "operators") {
            assert_eq!(store.origin(id), Some(ClientOrigin::Registered));
            check_client(client, words);
        }
        if !matches!(status, 200 | 201 | 204 | 503) {
            assert_eq!(before, after, "a refused request changed something");
            let description = body["error_description"].as_str().unwrap_or_default();
            assert!(body["error"].is_string(), "{body}");
            assert!(description.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E)));
            continue;
        }
        let id = match status {
            200 | 201 => body["client_id"].as_str().expect("an id").to_owned(),
            _ => {
                let last = path.rsplit('/').next().unwrap_or_default();
                registered.iter().find(|told| told.id == last).map(|told| told.id.clone()).unwrap_or_default()
            }
        };
        for name in body.as_object().into_iter().flat_map(|members| members.keys()) {
            let internal = ["registration_shared", "registration_granted", "registration_source", "dynamic", "trusted"];
            assert!(!name.ends_with("_sha256") && !internal.contains(&name.as_str()), "{body}");
        }
        let others = |clients: &BTreeMap<String, Arc<Client>>| {
            clients.iter().filter(|(other, _)| **other != id).map(|(_, client)| Arc::clone(client)).collect::<Vec<_>>()
        };
        // The most that may be there can push others out.
        if status != 201 && status != 503 {
            assert_eq!(others(&before), others(&after), "another client was changed");
            let told = registered.iter().rev().find(|told| told.id == id).expect("only who registered is let in");
            assert_eq!(told.token, token.trim_matches('\t'), "only the last token is let in");
        }
        if status == 201 {
            assert_eq!(method, "POST");
            let is_reused = words.split(' ').any(|word| word == "reuse");
            assert!(!before.contains_key(&id) || is_reused, "{id} was there");
            assert!(others(&after).iter().all(|other| before.get(other.id()) == Some(other)));
        }
        if let (Some(token), true) = (body["registration_access_token"].as_str(), matches!(status, 200 | 201)) {
            let kept = Value::from(after[&id].to_metadata()).to_string();
            assert!(!kept.contains(token), "the token is kept in the clear");
            let secret = body["client_secret"].as_str().unwrap_or_default();
            assert!(secret.is_empty() || !kept.contains(secret), "the secret is kept in the clear");
            let token = token.to_owned();
            let mut told = Told { id: id.clone(), token, secret: secret.to_owned() };
            for earlier in registered.iter_mut().filter(|earlier| earlier.id == id) {
                if told.secret.is_empty() {
                    told.secret.clone_from(&earlier.secret);
                }
                earlier.token.clone_from(&told.token);
            }
            registered.push(told);
        }
        if status == 204 {
            assert_eq!(method, "DELETE");
            for told in registered.iter_mut().filter(|told| told.id == id) {
                told.token = "gone".to_owned();
            }
        }
    }
    Corpus::Keep
});
