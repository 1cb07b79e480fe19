//! The token and revocation endpoints (RFC 6749 §3.2, RFC 7009). They are behind [`authentication`], which knows the
//! client and the form before a handler runs.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, PRAGMA, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower_oauth_client_validation::{
    AuthenticatedClient, AuthenticationPolicy, AuthenticationPolicyBuilder, BoxRegistry, BoxStore, Client,
    ClientAuthenticationLayer, CodeChallengeMethod, ConfigError, FormParameters, GrantTypes, RegistryStore,
    ServerMetadata, StateStore, StoreError,
};

use crate::causes::Causes;
use crate::store::{Code, Grant, OneTime, Refused, Taken, secret};

const ACCESS_TOKEN_SECONDS: u32 = 3600;

const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (PRAGMA, HeaderValue::from_static("no-cache")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an authorization code is good for, unless set otherwise (RFC 6749 §4.1.2 recommends at most ten minutes).
pub const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// The most unused codes of one client.
const MAX_CODES: usize = 1_000;
/// The most refresh tokens of one client.
const MAX_REFRESH_TOKENS: usize = 10_000;
/// The most bytes of all codes, and of all refresh tokens.
const MAX_BYTES: usize = 32 << 20;

/// What the server issues, and to whom.
#[allow(missing_debug_implementations, reason = "holds secrets")]
pub struct Tokens {
    /// Where the use of a client is recorded.
    store: BoxStore,
    codes: OneTime<Code>,
    refresh_tokens: OneTime<Arc<Grant>>,
}

impl Tokens {
    /// Nothing has been issued yet.
    #[must_use]
    pub fn new(store: BoxStore, code_lifetime: Duration) -> Self {
        Self {
            store,
            codes: OneTime::new(code_lifetime, MAX_CODES, MAX_BYTES),
            refresh_tokens: OneTime::new(REFRESH_TOKEN_LIFETIME, MAX_REFRESH_TOKENS, MAX_BYTES),
        }
    }

    /// Issues an authorization code.
    ///
    /// # Errors
    ///
    /// If the store is full or there are no random bytes.
    pub fn issue_code(&self, code: Code) -> Result<String, Refused> {
        self.codes.put(code)
    }

    /// Records that the client received tokens: operators see which registrations are in use, and unused ones expire.
    async fn record_use(&self, client_id: &str) {
        match self.store.touch(client_id, SystemTime::now()).await {
            // A client of a file, a metadata document, or one that was removed since.
            Ok(()) | Err(StoreError::Missing) => {}
            Err(error) => tracing::warn!(client_id, error = %Causes(&error), "the use of a client was not recorded"),
        }
    }
}

/// The layer for all endpoints that clients call themselves, where the keys of clients are those that they registered.
/// `replays` remembers used assertions.
///
/// # Errors
///
/// If the policy cannot be built.
pub fn authentication(
    clients: BoxRegistry,
    issuer: &str,
    replays: Arc<dyn StateStore>,
) -> Result<ClientAuthenticationLayer<BoxRegistry>, ConfigError> {
    Ok(ClientAuthenticationLayer::new(clients, authentication_policy(issuer, replays).build()?))
}

/// All methods of client authentication. `replays` remembers used assertions.
pub fn authentication_policy(issuer: &str, replays: Arc<dyn StateStore>) -> AuthenticationPolicyBuilder {
    AuthenticationPolicy::builder().issuer(issuer).replay_store(replays)
}

/// Announces what the token endpoint takes: grants, and the methods by which clients authenticate (RFC 8414 §2).
pub fn announce(document: ServerMetadata, policy: &AuthenticationPolicy) -> ServerMetadata {
    document.client_authentication(policy).member("grant_types_supported", vec!["authorization_code", "refresh_token"])
}

/// The handler of the token endpoint.
pub async fn token(State(issued): State<Arc<Tokens>>, caller: AuthenticatedClient) -> Response {
    let (client, form) = (caller.client(), caller.parameters());
    let tokens = match form.get("grant_type") {
        Some("authorization_code") => redeem_code(&issued, client, form),
        Some("refresh_token") => refresh(&issued, client, form),
        Some(_) => {
            let description = "grant_type must be authorization_code or refresh_token";
            Err(TokenError::new("unsupported_grant_type", description))
        }
        None => Err(TokenError::new("invalid_request", "grant_type is missing")),
    };
    match tokens {
        Ok(tokens) => {
            issued.record_use(client.id()).await;
            (HEADERS, Json(tokens)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// The handler of the revocation endpoint. A refresh token is revoked with its grant; access tokens cannot be, since this
/// server does not store them (RFC 7009 §2.2: unknown tokens are answered with 200).
pub async fn revoke(State(issued): State<Arc<Tokens>>, caller: AuthenticatedClient) -> Response {
    let Some(token) = caller.parameters().get("token") else {
        return TokenError::new("invalid_request", "token is missing").into_response();
    };
    if let Taken::First(grant) | Taken::Again(grant) = issued.refresh_tokens.take(caller.client_id(), token, |_| true) {
        grant.revoke();
    }
    HEADERS.into_response()
}

fn redeem_code(issued: &Tokens, client: &Client, form: &FormParameters) -> Result<Map<String, Value>, TokenError> {
    require_grant_type(client, GrantTypes::AUTHORIZATION_CODE)?;
    let presented = form.get("code").ok_or(TokenError::new("invalid_request", "code is missing"))?;
    let code = match issued.codes.take(client.id(), presented, |_| true) {
        Taken::First(code) => code,
        Taken::Again(code) => {
            // RFC 6749 §4.1.2: revoke what the first use returned.
            code.grant.revoke();
            return Err(TokenError::new("invalid_grant", "the code was used before"));
        }
        Taken::Unknown => return Err(TokenError::new("invalid_grant", "the code is unknown or has expired")),
    };
    match (code.redirect_uri.as_deref(), form.get("redirect_uri")) {
        (Some(requested), Some(repeated)) if requested == repeated => {}
        (Some(_), _) => {
            return Err(TokenError::new("invalid_grant", "redirect_uri must be that of the authorization request"));
        }
        // The client may name it anyway: it has only one.
        (None, Some(named)) if client.sole_redirect_uri().is_none_or(|sole| sole.as_str() != named) => {
            return Err(TokenError::new("invalid_grant", "redirect_uri was not in the authorization request"));
        }
        (None, _) => {}
    }
    verify_pkce(code.challenge.as_ref(), form.get("code_verifier"))?;
    issue(issued, client, &code.grant, form, None)
}

/// Each refresh token is good for one use. A second use, however late, means that it was stolen, and revokes the grant
/// (RFC 9700 §4.14.2).
fn refresh(issued: &Tokens, client: &Client, form: &FormParameters) -> Result<Map<String, Value>, TokenError> {
    require_grant_type(client, GrantTypes::REFRESH_TOKEN)?;
    let presented = form.get("refresh_token").ok_or(TokenError::new("invalid_request", "refresh_token is missing"))?;
    let mut refused = TokenError::new("invalid_grant", "the refresh token is unknown or has expired");
    // A request that asks for too much uses nothing up: the next one may ask for less.
    let fits = |grant: &Arc<Grant>| judge_extent(grant, form).map_err(|error| refused = error).is_ok();
    match issued.refresh_tokens.take(client.id(), presented, fits) {
        Taken::First(grant) if !grant.is_revoked() => issue(issued, client, &grant, form, Some(presented)),
        Taken::First(_) => Err(TokenError::new("invalid_grant", "the refresh token was revoked")),
        Taken::Again(grant) => {
            grant.revoke();
            Err(TokenError::new("invalid_grant", "the refresh token was used before"))
        }
        Taken::Unknown => Err(refused),
    }
}

/// The scope that the request may have. Its resources must be among those of the grant.
fn judge_extent<'a>(grant: &'a Grant, form: &'a FormParameters) -> Result<&'a str, TokenError> {
    let granted = || grant.scope.split(' ');
    let scope = match form.get("scope") {
        // RFC 6749 §6: a refresh may ask for less, never for more.
        Some(asked) if asked.split(' ').all(|token| granted().any(|granted| granted == token)) => asked,
        Some(_) => return Err(TokenError::new("invalid_scope", "the scope goes beyond what was granted")),
        None => &grant.scope,
    };
    if !grant.resources.is_empty()
        && !form.get_all("resource").all(|asked| grant.resources.iter().any(|known| known == asked))
    {
        return Err(TokenError::new("invalid_target", "the resource was not in the authorization request"));
    }
    Ok(scope)
}

/// `renewed` is the refresh token of the request, if it has one.
fn issue(
    issued: &Tokens,
    client: &Client,
    grant: &Arc<Grant>,
    form: &FormParameters,
    renewed: Option<&str>,
) -> Result<Map<String, Value>, TokenError> {
    let scope = judge_extent(grant, form)?;
    let mut tokens = Map::new();
    tokens.insert("access_token".to_owned(), secret()?.into());
    tokens.insert("token_type".to_owned(), "Bearer".into());
    tokens.insert("expires_in".to_owned(), ACCESS_TOKEN_SECONDS.into());
    if !scope.is_empty() {
        tokens.insert("scope".to_owned(), scope.into());
    }
    if client.grant_types().contains(GrantTypes::REFRESH_TOKEN) {
        let refresh_token = match renewed {
            Some(renewed) => issued.refresh_tokens.renew(renewed, Arc::clone(grant)),
            None => issued.refresh_tokens.put(Arc::clone(grant)),
        };
        tokens.insert("refresh_token".to_owned(), refresh_token?.into());
    }
    Ok(tokens)
}

fn require_grant_type(client: &Client, grant_type: GrantTypes) -> Result<(), TokenError> {
    if client.grant_types().contains(grant_type) {
        Ok(())
    } else {
        Err(TokenError::new("unauthorized_client", "the client did not register this grant type"))
    }
}

fn verify_pkce(challenge: Option<&(String, CodeChallengeMethod)>, verifier: Option<&str>) -> Result<(), TokenError> {
    let (challenge, method, verifier) = match (challenge, verifier) {
        (None, None) => return Ok(()),
        // RFC 9700 §2.1.1: otherwise an attacker could strip the challenge from the authorization request.
        (None, Some(_)) => return Err(TokenError::new("invalid_grant", "there was no code_challenge")),
        (Some(_), None) => return Err(TokenError::new("invalid_grant", "code_verifier is missing")),
        (Some((challenge, method)), Some(verifier)) => (challenge, method, verifier),
    };
    let computed = match method {
        CodeChallengeMethod::S256 => Cow::Owned(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))),
        CodeChallengeMethod::Plain => Cow::Borrowed(verifier),
    };
    if bool::from(computed.as_bytes().ct_eq(challenge.as_bytes())) {
        Ok(())
    } else {
        Err(TokenError::new("invalid_grant", "code_verifier does not fit the code_challenge"))
    }
}

/// RFC 6749 §5.2
#[derive(Clone, Copy, Debug)]
struct TokenError {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
}

impl TokenError {
    const fn new(code: &'static str, description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, description }
    }
}

impl From<Refused> for TokenError {
    fn from(refused: Refused) -> Self {
        tracing::error!(error = %refused, "no token was issued");
        let (status, code) = match refused {
            Refused::NoEntropy => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
            Refused::Full => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        };
        Self { status, code, description: "please try again later" }
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        tracing::info!(error = self.code, reason = self.description, "request of a client refused");
        let body = Json(json!({ "error": self.code, "error_description": self.description }));
        (self.status, HEADERS, body).into_response()
    }
}
