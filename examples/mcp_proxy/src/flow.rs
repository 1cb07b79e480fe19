//! From the application's request to the upstream, and back.

use std::error::Error;
use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::header::{ALLOW, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use shared::consent::{self, Decided, Decision, start_again};
use shared::pages;
use shared::store::{Code, Grant, secret};
use tower_oauth_client_validation::{AuthorizationError, ErrorCode, ValidatedRequest};

use crate::upstream::Narrowed;
use crate::{PATIENCE, Server};

/// Browsers drop larger cookies.
const MAX_COOKIE_BYTES: usize = 3_500;

/// Always asks: a consent that the upstream remembers was given to this server, not to the application.
pub(crate) async fn authorize(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    validated: Option<ValidatedRequest>,
) -> Response {
    let Some(request) = validated else {
        return (StatusCode::NO_CONTENT, [(ALLOW, "GET, HEAD, POST, OPTIONS")]).into_response();
    };
    if let Some(elsewhere) = consent::redirect_to_issuer(&method, &uri, &headers, &server.issuer) {
        return elsewhere;
    }
    ask(&server, &request).unwrap_or_else(|error| failed(&request, &method, &error))
}

/// Shows the consent page. Its sealed request opens only with the cookie that comes with it.
fn ask(server: &Server, request: &ValidatedRequest) -> Result<Response, Box<dyn Error>> {
    let mark = secret()?;
    let sealed = server.sealer.clone().bound_to(&mark).seal(request)?;
    let mut page = pages::consent(request, None, &sealed);
    server.browser.set(&mut page, cookie_of(&sealed), &mark, PATIENCE);
    Ok(page)
}

/// The end of a seal names its cookie: it is different for each, unlike the beginning.
fn cookie_of(sealed: &str) -> &str {
    sealed.len().checked_sub(16).and_then(|at| sealed.get(at..)).unwrap_or(sealed)
}

pub(crate) async fn decide(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    decided: Result<Form<Decided>, FormRejection>,
) -> Response {
    if let Err(refused) = consent::refuse_other_sites(&headers, &server.issuer) {
        return refused;
    }
    let Ok(Form(Decided { sealed_request, decision })) = decided else {
        return start_again();
    };
    let mark = server.browser.get(&headers, cookie_of(&sealed_request)).unwrap_or_default();
    let request = match open(&server, &sealed_request, mark).await {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    let mut response = match decision {
        Decision::Approve => forward(&server, &request).unwrap_or_else(|error| failed(&request, &Method::POST, &error)),
        Decision::Deny => denied(&request, &Method::POST),
    };
    server.browser.clear(&mut response, cookie_of(&sealed_request));
    response
}

/// The sealed request of the browser that has this mark.
async fn open(server: &Server, sealed: &str, mark: &str) -> Result<ValidatedRequest, Response> {
    let sealer = server.sealer.clone().bound_to(mark);
    consent::open(&sealer, sealed, &server.clients.source, &server.validator).await
}

/// Sends the browser to the upstream. The request travels in a cookie that only the new `state` unlocks, so there is no
/// `state` without consent.
fn forward(server: &Server, request: &ValidatedRequest) -> Result<Response, Box<dyn Error>> {
    let state = secret()?;
    let sealed = server.sealer.clone().bound_to(&state).seal(request)?;
    if sealed.len() > MAX_COOKIE_BYTES {
        let too_long = AuthorizationError::new(ErrorCode::InvalidRequest, "the request is too long");
        return Ok(request.error(&too_long).into_http(&Method::POST));
    }
    let code_verifier = server.verifiers.derive(&state);
    let code_challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(code_verifier));
    let url = server.upstream.authorization_url(&state, &code_challenge, request.scope());
    let location = HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static("/"));
    let mut response = (StatusCode::SEE_OTHER, pages::headers(), [(LOCATION, location)]).into_response();
    server.browser.set(&mut response, &state, &sealed, PATIENCE);
    Ok(response)
}

/// The response of the upstream (RFC 6749 §4.1.2, RFC 9207).
#[derive(Deserialize)]
pub(crate) struct Answered {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

pub(crate) async fn callback(
    State(server): State<Arc<Server>>,
    method: Method,
    headers: HeaderMap,
    answered: Result<Query<Answered>, QueryRejection>,
) -> Response {
    // HEAD is safe (RFC 9110 §9.2.1): it must not redeem the code.
    if method == Method::HEAD {
        return pages::headers().into_response();
    }
    let Ok(Query(answered)) = answered else {
        return start_again();
    };
    let state = &answered.state;
    let sealed = server.browser.get(&headers, state).unwrap_or_default();
    let mut response = match open(&server, sealed, state).await {
        Ok(request) => finish(&server, &request, &answered).await,
        Err(refused) => refused,
    };
    server.browser.clear(&mut response, state);
    response
}

async fn finish(server: &Server, request: &ValidatedRequest, answered: &Answered) -> Response {
    if !server.upstream.is_issuer(answered.iss.as_deref()) {
        return failed(request, &Method::GET, &"the response came from another issuer");
    }
    let code = match (&answered.code, answered.error.as_deref()) {
        (Some(code), None) => code,
        (_, Some("access_denied")) => return denied(request, &Method::GET),
        (_, Some("invalid_scope")) => {
            let refused = AuthorizationError::new(ErrorCode::InvalidScope, "the identity provider refused the scope");
            return request.error(&refused).into_http(&Method::GET);
        }
        (_, error) => {
            let error = format!("the upstream answered {:?}", error.unwrap_or_default());
            return failed(request, &Method::GET, &error);
        }
    };
    let code_verifier = server.verifiers.derive(&answered.state);
    // A real server stores the tokens of the upstream with the grant. They never go to the application.
    let Narrowed { scope } = match server.upstream.redeem(code, &code_verifier, request.scope()).await {
        Ok(narrowed) => narrowed,
        Err(error) => return failed(request, &Method::GET, &error),
    };
    if scope.is_empty() && !request.scope().is_empty() {
        let refused = AuthorizationError::new(ErrorCode::InvalidScope, "the identity provider granted no scope");
        return request.error(&refused).into_http(&Method::GET);
    }
    // A pushed request gets one code. Every other request passes.
    if let Err(error) = request.use_up().await {
        return error.into_response();
    }
    let mut grant = Grant::new(request);
    grant.scope = scope;
    match server.tokens.issue_code(Code { grant: Arc::new(grant), ..Code::new(request) }) {
        Ok(code) => request.success([("code", code.as_str())]).into_http(&Method::GET),
        Err(error) => failed(request, &Method::GET, &error),
    }
}

fn denied(request: &ValidatedRequest, method: &Method) -> Response {
    request.error(&AuthorizationError::new(ErrorCode::AccessDenied, "the user denied the request")).into_http(method)
}

fn failed(request: &ValidatedRequest, method: &Method, error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "the request of an application failed");
    request.error(&AuthorizationError::new(ErrorCode::ServerError, "the server failed")).into_http(method)
}
