//! The token endpoint (RFC 6749 §3.2, RFC 7636 §4.6, RFC 8707 §2.2).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower_oauth_client_validation::{
    BoxRegistry, BoxStore, Client, ClientKind, ClientStatus, CodeChallengeMethod, GrantTypes, RegistrySource,
    RegistryStore, StoreError, verify_client_secret,
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

/// How long an authorization code is good for, unless set otherwise (RFC 6749 §4.1.2 asks for ten minutes at most).
pub const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// One client can have as many unused codes.
const MAX_CODES: usize = 1_000;
/// One client can have as many refresh tokens.
const MAX_REFRESH_TOKENS: usize = 10_000;
/// Both stores can hold as many bytes each.
const MAX_BYTES: usize = 32 << 20;

/// What the server issues, and to whom.
#[allow(missing_debug_implementations, reason = "holds secrets")]
pub struct Tokens {
    clients: BoxRegistry,
    /// Where the use of a client is recorded.
    store: BoxStore,
    codes: OneTime<Code>,
    refresh_tokens: OneTime<Arc<Grant>>,
}

impl Tokens {
    /// Tokens for the clients of `clients`.
    #[must_use]
    pub fn new(clients: BoxRegistry, store: BoxStore, code_lifetime: Duration) -> Self {
        Self {
            clients,
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
            // A client of a file, a metadata document, or one that was removed meanwhile.
            Ok(()) | Err(StoreError::Missing) => {}
            Err(error) => tracing::warn!(client_id, error = %Causes(&error), "the use of a client was not recorded"),
        }
    }
}

