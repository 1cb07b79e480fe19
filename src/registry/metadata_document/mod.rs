//! Clients whose id is the address of their metadata.

mod builder;
mod cache;
mod client_id;
mod document;
mod rule;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use http::StatusCode;
use tower::BoxError;
use tracing::field::display;
use url::Url;

pub use self::builder::MetadataDocumentBuilder;
use self::cache::{Cache, Lifetime};
use self::client_id::{document_address, is_document_id};
use self::document::DocumentPolicy;
use self::rule::Rule;
use super::{RegistryError, RegistrySource};
#[cfg(doc)]
use crate::client::DynamicClientRules;
use crate::client::{Causes, Client, Untrusted};
use crate::fetch::single_flight::{Interrupted, Joined, Lookup, SingleFlight};
use crate::fetch::{AddressFilter, FetchError, Fetcher, Permit, TooManyFetches, registrable_domain};

type Found = Result<Option<Arc<Client>>, RegistryError>;
type Trust = dyn Fn(&Url) -> bool + Send + Sync;

/// Finds clients whose id is the address of their metadata (draft-ietf-oauth-client-id-metadata-document-02).
///
/// An id that begins with `https://` is fetched and read as client metadata. Any other id is unknown here. Ask this
/// source last, as in `registered.or(documents)`, so that a registered client of the same id wins.
///
/// # The id
///
/// The id is judged as a string: `https`, a host as a browser writes it, a path (`/` is accepted, but the draft advises
/// against it); no dot segment (raw or encoded), fragment, userinfo, backslash or white space; at most 2048 bytes.
///
/// # The fetch
///
/// Anybody who sends an authorization request chooses a host that this server connects to. Therefore:
///
/// - It connects to public addresses only, see [`AddressFilter`]. A host with one forbidden address is refused. The
///   addresses that were checked are the ones it connects to.
/// - It uses no proxy, and follows no redirect. It reads at most 5 KiB, waits 3 seconds for the headers of the response,
///   and 10 seconds for all of it.
/// - It fetches a document once for all who wait for it.
/// - At most 256 fetches run at the same time, 4 for a registrable domain (by the public suffix list), and 16 for a
///   network (IPv4 /24, IPv6 /48). A quarter of each is kept free for hosts whose last answer came in time, so that slow
///   hosts of an attacker cannot shut out clients that work.
///
/// # The document
///
/// `client_id` is the address, as a string, and `redirect_uris` is not empty. A client secret, an authentication method
/// that needs one, or a private key is refused. The [`DynamicClientRules`] apply. A client without
/// `token_endpoint_auth_method`, or with `none` among its `token_endpoint_auth_methods_supported`, is public. Members that
/// only an operator decides (`trusted`, `expires_at` and the like) are ignored.
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
/// Documents that forbid storing are not kept, and failures never are.
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
    lookups: Arc<SingleFlight<Found>>,
}

impl MetadataDocumentRegistry {
    /// Begins with the defaults that the methods of the builder name.
    pub fn builder() -> MetadataDocumentBuilder {
        MetadataDocumentBuilder::new()
    }

    /// Forgets a document: the next lookup fetches it, and a fetch that is in flight is repeated.
    pub fn invalidate(&self, client_id: &str) {
        self.shared.lookups.invalidate(client_id, || self.shared.cache.remove(client_id));
    }
}

impl RegistrySource for MetadataDocumentRegistry {
    type Future = MetadataDocumentFuture;

    fn find_client(&self, client_id: &str) -> Self::Future {
        MetadataDocumentFuture { found: Shared::find(&self.shared, client_id) }
    }
}

