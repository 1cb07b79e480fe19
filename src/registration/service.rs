//! The registration endpoint (RFC 7591) and the client configuration endpoint (RFC 7592).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde_json::{Map, Value};
use tower::Service;

use super::answer::{Answer, Refusal, client_answer, empty_answer, visible};
use super::bounds::Bounds;
use super::credential::{self, ACCESS_TOKEN, CLIENT_SECRET, digest, has_digest, is_digest_of};
use super::members::SHARED;
use super::metadata::{ANSWER_MEMBERS, judge, uses_secret, with_software_statement};
use super::policy::RegistrationPolicy;
use super::request::{Endpoint, EndpointError, Target, bearer, read_members};
use crate::client::{Client, ClientError, ClientStatus, MetadataError, unix_seconds};
use crate::registry::{ClientOrigin, Record, RegistryError, RegistryStore, StoreError};
use tower::BoxError;

/// How often a client is read again because somebody else changed it meanwhile.
pub(super) const ROUNDS: usize = 8;

/// Registers clients and lets them look after their registration, as a plain `tower` service.
///
/// | request | answer |
/// |---|---|
/// | `POST` to the endpoint, client metadata as `application/json` | 201, the client with its credentials (RFC 7591 §3.2.1) |
/// | `GET` of `{endpoint}/{client_id}` | 200, the client (RFC 7592 §2.1) |
/// | `PUT` there | 200, the client with new metadata in the place of all it had, and a new access token (RFC 7592 §2.2) |
/// | `DELETE` there | 204 (RFC 7592 §2.3) |
/// | refused metadata | 400 `invalid_client_metadata`, `invalid_redirect_uri`, `invalid_software_statement`, `unapproved_software_statement` |
/// | a missing or wrong access token, a client that is gone, switched off or came another way | 401 `invalid_token` |
/// | a change of a client that is [shared](RegistrationPolicy::reuse_identical) | 403 `access_denied` |
/// | any other path, method, size or content type | 404, 405, 413, 415 |
/// | a full registry whose clients all were used, a store that fails for now | 503 `temporarily_unavailable` |
///
/// No answer may be cached. Cross-origin requests are a matter of your own CORS layer.
///
/// # What is kept
///
/// Of access tokens and client secrets only the SHA-256; so `GET` repeats the access token that was presented,
/// and a secret is told once. At the token endpoint,
/// [`verify_client_secret`](crate::verify_client_secret) checks it. Members that would give privileges, and
/// those that nobody here understands, are not kept.
///
/// A registration always gets a new id, or, with [`RegistrationPolicy::reuse_identical`], one that a registration
/// with the same metadata got. It never touches a client that it did not create.
///
/// # At the same time
///
/// A client is changed only while it still is what the change was judged by
/// ([`RegistryStore::replace_unchanged`]). Whoever comes second is judged once more by what the first one left: a
/// client that an operator switched off meanwhile stays off, and what one granted stays granted; of two changes with
/// one access token the second is answered with 401, since the first one took the token along.
///
/// # Where to mount it
///
/// At the endpoint and below it; whether the router strips the prefix makes no difference.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::{BodyExt, Full};
/// use tower::ServiceExt;
/// use tower_oauth_client_validation::{MemoryRegistry, RegistrationPolicy, RegistrationService};
///
/// # futures::executor::block_on(async {
/// let store = MemoryRegistry::new();
/// let service =
///     RegistrationService::new(store.clone(), "https://login.example/register", RegistrationPolicy::new())?;
///
/// let request: Request<Full<Bytes>> = Request::post("/register")
///     .header("content-type", "application/json")
///     .body(Full::<Bytes>::from(r#"{"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"}"#))?;
/// let answer = service.oneshot(request).await?;
/// assert_eq!(answer.status(), 201);
///
/// let client: serde_json::Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
/// let id = client["client_id"].as_str().unwrap();
/// assert!(store.get(id).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// In axum, `Router::new().nest_service("/register", service)`.
pub struct RegistrationService<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    store: S,
    endpoint: Endpoint,
    policy: RegistrationPolicy,
    bounds: Bounds,
}

