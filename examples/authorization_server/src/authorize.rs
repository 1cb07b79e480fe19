//! The authorization endpoint behind the layer, and the consent form.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use shared::causes::Causes;
use shared::consent::{self, Decided, Decision};
use shared::pages;
use shared::store::Code;
use tower_oauth_client_validation::{
    AsyncCheck, AuthorizationError, Delivery, ErrorCode, Prompt, ReportedOutcome, ValidatedRequest,
};
use url::{Position, Url};

use crate::Server;
use crate::args::Documents;

pub(crate) async fn authorize(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    validated: Option<ValidatedRequest>,
    reported: Option<Extension<ReportedOutcome>>,
) -> Response {
    // The layer passes it on for CORS, which this endpoint does not take part in.
    if method == Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(ALLOW, "GET, HEAD, POST, OPTIONS")]).into_response();
    }
    let Some(request) = validated else {
        return would_have_been_refused(reported.as_deref());
    };
    // HEAD is safe (RFC 9110 §9.2.1): it must not issue a code.
    if method == Method::HEAD {
        return pages::headers().into_response();
    }
    if server.auto_approve {
        return approve(&server, &request, &method, &headers).await;
    }
    if let Some(elsewhere) = consent::redirect_to_issuer(&method, &uri, &headers, &server.issuer) {
        return elsewhere;
    }
    // Nobody signs in, so the seal is not bound to a user. A real server binds it to the session.
    match server.sealer.seal(&request) {
        Ok(sealed) => {
            let document = document_host(&server, request.client_id()).await;
            pages::consent(&request, document.as_deref(), &sealed)
        }
        Err(error) => failed(&request, &method, &error),
    }
}

/// Refuses `prompt=none` where a code needs the consent page (OpenID Connect Core §3.1.2.6).
///
/// As a check of the layer: an error that a handler redirects at once would let strangers use the server as a redirector
/// (RFC 9700 §4.11.2).
pub(crate) struct SilentRequests {
    pub(crate) are_answered: bool,
}

impl AsyncCheck for SilentRequests {
    async fn check(&self, _request: &Parts, validated: &ValidatedRequest) -> Result<(), AuthorizationError> {
        if self.are_answered || validated.prompts().all(|prompt| prompt != Prompt::None) {
            return Ok(());
        }
        Err(AuthorizationError::new(ErrorCode::ConsentRequired, "the user must be asked for consent"))
    }
}

/// The host of the client's metadata document, if its id is the address of one.
async fn document_host(server: &Server, client_id: &str) -> Option<String> {
    let address = Url::parse(client_id).ok().filter(|_| server.documents != Documents::Off)?;
    // A client that is registered here may have such an id too, without a document.
    server.clients.is_document(client_id).await.then(|| address[Position::BeforeHost..Position::AfterPort].to_owned())
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
        return consent::start_again();
    };
    let opened = consent::open(&server.sealer, &sealed_request, &server.clients.source, &server.validator).await;
    let request = match opened {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    match decision {
        Decision::Approve => approve(&server, &request, &Method::POST, &headers).await,
        Decision::Deny => {
            let denied = AuthorizationError::new(ErrorCode::AccessDenied, "the user denied the request");
            request.error(&denied).into_http(&Method::POST)
        }
    }
}

async fn approve(server: &Server, request: &ValidatedRequest, method: &Method, headers: &HeaderMap) -> Response {
    // A pushed request gets one code, on whichever node.
    if let Err(error) = request.use_up().await {
        tracing::info!(error = %Causes(&error), "a pushed request was not used up");
        return error.into_rejection().into_http(method, headers);
    }
    match server.tokens.issue_code(Code::new(request)) {
        Ok(code) => request.success([("code", code.as_str())]).into_http(method),
        Err(error) => failed(request, method, &error),
    }
}

fn failed(request: &ValidatedRequest, method: &Method, error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "the request could not be completed");
    request.error(&AuthorizationError::new(ErrorCode::ServerError, "the server failed")).into_http(method)
}

/// Only with `--report-only`: otherwise such a request does not get here.
fn would_have_been_refused(reported: Option<&ReportedOutcome>) -> Response {
    let text = match reported {
        Some(ReportedOutcome::Rejected(rejection)) => {
            let to = match rejection.delivery() {
                Delivery::Redirect => "sent to the redirect URI",
                _ => "shown to the user agent",
            };
            format!(
                "report-only: would have been refused\nerror: {}\nreason: {}\ndescription: {}\nanswer: {to}\n",
                rejection.error(),
                rejection.reason().as_str(),
                rejection.description(),
            )
        }
        _ => "report-only: was not judged\n".to_owned(),
    };
    (pages::headers(), text).into_response()
}
