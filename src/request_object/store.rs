//! Pushed requests and where they are kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::one_time::KeptOnce;
use super::sources::{REQUEST_URI_PREFIX, Unresolved};
use crate::authorization::arrival::{Arrival, OneTime};
use crate::authorization::{AuthorizationRequest, Parameter, Reason};
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
/// # Ok::<(), tower_oauth_client_validation::PushedRequestsError>(())
/// ```
#[derive(Clone)]
pub struct PushedRequests(Arc<Kept>);

struct Kept {
    store: Arc<dyn StateStore>,
    settings: Settings,
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
    TooLarge,
    Random(getrandom::Error),
    Store(StateError),
}

impl PushedRequests {
    /// Keeps requests in `store`, with the defaults.
    #[must_use]
    pub fn new(store: impl StateStore + 'static) -> Self {
        Self(Arc::new(Kept { store: Arc::new(store), settings: Settings::default() }))
    }

    /// Keeps requests in `store`, with other settings.
    pub fn builder(store: impl StateStore + 'static) -> PushedRequestsBuilder {
        PushedRequestsBuilder { store: Arc::new(store), settings: Settings::default() }
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
        let Kept { store, settings } = &*self.0;
        let client_id = request.get(Parameter::ClientId).unwrap_or_default();
        let value = write(request);
        // Encoding can make a form longer than it was sent.
        if value.len() > settings.max_request_bytes {
            return Err(NotKept::TooLarge);
        }
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
    pub(super) async fn find(&self, request_uri: &str, client_id: &str) -> Result<AuthorizationRequest, Unresolved> {
        let Some(key) = key_of(request_uri) else {
            return Err(Reason::REQUEST_URI_UNKNOWN.into());
        };
        let value = self.0.store.get(&key).await.map_err(failed)?.ok_or(Reason::REQUEST_URI_UNKNOWN)?;
        let one_time = self.one_time(request_uri).ok_or(Reason::REQUEST_URI_UNKNOWN)?;
        let request = read(&value, one_time).ok_or_else(|| Unresolved {
            reason: Reason::REQUEST_STORE_FAULT,
            cause: Some("the store holds a value that is no pushed request".into()),
        })?;
        if request.get(Parameter::ClientId) != Some(client_id) {
            return Err(Reason::REQUEST_URI_FOREIGN.into());
        }
        Ok(request)
    }

    /// The handle by which a request is used up. `None` if this is not a `request_uri` of these requests.
    pub(super) fn one_time(&self, request_uri: &str) -> Option<Arc<dyn OneTime>> {
        let key = key_of(request_uri)?;
        let store = Arc::clone(&self.0.store);
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

fn read(value: &[u8], one_time: Arc<dyn OneTime>) -> Option<AuthorizationRequest> {
    let (mark, form) = value.split_first()?;
    let is_signed = match char::from(*mark) {
        PLAIN => false,
        SIGNED => true,
        _ => return None,
    };
    let arrival = Arrival { is_pushed: true, is_signed, one_time: Some(one_time), ..Arrival::default() };
    Some(AuthorizationRequest::parse_arrived(form, arrival))
}

const PLAIN: char = 'p';
const SIGNED: char = 's';

/// Builds [`PushedRequests`]. Nothing fails before [`build`](Self::build).
#[must_use = "it must be built"]
pub struct PushedRequestsBuilder {
    store: Arc<dyn StateStore>,
    settings: Settings,
}

impl PushedRequestsBuilder {
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

    /// Builds them.
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
    pub fn build(self) -> Result<PushedRequests, PushedRequestsError> {
        let Settings { lifetime, max_per_client, max_in_all, max_request_bytes } = self.settings;
        let wrong = if lifetime.subsec_nanos() != 0 || !(5..=600).contains(&lifetime.as_secs()) {
            Some(PushedRequestsError { setting: "lifetime", problem: "must be whole seconds from 5 to 600" })
        } else if max_per_client == 0 {
            Some(PushedRequestsError { setting: "max_per_client", problem: "must be at least 1" })
        } else if max_in_all == 0 {
            Some(PushedRequestsError { setting: "max_in_all", problem: "must be at least 1" })
        } else if !(1..=128 * 1024).contains(&max_request_bytes) {
            Some(PushedRequestsError { setting: "max_request_bytes", problem: "must be from 1 to 131072" })
        } else {
            None
        };
        match wrong {
            None => Ok(PushedRequests(Arc::new(Kept { store: self.store, settings: self.settings }))),
            Some(error) => Err(error),
        }
    }
}

impl fmt::Debug for PushedRequestsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushedRequestsBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A setting of [`PushedRequests`] that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushedRequestsError {
    setting: &'static str,
    problem: &'static str,
}

impl fmt::Display for PushedRequestsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl std::error::Error for PushedRequestsError {}
