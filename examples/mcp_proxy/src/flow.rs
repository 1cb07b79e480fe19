//! From the request of an application to the upstream, and back.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Form, Query, State};
use axum::http::header::{ALLOW, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use shared::store::{Code, Grant, NoEntropy, Taken, secret};
use shared::{consent, pages};
use tower_oauth_client_validation::{AuthorizationError, ErrorCode, ValidatedRequest};

use crate::browser::Browser;
use crate::upstream::Narrowed;
use crate::Server;

/// A person was asked whether this application may do this.
#[derive(Clone)]
pub(crate) struct Asked {
    request: ValidatedRequest,
    mark: String,
}

/// A person said yes, and is on the way to the upstream.
#[derive(Clone)]
pub(crate) struct Forwarded {
    request: ValidatedRequest,
    mark: String,
    code_verifier: String,
}

/// Always asks: that the upstream has been told yes before says nothing about this application.
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
    if let Some(elsewhere) = consent::at_the_issuers_name(&method, &uri, &headers, &server.issuer) {
        return elsewhere;
    }
    ask(&server, &request).unwrap_or_else(|NoEntropy| failed(&request, &method))
}

fn ask(server: &Server, request: &ValidatedRequest) -> Result<Response, NoEntropy> {
    let mark = Browser::mark()?;
    let ticket = server.asked.put(Asked { request: request.clone(), mark: mark.clone() })?;
    let mut page = pages::consent(request, None, &ticket);
    server.browser.set(&mut page, &ticket, &mark);
    Ok(page)
}

#[derive(Deserialize)]
pub(crate) struct Decided {
    ticket: String,
    decision: Decision,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Approve,
    Deny,
}

pub(crate) async fn decide(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Form(decided): Form<Decided>,
) -> Response {
    if let Err(refused) = consent::refuse_other_sites(&headers, &server.issuer) {
        return refused;
    }
    let ticket = decided.ticket;
    let taken = server.asked.take(&ticket, |asked| server.browser.has(&headers, &ticket, &asked.mark));
    let Taken::First(Asked { request, .. }) = taken else {
        return start_again();
    };
    let mut response = match decided.decision {
        Decision::Approve => match consent::judge_again(&request, &server.clients.source, &server.validator).await {
            Ok(()) => forward(&server, &request).unwrap_or_else(|NoEntropy| failed(&request, &Method::POST)),
            Err(refused) => refused,
        },
        Decision::Deny => denied(&request, &Method::POST),
    };
    server.browser.clear(&mut response, &ticket);
    response
}

/// The state comes to be only now, so that none can be had without a yes.
fn forward(server: &Server, request: &ValidatedRequest) -> Result<Response, NoEntropy> {
    let (mark, code_verifier) = (Browser::mark()?, secret()?);
    let code_challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&code_verifier));
    let forwarded = Forwarded { request: request.clone(), mark: mark.clone(), code_verifier };
    let state = server.forwarded.put(forwarded)?;
    let url = server.upstream.authorization_url(&state, &code_challenge, request.scope());
    let location = HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static("/"));
    let mut response = (StatusCode::SEE_OTHER, pages::headers(), [(LOCATION, location)]).into_response();
    server.browser.set(&mut response, &state, &mark);
    Ok(response)
}

/// What the upstream answers with (RFC 6749 §4.1.2, RFC 9207).
#[derive(Deserialize)]
pub(crate) struct Answered {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

pub(crate) async fn callback(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    answered: Result<Query<Answered>, QueryRejection>,
) -> Response {
    let Ok(Query(answered)) = answered else {
        return start_again();
    };
    let state = &answered.state;
    let taken = server.forwarded.take(state, |forwarded| server.browser.has(&headers, state, &forwarded.mark));
    let Taken::First(Forwarded { request, code_verifier, .. }) = taken else {
        return start_again();
    };
    let mut response = finish(&server, &request, &answered, &code_verifier).await;
    server.browser.clear(&mut response, state);
    response
}

async fn finish(server: &Server, request: &ValidatedRequest, answered: &Answered, code_verifier: &str) -> Response {
    if !server.upstream.is_issuer(answered.iss.as_deref()) {
        tracing::warn!("an answer of another issuer came to the callback of the upstream");
        return failed(request, &Method::GET);
    }
    let code = match (&answered.code, answered.error.as_deref()) {
        (Some(code), None) => code,
        (_, Some("access_denied")) => return denied(request, &Method::GET),
        (_, Some("invalid_scope")) => {
            let refused = AuthorizationError::new(ErrorCode::InvalidScope, "the identity provider refused the scope");
            return request.error(&refused).into_http(&Method::GET);
        }
        (_, error) => {
            tracing::error!(error, "the upstream refused");
            return failed(request, &Method::GET);
        }
    };
    match server.upstream.redeem(code, code_verifier, request.scope()).await {
        // A real server keeps the tokens of the upstream beside the grant. They never go to the application.
        Ok(Narrowed { scope }) => {
            let mut grant = Grant::new(request);
            grant.scope = scope;
            let code = Code { grant: Arc::new(grant), ..Code::new(request) };
            match server.tokens.issue_code(code) {
                Ok(code) => request.success([("code", code.as_str())]).into_http(&Method::GET),
                Err(NoEntropy) => failed(request, &Method::GET),
            }
        }
        Err(error) => {
            tracing::error!(error, "the upstream gave no tokens");
            failed(request, &Method::GET)
        }
    }
}

fn denied(request: &ValidatedRequest, method: &Method) -> Response {
    request.error(&AuthorizationError::new(ErrorCode::AccessDenied, "the user denied the request")).into_http(method)
}

fn failed(request: &ValidatedRequest, method: &Method) -> Response {
    request.error(&AuthorizationError::new(ErrorCode::ServerError, "the server failed")).into_http(method)
}

fn start_again() -> Response {
    pages::message(
        StatusCode::BAD_REQUEST,
        "This cannot go on here",
        "It was begun in another browser, was used before, or is too old. Please go back to the application and start again.",
    )
}
