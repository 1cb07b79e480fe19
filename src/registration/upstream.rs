//! Registration that an upstream identity provider decides about.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
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
use tokio::time::Instant;
use tower::Service;
use tracing::Instrument;
use url::Url;

use super::answer::{Answer, Refusal, client_answer, empty_answer, visible};
use super::bounds::Bounds;
use super::credential::{self, ACCESS_TOKEN, CLIENT_SECRET, digest, has_digest, is_digest_of};
use super::members::UPSTREAM_URI;
use super::metadata::{ANSWER_MEMBERS, is_reserved, judge, uses_secret};
use super::narrow::{understood, within};
use super::policy::RegistrationPolicy;
use super::request::{Endpoint, EndpointError, Target, bearer, read_members};
use super::service::{ROUNDS, RegistrationFuture};
use super::withdrawal::{Withdrawal, Withdrawals};
use crate::client::member::strings;
use crate::client::{Client, ClientKind, LoopbackPorts, Scope};
use crate::registry::{ClientOrigin, Record, RegistryError, RegistryStore, StoreError};
use tower::BoxError;

const AUTH_METHOD: &str = "token_endpoint_auth_method";

/// How many clients are looked at in one go.
const PAGE: usize = 256;

/// How long configured clients are taken for all that there are.
const CONFIGURED_FOR: Duration = Duration::from_secs(10);

/// For how many clients it is known how to take them back, where the policy has no cap.
const MOST_WITHDRAWALS: u64 = 10_000;

/// Registers clients at an upstream identity provider, and keeps what that answers, so that their authorization
/// requests can be judged here.
///
/// Requests and answers are those of [`RegistrationService`](super::RegistrationService). The policy holds, except for
/// software statements and the reuse of identical metadata: those are up to the upstream. Where the policy names no
/// [allowed scopes](RegistrationPolicy::allowed_scopes), so are the scopes.
///
/// - Forwarded is what was judged: members of RFC 7591 §2, and those that the policy
///   [keeps](RegistrationPolicy::keep_members). Nothing else reaches the upstream, which trusts this server more than
///   its clients.
/// - What the upstream answers goes to the client, but with a `registration_client_uri` of this server, and with
///   no more than what is stored. The registration access token is the upstream's; only its SHA-256 is kept.
/// - The client is stored as [`ClientOrigin::Upstream`], never in the place of one that exists: the redirect URIs that were
///   both asked for and answered, the grant types and scopes that were answered and that the policy allows. Where
///   the answer names no scopes they are the ones that were judged; or, where the upstream decides about them, the
///   [default](RegistrationPolicy::default_scopes), else `*`.
/// - Errors of RFC 7591 §3.2.2 are passed on. An upstream that cannot be reached, or fails, is 503; one that
///   does not let this server in, or whose client cannot be used here, is 500.
/// - `GET` and `PUT` go to the upstream too, and `DELETE` removes the client at both. Where the upstream has no
///   client configuration endpoint [that may be asked](Upstream::configuration_endpoints_at), `GET` and `DELETE` work
///   here alone and `PUT` is 403.
/// - What the upstream was asked to do is done to the end, and written down here, also when the client does not wait
///   for the answer. A process that stops in between leaves a client behind at the upstream, unknown here.
///
/// # Clients that are never used
///
/// They are bounded in [number](RegistrationPolicy::max_registrations) and
/// [lifetime](RegistrationPolicy::unused_lifetime), and those that go are withdrawn at the upstream as well. That
/// takes their access token, which no store has: it is remembered for as long as the process runs, for the youngest
/// clients, as many as there may be. A client whose token is not known any more, or whose upstream cannot be reached
/// or refuses, stays behind there. The log names it; here it is gone in any case, and so are its authorization
/// requests.
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
    bounds: Bounds,
    discovered: OnceLock<Url>,
    configured: Mutex<Option<(Instant, Arc<[Arc<Client>]>)>>,
    withdrawals: Withdrawals,
}

