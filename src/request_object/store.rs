//! Pushed requests and where they are kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

#[cfg(feature = "sealed-requests")]
use super::carried::Carried;
use super::one_time::KeptOnce;
#[cfg(feature = "sealed-requests")]
use super::seal::{SealError, SealKeys};
use super::sources::{REQUEST_URI_PREFIX, Unresolved};
use crate::authorization::arrival::{Arrival, OneTime};
use crate::authorization::{AuthorizationRequest, Parameter, Reason, Validator};
use crate::registry::ConfigError;
use crate::state::{StateBounds, StateError, StateStore};

/// 128 random bits (RFC 9126 §7.1, RFC 6749 §10.10).
const ID_BYTES: usize = 16;

/// The requests that clients pushed, until a code was issued for them. Cheap to clone; clones share them.
///
/// Give it to [`PushedRequestService`](crate::PushedRequestService), which takes requests in, and to
/// [`ClientValidationLayer::pushed_requests`](crate::ClientValidationLayer::pushed_requests), which finds them by their
/// `request_uri`. Both may run on different nodes, if the store is one that nodes share.
///
/// | setting | default |
/// |---|---|
/// | [`lifetime`](PushedRequestsBuilder::lifetime) | 60 seconds |
/// | [`max_per_client`](PushedRequestsBuilder::max_per_client) | 1,000 |
/// | [`max_in_all`](PushedRequestsBuilder::max_in_all) | 100,000 |
/// | [`max_request_bytes`](PushedRequestsBuilder::max_request_bytes) | 64 KiB |
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::{MemoryStateStore, PushedRequests};
///
/// // Long enough to log in.
/// let pushed = PushedRequests::builder(MemoryStateStore::new()).lifetime(Duration::from_secs(600)).build()?;
/// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct PushedRequests(Arc<Kept>);

struct Kept {
    place: Place,
    settings: Settings,
}

/// Where a request is until it is used up.
enum Place {
    Store(Arc<dyn StateStore>),
    #[cfg(feature = "sealed-requests")]
    RequestUri(Carried),
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    lifetime: Duration,
    max_per_client: u64,
    max_in_all: u64,
    max_request_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(60),
            max_per_client: 1_000,
            max_in_all: 100_000,
            max_request_bytes: 64 * 1024,
        }
    }
}

/// Why a request was not kept.
pub(super) enum NotKept {
    #[cfg(feature = "sealed-requests")]
    TooLarge,
    Random(getrandom::Error),
    #[cfg(feature = "sealed-requests")]
    Seal(SealError),
    Store(StateError),
}

impl PushedRequests {
    /// Keeps requests in `store`, with the defaults.
    #[must_use]
    pub fn new(store: impl StateStore + 'static) -> Self {
        Self(Arc::new(Kept { place: Place::Store(Arc::new(store)), settings: Settings::default() }))
    }

    /// Keeps requests in `store`, with other settings.
    pub fn builder(store: impl StateStore + 'static) -> PushedRequestsBuilder {
        PushedRequestsBuilder::new(Place::Store(Arc::new(store)), Settings::default())
    }

    /// Keeps no requests: each is sealed into its `request_uri`, which the browser carries. `used_ids` remembers which
    /// were used up, until they expire; all nodes must share it, and have the same keys.
    ///
    /// Such a `request_uri` is about a third longer than the request, so a pushed form may have only 4 KiB unless
    /// [set otherwise](PushedRequestsBuilder::max_request_bytes). The bounds for numbers of requests do not apply.
    ///
    /// ```
    /// use tower_oauth_client_validation::{MemoryStateStore, PushedRequests, SealKeys};
    ///
    /// let pushed = PushedRequests::sealed(SealKeys::generate()?, MemoryStateStore::new()).build()?;
    /// assert_eq!(pushed.max_request_bytes(), 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "sealed-requests")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sealed-requests")))]
    pub fn sealed(keys: SealKeys, used_ids: impl StateStore + 'static) -> PushedRequestsBuilder {
        let carried = Carried { keys, tenant: None, used_ids: Arc::new(used_ids) };
        let settings = Settings { max_request_bytes: 4 * 1024, ..Settings::default() };
        PushedRequestsBuilder::new(Place::RequestUri(carried), settings)
    }

