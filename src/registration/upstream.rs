//! Registration that an upstream identity provider decides about.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::lock::Mutex;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use reqwest::{Certificate, RequestBuilder, redirect};
use serde_json::{Map, Value};
use tower::Service;
use url::Url;

use super::answer::{Answer, Refusal, client_answer, empty_answer, visible};
use super::credential::{self, ACCESS_TOKEN, CLIENT_SECRET, digest, has_digest, is_digest_of};
use super::members::UPSTREAM_URI;
use super::metadata::{ANSWER_MEMBERS, is_reserved, judge, parse_redirect_uri, understood};
use super::policy::RegistrationPolicy;
use super::request::{Endpoint, EndpointError, Target, bearer, read_members};
use super::service::RegistrationFuture;
use crate::client::{Client, ClientKind, ClientStatus, LoopbackPorts};
use crate::registry::{BoxError, Origin, Record, RegistryStore, StoreError};

/// How many configured clients are looked at in one go.
const PAGE: usize = 256;

/// Registers clients at an upstream identity provider, and keeps what that answers, so that their authorization
/// requests can be judged here.
///
/// Requests and answers are those of [`RegistrationService`](super::RegistrationService). Of the policy hold the
/// initial access token, the rules for redirect URIs and metadata and the body limit, and the scopes where
/// [allowed ones](RegistrationPolicy::allowed_scopes) are set. The rest is up to the upstream: software
/// statements, lifetimes, and how many clients there are.
///
/// - What the upstream answers goes to the client, but with a `registration_client_uri` of this server. The
///   registration access token is the upstream's; only its SHA-256 is kept.
/// - The client is stored as [`Origin::Upstream`], never in the place of one that exists. Its scopes are what
///   the upstream said, else the [default](RegistrationPolicy::default_scopes), else `*`, since the upstream
///   decides about them.
/// - Errors of RFC 7591 §3.2.2 are passed on. An upstream that cannot be reached, or fails, is 503; one that
///   does not let this server in is 500.
/// - `GET` and `PUT` go to the upstream too, and `DELETE` removes the client at both. Where the upstream has no
///   client configuration endpoint, `GET` and `DELETE` work here alone and `PUT` is 403.
///
/// Needs a Tokio runtime.
///
/// ```
/// use tower_oauth_client_validation::{MemoryRegistry, RegistrationPolicy, Upstream, UpstreamRegistration};
///
/// let upstream = Upstream::discovered_at("https://idp.example/.well-known/openid-configuration")?
///     .initial_access_token("of this server");
/// let service = UpstreamRegistration::new(
///     MemoryRegistry::new(),
///     "https://login.example/register",
///     upstream,
///     RegistrationPolicy::new(),
/// )?;
/// # let _ = service;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UpstreamRegistration<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    store: S,
    endpoint: Endpoint,
    policy: RegistrationPolicy,
    upstream: Upstream,
    http: reqwest::Client,
    discovered: Mutex<Option<Url>>,
}

/// Where the upstream takes registrations.
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    place: Place,
    access_token: Option<String>,
    reuse_configured: bool,
    roots: Vec<Certificate>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Place {
    Endpoint(Url),
    MetadataDocument(Url),
}

impl Upstream {
    /// Its registration endpoint.
    ///
    /// # Errors
    ///
    /// When this is no `https` or `http` URL.
    pub fn endpoint(url: &str) -> Result<Self, UpstreamError> {
        Ok(Self::at(Place::Endpoint(address(url)?)))
    }

    /// Its metadata document (RFC 8414, OpenID Connect Discovery), which names the endpoint. It is read when the
    /// first client registers. The endpoint that an `https` document names must be `https` too.
    ///
    /// # Errors
    ///
    /// When this is no `https` or `http` URL.
    pub fn discovered_at(url: &str) -> Result<Self, UpstreamError> {
        Ok(Self::at(Place::MetadataDocument(address(url)?)))
    }

    fn at(place: Place) -> Self {
        let timeout = Duration::from_secs(10);
        Self { place, access_token: None, reuse_configured: false, roots: Vec::new(), timeout }
    }

