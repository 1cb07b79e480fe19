//! Clients whose id is the URL of their metadata.

mod builder;
mod cache;
mod client_id;
mod document;
mod kept;
mod rule;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use tower::BoxError;
use tracing::field::display;
use url::Url;

pub use self::builder::MetadataDocumentBuilder;
use self::cache::{Cache, Lifetime};
use self::client_id::{document_address, is_document_id};
use self::document::DocumentPolicy;
use self::kept::{Kept, KeptDocuments};
use self::rule::Rule;
use super::{RegistryError, RegistrySource};
#[cfg(doc)]
use crate::client::DynamicClientRules;
use crate::client::{Causes, Client, Untrusted};
use crate::fetch::single_flight::{Interrupted, Lookup, LookupFuture, SingleFlight};
use crate::fetch::{AddressFilter, FetchError, Fetcher, TooManyFetches, registrable_domain};

type Found = Result<Option<Arc<Client>>, RegistryError>;
type Trust = dyn Fn(&Url) -> bool + Send + Sync;

/// Finds clients whose id is the URL of their metadata (draft-ietf-oauth-client-id-metadata-document-02).
///
/// An id that begins with `https://` is fetched and read as client metadata. Any other id is unknown here. Ask this
/// source last, as in `registered.or(documents)`, so that a registered client of the same id takes precedence.
///
/// # The id
///
/// The id is judged as a string: `https`, a host as a browser writes it, a path (`/` is accepted, but the draft advises
/// against it); no dot segment (raw or encoded), fragment, userinfo, backslash or white space; at most 2048 bytes.
///
/// # The fetch
///
/// Anyone who sends an authorization request chooses a host that this server connects to. Therefore:
///
/// - It connects to public addresses only, see [`AddressFilter`]. A host with one forbidden address is refused. The
///   addresses that were checked are the ones it connects to.
/// - It uses no proxy, and follows no redirect. It reads at most 5 KiB, waits 3 seconds for the headers of the response,
///   and 10 seconds for all of it.
/// - It fetches a document once for all requests that wait for it.
/// - At most 256 fetches run at the same time, 4 for a registrable domain (by the public suffix list), and 16 for a
///   network (IPv4 /24, IPv6 /48). A quarter of each is kept free for hosts whose last answer came in time, so that slow
///   hosts of an attacker cannot shut out clients that work.
///
/// # The document
///
/// `client_id` is the address, as a string, and `redirect_uris` is not empty. A client secret, an authentication method
/// that needs one, or a private key is refused. The [`DynamicClientRules`] apply. A client without
/// `token_endpoint_auth_method` is public; of several methods (`token_endpoint_auth_methods_supported`) the first one that
/// [the server has](MetadataDocumentBuilder::auth_methods) counts. Members that only an operator decides (`trusted`,
/// `expires_at` and the like) are ignored.
///
/// # Failures
///
/// | what happened | answer | document in the cache |
/// |---|---|---|
/// | status 200, but the document breaks a rule | unknown client | forgotten |
/// | status 404 or 410: the document was withdrawn | unknown client | forgotten |
/// | any other status, no address, a forbidden address, no connection, too slow | [`client_hosted`](RegistryError::client_hosted) error | still answered, for [an hour](MetadataDocumentBuilder::stale_if_error) |
/// | too many fetches | [`client_hosted`](RegistryError::client_hosted) error | kept |
///
/// # The cache
///
/// Documents are kept as RFC 9111 says, but at least a minute and at most a day: up to 1000 documents and 16 MiB.
/// Documents that forbid storing are not kept, and failures never are. A document that is used in the last quarter of its
/// time is refreshed in the background, so that no request waits for it. Documents that should survive a restart, or that the
/// operator should see and disable, go into a [store](MetadataDocumentBuilder::store).
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
    filter: AddressFilter,
    hosts: Option<BTreeSet<String>>,
    trust: Option<Arc<Trust>>,
    policy: DocumentPolicy,
    fetcher: Fetcher,
    cache: Cache,
    kept: Option<KeptDocuments>,
    lookups: Arc<SingleFlight<Found>>,
}

impl MetadataDocumentRegistry {
    /// Begins with the defaults that the methods of the builder name.
    pub fn builder() -> MetadataDocumentBuilder {
        MetadataDocumentBuilder::new()
    }