impl<S: RegistryStore> RegistrationService<S> {
    /// Registers clients in `store`. `endpoint` is the address of the registration endpoint as clients see
    /// it.
    ///
    /// # Errors
    ///
    /// When the address is no absolute `https` or `http` URL, or has a query or fragment.
    pub fn new(store: S, endpoint: &str, policy: RegistrationPolicy) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(endpoint)?;
        let bounds = Bounds::new(ClientOrigin::Registered, &policy);
        let shared = Shared { store, endpoint, policy, bounds };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes registrations older than [`RegistrationPolicy::unused_lifetime`] that were never used, and
    /// answers how many. To be run from time to time, where registrations are too rare to do it by the way.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn clean_up(&self) -> Result<u64, RegistryError> {
        let mut removed = Vec::new();
        self.shared.bounds.clean_up(&self.shared.store, &mut removed).await?;
        Ok(removed.len() as u64)
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
                "client registration"
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
        let target = self.endpoint.target(parts.uri.path());
        match (target, parts.method) {
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
        let asked = read_members(headers, body, self.policy.max_body_bytes).await?;
        let asked = with_software_statement(asked, &self.policy).await?;
        let registration = Registration::new(judge(asked, &self.policy)?)?;
        let (client, issued_at) = self.enter(&registration).await?;
        tracing::info!(outcome = "registered", client_id = client.id(), "client registration");
        let mut members = self.members(&client, issued_at, &registration.access_token);
        registration.tell_secret(&mut members);
        Ok(client_answer(StatusCode::CREATED, members))
    }

    /// Puts the client into the store, and says when that was.
    async fn enter(&self, registration: &Registration) -> Result<(Arc<Client>, SystemTime), Refusal> {
        self.bounds.alone(self.enter_alone(registration)).await
    }

    async fn enter_alone(&self, registration: &Registration) -> Result<(Arc<Client>, SystemTime), Refusal> {
        let client = self.insert(registration).await?;
        // Before the next one may take its place.
        let record = self.store.record(client.id()).await?;
        Ok((client, record.map_or_else(SystemTime::now, |record| record.created_at)))
    }

    /// Under an id of its own, unless it shares one.
    async fn insert(&self, registration: &Registration) -> Result<Arc<Client>, Refusal> {
        let mut removed = Vec::new();
        self.bounds.clean_up_by_the_way(&self.store, &mut removed).await;
        let shared_id = registration.shared_id().filter(|_| self.policy.reuse_identical);
        if let Some(id) = &shared_id {
            if let Some(client) = self.reuse(id, registration).await? {
                return Ok(client);
            }
        }
        self.bounds.make_room(&self.store, &mut removed).await?;
        if let Some(id) = &shared_id {
            match self.store.insert(registration.client(id, true)?, ClientOrigin::Registered).await {
                // Somebody else's, or switched off: this client gets an id of its own.
                Err(StoreError::AlreadyExists) => {}
                inserted => return Ok(inserted?),
            }
        }
        loop {
            let id = credential::client_id()?;
            match self.store.insert(registration.client(&id, false)?, ClientOrigin::Registered).await {
                Err(StoreError::AlreadyExists) => {}
                inserted => return Ok(inserted?),
            }
        }
    }

    /// The earlier client with the same metadata, with the new access token.
    async fn reuse(&self, id: &str, registration: &Registration) -> Result<Option<Arc<Client>>, Refusal> {
        let access_token = digest(&registration.access_token);
        for _ in 0..ROUNDS {
            let record = self.store.record(id).await?.filter(is_live);
            let Some(record) = record.filter(|record| is_shared(&record.client)) else {
                return Ok(None);
            };
            let client = with_access_token(&record.client, &access_token)?;
            match self.store.replace_unchanged(&record.client, client).await {
                Err(StoreError::Changed) => {}
                Err(StoreError::Missing) => return Ok(None),
                replaced => return Ok(Some(replaced?)),
            }
        }
        Ok(None)
    }

    async fn read(&self, headers: &HeaderMap, id: &str) -> Result<Answer, Refusal> {
        let (record, access_token) = self.authorized(headers, id).await?;
        Ok(client_answer(StatusCode::OK, self.members(&record.client, record.created_at, access_token)))
    }