    /// What the upstream lets this server in with (default: nothing).
    pub fn initial_access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// Whether a registration is answered with a configured public client, without asking the upstream, when
    /// just one configured client admits every redirect URI that is asked for (default: no).
    ///
    /// A native client comes with another port each time, and would get another client at the upstream each
    /// time. The answer has neither secret nor access token.
    pub fn reuse_configured_clients(mut self, reuse: bool) -> Self {
        self.reuse_configured = reuse;
        self
    }

    /// Trusts the certificates in this PEM text, beside the roots of the platform.
    ///
    /// # Errors
    ///
    /// When the text holds something else.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, UpstreamError> {
        self.roots.extend(Certificate::from_pem_bundle(pem).map_err(UpstreamError::Http)?);
        Ok(self)
    }

    /// How long the upstream may take for an answer (default: 10 seconds).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Without the access token.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("place", &self.place)
            .field("reuse_configured", &self.reuse_configured)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn address(url: &str) -> Result<Url, UpstreamError> {
    Url::parse(url).ok().filter(|url| matches!(url.scheme(), "https" | "http")).ok_or(UpstreamError::Address)
}

impl<S: RegistryStore> UpstreamRegistration<S> {
    /// Registers clients at `upstream` and keeps them in `store`. `endpoint` is the address of the registration
    /// endpoint of this server as clients see it.
    ///
    /// # Errors
    ///
    /// When the address is no absolute `https` or `http` URL or has a query or fragment, or TLS cannot be set
    /// up.
    pub fn new(
        store: S,
        endpoint: &str,
        upstream: Upstream,
        policy: RegistrationPolicy,
    ) -> Result<Self, UpstreamError> {
        let endpoint = Endpoint::parse(endpoint).map_err(UpstreamError::Endpoint)?;
        let http = reqwest::Client::builder()
            .tls_certs_merge(upstream.roots.clone())
            .redirect(redirect::Policy::none())
            .timeout(upstream.timeout)
            .build()
            .map_err(UpstreamError::Http)?;
        let discovered = Mutex::new(None);
        Ok(Self { shared: Arc::new(Shared { store, endpoint, policy, upstream, http, discovered }) })
    }
}

