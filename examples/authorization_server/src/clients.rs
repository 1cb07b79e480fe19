//! The clients that the server knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::causes::Causes;
use shared::registry::{DEFAULT, Location, OpenError, Registry};
use tower_oauth_client_validation::{
    AllowedScopes, BoxRegistry, BoxStore, CachedRegistry, Client, ClientBuilder, ClientError, ClientOrigin,
    ConfigError, FileWatch, GrantTypes, MemoryRegistry, MetadataDocumentBuilder, RedirectUri, RedisStateStore,
    RegistryError, RegistrySource, RegistryStore, StateError, StateStore, StoreError,
};
use url::Url;

use crate::DEMO_CALLBACK;
use crate::args::State;

/// A page with a million clients would be useless and slow.
const LISTED: usize = 1000;

/// The SHA-256 of `demo-secret`, the secret of `demo-web`.
const DEMO_SECRET_SHA256: &str = "cd577fe2561ebff23505db0bb006300c7cdecbd46bc0e03c449afafaca2c25bf";

pub(crate) struct Clients {
    /// Who is asked for a client.
    pub(crate) source: BoxRegistry,
    /// Clients that can only be read. They win over those of the store.
    read_only: Option<BoxRegistry>,
    /// Where clients are registered, documents are kept, and uses are recorded.
    pub(crate) store: BoxStore,
    registry: Registry,
    location: Location,
    /// An edit of the file counts from then on.
    _watch: Option<FileWatch>,
}

impl Clients {
    /// Without a location they are in a file beside the program, which begins with those for demonstration.
    /// `demo_callback` is a page of this server that shows what a client would get.
    pub(crate) async fn open(location: Option<&Location>, demo_callback: &Url) -> Result<Self, StartError> {
        let default = Location::Sqlite(DEFAULT.to_owned());
        if location.is_none() {
            let file = DEFAULT.trim_start_matches("sqlite://");
            let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
            eprintln!("clients are in {} (elsewhere: --registry)", path.display());
        }
        let opened = location.cloned().unwrap_or(default);
        let registry = Registry::open(&opened).await?;
        registry.migrate().await.map_err(OpenError::from)?;
        let watch = match &registry {
            Registry::File(file) => Some(file.watch().map_err(OpenError::from)?),
            _ => None,
        };
        let store = registry.store();
        if let (Some(store), None | Some(Location::Memory)) = (&store, location) {
            demonstrate(store, demo_callback).await?;
        }
        let (source, read_only, store) = match (&registry, store) {
            (Registry::Postgres(postgres), _) => {
                let cached = CachedRegistry::new(postgres.clone());
                // Other nodes, and operators, change clients too.
                tokio::spawn(cached.follow(postgres.changes()));
                (cached.clone().boxed(), None, cached.boxed_store())
            }
            (_, Some(store)) => (registry.source(), None, store),
            (_, None) => {
                let (read_only, registered) = (registry.source(), MemoryRegistry::new());
                let source = Arc::clone(&read_only).or(registered.clone()).boxed();
                (source, Some(read_only), registered.boxed_store())
            }
        };
        Ok(Self { source, read_only, store, registry, location: opened, _watch: watch })
    }

    /// Where used client assertions and pushed requests are kept, unless elsewhere.
    pub(crate) async fn state_store(&self, elsewhere: Option<&State>) -> Result<Arc<dyn StateStore>, StateError> {
        match elsewhere {
            None => Registry::state_store(&self.location).await,
            Some(State::Database(location)) => Registry::state_store(location).await,
            Some(State::Redis(url)) => Ok(Arc::new(RedisStateStore::connect(url).await?)),
        }
    }

    /// Accepts metadata documents, which are kept in the store: they survive a restart, and the operator can disable them.
    pub(crate) fn with_documents(mut self, documents: MetadataDocumentBuilder) -> Result<Self, ConfigError> {
        let documents = documents.store(Arc::clone(&self.store)).build()?;
        self.source = match (&self.read_only, &self.registry) {
            (Some(read_only), _) => Arc::clone(read_only).or(documents).boxed(),
            (None, Registry::Postgres(postgres)) => {
                let cached = CachedRegistry::new(documents);
                tokio::spawn(cached.follow(postgres.changes()));
                cached.boxed()
            }
            (None, _) => documents.boxed(),
        };
        Ok(self)
    }

