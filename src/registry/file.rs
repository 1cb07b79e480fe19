//! Clients from a file.

use std::collections::HashSet;
use std::fmt;
use std::future::Ready;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use futures::Stream;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{MemoryRegistry, RegistryError, RegistrySource};
use crate::client::{Client, ClientError};
use tower::BoxError;

/// Reads clients from a file of RFC 7591 client metadata objects plus `client_id`; see [`Client::from_metadata`] for the
/// members. Cheap to clone; clones share the clients.
///
/// A file whose name ends in `.toml` is TOML, with a table `[[clients]]` for each. Any other is JSON: an array
/// of objects, or an object whose member `clients` is that array.
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
///
/// ```toml
/// [[clients]]
/// client_id = "photo-app"
/// redirect_uris = ["https://photos.example/callback"]
/// ```
///
/// [`reload`](Self::reload) reads a new version of the file, and [`watch`](Self::watch) does so whenever the file changes.
/// A new version replaces all clients at once, without blocking lookups, or none if anything in it is wrong.
///
/// ```
/// use tower_oauth_client_validation::{FileRegistry, RegistrySource};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("clients.toml");
/// # std::fs::write(&path, "[[clients]]\nclient_id = \"photo-app\"\n")?;
/// let registry = FileRegistry::load(&path)?;
/// let _watch = registry.watch()?;
/// assert_eq!(registry.clients().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FileRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    clients: MemoryRegistry,
    /// The stamp of the file that was read last, even if it was refused. Locked while reading.
    stamp: Mutex<Option<Stamp>>,
}

impl FileRegistry {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not JSON or TOML, or has an invalid entry. The error names file, line and column.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let shared = Shared { path: path.as_ref().to_owned(), clients: MemoryRegistry::new(), stamp: Mutex::default() };
        let registry = Self { shared: Arc::new(shared) };
        registry.reload()?;
        Ok(registry)
    }

    /// Reads the file again, replaces all clients, and returns how many there are.
    ///
    /// This blocks. In async code, call it in a thread for blocking work.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load). The clients stay as they are.
    pub fn reload(&self) -> Result<usize, FileError> {
        let mut stamp = self.shared.stamp();
        // Before reading, so that a change during the read is noticed next time.
        *stamp = Stamp::of(&self.shared.path);
        let clients = read(&self.shared.path)?;
        self.shared.clients.replace_all(clients);
        Ok(self.shared.clients.len())
    }

    /// Reloads the file whenever it changes, with the defaults of [`FileWatchConfig`], until the returned value is
    /// dropped.
    ///
    /// A broken or deleted file leaves the clients as they are, and is logged as an error with file, line and reason.
    /// A separate thread reads the file.
    ///
    /// # Errors
    ///
    /// When the system cannot watch the folder of the file.
    pub fn watch(&self) -> Result<FileWatch, FileError> {
        self.watch_with(FileWatchConfig::new())
    }

    /// Reloads the file whenever it changes, like [`watch`](Self::watch).
    ///
    /// # Errors
    ///
    /// When the system cannot watch the folder of the file.
    pub fn watch_with(&self, config: FileWatchConfig) -> Result<FileWatch, FileError> {
        let path = &self.shared.path;
        let error = |problem| FileError { path: path.clone(), position: None, problem };
        let (send, messages) = mpsc::channel();
        let (events, file_name) = (send.clone(), path.file_name().map(ToOwned::to_owned));
        let on_event = move |event: notify::Result<notify::Event>| {
            let names_file = match event {
                Ok(event) if !changes_something(event.kind) => return,
                Ok(event) => event.paths.iter().any(|path| path.file_name() == file_name.as_deref()),
                Err(_) => false,
            };
            // Sending fails only after the watch ended.
            let _ = events.send(Message::Event { names_file });
        };
        // The folder, because editors replace files, and a watch would stay on the old one.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut watcher = notify::recommended_watcher(on_event).map_err(|source| error(Problem::Watch(source)))?;
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|source| error(Problem::Watch(source)))?;
        let outcome = Arc::<Outcome>::default();
        let (registry, published) = (self.clone(), Arc::clone(&outcome));
        std::thread::Builder::new()
            .name("client-file".to_owned())
            .spawn(move || registry.follow(&messages, &published, config))
            .map_err(|source| error(Problem::Read(source)))?;
        Ok(FileWatch { _watcher: watcher, stop: send, outcome })
    }

    /// All clients.
    #[must_use]
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.shared.clients.list()
    }

    fn follow(&self, messages: &mpsc::Receiver<Message>, outcome: &Outcome, config: FileWatchConfig) {
        // The file may have changed since it was loaded.
        let mut must_read = false;
        loop {
            if must_read || self.has_changed() {
                outcome.publish(self.reload_logged());
            }
            must_read = match messages.recv_timeout(config.poll_interval) {
                Ok(Message::Event { names_file }) => match settle(messages, names_file, config) {
                    Some(names_file) => names_file,
                    None => return,
                },
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    fn has_changed(&self) -> bool {
        *self.shared.stamp() != Stamp::of(&self.shared.path)
    }

    fn reload_logged(&self) -> Result<usize, Arc<FileError>> {
        match self.reload() {
            Ok(clients) => {
                tracing::info!(file = %self.shared.path.display(), clients, "client file reloaded");
                Ok(clients)
            }
            Err(error) => {
                let (line, column) = error.position.unzip();
                let file = self.shared.path.display();
                tracing::error!(%file, line, column, reason = %error, "client file refused, the old clients stay");
                Err(Arc::new(error))
            }
        }
    }
}

impl RegistrySource for FileRegistry {
    type Future = Ready<Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        self.shared.clients.find_client(client_id)
    }
}

impl fmt::Debug for FileRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRegistry")
            .field("path", &self.shared.path)
            .field("clients", &self.shared.clients)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn stamp(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Distinguishes versions of a file without reading it.
#[derive(PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { modified: metadata.modified().ok(), len: metadata.len(), inode })
    }
}