impl<S: RegistryStore> Shared<S> {
    async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        self.route(request).await.unwrap_or_else(|refusal| {
            tracing::info!(
                outcome = "refused",
                status = refusal.status.as_u16(),
                error = &*refusal.error,
                detail = &*refusal.description,
                "upstream client registration"
            );
            refusal.into_answer()
        })
    }

    async fn route<B>(&self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        match (self.endpoint.target(parts.uri.path()), parts.method) {
            (Target::Endpoint, Method::POST) => self.register(&parts.headers, body).await,
            (Target::Endpoint, _) => Err(Refusal::method("POST")),
            (Target::Client(id), Method::GET) => self.read(&parts.headers, &id).await,
            (Target::Client(id), Method::PUT) => self.update(&parts.headers, &id, body).await,
            (Target::Client(id), Method::DELETE) => self.delete(&parts.headers, &id).await,
            (Target::Client(_), _) => Err(Refusal::method("GET, PUT, DELETE")),
            (Target::Other, _) => Err(Refusal::not_found()),
        }
    }

    async fn register<B>(&self, headers: &HeaderMap, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        if !self.policy.initial_access.admits(bearer(headers)).await {
            return Err(Refusal::token());
        }
        let asked = read_members(headers, body, self.policy.body_limit).await?;
        let judged = self.judge(asked.clone())?;
        if self.upstream.reuse_configured {
            if let Some(members) = self.configured(&judged).await? {
                return Ok(client_answer(StatusCode::CREATED, members));
            }
        }
        let request = self.http.post(self.upstream_endpoint().await?);
        let request = match &self.upstream.access_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let (status, answered) = self.ask(with_json(request, &forwarded(asked))).await?;
        if status != StatusCode::CREATED && status != StatusCode::OK {
            return Err(passed_on(status, &answered));
        }
        let Upstreams { client, members } = match self.understand(&judged, answered.clone(), None) {
            Ok(understood) => understood,
            Err(refusal) => {
                self.withdraw(&answered).await;
                return Err(refusal);
            }
        };
        let id = client.id().to_owned();
        match self.store.insert(client, Origin::Upstream).await {
            Ok(_) => {
                tracing::info!(outcome = "registered", client_id = id, "upstream client registration");
                Ok(client_answer(StatusCode::CREATED, members))
            }
            // Not withdrawn: the client of this id at the upstream may be the one that exists here.
            Err(StoreError::AlreadyExists) => {
                tracing::error!(client_id = id, "the upstream registered a client whose id is taken here");
                Err(Refusal::fault())
            }
            Err(error) => {
                self.withdraw(&answered).await;
                Err(error.into())
            }
        }
    }

    /// The upstream decides about scopes, unless the policy does.
    fn judge(&self, mut asked: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
        if self.policy.allowed_scopes.is_none() {
            asked.remove("scope");
        }
        judge(asked, &self.policy)
    }

    /// The only configured client that admits what is asked for.
    async fn configured(&self, judged: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Refusal> {
        let asked: Vec<&str> = judged
            .get("redirect_uris")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let admits = |record: &Record| {
            record.origin == Origin::Configured
                && is_active(&record.client)
                && asked.iter().all(|uri| record.client.check_redirect_uri(uri, LoopbackPorts::Any).is_ok())
        };
        let mut found: Option<Arc<Client>> = None;
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(after.as_deref(), PAGE).await?;
            for record in page.iter().filter(|record| !asked.is_empty() && admits(record)) {
                if found.replace(Arc::clone(&record.client)).is_some() {
                    return Ok(None);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.client.id().to_owned()),
                _ => break,
            }
        }
        // Nobody tells a stranger the secret of a client.
        let Some(client) = found.filter(|client| client.kind() == ClientKind::Public) else {
            return Ok(None);
        };
        tracing::info!(outcome = "configured", client_id = client.id(), "upstream client registration");
        let mut members = client.to_metadata();
        members.retain(|name, _| name == "client_id" || !is_reserved(name));
        members.insert("redirect_uris".into(), asked.into_iter().collect());
        Ok(Some(members))
    }

    async fn upstream_endpoint(&self) -> Result<Url, Refusal> {
        let document = match &self.upstream.place {
            Place::Endpoint(endpoint) => return Ok(endpoint.clone()),
            Place::MetadataDocument(document) => document,
        };
        let mut discovered = self.discovered.lock().await;
        if let Some(endpoint) = &*discovered {
            return Ok(endpoint.clone());
        }
        let (status, answered) = self.ask(self.http.get(document.clone())).await?;
        if status != StatusCode::OK {
            return Err(broken(status, "the metadata document of the upstream cannot be had"));
        }
        let endpoint = answered.get("registration_endpoint").and_then(Value::as_str).and_then(|url| address(url).ok());
        let endpoint = endpoint.filter(|endpoint| endpoint.scheme() == "https" || document.scheme() == "http");
        let endpoint = endpoint
            .ok_or_else(|| broken(status, "the metadata document of the upstream names no registration endpoint"))?;
        *discovered = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// What the upstream answers: the status, and its members where it answers with a JSON object.
    async fn ask(&self, request: RequestBuilder) -> Result<(StatusCode, Map<String, Value>), Refusal> {
        let unavailable = |error: reqwest::Error| {
            tracing::error!(error = &error as &dyn Error, "the upstream cannot be reached");
            Refusal::unavailable("the identity provider is temporarily unavailable")
        };
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(unavailable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > self.policy.body_limit {
                return Err(broken(status, "the answer of the upstream is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// The client that the upstream's answer describes, and what the client is told.
    fn understand(
        &self,
        judged: &Map<String, Value>,
        mut answered: Map<String, Value>,
        known: Option<&Client>,
    ) -> Result<Upstreams, Refusal> {
        let unusable = || broken(StatusCode::OK, "the upstream answered with a client that cannot be used");
        answered.retain(|_, value| !value.is_null());
        let text = |name: &str| answered.get(name).and_then(Value::as_str);
        let id = text("client_id").ok_or_else(unusable)?.to_owned();
        if known.is_some_and(|known| known.id() != id) {
            return Err(unusable());
        }
        let mut stored = understood(&answered, &self.policy);
        for name in ["redirect_uris", "response_types", "grant_types", "application_type", "client_name"] {
            if let (false, Some(value)) = (stored.contains_key(name), judged.get(name)) {
                stored.insert(name.into(), value.clone());
            }
        }
        let kept = |member: &str| known.and_then(|known| known.metadata()?.get(member)?.as_str().map(str::to_owned));
        let secret_digest = text("client_secret").map(digest).or_else(|| kept(CLIENT_SECRET));
        if !stored.contains_key("token_endpoint_auth_method") {
            let method = if secret_digest.is_some() { "client_secret_basic" } else { "none" };
            stored.insert("token_endpoint_auth_method".into(), method.into());
        }
        if !stored.contains_key("scope") {
            // What is left out has not changed; it must not become more.
            let scope = match known.and_then(Client::allowed_scopes) {
                Some(scopes) => scopes.as_str(),
                None => self.policy.default_scopes.as_ref().map_or("*", |scopes| scopes.as_str()),
            };
            stored.insert("scope".into(), scope.into());
        }
        let uris = stored.get("redirect_uris").and_then(Value::as_array).into_iter().flatten();
        if !uris.into_iter().all(|uri| uri.as_str().is_some_and(|uri| parse_redirect_uri(uri).is_ok())) {
            return Err(unusable());
        }
        let upstream_uri = text("registration_client_uri").filter(|uri| address(uri).is_ok()).map(str::to_owned);
        let upstream_token = text("registration_access_token").map(str::to_owned);
        // The upstream may leave out what has not changed.
        let upstream_uri = upstream_uri.filter(|_| upstream_token.is_some()).or_else(|| kept(UPSTREAM_URI));
        let (access_token, token_digest) = match (upstream_token, kept(ACCESS_TOKEN)) {
            (Some(token), _) => (Some(token.clone()), digest(&token)),
            (None, Some(digest)) => (None, digest),
            (None, None) => {
                let token = credential::secret()?;
                (Some(token.clone()), digest(&token))
            }
        };
        stored.insert("client_id".into(), id.as_str().into());
        stored.insert(ACCESS_TOKEN.into(), token_digest.into());
        stored.extend(secret_digest.map(|digest| (CLIENT_SECRET.to_owned(), digest.into())));
        stored.extend(upstream_uri.map(|uri| (UPSTREAM_URI.to_owned(), uri.into())));
        let client = Client::from_metadata(stored).map_err(|error| {
            tracing::error!(%error, "the upstream answered with a client that breaks a rule");
            Refusal::fault()
        })?;

        let mut members = visible(client.to_metadata());
        members.extend(visible(answered));
        if members.contains_key("client_secret") {
            members.entry("client_secret_expires_at").or_insert(0.into());
        }
        members.insert("registration_client_uri".into(), self.endpoint.client_uri(&id).into());
        members.extend(access_token.map(|token| ("registration_access_token".to_owned(), token.into())));
        Ok(Upstreams { client, members })
    }

    /// Deletes a client at the upstream that cannot be kept here, as well as that works.
    async fn withdraw(&self, answered: &Map<String, Value>) {
        let text = |name: &str| answered.get(name).and_then(Value::as_str);
        if let (Some(uri), Some(token)) = (text("registration_client_uri"), text("registration_access_token")) {
            if let Err(refusal) = self.ask(self.http.delete(uri).bearer_auth(token)).await {
                tracing::warn!(detail = &*refusal.description, "a client stays behind at the upstream");
            }
        }
    }

    async fn read(&self, headers: &HeaderMap, id: &str) -> Result<Answer, Refusal> {
        let (record, token) = self.authorized(headers, id).await?;
        let client = &record.client;
        let Some(uri) = upstream_uri(client) else {
            let mut members = visible(client.to_metadata());
            members.insert("registration_access_token".into(), token.into());
            members.insert("registration_client_uri".into(), self.endpoint.client_uri(id).into());
            return Ok(client_answer(StatusCode::OK, members));
        };
        let (status, answered) = self.ask(self.http.get(uri).bearer_auth(token)).await?;
        if status != StatusCode::OK {
            return Err(passed_on_of_client(status, &answered));
        }
        self.keep(headers, id, &Map::new(), answered).await
    }

    async fn update<B>(&self, headers: &HeaderMap, id: &str, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (record, token) = self.authorized(headers, id).await?;
        let asked = read_members(headers, body, self.policy.body_limit).await?;
        let present = |name: &str| asked.get(name).filter(|value| !value.is_null());
        if let Some(name) = ANSWER_MEMBERS.into_iter().find(|name| present(name).is_some()) {
            return Err(Refusal::metadata(format!("{name}: must be left out")));
        }
        if present("client_id").and_then(Value::as_str) != Some(id) {
            return Err(Refusal::metadata("client_id: must be that of the client"));
        }
        // Whether it is the right one only the upstream can tell.
        let secret = present("client_secret").cloned();
        let judged = self.judge(asked.clone())?;
        let Some(uri) = upstream_uri(&record.client) else {
            let description = "the identity provider does not let clients change";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "access_denied", description));
        };
        let mut members = forwarded(asked);
        members.insert("client_id".into(), id.into());
        members.extend(secret.map(|secret| ("client_secret".to_owned(), secret)));
        let (status, answered) = self.ask(with_json(self.http.put(uri).bearer_auth(token), &members)).await?;
        if status != StatusCode::OK {
            return Err(passed_on_of_client(status, &answered));
        }
        self.keep(headers, id, &judged, answered).await
    }

    /// Stores what the upstream says about a client that it knew before.
    async fn keep(
        &self,
        headers: &HeaderMap,
        id: &str,
        judged: &Map<String, Value>,
        answered: Map<String, Value>,
    ) -> Result<Answer, Refusal> {
        // Once more: while the upstream was asked, the operator may have decided otherwise.
        let (record, token) = self.authorized(headers, id).await?;
        let old = &*record.client;
        let before = old.to_metadata();
        let judged = if judged.is_empty() { &before } else { judged };
        let Upstreams { client, mut members } = self.understand(judged, answered, Some(old))?;
        // What the operator decided about the client stays; but trust was in these redirect URIs.
        let is_trusted = old.is_trusted() && old.redirect_uris() == client.redirect_uris();
        let client = client.to_builder().trusted(is_trusted).expires_at(old.expires_at()).build();
        self.store.replace(client.map_err(super::service::refused)?).await?;
        members.entry("registration_access_token").or_insert(token.into());
        Ok(client_answer(StatusCode::OK, members))
    }

    async fn delete(&self, headers: &HeaderMap, id: &str) -> Result<Answer, Refusal> {
        let (record, token) = self.authorized(headers, id).await?;
        if let Some(uri) = upstream_uri(&record.client) {
            let (status, answered) = self.ask(self.http.delete(uri).bearer_auth(token)).await?;
            // 401 is what a client that is gone there gets (RFC 7592 §2.3).
            let is_gone = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::GONE);
            if !status.is_success() && !is_gone {
                return Err(passed_on_of_client(status, &answered));
            }
        }
        self.store.remove(id).await?;
        tracing::info!(outcome = "deleted", client_id = id, "upstream client registration");
        Ok(empty_answer(StatusCode::NO_CONTENT))
    }

    /// The client, when the access token is its own.
    async fn authorized<'h>(&self, headers: &'h HeaderMap, id: &str) -> Result<(Record, &'h str), Refusal> {
        let presented = bearer(headers).ok_or_else(Refusal::token)?;
        let record = match crate::client::is_client_id(id) {
            true => self.store.record(id).await?,
            false => None,
        };
        let record = record.filter(|record| record.origin == Origin::Upstream && is_active(&record.client));
        let fits = match &record {
            Some(record) => has_digest(&record.client, ACCESS_TOKEN, presented),
            None => is_digest_of(None, presented),
        };
        record.filter(|_| fits).map(|record| (record, presented)).ok_or_else(Refusal::token)
    }
}

/// A client as the upstream registered it.
struct Upstreams {
    client: Client,
    members: Map<String, Value>,
}

fn is_active(client: &Client) -> bool {
    client.status() == ClientStatus::Active && !client.is_expired_at(SystemTime::now())
}

fn upstream_uri(client: &Client) -> Option<&str> {
    client.metadata()?.get(UPSTREAM_URI)?.as_str()
}

fn forwarded(mut asked: Map<String, Value>) -> Map<String, Value> {
    asked.retain(|name, value| !value.is_null() && !is_reserved(name));
    asked
}

fn with_json(request: RequestBuilder, members: &Map<String, Value>) -> RequestBuilder {
    let body = serde_json::to_vec(members).expect("a map of JSON values is JSON");
    request.header(CONTENT_TYPE, "application/json").body(body)
}

/// A refusal of the upstream, as one of RFC 7591 §3.2.2.
fn passed_on(status: StatusCode, answered: &Map<String, Value>) -> Refusal {
    const CODES: [&str; 4] = [
        "invalid_redirect_uri",
        "invalid_client_metadata",
        "invalid_software_statement",
        "unapproved_software_statement",
    ];
    if status != StatusCode::BAD_REQUEST {
        return broken(status, "the upstream does not register clients for this server");
    }
    let text = |name: &str| answered.get(name).and_then(Value::as_str);
    let code = text("error").and_then(|error| CODES.into_iter().find(|code| *code == error));
    let description = text("error_description").map(readable).filter(|description| !description.is_empty());
    let description = description.unwrap_or_else(|| "the identity provider refused the metadata".into());
    Refusal::new(StatusCode::BAD_REQUEST, code.unwrap_or("invalid_client_metadata"), description)
}

/// The same, where the client's own access token was presented.
fn passed_on_of_client(status: StatusCode, answered: &Map<String, Value>) -> Refusal {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Refusal::token(),
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => {
            Refusal::new(StatusCode::FORBIDDEN, "access_denied", "the identity provider does not allow this")
        }
        status => passed_on(status, answered),
    }
}

