//! A registry by its name on the command line: what both programs share.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tower_oauth_client_validation::{
    BoxRegistry, BoxStore, Client, Environment, FileError, FileRegistry, MemoryRegistry, PostgresRegistry, Record,
    RegistryError, RegistrySource, RegistryStore, SqliteRegistry,
};

/// Where the server keeps its clients, and the tool looks for them, unless told otherwise.
pub(crate) const DEFAULT: &str = "sqlite://clients.db";

/// Where clients are.
#[derive(Debug)]
pub(crate) enum Location {
    Memory,
    Environment,
    File(PathBuf),
    Sqlite(String),
    Postgres(String),
}

impl Location {
    pub(crate) fn parse(name: OsString) -> Result<Self, String> {
        let path = PathBuf::from(name);
        match path.to_str() {
            Some("memory") => Ok(Self::Memory),
            Some("env") => Ok(Self::Environment),
            Some(url) if url.starts_with("sqlite:") => Ok(Self::Sqlite(url.to_owned())),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(url.to_owned()))
            }
            _ if path.extension().is_some_and(|extension| extension == "json" || extension == "toml") => {
                Ok(Self::File(path))
            }
            // It may be a mistyped URL with a password.
            Some(url) if url.contains('@') => Err("--registry: this is no URL of a registry".to_owned()),
            _ => Err(format!(
                "--registry: {path:?} is none of memory, env, FILE.json, FILE.toml, sqlite://PATH, postgres://HOST/DATABASE"
            )),
        }
    }
}

/// A registry that was opened.
#[derive(Debug)]
pub(crate) enum Registry {
    Memory(MemoryRegistry),
    Environment(MemoryRegistry),
    File(FileRegistry),
    Sqlite(SqliteRegistry),
    Postgres(PostgresRegistry),
}

impl Registry {
    pub(crate) async fn open(location: &Location) -> Result<Self, OpenError> {
        Ok(match location {
            Location::Memory => Self::Memory(MemoryRegistry::new()),
            Location::Environment => Self::Environment(Environment::from_process().into_registry()),
            Location::File(path) => Self::File(FileRegistry::load(path)?),
            Location::Sqlite(url) => Self::Sqlite(SqliteRegistry::connect(url).await?),
            Location::Postgres(url) => Self::Postgres(PostgresRegistry::connect(url).await?),
        })
    }

    /// Makes or renews the tables of a database.
    pub(crate) async fn migrate(&self) -> Result<(), RegistryError> {
        match self {
            Self::Memory(_) | Self::Environment(_) | Self::File(_) => Ok(()),
            Self::Sqlite(registry) => registry.migrate().await,
            Self::Postgres(registry) => registry.migrate().await,
        }
    }

    pub(crate) fn source(&self) -> BoxRegistry {
        match self {
            Self::Memory(clients) | Self::Environment(clients) => clients.clone().boxed(),
            Self::File(file) => file.clone().boxed(),
            Self::Sqlite(registry) => registry.clone().boxed(),
            Self::Postgres(registry) => registry.clone().boxed(),
        }
    }

    /// `None` where it can only be read.
    pub(crate) fn store(&self) -> Option<BoxStore> {
        match self {
            Self::Memory(clients) => Some(clients.clone().boxed_store()),
            Self::Environment(_) | Self::File(_) => None,
            Self::Sqlite(registry) => Some(registry.clone().boxed_store()),
            Self::Postgres(registry) => Some(registry.clone().boxed_store()),
        }
    }

    /// A page of clients, ordered by their ids, that begins behind `after`.
    pub(crate) async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<Client>>, RegistryError> {
        let clients = match self {
            Self::Memory(clients) | Self::Environment(clients) => clients.list(),
            Self::File(file) => file.clients(),
            Self::Sqlite(registry) => return Ok(clients_of(registry.list(after, limit).await?)),
            Self::Postgres(registry) => return Ok(clients_of(registry.list(after, limit).await?)),
        };
        let behind = |client: &Arc<Client>| after.is_none_or(|after| client.id() > after);
        Ok(clients.into_iter().filter(behind).take(limit).collect())
    }
}

fn clients_of(records: Vec<Record>) -> Vec<Arc<Client>> {
    records.into_iter().map(|record| record.client).collect()
}

/// The registry cannot be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    File(FileError),
    Registry(RegistryError),
}

impl From<FileError> for OpenError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<RegistryError> for OpenError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Registry(error) => write!(f, "--registry: {}", Causes(error)),
        }
    }
}

impl std::error::Error for OpenError {}

/// An error and what caused it, in one line.
pub(crate) struct Causes<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = std::iter::successors(Some(self.0), |error| error.source());
        let mut said = String::new();
        for cause in causes {
            let text = cause.to_string().replace(['\n', '\r'], " ");
            // Some say what their cause says.
            if !said.contains(&text) {
                said = if said.is_empty() { text } else { format!("{said}: {text}") };
            }
        }
        f.write_str(&said)
    }
}
