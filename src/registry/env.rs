//! Clients from environment variables, and a registry for them.

use std::fmt;
use std::future::Ready;
use std::sync::Arc;
use std::time::SystemTime;

use super::{MemoryRegistry, RegistryError, RegistrySource, StoreError};
use crate::client::{
    Client, ClientBuilder, ClientError, ClientOrigin, LoopbackPorts, RedirectUriMismatch, is_scope_value, tokens,
};

/// Names of widely used clients. Any other id is written in title case.
const DISPLAY_NAMES: [(&str, &str); 5] = [
    ("claude-desktop", "Claude Desktop"),
    ("continue-dev", "Continue IDE Extension"),
    ("zed-editor", "Zed Editor"),
    ("vscode-mcp", "VS Code MCP Extension"),
    ("test-mcp-client", "Test MCP Client"),
];

/// Clients from two environment variables.
///
/// - `ALLOWED_MCP_CLIENTS`: entries separated by commas, each `id` or `id|uri|uri`. A client without URIs gets
///   [`Environment::DEFAULT_REDIRECT_URIS`], and every client may ask for [`Environment::DEFAULT_SCOPES`]. White space
///   around ids and URIs is ignored, empty entries are skipped, and malformed ones are left out with a
///   [warning](Environment::warnings).
/// - `ENABLE_DCR`: `true`, in any case, lets clients [register](EnvironmentRegistry::register).
///
/// If `ALLOWED_MCP_CLIENTS` is unset or empty, there are no clients, and a warning. Well-known clients must be
/// [added explicitly](Environment::with_well_known).
///
/// ```
/// use tower_oauth_client_validation::{Environment, MemoryRegistry};
///
/// let environment = Environment::parse(Some("claude-desktop, web|https://app.example/cb"), Some("false"));
/// assert!(environment.warnings().is_empty());
/// let registry: MemoryRegistry = environment.into_registry();
/// assert_eq!(registry.get("claude-desktop").unwrap().name(), Some("Claude Desktop"));
/// assert!(registry.get("claude-desktop").unwrap().redirect_uris()[0].matches("http://localhost:5173/any"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Environment {
    clients: Vec<Client>,
    dynamic_registration: bool,
    warnings: Vec<EnvironmentWarning>,
}

impl Environment {
    /// The redirect URIs of a client without any of its own: any port and path on the loopback hosts.
    pub const DEFAULT_REDIRECT_URIS: [&str; 2] = ["http://localhost:*", "http://127.0.0.1:*"];

    /// The scopes that clients from the environment may request.
    pub const DEFAULT_SCOPES: &str = "openid profile email mcp-server:api";

    /// Reads `ALLOWED_MCP_CLIENTS` and `ENABLE_DCR` of this process. Warnings are logged.
    pub fn from_process() -> Self {
        let read = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let environment = Self::parse(read("ALLOWED_MCP_CLIENTS").as_deref(), read("ENABLE_DCR").as_deref());
        for warning in &environment.warnings {
            tracing::warn!(%warning, "ALLOWED_MCP_CLIENTS");
        }
        environment
    }

    /// Reads the values of the two variables. `None` stands for an unset one.
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

    /// Adds clients for development. They do not replace clients of the environment.
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

    /// The entries that were left out, and why.
    #[must_use]
    pub fn warnings(&self) -> &[EnvironmentWarning] {
        &self.warnings
    }

    /// A registry of these clients. [`EnvironmentRegistry`] also takes registrations.
    #[must_use]
    pub fn into_registry(self) -> MemoryRegistry {
        MemoryRegistry::from_clients(self.clients)
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
    Client::builder(id).name(display_name(id)).scope(Environment::DEFAULT_SCOPES)
}

fn with_default_redirect_uris(builder: ClientBuilder) -> ClientBuilder {
    Environment::DEFAULT_REDIRECT_URIS.into_iter().fold(builder, |builder, uri| builder.redirect_uri(uri))
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

/// Clients that developers of MCP servers use, see [`Environment::with_well_known`].
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

/// An entry of the environment that was left out.
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
    /// The entry. `None` where the warning concerns all of them.
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

/// A registry with the methods of the Python registry that reads the same variables.
///
/// New servers should use [`RegistrationService`](crate::RegistrationService) or
/// [`UpstreamRegistration`](crate::UpstreamRegistration), which validate what clients register, and the layer.
///
/// ```
/// use tower_oauth_client_validation::{Client, Environment, EnvironmentRegistry};
///
/// let registry = EnvironmentRegistry::from(Environment::parse(Some("web|https://app.example/cb"), Some("true")));
/// registry.register(Client::builder("native").redirect_uri("http://127.0.0.1/cb").build()?)?;
/// assert!(registry.check("web", Some("https://app.example/cb"), Some("openid")).is_ok());
/// assert!(registry.check("native", Some("http://127.0.0.1:49152/cb"), None).is_ok());
/// assert!(registry.check("native", Some("https://evil.example/cb"), None).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EnvironmentRegistry {
    clients: MemoryRegistry,
    dynamic_registration: bool,
}

impl From<Environment> for EnvironmentRegistry {
    fn from(environment: Environment) -> Self {
        let dynamic_registration = environment.dynamic_registration;
        Self { clients: environment.into_registry(), dynamic_registration }
    }
}

impl EnvironmentRegistry {
    /// The clients.
    #[must_use]
    pub fn clients(&self) -> &MemoryRegistry {
        &self.clients
    }

