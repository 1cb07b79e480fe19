//! The clients that the server knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_oauth_client_validation::{
    AllowedScopes, BoxRegistry, BoxStore, Client, ClientBuilder, ClientError, Environment, FileError, FileRegistry,
    GrantTypes, MemoryRegistry, MetadataDocumentRegistry, RedirectUri, RegistrySource, RegistryStore, Scope,
};

use crate::args::RegistryKind;

pub(crate) struct Clients {
    /// Who is asked for a client.
    pub(crate) source: BoxRegistry,
    /// Who of them knows those that are configured or registered.
    pub(crate) held: BoxRegistry,
    /// Where clients can be registered, and their use is recorded.
    pub(crate) store: BoxStore,
    /// Those that were there at the start, by id.
    pub(crate) listed: Vec<Arc<Client>>,
}

impl Clients {
    /// `demo_callback` is a page of this server that shows what a client would get.
    pub(crate) fn open(kind: &RegistryKind, demo_callback: &str) -> Result<Self, OpenError> {
        match kind {
            RegistryKind::Memory => Ok(Self::in_memory(&MemoryRegistry::from_clients(
                demo_clients(demo_callback).map_err(OpenError::Demo)?,
            ))),
            RegistryKind::Env => Ok(Self::in_memory(&Environment::from_process().into_registry())),
            RegistryKind::File(path) => {
                let file = FileRegistry::load(path).map_err(OpenError::File)?;
                // Nothing is ever written to the file. An id that it holds is never somebody else's.
                let registered = MemoryRegistry::new();
                Ok(Self::new(file.clients(), file.or(registered.clone()).boxed(), &registered))
            }
        }
    }

    fn in_memory(registry: &MemoryRegistry) -> Self {
        Self::new(registry.list(), registry.clone().boxed(), registry)
    }

    /// `store` is a part of `source`.
    fn new(mut listed: Vec<Arc<Client>>, source: BoxRegistry, store: &MemoryRegistry) -> Self {
        listed.sort_by(|a, b| a.id().cmp(b.id()));
        Self { held: Arc::clone(&source), source, store: store.clone().boxed_store(), listed }
    }

    /// The scopes that those listed may have, where they are known by name.
    pub(crate) fn scopes(&self) -> Option<Scope> {
        let scopes = self.listed.iter().filter_map(|client| match client.allowed_scopes()? {
            AllowedScopes::Listed(scope) => Some(scope.iter()),
            AllowedScopes::All => None,
        });
        let scopes: BTreeSet<_> = scopes.flatten().collect();
        Scope::from_tokens(scopes).ok().filter(|scopes| !scopes.is_empty())
    }

    /// Asks `documents` for clients that are not held here.
    pub(crate) fn or_documents(mut self, documents: MetadataDocumentRegistry) -> Self {
        self.source = Arc::clone(&self.held).or(documents).boxed();
        self
    }
}

fn demo_clients(callback: &str) -> Result<Vec<Client>, ClientError> {
    let both_grants = GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::REFRESH_TOKEN);
    let demo = |id: &str, name: &str| {
        Client::builder(id).name(name).scope("profile photos:read photos:write").grant_types(both_grants)
    };
    let here = |builder: ClientBuilder| match RedirectUri::insecure_http(callback) {
        // A server that listens on an address other than loopback has no TLS of its own.
        Ok(uri) => builder.judged_redirect_uri(uri),
        Err(_) => builder.redirect_uri(callback),
    };
    Ok(vec![
        here(demo("demo-app", "Demo App")).default_scope("profile").build()?,
        here(demo("demo-web", "Demo Website")).confidential().metadata("client_secret", "demo-secret").build()?,
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
pub(crate) enum OpenError {
    Demo(ClientError),
    File(FileError),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo(error) => write!(f, "demonstration clients: {error}"),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}
