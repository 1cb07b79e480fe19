//! Clients from a JSON or TOML file, and reloading it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures::{FutureExt, StreamExt};
use tempfile::TempDir;
use tower_oauth_client_validation::{Client, FileError, FileRegistry, FileWatch, FileWatchConfig, RegistrySource};

fn folder_with(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load(name: &str, text: &str) -> Result<FileRegistry, FileError> {
    let (_folder, path) = folder_with(name, text);
    FileRegistry::load(path)
}

/// Line and column, and the message behind them.
fn refusal(name: &str, text: &str) -> ((usize, usize), String) {
    let error = load(name, text).unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    let position = error.position().unwrap();
    let place = format!("{name}:{}:{}: ", position.0, position.1);
    let (_, reason) = message.split_once(&place).unwrap_or_else(|| panic!("{message}"));
    (position, reason.to_owned())
}

fn ids(registry: &FileRegistry) -> Vec<String> {
    registry.clients().iter().map(|client| client.id().to_owned()).collect()
}

fn is_known(registry: &FileRegistry, id: &str) -> bool {
    registry.find_client(id).now_or_never().unwrap().unwrap().is_some()
}

#[test]
fn toml_and_json_describe_the_same_clients() {
    let toml = r#"
# Those of the shop.
[[clients]]
client_id = "photo-app"
client_name = "Photo App"
redirect_uris = ["https://photos.example/callback", "http://127.0.0.1/callback"]
scope = "openid photos:read"
token_endpoint_auth_method = "none"
expires_at = 4_102_444_800
own = { nested = [1, 2.5, true], hex = 0xff }

[[clients]]
client_id = 'other'
disabled = true
"#;
    let json = r#"{"clients": [
        {
            "client_id": "photo-app",
            "client_name": "Photo App",
            "redirect_uris": ["https://photos.example/callback", "http://127.0.0.1/callback"],
            "scope": "openid photos:read",
            "token_endpoint_auth_method": "none",
            "expires_at": 4102444800,
            "own": {"nested": [1, 2.5, true], "hex": 255}
        },
        {"client_id": "other", "disabled": true}
    ]}"#;
    let (toml, json) = (load("clients.toml", toml).unwrap(), load("clients.json", json).unwrap());
    assert_eq!(toml.clients(), json.clients());
    assert_eq!(ids(&toml), ["other", "photo-app"]);
    assert!(is_known(&toml, "photo-app") && !is_known(&toml, "Photo-App"));
    let plain = load("clients", r#"[{"client_id": "other", "disabled": true}]"#).unwrap();
    assert_eq!(plain.clients()[0], toml.clients()[0]);
}

#[test]
fn values_that_only_toml_has_are_kept_as_text() {
    let registry = load("c.toml", "[[clients]]\nclient_id = 'a'\nsince = 2026-01-02T03:04:05Z\nhalf = inf\n").unwrap();
    let clients = registry.clients();
    let metadata = clients[0].metadata().unwrap();
    assert_eq!((&metadata["since"], &metadata["half"]), (&"2026-01-02T03:04:05Z".into(), &"inf".into()));
}

