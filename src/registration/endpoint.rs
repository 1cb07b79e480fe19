//! The HTTP of both registration services: a registration endpoint (RFC 7591 §3) and client configuration endpoints
//! below it (RFC 7592 §2).

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use super::bounds::Bounds;
use super::members::{ACCESS_TOKEN, ANSWER_MEMBERS};
use super::policy::RegistrationPolicy;
use super::refusal::{INVALID_METADATA, invalid_metadata, invalid_token};
use crate::client::ClientOrigin;
use crate::client::secret::is_digest_of;
use crate::http::endpoint::{Answer, EndpointRequest, Handler, Refusal};
use crate::registry::{ConfigError, Record, RegistryStore};

/// How often a change is tried again because the client changed in between.
pub(super) const MAX_ATTEMPTS: usize = 8;

/// What a service does with authorized requests.
pub(super) trait Registrar: Send + Sync + 'static {
    const NAME: &'static str;
    type Store: RegistryStore + 'static;

    fn endpoint(&self) -> &Endpoint<Self::Store>;

    /// `source` is the source of the request, if it is known.
    fn register(
        self: Arc<Self>,
        asked: Map<String, Value>,
        source: Option<String>,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send;

    /// `record` is that of the client whose access token is `token`.
    fn read(self: Arc<Self>, record: Record, token: String) -> impl Future<Output = Result<Answer, Refusal>> + Send;

    /// Decides about a change that fits the client. The client may have changed while the request was read.
    fn update(
        self: Arc<Self>,
        id: String,
        token: String,
        asked: Map<String, Value>,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send;

    fn delete(self: Arc<Self>, record: Record, token: String) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

impl<R: Registrar> Handler for R {
    const NAME: &'static str = R::NAME;

    async fn handle(self: Arc<Self>, request: EndpointRequest) -> Result<Answer, Refusal> {
        let endpoint = self.endpoint();
        let token = bearer(&request.parts.headers).map(str::to_owned);
        let id = match endpoint.address.target(request.parts.uri.path()) {
            Target::Registration if request.parts.method != Method::POST => return Err(Refusal::method("POST")),
            Target::Registration => {
                if !endpoint.policy.initial_access.admits(token.as_deref()).await {
                    return Err(invalid_token());
                }
                let source = endpoint.policy.source(&request.parts, token.as_deref());
                let asked = endpoint.members(request).await?;
                return self.register(asked, source).await;
            }
            Target::Client(id) => id,
            Target::Other => return Err(Refusal::not_found()),
        };
        let method = request.parts.method.clone();
        if !matches!(method, Method::GET | Method::PUT | Method::DELETE) {
            return Err(Refusal::method("GET, PUT, DELETE"));
        }
        let token = token.ok_or_else(invalid_token)?;
        let record = endpoint.authorized(&id, &token).await?;
        match method {
            Method::GET => self.read(record, token).await,
            Method::DELETE => self.delete(record, token).await,
            _ => {
                let asked = endpoint.members(request).await?;
                check_change(&asked, &id)?;
                self.update(id, token, asked).await
            }
        }
    }
}

/// The access token of RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// A change names its client, and no member that only the server sets (RFC 7592 §2.2).
fn check_change(asked: &Map<String, Value>, id: &str) -> Result<(), Refusal> {
    if let Some(name) = ANSWER_MEMBERS.into_iter().find(|name| present(asked, name).is_some()) {
        return Err(invalid_metadata(format!("{name}: must be left out")));
    }
    if present(asked, "client_id").and_then(Value::as_str) != Some(id) {
        return Err(invalid_metadata("client_id: must be that of the client"));
    }
    Ok(())
}

/// A member that is `null` counts as left out (RFC 7591 §2).
pub(super) fn present<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    members.get(name).filter(|value| !value.is_null())
}

/// What both services share.
pub(super) struct Endpoint<S> {
    pub(super) store: S,
    pub(super) address: Address,
    pub(super) policy: RegistrationPolicy,
    pub(super) bounds: Bounds,
    pub(super) origin: ClientOrigin,
}

impl<S: RegistryStore> Endpoint<S> {
    pub(super) fn new(
        store: S,
        address: &str,
        policy: RegistrationPolicy,
        origin: ClientOrigin,
    ) -> Result<Self, ConfigError> {
        policy.check()?;
        let address = Address::parse(address)?;
        let bounds = Bounds::new(origin, &policy);
        Ok(Self { store, address, policy, bounds, origin })
    }

    /// The JSON object that a request carries.
    async fn members(&self, request: EndpointRequest) -> Result<Map<String, Value>, Refusal> {
        let bytes = request.read("application/json", self.policy.max_body_bytes, INVALID_METADATA).await?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) | Err(_) => Err(invalid_metadata("the body must be a JSON object")),
        }
    }

    /// The client, if the access token is its own.
    pub(super) async fn authorized(&self, id: &str, token: &str) -> Result<Record, Refusal> {
        let record = match crate::client::is_client_id(id) {
            true => self.store.record(id).await?.filter(|record| record.origin == self.origin),
            false => None,
        };
        let record = record.filter(|record| record.client.is_active_at(SystemTime::now()));
        let stored = record.as_ref().and_then(|record| record.client.metadata()?.get(ACCESS_TOKEN)?.as_str());
        let fits = is_digest_of(stored, token);
        record.filter(|_| fits).ok_or_else(invalid_token)
    }
}

/// The URL of the endpoint as clients see it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    url: String,
    path: String,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Registration,
    Client(String),
    Other,
}

impl Address {
    fn parse(url: &str) -> Result<Self, ConfigError> {
        let parsed = Url::parse(url).ok().filter(|_| !url.contains(['?', '#']));
        let Some(parsed) = parsed.filter(|parsed| matches!(parsed.scheme(), "https" | "http")) else {
            let problem = "must be an absolute https or http URL without query and fragment";
            return Err(ConfigError::new("endpoint", problem));
        };
        let path = parsed.path().trim_end_matches('/').to_owned();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), path })
    }

    /// Whether or not a router has stripped the endpoint's path from `path`.
    fn target(&self, path: &str) -> Target {
        let rest = match path.strip_prefix(&self.path) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            Some(_) | None => path,
        };
        match rest.strip_prefix('/').unwrap_or(rest) {
            "" => Target::Registration,
            segment if segment.contains('/') => Target::Other,
            segment => match percent_decode_str(segment).decode_utf8() {
                Ok(id) => Target::Client(id.into_owned()),
                Err(_) => Target::Other,
            },
        }
    }

    /// The `registration_client_uri` of a client.
    pub(super) fn client_uri(&self, client_id: &str) -> String {
        /// All but the unreserved characters of RFC 3986 §2.3.
        const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        format!("{}/{}", self.url, utf8_percent_encode(client_id, SEGMENT))
    }
}
