//! How documents are fetched, judged and kept.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service};
use url::Url;

use super::cache::{Cache, CacheBounds};
use super::document::DocumentPolicy;
use super::kept::KeptDocuments;
use super::{MetadataDocumentRegistry, Shared, Trust};
use crate::client::member::uses_secret;
use crate::client::{AllowedScopes, DynamicClientRules, Scope};
use crate::fetch::single_flight::SingleFlight;
use crate::fetch::{Fetcher, FetcherConfig, Limits, TransportConfig};
use crate::registry::{BoxStore, RegistryConfigError, RegistryStore};

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
            fetcher: FetcherConfig {
                transport: TransportConfig::new(),
                limits: Limits { all: 256, per_domain: 4, per_network: 16 },
                headers_timeout: Duration::from_secs(3),
                timeout: Duration::from_secs(10),
                max_bytes: 5 * 1024,
            },
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

    /// The scopes that a document may name besides the [default ones](Self::default_scopes) (default: none). Other scopes
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

    /// Lets every client request all [`allowed_scopes`](Self::allowed_scopes), whatever its document names (default: no).
    /// A request without `scope` is then granted the scopes that the document names, or the default ones.
    pub fn grant_all_scopes(mut self, all: bool) -> Self {
        self.policy.grant_all_scopes = all;
        self
    }

    /// Sends requests with `service` instead of the HTTP client of this crate, for instance through an egress proxy, or
    /// to record them.
    ///
    /// The limits of time, size and number of fetches still apply, except
    /// [`max_fetches_per_network`](Self::max_fetches_per_network): the service resolves hosts, so it must keep requests
    /// away from private addresses (see [`AddressFilter`](crate::AddressFilter)). It must not follow redirects. The
    /// [`resolver`](Self::resolver) and [`root_certificates`](Self::root_certificates) have no effect.
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
    pub fn fetcher<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.fetcher.transport.replace(service);
        self
    }

    /// Resolves host names (default: the system does). The addresses are filtered.
    ///
    /// A lookup runs to its end even if its fetch is given up, because a lookup of the system cannot be cancelled. It no
    /// longer counts as a fetch then, but at most four times as many lookups as fetches run for a domain, and as many as
    /// fetches in all.
    ///
    /// ```
    /// use std::io;
    /// use tower_oauth_client_validation::MetadataDocumentRegistry;
    ///
    /// let documents = MetadataDocumentRegistry::builder()
    ///     .resolver(|host: String| async move { Err(io::Error::other(format!("no lookups of {host} here"))) });
    /// ```
    pub fn resolver<F, Fut>(mut self, resolver: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        self.fetcher.transport.set_resolver(resolver);
        self
    }

    /// Trusts the certificates in this PEM text besides the roots of the platform. Those are read when the registry is
    /// built; on Linux from `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.fetcher.transport.add_root_certificates(pem.as_ref());
        self
    }

    /// For development: admits loopback addresses, and `http` ids on `localhost`, `127.0.0.1` and `[::1]` (default: no).
    /// Anybody who sends an authorization request can then reach the services on this machine.
    pub fn insecure_allow_loopback(mut self, allow: bool) -> Self {
        self.fetcher.transport.filter = self.fetcher.transport.filter.insecure_allow_loopback(allow);
        self
    }

    /// How long a fetch may take until the headers of the response, from the lookup of the host (default: 3 seconds).
    pub fn headers_timeout(mut self, timeout: Duration) -> Self {
        self.fetcher.headers_timeout = timeout;
        self
    }

    /// How long a fetch may take until the last byte (default: 10 seconds).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.fetcher.timeout = timeout;
        self
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

    /// How long a document is kept, whatever it says itself: at least a minute and at most a day unless set. Documents
    /// that forbid storing are not kept at all.
    pub fn cache_lifetime(mut self, shortest: Duration, longest: Duration) -> Self {
        self.cache.shortest = shortest;
        self.cache.longest = longest;
        self
    }

    /// How many documents are kept (default: 1000). The domain with the most bytes makes room.
    pub fn max_cached_documents(mut self, documents: usize) -> Self {
        self.cache.max_documents = documents;
        self
    }

    /// How much memory the kept documents take, by an estimate of their size (default: 16 MiB).
    pub fn max_cached_bytes(mut self, bytes: usize) -> Self {
        self.cache.max_bytes = bytes;
        self
    }

    /// How long a document is still answered beyond its lifetime while its host fails (default: an hour). Documents that
    /// forbid it (RFC 9111 §4.2.4) are not.
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
    /// [used](crate::RegistryStore::touch), or else one that was not used for 90 days, makes room. A document that finds no
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
    pub fn build(self) -> Result<MetadataDocumentRegistry, RegistryConfigError> {
        let Limits { all, per_domain, per_network } = self.fetcher.limits;
        for (setting, limit) in [
            ("max_fetches", all),
            ("max_fetches_per_domain", per_domain),
            ("max_fetches_per_network", per_network),
            ("max_document_bytes", self.fetcher.max_bytes),
        ] {
            if limit == 0 {
                return Err(RegistryConfigError::new(setting, "must be at least 1"));
            }
        }
        if self.policy.auth_methods.is_empty() {
            return Err(RegistryConfigError::new("auth_methods", "must name a method that needs no secret"));
        }
        if self.cache.shortest > self.cache.longest {
            return Err(RegistryConfigError::new("cache_lifetime", "the shortest must not exceed the longest"));
        }
        if !self.hosts.iter().flatten().all(|host| is_host(host.strip_prefix("*.").unwrap_or(host))) {
            return Err(RegistryConfigError::new(
                "allowed_hosts",
                "must be hosts such as example.com or *.example.com",
            ));
        }
        let filter = self.fetcher.transport.filter;
        let fetcher = Fetcher::new(self.fetcher)
            .map_err(RegistryConfigError::with_source("root_certificates", "TLS cannot be set up"))?;
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

/// Whether this is a host as it stands in a URL.
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
