//! Clients from environment variables.

use std::fmt;

use super::MemoryRegistry;
use crate::client::{Client, ClientBuilder, ClientError};

/// What a client gets that names no redirect URI: any port of the loopback host, any path.
pub const DEFAULT_REDIRECT_URIS: [&str; 2] = ["http://localhost:*", "http://127.0.0.1:*"];

/// What clients from the environment may ask for.
pub const DEFAULT_SCOPES: &str = "openid profile email mcp-server:api";

/// Names of clients that are widely used; any other id is written in title case.
const DISPLAY_NAMES: [(&str, &str); 5] = [
    ("claude-desktop", "Claude Desktop"),
    ("continue-dev", "Continue IDE Extension"),
    ("zed-editor", "Zed Editor"),
    ("vscode-mcp", "VS Code MCP Extension"),
    ("test-mcp-client", "Test MCP Client"),
];

/// Clients as two environment variables name them.
///
/// - `ALLOWED_MCP_CLIENTS`: entries separated by commas, each `id` (with [`DEFAULT_REDIRECT_URIS`]) or
///   `id|uri|uri`. Blanks around ids and URIs do not count, empty entries are skipped, malformed ones are
///   left out, with a [warning](Environment::warnings). All may ask for [`DEFAULT_SCOPES`].
/// - `ENABLE_DCR`: `true`, in any case, switches [`MemoryRegistry::register`] on.
///
/// Unset or empty: no client at all, and a warning. Well-known clients exist only
/// [by name](Environment::with_well_known).
///
/// ```
/// use tower_oauth_client_validation::Environment;
///
/// let environment = Environment::parse(Some("claude-desktop, web|https://app.example/cb"), Some("false"));
/// assert!(environment.warnings().is_empty());
/// let registry = environment.into_registry();
/// assert_eq!(registry.get("claude-desktop").unwrap().name(), Some("Claude Desktop"));
/// assert!(registry.check("claude-desktop", Some("http://localhost:5173/any"), Some("openid")).is_ok());
/// assert!(registry.check("web", Some("https://app.example/cb"), None).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Environment {
    clients: Vec<Client>,
    dynamic_registration: bool,
    warnings: Vec<EnvironmentWarning>,
}

impl Environment {
    /// Reads `ALLOWED_MCP_CLIENTS` and `ENABLE_DCR` of this process. Warnings are logged.
    pub fn from_process() -> Self {
        let read = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let environment = Self::parse(read("ALLOWED_MCP_CLIENTS").as_deref(), read("ENABLE_DCR").as_deref());
        for warning in &environment.warnings {
            tracing::warn!(%warning, "ALLOWED_MCP_CLIENTS");
        }
        environment
    }

    /// Reads the values of the two variables; `None` is unset.
    pub fn parse(allowed_clients: Option<&str>, enable_dcr: Option<&str>) -> Self {
        let mut environment = Self {
            dynamic_registration: enable_dcr.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            ..Self::default()
        };
        for entry in allowed_clients.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse_entry(entry) {
                Ok(client) => environment.add(entry, client),
                Err(problem) => environment.warn(entry, problem),
            }
        }
        if environment.clients.is_empty() {
            environment.warnings.push(EnvironmentWarning { entry: None, problem: Problem::NoClients });
        }
        environment
    }

    /// Adds clients for development; one that the environment names stays as it is.
    pub fn with_well_known(mut self, clients: impl IntoIterator<Item = WellKnownClient>) -> Self {
        for client in clients.into_iter().map(WellKnownClient::client) {
            if self.clients.iter().all(|known| known.id() != client.id()) {
                self.clients.push(client);
            }
        }
        self
    }

    /// The clients.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Whether `ENABLE_DCR` is on.
    #[must_use]
    pub fn dynamic_registration(&self) -> bool {
        self.dynamic_registration
    }

    /// What was left out, and why.
    #[must_use]
    pub fn warnings(&self) -> &[EnvironmentWarning] {
        &self.warnings
    }

    /// The registry of these clients.
    #[must_use]
    pub fn into_registry(self) -> MemoryRegistry {
        MemoryRegistry::from_clients(self.clients).dynamic_registration(self.dynamic_registration)
    }

    fn add(&mut self, entry: &str, client: Client) {
        if self.clients.iter().any(|known| known.id() == client.id()) {
            self.warn(entry, Problem::Repeated);
        } else {
            self.clients.push(client);
        }
    }

    fn warn(&mut self, entry: &str, problem: Problem) {
        self.warnings.push(EnvironmentWarning { entry: Some(entry.to_owned()), problem });
    }
}

fn parse_entry(entry: &str) -> Result<Client, Problem> {
    let mut parts = entry.split('|').map(str::trim);
    let id = parts.next().filter(|id| !id.is_empty()).ok_or(Problem::NoId)?;
    let mut builder = mcp_client(id);
    let mut has_uri = false;
    for uri in parts {
        if uri.is_empty() {
            return Err(Problem::EmptyUri);
        }
        has_uri = true;
        builder = builder.redirect_uri(uri);
    }
    if !has_uri {
        builder = with_default_redirect_uris(builder);
    }
    builder.build().map_err(Problem::Client)
}

fn mcp_client(id: &str) -> ClientBuilder {
    Client::builder(id).name(display_name(id)).scope(DEFAULT_SCOPES)
}

fn with_default_redirect_uris(builder: ClientBuilder) -> ClientBuilder {
    DEFAULT_REDIRECT_URIS.into_iter().fold(builder, |builder, uri| builder.redirect_uri(uri))
}

fn display_name(id: &str) -> String {
    if let Some((_, name)) = DISPLAY_NAMES.iter().find(|(known, _)| *known == id) {
        return (*name).to_owned();
    }
    let mut in_word = false;
    id.replace('-', " ")
        .chars()
        .map(|c| {
            let begins_word = c.is_ascii_alphabetic() && !in_word;
            in_word = c.is_ascii_alphabetic();
            if begins_word { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
        })
        .collect()
}

/// Clients that developers of MCP servers use; see [`Environment::with_well_known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WellKnownClient {
    /// `claude-desktop`
    ClaudeDesktop,
    /// `test-mcp-client`
    TestMcpClient,
}

impl WellKnownClient {
    fn client(self) -> Client {
        let id = match self {
            Self::ClaudeDesktop => "claude-desktop",
            Self::TestMcpClient => "test-mcp-client",
        };
        with_default_redirect_uris(mcp_client(id)).build().expect("the ids and URIs above are legal")
    }
}

/// Something in the environment that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentWarning {
    entry: Option<String>,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NoClients,
    NoId,
    EmptyUri,
    Repeated,
    Client(ClientError),
}

impl EnvironmentWarning {
    /// The entry; `None` where the warning is about all of them.
    #[must_use]
    pub fn entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }
}

impl fmt::Display for EnvironmentWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(f, "entry {entry:?} is left out: ")?;
        }
        match &self.problem {
            Problem::NoClients => f.write_str("no client is allowed, every request will be refused"),
            Problem::NoId => f.write_str("it has no client id"),
            Problem::EmptyUri => f.write_str("it has an empty redirect URI"),
            Problem::Repeated => f.write_str("an earlier entry has the same client id"),
            Problem::Client(error) => error.kind().fmt(f),
        }
    }
}
