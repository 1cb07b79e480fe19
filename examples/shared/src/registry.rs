//! A registry by its name on the command line.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tower_oauth_client_validation::{
    BoxRegistry, BoxStore, Client, Environment, FileError, FileRegistry, MemoryRegistry, MemoryStateStore,
    PostgresRegistry, PostgresStateStore, Record, RegistryError, RegistrySource, RegistryStore, SqliteRegistry,
    SqliteStateStore, StateError, StateStore,
};

use crate::causes::Causes;

/// Where the server and the operator's tool keep clients by default.
pub const DEFAULT: &str = "sqlite://clients.db";

/// Where clients are.
#[derive(Clone, Debug)]
pub enum Location {
    /// In memory, until the program ends.
    Memory,
    /// In `ALLOWED_MCP_CLIENTS` and the other variables of [`Environment`].
    Environment,
    /// In a JSON or TOML file.
    File(PathBuf),
    /// In a SQLite database.
    Sqlite(String),
    /// In a PostgreSQL database.
    Postgres(String),
}

impl Location {
    /// Reads the value of `--registry`.
    ///
    /// # Errors
    ///
    /// If it names no kind of registry. The message leaves out what may hold a password.
    pub fn parse(name: &OsStr) -> Result<Self, String> {
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
            Some(url) if url.contains('@') => Err("not the URL of a registry".to_owned()),
            _ => Err(format!(
                "{path:?} is none of memory, env, FILE.json, FILE.toml, sqlite://PATH, postgres://HOST/DATABASE"
            )),
        }
    }
}

/// An open registry.
#[derive(Debug)]
pub enum Registry {
    /// See [`Location::Memory`].
    Memory(MemoryRegistry),
    /// See [`Location::Environment`].
    Environment(MemoryRegistry),
    /// See [`Location::File`].
    File(FileRegistry),
    /// See [`Location::Sqlite`].
    Sqlite(SqliteRegistry),
    /// See [`Location::Postgres`].
    Postgres(PostgresRegistry),
}

impl Registry {
    /// Opens the registry at `location`.
    ///
    /// # Errors
    ///
    /// If the file or database cannot be read.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        Ok(match location {
            Location::Memory => Self::Memory(MemoryRegistry::new()),
            Location::Environment => Self::Environment(Environment::from_process().into_registry()),
            Location::File(path) => Self::File(FileRegistry::load(path)?),
            Location::Sqlite(url) => Self::Sqlite(SqliteRegistry::connect(url).await?),
            Location::Postgres(url) => Self::Postgres(PostgresRegistry::connect(url).await?),
        })
    }

    /// Creates the tables of a database, or brings them up to date.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or changed.
    pub async fn migrate(&self) -> Result<(), RegistryError> {
        match self {
            Self::Memory(_) | Self::Environment(_) | Self::File(_) => Ok(()),
            Self::Sqlite(registry) => registry.migrate().await,
            Self::Postgres(registry) => registry.migrate().await,
        }
    }

    /// Where to look clients up.
    #[must_use]
    pub fn source(&self) -> BoxRegistry {
        match self {
            Self::Memory(clients) | Self::Environment(clients) => clients.clone().boxed(),
            Self::File(file) => file.clone().boxed(),
            Self::Sqlite(registry) => registry.clone().boxed(),
            Self::Postgres(registry) => registry.clone().boxed(),
        }
    }

    /// Where to write clients; `None` if the registry is read-only.
    #[must_use]
    pub fn store(&self) -> Option<BoxStore> {
        match self {
            Self::Memory(clients) => Some(clients.clone().boxed_store()),
            Self::Environment(_) | Self::File(_) => None,
            Self::Sqlite(registry) => Some(registry.clone().boxed_store()),
            Self::Postgres(registry) => Some(registry.clone().boxed_store()),
        }
    }

    /// Where nodes keep used client assertions and pushed requests together: in the database of the clients, or in memory.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or changed.
    pub async fn state_store(location: &Location) -> Result<Arc<dyn StateStore>, StateError> {
        Ok(match location {
            Location::Sqlite(url) => {
                let store = SqliteStateStore::connect(url).await?;
                store.migrate().await?;
                Arc::new(store)
            }
            Location::Postgres(url) => {
                let store = PostgresStateStore::connect(url).await?;
                store.migrate().await?;
                Arc::new(store)
            }
            Location::Memory | Location::Environment | Location::File(_) => Arc::new(MemoryStateStore::new()),
        })
    }

    /// A page of clients in the order of their ids, starting after `after`.
    ///
    /// # Errors
    ///
    /// If the registry fails.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<Client>>, RegistryError> {
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

/// The registry could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file is missing or broken.
    File(FileError),
    /// The database failed.
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
