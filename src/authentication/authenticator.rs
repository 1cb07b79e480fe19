//! Which client is calling: from the request's parts and body to a client, or a reason to refuse it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};

use super::assertion::Assertion;
use super::credentials::Credentials;
use super::failure::{AuthenticationError, AuthenticationFailure};
use super::method::{AuthenticationMethod, Claim, CustomMethod};
use super::parameters::{FormFault, FormParameters};
use super::policy::{AuthenticationPolicy, Settings};
use super::{log, metrics};
use crate::client::{Client, ClientStatus, is_client_id};
use crate::http::{form, head};
use crate::registry::RegistrySource;

/// Parameters of the endpoints that clients call. In a query they end up in logs, and an inner service could read them
/// there instead of in the body.
const BODY_PARAMETERS: [&str; 29] = [
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "grant_type",
    "code",
    "redirect_uri",
    "code_verifier",
    "refresh_token",
    "scope",
    "token",
    "token_type_hint",
    "assertion",
    "device_code",
    "username",
    "password",
    "request",
    "request_uri",
    "response_type",
    "response_mode",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "audience",
    "subject_token",
    "actor_token",
    "auth_req_id",
];

/// Finds out which client sent a request (RFC 6749 §2.3), for frameworks that are no tower service, and for tests.
/// [`ClientAuthenticationLayer`](crate::ClientAuthenticationLayer) does it for tower services.
///
/// Cheap to clone.
///
/// ```
/// use http::Request;
/// use tower_oauth_client_validation::{AuthenticationPolicy, Client, ClientAuthenticator, MemoryRegistry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = MemoryRegistry::from_clients([Client::builder("app")
///     .confidential()
///     .metadata("client_secret_sha256", "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")
///     .build()?]);
/// let authenticator = ClientAuthenticator::new(registry, AuthenticationPolicy::builder().build()?);
///
/// let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded").body(())?;
/// let (parts, ()) = request.into_parts();
/// let client = authenticator.authenticate(&parts, b"client_id=app&client_secret=secret&grant_type=refresh_token").await?;
/// assert_eq!(client.client().id(), "app");
/// assert_eq!(client.parameters().get("grant_type"), Some("refresh_token"));
///
/// let refused = authenticator.authenticate(&parts, b"client_id=app&client_secret=wrong").await.unwrap_err();
/// assert_eq!(refused.error(), "invalid_client");
/// # Ok(())
/// # }
/// ```
pub struct ClientAuthenticator<R> {
    registry: Arc<R>,
    policy: AuthenticationPolicy,
}

/// The client that sent a request, and the form that it sent. The layer puts it into the request's extensions.
#[derive(Clone)]
pub struct AuthenticatedClient {
    client: Arc<Client>,
    method: AuthenticationMethod,
    parameters: FormParameters,
}

impl AuthenticatedClient {
    /// The client: known, active, and authenticated unless it is public.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The client's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.client.id()
    }

    /// How the client authenticated. [`None`](AuthenticationMethod::None) proves nothing: anybody can send the id of a
    /// public client.
    #[must_use]
    pub fn method(&self) -> AuthenticationMethod {
        self.method
    }

    /// The parameters of the form.
    #[must_use]
    pub fn parameters(&self) -> &FormParameters {
        &self.parameters
    }
}

