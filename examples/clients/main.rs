//! The operator's tool: adds, lists, disables, revokes and removes clients in any store, and tells why a request is
//! refused.
//!
//! `cargo run --features full --example clients -- --help`

mod args;
mod check;
mod edit;
mod import;
mod list;
#[path = "../shared/registry.rs"]
mod registry;
mod show;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tower_oauth_client_validation::{BoxStore, RegistryError, StoreError};

use crate::args::{Args, Command};
use crate::registry::{Causes, Location, OpenError, Registry};

/// Why it did not go well.
enum Failure {
    /// The answer is no.
    No(String),
    Broken(String),
    /// Whoever read the output has gone.
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

/// Colours go to terminals only, and not where `NO_COLOR` is set.
type Output = anstream::AutoStream<io::Stdout>;

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::from_command_line() {
        Ok(Some(args)) => args,
        Ok(None) => {
            let _ = io::stdout().write_all(args::HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error} (--help lists what there is)");
            return ExitCode::from(2);
        }
    };
    let mut out = anstream::stdout();
    let done = run(args, &mut out).await;
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

async fn run(mut args: Args, out: &mut Output) -> Result<ExitCode, Failure> {
    let format = if args.json { Format::Json } else { Format::Text };
    let begins = matches!(args.command, Command::Add(_) | Command::Import { .. });
    // Before a database is made for it.
    let new = match &mut args.command {
        Command::Add(new) => Some(edit::read(std::mem::take(new))?),
        _ => None,
    };
    // A mistyped path must not become an empty database.
    if let Some(path) = file_of(&args.registry).filter(|path| !begins && !path.exists()) {
        return Err(Failure::Broken(format!("--registry: {} does not exist", path.display())));
    }
    let registry = Registry::open(&args.registry).await?;
    if begins {
        registry.migrate().await?;
    }
    match args.command {
        Command::Add(_) => {
            let store = writable(&registry)?;
            if let Some(client) = new {
                edit::add(&*store, client, out, format).await?;
            }
        }
        Command::List => list::list(&registry, out, format).await?,
        Command::Of(action, id) => edit::one(&registry, action, &id.unwrap_or_default(), out, format).await?,
        Command::Import { at_once } => return import::import(&*writable(&registry)?, at_once, out, format).await,
        Command::Check(check) => return check::check(&registry, check, out, format).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn writable(registry: &Registry) -> Result<BoxStore, Failure> {
    registry.store().ok_or_else(|| Failure::Broken("--registry: this registry can only be read".to_owned()))
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
