//! Settings for fetching, checking and keeping documents.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::cache::{Cache, CacheBounds};
use super::document::DocumentPolicy;
use super::kept::KeptDocuments;
use super::{MetadataDocumentRegistry, Shared, Trust};
use crate::client::member::uses_secret;
use crate::client::{AllowedScopes, DynamicClientRules, Scope};
use crate::fetch::single_flight::SingleFlight;
use crate::fetch::{Fetcher, FetcherConfig, Limits, fetcher_settings};
use crate::registry::{BoxStore, ConfigError, RegistryStore};

/// Builds a [`MetadataDocumentRegistry`].
#[derive(Clone)]
#[must_use]
pub struct MetadataDocumentBuilder {
    hosts: Option<BTreeSet<String>>,
    trust: Option<Arc<Trust>>,
    policy: DocumentPolicy,
    fetcher: FetcherConfig,
    cache: CacheBounds,
    store: Option<BoxStore>,
}

impl MetadataDocumentBuilder {
    pub(super) fn new() -> Self {
        Self {
            hosts: None,
            trust: None,
            policy: DocumentPolicy::default(),
            fetcher: FetcherConfig::new(5 * 1024),
            cache: CacheBounds {
                shortest: Duration::from_secs(60),
                longest: Duration::from_secs(24 * 3600),
                stale: Duration::from_secs(3600),
                max_documents: 1000,
                max_bytes: 16 * 1024 * 1024,
            },
            store: None,
        }
    }

    /// Fetches documents of these hosts only (default: of any host). `*.example.com` stands for every host below
    /// `example.com`, but not for `example.com` itself.
    pub fn allowed_hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Asks before each fetch whether this document may be fetched (default: every document may).
    pub fn trust(mut self, trust: impl Fn(&Url) -> bool + Send + Sync + 'static) -> Self {
        self.trust = Some(Arc::new(trust));
        self
    }

    /// The rules for the metadata in documents: sizes, schemes of redirect URIs, and your own check (default:
    /// [`DynamicClientRules::new`]).
    pub fn rules(mut self, rules: DynamicClientRules) -> Self {
        self.policy.rules = rules;
        self
    }

    /// The methods by which clients can authenticate at this server, such as `AuthenticationPolicy::methods` (default:
    /// `none`, `private_key_jwt`). Methods with a secret do not count, since a document can hold none.
    ///
    /// A client that offers several methods (`token_endpoint_auth_methods_supported`) uses the first of them that is
    /// named here. A document without a method that is named here is refused.
    pub fn auth_methods<T: Into<String>>(mut self, methods: impl IntoIterator<Item = T>) -> Self {
        self.policy.auth_methods = methods.into_iter().map(Into::into).filter(|method| !uses_secret(method)).collect();
        self
    }

    /// Refuses documents without a `client_name` (default: no). Set it with the `mcp` preset.
    pub fn require_client_name(mut self, required: bool) -> Self {
        self.policy.require_name = required;
        self
    }

    /// The scopes that a document may name in addition to the [default ones](Self::default_scopes) (default: none). Other scopes
    /// in a document are ignored, because it is written for many servers.
    pub fn allowed_scopes(mut self, scopes: Scope) -> Self {
        self.policy.allowed_scopes = Some(AllowedScopes::new(scopes));
        self
    }

    /// The scopes of a client whose document names none (default: no scope list, so that
    /// [`PolicyBuilder::unlisted_scopes`](crate::PolicyBuilder::unlisted_scopes) decides).
    pub fn default_scopes(mut self, scopes: Scope) -> Self {
        self.policy.default_scopes = Some(scopes);
        self
    }

    /// Lets every client request all [`allowed_scopes`](Self::allowed_scopes), even if its document does not name them
    /// (default: no).
    /// A request without `scope` is then granted the scopes that the document names, or the default ones.
    pub fn grant_all_scopes(mut self, all: bool) -> Self {
        self.policy.grant_all_scopes = all;
        self
    }

    fetcher_settings! {
        ///
        /// ```
        /// use std::convert::Infallible;
        ///
        /// use bytes::Bytes;
        /// use http::{Request, Response};
        /// use http_body_util::Full;
        /// use tower_oauth_client_validation::{MetadataDocumentRegistry, RegistrySource};
        ///
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let recorded = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        ///     let document = format!(r#"{{"client_id":"{}","redirect_uris":["https://app.example/cb"]}}"#, request.uri());
        ///     let response = Response::builder().header("content-type", "application/json");
        ///     Ok::<_, Infallible>(response.body(Full::<Bytes>::from(document)).unwrap())
        /// });
        /// let documents = MetadataDocumentRegistry::builder().fetcher(recorded).build()?;
        /// assert!(documents.find_client("https://app.example/client.json").await?.is_some());
        /// # Ok(())
        /// # }
        /// ```
    }

    /// How large a document may be (default: 5 KiB).
    pub fn max_document_bytes(mut self, bytes: usize) -> Self {
        self.fetcher.max_bytes = bytes;
        self
    }

    /// How many fetches run at the same time (default: 256). More are refused at once. A quarter of this and of the
    /// following limits is kept free for hosts whose last answer came in time.
    pub fn max_fetches(mut self, fetches: usize) -> Self {
        self.fetcher.limits.all = fetches;
        self
    }

    /// How many fetches run at the same time for one registrable domain, such as `example.com` for `a.b.example.com`
    /// (default: 4).
    pub fn max_fetches_per_domain(mut self, fetches: usize) -> Self {
        self.fetcher.limits.per_domain = fetches;
        self
    }

