//! Clients from a file.

use std::collections::HashSet;
use std::fmt;
use std::future::Ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{MemoryRegistry, RegistryError, RegistrySource};
use crate::client::{Client, MetadataError};

/// Clients from a JSON file: an array of RFC 7591 client metadata objects plus `client_id`, or an object whose
/// member `clients` is that array. See [`Client::from_metadata`] for the members.
///
/// ```json
/// [
///   {
///     "client_id": "photo-app",
///     "client_name": "Photo App",
///     "redirect_uris": ["https://photos.example/callback", "http://127.0.0.1/callback"],
///     "scope": "openid photos:read",
///     "token_endpoint_auth_method": "none"
///   }
/// ]
/// ```
#[derive(Clone, Debug)]
pub struct FileRegistry {
    clients: MemoryRegistry,
}

impl FileRegistry {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no JSON, or an entry is no client. The error names file, line and column.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let error = |position, problem| FileError { path: path.to_owned(), position, problem };
        let text = std::fs::read_to_string(path).map_err(|source| error(None, Problem::Read(source)))?;
        let clients = parse(&text).map_err(|(position, problem)| error(position, problem))?;
        Ok(Self { clients: MemoryRegistry::from_clients(clients) })
    }

    /// The clients, for listing them.
    #[must_use]
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.list()
    }
}

impl RegistrySource for FileRegistry {
    type Future = Ready<Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        self.clients.find_client(client_id)
    }
}

/// Line and column, both from 1.
type Position = (usize, usize);

fn parse(text: &str) -> Result<Vec<Client>, (Option<Position>, Problem)> {
    // At the very beginning of a line serde_json counts column 0.
    let syntax = |error: serde_json::Error| (Some((error.line(), error.column().max(1))), Problem::Syntax(error));
    let entries = match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(entries) => entries,
        // An object, perhaps: the error of that reading is the better one where the file begins like one.
        Err(error) if !text.trim_start().starts_with('{') => return Err(syntax(error)),
        Err(_) => {
            let mut members: std::collections::BTreeMap<String, &RawValue> =
                serde_json::from_str(text).map_err(syntax)?;
            let clients = members.remove("clients").ok_or((Some((1, 1)), Problem::NoClients))?;
            serde_json::from_str(clients.get()).map_err(|_| (Some(position(text, clients)), Problem::NoClients))?
        }
    };
    let mut ids = HashSet::with_capacity(entries.len());
    let mut clients = Vec::with_capacity(entries.len());
    for entry in entries {
        let wrong = |problem| (Some(position(text, entry)), problem);
        let metadata: Value = serde_json::from_str(entry.get()).map_err(|error| wrong(Problem::Syntax(error)))?;
        let named = metadata.get("client_id").and_then(Value::as_str).map(str::to_owned);
        let client =
            Client::from_metadata(metadata).map_err(|source| wrong(Problem::Client { client_id: named, source }))?;
        if !ids.insert(client.id().to_owned()) {
            return Err(wrong(Problem::Repeated(client.id().to_owned())));
        }
        clients.push(client);
    }
    Ok(clients)
}

/// Where an entry begins in the text that it was borrowed from.
fn position(text: &str, entry: &RawValue) -> Position {
    let offset = entry.get().as_ptr() as usize - text.as_ptr() as usize;
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A file that holds no set of clients.
///
/// Its `Display` is one line: `clients.json:12:5: client "app": redirect_uris[0]: a fragment is not allowed …`.
#[derive(Debug)]
pub struct FileError {
    path: PathBuf,
    position: Option<Position>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Read(std::io::Error),
    Syntax(serde_json::Error),
    NoClients,
    Client { client_id: Option<String>, source: MetadataError },
    Repeated(String),
}

impl FileError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Line and column, both from 1, of the entry or of the broken syntax.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.position
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match &self.problem {
            Problem::Read(error) => write!(f, ": {error}"),
            Problem::Syntax(error) => write!(f, ": {error}"),
            Problem::NoClients => f.write_str(": must be an array of clients, or an object with an array `clients`"),
            Problem::Client { client_id: Some(id), source } => write!(f, ": client {id:?}: {source}"),
            Problem::Client { client_id: None, source } => write!(f, ": {source}"),
            Problem::Repeated(id) => write!(f, ": client {id:?}: client_id is repeated"),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(error) => Some(error),
            Problem::Syntax(error) => Some(error),
            Problem::Client { source, .. } => Some(source),
            Problem::NoClients | Problem::Repeated(_) => None,
        }
    }
}
