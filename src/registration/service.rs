//! Registration in the server's own store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Map, Value};

use super::bounds::AddError;
use super::credential::{self, digest};
use super::endpoint::{Endpoint, MAX_ATTEMPTS, Registrar, present};
use super::members::{ACCESS_TOKEN, CLIENT_SECRET, SHARED, public_metadata, with_source};
use super::metadata::{judge, uses_secret, with_software_statement};
use super::policy::RegistrationPolicy;
use super::refusal::{accepted, access_denied, invalid_metadata};
use crate::client::operator::with_operator_changes;
use crate::client::secret::{is_digest_of, is_secret};
use crate::client::{Client, ClientOrigin, unix_seconds};
use crate::http::endpoint::{Answer, Refusal, empty_answer, endpoint_service, json_answer};
use crate::registry::{ConfigError, Record, RegistryError, RegistryStore, StoreError};

/// Lets clients register and manage their registration, as a `tower` service.
///
/// | request | answer |
/// |---|---|
/// | `POST` to the endpoint with client metadata as `application/json` | 201 with the client and its credentials (RFC 7591 §3.2.1) |
/// | `GET` `{endpoint}/{client_id}` | 200 with the client (RFC 7592 §2.1) |
/// | `PUT` `{endpoint}/{client_id}` | 200 with the client; the new metadata replaces all of the old, and the access token changes (RFC 7592 §2.2) |
/// | `DELETE` `{endpoint}/{client_id}` | 204 (RFC 7592 §2.3) |
/// | refused metadata | 400 `invalid_client_metadata`, `invalid_redirect_uri`, `invalid_software_statement`, `unapproved_software_statement` |
/// | a missing or wrong access token; a client that is removed, disabled, revoked or expired, or did not register here | 401 `invalid_token` |
/// | a change to a [shared](RegistrationPolicy::reuse_identical) client | 403 `access_denied` |
/// | any other path, method, size or content type | 404, 405, 413, 415 |
/// | no room for another client, or a store that is temporarily unavailable | 503 `temporarily_unavailable` |
///
/// No answer may be cached.
///
/// # What is stored
///
/// Access tokens and client secrets are stored as SHA-256 only, so a secret is shown once, and `GET` repeats the access
/// token that was presented. `ClientAuthenticationLayer` (feature `client-authentication`) checks secrets at the token
/// endpoint. Members that would give privileges, and unknown members, are not stored.
///
/// A registration gets a new id, or, with [`RegistrationPolicy::reuse_identical`], that of an earlier registration with
/// the same metadata. It never changes a client that it did not create.
///
/// # Concurrent changes
///
/// An update is stored only if the client has not changed since the decision
/// ([`RegistryStore::replace_unchanged`]); otherwise it is decided again. A client that an operator disables in the
/// meantime therefore stays disabled, and of two updates with the same access token the second is answered with 401.
///
/// # Where to mount it
///
/// Mount it at the endpoint and below it, whether or not the router strips the prefix. In axum:
/// `Router::new().nest_service("/register", service)`.
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
pub struct RegistrationService<S> {
    handler: Arc<Local<S>>,
}

struct Local<S> {
    endpoint: Endpoint<S>,
}

impl<S: RegistryStore> RegistrationService<S> {
    /// Registers clients in `store`. `endpoint` is the URL of the registration endpoint as clients see it.
    ///
    /// # Errors
    ///
    /// If `endpoint` is not an absolute `https` or `http` URL without query and fragment, or a setting of the policy is
    /// wrong.
    pub fn new(store: S, endpoint: &str, policy: RegistrationPolicy) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(store, endpoint, policy, ClientOrigin::Registered)?;
        Ok(Self { handler: Arc::new(Local { endpoint }) })
    }

    /// Removes registrations that are older than [`RegistrationPolicy::unused_lifetime`] and were never used, and
    /// returns how many. Registrations do this too, now and then; run it periodically where they are rare.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn clean_up(&self) -> Result<u64, RegistryError> {
        let Endpoint { store, bounds, .. } = &self.handler.endpoint;
        let mut removed = Vec::new();
        bounds.clean_up(store, &mut removed).await?;
        Ok(removed.len() as u64)
    }
}