/// Where the upstream takes registrations.
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    place: Place,
    access_token: Option<String>,
    configuration: Option<url::Origin>,
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
        Self { place, access_token: None, configuration: None, reuse_configured: false, roots: Vec::new(), timeout }
    }

    /// What the upstream lets this server in with (default: nothing).
    pub fn initial_access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// Where the client configuration endpoints of the upstream (`registration_client_uri`, RFC 7592 §3) may be,
    /// beside the scheme, host and port of its registration endpoint: those of this URL (default: nowhere else).
    ///
    /// For an upstream that this server reaches by another name than the one that it has for others. Access tokens
    /// of clients are sent there, so what stands in its answer, or in the store, is not enough; and they are sent by
    /// `http` only where the registration endpoint is `http` too.
    ///
    /// # Errors
    ///
    /// When this is no `https` or `http` URL.
    pub fn configuration_endpoints_at(mut self, url: &str) -> Result<Self, UpstreamError> {
        self.configuration = Some(address(url)?.origin());
        Ok(self)
    }

    /// Whether a registration is answered with a configured public client, without asking the upstream, when
    /// just one configured client admits every redirect URI that is asked for (default: no).
    ///
    /// A native client comes with another port each time, and would get another client at the upstream each
    /// time. The answer has neither secret nor access token, and of the client's metadata what RFC 7591 §2 knows.
    /// That clients were added is noticed after ten seconds at the latest; that this one was changed, at once.
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

impl<S: RegistryStore + 'static> UpstreamRegistration<S> {
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
        let shared = Shared {
            store,
            endpoint,
            upstream,
            http,
            bounds: Bounds::new(ClientOrigin::Upstream, &policy),
            discovered: OnceLock::new(),
            configured: Mutex::new(None),
            withdrawals: Withdrawals::new(policy.max_registrations.unwrap_or(MOST_WITHDRAWALS)),
            policy,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes clients older than [`RegistrationPolicy::unused_lifetime`] that were never used, withdraws them at the
    /// upstream, and answers how many. To be run from time to time, where registrations are too rare to do it by the
    /// way.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn clean_up(&self) -> Result<u64, RegistryError> {
        let mut removed = Vec::new();
        let cleaned_up = self.shared.bounds.clean_up(&self.shared.store, &mut removed).await;
        self.shared.withdraw_all(&removed).await;
        cleaned_up.map(|()| removed.len() as u64)
    }
}

