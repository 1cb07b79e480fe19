//! What the server accepts as client authentication.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::jws::SigningAlgorithm;
use super::keys::{KeySource, RegisteredKeys};
use super::method::{AuthenticationMethod, CustomMethod};
use super::secret::SecretChecker;
use crate::registry::ConfigError;
use crate::state::StateStore;

/// The largest body that is read unless [`AuthenticationPolicyBuilder::max_body_bytes`] says otherwise: 64 KiB.
const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024;

const DEFAULT_METHODS: [AuthenticationMethod; 4] = [
    AuthenticationMethod::None,
    AuthenticationMethod::ClientSecretBasic,
    AuthenticationMethod::ClientSecretPost,
    AuthenticationMethod::PrivateKeyJwt,
];

/// What the server accepts as client authentication. Cheap to clone; clones share their bounds.
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{AuthenticationPolicy, MemoryStateStore};
///
/// let policy = AuthenticationPolicy::builder()
///     .issuer("https://login.example")
///     .replay_store(Arc::new(MemoryStateStore::new()))
///     .build()?;
/// assert_eq!(
///     policy.methods().map(|method| method.as_str()).collect::<Vec<_>>(),
///     ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
/// );
/// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct AuthenticationPolicy {
    pub(super) settings: Arc<Settings>,
}

pub(super) struct Settings {
    pub(super) methods: Vec<AuthenticationMethod>,
    pub(super) strict_secret_methods: bool,
    pub(super) algorithms: Vec<SigningAlgorithm>,
    pub(super) audiences: Vec<String>,
    pub(super) replay_store: Option<Arc<dyn StateStore>>,
    pub(super) keys: Arc<dyn KeySource>,
    pub(super) custom: Vec<Arc<dyn CustomMethod>>,
    pub(super) secrets: SecretChecker,
    pub(super) max_body_bytes: usize,
}

impl AuthenticationPolicy {
    /// Begins with the defaults that the builder's methods name.
    pub fn builder() -> AuthenticationPolicyBuilder {
        AuthenticationPolicyBuilder {
            methods: None,
            strict_secret_methods: false,
            algorithms: SigningAlgorithm::ALL.into(),
            issuer: None,
            audiences: Vec::new(),
            replay_store: None,
            keys: Arc::new(RegisteredKeys),
            custom: Vec::new(),
            max_concurrent_hashes: default_concurrent_hashes(),
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        }
    }

    /// The methods that are accepted, for the server's metadata (`token_endpoint_auth_methods_supported`).
    pub fn methods(&self) -> impl Iterator<Item = AuthenticationMethod> + '_ {
        self.settings.methods.iter().copied()
    }

    /// The algorithms that assertions may use, for the server's metadata
    /// (`token_endpoint_auth_signing_alg_values_supported`). Empty where `private_key_jwt` is not accepted.
    pub fn signing_algorithms(&self) -> impl Iterator<Item = SigningAlgorithm> + '_ {
        let accepts = self.settings.methods.contains(&AuthenticationMethod::PrivateKeyJwt);
        self.settings.algorithms.iter().copied().filter(move |_| accepts)
    }
}

/// Half of the cores, so that a flood of wrong secrets leaves room for everybody else.
fn default_concurrent_hashes() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

impl fmt::Debug for AuthenticationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("AuthenticationPolicy")
            .field("methods", &settings.methods)
            .field("strict_secret_methods", &settings.strict_secret_methods)
            .field("algorithms", &settings.algorithms)
            .field("audiences", &settings.audiences)
            .field("max_body_bytes", &settings.max_body_bytes)
            .finish_non_exhaustive()
    }
}

/// Builds an [`AuthenticationPolicy`].
#[derive(Clone)]
#[must_use]
pub struct AuthenticationPolicyBuilder {
    methods: Option<Vec<AuthenticationMethod>>,
    strict_secret_methods: bool,
    algorithms: Vec<SigningAlgorithm>,
    issuer: Option<String>,
    audiences: Vec<String>,
    replay_store: Option<Arc<dyn StateStore>>,
    keys: Arc<dyn KeySource>,
    custom: Vec<Arc<dyn CustomMethod>>,
    max_concurrent_hashes: usize,
    max_body_bytes: usize,
}

impl AuthenticationPolicyBuilder {
    /// The methods that are accepted (default: `none`, `client_secret_basic`, `client_secret_post`, and
    /// `private_key_jwt` once an [issuer](Self::issuer) and a [replay store](Self::replay_store) are set).
    pub fn methods(mut self, methods: impl IntoIterator<Item = AuthenticationMethod>) -> Self {
        self.methods = Some(methods.into_iter().collect());
        self
    }