    async fn update<B>(&self, headers: &HeaderMap, id: &str, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        self.authorized(headers, id).await?;
        let asked = read_members(headers, body, self.policy.max_body_bytes).await?;
        let statement = with_software_statement(asked.clone(), &self.policy).await?;
        let judged = judge(statement, &self.policy)?;
        for _ in 0..ROUNDS {
            // Once more: while the body came, slowly perhaps, the operator may have decided otherwise.
            let (record, _) = self.authorized(headers, id).await?;
            let old = &record.client;
            let secret = presented_secret(&asked, old)?;
            let mut registration = Registration::new(judged.clone())?;
            registration.keep_secret(old, secret);
            let new = changed(old, &registration)?;
            // Whoever changed it in between took the access token along, or is the operator, who is obeyed.
            let client = match self.store.replace_unchanged(old, new).await {
                Err(StoreError::Changed) => continue,
                replaced => replaced?,
            };
            tracing::info!(outcome = "updated", client_id = client.id(), "client registration");
            let mut members = self.members(&client, record.created_at, &registration.access_token);
            registration.tell_secret(&mut members);
            return Ok(client_answer(StatusCode::OK, members));
        }
        Err(StoreError::Changed.into())
    }

    async fn delete(&self, headers: &HeaderMap, id: &str) -> Result<Answer, Refusal> {
        for _ in 0..ROUNDS {
            let (record, _) = self.authorized(headers, id).await?;
            let client = &record.client;
            let deleted = if is_shared(client) {
                self.store.replace_unchanged(client, with_access_token(client, "")?).await.map(drop)
            } else {
                self.store.remove_unchanged(client).await
            };
            match deleted {
                Err(StoreError::Changed) => {}
                deleted => {
                    deleted?;
                    tracing::info!(outcome = "deleted", client_id = id, "client registration");
                    return Ok(empty_answer(StatusCode::NO_CONTENT));
                }
            }
        }
        Err(StoreError::Changed.into())
    }

    /// The client, when the access token is its own.
    async fn authorized<'h>(&self, headers: &'h HeaderMap, id: &str) -> Result<(Record, &'h str), Refusal> {
        let presented = bearer(headers).ok_or_else(Refusal::token)?;
        let record = match crate::client::is_client_id(id) {
            true => self.store.record(id).await?.filter(is_live),
            false => None,
        };
        let fits = match &record {
            Some(record) => has_digest(&record.client, ACCESS_TOKEN, presented),
            None => is_digest_of(None, presented),
        };
        record.filter(|_| fits).map(|record| (record, presented)).ok_or_else(Refusal::token)
    }

    /// RFC 7591 §3.2.1, RFC 7592 §3.
    fn members(&self, client: &Client, issued_at: SystemTime, access_token: &str) -> Map<String, Value> {
        let mut members = visible(client.to_metadata());
        members.insert("client_id_issued_at".into(), unix_seconds(issued_at).into());
        if client.metadata().is_some_and(|metadata| metadata.contains_key(CLIENT_SECRET)) {
            members.insert("client_secret_expires_at".into(), 0.into());
        }
        members.insert("registration_access_token".into(), access_token.into());
        members.insert("registration_client_uri".into(), self.endpoint.client_uri(client.id()).into());
        members
    }
}

/// Metadata that was judged, and the credentials that go with it.
struct Registration {
    members: Map<String, Value>,
    access_token: String,
    /// Known in the clear only when it was issued or presented just now.
    secret: Option<String>,
    secret_digest: Option<String>,
}

impl Registration {
    fn new(members: Map<String, Value>) -> Result<Self, Refusal> {
        let secret = if uses_secret(&members) { Some(credential::secret()?) } else { None };
        let secret_digest = secret.as_deref().map(digest);
        Ok(Self { members, access_token: credential::secret()?, secret, secret_digest })
    }

    /// A client that has a secret keeps it.
    fn keep_secret(&mut self, old: &Client, presented: Option<String>) {
        let old_digest = old.metadata().and_then(|metadata| metadata.get(CLIENT_SECRET)).and_then(Value::as_str);
        if let (Some(digest), true) = (old_digest, self.secret.is_some()) {
            self.secret_digest = Some(digest.to_owned());
            self.secret = presented;
        }
    }