endpoint_service!(RegistrationService<S: RegistryStore>);

impl<S: RegistryStore + 'static> Registrar for Local<S> {
    const NAME: &'static str = "registration";
    type Store = S;

    fn endpoint(&self) -> &Endpoint<S> {
        &self.endpoint
    }

    async fn register(self: Arc<Self>, asked: Map<String, Value>, source: Option<String>) -> Result<Answer, Refusal> {
        let Endpoint { policy, bounds, .. } = &self.endpoint;
        let asked = with_software_statement(asked, policy).await?;
        let registration = Registration::new(judge(asked, ClientOrigin::Registered, policy)?)?;
        let (client, created_at) = bounds.one_at_a_time(self.add(&registration, source.as_deref())).await?;
        tracing::info!(outcome = "registered", client_id = client.id(), "client registration");
        let Registration { access_token, secret, .. } = &registration;
        Ok(self.answer(StatusCode::CREATED, &client, created_at, access_token, secret.as_deref()))
    }

    async fn read(self: Arc<Self>, record: Record, token: String) -> Result<Answer, Refusal> {
        Ok(self.answer(StatusCode::OK, &record.client, record.created_at, &token, None))
    }

    async fn update(self: Arc<Self>, id: String, token: String, asked: Map<String, Value>) -> Result<Answer, Refusal> {
        let Endpoint { store, policy, .. } = &self.endpoint;
        let stated = with_software_statement(asked.clone(), policy).await?;
        let judged = judge(stated, ClientOrigin::Registered, policy)?;
        for _ in 0..MAX_ATTEMPTS {
            let record = self.endpoint.authorized(&id, &token).await?;
            let old = &record.client;
            let mut registration = Registration::new(judged.clone())?;
            registration.keep_secret(old, presented_secret(&asked, old)?);
            let client = match store.replace_unchanged(old, changed(old, &registration)?).await {
                Err(StoreError::Changed) => continue,
                replaced => replaced?,
            };
            tracing::info!(outcome = "updated", client_id = client.id(), "client registration");
            let Registration { access_token, secret, .. } = &registration;
            return Ok(self.answer(StatusCode::OK, &client, record.created_at, access_token, secret.as_deref()));
        }
        Err(StoreError::Changed.into())
    }

    async fn delete(self: Arc<Self>, mut record: Record, token: String) -> Result<Answer, Refusal> {
        let store = &self.endpoint.store;
        for _ in 0..MAX_ATTEMPTS {
            let client = &record.client;
            let deleted = if is_shared(client) {
                store.replace_unchanged(client, with_access_token(client, "")?).await.map(drop)
            } else {
                store.remove_unchanged(client).await
            };
            match deleted {
                Err(StoreError::Changed) => record = self.endpoint.authorized(client.id(), &token).await?,
                deleted => {
                    deleted?;
                    tracing::info!(outcome = "deleted", client_id = client.id(), "client registration");
                    return Ok(empty_answer(StatusCode::NO_CONTENT));
                }
            }
        }
        Err(StoreError::Changed.into())
    }
}