/// The characters that a description may hold (RFC 6749 §5.2), and not too many.
fn readable(description: &str) -> String {
    description.chars().filter(|c| matches!(c, ' '..='!' | '#'..='[' | ']'..='~')).take(512).collect()
}

/// Nothing that the client could mend.
fn broken(status: StatusCode, description: &'static str) -> Refusal {
    tracing::error!(status = status.as_u16(), "{description}");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Refusal::unavailable("the identity provider is temporarily unavailable")
    } else {
        Refusal::fault()
    }
}

impl<S, B> Service<Request<B>> for UpstreamRegistration<S>
where
    S: RegistryStore + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = RegistrationFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        RegistrationFuture::new(async move { shared.answer(request).await })
    }
}

impl<S> Clone for UpstreamRegistration<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for UpstreamRegistration<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRegistration")
            .field("endpoint", &self.shared.endpoint)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

/// An upstream registration could not be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The address of the upstream is no `https` or `http` URL.
    Address,
    /// The address of the registration endpoint of this server is none.
    Endpoint(EndpointError),
    /// TLS cannot be set up.
    Http(reqwest::Error),
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("upstream: must be an absolute https or http URL"),
            Self::Endpoint(error) => error.fmt(f),
            Self::Http(_) => f.write_str("upstream: TLS cannot be set up"),
        }
    }
}

impl Error for UpstreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Address | Self::Endpoint(_) => None,
            Self::Http(error) => Some(error),
        }
    }
}
