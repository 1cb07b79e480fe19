//! The example `clients`.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tower_oauth_client_validation::{RegistryStore, SqliteRegistry, StoreError};

use super::http::{form, get, post};
use super::postgres_cluster::Cluster;
use super::process::{BOUND, Running, command, program};

pub(super) struct Done {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Done {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).map_err(|error| format!("{error} in {}{}", self.out, self.err)).unwrap()
    }
}

/// Runs the tool on a registry.
pub(super) async fn clients(registry: &str, args: &[&str]) -> Done {
    fed(registry, args, "", &[]).await
}

async fn fed(registry: &str, args: &[&str], input: &str, variables: &[(&str, &str)]) -> Done {
    let mut command = command("clients", &[&["--registry", registry], args].concat());
    command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = tokio::time::timeout(BOUND, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(super) fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("clients.db").display())
}

/// Everything that an operator does, on an empty store.
async fn looks_after_clients(url: &str) {
    let done = async |args: &[&str]| {
        let done = clients(url, args).await;
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.err);
        done
    };
    let refused = async |args: &[&str]| {
        let done = clients(url, args).await;
        assert_eq!((done.code, &*done.out), (Some(1), ""), "{args:?}");
        assert!(done.err.contains("\"app\""), "{}", done.err);
    };
    let metadata = r#"{"client_secret": "s3cr3t", "logo_uri": "https://app.example/logo.png", "client_name": "Other"}"#;
    let uris = ["--redirect-uri", "https://app.example/cb", "--redirect-uri", "http://127.0.0.1/cb"];
    let add = ["add", "--id", "app", "--name", "App \u{1b}[31m", "--scope", "a b", "--metadata", metadata];
    let added = done(&[&add[..], &uris, &["--confidential"]].concat()).await;
    assert_eq!(added.out, "added app\n");
    refused(&["add", "--id", "app"]).await;
    done(&["add", "--id", "z", "--json"]).await;

    let shown = done(&["show", "app", "--json"]).await;
    assert!(!shown.out.contains("s3cr3t"));
    let shown = shown.json();
    assert_eq!((&shown["status"], &shown["origin"]), (&json!("active"), &json!("configured")));
    let stored = &shown["metadata"];
    assert_eq!(stored["client_name"], "App \u{1b}[31m");
    assert_eq!(stored["redirect_uris"], json!(["https://app.example/cb", "http://127.0.0.1/cb"]));
    assert_eq!(stored["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(stored["logo_uri"], "https://app.example/logo.png");
    let text = done(&["show", "app"]).await.out;
    assert!(text.contains("confidential") && !text.contains('\u{1b}') && !text.contains("s3cr3t"), "{text}");

    let status = async || done(&["show", "app", "--json"]).await.json()["status"].clone();
    done(&["disable", "app"]).await;
    assert_eq!(status().await, "disabled");
    done(&["enable", "app"]).await;
    assert_eq!(status().await, "active");
    assert_eq!(done(&["list", "--json"]).await.json().as_array().map(Vec::len), Some(2));
    done(&["revoke", "app"]).await;
    assert_eq!(status().await, "revoked");
    refused(&["enable", "app"]).await;
    refused(&["add", "--id", "app"]).await;
    assert!(done(&["list"]).await.out.contains("revoked"));
    done(&["remove", "app"]).await;
    for command in ["show", "disable", "enable", "revoke", "remove"] {
        refused(&[command, "app"]).await;
    }
    assert_eq!(done(&["list", "--json"]).await.json()[0]["client_id"], "z");
    done(&["remove", "z"]).await;
    assert_eq!(done(&["list", "--json"]).await.json(), json!([]));

    // More than a page.
    let lines: String = (0..1200).map(|n| format!("{{\"client_id\": \"c{n:04}\"}}\n")).collect();
    let imported = fed(url, &["import"], &lines, &[]).await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    let mut acknowledged: Vec<_> = imported.out.lines().collect();
    acknowledged.sort_unstable();
    let expected: Vec<_> = (0..1200).map(|n| format!("c{n:04}")).collect();
    assert_eq!(acknowledged, expected);
    let listed = done(&["list", "--json"]).await.json();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|client| client["client_id"].as_str().unwrap()).collect();
    assert_eq!(listed, expected);
    assert_eq!(done(&["list"]).await.out.lines().count(), 1201);

    let mixed = "{\"client_id\": \"c0001\"}\n\nnonsense\n{\"client_id\": \"new\"}\n";
    let imported = fed(url, &["import"], mixed, &[]).await;
    assert_eq!((imported.code, &*imported.out), (Some(1), "new\n"));
    assert!(imported.err.contains("line 1: ") && imported.err.contains("line 3: "), "{}", imported.err);
}

