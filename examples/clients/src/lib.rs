//! The operator's tool: adds, lists, disables, revokes and removes clients in any registry, and explains why a request
//! is refused.
//!
//! `cargo run -p clients -- --help`

mod args;
mod check;
mod edit;
mod import;
mod list;
mod secret;
mod show;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use shared::causes::Causes;
use shared::registry::{Location, OpenError, Registry};
use tower_oauth_client_validation::{BoxStore, RegistryError, StoreError};

use crate::args::{Arguments, Command};

/// Why a command did not succeed.
enum Failure {
    /// The command was refused: exit code 1.
    No(String),
    /// The command failed: exit code 2.
    Broken(String),
    /// The reader of the output is gone.
    Unread,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Broken(Causes(&error).to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Registry(error) => error.into(),
            error => Self::No(error.to_string()),
        }
    }
}

/// Colors go to terminals only, and not where `NO_COLOR` is set.
type Output = anstream::AutoStream<io::Stdout>;

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// The program.
#[must_use]
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = anstream::stdout();
    let done = run(arguments, &mut out).await;
    match done.and_then(|code| out.flush().map(|()| code).map_err(Failure::from)) {
        Ok(code) => code,
        Err(Failure::No(why)) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
        Err(Failure::Broken(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Unread) => ExitCode::from(2),
    }
}

async fn run(arguments: Arguments, out: &mut Output) -> Result<ExitCode, Failure> {
    let Arguments { registry: location, json, command } = arguments;
    let format = if json { Format::Json } else { Format::Text };
    let may_create = matches!(command, Command::Add(_) | Command::Import { .. });
    // A mistyped path must not become an empty database.
    if let Some(path) = file_of(&location).filter(|path| !may_create && !path.exists()) {
        return Err(Failure::Broken(format!("--registry: {} does not exist", path.display())));
    }
    let open = async || {
        let registry = Registry::open(&location).await?;
        if may_create {
            registry.migrate().await?;
        }
        Ok::<_, Failure>(registry)
    };
    match command {
        Command::Add(new) => {
            // An invalid client must not leave a new database behind.
            let client = edit::read(new)?;
            edit::add(&*writable(&open().await?)?, client, out, format).await?;
        }
        Command::List => list::list(&open().await?, out, format).await?,
        Command::Show(of) => edit::show(&open().await?, &of.id, out, format).await?,
        Command::Disable(of) => edit::switch(&open().await?, &of.id, false, out, format).await?,
        Command::Enable(of) => edit::switch(&open().await?, &of.id, true, out, format).await?,
        Command::Revoke(of) => edit::revoke(&open().await?, &of.id, out, format).await?,
        Command::Secret { id, drop_previous: false } => secret::renew(&open().await?, &id, out, format).await?,
        Command::Secret { id, drop_previous: true } => secret::drop_previous(&open().await?, &id, out, format).await?,
        Command::Remove(of) => edit::remove(&open().await?, &of.id, out, format).await?,
        Command::Import { at_once } => {
            return import::import(&*writable(&open().await?)?, at_once.get(), out, format).await;
        }
        Command::Check(check) => return check::check((&open().await?, &location), check, out, format).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn writable(registry: &Registry) -> Result<BoxStore, Failure> {
    registry.store().ok_or_else(|| Failure::Broken("--registry: this registry is read-only".to_owned()))
}

/// The file of a SQLite database.
fn file_of(location: &Location) -> Option<PathBuf> {
    let Location::Sqlite(url) = location else {
        return None;
    };
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))?;
    let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
    let in_memory = path == ":memory:" || parameters.contains("mode=memory");
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    (!in_memory).then(|| PathBuf::from(&*decoded))
}
