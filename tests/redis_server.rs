//! A Redis server for the tests, from the installed binary.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(60);

/// A server on a Unix socket in a folder. It keeps what it acknowledged when it is killed.
pub(crate) struct RedisServer {
    folder: TempDir,
    supervisor: Mutex<Option<Child>>,
}

impl RedisServer {
    /// One server for the tests that do not harm it. `None`, and a message, where Redis is not installed; with
    /// `CI=true` that is a failure.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RedisServer>> = OnceLock::new();
        SHARED.get_or_init(Self::new).as_ref()
    }

    /// A server for one test.
    pub(crate) fn new() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "redis-server is not installed");
            println!("redis-server is not installed: this test does nothing");
            return None;
        }
        let server = Self { folder: tempfile::tempdir().unwrap(), supervisor: Mutex::new(None) };
        server.start();
        Some(server)
    }

    /// Starts the server, and waits until it accepts connections. It ends when this process does, however that ends.
    pub(crate) fn start(&self) {
        // The end of the pipe ends the server; a line on it ends the supervisor alone.
        let script = r#"
            "$@" &
            if read -r line; then wait; exit; fi
            kill -KILL $!
            wait
            rm -rf "$FOLDER"
        "#;
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", script, "sh", "redis-server", "--port", "0", "--unixsocket"]).arg(self.socket());
        supervisor.arg("--dir").arg(self.folder.path()).arg("--pidfile").arg(self.folder.path().join("pid"));
        supervisor.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        supervisor.env("FOLDER", self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut supervisor = supervisor.spawn().unwrap();
        let (is_ready, ready) = mpsc::channel();
        let log = supervisor.stdout.take().unwrap();
        std::thread::spawn(move || follow(log, &is_ready));
        ready.recv_timeout(BOUND).expect("Redis starts");
        *self.supervisor.lock().unwrap() = Some(supervisor);
    }

    /// Ends the server as a crash does, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
        let mut supervisor = self.supervisor.lock().unwrap().take().unwrap();
        supervisor.stdin.take().unwrap().write_all(b"gone\n").unwrap();
        supervisor.wait().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }
}

/// Reads the log until the server has ended.
fn follow(log: ChildStdout, is_ready: &mpsc::Sender<()>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if line.contains("eady to accept connections") {
            let _ = is_ready.send(());
        }
    }
}