    /// How long a request is kept.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.0.settings.lifetime
    }

    /// How many bytes a pushed form may have.
    #[must_use]
    pub fn max_request_bytes(&self) -> usize {
        self.0.settings.max_request_bytes
    }

    /// Keeps a request that was judged, and returns its `request_uri`.
    pub(super) async fn keep(&self, request: &AuthorizationRequest) -> Result<String, NotKept> {
        let Kept { place, settings } = &*self.0;
        let client_id = request.get(Parameter::ClientId).unwrap_or_default();
        let value = write(request);
        #[cfg_attr(
            not(feature = "sealed-requests"),
            expect(clippy::infallible_destructuring_match, reason = "the feature adds another place")
        )]
        let store = match place {
            Place::Store(store) => store,
            #[cfg(feature = "sealed-requests")]
            // Encoding can make a form longer than it was sent, and browsers carry this one.
            Place::RequestUri(_) if value.len() > settings.max_request_bytes => return Err(NotKept::TooLarge),
            #[cfg(feature = "sealed-requests")]
            Place::RequestUri(carried) => return carried.seal(&value, settings.lifetime).map_err(NotKept::Seal),
        };
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).map_err(NotKept::Random)?;
        let id = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let bounds = StateBounds::new("pushed request", client_id)
            .max_per_owner(settings.max_per_client)
            .max_in_all(settings.max_in_all);
        let is_new = store.put_new_bounded(&key(&id), value.as_bytes(), settings.lifetime, bounds).await;
        match is_new.map_err(NotKept::Store)? {
            true => Ok(format!("{REQUEST_URI_PREFIX}{id}")),
            // 128 random bits do not repeat: the store or the random numbers are broken.
            false => Err(NotKept::Store(StateError::failed("the id of a new pushed request is taken"))),
        }
    }

    /// Finds the request that this client pushed. It stays in the store until it is used up.
    pub(super) async fn find(
        &self,
        request_uri: &str,
        client_id: &str,
        validator: &Validator,
    ) -> Result<AuthorizationRequest, Unresolved> {
        let (value, one_time) = self.value(request_uri).await?;
        let request = read(&value, one_time, validator).ok_or_else(|| Unresolved {
            reason: Reason::REQUEST_STORE_FAULT,
            cause: Some("the store holds a value that is no pushed request".into()),
        })?;
        if request.get(Parameter::ClientId) != Some(client_id) {
            return Err(Reason::REQUEST_URI_FOREIGN.into());
        }
        Ok(request)
    }

    async fn value(&self, request_uri: &str) -> Result<(Vec<u8>, Arc<dyn OneTime>), Unresolved> {
        #[cfg_attr(
            not(feature = "sealed-requests"),
            expect(clippy::infallible_destructuring_match, reason = "the feature adds another place")
        )]
        let store = match &self.0.place {
            Place::Store(store) => store,
            #[cfg(feature = "sealed-requests")]
            Place::RequestUri(carried) => {
                let (value, once) = carried.open(request_uri).ok_or(Reason::REQUEST_URI_UNKNOWN)?;
                if once.is_used_up().await.map_err(failed)? {
                    return Err(Reason::REQUEST_URI_UNKNOWN.into());
                }
                return Ok((value, Arc::new(once)));
            }
        };
        let key = key_of(request_uri).ok_or(Reason::REQUEST_URI_UNKNOWN)?;
        let value = store.get(&key).await.map_err(failed)?.ok_or(Reason::REQUEST_URI_UNKNOWN)?;
        let one_time = self.one_time(request_uri).ok_or(Reason::REQUEST_URI_UNKNOWN)?;
        Ok((value, one_time))
    }

    /// The handle by which a request is used up. `None` if this is not a `request_uri` of these requests.
    pub(super) fn one_time(&self, request_uri: &str) -> Option<Arc<dyn OneTime>> {
        let store = match &self.0.place {
            Place::Store(store) => Arc::clone(store),
            #[cfg(feature = "sealed-requests")]
            Place::RequestUri(carried) => return Some(Arc::new(carried.open(request_uri)?.1)),
        };
        let key = key_of(request_uri)?;
        Some(Arc::new(KeptOnce { store, request_uri: request_uri.into(), key: key.into() }))
    }
}

impl fmt::Debug for PushedRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushedRequests").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

fn failed(error: StateError) -> Unresolved {
    let reason = if error.is_transient() { Reason::REQUEST_STORE_UNAVAILABLE } else { Reason::REQUEST_STORE_FAULT };
    Unresolved { reason, cause: Some(error.into()) }
}

fn key(id: &str) -> String {
    format!("pushed/{id}")
}

/// The key of a `request_uri`, if it has the form that [`PushedRequests::keep`] gives it: strangers do not choose keys.
fn key_of(request_uri: &str) -> Option<String> {
    let id = request_uri.strip_prefix(REQUEST_URI_PREFIX)?;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(id).ok()?;
    (decoded.len() == ID_BYTES).then(|| key(id))
}

/// Whether the client signed the request, and its parameters, `client_id` among them.
fn write(request: &AuthorizationRequest) -> String {
    let mark = if request.is_signed() { SIGNED } else { PLAIN };
    format!("{mark}{}", request.parameters_to_query())
}