#[test]
fn an_error_names_line_and_column() {
    let (position, reason) = refusal(
        "c.toml",
        "[[clients]]\nclient_id = 'a'\n\n[[clients]]\nclient_id = 'b'\nredirect_uris = ['https://a.example/#']\n",
    );
    assert_eq!(position, (4, 1));
    assert!(reason.starts_with(r#"client "b": redirect_uris[0]: "#), "{reason}");
    let (position, reason) = refusal("c.toml", "[[clients]]\nclient_id = 'a'\n[[clients]]\nclient_id = 'a'\n");
    assert_eq!((position, &*reason), ((3, 1), r#"client "a": client_id is repeated"#));
    let (position, _) = refusal("c.toml", "[[clients]]\nclient_id = 'a\n");
    assert_eq!(position.0, 2);
    assert_eq!(refusal("c.toml", "clients = 1\n").0, (1, 11));
    assert_eq!(refusal("c.toml", "other = 1\n").0, (1, 1));
    assert_eq!(refusal("c.toml", "[[clients]]\nclient_name = 'a'\n").1, "client_id: missing");
    let (position, reason) = refusal("c.json", "[\n  {\"client_id\": \"a\"},\n  {\"client_id\": 7}\n]");
    assert_eq!((position, &*reason), ((3, 3), "client_id: must be a string"));
    assert_eq!(refusal("c.json", "[\n  {\"client_id\": \"a\"\n]").0.0, 3);
    assert_eq!(refusal("c.json", "{\"clients\":\n {}}").0, (2, 2));
    assert!(
        FileRegistry::load("/nowhere/clients.json").unwrap_err().to_string().starts_with("/nowhere/clients.json: ")
    );
}

#[test]
fn a_reload_replaces_all_clients_or_none() {
    let (_folder, path) = folder_with("c.json", r#"[{"client_id": "a"}, {"client_id": "b"}]"#);
    let registry = FileRegistry::load(&path).unwrap();
    std::fs::write(&path, r#"[{"client_id": "c"}, {"client_id": ""}]"#).unwrap();
    assert_eq!(registry.reload().unwrap_err().position(), Some((1, 22)));
    assert_eq!(ids(&registry), ["a", "b"]);
    std::fs::remove_file(&path).unwrap();
    assert!(registry.reload().is_err());
    assert_eq!(ids(&registry), ["a", "b"]);
    std::fs::write(&path, r#"[{"client_id": "c"}]"#).unwrap();
    assert_eq!(registry.reload().unwrap(), 1);
    assert_eq!(ids(&registry), ["c"]);
}

/// The next outcome, which must come in time: the test ends even if the watch misses the change.
fn next(watch: &mut FileWatch) -> Result<usize, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let outcome = runtime.block_on(async {
        let deadline = pin!(tokio::time::sleep(Duration::from_secs(25)));
        // The deadline first: an outcome that wakes nobody must not be found by it.
        match select(deadline, watch.next()).await {
            Either::Left(_) => panic!("the change is not noticed"),
            Either::Right((outcome, _)) => outcome,
        }
    });
    outcome.unwrap().map_err(|error| error.to_string())
}

/// Never polls, so that only events of the file system report a change.
fn events_only() -> FileWatchConfig {
    FileWatchConfig::new().poll_interval(Duration::from_secs(3600))
}

/// Takes outcomes until one is as expected: a write that is seen in two steps has two.
fn until(watch: &mut FileWatch, is_so: impl Fn(&Result<usize, String>) -> bool) {
    while !is_so(&next(watch)) {}
}

fn clients(count: usize) -> String {
    (0..count).map(|n| format!("[[clients]]\nclient_id = '{n}'\n")).collect()
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn a_watched_file_is_reloaded() {
    let (_folder, path) = folder_with("c.toml", &clients(1));
    let registry = FileRegistry::load(&path).unwrap();
    let mut watch = registry.watch_with(events_only()).unwrap();
    std::fs::write(&path, clients(2)).unwrap();
    until(&mut watch, |outcome| *outcome == Ok(2));
    replace(&path, &clients(3));
    until(&mut watch, |outcome| *outcome == Ok(3));
    assert_eq!(registry.clients().len(), 3);

    replace(&path, "[[clients]]\nclient_id = 7\n");
    until(&mut watch, |outcome| {
        outcome.as_ref().is_err_and(|reason| reason.contains("c.toml:1:1: client_id: must be"))
    });
    assert_eq!(registry.clients().len(), 3);
    std::fs::remove_file(&path).unwrap();
    until(&mut watch, |outcome| outcome.as_ref().is_err_and(|reason| !reason.contains("must be")));
    assert_eq!(registry.clients().len(), 3);
    std::fs::write(&path, clients(4)).unwrap();
    until(&mut watch, |outcome| *outcome == Ok(4));
    assert!(is_known(&registry, "3"));
}

#[test]
fn the_extension_may_be_written_in_any_case() {
    assert_eq!(load("c.TOML", &clients(2)).unwrap().clients().len(), 2);
}

/// Same length, same inode, same time: the event alone says so.
#[test]
fn a_change_that_cannot_be_seen_from_outside_is_read() {
    let text = |id: &str| format!("[[clients]]\nclient_id = '{id}'\n");
    let (_folder, path) = folder_with("c.toml", &text("a"));
    let registry = FileRegistry::load(&path).unwrap();
    let mut watch = registry.watch_with(events_only()).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, text("b").as_bytes()).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    while !is_known(&registry, "b") {
        next(&mut watch).unwrap();
    }
}

#[test]
fn reading_the_file_causes_no_reload() {
    let (_folder, path) = folder_with("c.toml", &clients(1));
    let registry = FileRegistry::load(&path).unwrap();
    let mut watch = registry.watch_with(events_only().quiet_period(Duration::from_millis(5))).unwrap();
    replace(&path, &clients(2));
    until(&mut watch, |outcome| *outcome == Ok(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // A change may have several outcomes, but they end.
    let mut ends = (0..20).map(|_| {
        std::fs::read(&path).unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(300), watch.next()).await.is_err() })
    });
    assert!(ends.any(|ends| ends));
}

#[test]
fn a_file_behind_a_swapped_link_is_reloaded() {
    // As Kubernetes mounts configuration: clients.toml -> ..data/clients.toml, and ..data is replaced.
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, count) in [("v1", 1), ("v2", 2)] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("clients.toml"), clients(count)).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/clients.toml", at("clients.toml")).unwrap();
        let registry = FileRegistry::load(at("clients.toml")).unwrap();
        let mut watch = registry.watch().unwrap();
        symlink("v2", at("..new")).unwrap();
        std::fs::rename(at("..new"), at("..data")).unwrap();
        until(&mut watch, |outcome| *outcome == Ok(2));
    }
}

#[test]
fn a_change_without_an_event_is_noticed_by_polling() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;

        // The link stays, and its target is in a folder that is not watched.
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, target) = (folder.path().join("clients.toml"), elsewhere.path().join("clients.toml"));
        std::fs::write(&target, clients(1)).unwrap();
        symlink(&target, &link).unwrap();
        let registry = FileRegistry::load(&link).unwrap();
        let mut watch = registry.watch_with(FileWatchConfig::new().poll_interval(Duration::from_millis(20))).unwrap();
        replace(&target, &clients(2));
        until(&mut watch, |outcome| *outcome == Ok(2));
    }
}