impl<S: RegistryStore + 'static> Shared<S> {
    async fn answer<B>(self: &Arc<Self>, request: Request<B>) -> Answer
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

    async fn route<B>(self: &Arc<Self>, request: Request<B>) -> Result<Answer, Refusal>
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

    async fn register<B>(self: &Arc<Self>, headers: &HeaderMap, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        if !self.policy.initial_access.admits(bearer(headers)).await {
            return Err(Refusal::token());
        }
        let asked = read_members(headers, body, self.policy.max_body_bytes).await?;
        let judged = self.judge(asked)?;
        if self.upstream.reuse_configured {
            if let Some(members) = self.configured(&judged).await? {
                return Ok(client_answer(StatusCode::CREATED, members));
            }
        }
        let shared = Arc::clone(self);
        to_the_end(async move { shared.register_at_both(&judged).await }).await
    }

    async fn register_at_both(self: &Arc<Self>, judged: &Map<String, Value>) -> Result<Answer, Refusal> {
        // The upstream is not asked for a client that there is no room for.
        self.enter(None, None).await?;
        let endpoint = self.upstream_endpoint().await?;
        let request = self.http.post(endpoint.clone());
        let request = match &self.upstream.access_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let (status, answered) = self.ask(with_json(request, &forwarded(judged))).await?;
        if status != StatusCode::CREATED && status != StatusCode::OK {
            return Err(passed_on(status, &answered));
        }
        let id = answered.get("client_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let withdrawal = self.withdrawal(&answered, &endpoint);
        let kept = async {
            let Upstreams { client, members } = self.understand(judged, answered, None, &endpoint)?;
            Ok((self.enter(Some(client), withdrawal.clone()).await?, members))
        };
        match kept.await {
            Ok((true, members)) => {
                tracing::info!(outcome = "registered", client_id = id, "upstream client registration");
                Ok(client_answer(StatusCode::CREATED, members))
            }
            // Not withdrawn: the client of this id at the upstream may be the one that exists here.
            Ok((false, _)) => {
                tracing::error!(client_id = id, "the upstream registered a client whose id is taken here");
                Err(Refusal::fault())
            }
            Err(refusal) => {
                if let Some(withdrawal) = withdrawal {
                    self.withdraw(&id, &withdrawal).await;
                }
                Err(refusal)
            }
        }
    }

    /// Lets one more client in, or as long as there is none, looks whether there is room for one. `false`: its id is
    /// taken.
    async fn enter(self: &Arc<Self>, client: Option<Client>, withdrawal: Option<Withdrawal>) -> Result<bool, Refusal> {
        let mut removed = Vec::new();
        let enter = async {
            self.bounds.clean_up_by_the_way(&self.store, &mut removed).await;
            self.bounds.make_room(&self.store, &mut removed).await?;
            let Some(client) = client else {
                return Ok(true);
            };
            match self.store.insert(client, ClientOrigin::Upstream).await {
                Err(StoreError::AlreadyExists) => Ok(false),
                inserted => {
                    let client = inserted?;
                    // Before the next one may take its place.
                    if let Some(withdrawal) = withdrawal {
                        self.withdrawals.remember(client.id(), withdrawal);
                    }
                    Ok(true)
                }
            }
        };
        let entered = self.bounds.alone(enter).await;
        if !removed.is_empty() {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.withdraw_all(&removed).await }.in_current_span());
        }
        entered
    }

    /// The upstream decides about scopes, unless the policy does.
    fn judge(&self, mut asked: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
        if self.policy.allowed_scopes.is_some() {
            return judge(asked, &self.policy);
        }
        let scope = asked.remove("scope").filter(|scope| !scope.is_null() && *scope != "");
        let mut judged = judge(asked, &self.policy)?;
        if let Some(scope) = scope {
            let named = scope.as_str().and_then(|scope| Scope::parse(scope).ok());
            // Some upstreams answer with what was asked for, and `*` would be any scope here.
            let named = named.filter(|named| !named.contains("*"));
            let named = named.ok_or_else(|| Refusal::metadata("scope: must be a list of scopes"))?;
            judged.insert("scope".into(), named.as_str().into());
        }
        Ok(judged)
    }

    /// What is answered of the only configured client that admits what is asked for.
    async fn configured(&self, judged: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Refusal> {
        let asked = judged.get("redirect_uris").and_then(strings).unwrap_or_default();
        let admits = |client: &Client| {
            client.is_active_at(SystemTime::now())
                && asked.iter().all(|uri| client.check_redirect_uri(uri, LoopbackPorts::Any).is_ok())
        };
        if asked.is_empty() {
            return Ok(None);
        }
        let clients = self.configured_clients().await?;
        let mut admitting = clients.iter().filter(|client| admits(client));
        let (Some(only), None) = (admitting.next(), admitting.next()) else {
            return Ok(None);
        };
        // What it is by now.
        let record = self.store.record(only.id()).await?.filter(|record| record.origin == ClientOrigin::Configured);
        // Nobody tells a stranger the secret of a client.
        let is_reusable = |client: &Arc<Client>| client.kind() == ClientKind::Public && admits(client);
        let Some(client) = record.map(|record| record.client).filter(is_reusable) else {
            return Ok(None);
        };
        tracing::info!(outcome = "configured", client_id = client.id(), "upstream client registration");
        let mut members = understood(&told(&client), &BTreeSet::new(), &self.policy);
        members.insert("client_id".into(), client.id().into());
        members.insert("redirect_uris".into(), asked.into_iter().collect());
        Ok(Some(members))
    }

    /// Read once for all that register within a while: in a large store this takes many pages.
    async fn configured_clients(&self) -> Result<Arc<[Arc<Client>]>, Refusal> {
        let mut known = self.configured.lock().await;
        if let Some((read_at, clients)) = &*known {
            if read_at.elapsed() < CONFIGURED_FOR {
                return Ok(Arc::clone(clients));
            }
        }
        let mut clients = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(after.as_deref(), PAGE).await?;
            let last = page.last().filter(|_| page.len() == PAGE);
            after = last.map(|record| record.client.id().to_owned());
            clients.extend(
                page.into_iter().filter(|record| record.origin == ClientOrigin::Configured).map(|record| record.client),
            );
            if after.is_none() {
                let clients: Arc<[_]> = clients.into();
                *known = Some((Instant::now(), Arc::clone(&clients)));
                return Ok(clients);
            }
        }
    }

    async fn upstream_endpoint(&self) -> Result<Url, Refusal> {
        let document = match &self.upstream.place {
            Place::Endpoint(endpoint) => return Ok(endpoint.clone()),
            Place::MetadataDocument(document) => document,
        };
        if let Some(endpoint) = self.discovered.get() {
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
        Ok(self.discovered.get_or_init(|| endpoint).clone())
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
            if body.len() + chunk.len() > self.policy.max_body_bytes {
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
        endpoint: &Url,
    ) -> Result<Upstreams, Refusal> {
        let unusable = || broken(StatusCode::OK, "the upstream answered with a client that cannot be used");
        answered.retain(|_, value| !value.is_null());
        let text = |name: &str| answered.get(name).and_then(Value::as_str);
        let id = text("client_id").ok_or_else(unusable)?.to_owned();
        if known.is_some_and(|known| known.id() != id) {
            return Err(unusable());
        }
        let before = known.map(Client::to_metadata);
        let mut stored = within(&answered, judged, before.as_ref(), &self.policy).ok_or_else(unusable)?;
        let kept = |member: &str| before.as_ref()?.get(member)?.as_str().map(str::to_owned);
        let secret_digest = text("client_secret").map(digest).or_else(|| kept(CLIENT_SECRET));
        let method = text(AUTH_METHOD).unwrap_or_else(|| match judged.get(AUTH_METHOD).and_then(Value::as_str) {
            Some(method) if uses_secret(judged) == secret_digest.is_some() => method,
            _ if secret_digest.is_some() => "client_secret_basic",
            _ => "none",
        });
        if !self.policy.auth_methods.iter().any(|allowed| allowed == method) {
            return Err(unusable());
        }
        stored.insert(AUTH_METHOD.into(), method.into());
        let (access_token, token_digest) = match (text("registration_access_token"), kept(ACCESS_TOKEN)) {
            (Some(token), _) => (Some(token.to_owned()), digest(token)),
            (None, Some(digest)) => (None, digest),
            (None, None) => {
                let token = credential::secret()?;
                let digest = digest(&token);
                (Some(token), digest)
            }
        };
        // The upstream may leave out what has not changed.
        let withdrawal = self.withdrawal(&answered, endpoint);
        let upstream_uri = withdrawal.map(|withdrawal| withdrawal.uri.into()).or_else(|| kept(UPSTREAM_URI));
        stored.insert("client_id".into(), id.as_str().into());
        stored.insert(ACCESS_TOKEN.into(), token_digest.into());
        stored.extend(secret_digest.map(|digest| (CLIENT_SECRET.to_owned(), digest.into())));
        stored.extend(upstream_uri.map(|uri| (UPSTREAM_URI.to_owned(), uri.into())));
        let client = Client::from_metadata(stored).map_err(|error| {
            tracing::error!(%error, "the upstream answered with a client that breaks a rule");
            Refusal::fault()
        })?;

        let mut members = visible(answered);
        members.remove("scope");
        members.extend(told(&client));
        if members.contains_key("client_secret") {
            members.entry("client_secret_expires_at").or_insert(0.into());
        }
        members.insert("registration_client_uri".into(), self.endpoint.client_uri(&id).into());
        members.extend(access_token.map(|token| ("registration_access_token".to_owned(), token.into())));
        Ok(Upstreams { client, members })
    }

    /// How the upstream says that the client can be managed there.
    fn withdrawal(&self, answered: &Map<String, Value>, endpoint: &Url) -> Option<Withdrawal> {
        let text = |name: &str| answered.get(name).and_then(Value::as_str);
        let (uri, token) = (text("registration_client_uri")?, text("registration_access_token")?);
        Some(Withdrawal { uri: self.manageable(uri, endpoint)?, token: token.to_owned() })
    }

    /// An address that access tokens of clients may be sent to.
    fn manageable(&self, uri: &str, endpoint: &Url) -> Option<Url> {
        let uri = Url::parse(uri).ok();
        let uri = uri.filter(|uri| {
            let origin = uri.origin();
            let is_known = origin == endpoint.origin() || self.upstream.configuration.as_ref() == Some(&origin);
            is_known && (uri.scheme() == "https" || endpoint.scheme() == "http")
        });
        if uri.is_none() {
            tracing::warn!("the upstream manages a client at an address that is not its own: it is managed here alone");
        }
        uri
    }

    /// Where the upstream manages a client. Judged once more: the store may be older than the configuration.
    async fn upstream_uri(&self, client: &Client) -> Result<Option<Url>, Refusal> {
        let stored = client.metadata().and_then(|metadata| metadata.get(UPSTREAM_URI)).and_then(Value::as_str);
        match stored {
            Some(uri) => Ok(self.manageable(uri, &self.upstream_endpoint().await?)),
            None => Ok(None),
        }
    }

    /// Deletes clients at the upstream that are gone here, as well as that works.
    async fn withdraw_all(&self, ids: &[String]) {
        let mut is_reachable = true;
        for id in ids {
            // An upstream may answer with a client that it had before.
            if !matches!(self.store.record(id).await, Ok(None)) {
                continue;
            }
            if let Some(withdrawal) = self.withdrawals.take(id).filter(|_| is_reachable) {
                is_reachable = self.withdraw(id, &withdrawal).await;
            } else {
                tracing::warn!(client_id = id, "a client that was never used stays behind at the upstream");
            }
        }
    }

    /// Answers whether the upstream can be reached.
    async fn withdraw(&self, id: &str, withdrawal: &Withdrawal) -> bool {
        let Withdrawal { uri, token } = withdrawal;
        let answer = self.ask(self.http.delete(uri.clone()).bearer_auth(token)).await;
        if !answer.as_ref().is_ok_and(|(status, _)| is_gone(*status)) {
            tracing::warn!(client_id = id, "a client stays behind at the upstream");
        }
        answer.is_ok()
    }

    async fn read(self: &Arc<Self>, headers: &HeaderMap, id: &str) -> Result<Answer, Refusal> {
        let token = bearer(headers).ok_or_else(Refusal::token)?;
        let record = self.authorized(token, id).await?;
        let Some(uri) = self.upstream_uri(&record.client).await? else {
            let mut members = told(&record.client);
            members.insert("registration_access_token".into(), token.into());
            members.insert("registration_client_uri".into(), self.endpoint.client_uri(id).into());
            return Ok(client_answer(StatusCode::OK, members));
        };
        let managed = Managed { shared: Arc::clone(self), id: id.to_owned(), token: token.to_owned(), uri };
        to_the_end(async move {
            let (status, answered) = managed.ask(Method::GET, None).await?;
            if status != StatusCode::OK {
                return Err(passed_on_of_client(status, &answered));
            }
            managed.keep(None, answered).await
        })
        .await
    }

    async fn update<B>(self: &Arc<Self>, headers: &HeaderMap, id: &str, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let token = bearer(headers).ok_or_else(Refusal::token)?;
        self.authorized(token, id).await?;
        let asked = read_members(headers, body, self.policy.max_body_bytes).await?;
        // Once more: while the body came, slowly perhaps, the operator may have decided otherwise.
        let record = self.authorized(token, id).await?;
        let present = |name: &str| asked.get(name).filter(|value| !value.is_null());
        if let Some(name) = ANSWER_MEMBERS.into_iter().find(|name| present(name).is_some()) {
            return Err(Refusal::metadata(format!("{name}: must be left out")));
        }
        if present("client_id").and_then(Value::as_str) != Some(id) {
            return Err(Refusal::metadata("client_id: must be that of the client"));
        }
        // Whether it is the right one only the upstream can tell.
        let secret = present("client_secret").cloned();
        let judged = self.judge(asked)?;
        let Some(uri) = self.upstream_uri(&record.client).await? else {
            let description = "the identity provider does not let clients change";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "access_denied", description));
        };
        let mut members = forwarded(&judged);
        members.insert("client_id".into(), id.into());
        members.extend(secret.map(|secret| ("client_secret".to_owned(), secret)));
        let managed = Managed { shared: Arc::clone(self), id: id.to_owned(), token: token.to_owned(), uri };
        to_the_end(async move {
            let (status, answered) = managed.ask(Method::PUT, Some(&members)).await?;
            if status != StatusCode::OK {
                return Err(passed_on_of_client(status, &answered));
            }
            managed.keep(Some(&judged), answered).await
        })
        .await
    }

    async fn delete(self: &Arc<Self>, headers: &HeaderMap, id: &str) -> Result<Answer, Refusal> {
        let token = bearer(headers).ok_or_else(Refusal::token)?;
        let record = self.authorized(token, id).await?;
        let uri = self.upstream_uri(&record.client).await?;
        let (shared, id, token) = (Arc::clone(self), id.to_owned(), token.to_owned());
        to_the_end(async move {
            if let Some(uri) = uri {
                let (status, answered) = shared.ask(shared.http.delete(uri).bearer_auth(token)).await?;
                if !is_gone(status) {
                    return Err(passed_on_of_client(status, &answered));
                }
            }
            shared.remove(&id).await?;
            shared.withdrawals.take(&id);
            tracing::info!(outcome = "deleted", client_id = id, "upstream client registration");
            Ok(empty_answer(StatusCode::NO_CONTENT))
        })
        .await
    }

    /// Removes a client that is gone at the upstream, unless the operator has switched it off meanwhile: then the
    /// operator decides what becomes of it.
    async fn remove(&self, id: &str) -> Result<(), Refusal> {
        for _ in 0..ROUNDS {
            let Some(record) = self.store.record(id).await?.filter(is_registered) else {
                return Ok(());
            };
            match self.store.remove_unchanged(&record.client).await {
                Err(StoreError::Changed) => {}
                Ok(()) | Err(StoreError::Missing) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Changed.into())
    }

    /// The client, when the access token is its own.
    async fn authorized(&self, token: &str, id: &str) -> Result<Record, Refusal> {
        let record = match crate::client::is_client_id(id) {
            true => self.store.record(id).await?.filter(is_registered),
            false => None,
        };
        let fits = match &record {
            Some(record) => has_digest(&record.client, ACCESS_TOKEN, token),
            None => is_digest_of(None, token),
        };
        record.filter(|_| fits).ok_or_else(Refusal::token)
    }
}