    /// Adds a client that registers itself.
    ///
    /// # Errors
    ///
    /// When `ENABLE_DCR` is off, the id is taken, or the registry is full.
    pub fn register(&self, client: Client) -> Result<Arc<Client>, RegisterError> {
        if !self.dynamic_registration {
            return Err(RegisterError::RegistrationDisabled);
        }
        Ok(self.clients.insert_from(client, ClientOrigin::Registered)?)
    }

    /// Adds a client that an upstream identity provider registered, or replaces it where it was added this way before.
    ///
    /// Its scopes are `*`, because the upstream decides about them. Without redirect URIs it gets
    /// [`Environment::DEFAULT_REDIRECT_URIS`], and without a name `DCR-` and the first 8 characters of its id.
    ///
    /// # Errors
    ///
    /// When a redirect URI breaks a rule, when the id belongs to a client that was added another way, or that is
    /// disabled, revoked or expired, or when the registry is full.
    pub fn register_for_upstream<U: AsRef<str>>(
        &self,
        client_id: &str,
        redirect_uris: impl IntoIterator<Item = U>,
        name: Option<&str>,
    ) -> Result<Arc<Client>, RegisterError> {
        let name = name.map_or_else(|| format!("DCR-{}", client_id.chars().take(8).collect::<String>()), str::to_owned);
        let mut builder = Client::builder(client_id).name(name).scope("*");
        let mut redirect_uris = redirect_uris.into_iter().peekable();
        if redirect_uris.peek().is_none() {
            builder = with_default_redirect_uris(builder);
        }
        let client = redirect_uris.fold(builder, |builder, uri| builder.redirect_uri(uri)).build()?;
        loop {
            let done = match self.clients.get(client_id) {
                None => self.clients.insert_from(client.clone(), ClientOrigin::Upstream),
                Some(known) => {
                    let is_active = known.is_active_at(SystemTime::now());
                    if !is_active || self.clients.origin(client_id) != Some(ClientOrigin::Upstream) {
                        return Err(RegisterError::AlreadyExists);
                    }
                    self.clients.exchange(&known, client.clone().with_operator_decisions(&known))
                }
            };
            match done {
                // Another thread was faster.
                Err(StoreError::AlreadyExists | StoreError::Changed | StoreError::Missing) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Checks that a client may use a redirect URI and scopes, outside of any request. `None` is not checked.
    ///
    /// # Errors
    ///
    /// Says which of them the client may not use.
    pub fn check(
        &self,
        client_id: &str,
        redirect_uri: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Arc<Client>, CheckError> {
        let client = self.clients.get(client_id).ok_or(CheckError::ClientUnknown)?;
        if !client.is_active_at(SystemTime::now()) {
            return Err(CheckError::ClientInactive);
        }
        if let Some(redirect_uri) = redirect_uri {
            client.check_redirect_uri(redirect_uri, LoopbackPorts::Any).map_err(CheckError::RedirectUri)?;
        }
        if let Some(scope) = scope {
            let is_allowed = |token| client.allowed_scopes().is_some_and(|allowed| allowed.contains(token));
            if !is_scope_value(scope) || !tokens(scope).all(is_allowed) {
                return Err(CheckError::Scope);
            }
        }
        Ok(client)
    }
}

impl RegistrySource for EnvironmentRegistry {
    type Future = Ready<Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        self.clients.find_client(client_id)
    }
}

/// An [`EnvironmentRegistry`] refused a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Clients cannot register themselves here.
    RegistrationDisabled,
    /// The id is taken.
    AlreadyExists,
    /// The registry holds as many bytes as it may.
    Full,
    /// The client breaks a rule.
    Client(ClientError),
}

impl From<ClientError> for RegisterError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<StoreError> for RegisterError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            _ => Self::AlreadyExists,
        }
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegistrationDisabled => f.write_str("dynamic registration is disabled"),
            Self::AlreadyExists => f.write_str("a client with this id exists"),
            Self::Full => f.write_str("the registry is full"),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::RegistrationDisabled | Self::AlreadyExists | Self::Full => None,
            Self::Client(error) => error.source(),
        }
    }
}

/// What a client may not use, see [`EnvironmentRegistry::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckError {
    /// The client is unknown.
    ClientUnknown,
    /// The client is disabled, revoked or expired.
    ClientInactive,
    /// The redirect URI is not one of the client's.
    RedirectUri(RedirectUriMismatch),
    /// The client may not ask for one of the scopes.
    Scope,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientUnknown => "the client is unknown",
            Self::ClientInactive => "the client is disabled, revoked or expired",
            Self::RedirectUri(RedirectUriMismatch::Malformed(_)) => "the redirect URI is malformed",
            Self::RedirectUri(RedirectUriMismatch::NotRegistered(_)) => "the redirect URI is not registered",
            Self::Scope => "the client may not ask for this scope",
        })
    }
}

impl std::error::Error for CheckError {}