#[tokio::test]
async fn clients_in_sqlite_can_be_managed() {
    let folder = tempfile::tempdir().unwrap();
    looks_after_clients(&sqlite(folder.path())).await;
}

#[tokio::test]
async fn clients_in_postgres_can_be_managed() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    looks_after_clients(&cluster.database().await).await;
}

fn file() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.json");
    let clients = json!([
        {
            "client_id": "app", "scope": "a b",
            "redirect_uris": ["https://app.example/cb", "https://staging.app.example:8443/callback"],
        },
        { "client_id": "gone", "redirect_uris": ["https://gone.example/cb"], "revoked": true },
    ]);
    std::fs::write(&path, clients.to_string()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn a_file_can_be_read_only() {
    let (_folder, path) = file();
    let listed = clients(&path, &["list", "--json"]).await.json();
    assert_eq!((&listed[0]["client_id"], &listed[1]["status"]), (&json!("app"), &json!("revoked")));
    assert_eq!(clients(&path, &["show", "app", "--json"]).await.json()["metadata"]["scope"], "a b");
    assert_eq!(clients(&path, &["show", "nobody"]).await.code, Some(1));
    for args in [&["add", "--id", "x"][..], &["disable", "app"], &["revoke", "app"], &["remove", "app"], &["import"]] {
        let done = clients(&path, args).await;
        assert_eq!((done.code, &*done.out), (Some(2), ""), "{args:?}");
        assert!(done.err.contains("read-only"), "{}", done.err);
    }
}

#[tokio::test]
async fn a_refusal_is_explained() {
    let (_folder, path) = file();
    let cases: [(&[&str], &str, &str, &str); 9] = [
        (&["--client", "nobody"], "client_unknown", "RFC 6749 §4.1.2.1", "user_agent"),
        (&["--client", "gone"], "client_revoked", "RFC 6749 §4.1.2.1", "user_agent"),
        (&["--client", "app"], "redirect_uri_missing", "RFC 6749 §3.1.2.3", "user_agent"),
        (
            &["--client", "app", "--redirect-uri", "https://app.example/cb#top"],
            "redirect_uri_malformed",
            "RFC 6749 §3.1.2",
            "user_agent",
        ),
        (
            &["--client", "app", "--redirect-uri", "https://app.example/cb", "--scope", "a c"],
            "scope_not_allowed",
            "RFC 6749 §3.3",
            "redirect_uri",
        ),
        (
            &["--client", "app", "--redirect-uri", "https://app.example/cb", "--response-type", "token"],
            "response_type_unsupported",
            "RFC 6749 §3.1.1",
            "redirect_uri",
        ),
        (
            &["--client", "app", "--redirect-uri", "https://app.example/cb", "--profile", "oauth21"],
            "code_challenge_missing",
            "RFC 7636 §4.4.1",
            "redirect_uri",
        ),
        (
            &["https://login.example/authorize?client_id=app&client_id=app"],
            "parameter_repeated",
            "RFC 6749 §3.1",
            "user_agent",
        ),
        (&["--client", ""], "client_id_missing", "RFC 6749 §4.1.1", "user_agent"),
    ];
    for (args, reason, rule, answer) in cases {
        let done = clients(&path, &[&["check", "--json"], args].concat()).await;
        assert_eq!(done.code, Some(1), "{args:?}: {}", done.err);
        let told = done.json();
        assert_eq!(told["decision"], "refused");
        assert_eq!((&told["reason"], &told["rule"]), (&json!(reason), &json!(rule)), "{args:?}");
        assert_eq!(told["answer"], answer, "{args:?}");
    }
}

#[tokio::test]
async fn the_closest_redirect_uri_is_named() {
    let (_folder, path) = file();
    let check = ["check", "--client", "app", "--redirect-uri", "https://staging.app.example/callback/"];
    let told = clients(&path, &[&check[..], &["--json"]].concat()).await.json();
    let nearest = json!({
        "redirect_uri": "https://staging.app.example:8443/callback", "differs": ["port", "trailing_slash"],
    });
    assert_eq!(told["nearest"], nearest);
    let text = clients(&path, &check).await;
    assert_eq!(text.code, Some(1));
    for part in ["refused", "https://staging.app.example:8443/callback", "port, trailing_slash", "RFC 9700 §4.1.3"] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
}

#[tokio::test]
async fn an_accepted_request_is_reported() {
    let (_folder, path) = file();
    let check = ["check", "--client", "app", "--redirect-uri", "https://app.example/cb", "--scope", "b"];
    let done = clients(&path, &[&check[..], &["--json"]].concat()).await;
    assert_eq!((done.code, &done.json()["decision"]), (Some(0), &json!("accepted")));
    assert_eq!(done.json()["scope"], "b");

    let url = "https://login.example/authorize?response_type=code&client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcb#x";
    assert_eq!(clients(&path, &["check", url]).await.code, Some(0));
    let environment = [("ALLOWED_MCP_CLIENTS", "app|https://app.example/cb")];
    assert_eq!(fed("env", &["check", url, "--profile", "oauth2"], "", &environment).await.code, Some(0));
    assert_eq!(fed("env", &["check", url], "", &environment).await.code, Some(1), "a public client needs PKCE");
}

#[tokio::test]
async fn only_terminals_get_colors() {
    let (_folder, path) = file();
    let colored = async |variables: &[(&str, &str)]| {
        fed(&path, &["check", "--client", "nobody"], "", variables).await.out.contains('\u{1b}')
    };
    assert!(!colored(&[]).await);
    assert!(colored(&[("CLICOLOR_FORCE", "1")]).await);
    assert!(!colored(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).await);
}

#[tokio::test]
async fn a_wrong_command_line_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let cases: [(&[&str], &str); 14] = [
        (&[], "requires a subcommand"),
        (&["explode"], "explode"),
        (&["show"], "<ID>"),
        (&["show", "a", "b"], "b"),
        (&["add"], "--id"),
        (&["add", "--id", "a", "--public", "--confidential"], "--confidential"),
        (&["add", "--id", "a", "--metadata", "[1]"], "--metadata"),
        (&["add", "--id", "a", "--redirect-uri", "http://a.example/"], "redirect_uris[0]"),
        (&["check"], "--client"),
        (&["check", "--client", "a", "--profile", "oauth3"], "oauth3"),
        (&["check", "--id", "a"], "--id"),
        (&["import", "--at-once", "0"], "--at-once"),
        (&["--registry", "memory", "list"], "memory"),
        (&["list"], "clients.db does not exist"),
    ];
    for (args, named) in cases {
        let done = clients(&url, args).await;
        assert_eq!((done.code, &*done.out), (Some(2), ""), "{args:?}");
        assert!(done.err.contains(named), "{args:?}: {}", done.err);
    }
    assert!(clients(&url, &["--help"]).await.out.contains("check"));
}

