//! Requests that clients sign: request objects by value (RFC 9101).

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use url::form_urlencoded;

use super::sources::Unresolved;
use crate::authentication::jws::{self, JwsError, LEEWAY, MAX_LIFE, TimeError, UnverifiedJws};
use crate::authentication::keys::{RegisteredKeys, SignatureError, verify_signature};
use crate::authentication::{KeySource, SigningAlgorithm};
use crate::authorization::Reason;
use crate::authorization::reason::reasons;
use crate::client::Client;
use crate::registry::ConfigError;

reasons! {
    /// `request` is not a signed JWT with a usable header: it is not three parts of base64url and JSON, or its header
    /// brings a key or needs an extension.
    REQUEST_OBJECT_MALFORMED = "request_object_malformed", InvalidRequestObject,
        "the request object is not a signed JWT with a usable header", "RFC 9101 §4, RFC 7515 §4.1";
    /// `request` is encrypted.
    REQUEST_OBJECT_ENCRYPTED = "request_object_encrypted", InvalidRequestObject,
        "encrypted request objects are not supported", "RFC 9101 §6.1";
    /// `typ` names another kind of JWT.
    REQUEST_OBJECT_TYPE = "request_object_type", InvalidRequestObject,
        "typ of the request object must be oauth-authz-req+jwt", "RFC 9101 §10.8";
    /// The algorithm is not allowed, or is not the one that the client registered.
    REQUEST_OBJECT_ALGORITHM = "request_object_algorithm", InvalidRequestObject,
        "the request object must be signed by an algorithm that is allowed for the client", "RFC 9101 §10.1";
    /// The client has no key that fits the request object.
    REQUEST_OBJECT_KEY = "request_object_key", InvalidRequestObject,
        "the client has no key that fits the request object", "RFC 9101 §6.2";
    /// The signature is wrong.
    REQUEST_OBJECT_SIGNATURE = "request_object_signature", InvalidRequestObject,
        "the signature of the request object is wrong", "RFC 9101 §6.2";
    /// `iss` is not the client's id.
    REQUEST_OBJECT_ISSUER = "request_object_issuer", InvalidRequestObject,
        "iss of the request object must be the client_id", "RFC 9101 §4";
    /// `client_id` in the request object is not the one beside it.
    REQUEST_OBJECT_CLIENT_ID = "request_object_client_id", InvalidRequestObject,
        "client_id must be the same in the request object and beside it", "RFC 9101 §5";
    /// `aud` is not the issuer of this server alone.
    REQUEST_OBJECT_AUDIENCE = "request_object_audience", InvalidRequestObject,
        "aud of the request object must be the issuer of this server", "RFC 9101 §4";
    /// `exp` is missing, in the past or too far ahead.
    REQUEST_OBJECT_EXPIRY = "request_object_expiry", InvalidRequestObject,
        "exp of the request object must be in the future, and at most an hour after nbf and iat", "RFC 7519 §4.1.4";
    /// `nbf` or `iat` is in the future.
    REQUEST_OBJECT_NOT_YET_VALID = "request_object_not_yet_valid", InvalidRequestObject,
        "nbf and iat of the request object must not be in the future", "RFC 7519 §4.1.5";
    /// The request object contains `request` or `request_uri`.
    REQUEST_OBJECT_NESTED = "request_object_nested", InvalidRequestObject,
        "a request object must not contain request or request_uri", "RFC 9101 §4";
    /// The client's keys are not available at the moment.
    REQUEST_OBJECT_KEYS_UNAVAILABLE = "request_object_keys_unavailable", TemporarilyUnavailable,
        "request objects cannot be checked at the moment, please try again", "RFC 6749 §4.1.2.1";
}

/// `typ` of request objects, where it is given (RFC 9101 §10.8).
const KINDS: [&str; 2] = ["oauth-authz-req+jwt", "jwt"];

