//! The HTTP client for the upstream.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use reqwest::{Certificate, RequestBuilder, redirect};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::super::refusal::{INVALID_METADATA, access_denied, invalid_token};
use crate::http::endpoint::Refusal;
use crate::registry::ConfigError;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_MAX_CONCURRENT_REQUESTS: usize = 32;

/// Where and how an upstream identity provider takes registrations.
///
/// A wrong setting fails in [`UpstreamRegistration::new`](super::UpstreamRegistration::new).
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    place: Place<String>,
    initial_access_token: Option<String>,
    configuration_endpoints_at: Option<String>,
    pub(super) reuse_configured_clients: bool,
    root_certificates: Vec<Vec<u8>>,
    timeout: Duration,
    max_concurrent_requests: usize,
    insecure_http: bool,
}

#[derive(Clone, Debug)]
enum Place<T> {
    Endpoint(T),
    MetadataDocument(T),
}

impl Upstream {
    /// An upstream whose registration endpoint has this `https` URL.
    pub fn endpoint(url: impl Into<String>) -> Self {
        Self::at(Place::Endpoint(url.into()))
    }

    /// An upstream whose metadata document (RFC 8414, OpenID Connect Discovery) has this `https` URL and names the
    /// registration endpoint. It is read when the first client registers.
    pub fn discovered_at(url: impl Into<String>) -> Self {
        Self::at(Place::MetadataDocument(url.into()))
    }

    fn at(place: Place<String>) -> Self {
        Self {
            place,
            initial_access_token: None,
            configuration_endpoints_at: None,
            reuse_configured_clients: false,
            root_certificates: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            max_concurrent_requests: DEFAULT_MAX_CONCURRENT_REQUESTS,
            insecure_http: false,
        }
    }

    /// The token that lets this server register clients at the upstream (default: none).
    pub fn initial_access_token(mut self, token: impl Into<String>) -> Self {
        self.initial_access_token = Some(token.into());
        self
    }

    /// A second origin (scheme, host and port) where the upstream's client configuration endpoints may be
    /// (`registration_client_uri`, RFC 7592 §3), in addition to that of its registration endpoint (default: none).
    ///
    /// For an upstream that this server reaches under another name than its clients do. Access tokens of clients are
    /// sent there, so an answer of the upstream alone does not suffice.
    pub fn configuration_endpoints_at(mut self, url: impl Into<String>) -> Self {
        self.configuration_endpoints_at = Some(url.into());
        self
    }

    /// Whether a registration is answered with a configured public client, without asking the upstream, if exactly one
    /// configured client allows all requested redirect URIs (default: no).
    ///
    /// Native clients use a different port each time, and each time would create another client at the upstream. The
    /// answer has no credentials, and only the members of RFC 7591 §2. Newly configured clients are used after ten
    /// seconds at the latest.
    pub fn reuse_configured_clients(mut self, reuse: bool) -> Self {
        self.reuse_configured_clients = reuse;
        self
    }

    /// Trusts the certificates in this PEM text, in addition to the platform's roots.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// How long the upstream may take for an answer (default: 10 seconds).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many requests may wait for the upstream (default: 32). Further ones are answered with 503. A request counts
    /// until the upstream has answered, also if its client has hung up.
    pub fn max_concurrent_requests(mut self, max: usize) -> Self {
        self.max_concurrent_requests = max;
        self
    }

    /// Whether the upstream's URLs may be `http` (default: no). Tokens and secrets are then sent in the clear: only for
    /// development on one machine.
    pub fn insecure_http(mut self, allowed: bool) -> Self {
        self.insecure_http = allowed;
        self
    }

    fn url(&self, setting: &'static str, url: &str) -> Result<Url, ConfigError> {
        let url = Url::parse(url).ok().filter(|url| self.admits(url));
        url.ok_or_else(|| ConfigError::new(setting, "must be an absolute https URL, or http with insecure_http"))
    }

    fn admits(&self, url: &Url) -> bool {
        url.scheme() == "https" || (self.insecure_http && url.scheme() == "http")
    }
}

