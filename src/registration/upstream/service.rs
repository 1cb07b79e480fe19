//! Registration at an upstream identity provider.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::Instrument;
use url::Url;

use super::super::endpoint::{Endpoint, MAX_ATTEMPTS, Registrar, present};
use super::super::members::{UPSTREAM_URI, with_source};
use super::super::metadata::judge;
use super::super::policy::RegistrationPolicy;
use super::super::refusal::{accepted, access_denied};
use super::client::{Management, Upstream, UpstreamClient, failed};
use super::configured::ConfiguredClients;
use super::translation::{Answered, Translated, description, request, translate, understood};
use super::withdrawal::Withdrawals;
use crate::client::member::strings;
use crate::client::operator::with_operator_changes;
use crate::client::{Client, ClientOrigin, Scope};
use crate::http::endpoint::{Answer, Refusal, empty_answer, endpoint_service, json_answer};
use crate::registry::{ConfigError, Record, RegistryError, RegistryStore, StoreError};

/// For how many clients an access token is remembered if the policy does not limit registrations.
const MAX_WITHDRAWALS: u64 = 10_000;

/// Registers clients at an upstream identity provider and stores what it answers, so that their authorization requests
/// can be validated here.
///
/// Requests and answers are those of [`RegistrationService`](super::super::RegistrationService). The policy applies to
/// what clients request and to what the upstream answers. If it names no
/// [allowed scopes](RegistrationPolicy::allowed_scopes), the upstream decides about scopes.
///
/// - The upstream gets what passed the policy: members of RFC 7591 §2 and those that the policy
///   [keeps](RegistrationPolicy::keep_members). It gets nothing else, since it trusts this server more than its clients.
/// - The client gets the upstream's answer, with a `registration_client_uri` of this server, and with no more than what
///   is stored. The registration access token is the upstream's; only its SHA-256 is stored.
/// - The client is stored as [`ClientOrigin::Upstream`], and never replaces another one. It has the redirect URIs that
///   were both asked for and answered, and the grant types and scopes that were answered and that the policy allows.
///   If the answer has no `scope`, the client gets the scopes that it asked for, or else the
///   [default ones](RegistrationPolicy::default_scopes).
/// - Errors of RFC 7591 §3.2.2 are passed on. An upstream that is down, slow or busy is answered with 503; one that
///   rejects this server, or whose client cannot be used here, with 500.
/// - `GET` and `PUT` ask the upstream too, and `DELETE` deletes the client at both. If the upstream has no client
///   configuration endpoint [that may be asked](Upstream::configuration_endpoints_at), `GET` and `DELETE` concern this
///   server only, and `PUT` is answered with 403.
/// - A request that was sent to the upstream is completed and its result stored, also if the client hangs up. If the
///   process stops in between, the client stays at the upstream and is unknown here.
///
/// # Unused clients
///
/// They are limited in [number](RegistrationPolicy::max_registrations) and
/// [lifetime](RegistrationPolicy::unused_lifetime). Clients that are removed here are deleted at the upstream as well.
/// That takes their access token, which no store has: it is remembered while the process runs, for the youngest clients,
/// as many as there may be. Otherwise, or if the upstream refuses, the client stays at the upstream and the log names it;
/// its authorization requests are refused here in any case.
///
/// Needs a Tokio runtime.
///
/// ```
/// use tower_oauth_client_validation::{MemoryRegistry, RegistrationPolicy, Upstream, UpstreamRegistration};
///
/// let upstream = Upstream::discovered_at("https://idp.example/.well-known/openid-configuration")
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
    handler: Arc<Proxy<S>>,
}

struct Proxy<S> {
    endpoint: Endpoint<S>,
    upstream: UpstreamClient,
    configured: Option<ConfiguredClients>,
    withdrawals: Withdrawals,
    withdrawing: Mutex<()>,
}