/// Claims that are about the JWT, and are no parameters (RFC 7519 §4.1).
const JWT_CLAIMS: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Reads requests that clients sign (RFC 9101, `request`). Cheap to clone.
///
/// Give it to [`ClientValidationLayer::signed_requests`](crate::ClientValidationLayer::signed_requests). The
/// parameters then come from the request object alone; others beside it are ignored. They are judged by the same rules
/// as any request.
///
/// | part | rule |
/// |---|---|
/// | signature | by a key of the client; keys for encryption, and keys in the header, verify nothing |
/// | `alg` | one of the [algorithms](SignedRequestsBuilder::signing_algorithms), and the client's `request_object_signing_alg` if it registered one |
/// | `typ` | missing, `oauth-authz-req+jwt` or `JWT` |
/// | `iss`, `client_id` | the client's id, which must also be beside the request object |
/// | `aud` | the issuer of this server, as a string or the only one of an array |
/// | `exp` | required, at most an hour after `nbf`, `iat` and now |
/// | `nbf`, `iat` | not in the future; clocks may differ by a minute |
/// | `request`, `request_uri` | must be absent |
///
/// A request object that breaks a rule is answered with 400 `invalid_request_object`. Encrypted ones are refused, and a
/// `request_uri` of the client's own is never fetched.
///
/// ```
/// use tower_oauth_client_validation::{ClientValidationLayer, MemoryRegistry, Policy, SignedRequests};
///
/// let issuer = "https://login.example";
/// let layer = ClientValidationLayer::new(MemoryRegistry::new())
///     .policy(Policy::rfc9700().issuer(issuer).build()?)
///     .signed_requests(SignedRequests::builder(issuer).build()?);
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SignedRequests {
    settings: Arc<Settings>,
}

struct Settings {
    issuer: Box<str>,
    algorithms: Vec<SigningAlgorithm>,
    keys: Arc<dyn KeySource>,
}

impl SignedRequests {
    /// Begins with the issuer identifier of this server, the only audience that request objects may name, and the
    /// defaults that the builder's methods state.
    pub fn builder(issuer: impl Into<String>) -> SignedRequestsBuilder {
        SignedRequestsBuilder {
            issuer: issuer.into(),
            algorithms: SigningAlgorithm::ALL.into(),
            keys: Arc::new(RegisteredKeys),
        }
    }

    /// The algorithms that request objects may use, for the server's metadata
    /// (`request_object_signing_alg_values_supported`).
    pub fn signing_algorithms(&self) -> impl Iterator<Item = SigningAlgorithm> + '_ {
        self.settings.algorithms.iter().copied()
    }

    /// The parameters in `object`, which must come from this client, as a form.
    pub(super) async fn read(&self, object: &str, client: &Client, now: SystemTime) -> Result<String, Unresolved> {
        let jws = UnverifiedJws::parse(object).map_err(|error| match error {
            JwsError::Malformed if object.split('.').count() == 5 => Reason::REQUEST_OBJECT_ENCRYPTED,
            error => reason(error),
        })?;
        if jws.kind().is_some_and(|kind| !KINDS.contains(&&*kind)) {
            return Err(Reason::REQUEST_OBJECT_TYPE.into());
        }
        let algorithm = jws.algorithm();
        let registered = client.request_object_signing_alg();
        let is_registered = registered.is_none_or(|name| SigningAlgorithm::parse(name) == Some(algorithm));
        if !self.settings.algorithms.contains(&algorithm) || !is_registered {
            return Err(Reason::REQUEST_OBJECT_ALGORITHM.into());
        }
        let verified = verify_signature(jws, client, &*self.settings.keys).await;
        let claims = verified.map_err(|error| match error {
            SignatureError::Wrong(error) => reason(error).into(),
            SignatureError::Unavailable(source) => {
                Unresolved { reason: Reason::REQUEST_OBJECT_KEYS_UNAVAILABLE, cause: Some(source.into()) }
            }
        })?;
        self.check_claims(&claims, client.id(), now)?;
        Ok(to_form(&claims))
    }

    fn check_claims(&self, claims: &Map<String, Value>, client_id: &str, now: SystemTime) -> Result<(), Reason> {
        let is = |name: &str, expected: &str| claims.get(name).is_some_and(|value| value == expected);
        if !is("iss", client_id) {
            return Err(Reason::REQUEST_OBJECT_ISSUER);
        }
        if !is("client_id", client_id) {
            return Err(Reason::REQUEST_OBJECT_CLIENT_ID);
        }
        let audience = claims.get("aud").map(|audience| match audience.as_array().map(Vec::as_slice) {
            Some([only]) => only,
            Some(_) | None => audience,
        });
        if audience.is_none_or(|audience| audience != &*self.settings.issuer) {
            return Err(Reason::REQUEST_OBJECT_AUDIENCE);
        }
        check_lifetime(claims, now)?;
        if claims.contains_key("request") || claims.contains_key("request_uri") {
            return Err(Reason::REQUEST_OBJECT_NESTED);
        }
        Ok(())
    }
}