/// Without the values of parameters, which hold secrets.
impl fmt::Debug for AuthenticatedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticatedClient")
            .field("client_id", &self.client_id())
            .field("method", &self.method)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl<R> ClientAuthenticator<R> {
    /// Authenticates the clients of `registry` by `policy`.
    pub fn new(registry: R, policy: AuthenticationPolicy) -> Self {
        Self { registry: Arc::new(registry), policy }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &AuthenticationPolicy {
        &self.policy
    }

    fn settings(&self) -> &Settings {
        &self.policy.settings
    }
}

impl<R: RegistrySource> ClientAuthenticator<R> {
    /// Authenticates the client that sent `parts` and `body`.
    ///
    /// # Errors
    ///
    /// Says why the client is not authenticated; [`AuthenticationError::into_response`] answers it.
    pub async fn authenticate(&self, parts: &Parts, body: &[u8]) -> Result<AuthenticatedClient, AuthenticationError> {
        self.authenticate_at(parts, body, SystemTime::now()).await
    }

    /// Like [`authenticate`](Self::authenticate), at another time than now.
    ///
    /// # Errors
    ///
    /// Says why the client is not authenticated.
    pub async fn authenticate_at(
        &self,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
    ) -> Result<AuthenticatedClient, AuthenticationError> {
        let mut seen = Seen::default();
        let result = match check_head(parts) {
            Ok(()) => self.decide(parts, body, now, &mut seen).await,
            Err(failure) => Err(AuthenticationError::new(failure)),
        };
        match result {
            Ok(client) => {
                log::accepted(&client);
                metrics::accepted(client.method);
                Ok(client)
            }
            Err(error) => Err(refuse(error, &parts.headers, &seen)),
        }
    }

    async fn decide(
        &self,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
        seen: &mut Seen,
    ) -> Result<AuthenticatedClient, AuthenticationError> {
        let parameters = FormParameters::parse(body).map_err(|fault| {
            AuthenticationError::new(match fault {
                FormFault::Undecodable => AuthenticationFailure::ParameterUndecodable,
                FormFault::Repeated => AuthenticationFailure::ParameterRepeated,
            })
        })?;
        let (client, method) = match self.custom_claim(parts, &parameters)? {
            Some((custom, client_id)) => {
                let method = AuthenticationMethod::Custom(custom.name());
                seen.note(&client_id, method);
                let client = self.active_client(&client_id, now).await?;
                self.check_registered(&client, method)?;
                custom.verify(&client, parts, &parameters).await?;
                (client, method)
            }
            None => self.check_credentials(parts, &parameters, now, seen).await?,
        };
        if parameters.get("client_id").is_some_and(|client_id| client_id != client.id()) {
            return Err(AuthenticationError::new(AuthenticationFailure::ClientIdMismatch));
        }
        Ok(AuthenticatedClient { client, method, parameters })
    }

    /// The custom method that the request uses, if it uses one.
    fn custom_claim(
        &self,
        parts: &Parts,
        parameters: &FormParameters,
    ) -> Result<Option<(&dyn CustomMethod, String)>, AuthenticationError> {
        let claimed = self.settings().custom.iter().filter_map(|custom| match custom.claim(parts, parameters) {
            Claim::Client(client_id) => Some((&**custom, client_id)),
            Claim::Absent => None,
        });
        let mut claimed = claimed.peekable();
        let Some(first) = claimed.next() else {
            return Ok(None);
        };
        let uses_another = claimed.next().is_some()
            || parts.headers.contains_key(AUTHORIZATION)
            || ["client_secret", "client_assertion", "client_assertion_type"]
                .iter()
                .any(|name| parameters.get(name).is_some());
        if uses_another {
            return Err(AuthenticationError::new(AuthenticationFailure::SeveralMethods));
        }
        Ok(Some(first))
    }

    async fn check_credentials(
        &self,
        parts: &Parts,
        parameters: &FormParameters,
        now: SystemTime,
        seen: &mut Seen,
    ) -> Result<(Arc<Client>, AuthenticationMethod), AuthenticationError> {
        let credentials = Credentials::read(&parts.headers, parameters).map_err(AuthenticationError::new)?;
        let missing = || AuthenticationError::new(AuthenticationFailure::CredentialsMissing);
        let credentials = credentials.ok_or_else(missing)?;
        let method = credentials.method();
        seen.method = Some(method);
        let client = match credentials {
            Credentials::None { client_id } => {
                seen.note(client_id, method);
                let client = self.active_client(client_id, now).await?;
                self.check_registered(&client, method)?;
                client
            }
            Credentials::Post { client_id, secret } => {
                self.check_secret(&[client_id], &[secret], method, now, seen).await?
            }
            Credentials::Basic(basic) => {
                let (ids, secrets): (Vec<_>, Vec<_>) = (basic.ids().collect(), basic.secrets().collect());
                let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
                let secrets: Vec<&str> = secrets.iter().map(|secret| &**secret).collect();
                self.check_secret(&ids, &secrets, method, now, seen).await?
            }
            Credentials::Assertion { assertion } => {
                let assertion = Assertion::read(assertion).map_err(AuthenticationError::new)?;
                seen.note(assertion.client_id(), method);
                let client = self.active_client(assertion.client_id(), now).await?;
                self.check_registered(&client, method)?;
                assertion.verify(&client, self.settings(), now).await?;
                client
            }
        };
        Ok((client, method))
    }

    /// The client with one of these ids, and one of these secrets. An unknown client costs the same work as a wrong
    /// secret.
    async fn check_secret(
        &self,
        ids: &[&str],
        secrets: &[&str],
        method: AuthenticationMethod,
        now: SystemTime,
        seen: &mut Seen,
    ) -> Result<Arc<Client>, AuthenticationError> {
        let mut found = None;
        for id in ids {
            seen.note(id, method);
            found = self.find(id).await?;
            if found.is_some() {
                break;
            }
        }
        let refused = match &found {
            None => Some(AuthenticationFailure::ClientUnknown),
            Some(client) => check_active(client, now).err().or_else(|| self.registered(client, method).err()),
        };
        let checked = found.as_deref().filter(|_| refused.is_none());
        let is_right = self.settings().secrets.check(checked, secrets).await.map_err(AuthenticationError::new)?;
        match (found, refused) {
            (_, Some(failure)) => Err(AuthenticationError::new(failure)),
            (Some(client), None) if is_right => Ok(client),
            _ => Err(AuthenticationError::new(AuthenticationFailure::SecretWrong)),
        }
    }

    async fn active_client(&self, client_id: &str, now: SystemTime) -> Result<Arc<Client>, AuthenticationError> {
        let client = self.find(client_id).await?;
        let client = client.ok_or_else(|| AuthenticationError::new(AuthenticationFailure::ClientUnknown))?;
        check_active(&client, now).map_err(AuthenticationError::new)?;
        Ok(client)
    }

    async fn find(&self, client_id: &str) -> Result<Option<Arc<Client>>, AuthenticationError> {
        if client_id.is_empty() || !is_client_id(client_id) {
            return Ok(None);
        }
        match self.registry.find_client(client_id).await {
            Ok(Some(client)) if client.id() != client_id => {
                Err(AuthenticationError::new(AuthenticationFailure::RegistryFault))
            }
            Ok(client) => Ok(client),
            Err(error) if error.is_transient() => {
                Err(AuthenticationError::caused_by(AuthenticationFailure::RegistryUnavailable, error))
            }
            Err(error) => Err(AuthenticationError::caused_by(AuthenticationFailure::RegistryFault, error)),
        }
    }

    fn check_registered(&self, client: &Client, method: AuthenticationMethod) -> Result<(), AuthenticationError> {
        self.registered(client, method).map_err(AuthenticationError::new)
    }

    /// Whether the server supports the method, and the client is registered for it.
    fn registered(&self, client: &Client, method: AuthenticationMethod) -> Result<(), AuthenticationFailure> {
        let settings = self.settings();
        if !settings.methods.contains(&method) {
            return Err(AuthenticationFailure::MethodNotSupported);
        }
        let registered = registered_method(client, settings);
        let is_same = registered == Some(method.as_str());
        let both_use_secrets = !settings.strict_secret_methods
            && method.uses_secret()
            && matches!(registered, Some("client_secret_basic" | "client_secret_post"));
        if is_same || both_use_secrets { Ok(()) } else { Err(AuthenticationFailure::MethodNotRegistered) }
    }
}

/// Logs and counts a refusal, and notes how the client tried.
pub(super) fn refuse(error: AuthenticationError, headers: &HeaderMap, seen: &Seen) -> AuthenticationError {
    let error = error.with_authorization(headers.contains_key(AUTHORIZATION));
    log::refused(&error, seen.client_id.as_deref(), seen.method);
    metrics::refused(error.failure(), seen.method);
    error
}

/// What is known about a request that is refused.
#[derive(Default)]
pub(super) struct Seen {
    client_id: Option<String>,
    method: Option<AuthenticationMethod>,
}

impl Seen {
    fn note(&mut self, client_id: &str, method: AuthenticationMethod) {
        self.client_id = Some(client_id.to_owned());
        self.method = Some(method);
    }
}

/// Method, content type and query: what can be judged without the body.
pub(super) fn check_head(parts: &Parts) -> Result<(), AuthenticationFailure> {
    if parts.method != Method::POST {
        return Err(AuthenticationFailure::HttpMethod);
    }
    if !head::is_form(&parts.headers) {
        return Err(AuthenticationFailure::ContentType);
    }
    let query = parts.uri.query().unwrap_or_default();
    if form::names(query.as_bytes()).any(|name| BODY_PARAMETERS.contains(&&*name)) {
        return Err(AuthenticationFailure::ParameterInQuery);
    }
    Ok(())
}

fn check_active(client: &Client, now: SystemTime) -> Result<(), AuthenticationFailure> {
    match client.status() {
        ClientStatus::Disabled => Err(AuthenticationFailure::ClientDisabled),
        ClientStatus::Revoked => Err(AuthenticationFailure::ClientRevoked),
        ClientStatus::Active if client.is_expired_at(now) => Err(AuthenticationFailure::ClientExpired),
        ClientStatus::Active => Ok(()),
    }
}

/// The method that the client is registered for. Of several (OpenID Connect RP Metadata Choices) it is the first one that
/// the server supports.
fn registered_method<'c>(client: &'c Client, settings: &Settings) -> Option<&'c str> {
    let mut offered = client.token_endpoint_auth_methods_supported().peekable();
    if offered.peek().is_none() {
        return Some(client.token_endpoint_auth_method());
    }
    offered.find(|offered| settings.methods.iter().any(|method| method.as_str() == *offered))
}

impl<R> Clone for ClientAuthenticator<R> {
    fn clone(&self) -> Self {
        Self { registry: Arc::clone(&self.registry), policy: self.policy.clone() }
    }
}

impl<R> fmt::Debug for ClientAuthenticator<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthenticator").field("policy", &self.policy).finish_non_exhaustive()
    }
}