impl<S: RegistryStore + 'static> UpstreamRegistration<S> {
    /// Registers clients at `upstream` and stores them in `store`. `endpoint` is the URL of this server's registration
    /// endpoint as clients see it.
    ///
    /// # Errors
    ///
    /// If `endpoint` is not an absolute `https` or `http` URL without query and fragment, or a setting of the upstream or
    /// of the policy is wrong. [`reuse_identical`](RegistrationPolicy::reuse_identical) and
    /// [`software_statement_hook`](RegistrationPolicy::software_statement_hook) are: the upstream decides about both.
    pub fn new(
        store: S,
        endpoint: &str,
        upstream: Upstream,
        mut policy: RegistrationPolicy,
    ) -> Result<Self, ConfigError> {
        if policy.reuse_identical {
            return Err(ConfigError::new("reuse_identical", "the upstream chooses ids"));
        }
        if policy.statement_hook.is_some() {
            return Err(ConfigError::new("software_statement_hook", "the upstream verifies statements"));
        }
        if policy.allowed_scopes.is_none() && !policy.grant_all_scopes {
            policy = policy.allowed_scopes(Scope::from_valid_tokens(["*"].into_iter()));
        }
        let withdrawals = Withdrawals::new(policy.max_registrations.unwrap_or(MAX_WITHDRAWALS));
        let proxy = Proxy {
            configured: upstream.reuse_configured_clients.then(ConfiguredClients::default),
            upstream: UpstreamClient::new(upstream, policy.max_body_bytes)?,
            endpoint: Endpoint::new(store, endpoint, policy, ClientOrigin::Upstream)?,
            withdrawals,
            withdrawing: Mutex::new(()),
        };
        Ok(Self { handler: Arc::new(proxy) })
    }

    /// Removes clients that are older than [`RegistrationPolicy::unused_lifetime`] and were never used, here and at the
    /// upstream, and returns how many. Registrations do this too, now and then; run it periodically where they are rare.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn clean_up(&self) -> Result<u64, RegistryError> {
        let Endpoint { store, bounds, .. } = &self.handler.endpoint;
        let mut removed = Vec::new();
        let cleaned_up = bounds.clean_up(store, &mut removed).await;
        self.handler.schedule_withdrawals(&removed).await;
        let turn = self.handler.withdrawing.lock().await;
        self.handler.withdraw_scheduled().await;
        drop(turn);
        cleaned_up.map(|()| removed.len() as u64)
    }
}

endpoint_service!(UpstreamRegistration<S: RegistryStore>);

impl<S: RegistryStore + 'static> Registrar for Proxy<S> {
    const NAME: &'static str = "upstream registration";
    type Store = S;

    fn endpoint(&self) -> &Endpoint<S> {
        &self.endpoint
    }

    async fn register(self: Arc<Self>, asked: Map<String, Value>, source: Option<String>) -> Result<Answer, Refusal> {
        let judged = judge(asked, ClientOrigin::Upstream, &self.endpoint.policy)?;
        if let Some(members) = self.configured(&judged).await? {
            return Ok(json_answer(StatusCode::CREATED, &members.into()));
        }
        let permit = self.upstream.permit()?;
        to_the_end(async move {
            let registered = self.register_at_both(&judged, source.as_deref()).await;
            drop(permit);
            registered
        })
        .await
    }

    async fn read(self: Arc<Self>, record: Record, token: String) -> Result<Answer, Refusal> {
        let permit = self.upstream.permit()?;
        let id = record.client.id().to_owned();
        let Some(management) = self.management(&record, &token).await? else {
            let mut members = description(&record.client);
            members.insert("registration_access_token".into(), token.into());
            members.insert("registration_client_uri".into(), self.endpoint.address.client_uri(&id).into());
            return Ok(json_answer(StatusCode::OK, &members.into()));
        };
        to_the_end(async move {
            let answered = self.upstream.manage(&management, None).await?;
            drop(permit);
            self.store(&id, &management, None, &answered).await
        })
        .await
    }

    async fn update(self: Arc<Self>, id: String, token: String, asked: Map<String, Value>) -> Result<Answer, Refusal> {
        let permit = self.upstream.permit()?;
        let record = self.endpoint.authorized(&id, &token).await?;
        let judged = judge(asked.clone(), ClientOrigin::Upstream, &self.endpoint.policy)?;
        let Some(management) = self.management(&record, &token).await? else {
            return Err(access_denied("the identity provider does not let clients change"));
        };
        let mut members = request(&judged);
        members.insert("client_id".into(), id.as_str().into());
        // Only the upstream knows whether it is the right one.
        let secret = present(&asked, "client_secret").cloned();
        members.extend(secret.map(|secret| ("client_secret".to_owned(), secret)));
        to_the_end(async move {
            let answered = self.upstream.manage(&management, Some(&members)).await?;
            drop(permit);
            self.store(&id, &management, Some(&judged), &answered).await
        })
        .await
    }

    async fn delete(self: Arc<Self>, record: Record, token: String) -> Result<Answer, Refusal> {
        let permit = self.upstream.permit()?;
        let management = self.management(&record, &token).await?;
        to_the_end(async move {
            let is_deleted = match management {
                Some(management) => self.upstream.delete(&management).await?,
                None => false,
            };
            drop(permit);
            let id = record.client.id();
            if !is_deleted {
                // Deleted there before, unless a concurrent change has replaced the access token.
                self.endpoint.authorized(id, &token).await?;
            }
            self.remove(id).await?;
            self.withdrawals.forget(id);
            tracing::info!(outcome = "deleted", client_id = id, "upstream client registration");
            Ok(empty_answer(StatusCode::NO_CONTENT))
        })
        .await
    }
}

