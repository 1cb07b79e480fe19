//! Clients whose id is the address of their metadata.

mod address;
mod cache;
mod client_id;
mod document;
mod flights;
mod rule;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Certificate, redirect, retry};
use tracing::field::display;
use url::Url;

use self::address::{AddressFilter, FilteringResolver, ForbiddenAddress, Resolver};
use self::cache::{Cache, CacheBounds, Lifetime};
use self::client_id::{document_address, is_document_id};
use self::document::DocumentPolicy;
use self::flights::{Bounds, Flight, Flights};
use self::rule::Rule;
use super::{RegistryError, RegistrySource};
use crate::client::{AllowedScopes, Causes, Client, Scope, Untrusted};
use crate::http::head::media_type;
use tower::BoxError;

type Found = Result<Option<Arc<Client>>, RegistryError>;
type Trust = dyn Fn(&Url) -> bool + Send + Sync;

/// Clients whose id is the address of their metadata (draft-ietf-oauth-client-id-metadata-document).
///
/// An id that begins with `https://` is fetched and read as client metadata. Any other id is unknown here, so
/// ask this source last: `registered.or(documents)`; a registered client of the same id then wins.
///
/// # The id
///
/// Judged as it is written: `https`, a host as a browser writes it, a path other than `/`; no dot segment, raw
/// or encoded, no fragment, userinfo, backslash, white space; at most 2048 bytes.
///
/// # The fetch
///
/// Whoever can send an authorization request chooses where this server connects to, so:
///
/// - only to public addresses: not loopback, private, link-local, carrier-grade NAT, multicast or any other special
///   use, nor to one of these inside an IPv6 address. A host that has one such address among others is
///   refused. The addresses that were judged are the ones that are connected to;
/// - no proxy, no redirect, no retry; only 200, only `application/json` or `+json`; 5 KiB, counted while
///   reading; 10 seconds for all of it;
/// - one fetch for all who wait for the same document; 32 at a time, 4 for one host.
///
/// # The document
///
/// `client_id` is the address, as a string; `redirect_uris` is not empty and holds no wildcard; no client secret,
/// no method that needs one, no private keys. Without `token_endpoint_auth_method` the client is public. What
/// only an operator decides (`trusted`, `expires_at` and the like) is ignored.
///
/// # What becomes of failures
///
/// A document that breaks a rule is an unknown client, `Ok(None)`, and an event says which rule. One that
/// cannot be had for now is a [transient](RegistryError::is_transient) error: no address for the host, no
/// connection, too slow, status 429 or 5xx, too many fetches under way.
///
/// # The cache
///
/// By RFC 9111, within bounds of its own: at least a minute, at most a day, up to 1000 documents. A document that
/// must not be stored is not; failures never are. When a document cannot be had for now, the last one serves for
/// up to an hour longer, unless it forbids that.
///
/// Needs a Tokio runtime.
///
/// ```
/// use tower_oauth_client_validation::{MemoryRegistry, MetadataDocumentRegistry, RegistrySource, Scope};
///
/// let documents = MetadataDocumentRegistry::builder()
///     .default_scopes(Scope::parse("openid")?)
///     .trust(|address| address.host_str().is_some_and(|host| !host.ends_with(".invalid")))
///     .build()?;
/// let registry = MemoryRegistry::new().or(documents);
/// # let _ = registry;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MetadataDocumentRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    filter: AddressFilter,
    hosts: Option<BTreeSet<String>>,
    trust: Option<Arc<Trust>>,
    max_document_bytes: usize,
    policy: DocumentPolicy,
    cache: Cache,
    flights: Flights,
}

impl MetadataDocumentRegistry {
    /// Begins with the defaults that the methods of the builder name.
    pub fn builder() -> MetadataDocumentBuilder {
        MetadataDocumentBuilder {
            filter: AddressFilter { allow_loopback: false },
            hosts: None,
            trust: None,
            resolver: Arc::new(|host| system_addresses(host).boxed()),
            roots: Vec::new(),
            timeout: Duration::from_secs(10),
            max_document_bytes: 5 * 1024,
            policy: DocumentPolicy::default(),
            cache: CacheBounds {
                shortest: Duration::from_secs(60),
                longest: Duration::from_secs(24 * 3600),
                stale: Duration::from_secs(3600),
                capacity: 1000,
            },
            flights: Bounds { all: 32, per_host: 4 },
        }
    }