    /// Forgets a document: the next lookup fetches it, and a fetch that is in flight is repeated. Documents in a
    /// [store](MetadataDocumentBuilder::store) are removed there instead.
    pub fn invalidate(&self, client_id: &str) {
        let forget = || self.shared.cache.remove(client_id);
        self.shared.lookups.invalidate(client_id, forget);
        self.shared.lookups.invalidate(&refresh_key(client_id), forget);
    }
}

impl RegistrySource for MetadataDocumentRegistry {
    type Future = LookupFuture<Found>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        Shared::find(&self.shared, client_id)
    }
}

impl Shared {
    fn find(shared: &Arc<Self>, client_id: &str) -> LookupFuture<Found> {
        let cached = || shared.cache.fresh(client_id).map(|client| Ok(Some(client)));
        let found = cached();
        if found.is_some() && !shared.cache.is_due(client_id) {
            return LookupFuture::ready(found.unwrap_or(Ok(None)));
        }
        let address = shared.address(client_id);
        if shared.kept.is_none() {
            match address {
                Ok(_) => {}
                Err(None) => return LookupFuture::ready(Ok(None)),
                Err(Some(rule)) => return LookupFuture::ready(unusable(client_id, &rule)),
            }
        }
        let lookup =
            DocumentLookup { shared: Arc::clone(shared), client_id: client_id.into(), address, refreshes: false };
        match found {
            Some(found) => {
                lookup.refresh_in_background();
                LookupFuture::ready(found)
            }
            None => shared.lookups.join(client_id, cached, || Ok(lookup)),
        }
    }

    /// Where the document is. Without a rule in the error, the id is not meant to be an address.
    fn address(&self, client_id: &str) -> Result<Url, Option<Rule>> {
        if !is_document_id(client_id, self.filter) {
            return Err(None);
        }
        let address = document_address(client_id, self.filter).map_err(Some)?;
        if self.trusts(&address) { Ok(address) } else { Err(Some(Rule::NotTrusted)) }
    }

    fn trusts(&self, address: &Url) -> bool {
        let host = address.host_str().unwrap_or_default();
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|allowed| matches_host(allowed, host)))
            && self.trust.as_ref().is_none_or(|trust| trust(address))
    }
}

/// A document that is looked up.
#[derive(Clone)]
struct DocumentLookup {
    shared: Arc<Shared>,
    client_id: Box<str>,
    /// See [`Shared::address`].
    address: Result<Url, Option<Rule>>,
    /// Whether the document is fetched even if it is fresh.
    refreshes: bool,
}

/// The result of a lookup.
enum Read {
    Fetched(Client, Lifetime),
    /// The store has it.
    Kept(Arc<Client>),
    Unknown,
}

/// Why there is no document.
enum Failure {
    /// There is none, or it breaks a rule.
    Unusable(Rule),
    /// It is not known whether there is one.
    Unavailable(BoxError),
    /// Our own limits refused it.
    TooMany,
    Store(RegistryError),
}