fn read(value: &[u8], one_time: Arc<dyn OneTime>, validator: &Validator) -> Option<AuthorizationRequest> {
    let (mark, form) = value.split_first()?;
    let is_signed = match char::from(*mark) {
        PLAIN => false,
        SIGNED => true,
        _ => return None,
    };
    let arrival = Arrival { is_pushed: true, is_signed, one_time: Some(one_time), ..Arrival::default() };
    Some(validator.parse_arrived(form, arrival))
}

const PLAIN: char = 'p';
const SIGNED: char = 's';

/// Builds [`PushedRequests`]. Nothing fails before [`build`](Self::build).
#[must_use = "it must be built"]
pub struct PushedRequestsBuilder {
    place: Place,
    settings: Settings,
    #[cfg(feature = "sealed-requests")]
    tenant: Option<Box<str>>,
}

impl PushedRequestsBuilder {
    fn new(place: Place, settings: Settings) -> Self {
        Self {
            place,
            settings,
            #[cfg(feature = "sealed-requests")]
            tenant: None,
        }
    }

    /// Sets the tenant of [sealed](PushedRequests::sealed) requests (default: none): tenants with the same keys do not
    /// open the requests of each other. Requests in a store are kept apart by
    /// [prefixes](crate::StateStore::prefixed) instead.
    #[cfg(feature = "sealed-requests")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sealed-requests")))]
    pub fn tenant(mut self, tenant: impl AsRef<str>) -> Self {
        self.tenant = Some(tenant.as_ref().into());
        self
    }

    /// Sets how long a request is kept, in whole seconds from 5 to 600 (default: 60). The user must log in within this
    /// time, because a request is used up when its code is issued.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.lifetime = lifetime;
        self
    }

    /// Sets how many requests of one client are kept (default: 1,000). Over it, pushes are answered with 429.
    pub fn max_per_client(mut self, max: u64) -> Self {
        self.settings.max_per_client = max;
        self
    }

    /// Sets how many requests are kept (default: 100,000). Over it, pushes are answered with 429. Stores have bounds of
    /// their own, such as [`MemoryStateStore::max_bytes`](crate::MemoryStateStore::max_bytes).
    pub fn max_in_all(mut self, max: u64) -> Self {
        self.settings.max_in_all = max;
        self
    }

    /// Sets how many bytes a pushed form may have, up to 128 KiB (default: 64 KiB). Over it, a push is answered with 413.
    pub fn max_request_bytes(mut self, max: usize) -> Self {
        self.settings.max_request_bytes = max;
        self
    }

    /// Builds the pushed requests.
    ///
    /// # Errors
    ///
    /// Names the first setting that is wrong.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth_client_validation::{MemoryStateStore, PushedRequests};
    ///
    /// let builder = PushedRequests::builder(MemoryStateStore::new()).lifetime(Duration::from_secs(601));
    /// assert_eq!(builder.build().unwrap_err().to_string(), "lifetime: must be whole seconds from 5 to 600");
    /// ```
    pub fn build(self) -> Result<PushedRequests, ConfigError> {
        let Settings { lifetime, max_per_client, max_in_all, max_request_bytes } = self.settings;
        let failed = |setting, problem: &'static str| Err(ConfigError::new(setting, problem));
        if lifetime.subsec_nanos() != 0 || !(5..=600).contains(&lifetime.as_secs()) {
            return failed("lifetime", "must be whole seconds from 5 to 600");
        }
        if max_per_client == 0 {
            return failed("max_per_client", "must be at least 1");
        }
        if max_in_all == 0 {
            return failed("max_in_all", "must be at least 1");
        }
        if !(1..=128 * 1024).contains(&max_request_bytes) {
            return failed("max_request_bytes", "must be from 1 to 131072");
        }
        Ok(PushedRequests(Arc::new(Kept { settings: self.settings, place: self.placed()? })))
    }
}

impl PushedRequestsBuilder {
    #[cfg(not(feature = "sealed-requests"))]
    fn placed(self) -> Result<Place, ConfigError> {
        Ok(self.place)
    }

    #[cfg(feature = "sealed-requests")]
    fn placed(self) -> Result<Place, ConfigError> {
        match (self.place, self.tenant) {
            (Place::RequestUri(carried), tenant) => Ok(Place::RequestUri(Carried { tenant, ..carried })),
            (Place::Store(_), Some(_)) => {
                Err(ConfigError::new("tenant", "is for sealed requests; prefix the store instead"))
            }
            (place, None) => Ok(place),
        }
    }
}

impl fmt::Debug for PushedRequestsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushedRequestsBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