    /// Fetches the document anew when it is next asked for, even if a fetch is under way now.
    pub fn invalidate(&self, client_id: &str) {
        self.shared.flights.forget(client_id, || self.shared.cache.remove(client_id));
    }
}

impl RegistrySource for MetadataDocumentRegistry {
    type Future = MetadataDocumentFuture;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let shared = &self.shared;
        if !is_document_id(client_id, shared.filter) {
            return MetadataDocumentFuture::ready(Ok(None));
        }
        if let Some(client) = shared.cache.fresh(client_id) {
            return MetadataDocumentFuture::ready(Ok(Some(client)));
        }
        let address = document_address(client_id, shared.filter)
            .and_then(|address| if shared.trusts(&address) { Ok(address) } else { Err(Rule::NotTrusted) });
        match address {
            Err(rule) => {
                log_unusable(client_id, rule);
                MetadataDocumentFuture::ready(Ok(None))
            }
            Ok(address) => Shared::fly(shared, client_id, address),
        }
    }
}

impl Shared {
    fn trusts(&self, address: &Url) -> bool {
        let host = address.host_str().unwrap_or_default();
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(host))
            && self.trust.as_ref().is_none_or(|trust| trust(address))
    }

    /// Waits for a fetch of this document, which begins now unless one is under way.
    fn fly(shared: &Arc<Self>, client_id: &str, address: Url) -> MetadataDocumentFuture {
        let host = address.host_str().unwrap_or_default().to_owned();
        let begin = {
            let (shared, client_id) = (Arc::clone(shared), client_id.to_owned());
            move |number| async move { shared.load(&client_id, number, address).await }
        };
        let landed = || shared.cache.fresh(client_id);
        match shared.flights.join(client_id, &host, landed, begin) {
            Flight::Landed(client) => MetadataDocumentFuture::ready(Ok(Some(client))),
            Flight::UnderWay(flight) => MetadataDocumentFuture { state: State::UnderWay(flight) },
            Flight::TooMany => MetadataDocumentFuture::ready(shared.unavailable(client_id, TooManyFetches.into())),
        }
    }

    async fn load(&self, client_id: &str, number: u64, address: Url) -> Found {
        match self.fetch(client_id, address).await {
            Ok((client, lifetime)) => {
                let client = Arc::new(client);
                self.flights.land(client_id, number, || self.cache.put(client_id, &client, lifetime));
                Ok(Some(client))
            }
            Err(Failure::Unusable(rule)) => {
                self.flights.land(client_id, number, || self.cache.remove(client_id));
                log_unusable(client_id, rule);
                Ok(None)
            }
            Err(Failure::Unavailable(cause)) => self.unavailable(client_id, cause),
        }
    }

    fn unavailable(&self, client_id: &str, cause: BoxError) -> Found {
        match self.cache.stale(client_id) {
            Some(client) => {
                tracing::warn!(outcome = "stale", client_id, cause = %Causes(&*cause), "client metadata document");
                Ok(Some(client))
            }
            None => Err(RegistryError::transient(cause)),
        }
    }

    async fn fetch(&self, client_id: &str, address: Url) -> Result<(Client, Lifetime), Failure> {
        let request = self.http.get(address.clone()).header(ACCEPT, "application/json");
        let mut response = request.send().await?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::Unavailable(format!("the document's host answered {status}").into()));
        }
        if status != StatusCode::OK {
            return Err(Failure::Unusable(Rule::Status));
        }
        if !is_json(response.headers()) {
            return Err(Failure::Unusable(Rule::ContentType));
        }
        if response.content_length().is_some_and(|length| length > self.max_document_bytes as u64) {
            return Err(Failure::Unusable(Rule::Size));
        }
        let lifetime = self.cache.lifetime(address.as_str(), status, response.headers());
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if document.len() + chunk.len() > self.max_document_bytes {
                return Err(Failure::Unusable(Rule::Size));
            }
            document.extend_from_slice(&chunk);
        }
        let client = document::read(client_id, &document, &self.policy).map_err(Failure::Unusable)?;
        Ok((client, lifetime))
    }
}