/// Without the access token.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("place", &self.place)
            .field("reuse_configured_clients", &self.reuse_configured_clients)
            .field("timeout", &self.timeout)
            .field("max_concurrent_requests", &self.max_concurrent_requests)
            .field("insecure_http", &self.insecure_http)
            .finish_non_exhaustive()
    }
}

/// A client configuration endpoint of the upstream and the client's access token for it.
#[derive(Clone)]
pub(super) struct Management {
    pub(super) uri: Url,
    pub(super) token: String,
}

/// Asks the upstream.
pub(super) struct UpstreamClient {
    http: reqwest::Client,
    upstream: Upstream,
    place: Place<Url>,
    configuration: Option<url::Origin>,
    discovered: OnceLock<Url>,
    max_answer_bytes: usize,
    permits: Arc<Semaphore>,
}

impl UpstreamClient {
    pub(super) fn new(upstream: Upstream, max_answer_bytes: usize) -> Result<Self, ConfigError> {
        let place = match &upstream.place {
            Place::Endpoint(url) => Place::Endpoint(upstream.url("endpoint of the upstream", url)?),
            Place::MetadataDocument(url) => Place::MetadataDocument(upstream.url("discovered_at", url)?),
        };
        let configuration = upstream.configuration_endpoints_at.as_deref();
        let configuration = configuration.map(|url| upstream.url("configuration_endpoints_at", url)).transpose()?;
        if upstream.max_concurrent_requests == 0 {
            return Err(ConfigError::new("max_concurrent_requests", "must not be 0"));
        }
        let untrusted = |error: reqwest::Error| {
            ConfigError::new("root_certificates", "must be certificates as PEM").with_source(error)
        };
        let mut roots = Vec::new();
        for pem in &upstream.root_certificates {
            roots.extend(Certificate::from_pem_bundle(pem).map_err(untrusted)?);
        }
        let http = reqwest::Client::builder()
            .tls_certs_merge(roots)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(upstream.timeout)
            .build()
            .map_err(untrusted)?;
        Ok(Self {
            http,
            place,
            configuration: configuration.map(|url| url.origin()),
            discovered: OnceLock::new(),
            max_answer_bytes,
            permits: Arc::new(Semaphore::new(upstream.max_concurrent_requests.min(Semaphore::MAX_PERMITS))),
            upstream,
        })
    }