impl<S: RegistryStore + 'static> Local<S> {
    async fn add(
        &self,
        registration: &Registration,
        source: Option<&str>,
    ) -> Result<(Arc<Client>, SystemTime), AddError> {
        let client = self.insert(registration, source).await?;
        // Before another registration can remove it.
        let record = self.endpoint.store.record(client.id()).await?;
        Ok((client, record.map_or_else(SystemTime::now, |record| record.created_at)))
    }

    async fn insert(&self, registration: &Registration, source: Option<&str>) -> Result<Arc<Client>, AddError> {
        let Endpoint { store, policy, bounds, .. } = &self.endpoint;
        let mut removed = Vec::new();
        bounds.clean_up_if_due(store, &mut removed).await;
        let shared_id = registration.shared_id().filter(|_| policy.reuse_identical);
        if let Some(id) = &shared_id {
            if let Some(client) = self.reuse(id, registration).await? {
                return Ok(client);
            }
        }
        bounds.make_room(source, store, &mut removed).await?;
        if let Some(id) = &shared_id {
            let client = with_source(&registration.client(id, true)?, source)?;
            // Otherwise another client has this id, or this one was disabled: use a new id.
            if let Some(inserted) = bounds.insert(client, store, &mut removed).await? {
                return Ok(inserted);
            }
        }
        loop {
            let client = with_source(&registration.client(&credential::client_id()?, false)?, source)?;
            if let Some(inserted) = bounds.insert(client, store, &mut removed).await? {
                return Ok(inserted);
            }
        }
    }

    /// The earlier client with the same metadata, with the new access token.
    async fn reuse(&self, id: &str, registration: &Registration) -> Result<Option<Arc<Client>>, AddError> {
        let store = &self.endpoint.store;
        for _ in 0..MAX_ATTEMPTS {
            let reusable = |record: &Record| {
                record.origin == ClientOrigin::Registered
                    && record.client.is_active_at(SystemTime::now())
                    && is_shared(&record.client)
            };
            let Some(record) = store.record(id).await?.filter(reusable) else {
                return Ok(None);
            };
            let client = with_access_token(&record.client, &digest(&registration.access_token))?;
            match store.replace_unchanged(&record.client, client).await {
                Err(StoreError::Changed) => {}
                Err(StoreError::Missing) => return Ok(None),
                replaced => return Ok(Some(replaced?)),
            }
        }
        Ok(None)
    }

    /// RFC 7591 §3.2.1, RFC 7592 §3.
    fn answer(
        &self,
        status: StatusCode,
        client: &Client,
        created_at: SystemTime,
        access_token: &str,
        secret: Option<&str>,
    ) -> Answer {
        let mut members = public_metadata(client.to_metadata());
        let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
        set("client_id_issued_at", unix_seconds(created_at).into());
        if member(client, CLIENT_SECRET).is_some() {
            set("client_secret_expires_at", 0.into());
        }
        if let Some(secret) = secret {
            set("client_secret", secret.into());
        }
        set("registration_access_token", access_token.into());
        set("registration_client_uri", self.endpoint.address.client_uri(client.id()).into());
        json_answer(status, &members.into())
    }
}

/// Metadata that was judged, and the credentials that belong to it.
struct Registration {
    members: Map<String, Value>,
    access_token: String,
    /// Known only if it was generated or presented just now.
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
        if let (Some(digest), true) = (member(old, CLIENT_SECRET).and_then(Value::as_str), self.secret.is_some()) {
            self.secret_digest = Some(digest.to_owned());
            // The one before it still works, but is not the client's secret.
            self.secret = presented.filter(|presented| is_digest_of(Some(digest), presented));
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
        Ok(Client::from_metadata(members)?)
    }

    /// The id that every public client with this metadata gets.
    fn shared_id(&self) -> Option<String> {
        let ordered: BTreeMap<_, _> = self.members.iter().collect();
        let text = serde_json::to_string(&ordered).ok()?;
        self.secret.is_none().then(|| digest(&text)[..32].to_owned())
    }
}

/// A secret in the request must be the client's own (RFC 7592 §2.2).
fn presented_secret(asked: &Map<String, Value>, client: &Client) -> Result<Option<String>, Refusal> {
    match present(asked, "client_secret") {
        None => Ok(None),
        Some(Value::String(secret)) if is_secret(Some(client), secret) => Ok(Some(secret.clone())),
        Some(_) => Err(invalid_metadata("client_secret: must be that of the client")),
    }
}

/// The client after a `PUT`.
fn changed(old: &Client, registration: &Registration) -> Result<Client, Refusal> {
    let new = accepted(with_operator_changes(old, &registration.client(old.id(), is_shared(old))?)?)?;
    if is_shared(old) && public_metadata(new.to_metadata()) != public_metadata(old.to_metadata()) {
        return Err(access_denied("other clients share this registration, so it cannot be changed"));
    }
    Ok(new)
}

fn with_access_token(client: &Client, digest: &str) -> Result<Client, Refusal> {
    Ok(client.to_builder().metadata(ACCESS_TOKEN, digest).build()?)
}

fn is_shared(client: &Client) -> bool {
    member(client, SHARED) == Some(&Value::Bool(true))
}

fn member<'c>(client: &'c Client, name: &str) -> Option<&'c Value> {
    client.metadata()?.get(name)
}