enum Message {
    Event { names_file: bool },
    Stop,
}

/// False for reads, which a reload causes itself.
fn changes_something(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// Waits until nothing has happened for a while, and returns whether an event named the file; `None` when the watch
/// ended.
fn settle(messages: &mpsc::Receiver<Message>, mut names_file: bool, config: FileWatchConfig) -> Option<bool> {
    let began = Instant::now();
    loop {
        let patience = config.quiet_period.min(config.max_delay.saturating_sub(began.elapsed()));
        match messages.recv_timeout(patience) {
            Ok(Message::Event { names_file: named }) => names_file |= named,
            Err(RecvTimeoutError::Timeout) => return Some(names_file),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// When a [watched](FileRegistry::watch_with) file is read.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::FileWatchConfig;
///
/// let config = FileWatchConfig::new().poll_interval(Duration::from_secs(5));
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FileWatchConfig {
    quiet_period: Duration,
    max_delay: Duration,
    poll_interval: Duration,
}

impl Default for FileWatchConfig {
    fn default() -> Self {
        Self {
            quiet_period: Duration::from_millis(100),
            max_delay: Duration::from_secs(2),
            poll_interval: Duration::from_secs(30),
        }
    }
}

impl FileWatchConfig {
    /// The defaults that the setters name.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the file must be unchanged before it is read, because editors write in several steps (default: 100
    /// milliseconds).
    pub fn quiet_period(mut self, period: Duration) -> Self {
        self.quiet_period = period;
        self
    }

    /// How long to wait for a file that keeps changing (default: 2 seconds).
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How often to look for changes that the system does not report: on network file systems, behind a symbolic link,
    /// or of the folder itself (default: 30 seconds).
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }
}

/// Watches a file of clients, see [`FileRegistry::watch`]. Dropping it ends the watch.
///
/// It is a stream of the outcomes of reloading: the number of clients, or what is wrong. It yields the latest outcome
/// once; earlier outcomes that were not taken are dropped.
#[must_use = "dropping it ends the watch"]
pub struct FileWatch {
    _watcher: RecommendedWatcher,
    stop: mpsc::Sender<Message>,
    outcome: Arc<Outcome>,
}

#[derive(Default)]
struct Outcome(Mutex<(Option<Result<usize, Arc<FileError>>>, Option<Waker>)>);

impl Outcome {
    fn publish(&self, outcome: Result<usize, Arc<FileError>>) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.0 = Some(outcome);
        let waker = slot.1.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Stream for FileWatch {
    type Item = Result<usize, Arc<FileError>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut slot = self.outcome.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = slot.0.take();
        if outcome.is_none() {
            slot.1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(outcome)
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        // Sending fails only after the thread ended.
        let _ = self.stop.send(Message::Stop);
    }
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

/// Line and column, both from 1.
type Position = (usize, usize);

type Wrong = (Option<Position>, Problem);

fn read(path: &Path) -> Result<Vec<Client>, FileError> {
    let error = |position, problem| FileError { path: path.to_owned(), position, problem };
    let text = std::fs::read_to_string(path).map_err(|source| error(None, Problem::Read(source)))?;
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let parse = if is_toml { parse_toml } else { parse_json };
    parse(&text).map_err(|(position, problem)| error(position, problem))
}

/// The clients that were read so far.
#[derive(Default)]
struct Entries {
    ids: HashSet<String>,
    clients: Vec<Client>,
}

impl Entries {
    fn with_capacity(capacity: usize) -> Self {
        Self { ids: HashSet::with_capacity(capacity), clients: Vec::with_capacity(capacity) }
    }

    fn add(&mut self, metadata: Value) -> Result<(), Problem> {
        let client = Client::from_metadata(metadata).map_err(Problem::Client)?;
        if !self.ids.insert(client.id().to_owned()) {
            return Err(Problem::Repeated(client.id().to_owned()));
        }
        self.clients.push(client);
        Ok(())
    }
}

fn parse_json(text: &str) -> Result<Vec<Client>, Wrong> {
    // At the beginning of a line serde_json reports column 0.
    let syntax =
        |error: serde_json::Error| (Some((error.line(), error.column().max(1))), Problem::Syntax(error.into()));
    let offset = |entry: &RawValue| entry.get().as_ptr() as usize - text.as_ptr() as usize;
    let entries = match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(entries) => entries,
        // It may be an object; if not, that error fits a file that begins like one.
        Err(error) if !text.trim_start().starts_with('{') => return Err(syntax(error)),
        Err(_) => {
            let mut members: std::collections::BTreeMap<String, &RawValue> =
                serde_json::from_str(text).map_err(syntax)?;
            let clients = members.remove("clients").ok_or((Some((1, 1)), Problem::NoClients))?;
            serde_json::from_str(clients.get())
                .map_err(|_| (Some(position(text, offset(clients))), Problem::NoClients))?
        }
    };
    let mut clients = Entries::with_capacity(entries.len());
    for entry in entries {
        let wrong = |problem| (Some(position(text, offset(entry))), problem);
        let metadata = serde_json::from_str(entry.get()).map_err(|error| wrong(Problem::Syntax(error.into())))?;
        clients.add(metadata).map_err(wrong)?;
    }
    Ok(clients.clients)
}

fn parse_toml(text: &str) -> Result<Vec<Client>, Wrong> {
    let mut members = DeTable::parse(text).map_err(|error| {
        let position = error.span().map(|span| position(text, span.start));
        // Its `Display` spans several lines.
        (position, Problem::Syntax(error.message().into()))
    })?;
    let entries = members.get_mut().remove("clients").ok_or((Some((1, 1)), Problem::NoClients))?;
    let start = entries.span().start;
    let DeValue::Array(entries) = entries.into_inner() else {
        return Err((Some(position(text, start)), Problem::NoClients));
    };
    let mut clients = Entries::with_capacity(entries.len());
    for entry in entries {
        let start = entry.span().start;
        let metadata = json(entry.into_inner());
        clients.add(metadata).map_err(|problem| (Some(position(text, start)), problem))?;
    }
    Ok(clients.clients)
}

/// Dates, and numbers that JSON cannot express, become text.
fn json(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.into_owned().into(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => value.into(),
            Err(_) => number.to_string().into(),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
            Some(value) => value.into(),
            None => number.to_string().into(),
        },
        DeValue::Boolean(value) => value.into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(values) => values.into_iter().map(|value| json(value.into_inner())).collect(),
        DeValue::Table(members) => {
            let members = members.into_iter();
            members
                .map(|(name, value)| (name.into_inner().into_owned(), json(value.into_inner())))
                .collect::<Map<_, _>>()
                .into()
        }
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A file of clients was refused.
///
/// The message is one line: `clients.json:12:5: client "app": redirect_uris[0]: a fragment is not allowed …`.
#[derive(Debug)]
pub struct FileError {
    path: PathBuf,
    position: Option<Position>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Read(std::io::Error),
    Syntax(BoxError),
    Watch(notify::Error),
    NoClients,
    Client(ClientError),
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
            Problem::Watch(error) => write!(f, ": its folder cannot be watched: {error}"),
            Problem::NoClients => f.write_str(": must be an array of clients, or an object with an array `clients`"),
            Problem::Client(error) => write!(f, ": {error}"),
            Problem::Repeated(id) => write!(f, ": client {id:?}: client_id is repeated"),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(error) => Some(error),
            Problem::Syntax(error) => Some(&**error),
            Problem::Watch(error) => Some(error),
            Problem::Client(error) => Some(error),
            Problem::NoClients | Problem::Repeated(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let FileWatchConfig { quiet_period, max_delay, poll_interval } = FileWatchConfig::new();
        assert_eq!(quiet_period, Duration::from_millis(100));
        assert_eq!((max_delay, poll_interval), (Duration::from_secs(2), Duration::from_secs(30)));
    }
}