/// A client that the upstream manages, and the access token that it presented.
struct Managed<S> {
    shared: Arc<Shared<S>>,
    id: String,
    token: String,
    uri: Url,
}

impl<S: RegistryStore + 'static> Managed<S> {
    async fn ask(
        &self,
        method: Method,
        members: Option<&Map<String, Value>>,
    ) -> Result<(StatusCode, Map<String, Value>), Refusal> {
        let request = self.shared.http.request(method, self.uri.clone()).bearer_auth(&self.token);
        let request = match members {
            Some(members) => with_json(request, members),
            None => request,
        };
        self.shared.ask(request).await
    }

    /// Stores what the upstream answered to metadata that was `judged`, or to a question.
    async fn keep(&self, judged: Option<&Map<String, Value>>, answered: Map<String, Value>) -> Result<Answer, Refusal> {
        let Self { shared, id, token, uri } = self;
        let endpoint = shared.upstream_endpoint().await?;
        for _ in 0..ROUNDS {
            // Once more: while the upstream was asked, the operator may have decided otherwise.
            let record = shared.authorized(token, id).await?;
            let old = &*record.client;
            let before = old.to_metadata();
            let judged = judged.unwrap_or(&before);
            let Upstreams { client, mut members } =
                shared.understand(judged, answered.clone(), Some(old), &endpoint)?;
            match shared.store.replace_unchanged(old, client.with_operator_decisions(old)).await {
                Err(StoreError::Changed) => continue,
                replaced => replaced?,
            };
            members.entry("registration_access_token").or_insert(token.as_str().into());
            if record.last_used_at.is_none() {
                let token = members.get("registration_access_token").and_then(Value::as_str).unwrap_or(token);
                let withdrawal = shared.withdrawal(&answered, &endpoint);
                let same = || Withdrawal { uri: uri.clone(), token: token.to_owned() };
                shared.withdrawals.remember(id, withdrawal.unwrap_or_else(same));
            }
            return Ok(client_answer(StatusCode::OK, members));
        }
        Err(StoreError::Changed.into())
    }
}

