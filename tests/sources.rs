//! Sources of clients, and how the layer treats their answers.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AllowedScopes, CheckError, Client, ClientOrigin, ClientStatus, ClientValidationLayer, Environment,
    EnvironmentRegistry, MemoryRegistry, Reason, RedirectUriMismatch, RegisterError, RegistryError, RegistrySource,
    Rejection, ServiceRegistry, StoreError, WellKnownClient, registry_fn,
};

use crate::fixture::{self, ACCEPTED, CALLBACK, Found, text};

fn client(id: &str) -> Client {
    Client::builder(id).confidential().redirect_uri(CALLBACK).scope("read write").build().unwrap()
}

fn named(id: &str, name: &str) -> Client {
    client(id).to_builder().name(name).build().unwrap()
}

async fn name_in(source: &impl RegistrySource<Future: Sized>, id: &str) -> Option<String> {
    source.find_client(id).await.unwrap().and_then(|client| client.name().map(str::to_owned))
}

/// What the layer answers to a request of the client `app`.
async fn answer(registry: impl RegistrySource) -> Response<Full<Bytes>> {
    let inner = service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, BoxError>(Response::new(Full::from("in"))) });
    ClientValidationLayer::new(registry).layer(inner).oneshot(fixture::get(ACCEPTED)).await.unwrap()
}

mod memory {
    use super::*;

    #[tokio::test]
    async fn finds_lists_and_counts() {
        let registry: MemoryRegistry = ["b", "a", "C", "a b"].map(client).into_iter().collect();
        assert_eq!((registry.len(), registry.is_empty()), (4, false));
        assert!(MemoryRegistry::new().is_empty());
        let ids: Vec<_> = registry.list().iter().map(|client| client.id().to_owned()).collect();
        assert_eq!(ids, ["C", "a", "a b", "b"]);
        assert_eq!(registry.get("a").as_deref(), Some(&client("a")));
        assert!(registry.get("A").is_none() && registry.get("").is_none());
        assert_eq!(registry.origin("a"), Some(ClientOrigin::Configured));
        assert_eq!(registry.origin("x"), None);
        assert!(registry.find_client("a").await.unwrap().is_some());
    }

    #[test]
    fn the_later_of_two_clients_with_the_same_id_is_kept() {
        let registry = MemoryRegistry::from_clients([named("a", "first"), named("a", "second")]);
        assert_eq!((registry.len(), registry.get("a").unwrap().name()), (1, Some("second")));
    }

    #[test]
    fn an_id_is_inserted_once() {
        let registry = MemoryRegistry::new();
        assert_eq!(registry.insert(named("a", "first")).unwrap().name(), Some("first"));
        assert!(matches!(registry.insert(named("a", "second")), Err(StoreError::AlreadyExists)));
        assert_eq!(registry.get("a").unwrap().name(), Some("first"));
    }

    #[tokio::test]
    async fn replacing_replaces_the_whole_client() {
        let registry = MemoryRegistry::from_clients([client("app")]);
        assert_eq!(answer(registry.clone()).await.status(), 200);
        assert!(matches!(registry.replace(client("other")), Err(StoreError::Missing)));
        assert_eq!(registry.len(), 1);
        let narrower = client("app").to_builder().scope("write").build().unwrap();
        assert_eq!(*registry.replace(narrower.clone()).unwrap(), client("app"));
        assert_eq!(registry.get("app").as_deref(), Some(&narrower));
        assert_eq!(*registry.list()[0], narrower);
        assert_eq!(answer(registry).await.status(), 302);
    }

    #[tokio::test]
    async fn revoking_is_permanent() {
        let registry = MemoryRegistry::from_clients([client("app")]);
        assert_eq!(registry.revoke("nobody"), None);
        assert_eq!(registry.revoke("app").unwrap().status(), ClientStatus::Active);
        assert_eq!(registry.get("app").unwrap().status(), ClientStatus::Revoked);
        assert_eq!(answer(registry.clone()).await.status(), 400);
        assert!(matches!(registry.insert(client("app")), Err(StoreError::AlreadyExists)));
        assert!(matches!(registry.replace(client("app")), Err(StoreError::Missing)));
        assert_eq!(registry.get("app").unwrap().status(), ClientStatus::Revoked);
    }