/// The handler of the token endpoint.
pub async fn token(
    State(tokens): State<Arc<Tokens>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match answer(&tokens, &headers, body).await {
        Ok(tokens) => (HEADERS, Json(tokens)).into_response(),
        Err(error) => {
            tracing::info!(error = error.code, reason = error.description, "token request refused");
            let mut response = error.into_response();
            // Only for clients that used the header (RFC 6749 §5.2): others would read the challenge instead of the error.
            if response.status() == StatusCode::UNAUTHORIZED && headers.contains_key(AUTHORIZATION) {
                let challenge = HeaderValue::from_static("Basic realm=\"token endpoint\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

async fn answer(
    issued: &Tokens,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Map<String, Value>, TokenError> {
    let form = Form::read(headers, body)?;
    // Before anything else: a client that was removed must learn so, whatever it presents.
    let client = authenticate(issued, headers, &form).await?;
    let tokens = match form.get("grant_type") {
        Some("authorization_code") => redeem_code(issued, &client, &form)?,
        Some("refresh_token") => refresh(issued, &client, &form)?,
        Some(_) => {
            let description = "grant_type must be authorization_code or refresh_token";
            return Err(TokenError::new("unsupported_grant_type", description));
        }
        None => return Err(TokenError::new("invalid_request", "grant_type is missing")),
    };
    issued.record_use(client.id()).await;
    Ok(tokens)
}

fn redeem_code(issued: &Tokens, client: &Client, form: &Form) -> Result<Map<String, Value>, TokenError> {
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
fn refresh(issued: &Tokens, client: &Client, form: &Form) -> Result<Map<String, Value>, TokenError> {
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

/// The scope that the request may have; its resources are among those that were granted.
fn judge_extent<'a>(grant: &'a Grant, form: &'a Form) -> Result<&'a str, TokenError> {
    let granted = || grant.scope.split(' ');
    let scope = match form.get("scope") {
        // RFC 6749 §6: a refresh may ask for less, never for more.
        Some(asked) if asked.split(' ').all(|token| granted().any(|granted| granted == token)) => asked,
        Some(_) => return Err(TokenError::new("invalid_scope", "the scope goes beyond what was granted")),
        None => &grant.scope,
    };
    if !grant.resources.is_empty()
        && !form.all("resource").all(|asked| grant.resources.iter().any(|known| known == asked))
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
    form: &Form,
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

/// RFC 6749 §2.3. Every failure has the same answer.
async fn authenticate(issued: &Tokens, headers: &HeaderMap, form: &Form) -> Result<Arc<Client>, TokenError> {
    let credentials = Credentials::read(headers, form)?;
    let known = credentials.client_id.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
    let found = match known {
        true => issued.clients.find_client(&credentials.client_id).await,
        false => Ok(None),
    };
    let client = found.map_err(|error| {
        tracing::error!(error = %Causes(&error), "the client could not be looked up");
        if error.is_transient() { TokenError::UNAVAILABLE } else { TokenError::FAILED }
    })?;
    let unknown = TokenError::invalid_client("the client is unknown, or its secret is wrong");
    let client = client.ok_or(unknown)?;
    if client.status() != ClientStatus::Active || client.is_expired_at(SystemTime::now()) {
        return Err(unknown);
    }
    let is_right = match client.kind() {
        ClientKind::Public => credentials.secrets.is_empty(),
        ClientKind::Confidential => credentials.secrets.iter().any(|secret| is_secret_of(&client, secret)),
    };
    is_right.then_some(client).ok_or(unknown)
}

/// Accepts the secret in the header and in the body: many clients use the method that they did not register.
fn is_secret_of(client: &Client, presented: &str) -> bool {
    let metadata = |name| client.metadata().and_then(|metadata| metadata.get(name)).and_then(Value::as_str);
    let uses_secret = matches!(metadata("token_endpoint_auth_method"), None | Some("client_secret_post"));
    match metadata("client_secret") {
        // Digests have one length, so the time does not depend on that of the secret.
        Some(secret) if uses_secret => Sha256::digest(secret).ct_eq(&Sha256::digest(presented)).into(),
        None if uses_secret => verify_client_secret(client, presented),
        _ => {
            tracing::warn!(
                client_id = client.id(),
                "this server supports clients with a secret and public clients only"
            );
            false
        }
    }
}

struct Credentials {
    client_id: String,
    /// The readings of the secret that was sent, if any.
    secrets: Vec<String>,
}

impl Credentials {
    fn read(headers: &HeaderMap, form: &Form) -> Result<Self, TokenError> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            let client_id = form.get("client_id").ok_or(TokenError::invalid_client("client_id is missing"))?;
            return Ok(Self {
                client_id: client_id.to_owned(),
                secrets: form.get("client_secret").map(str::to_owned).into_iter().collect(),
            });
        };
        let unreadable = TokenError::invalid_client("the Authorization header must hold Basic credentials");
        let credentials = Self::basic(header).ok_or(unreadable)?;
        if form.get("client_secret").is_some() {
            return Err(TokenError::new("invalid_request", "the client used two ways to authenticate"));
        }
        if form.get("client_id").is_some_and(|client_id| client_id != credentials.client_id) {
            return Err(TokenError::new("invalid_request", "client_id is not that of the Authorization header"));
        }
        Ok(credentials)
    }

    /// Both halves are form-encoded (RFC 6749 §2.3.1), but many clients do not encode the secret.
    fn basic(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (client_id, secret) = decoded.split_once(':')?;
        let form_decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(Cow::into_owned);
        let secrets = form_decode(secret).into_iter().chain([secret.to_owned()]);
        Some(Self {
            client_id: form_decode(client_id)?,
            secrets: secrets.filter(|secret| !secret.is_empty()).collect(),
        })
    }
}

/// The parameters of the body.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Self, TokenError> {
        let body = body.map_err(|error| TokenError {
            status: error.status(),
            ..TokenError::new("invalid_request", "the body is too large or broke off")
        })?;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(TokenError::new("invalid_request", "the body must be application/x-www-form-urlencoded"));
        }
        let mut parameters: Vec<(String, String)> = serde_urlencoded::from_bytes(&body)
            .map_err(|_| TokenError::new("invalid_request", "the body must be application/x-www-form-urlencoded"))?;
        let mut names: Vec<&str> =
            parameters.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "resource").collect();
        names.sort_unstable();
        // RFC 6749 §3.2
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(TokenError::new("invalid_request", "a parameter is repeated"));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
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
    const UNAVAILABLE: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "temporarily_unavailable",
        description: "please try again later",
    };
    const FAILED: Self =
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "server_error", description: "the server failed" };

    const fn new(code: &'static str, description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, description }
    }

    const fn invalid_client(description: &'static str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, code: "invalid_client", description }
    }
}

impl From<Refused> for TokenError {
    fn from(refused: Refused) -> Self {
        tracing::error!(error = %refused, "no token was issued");
        match refused {
            Refused::NoEntropy => Self::FAILED,
            Refused::Full => Self::UNAVAILABLE,
        }
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.code, "error_description": self.description }));
        (self.status, HEADERS, body).into_response()
    }
}