/// A client as the upstream registered it.
struct Upstreams {
    client: Client,
    members: Map<String, Value>,
}

fn is_registered(record: &Record) -> bool {
    record.origin == ClientOrigin::Upstream && record.client.is_active_at(SystemTime::now())
}

/// What a client is told about itself. `*` is no scope that it could ask for.
fn told(client: &Client) -> Map<String, Value> {
    let mut members = visible(client.to_metadata());
    members.retain(|name, value| name != "scope" || value != "*");
    members
}

/// What of judged metadata the upstream is asked for. The scopes that are granted to all clients may be any.
fn forwarded(judged: &Map<String, Value>) -> Map<String, Value> {
    let mut members = judged.clone();
    members.retain(|name, _| !is_reserved(name));
    if members.get("scope").is_some_and(|scope| scope == "*") {
        members.remove("scope");
        let own = judged.get("default_scope").filter(|scope| *scope != "");
        members.extend(own.map(|scope| ("scope".to_owned(), scope.clone())));
    }
    members
}

/// Whether this answer to a `DELETE` says that there is no such client; 401 is what one that was deleted before gets
/// (RFC 7592 §2.3).
fn is_gone(status: StatusCode) -> bool {
    status.is_success() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// Runs to its end even when nobody waits for it any more: what is done at the upstream is written down here.
async fn to_the_end(work: impl Future<Output = Result<Answer, Refusal>> + Send + 'static) -> Result<Answer, Refusal> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|stopped| {
        tracing::error!(error = &stopped as &dyn Error, "a registration was stopped");
        Err(Refusal::fault())
    })
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