    #[test]
    fn removing_frees_the_id() {
        let registry = MemoryRegistry::from_clients([client("a")]);
        assert_eq!(registry.remove("a").as_deref(), Some(&client("a")));
        assert_eq!(registry.remove("a"), None);
        registry.insert(named("a", "another")).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn replacing_all_is_one_step_for_readers() {
        let generation = |name: &str| ["a", "b"].map(|id| named(id, name));
        let registry = MemoryRegistry::from_clients(generation("0"));
        registry.revoke("a").unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let reader = tokio::task::spawn_blocking({
            let (registry, done) = (registry.clone(), Arc::clone(&done));
            move || {
                let mut reads = 0_u32;
                while !done.load(Ordering::Acquire) || reads == 0 {
                    let names: Vec<_> =
                        registry.list().iter().map(|client| client.name().unwrap().to_owned()).collect();
                    assert_eq!(names.len(), 2);
                    assert_eq!(names[0], names[1], "a reader saw two generations");
                    assert!(registry.get("b").is_some());
                    reads += 1;
                }
            }
        });
        for round in 1..=500 {
            registry.replace_all(generation(&round.to_string()));
        }
        done.store(true, Ordering::Release);
        reader.await.unwrap();
        assert_eq!(registry.get("a").unwrap().name(), Some("500"));
        registry.replace_all([client("c")]);
        assert!(registry.get("a").is_none());
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn clones_share_the_clients() {
        let one = MemoryRegistry::new();
        let two = one.clone();
        one.insert(client("a")).unwrap();
        two.insert(client("b")).unwrap();
        assert_eq!(two.len(), 2);
        two.replace_all([client("c")]);
        assert!(one.get("c").is_some());
        assert_eq!(one.len(), 1);
    }
}

mod environment {
    use super::*;

    fn parse(clients: &str) -> Environment {
        Environment::parse(Some(clients), None)
    }

    fn only(clients: &str) -> Client {
        let environment = parse(clients);
        assert!(environment.warnings().is_empty(), "{:?}", environment.warnings());
        let [client] = environment.clients() else { panic!("{:?}", environment.clients()) };
        client.clone()
    }

    fn uris(client: &Client) -> Vec<&str> {
        client.redirect_uris().iter().map(tower_oauth_client_validation::RedirectUri::as_str).collect()
    }

    fn registry(clients: &str, enable_dcr: bool) -> EnvironmentRegistry {
        Environment::parse(Some(clients), enable_dcr.then_some("true")).into()
    }

    #[tokio::test]
    async fn dynamic_registration_must_be_enabled() {
        let closed = registry("old", false);
        assert_eq!(closed.register(client("new")), Err(RegisterError::RegistrationDisabled));
        assert_eq!(closed.register(client("old")), Err(RegisterError::RegistrationDisabled));
        assert!(closed.clients().get("new").is_none());

        let open = registry("old", true);
        assert!(open.register(client("new")).unwrap().is_dynamic());
        assert_eq!(open.clients().origin("new"), Some(ClientOrigin::Registered));
        assert_eq!(open.register(client("new")), Err(RegisterError::AlreadyExists));
        assert_eq!(open.register(client("old")), Err(RegisterError::AlreadyExists));
        assert_eq!(open.clients().get("old").unwrap().name(), Some("Old"));
        assert!(open.find_client("new").await.unwrap().is_some());
        open.clients().revoke("new").unwrap();
        assert_eq!(open.register(client("new")), Err(RegisterError::AlreadyExists));
        let full = registry("old", true);
        let _ = full.clients().clone().max_bytes(1);
        assert_eq!(full.register(client("new")), Err(RegisterError::Full));
        assert_eq!(RegisterError::AlreadyExists.to_string(), "a client with this id exists");
        assert_eq!(RegisterError::RegistrationDisabled.to_string(), "dynamic registration is disabled");
    }

    #[test]
    fn an_upstream_registers_with_defaults() {
        let registry = registry("", false);
        let none: [&str; 0] = [];
        let defaulted = registry.register_for_upstream("0123456789abcdef", none, None).unwrap();
        assert_eq!(defaulted.name(), Some("DCR-01234567"));
        assert_eq!(defaulted.allowed_scopes(), Some(&AllowedScopes::All));
        assert_eq!(uris(&defaulted), Environment::DEFAULT_REDIRECT_URIS);
        assert_eq!(uris(&defaulted), ["http://localhost:*", "http://127.0.0.1:*"]);
        assert_eq!(registry.clients().origin("0123456789abcdef"), Some(ClientOrigin::Upstream));
        assert_eq!(registry.register_for_upstream("short", none, None).unwrap().name(), Some("DCR-short"));

        let given = registry.register_for_upstream("given", [CALLBACK], Some("Given")).unwrap();
        assert_eq!((given.name(), uris(&given)), (Some("Given"), vec![CALLBACK]));
    }

    #[tokio::test]
    async fn an_upstream_replaces_its_own_clients_only() {
        for origin in [ClientOrigin::Configured, ClientOrigin::Upstream, ClientOrigin::Registered] {
            for status in [ClientStatus::Active, ClientStatus::Disabled, ClientStatus::Revoked] {
                let registry = registry("", true);
                let known = client("app").to_builder().trusted(true).status(status).build().unwrap();
                let known = tower_oauth_client_validation::RegistryStore::insert(registry.clients(), known, origin)
                    .await
                    .unwrap();
                let answer = registry.register_for_upstream("app", ["https://b.example/cb"], Some("two"));
                if (origin, status) == (ClientOrigin::Upstream, ClientStatus::Active) {
                    let replaced = answer.unwrap();
                    assert_eq!((replaced.name(), uris(&replaced)), (Some("two"), vec!["https://b.example/cb"]));
                    assert!(!replaced.is_trusted(), "the trust was in the old redirect URIs");
                } else {
                    assert_eq!(answer, Err(RegisterError::AlreadyExists));
                    assert_eq!(registry.clients().get("app").unwrap(), known);
                }
            }
        }
        let registry = registry("", false);
        let refused = registry.register_for_upstream("theirs", ["https://b.example/#"], None).unwrap_err();
        assert!(matches!(refused, RegisterError::Client(_)), "{refused}");
        assert!(registry.clients().is_empty());
    }

    #[test]
    fn checks_without_http() {
        let registry = registry("", false);
        registry.clients().replace_all([
            client("a"),
            client("off").to_builder().disabled(true).build().unwrap(),
            client("old")
                .to_builder()
                .expires_at(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1))
                .build()
                .unwrap(),
            Client::builder("all").redirect_uri("http://localhost:*").scope("*").build().unwrap(),
            Client::builder("bare").build().unwrap(),
        ]);
        let check = |id, uri, scope| registry.check(id, uri, scope).map(|client| client.id().to_owned());
        assert_eq!(check("a", None, None).as_deref(), Ok("a"));
        assert_eq!(check("a", Some(CALLBACK), Some("read write")).as_deref(), Ok("a"));
        assert_eq!(check("x", None, None), Err(CheckError::ClientUnknown));
        assert_eq!(check("off", None, None), Err(CheckError::ClientInactive));
        assert_eq!(check("old", None, None), Err(CheckError::ClientInactive));
        for uri in [
            "https://app.example/cb/",
            "https://app.example:443/cb",
            "HTTPS://app.example/cb",
            "https://app.example/cb#",
        ] {
            assert!(matches!(check("a", Some(uri), None), Err(CheckError::RedirectUri(_))), "{uri}");
        }
        let malformed = check("a", Some("https://app.example/cb#x"), None).unwrap_err();
        assert!(matches!(malformed, CheckError::RedirectUri(RedirectUriMismatch::Malformed(_))));
        for scope in ["admin", "Read", "read  write", "", " ", "*"] {
            assert_eq!(check("a", None, Some(scope)), Err(CheckError::Scope), "{scope:?}");
        }
        assert!(check("all", Some("http://localhost:9/x?y"), Some("anything at all")).is_ok());
        assert_eq!(check("all", None, Some("*")), Err(CheckError::Scope));
        assert_eq!(check("bare", None, Some("read")), Err(CheckError::Scope));
    }

    #[test]
    fn an_id_without_uris_gets_the_defaults() {
        let client = only("my-client");
        assert_eq!((client.id(), client.name()), ("my-client", Some("My Client")));
        assert_eq!(uris(&client), ["http://localhost:*", "http://127.0.0.1:*"]);
        assert_eq!(client.allowed_scopes().unwrap().as_str(), "openid profile email mcp-server:api");
    }

    #[test]
    fn uris_follow_the_id() {
        let client = only("web|https://a.example/cb|com.example.app:/cb");
        assert_eq!(uris(&client), ["https://a.example/cb", "com.example.app:/cb"]);
        assert_eq!(client.allowed_scopes().unwrap().as_str(), "openid profile email mcp-server:api");
    }

    #[test]
    fn white_space_is_trimmed_and_empty_entries_are_skipped() {
        let environment = parse(" , a ,, b | https://b.example/cb |\thttps://c.example/cb ,\n,");
        assert!(environment.warnings().is_empty(), "{:?}", environment.warnings());
        let ids: Vec<_> = environment.clients().iter().map(Client::id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(uris(&environment.clients()[1]), ["https://b.example/cb", "https://c.example/cb"]);
    }

    #[test]
    fn malformed_entries_are_named_and_left_out() {
        for (entry, told) in [
            ("|https://a.example/cb", "client id"),
            ("a|", "empty redirect URI"),
            ("a||https://a.example/cb", "empty redirect URI"),
            ("a|https://a.example/cb|", "empty redirect URI"),
            ("a|https://a.example/cb#x", "fragment"),
            ("a|http://a.example/cb", "http"),
            ("a|/cb", "redirect_uris[0]"),
            ("a|https://ok.example/|https://*.example/", "redirect_uris[1]"),
            ("\u{e4}", "client_id"),
            ("a\u{1}b", "client_id"),
        ] {
            let environment = parse(&format!("good, {entry} ,better|https://b.example/"));
            let ids: Vec<_> = environment.clients().iter().map(Client::id).collect();
            assert_eq!(ids, ["good", "better"], "{entry:?}");
            let [warning] = environment.warnings() else { panic!("{entry:?}: {:?}", environment.warnings()) };
            assert_eq!(warning.entry(), Some(entry));
            let text = warning.to_string();
            assert!(text.contains(told) && text.contains(&format!("{entry:?}")) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn the_first_of_two_entries_is_kept() {
        let environment = parse("a|https://first.example/,a|https://second.example/");
        assert_eq!(environment.clients().len(), 1);
        assert_eq!(uris(&environment.clients()[0]), ["https://first.example/"]);
        assert_eq!(environment.warnings()[0].entry(), Some("a|https://second.example/"));
    }

    #[test]
    fn an_unset_or_empty_variable_gives_an_empty_registry_and_a_warning() {
        for value in [None, Some(""), Some(" , ,")] {
            let environment = Environment::parse(value, None);
            let [warning] = environment.warnings() else { panic!("{:?}", environment.warnings()) };
            assert_eq!(warning.entry(), None);
            assert!(warning.to_string().contains("no client"));
            assert!(environment.into_registry().is_empty());
        }
        // If nothing valid is left, both are reported.
        assert_eq!(parse("|x").warnings().len(), 2);
    }

    #[test]
    fn display_names() {
        for (id, name) in [
            ("claude-desktop", "Claude Desktop"),
            ("continue-dev", "Continue IDE Extension"),
            ("zed-editor", "Zed Editor"),
            ("vscode-mcp", "VS Code MCP Extension"),
            ("test-mcp-client", "Test MCP Client"),
            ("other", "Other"),
            ("my-OWN-tool", "My Own Tool"),
            ("Claude-Desktop", "Claude Desktop"),
            ("a1b-2c", "A1B 2C"),
            ("snake_case.dot", "Snake_Case.Dot"),
        ] {
            assert_eq!(only(id).name(), Some(name), "{id}");
        }
    }

    #[test]
    fn enable_dcr() {
        for (value, on) in [
            (Some("true"), true),
            (Some("TRUE"), true),
            (Some(" True "), true),
            (Some("false"), false),
            (Some("1"), false),
            (Some("yes"), false),
            (Some(""), false),
            (None, false),
        ] {
            let environment = Environment::parse(Some("a"), value);
            assert_eq!(environment.dynamic_registration(), on, "{value:?}");
            assert_eq!(EnvironmentRegistry::from(environment).register(client("new")).is_ok(), on, "{value:?}");
        }
    }

    #[test]
    fn well_known_clients_must_be_asked_for() {
        let ids = |environment: &Environment| -> Vec<_> {
            environment.clients().iter().map(|client| client.id().to_owned()).collect()
        };
        assert_eq!(ids(&Environment::parse(None, None)), [""; 0]);
        let one = Environment::parse(None, None).with_well_known([WellKnownClient::ClaudeDesktop]);
        assert_eq!(ids(&one), ["claude-desktop"]);
        assert_eq!(one.clients()[0], only("claude-desktop"));
        let both = parse("claude-desktop|https://mine.example/")
            .with_well_known([WellKnownClient::ClaudeDesktop, WellKnownClient::TestMcpClient]);
        assert_eq!(ids(&both), ["claude-desktop", "test-mcp-client"]);
        assert_eq!(uris(&both.clients()[0]), ["https://mine.example/"]);
        assert_eq!(both.clients()[1].name(), Some("Test MCP Client"));
    }
}

mod chain {
    use super::*;

    fn failing(error: RegistryError) -> impl RegistrySource<Future: Send> {
        registry_fn(move |_| {
            let error = error.clone();
            async { Err(error) }
        })
    }

    #[tokio::test]
    async fn the_first_source_that_knows_the_client_answers() {
        let first = MemoryRegistry::from_clients([named("a", "first")]);
        let second = MemoryRegistry::from_clients([named("a", "second"), named("b", "second")]);
        let third = MemoryRegistry::from_clients([named("b", "third"), named("c", "third")]);
        let chain = first.clone().or(second).or(third);
        assert_eq!(name_in(&chain, "a").await.as_deref(), Some("first"));
        assert_eq!(name_in(&chain, "b").await.as_deref(), Some("second"));
        assert_eq!(name_in(&chain, "c").await.as_deref(), Some("third"));
        assert!(chain.find_client("d").await.unwrap().is_none());
        // A revoked client of the first must not turn into one of the second.
        first.revoke("a").unwrap();
        let found = chain.find_client("a").await.unwrap().unwrap();
        assert_eq!((found.name(), found.status()), (Some("first"), ClientStatus::Revoked));
    }

    #[tokio::test]
    async fn a_failure_of_the_first_fails_the_lookup() {
        let chain = failing(RegistryError::transient("down")).or(MemoryRegistry::from_clients([client("app")]));
        assert!(chain.find_client("app").await.unwrap_err().is_transient());
        assert_eq!(answer(chain).await.status(), 503);
        let chain = failing(RegistryError::permanent("broken")).or(MemoryRegistry::from_clients([client("app")]));
        assert!(!chain.find_client("app").await.unwrap_err().is_transient());
        assert_eq!(answer(chain).await.status(), 500);
    }

    #[tokio::test]
    async fn a_failure_of_the_second_matters_only_if_it_is_asked() {
        let chain = MemoryRegistry::from_clients([client("app")]).or(failing(RegistryError::transient("down")));
        assert!(chain.find_client("app").await.unwrap().is_some());
        assert!(chain.find_client("other").await.is_err());
    }

    #[tokio::test]
    async fn the_second_is_not_asked_for_what_the_first_knows() {
        let (second, mut lookups) = fixture::held_registry();
        let chain = MemoryRegistry::from_clients([client("app")]).or(second);
        assert!(chain.find_client("app").await.unwrap().is_some());
        assert!(lookups.try_recv().is_err());
        let mut asking = tokio_test::task::spawn(chain.find_client("odd id&"));
        assert!(asking.poll().is_pending());
        assert_eq!(lookups.try_recv().unwrap().client_id, "odd id&");
    }
}

#[cfg(feature = "file")]
mod file {
    use tower_oauth_client_validation::FileRegistry;

    use super::*;

    /// The error for a file of this text, without the folder.
    fn error(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.json");
        std::fs::write(&path, text).unwrap();
        let error = FileRegistry::load(&path).unwrap_err();
        assert_eq!(error.path(), path);
        let told = error.to_string();
        assert!(!told.contains('\n'), "{told}");
        told.strip_prefix(&format!("{}/", folder.path().display())).unwrap().to_owned()
    }

    fn load(text: &str) -> FileRegistry {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        FileRegistry::load(file.path()).unwrap()
    }

    const TWO: &str = r#"
        { "client_id": "b", "redirect_uris": ["https://b.example/cb"], "scope": "read", "contacts": ["x"] },
        { "client_id": "a" }"#;

    #[tokio::test]
    async fn both_shapes_load() {
        for text in [format!("[{TWO}]"), format!(r#"{{"comment": 1, "clients": [{TWO}], "more": {{}}}}"#)] {
            let registry = load(&text);
            let ids: Vec<_> = registry.clients().iter().map(|client| client.id().to_owned()).collect();
            assert_eq!(ids, ["a", "b"]);
            let found = registry.find_client("b").await.unwrap().unwrap();
            assert_eq!(found.redirect_uris()[0].as_str(), "https://b.example/cb");
            assert_eq!(found.metadata().unwrap()["contacts"][0], "x");
            assert!(registry.find_client("c").await.unwrap().is_none());
        }
        assert!(load("[]").clients().is_empty());
        assert!(load(r#"{"clients":[]}"#).clients().is_empty());
    }

    #[test]
    fn an_invalid_entry_is_reported_in_one_line_with_its_position() {
        let entry = |entry: &str| error(&format!("[\n  {{ \"client_id\": \"ok\" }},\n  {entry}\n]"));
        assert_eq!(
            entry(r#"{ "client_id": "app", "redirect_uris": ["https://a.example/", "https://a.example/#x"] }"#),
            r#"clients.json:3:3: client "app": redirect_uris[1]: a fragment is not allowed (at byte 18)"#,
        );
        assert_eq!(entry("{}"), "clients.json:3:3: client_id: missing");
        assert_eq!(entry("7"), "clients.json:3:3: client metadata must be a JSON object");
        assert_eq!(entry(r#"{ "client_id": 7 }"#), "clients.json:3:3: client_id: must be a string");
        assert_eq!(
            entry(r#"{ "client_id": "app", "redirect_uris": "https://a.example/" }"#),
            r#"clients.json:3:3: client "app": redirect_uris: must be an array of strings"#,
        );
        assert_eq!(
            entry(r#"{ "client_id": "two\nlines\u00e4" }"#),
            r#"clients.json:3:3: client "two\nlinesä": client_id: must be printable ASCII and not empty"#,
        );
        assert!(
            entry(r#"{ "client_id": "app", "scope": "a\"b" }"#)
                .starts_with(r#"clients.json:3:3: client "app": scope: "#)
        );
    }

    #[test]
    fn the_column_counts_characters() {
        assert_eq!(error(r#"[{"client_id":"ä"}]"#).split(' ').next(), Some("clients.json:1:2:"));
        let second = "[{\"client_id\":\"a\",\"client_name\":\"\u{e4}\u{1F980}\"},{}]";
        assert_eq!(error(second).split(' ').next(), Some("clients.json:1:39:"));
    }

    #[test]
    fn two_entries_with_one_id_are_an_error() {
        let twice = "[\n{\"client_id\":\"a\"},\n{\"client_id\":\"b\"},\n {\"client_id\":\"a\"}\n]";
        assert_eq!(error(twice), r#"clients.json:4:2: client "a": client_id is repeated"#);
        assert_eq!(
            error(&format!("{{\"clients\": {twice}}}")),
            r#"clients.json:4:2: client "a": client_id is repeated"#,
        );
    }

    #[test]
    fn broken_json_is_reported_in_one_line_with_its_position() {
        for (text, place) in [
            ("", "clients.json:1:1: "),
            ("[\n{\"client_id\":\"a\"},\n]", "clients.json:3:1: "),
            ("[\n{\"client_id\": a}\n]", "clients.json:2:15: "),
            ("[{\"client_id\":\"a\"}", "clients.json:1:18: "),
            ("{\"clients\": [}", "clients.json:1:14: "),
            ("[]\n[]", "clients.json:2:1: "),
            ("\"text\"", "clients.json:1:6: "),
        ] {
            let told = error(text);
            assert!(told.starts_with(place), "{text:?}: {told}");
        }
    }

    #[test]
    fn an_object_without_clients_says_what_it_must_be() {
        for (text, place) in [
            ("{}", "clients.json:1:1: "),
            ("{\"client_id\":\"a\"}", "clients.json:1:1: "),
            ("{\n\"clients\": {}}", "clients.json:2:12: "),
            ("{\n\"clients\": null}", "clients.json:2:12: "),
        ] {
            assert_eq!(
                error(text),
                format!("{place}must be an array of clients, or an object with an array `clients`")
            );
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.json");
        let error = FileRegistry::load(&missing).unwrap_err();
        assert_eq!(error.position(), None);
        assert!(error.to_string().starts_with(&format!("{}: ", missing.display())));
        assert_eq!(error.source().unwrap().downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(FileRegistry::load(folder.path()).is_err());
        let latin = folder.path().join("latin.json");
        std::fs::write(&latin, b"[\"\xe4\"]").unwrap();
        assert!(!FileRegistry::load(&latin).unwrap_err().to_string().contains('\n'));
    }
}

mod service {
    use super::*;

    #[tokio::test]
    async fn a_source_is_a_service_and_back() {
        let service = MemoryRegistry::from_clients([client("app")]).into_service();
        assert_eq!(service.clone().oneshot("app".to_owned()).await.unwrap().as_deref(), Some(&client("app")));
        let back = ServiceRegistry::new(service);
        assert!(back.find_client("app").await.unwrap().is_some());
        assert!(back.find_client("other").await.unwrap().is_none());
        assert_eq!(answer(back).await.status(), 200);
    }

    #[tokio::test]
    async fn registry_errors_pass_through_a_service_unchanged() {
        for transient in [true, false] {
            let service = service_fn(move |_: String| async move {
                let error = io::Error::other("the cause");
                let error = if transient { RegistryError::transient(error) } else { RegistryError::permanent(error) };
                Err::<Option<Arc<Client>>, BoxError>(error.into())
            });
            let error = ServiceRegistry::new(service).find_client("app").await.unwrap_err();
            assert_eq!(error.is_transient(), transient);
            assert_eq!(error.source().unwrap().to_string(), "the cause");
        }
    }

    #[tokio::test]
    async fn any_other_error_is_transient_and_kept_as_the_cause() {
        let service = service_fn(|_: String| async { Err::<Option<Arc<Client>>, _>(io::Error::other("the cause")) });
        let error = ServiceRegistry::new(service).find_client("app").await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(error.source().unwrap().downcast_ref::<io::Error>().unwrap().to_string(), "the cause");
        // In `poll_ready`, too.
        let (mock, mut handle) = tower_test::mock::pair::<String, Option<Arc<Client>>>();
        handle.send_error(io::Error::other("not ready"));
        let error = ServiceRegistry::new(mock).find_client("app").await.unwrap_err();
        assert_eq!(error.source().unwrap().to_string(), "not ready");
    }
}

mod answers {
    use super::*;

    fn source(found: impl Fn(String) -> Found + Send + Sync + 'static) -> impl RegistrySource<Future: Send> {
        registry_fn(move |id| std::future::ready(found(id)))
    }

    fn reason<B>(response: &Response<B>) -> Reason {
        response.extensions().get::<Rejection>().unwrap().reason()
    }

    #[tokio::test]
    async fn transient_failures_are_503_with_retry_after() {
        for error in [RegistryError::transient("secret host down"), RegistryError::client_hosted("secret host down")] {
            let response = answer(source(move |_| Err(error.clone()))).await;
            assert_eq!(
                (response.status(), reason(&response)),
                (http::StatusCode::SERVICE_UNAVAILABLE, Reason::REGISTRY_UNAVAILABLE)
            );
            assert_eq!(response.headers()[header::RETRY_AFTER], "5");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            let body = text(response).await;
            assert!(body.contains(r#""error":"temporarily_unavailable""#) && !body.contains("secret"), "{body}");
        }
    }

    #[tokio::test]
    async fn permanent_failures_are_500() {
        let response = answer(source(|_| Err(RegistryError::permanent("secret password wrong")))).await;
        assert_eq!(
            (response.status(), reason(&response)),
            (http::StatusCode::INTERNAL_SERVER_ERROR, Reason::REGISTRY_FAULT)
        );
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
        let body = text(response).await;
        assert!(body.contains(r#""error":"server_error""#) && !body.contains("secret"), "{body}");
    }

    #[tokio::test]
    async fn a_client_of_another_id_is_a_fault_of_the_source() {
        for wrong in ["App", "app ", "ap", "app2"] {
            let response = answer(source(|_| Ok(Some(client(wrong).into())))).await;
            assert_eq!(
                (response.status(), reason(&response)),
                (http::StatusCode::INTERNAL_SERVER_ERROR, Reason::CLIENT_ID_MISMATCH)
            );
            assert!(text(response).await.contains(r#""error":"server_error""#));
        }
    }

    #[test]
    fn the_cause_of_an_error_is_kept() {
        for (error, is_transient, is_client_hosted) in [
            (RegistryError::transient(io::Error::other("cause")), true, false),
            (RegistryError::client_hosted(io::Error::other("cause")), true, true),
            (RegistryError::permanent(io::Error::other("cause")), false, false),
        ] {
            assert_eq!((error.is_transient(), error.is_client_hosted()), (is_transient, is_client_hosted));
            assert!(error.source().unwrap().is::<io::Error>());
            assert_eq!(error.clone().source().unwrap().to_string(), "cause");
            assert!(!error.to_string().contains("cause"), "the message is for strangers' eyes");
        }
        assert_eq!(RegistryError::transient("text").source().unwrap().to_string(), "text");
    }

    #[tokio::test]
    async fn an_arc_of_a_source_is_a_source() {
        let shared = Arc::new(MemoryRegistry::from_clients([client("app")]));
        assert_eq!(answer(Arc::clone(&shared)).await.status(), 200);
        shared.revoke("app").unwrap();
        assert_eq!(answer(shared).await.status(), 400);
    }

    #[tokio::test]
    async fn a_source_is_asked_for_the_decoded_id() {
        let (registry, mut lookups) = fixture::held_registry();
        let inner =
            service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())) });
        let service = ClientValidationLayer::new(registry).layer(inner);
        let mut asking = tokio_test::task::spawn(service.oneshot(fixture::get("client_id=%7ea+b%26%2F")));
        assert!(asking.poll().is_pending());
        assert_eq!(lookups.try_recv().unwrap().client_id, "~a b&/");
    }
}