#[test]
fn a_file_that_keeps_changing_is_read_after_the_longest_delay() {
    let (_folder, path) = folder_with("c.toml", &clients(1));
    let registry = FileRegistry::load(&path).unwrap();
    let never_quiet = events_only().quiet_period(Duration::from_secs(3600)).max_delay(Duration::from_millis(50));
    let mut watch = registry.watch_with(never_quiet).unwrap();
    replace(&path, &clients(2));
    until(&mut watch, |outcome| *outcome == Ok(2));
}

/// The file is a pipe, so that the test can replace it while it is read.
#[cfg(unix)]
#[test]
fn a_change_while_the_file_is_read_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let loading = {
        let path = path.clone();
        std::thread::spawn(move || FileRegistry::load(path).unwrap())
    };
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut pipe, clients(1).as_bytes()).unwrap();
    replace(&path, &clients(2));
    drop(pipe);
    let registry = loading.join().unwrap();
    assert_eq!(registry.clients().len(), 1);
    let mut watch = registry.watch_with(events_only()).unwrap();
    until(&mut watch, |outcome| *outcome == Ok(2));
}

#[test]
fn a_change_before_the_watch_is_not_missed() {
    let (_folder, path) = folder_with("c.toml", &clients(1));
    let registry = FileRegistry::load(&path).unwrap();
    replace(&path, &clients(2));
    let mut watch = registry.watch().unwrap();
    until(&mut watch, |outcome| *outcome == Ok(2));
}

#[test]
fn readers_see_the_old_clients_or_the_new_ones() {
    let set = |version: usize| -> String {
        (0..2_000).map(|n| format!("[[clients]]\nclient_id = '{n}'\nclient_name = '{version}'\n")).collect()
    };
    let (_folder, path) = folder_with("c.toml", &set(0));
    let registry = FileRegistry::load(&path).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reader = {
        let registry = registry.clone();
        std::thread::spawn(move || {
            let mut seen = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let clients = registry.clients();
                assert_eq!(clients.len(), 2_000);
                let names: std::collections::BTreeSet<_> = clients.iter().map(|client| client.name()).collect();
                assert_eq!(names.len(), 1, "{names:?}");
                seen += 1;
            }
            seen
        })
    };
    for version in 1..10 {
        replace(&path, &set(version));
        registry.reload().unwrap();
        let found = registry.find_client("1999").now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(found.name(), Some(&*version.to_string()));
    }
    drop(stop);
    assert!(reader.join().unwrap() > 0);
}

/// How long a million takes is for the benches; that it works is for `cargo test -- --ignored`.
#[test]
#[ignore = "takes some seconds and a gigabyte"]
fn a_million_clients_load() {
    for name in ["c.json", "c.toml"] {
        let entry = |n: usize| match name {
            "c.json" => format!(
                "{}{{\"client_id\":\"client-{n}\",\"redirect_uris\":[\"https://{n}.example/cb\"],\"scope\":\"openid\"}}",
                if n == 0 { "[" } else { "," }
            ),
            _ => format!(
                "[[clients]]\nclient_id = 'client-{n}'\nredirect_uris = ['https://{n}.example/cb']\nscope = 'openid'\n"
            ),
        };
        let mut text: String = (0..1_000_000).map(entry).collect();
        if name == "c.json" {
            text.push(']');
        }
        let (_folder, path) = folder_with(name, &text);
        drop(text);
        let registry = FileRegistry::load(&path).unwrap();
        assert_eq!(registry.reload().unwrap(), 1_000_000);
        let last: Client = (*registry.find_client("client-999999").now_or_never().unwrap().unwrap().unwrap()).clone();
        assert_eq!(last.redirect_uris()[0].as_str(), "https://999999.example/cb");
    }
}