/// What the tool writes, the server serves, at once; and what the server notes, the tool shows.
#[tokio::test]
async fn the_server_sees_what_the_tool_does() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let server = ["--listen", "127.0.0.1:0", "--profile", "oauth2", "--auto-approve", "--registry", &url];
    let server = Running::start("authorization_server", &server).await;
    assert_eq!(clients(&url, &["list", "--json"]).await.json(), json!([]), "a store of one's own begins empty");
    clients(&url, &["add", "--id", "app", "--redirect-uri", "https://app.example/cb"]).await;

    let authorize = server.url(&format!("/authorize?{}", form(&[("response_type", "code"), ("client_id", "app")])));
    let code = get(&authorize).await.redirect()["code"].clone();
    let last_use = async || clients(&url, &["show", "app", "--json"]).await.json()["last_used_at"].clone();
    assert_eq!(last_use().await, Value::Null);
    let token = [("grant_type", "authorization_code"), ("client_id", "app"), ("code", &*code)];
    assert_eq!(post(&server.url("/token"), &token).await.status, StatusCode::OK);
    assert!(last_use().await.is_string());

    clients(&url, &["disable", "app"]).await;
    assert_eq!(get(&authorize).await.json()["error"], "invalid_client");
    clients(&url, &["enable", "app"]).await;
    assert_eq!(get(&authorize).await.status, StatusCode::FOUND);
}

/// The server accepts two secrets until the operator drops the previous one.
#[tokio::test]
async fn a_secret_is_replaced_without_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let metadata = r#"{"client_secret": "the first"}"#;
    assert_eq!(clients(&url, &["add", "--id", "app", "--confidential", "--metadata", metadata]).await.code, Some(0));
    let server = ["--listen", "127.0.0.1:0", "--registry", &url];
    let server = Running::start("authorization_server", &server).await;
    let is_accepted = async |secret: &str| {
        let parameters = [("client_id", "app"), ("client_secret", secret), ("token", "unknown")];
        match post(&server.url("/revoke"), &parameters).await.status {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            other => panic!("{other}"),
        }
    };
    let renew = async || {
        let done = clients(&url, &["secret", "app"]).await;
        assert_eq!(done.code, Some(0), "{}", done.err);
        done.out.trim_end().to_owned()
    };
    let second = renew().await;
    assert!(second.len() >= 43, "256 random bits: {second}");
    assert!(is_accepted("the first").await && is_accepted(&second).await && !is_accepted("another").await);
    let third = renew().await;
    assert!(!is_accepted("the first").await && is_accepted(&second).await && is_accepted(&third).await);

    let dropped = clients(&url, &["secret", "app", "--drop-previous"]).await;
    assert_eq!((dropped.code, &*dropped.out), (Some(0), "dropped the previous secret of app\n"), "{}", dropped.err);
    assert!(!is_accepted(&second).await && is_accepted(&third).await);
    let shown = clients(&url, &["show", "app", "--json"]).await.out;
    assert!(shown.contains("(hidden)") && !shown.contains(&third), "{shown}");

    let json = clients(&url, &["secret", "app", "--json"]).await.json();
    assert!(is_accepted(json["client_secret"].as_str().unwrap()).await);
    assert_eq!(clients(&url, &["secret", "nobody"]).await.code, Some(1));
    clients(&url, &["add", "--id", "public"]).await;
    assert_eq!(clients(&url, &["secret", "public", "--drop-previous"]).await.code, Some(1));
}