impl Shared {
    fn find(shared: &Arc<Self>, client_id: &str) -> Joined<Found> {
        if !is_document_id(client_id, shared.filter) {
            return Joined::ready(Ok(None));
        }
        let cached = || shared.cache.fresh(client_id).map(|client| Ok(Some(client)));
        if let Some(found) = cached() {
            return Joined::ready(found);
        }
        let address = match document_address(client_id, shared.filter) {
            Ok(address) if shared.trusts(&address) => address,
            Ok(_) => return Joined::ready(unusable(client_id, &Rule::NotTrusted)),
            Err(rule) => return Joined::ready(unusable(client_id, &rule)),
        };
        shared.lookups.join(client_id, cached, || {
            let permit = shared.fetcher.permit(&address).map_err(RegistryError::client_hosted).map_err(Err)?;
            Ok(DocumentLookup { shared: Arc::clone(shared), address, permit })
        })
    }

    fn trusts(&self, address: &Url) -> bool {
        let host = address.host_str().unwrap_or_default();
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|allowed| matches_host(allowed, host)))
            && self.trust.as_ref().is_none_or(|trust| trust(address))
    }

    fn unavailable(&self, client_id: &str, cause: BoxError) -> Found {
        match self.cache.stale(client_id) {
            Some(client) => {
                let (client_id, cause) = (display(Untrusted(client_id)), display(Causes(&*cause)));
                tracing::info!(outcome = "stale", client_id, cause, "client metadata document");
                Ok(Some(client))
            }
            None => Err(RegistryError::client_hosted(cause)),
        }
    }
}

/// A document that is being fetched.
struct DocumentLookup {
    shared: Arc<Shared>,
    address: Url,
    permit: Arc<Permit>,
}

/// Why there is no document.
enum Failure {
    /// There is none, or it breaks a rule.
    Unusable(Rule),
    /// Nobody knows.
    Unavailable(BoxError),
    TooMany,
}

impl Lookup for DocumentLookup {
    type Read = Result<(Client, Lifetime), Failure>;
    type Answer = Found;

    async fn read(&self, client_id: &str) -> Self::Read {
        let fetched = self.shared.fetcher.get(&self.permit, &self.address).await?;
        match fetched.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::Unusable(Rule::Withdrawn)),
            status => return Err(Failure::Unavailable(format!("the document's host answered {status}").into())),
        }
        if !fetched.is_json() {
            return Err(Failure::Unusable(Rule::ContentType));
        }
        let lifetime = self.shared.cache.lifetime(&self.address, &fetched.headers);
        let document = fetched.bytes().await?;
        let client = document::read(client_id, &document, &self.shared.policy).map_err(Failure::Unusable)?;
        Ok((client, lifetime))
    }

    fn keep(&self, client_id: &str, read: Self::Read) -> Found {
        let cache = &self.shared.cache;
        match read {
            Ok((client, lifetime)) => {
                let client = Arc::new(client);
                let domain = registrable_domain(self.address.host_str().unwrap_or_default());
                cache.put(client_id, domain, &client, lifetime);
                Ok(Some(client))
            }
            Err(Failure::Unusable(rule)) => {
                cache.remove(client_id);
                unusable(client_id, &rule)
            }
            Err(Failure::Unavailable(cause)) => self.shared.unavailable(client_id, cause),
            // Never a stale client: that would make a flood of fetches an outage of the host.
            Err(Failure::TooMany) => Err(RegistryError::client_hosted(TooManyFetches)),
        }
    }

    fn interrupted(&self, why: Interrupted) -> Found {
        Err(why.into())
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

fn unusable(client_id: &str, rule: &Rule) -> Found {
    let (client_id, detail) = (display(Untrusted(client_id)), rule.detail());
    tracing::info!(outcome = "unusable", rule = rule.as_str(), detail, client_id, "client metadata document");
    Ok(None)
}

/// The lookup of [`MetadataDocumentRegistry`].
#[must_use = "futures do nothing unless polled"]
pub struct MetadataDocumentFuture {
    found: Joined<Found>,
}

impl Future for MetadataDocumentFuture {
    type Output = Found;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        self.found.poll_unpin(cx)
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