impl DocumentLookup {
    async fn fetch(&self, address: &Url) -> Result<(Client, Lifetime), Failure> {
        let shared = &self.shared;
        let permit = shared.fetcher.permit(address).map_err(|TooManyFetches| Failure::TooMany)?;
        let fetched = shared.fetcher.get(&permit, address).await?;
        match fetched.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::Unusable(Rule::Withdrawn)),
            status => return Err(Failure::Unavailable(format!("the document's host answered {status}").into())),
        }
        if !fetched.is_json() {
            return Err(Failure::Unusable(Rule::ContentType));
        }
        let lifetime = shared.cache.lifetime(address, &fetched.headers);
        let document = fetched.bytes().await?;
        let client = document::read(&self.client_id, &document, &shared.policy).map_err(Failure::Unusable)?;
        Ok((client, lifetime))
    }

    async fn read_kept(&self, kept: &KeptDocuments) -> Result<Read, Failure> {
        let client_id = &*self.client_id;
        let known = match kept.find(client_id).await? {
            Kept::Decided(client) => return Ok(Read::Kept(client)),
            Kept::Document(client, times) => Some((client, times)),
            Kept::Missing => None,
        };
        let address = match &self.address {
            Ok(address) => address,
            Err(None) => return Ok(Read::Unknown),
            Err(Some(rule)) => return Err(Failure::Unusable(rule.clone())),
        };
        let now = SystemTime::now();
        if let Some((client, times)) = known.as_ref().filter(|(_, times)| !self.refreshes && now < times.fresh_until) {
            if times.refresh_from <= now && !kept.failed_recently(client_id) {
                self.refresh_in_background();
            }
            return Ok(Read::Kept(Arc::clone(client)));
        }
        let fetched = if known.is_some() && kept.failed_recently(client_id) {
            Err(Failure::Unavailable("the document's host failed a moment ago".into()))
        } else {
            self.fetch(address).await
        };
        match (fetched, known) {
            (Ok((client, lifetime)), _) => Ok(Read::Kept(kept.put(&client, lifetime).await?)),
            (Err(Failure::Unusable(rule)), known) => {
                if known.is_some() {
                    kept.remove(client_id).await?;
                }
                Err(Failure::Unusable(rule))
            }
            (Err(Failure::Unavailable(cause)), Some((client, times))) if now < times.stale_until => {
                log_stale(client_id, &*cause);
                kept.host_failed(client_id);
                Ok(Read::Kept(client))
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// Fetches the document in the background, unless a fetch is in flight.
    fn refresh_in_background(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut begins = false;
        let refresh = self.shared.lookups.join(
            &refresh_key(&self.client_id),
            || None,
            || {
                begins = true;
                Ok(Self { refreshes: true, ..self.clone() })
            },
        );
        if begins {
            runtime.spawn(refresh);
        }
    }
}

/// The key of a background fetch. No id contains a space.
fn refresh_key(client_id: &str) -> String {
    format!("{client_id} refresh")
}

impl Lookup for DocumentLookup {
    type Read = Result<Read, Failure>;
    type Answer = Found;

    async fn read(&self, _key: &str) -> Self::Read {
        match (&self.shared.kept, &self.address) {
            (Some(kept), _) => self.read_kept(kept).await,
            (None, Ok(address)) => self.fetch(address).await.map(|(client, lifetime)| Read::Fetched(client, lifetime)),
            (None, Err(_)) => Ok(Read::Unknown),
        }
    }

    fn keep(&self, _key: &str, read: Self::Read) -> Found {
        let (cache, client_id) = (&self.shared.cache, &*self.client_id);
        match read {
            Ok(Read::Unknown) => Ok(None),
            Ok(Read::Kept(client)) => Ok(Some(client)),
            Ok(Read::Fetched(client, lifetime)) => {
                let client = Arc::new(client);
                let host = self.address.as_ref().ok().and_then(Url::host_str).unwrap_or_default();
                cache.put(client_id, registrable_domain(host), &client, lifetime);
                Ok(Some(client))
            }
            Err(Failure::Unusable(rule)) => {
                cache.remove(client_id);
                unusable(client_id, &rule)
            }
            Err(Failure::Unavailable(cause)) => match cache.stale(client_id) {
                Some(client) => {
                    log_stale(client_id, &*cause);
                    Ok(Some(client))
                }
                None => Err(RegistryError::client_hosted(cause)),
            },
            // No stale client: our own limit is not an outage of the host.
            Err(Failure::TooMany) => Err(RegistryError::client_hosted(TooManyFetches)),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    fn interrupted(&self, why: Interrupted) -> Found {
        Err(why.into())
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Store(error)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::TooMany => Self::TooMany,
            FetchError::TooLarge => Self::Unusable(Rule::Size),
            FetchError::Failed(cause) => Self::Unavailable(cause),
        }
    }
}

/// `*.example.com` matches every host below `example.com`; anything else matches itself.
fn matches_host(allowed: &str, host: &str) -> bool {
    match allowed.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => allowed == host,
    }
}

fn log_stale(client_id: &str, cause: &(dyn Error + 'static)) {
    let (client_id, cause) = (display(Untrusted(client_id)), display(Causes(cause)));
    tracing::info!(outcome = "stale", client_id, cause, "client metadata document");
}

fn unusable(client_id: &str, rule: &Rule) -> Found {
    let (client_id, detail) = (display(Untrusted(client_id)), rule.detail());
    tracing::info!(outcome = "unusable", rule = rule.as_str(), detail, client_id, "client metadata document");
    Ok(None)
}

impl fmt::Debug for MetadataDocumentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataDocumentRegistry").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}