    /// Held until the upstream has answered.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map_err(|_| Refusal::unavailable("too many requests wait for the identity provider"))
    }

    /// The registration endpoint.
    pub(super) async fn endpoint(&self) -> Result<Url, Refusal> {
        let document = match &self.place {
            Place::Endpoint(endpoint) => return Ok(endpoint.clone()),
            Place::MetadataDocument(document) => document,
        };
        if let Some(endpoint) = self.discovered.get() {
            return Ok(endpoint.clone());
        }
        let (status, answered) = self.ask(self.http.get(document.clone())).await?;
        if status != StatusCode::OK {
            return Err(failed(status, "the metadata document of the upstream could not be read"));
        }
        let endpoint = answered.get("registration_endpoint").and_then(Value::as_str).map(Url::parse);
        let usable = |endpoint: &Url| self.is_as_secure(endpoint, document);
        let endpoint = endpoint.and_then(Result::ok).filter(usable).ok_or_else(|| {
            failed(status, "the metadata document of the upstream does not name a usable registration endpoint")
        })?;
        Ok(self.discovered.get_or_init(|| endpoint).clone())
    }

    /// Registers a client with these members, and returns the upstream's answer.
    pub(super) async fn register(
        &self,
        endpoint: &Url,
        members: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Refusal> {
        let mut request = self.http.post(endpoint.clone());
        if let Some(token) = &self.upstream.initial_access_token {
            request = request.bearer_auth(token);
        }
        match self.ask(with_json(request, members)).await? {
            (StatusCode::CREATED | StatusCode::OK, answered) => Ok(answered),
            (status, answered) => Err(passed_on(status, &answered)),
        }
    }

    /// Reads a client, or changes it to these members.
    pub(super) async fn manage(
        &self,
        management: &Management,
        change: Option<&Map<String, Value>>,
    ) -> Result<Map<String, Value>, Refusal> {
        let method = if change.is_some() { Method::PUT } else { Method::GET };
        let mut request = self.http.request(method, management.uri.clone()).bearer_auth(&management.token);
        if let Some(members) = change {
            request = with_json(request, members);
        }
        match self.ask(request).await? {
            (StatusCode::OK, answered) => Ok(answered),
            (status, answered) => Err(passed_on_to_manager(status, &answered)),
        }
    }

    /// Deletes a client. Returns `false` if the upstream does not know it with this access token (RFC 7592 §2.3).
    pub(super) async fn delete(&self, management: &Management) -> Result<bool, Refusal> {
        let request = self.http.delete(management.uri.clone()).bearer_auth(&management.token);
        match self.ask(request).await? {
            (status, _) if status.is_success() => Ok(true),
            (StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::GONE, _) => Ok(false),
            (status, answered) => Err(passed_on_to_manager(status, &answered)),
        }
    }

    /// The address, if access tokens of clients may be sent to it.
    pub(super) fn manageable(&self, uri: &str, endpoint: &Url) -> Option<Url> {
        let uri = Url::parse(uri).ok().filter(|uri| {
            let is_known = uri.origin() == endpoint.origin() || self.configuration.as_ref() == Some(&uri.origin());
            is_known && self.is_as_secure(uri, endpoint)
        });
        if uri.is_none() {
            tracing::warn!("the upstream names a client configuration endpoint at an unknown origin: it is not asked");
        }
        uri
    }

    fn is_as_secure(&self, url: &Url, than: &Url) -> bool {
        self.upstream.admits(url) && (url.scheme() == "https" || than.scheme() == "http")
    }

    /// The status, and the members if the answer is a JSON object.
    async fn ask(&self, request: RequestBuilder) -> Result<(StatusCode, Map<String, Value>), Refusal> {
        let unavailable = |error: reqwest::Error| {
            tracing::error!(error = &error.without_url() as &dyn Error, "the upstream could not be reached");
            Refusal::unavailable("the identity provider is temporarily unavailable")
        };
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(unavailable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > self.max_answer_bytes {
                return Err(failed(status, "the upstream's answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

fn with_json(request: RequestBuilder, members: &Map<String, Value>) -> RequestBuilder {
    let body = serde_json::to_vec(members).expect("a map of JSON values is JSON");
    request.header(CONTENT_TYPE, "application/json").body(body)
}

/// Translates a refusal of the upstream to one of RFC 7591 §3.2.2.
fn passed_on(status: StatusCode, answered: &Map<String, Value>) -> Refusal {
    const CODES: [&str; 4] =
        ["invalid_redirect_uri", INVALID_METADATA, "invalid_software_statement", "unapproved_software_statement"];
    if status != StatusCode::BAD_REQUEST {
        return failed(status, "the upstream does not register clients for this server");
    }
    let text = |name: &str| answered.get(name).and_then(Value::as_str);
    let code = text("error").and_then(|error| CODES.into_iter().find(|code| *code == error));
    let description: String = text("error_description").unwrap_or_default().chars().take(512).collect();
    Refusal::new(
        StatusCode::BAD_REQUEST,
        code.unwrap_or(INVALID_METADATA),
        match description.is_empty() {
            true => "the identity provider refused the metadata".into(),
            false => description,
        },
    )
}

/// The same for a request with the client's own access token.
fn passed_on_to_manager(status: StatusCode, answered: &Map<String, Value>) -> Refusal {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => invalid_token(),
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => {
            access_denied("the identity provider does not allow this")
        }
        status => passed_on(status, answered),
    }
}

/// A failure of the server or the upstream.
pub(super) fn failed(status: StatusCode, description: &'static str) -> Refusal {
    tracing::error!(status = status.as_u16(), "{description}");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Refusal::unavailable("the identity provider is temporarily unavailable")
    } else {
        Refusal::fault()
    }
}