/// Why there is no document.
enum Failure {
    Unusable(Rule),
    Unavailable(BoxError),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let first: &(dyn Error + 'static) = &error;
        if std::iter::successors(Some(first), |error| (**error).source()).any(|error| error.is::<ForbiddenAddress>()) {
            return Self::Unusable(Rule::Address);
        }
        Self::Unavailable(error.into())
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers).unwrap_or_default().to_ascii_lowercase();
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn log_unusable(client_id: &str, rule: Rule) {
    let client_id = display(Untrusted(client_id));
    tracing::info!(outcome = "unusable", rule = rule.as_str(), client_id, "client metadata document");
}

#[derive(Debug)]
struct TooManyFetches;

impl fmt::Display for TooManyFetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many client metadata documents are being fetched")
    }
}

impl Error for TooManyFetches {}

async fn system_addresses(host: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
}

/// The lookup of [`MetadataDocumentRegistry`].
pub struct MetadataDocumentFuture {
    state: State,
}

enum State {
    Ready(Ready<Found>),
    UnderWay(flights::SharedFetch),
}

impl MetadataDocumentFuture {
    fn ready(found: Found) -> Self {
        Self { state: State::Ready(ready(found)) }
    }
}

impl Future for MetadataDocumentFuture {
    type Output = Found;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        match &mut self.state {
            State::Ready(found) => found.poll_unpin(cx),
            State::UnderWay(fetch) => fetch.poll_unpin(cx),
        }
    }
}

impl fmt::Debug for MetadataDocumentFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataDocumentFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for MetadataDocumentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataDocumentRegistry").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

/// Builds a [`MetadataDocumentRegistry`].
#[derive(Clone)]
#[must_use]
pub struct MetadataDocumentBuilder {
    filter: AddressFilter,
    hosts: Option<BTreeSet<String>>,
    trust: Option<Arc<Trust>>,
    resolver: Arc<Resolver>,
    roots: Vec<Certificate>,
    timeout: Duration,
    max_document_bytes: usize,
    policy: DocumentPolicy,
    cache: CacheBounds,
    flights: Bounds,
}

impl MetadataDocumentBuilder {
    /// The hosts whose documents are fetched, compared as strings (default: any).
    pub fn allowed_hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a document may be fetched, asked for each fetch (default: yes).
    pub fn trust(mut self, trust: impl Fn(&Url) -> bool + Send + Sync + 'static) -> Self {
        self.trust = Some(Arc::new(trust));
        self
    }

    /// Whether a document must have a `client_name` (default: no). The `mcp` preset goes with yes.
    pub fn require_client_name(mut self, required: bool) -> Self {
        self.policy.require_name = required;
        self
    }

    /// The scopes that a document can name beside the [default ones](Self::default_scopes); others in it are
    /// ignored, since it is written for many servers (default: none).
    pub fn allowed_scopes(mut self, scopes: Scope) -> Self {
        self.policy.allowed_scopes = Some(AllowedScopes::new(scopes));
        self
    }

    /// The scopes of a client whose document names none (default: no scope list, which leaves it to
    /// [`PolicyBuilder::unlisted_scopes`](crate::PolicyBuilder::unlisted_scopes)).
    pub fn default_scopes(mut self, scopes: Scope) -> Self {
        self.policy.default_scopes = Some(scopes);
        self
    }

    /// Whether every client may ask for all of [`allowed_scopes`](Self::allowed_scopes), whatever its document
    /// names (default: no). What that names, or else the default, is then granted to a request that names
    /// none.
    pub fn grant_all_scopes(mut self, all: bool) -> Self {
        self.policy.grant_all_scopes = all;
        self
    }