    /// How many fetches run at the same time for one network, IPv4 /24 or IPv6 /48 (default: 16).
    pub fn max_fetches_per_network(mut self, fetches: usize) -> Self {
        self.fetcher.limits.per_network = fetches;
        self
    }

    /// The bounds of how long a document is cached (default: a minute to a day). Documents that forbid storing are not
    /// cached.
    pub fn cache_lifetime(mut self, shortest: Duration, longest: Duration) -> Self {
        self.cache.shortest = shortest;
        self.cache.longest = longest;
        self
    }

    /// How many documents are kept (default: 1000). Documents of the domain with the most bytes are evicted first.
    pub fn max_cached_documents(mut self, documents: usize) -> Self {
        self.cache.max_documents = documents;
        self
    }

    /// How much memory the kept documents take, by an estimate of their size (default: 16 MiB).
    pub fn max_cached_bytes(mut self, bytes: usize) -> Self {
        self.cache.max_bytes = bytes;
        self
    }

    /// How long a document is used beyond its lifetime while its host fails (default: an hour), unless the document
    /// forbids it (RFC 9111 §4.2.4).
    pub fn stale_if_error(mut self, bound: Duration) -> Self {
        self.cache.stale = bound;
        self
    }

    /// Keeps documents in this store instead of in memory: they survive a restart, and the operator lists and disables
    /// their clients like any others, with the origin [`ClientOrigin::MetadataDocument`](crate::ClientOrigin).
    ///
    /// This registry then answers all clients of the store. Do not put the store in front of it: the store alone never
    /// fetches a document again. Put a `CachedRegistry` (feature `cache`) around this registry if the store is slow.
    ///
    /// A client that did not come from a document is answered as it is. So is one that was disabled or revoked, or that
    /// expired; its document is not fetched. What the operator decided about a client (`trusted`, `expires_at`)
    /// stays when its document changes; new redirect URIs end its trust. So do limits: redirect URIs, scopes and other
    /// members of lists that the operator removed do not come back with the document, and other members stay as the
    /// operator set them. A document that was withdrawn is removed, unless the operator limited the client.
    ///
    /// [`max_cached_documents`](Self::max_cached_documents) bounds their number: the oldest client that was never
    /// [used](crate::RegistryStore::touch), or else one that was not used for 90 days, is removed. A document for which there is no
    /// room is not kept. A client that made room begins anew with its document: disable those that must not come back,
    /// since they never make room.
    ///
    /// ```
    /// use tower_oauth_client_validation::{
    ///     Client, ClientOrigin, MemoryRegistry, MetadataDocumentRegistry, RegistrySource, RegistryStore,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryRegistry::new();
    /// RegistryStore::insert(&store, Client::builder("app").build()?, ClientOrigin::Configured).await?;
    /// let registry = MetadataDocumentRegistry::builder().store(store.clone()).build()?;
    /// assert!(registry.find_client("app").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn store<S>(mut self, store: S) -> Self
    where
        S: RegistryStore + 'static,
        S::Future: Send + 'static,
    {
        self.store = Some(store.boxed_store());
        self
    }

    /// Builds the registry.
    ///
    /// # Errors
    ///
    /// When a limit is 0, no authentication method is left, the shortest cache lifetime is longer than the longest, an allowed host is not a host, or TLS
    /// cannot be set up, for instance because the platform has no root certificates.
    pub fn build(self) -> Result<MetadataDocumentRegistry, ConfigError> {
        let Limits { all, per_domain, per_network } = self.fetcher.limits;
        for (setting, limit) in [
            ("max_fetches", all),
            ("max_fetches_per_domain", per_domain),
            ("max_fetches_per_network", per_network),
            ("max_document_bytes", self.fetcher.max_bytes),
        ] {
            if limit == 0 {
                return Err(ConfigError::new(setting, "must be at least 1"));
            }
        }
        if self.policy.auth_methods.is_empty() {
            return Err(ConfigError::new("auth_methods", "must name a method that needs no secret"));
        }
        if self.cache.shortest > self.cache.longest {
            return Err(ConfigError::new("cache_lifetime", "the shortest must not exceed the longest"));
        }
        if !self.hosts.iter().flatten().all(|host| is_host(host.strip_prefix("*.").unwrap_or(host))) {
            return Err(ConfigError::new("allowed_hosts", "must be hosts such as example.com or *.example.com"));
        }
        let filter = self.fetcher.transport.filter;
        let fetcher = Fetcher::new(self.fetcher)
            .map_err(|error| ConfigError::new("root_certificates", "TLS cannot be set up").with_source(error))?;
        Ok(MetadataDocumentRegistry {
            shared: Arc::new(Shared {
                filter,
                hosts: self.hosts,
                trust: self.trust,
                policy: self.policy,
                fetcher,
                cache: Cache::new(self.cache),
                kept: self.store.map(|store| KeptDocuments::new(store, self.cache.max_documents)),
                lookups: SingleFlight::new(),
            }),
        })
    }
}

/// Whether this is a host as URLs spell it.
fn is_host(host: &str) -> bool {
    !host.contains('*') && Url::parse(&format!("https://{host}/")).is_ok_and(|url| url.host_str() == Some(host))
}

impl fmt::Debug for MetadataDocumentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataDocumentBuilder")
            .field("hosts", &self.hosts)
            .field("policy", &self.policy)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
