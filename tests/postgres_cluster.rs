//! A PostgreSQL server for the tests, from the installed binaries.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::watch;
use tower_oauth_client_validation::{PostgresRegistry, SqlConfig};

const BOUND: Duration = Duration::from_secs(60);

/// A server on a Unix socket, in a folder that is removed when this process ends.
pub(crate) struct Cluster {
    folder: PathBuf,
    binaries: PathBuf,
    server: Mutex<Option<Server>>,
}

struct Server {
    supervisor: Child,
    /// Whether it accepts connections.
    ready: watch::Receiver<bool>,
    /// Disconnected when its last process has ended.
    running: mpsc::Receiver<()>,
}

impl Cluster {
    /// One server for the tests that do not harm it. `None`, and a message, where PostgreSQL is not installed; with
    /// `CI=true` that is a failure.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::new).as_ref()
    }

    /// A server for one test.
    pub(crate) fn new() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "PostgreSQL is not installed");
            println!("PostgreSQL is not installed: this test does nothing");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("pg-").tempdir().unwrap().keep();
        if let Some(user) = unprivileged_user() {
            assert!(Command::new("chown").arg(user).arg(&folder).status().unwrap().success());
        }
        let cluster = Self { folder, binaries, server: Mutex::new(None) };
        let made = cluster
            .command("initdb")
            .args([
                "--auth=trust",
                "--username=oauth",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ])
            .arg("--pgdata")
            .arg(cluster.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        cluster.start();
        Some(cluster)
    }

    /// Starts the server. It ends when this process does, however that ends.
    pub(crate) fn start(&self) {
        // The end of the pipe ends the server and its folder; a line on it ends the supervisor alone.
        let script = r#"
            "$@" &
            if read -r line; then wait; exit; fi
            kill -QUIT "$(head -n 1 "$DATA/postmaster.pid")"
            wait
            rm -rf "$FOLDER"
        "#;
        let server = self.command("postgres");
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", script, "sh"]).arg(server.get_program()).args(server.get_args());
        supervisor.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
        supervisor.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]);
        supervisor.env("DATA", self.data()).env("FOLDER", &self.folder).current_dir("/");
        supervisor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut supervisor = supervisor.spawn().unwrap();
        let (is_ready, ready) = watch::channel(false);
        let (is_running, running) = mpsc::channel();
        let log = supervisor.stderr.take().unwrap();
        std::thread::spawn(move || follow(log, &is_ready, is_running));
        *self.server.lock().unwrap() = Some(Server { supervisor, ready, running });
    }

    /// Ends the server as a crash does, and waits until it is gone.
    pub(crate) fn kill(&self) {
        self.stop("-KILL");
    }

    /// Ends the server by a signal, and waits until it is gone.
    pub(crate) fn stop(&self, by: &str) {
        signal(by, &self.postmaster());
        let mut server = self.server.lock().unwrap().take().unwrap();
        server.supervisor.stdin.take().unwrap().write_all(b"gone\n").unwrap();
        server.supervisor.wait().unwrap();
        // Its children end by themselves, and until then no other server starts on their memory.
        assert_eq!(
            server.running.recv_timeout(BOUND),
            Err(mpsc::RecvTimeoutError::Disconnected),
            "a child of the server stays"
        );
    }

    /// The address of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.connect().await;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        self.url(&name)
    }

    /// A registry on a new database.
    pub(crate) async fn registry(&self) -> PostgresRegistry {
        self.registry_with(SqlConfig::default().acquire_timeout(Duration::from_secs(20))).await
    }

    pub(crate) async fn registry_with(&self, config: SqlConfig) -> PostgresRegistry {
        let registry = PostgresRegistry::connect_with(&self.database().await, config).await.unwrap();
        registry.migrate().await.unwrap();
        registry
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://oauth@localhost/{database}?host={}", self.folder.display())
    }

    /// Connects when the server accepts connections.
    pub(crate) async fn connect(&self) -> PgConnection {
        let mut ready = self.server.lock().unwrap().as_ref().expect("the server was started").ready.clone();
        let ready = tokio::time::timeout(BOUND, ready.wait_for(|ready| *ready)).await;
        ready.expect("PostgreSQL starts in time").expect("PostgreSQL starts");
        PgConnection::connect(&self.url("postgres")).await.unwrap()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn postmaster(&self) -> String {
        std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap().lines().next().unwrap().to_owned()
    }

    /// PostgreSQL does not run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let Some(user) = unprivileged_user() else {
            return Command::new(program);
        };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).args(["--clear-groups", "--"]).arg(program).current_dir("/");
        command
    }
}

/// Reads the log until every process that writes to it has ended.
fn follow(log: ChildStderr, is_ready: &watch::Sender<bool>, _is_running: mpsc::Sender<()>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if line.contains("ready to accept connections") {
            is_ready.send_replace(true);
        }
    }
}

pub(crate) fn signal(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

fn binaries() -> Option<PathBuf> {
    let is_complete = |folder: &Path| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(|folder| is_complete(folder)) {
        return Some(folder);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|version| version.path().join("bin")).filter(|folder| is_complete(folder)).max()
}

fn unprivileged_user() -> Option<&'static str> {
    let output = |args: &[&str]| Command::new("id").args(args).output().unwrap();
    let is_root = output(&["-u"]).stdout.trim_ascii() == b"0";
    is_root.then(|| if output(&["postgres"]).status.success() { "postgres" } else { "nobody" })
}