    /// Whether a client came with a document: nobody configured or registered it.
    pub(crate) async fn is_document(&self, client_id: &str) -> bool {
        if let Some(read_only) = &self.read_only
            && !matches!(read_only.find_client(client_id).await, Ok(None))
        {
            return false;
        }
        match self.store.record(client_id).await {
            Ok(Some(record)) => record.origin == ClientOrigin::MetadataDocument,
            // A document that found no room.
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// The first of them, by id.
    pub(crate) async fn listed(&self) -> Result<Vec<Arc<Client>>, RegistryError> {
        let listed = self.registry.list(None, LISTED).await;
        if let Err(error) = &listed {
            tracing::error!(error = %Causes(error), "clients cannot be listed");
        }
        listed
    }
}

/// The scopes that these clients may have, where they are known by name.
pub(crate) fn scopes(clients: &[Arc<Client>]) -> BTreeSet<&str> {
    let scopes = clients.iter().filter_map(|client| match client.allowed_scopes()? {
        AllowedScopes::Listed(scope) => Some(scope.iter()),
        AllowedScopes::All => None,
    });
    scopes.flatten().collect()
}

/// An empty store gets the demonstration clients. In one that has them they move to where the server is now.
async fn demonstrate(store: &BoxStore, callback: &Url) -> Result<(), StartError> {
    let is_empty = store.list(None, 1).await.map_err(OpenError::from)?.is_empty();
    for client in demo_clients(callback).map_err(StartError::Demo)? {
        let known = store.record(client.id()).await.map_err(OpenError::from)?;
        let written = match known {
            None if is_empty => store.insert(client, ClientOrigin::Configured).await,
            Some(record) if record.origin == ClientOrigin::Configured && has_moved(&record.client, &client) => {
                let mut moved = record.client.to_builder().clear_redirect_uris();
                for uri in client.redirect_uris() {
                    moved = moved.parsed_redirect_uri(uri.clone());
                }
                store.replace_unchanged(&record.client, moved.build().map_err(StartError::Demo)?).await
            }
            _ => continue,
        };
        match written {
            // Another server, or an operator, was there first.
            Ok(_) | Err(StoreError::AlreadyExists | StoreError::Missing | StoreError::Changed) => {}
            Err(error) => return Err(StartError::Store(error)),
        }
    }
    Ok(())
}

/// Whether its only redirect URI is the page of a server that listened elsewhere.
fn has_moved(known: &Client, demo: &Client) -> bool {
    match (known.redirect_uris(), demo.redirect_uris()) {
        ([old], [new]) => old != new && old.as_str().ends_with(DEMO_CALLBACK),
        _ => false,
    }
}

fn demo_clients(callback: &Url) -> Result<Vec<Client>, ClientError> {
    // A server that listens on an address other than loopback does no TLS itself.
    let callback = if RedirectUri::parse(callback.as_str()).is_ok() {
        callback.to_string()
    } else {
        format!("http://127.0.0.1:{}{DEMO_CALLBACK}", callback.port_or_known_default().unwrap_or(80))
    };
    let both_grants = GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::REFRESH_TOKEN);
    let demo = |id: &str, name: &str| {
        Client::builder(id).name(name).scope("profile photos:read photos:write").grant_types(both_grants)
    };
    let here = |builder: ClientBuilder| builder.redirect_uri(&callback);
    Ok(vec![
        here(demo("demo-app", "Demo App")).default_scope("profile").build()?,
        here(demo("demo-web", "Demo Website"))
            .confidential()
            .metadata("client_secret_sha256", DEMO_SECRET_SHA256)
            .build()?,
        demo("demo-desktop", "Demo Desktop App")
            .redirect_uri("http://127.0.0.1/demo/callback")
            .redirect_uri("http://localhost/demo/callback")
            .redirect_uri("com.example.demo:/callback")
            .build()?,
        demo("demo-any-port", "Demo Command Line Tool")
            .redirect_uri("http://localhost:*")
            .redirect_uri("http://127.0.0.1:*")
            .build()?,
        here(demo("demo-disabled", "Demo App, switched off")).disabled(true).build()?,
        here(demo("demo-expired", "Demo App of the past"))
            .expires_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
            .build()?,
    ])
}

/// The clients cannot be had.
#[derive(Debug)]
pub(crate) enum StartError {
    Open(OpenError),
    Demo(ClientError),
    Store(StoreError),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Demo(error) => write!(f, "demonstration clients: {error}"),
            Self::Store(error) => write!(f, "demonstration clients: {}", Causes(error)),
        }
    }
}

impl std::error::Error for StartError {}