    /// Looks the addresses of a host up (default: the system does). What it answers is filtered.
    ///
    /// A lookup runs to its end, also when nobody waits for it any more, and counts as a fetch for so long: what
    /// the system does in a thread cannot be called off.
    ///
    /// ```
    /// use std::io;
    /// use tower_oauth_client_validation::MetadataDocumentRegistry;
    ///
    /// let documents = MetadataDocumentRegistry::builder()
    ///     .resolver(|host: String| async move { Err(io::Error::other(format!("{host}: no lookups here"))) });
    /// ```
    pub fn resolver<F, Fut>(mut self, resolver: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        self.resolver = Arc::new(move |host| resolver(host).boxed());
        self
    }

    /// Trusts the certificates in this PEM text, beside the roots of the platform. Those are read when the
    /// registry is built; on Linux from `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set.
    ///
    /// # Errors
    ///
    /// When the text holds something else.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, MetadataDocumentError> {
        let certificates = Certificate::from_pem_bundle(pem).map_err(MetadataDocumentError)?;
        self.roots.extend(certificates);
        Ok(self)
    }

    /// For development: lets loopback addresses through, and `http` on `localhost`, `127.0.0.1` and `[::1]`
    /// (default: no). Whoever sends an authorization request can then reach what listens on this machine.
    pub fn insecure_allow_loopback(mut self, allow: bool) -> Self {
        self.filter.allow_loopback = allow;
        self
    }

    /// How long a fetch may take, from the lookup of the host to the last byte (default: 10 seconds).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How large a document may be (default: 5 KiB).
    pub fn max_document_bytes(mut self, bytes: usize) -> Self {
        self.max_document_bytes = bytes;
        self
    }

    /// How many fetches may be under way, in all and for one host (default: 32 and 4). Those beyond are refused at
    /// once with a transient error.
    pub fn max_fetches(mut self, all: usize, per_host: usize) -> Self {
        self.flights = Bounds { all, per_host };
        self
    }

    /// How long a document is kept at least and at most, whatever it says itself (default: a minute and a
    /// day). One that must not be stored is not kept at all.
    pub fn cache_lifetime(mut self, shortest: Duration, longest: Duration) -> Self {
        self.cache.shortest = shortest;
        self.cache.longest = longest;
        self
    }

    /// How many documents are kept (default: 1000). Those that end first make room.
    pub fn max_cached_documents(mut self, documents: usize) -> Self {
        self.cache.capacity = documents;
        self
    }

    /// How much longer a document serves when it cannot be had for now (default: an hour).
    pub fn stale_if_error(mut self, bound: Duration) -> Self {
        self.cache.stale = bound;
        self
    }

    /// Builds the registry.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up, for instance since the platform has no root certificates.
    pub fn build(self) -> Result<MetadataDocumentRegistry, MetadataDocumentError> {
        let http = reqwest::Client::builder()
            .user_agent(HeaderValue::from_static(concat!("tower-oauth-client-validation/", env!("CARGO_PKG_VERSION"))))
            .dns_resolver(Arc::new(FilteringResolver { resolver: self.resolver, filter: self.filter }))
            .https_only(!self.filter.allow_loopback)
            .tls_certs_merge(self.roots)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            // Each fetch looks its host up and connects anew.
            .pool_max_idle_per_host(0)
            .timeout(self.timeout)
            .build()
            .map_err(MetadataDocumentError)?;
        Ok(MetadataDocumentRegistry {
            shared: Arc::new(Shared {
                http,
                filter: self.filter,
                hosts: self.hosts,
                trust: self.trust,
                max_document_bytes: self.max_document_bytes,
                policy: self.policy,
                cache: Cache::new(self.cache),
                flights: Flights::new(self.flights),
            }),
        })
    }
}

impl fmt::Debug for MetadataDocumentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataDocumentBuilder")
            .field("hosts", &self.hosts)
            .field("policy", &self.policy)
            .field("timeout", &self.timeout)
            .field("max_document_bytes", &self.max_document_bytes)
            .finish_non_exhaustive()
    }
}

/// A [`MetadataDocumentRegistry`] could not be built.
#[derive(Debug)]
pub struct MetadataDocumentError(reqwest::Error);

impl fmt::Display for MetadataDocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fetching client metadata documents cannot be set up")
    }
}

impl Error for MetadataDocumentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