    /// Whether a client with a secret must send it in the way that it registered (default: no). Many clients register
    /// `client_secret_basic` and send `client_secret_post`, or the reverse.
    pub fn strict_secret_methods(mut self, strict: bool) -> Self {
        self.strict_secret_methods = strict;
        self
    }

    /// The algorithms that assertions may use (default: `ES256`, `EdDSA`, `PS256`, `RS256`).
    pub fn signing_algorithms(mut self, algorithms: impl IntoIterator<Item = SigningAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// The issuer identifier of this server, which assertions must name as their only audience (default: none;
    /// `private_key_jwt` needs it). The 2025 correction of RFC 7523 takes no other audience, so that an assertion made
    /// for one server is worth nothing at another (CVE-2025-27370, CVE-2025-27371).
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Another audience that assertions may name: the URL of the endpoint, for clients from before the correction
    /// (default: none).
    pub fn legacy_audience(mut self, url: impl Into<String>) -> Self {
        self.audiences.push(url.into());
        self
    }

    /// Where used assertions are remembered until they expire (default: nowhere; `private_key_jwt` needs it). All nodes
    /// must share it: an assertion that one has accepted is refused by the others.
    pub fn replay_store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.replay_store = Some(store);
        self
    }

    /// Where the keys of clients come from (default: the `jwks` that they registered).
    pub fn keys(mut self, keys: impl KeySource + 'static) -> Self {
        self.keys = Arc::new(keys);
        self
    }

    /// Adds a method of your own to those that are accepted.
    pub fn custom_method(mut self, method: impl CustomMethod + 'static) -> Self {
        self.custom.push(Arc::new(method));
        self
    }

    /// How many password hashes are computed at once (default: half of the cores, at least 1). Sixteen times as many
    /// requests wait for their turn; one more is answered with 503. This bounds what a flood of wrong secrets can take
    /// from requests that authenticate in another way.
    pub fn max_concurrent_hashes(mut self, hashes: usize) -> Self {
        self.max_concurrent_hashes = hashes;
        self
    }

    /// How many bytes of a body are read (default: 64 KiB).
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// When no method is accepted, a custom method has the name of another one, `private_key_jwt` lacks an issuer, a
    /// replay store or an algorithm, or no password hash may be computed.
    pub fn build(self) -> Result<AuthenticationPolicy, ConfigError> {
        let failed = |setting, problem| Err(ConfigError::new(setting, problem));
        let can_assert = self.issuer.is_some() && self.replay_store.is_some();
        let mut methods = self.methods.clone().unwrap_or_else(|| {
            let is_default =
                |method: &AuthenticationMethod| can_assert || *method != AuthenticationMethod::PrivateKeyJwt;
            DEFAULT_METHODS.into_iter().filter(is_default).collect()
        });
        methods.extend(self.custom.iter().map(|custom| AuthenticationMethod::Custom(custom.name())));
        if methods.is_empty() {
            return failed("methods", "must not be empty");
        }
        let mut names = BTreeSet::new();
        if !methods.iter().all(|method| names.insert(method.as_str())) {
            return failed("methods", "must not name a method twice");
        }
        if methods.contains(&AuthenticationMethod::PrivateKeyJwt) {
            if self.issuer.is_none() {
                return failed("issuer", "is needed for private_key_jwt");
            }
            if self.replay_store.is_none() {
                return failed("replay_store", "is needed for private_key_jwt");
            }
            if self.algorithms.is_empty() {
                return failed("signing_algorithms", "must not be empty with private_key_jwt");
            }
        }
        if self.max_concurrent_hashes == 0 {
            return failed("max_concurrent_hashes", "must not be 0");
        }
        let settings = Settings {
            methods,
            strict_secret_methods: self.strict_secret_methods,
            algorithms: self.algorithms,
            audiences: self.issuer.into_iter().chain(self.audiences).collect(),
            replay_store: self.replay_store,
            keys: self.keys,
            custom: self.custom,
            secrets: SecretChecker::new(self.max_concurrent_hashes),
            max_body_bytes: self.max_body_bytes,
        };
        Ok(AuthenticationPolicy { settings: Arc::new(settings) })
    }
}

impl fmt::Debug for AuthenticationPolicyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationPolicyBuilder")
            .field("methods", &self.methods)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
