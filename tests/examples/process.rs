//! An example as a process.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Only a bound: nothing takes that long.
pub(super) const BOUND: Duration = Duration::from_secs(60);

/// Between two questions of [`eventually`].
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Running {
    pub(super) base: String,
    child: Child,
}

impl Running {
    pub(super) async fn start(example: &str, args: &[&str]) -> Self {
        Self::with_environment(example, args, &[]).await
    }

    pub(super) async fn with_environment(example: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(example, args);
        command.envs(variables.iter().copied());
        Self::spawn(command).await
    }

    pub(super) async fn start_in(folder: &Path, example: &str, args: &[&str]) -> Self {
        let mut command = command(example, args);
        command.current_dir(folder);
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the example starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(BOUND, lines.next_line()).await.expect("the example says where it listens");
        let line = line.expect("its output can be read").expect("it does not end before");
        let base = line.strip_prefix("listening on ").ok_or(&line).expect("the line says where it listens");
        Self { base: base.to_owned(), child }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends the signal and gives the exit code, `None` where the signal itself ended it.
    #[cfg(unix)]
    pub(super) async fn stop(mut self, signal: &str) -> Option<i32> {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().await.expect("kill is there");
        assert!(sent.success());
        tokio::time::timeout(BOUND, self.child.wait()).await.expect("it ends").expect("it can be waited for").code()
    }

    /// Ends it at once (SIGKILL), without another process to do so.
    #[cfg(unix)]
    pub(super) async fn kill(mut self) {
        tokio::time::timeout(BOUND, self.child.kill()).await.expect("it ends").expect("it runs");
    }
}

/// Asks over and over until the answer is yes.
pub(super) async fn eventually(is_so: impl AsyncFn() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(BOUND, asking).await.expect("it becomes true");
}

/// Runs an example that is expected to end by itself.
pub(super) async fn run(example: &str, args: &[&str]) -> Output {
    tokio::time::timeout(BOUND, command(example, args).output()).await.expect("it ends").expect("it starts")
}

pub(super) fn command(example: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program(example));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true).env_remove("RUST_LOG").env_remove("NO_COLOR");
    command
}

/// The binary, which cargo has built for this very test.
pub(super) fn program(example: &str) -> &'static str {
    match example {
        "authorization_server" => env!("CARGO_BIN_EXE_test_authorization_server"),
        "axum" => env!("CARGO_BIN_EXE_test_axum"),
        "clients" => env!("CARGO_BIN_EXE_test_clients"),
        "composed" => env!("CARGO_BIN_EXE_test_composed"),
        "hyper" => env!("CARGO_BIN_EXE_test_hyper"),
        "mcp_proxy" => env!("CARGO_BIN_EXE_test_mcp_proxy"),
        _ => panic!("there is no example {example}"),
    }
}