/// Completes the work even if the client hangs up: what is done at the upstream must be stored here.
async fn to_the_end(work: impl Future<Output = Result<Answer, Refusal>> + Send + 'static) -> Result<Answer, Refusal> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|stopped| {
        tracing::error!(error = &stopped as &dyn Error, "a registration was stopped");
        Err(Refusal::fault())
    })
}

impl<S: RegistryStore + 'static> Proxy<S> {
    /// The answer for a configured client that allows the redirect URIs that are asked for.
    async fn configured(&self, judged: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Refusal> {
        let Some(configured) = &self.configured else {
            return Ok(None);
        };
        let asked = judged.get("redirect_uris").and_then(strings).unwrap_or_default();
        let Some(client) = configured.admitting(&asked, &self.endpoint.store).await? else {
            return Ok(None);
        };
        tracing::info!(outcome = "configured", client_id = client.id(), "upstream client registration");
        let mut members = understood(&description(&client), &self.endpoint.policy);
        members.retain(|name, _| !self.endpoint.policy.extra_members.contains(name));
        members.insert("client_id".into(), client.id().into());
        members.insert("redirect_uris".into(), asked.into_iter().collect());
        Ok(Some(members))
    }

    async fn register_at_both(
        self: &Arc<Self>,
        judged: &Map<String, Value>,
        source: Option<&str>,
    ) -> Result<Answer, Refusal> {
        // The upstream is not asked for a client that there is no room for.
        self.add(None, source).await?;
        let endpoint = self.upstream.endpoint().await?;
        let answered = self.upstream.register(&endpoint, &request(judged)).await?;
        let management = self.named_management(&answered, &endpoint);
        let added = async {
            let upstream_uri = management.as_ref().map(|management| management.uri.to_string());
            let answered = Answered { members: &answered, judged, known: None, upstream_uri };
            let translated = self.translate(answered)?;
            let client = with_source(&translated.client, source)?;
            let members = translated.answer(&client);
            let id = client.id().to_owned();
            Ok((id, self.add(Some((client, management.clone())), source).await?, members))
        };
        match added.await {
            Ok((id, true, members)) => {
                tracing::info!(outcome = "registered", client_id = id, "upstream client registration");
                Ok(self.answer(StatusCode::CREATED, members))
            }
            // Not deleted: the client with this id at the upstream may be the one that exists here.
            Ok((id, false, _)) => {
                tracing::error!(client_id = id, "the upstream registered a client whose id is taken here");
                Err(Refusal::fault())
            }
            Err(refusal) => {
                if let Some(management) = management {
                    let id = answered.get("client_id").and_then(Value::as_str).unwrap_or_default();
                    self.withdraw(id, &management).await;
                }
                Err(refusal)
            }
        }
    }

    /// Makes room for a client, and adds it if it is there already. Returns `false` if its id is taken.
    async fn add(
        self: &Arc<Self>,
        client: Option<(Client, Option<Management>)>,
        source: Option<&str>,
    ) -> Result<bool, Refusal> {
        let Endpoint { store, bounds, .. } = &self.endpoint;
        let mut removed = Vec::new();
        let add = async {
            bounds.clean_up_if_due(store, &mut removed).await;
            bounds.make_room(source, store, &mut removed).await?;
            let Some((client, management)) = client else {
                return Ok(true);
            };
            let inserted = bounds.insert(client, store, &mut removed).await?;
            // Before another registration can remove it.
            if let (Some(client), Some(management)) = (&inserted, management) {
                self.withdrawals.remember(client.id(), management);
            }
            Ok(inserted.is_some())
        };
        let added = bounds.one_at_a_time(add).await;
        if !removed.is_empty() {
            self.schedule_withdrawals(&removed).await;
            let this = Arc::clone(self);
            let withdraw = async move {
                if let Ok(_turn) = this.withdrawing.try_lock() {
                    this.withdraw_scheduled().await;
                }
            };
            tokio::spawn(withdraw.in_current_span());
        }
        added
    }

    /// How the upstream says that the client can be managed there.
    fn named_management(&self, answered: &Map<String, Value>, endpoint: &Url) -> Option<Management> {
        let text = |name: &str| answered.get(name).and_then(Value::as_str);
        let (uri, token) = (text("registration_client_uri")?, text("registration_access_token")?);
        Some(Management { uri: self.upstream.manageable(uri, endpoint)?, token: token.to_owned() })
    }

    /// How a stored client can be managed. The store may be older than the configuration, so the URI is checked again.
    async fn management(&self, record: &Record, token: &str) -> Result<Option<Management>, Refusal> {
        let stored = record.client.metadata().and_then(|metadata| metadata.get(UPSTREAM_URI)).and_then(Value::as_str);
        let Some(uri) = stored else {
            return Ok(None);
        };
        let uri = self.upstream.manageable(uri, &self.upstream.endpoint().await?);
        Ok(uri.map(|uri| Management { uri, token: token.to_owned() }))
    }

    /// Stores what the upstream answered to a change that was `judged`, or to a question.
    async fn store(
        &self,
        id: &str,
        management: &Management,
        judged: Option<&Map<String, Value>>,
        answered: &Map<String, Value>,
    ) -> Result<Answer, Refusal> {
        let endpoint = self.upstream.endpoint().await?;
        let named = self.named_management(answered, &endpoint);
        for _ in 0..MAX_ATTEMPTS {
            // The operator may have changed the client while the upstream was asked.
            let record = self.endpoint.authorized(id, &management.token).await?;
            let old = &*record.client;
            let before = old.to_metadata();
            let translated = self.translate(Answered {
                members: answered,
                judged: judged.unwrap_or(&before),
                known: Some(old),
                upstream_uri: named.as_ref().map(|named| named.uri.to_string()),
            })?;
            let new = accepted(with_operator_changes(old, &translated.client)?)?;
            let stored = match self.endpoint.store.replace_unchanged(old, new).await {
                Err(StoreError::Changed) => continue,
                replaced => replaced?,
            };
            let mut members = translated.answer(&stored);
            let token = members.entry("registration_access_token").or_insert(management.token.as_str().into());
            if record.last_used_at.is_none() {
                let token = token.as_str().unwrap_or(&management.token).to_owned();
                let management = named.unwrap_or_else(|| Management { uri: management.uri.clone(), token });
                self.withdrawals.remember(id, management);
            }
            return Ok(self.answer(StatusCode::OK, members));
        }
        Err(StoreError::Changed.into())
    }

    fn translate(&self, answered: Answered<'_>) -> Result<Translated, Refusal> {
        translate(answered, &self.endpoint.policy)
            .ok_or_else(|| failed(StatusCode::OK, "the upstream answered with a client that cannot be used"))
    }

    fn answer(&self, status: StatusCode, mut members: Map<String, Value>) -> Answer {
        let id = members.get("client_id").and_then(Value::as_str).unwrap_or_default();
        let uri = self.endpoint.address.client_uri(id);
        members.insert("registration_client_uri".into(), uri.into());
        json_answer(status, &members.into())
    }

    /// Removes a client that was deleted at the upstream, unless the operator has disabled it in the meantime.
    async fn remove(&self, id: &str) -> Result<(), Refusal> {
        let store = &self.endpoint.store;
        for _ in 0..MAX_ATTEMPTS {
            let removable = |record: &Record| {
                record.origin == ClientOrigin::Upstream && record.client.is_active_at(SystemTime::now())
            };
            let Some(record) = store.record(id).await?.filter(removable) else {
                return Ok(());
            };
            match store.remove_unchanged(&record.client).await {
                Err(StoreError::Changed) => {}
                Ok(()) | Err(StoreError::Missing) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Changed.into())
    }

    /// Marks clients that were removed here for deletion at the upstream.
    async fn schedule_withdrawals(&self, removed: &[String]) {
        for id in removed {
            // It may have been added again: an upstream may return an earlier client.
            let is_gone = matches!(self.endpoint.store.record(id).await, Ok(None));
            if is_gone && !self.withdrawals.schedule(id) {
                tracing::warn!(client_id = id, "an unused client stays at the upstream: its access token is unknown");
            }
        }
    }

    async fn withdraw_scheduled(&self) {
        let mut is_available = true;
        while let Some((id, management)) = self.withdrawals.next() {
            if is_available {
                is_available = self.withdraw(&id, &management).await;
            } else {
                tracing::warn!(client_id = id, "an unused client stays at the upstream, which is unavailable");
            }
        }
    }

    /// Deletes a client at the upstream. Returns whether that is available.
    async fn withdraw(&self, id: &str, management: &Management) -> bool {
        let Err(refusal) = self.upstream.delete(management).await else {
            return true;
        };
        tracing::warn!(client_id = id, detail = refusal.description(), "a client stays at the upstream");
        refusal.error() != "temporarily_unavailable"
    }
}