    fn tell_secret(&self, members: &mut Map<String, Value>) {
        if let Some(secret) = &self.secret {
            members.insert("client_secret".into(), secret.as_str().into());
        }
    }

    fn client(&self, id: &str, shared: bool) -> Result<Client, Refusal> {
        let mut members = self.members.clone();
        members.insert("client_id".into(), id.into());
        members.insert(ACCESS_TOKEN.into(), digest(&self.access_token).into());
        if let Some(digest) = &self.secret_digest {
            members.insert(CLIENT_SECRET.into(), digest.as_str().into());
        }
        if shared {
            members.insert(SHARED.into(), true.into());
        }
        Client::from_metadata(members).map_err(|error| match error {
            MetadataError::Client(error) => refused(error),
            error => Refusal::metadata(error.to_string()),
        })
    }

    /// The id that every public client with this metadata gets.
    fn shared_id(&self) -> Option<String> {
        let ordered: BTreeMap<_, _> = self.members.iter().collect();
        let text = serde_json::to_string(&ordered).ok()?;
        self.secret.is_none().then(|| digest(&text)[..32].to_owned())
    }
}

pub(super) fn refused(error: ClientError) -> Refusal {
    match error {
        ClientError::RedirectUri { .. } => Refusal::redirect_uri(error.to_string()),
        ClientError::Id | ClientError::Scope(_) | ClientError::DefaultScope => Refusal::metadata(error.to_string()),
    }
}

/// Id and secret must be the client's own, and what only the server says must not be there (RFC 7592 §2.2).
fn presented_secret(asked: &Map<String, Value>, client: &Client) -> Result<Option<String>, Refusal> {
    let present = |name: &str| asked.get(name).filter(|value| !value.is_null());
    if let Some(name) = ANSWER_MEMBERS.into_iter().find(|name| present(name).is_some()) {
        return Err(Refusal::metadata(format!("{name}: must be left out")));
    }
    if present("client_id").and_then(Value::as_str) != Some(client.id()) {
        return Err(Refusal::metadata("client_id: must be that of the client"));
    }
    match present("client_secret") {
        None => Ok(None),
        Some(Value::String(secret)) if super::verify_client_secret(client, secret) => Ok(Some(secret.clone())),
        Some(_) => Err(Refusal::metadata("client_secret: must be that of the client")),
    }
}

/// What a client becomes by a `PUT`.
fn changed(old: &Client, registration: &Registration) -> Result<Client, Refusal> {
    let new = registration.client(old.id(), is_shared(old))?;
    if is_shared(old) && visible(new.to_metadata()) != visible(old.to_metadata()) {
        let description = "other clients share this registration, so it cannot be changed";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "access_denied", description));
    }
    // What the operator decided about the client stays; but trust was in these redirect URIs.
    let is_trusted = old.is_trusted() && old.redirect_uris() == new.redirect_uris();
    new.to_builder().trusted(is_trusted).expires_at(old.expires_at()).build().map_err(refused)
}

fn with_access_token(client: &Client, digest: &str) -> Result<Client, Refusal> {
    client.to_builder().metadata(ACCESS_TOKEN, digest).build().map_err(refused)
}

fn is_shared(client: &Client) -> bool {
    client.metadata().is_some_and(|metadata| metadata.get(SHARED) == Some(&Value::Bool(true)))
}

/// Whether the client registered itself and is not switched off.
fn is_live(record: &Record) -> bool {
    let client = &record.client;
    record.origin == ClientOrigin::Registered
        && client.status() == ClientStatus::Active
        && !client.is_expired_at(SystemTime::now())
}

impl<S, B> Service<Request<B>> for RegistrationService<S>
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

impl<S> Clone for RegistrationService<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for RegistrationService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationService")
            .field("endpoint", &self.shared.endpoint)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

/// The answer of a registration service.
pub struct RegistrationFuture(BoxFuture<'static, Answer>);

impl RegistrationFuture {
    pub(super) fn new(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self(answer.boxed())
    }
}

impl Future for RegistrationFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx).map(Ok)
    }
}

impl fmt::Debug for RegistrationFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationFuture").finish_non_exhaustive()
    }
}