/// A request object lives for an hour at most, by its own times and by our clock.
fn check_lifetime(claims: &Map<String, Value>, now: SystemTime) -> Result<(), Reason> {
    match jws::check_times(claims, MAX_LIFE + LEEWAY, now) {
        Ok(_) => Ok(()),
        Err(TimeError::Expiry) => Err(Reason::REQUEST_OBJECT_EXPIRY),
        Err(TimeError::NotYetValid) => Err(Reason::REQUEST_OBJECT_NOT_YET_VALID),
    }
}

/// The claims as parameters: strings as they are, `resource` also as an array of strings, and other values as JSON.
fn to_form(claims: &Map<String, Value>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in claims.iter().filter(|(name, _)| !JWT_CLAIMS.contains(&name.as_str())) {
        match value {
            Value::Null => {}
            Value::String(text) => {
                form.append_pair(name, text);
            }
            Value::Array(values) if name == "resource" && values.iter().all(Value::is_string) => {
                form.extend_pairs(values.iter().filter_map(Value::as_str).map(|text| (name, text)));
            }
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                form.append_pair(name, &value.to_string());
            }
        }
    }
    form.finish()
}

fn reason(error: JwsError) -> Reason {
    match error {
        JwsError::Malformed => Reason::REQUEST_OBJECT_MALFORMED,
        JwsError::Algorithm => Reason::REQUEST_OBJECT_ALGORITHM,
        JwsError::Key => Reason::REQUEST_OBJECT_KEY,
        JwsError::Signature => Reason::REQUEST_OBJECT_SIGNATURE,
    }
}

impl fmt::Debug for SignedRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequests")
            .field("issuer", &self.settings.issuer)
            .field("algorithms", &self.settings.algorithms)
            .finish_non_exhaustive()
    }
}

/// Builds [`SignedRequests`].
#[derive(Clone)]
#[must_use]
pub struct SignedRequestsBuilder {
    issuer: String,
    algorithms: Vec<SigningAlgorithm>,
    keys: Arc<dyn KeySource>,
}

impl SignedRequestsBuilder {
    /// The algorithms that request objects may use (default: `ES256`, `EdDSA`, `PS256`, `RS256`).
    ///
    /// ```
    /// use tower_oauth_client_validation::SignedRequests;
    ///
    /// let signed = SignedRequests::builder("https://login.example").build()?;
    /// let algorithms: Vec<_> = signed.signing_algorithms().map(|algorithm| algorithm.as_str()).collect();
    /// assert_eq!(algorithms, ["ES256", "EdDSA", "PS256", "RS256"]);
    /// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
    /// ```
    pub fn signing_algorithms(mut self, algorithms: impl IntoIterator<Item = SigningAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Where the keys of clients come from (default: the `jwks` that they registered).
    /// [`FetchedKeys`](crate::FetchedKeys) also fetches a `jwks_uri`; clones of one share its cache.
    pub fn keys(mut self, keys: impl KeySource + 'static) -> Self {
        self.keys = Arc::new(keys);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// When the issuer is empty, or no algorithm is allowed.
    pub fn build(self) -> Result<SignedRequests, ConfigError> {
        let failed = |setting, problem: &'static str| Err(ConfigError::new(setting, problem));
        if self.issuer.is_empty() {
            return failed("issuer", "must not be empty");
        }
        if self.algorithms.is_empty() {
            return failed("signing_algorithms", "must not be empty");
        }
        let settings = Settings { issuer: self.issuer.into(), algorithms: self.algorithms, keys: self.keys };
        Ok(SignedRequests { settings: Arc::new(settings) })
    }
}

impl fmt::Debug for SignedRequestsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequestsBuilder")
            .field("issuer", &self.issuer)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