/// A client may change its registration while an operator switches it off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_the_same_time_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    assert_eq!(clients(&url, &["add", "--id", "app", "--name", "0"]).await.code, Some(0));
    let store = SqliteRegistry::connect(&url).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let renaming = tokio::spawn({
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        async move {
            let mut written = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                let known = store.record("app").await.unwrap().unwrap().client;
                assert_eq!(known.name(), Some(&*written.to_string()), "a new name was overwritten");
                let renamed = known.to_builder().name((written + 1).to_string()).build().unwrap();
                match store.replace_unchanged(&known, renamed).await {
                    Ok(_) => written += 1,
                    Err(StoreError::Changed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            written
        }
    });
    for command in ["disable", "enable"].repeat(8) {
        let done = clients(&url, &[command, "app"]).await;
        assert_eq!(done.code, Some(0), "{command}: {}", done.err);
    }
    stop.store(true, Ordering::SeqCst);
    let written = tokio::time::timeout(BOUND, renaming).await.unwrap().unwrap();
    assert!(written > 16, "only {written} names");
    let last = store.record("app").await.unwrap().unwrap().client;
    assert_eq!(last.name(), Some(&*written.to_string()));
}

/// Without a flag both use one file in the current folder, which begins with the clients for demonstration.
#[cfg(unix)]
#[tokio::test]
async fn both_have_the_same_default() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || Running::start_in(folder.path(), "authorization_server", &["--listen", "127.0.0.1:0"]).await;
    let server = start().await;
    let url = sqlite(folder.path());
    let database = std::fs::read(folder.path().join("clients.db")).unwrap();
    let log = std::fs::read(folder.path().join("clients.db-wal")).unwrap_or_default();
    for file in [database, log] {
        assert!(!file.windows(11).any(|bytes| bytes == b"demo-secret"), "only a hash of the secret is stored");
    }
    let listed = clients(&url, &["list", "--json"]).await.json();
    assert!(listed.as_array().unwrap().iter().any(|client| client["client_id"] == "demo-app"));
    clients(&url, &["remove", "demo-web"]).await;
    clients(&url, &["disable", "demo-any-port"]).await;
    server.stop("TERM").await;

    let server = start().await;
    let status = async |id: &str| clients(&url, &["show", id, "--json"]).await.json()["status"].clone();
    assert_eq!(status("demo-any-port").await, "disabled");
    assert_eq!(clients(&url, &["show", "demo-web"]).await.code, Some(1), "what was removed stays so");
    let demo = clients(&url, &["show", "demo-app", "--json"]).await.json();
    assert_eq!(demo["metadata"]["redirect_uris"][0], server.url("/demo/callback"), "its page is where the server is");
}

/// The commands of the guide work as printed.
#[cfg(unix)]
#[tokio::test]
async fn the_commands_of_the_guide_work() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/troubleshooting.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let commands: Vec<&str> = guide.lines().filter(|line| line.starts_with("clients ")).collect();

    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(program("clients"), folder.path().join("clients")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(commands.join("\n")).env("PATH", path).current_dir(folder.path()).kill_on_drop(true);
    let output = tokio::time::timeout(BOUND, shell.output()).await.unwrap().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected = "\
added photo-app
decision      refused
error         invalid_request, shown to the user agent; nothing is sent to the redirect URI
reason        redirect_uri_not_registered: redirect_uri is not registered for this client
rule          RFC 6749 §3.1.2.3, RFC 9700 §4.1.3
requested     https://photos.example/Callback
registered    https://photos.example/callback
differs in    letter_case
";
    let (details, others): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.starts_with("detail "));
    assert!(details.len() == 1 && details[0].ends_with("differs in letter_case"), "{printed}");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(others, expected.lines().collect::<Vec<_>>(), "{complaints}");
    assert_eq!(output.status.code(), Some(1));
}
