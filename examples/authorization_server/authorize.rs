//! The authorization endpoint behind the layer, and the answer of the consent page.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tower_oauth_client_validation::{
    AuthorizationError, Delivery, ErrorCode, RegistrySource, ReportedOutcome, ValidatedRequest,
};
use url::{Position, Url};

use crate::args::Documents;
use crate::store::{Code, NoEntropy, Taken};
use crate::{Server, consent, pages};

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
    if server.auto_approve {
        return approve(&server, &request, &method);
    }
    if let Some(elsewhere) = consent::at_the_issuers_name(&method, &uri, &headers, &server.issuer) {
        return elsewhere;
    }
    match server.tickets.put(request.clone()) {
        Ok(ticket) => {
            let document = document_host(&server, request.client_id()).await;
            pages::consent(&request, document.as_deref(), &ticket)
        }
        Err(NoEntropy) => failed(&request, &method),
    }
}

/// The host that vouches for a client whose id is the address of its metadata.
async fn document_host(server: &Server, client_id: &str) -> Option<String> {
    let address = Url::parse(client_id).ok().filter(|_| server.documents != Documents::Off)?;
    // Others may have such an id too, and nobody vouches for them.
    let is_held = !matches!(server.clients.held.find_client(client_id).await, Ok(None));
    (!is_held).then(|| address[Position::BeforeHost..Position::AfterPort].to_owned())
}

#[derive(Deserialize)]
pub(crate) struct Decided {
    ticket: String,
    decision: Decision,
}

#[derive(Deserialize)]
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
    let Taken::First(request) = server.tickets.take(&decided.ticket, |_| true) else {
        return pages::message(
            StatusCode::BAD_REQUEST,
            "This page was used before, or is too old",
            "Please go back to the application and start again.",
        );
    };
    match decided.decision {
        Decision::Approve => match consent::judge_again(&request, &server.clients.source, &server.validator).await {
            Ok(()) => approve(&server, &request, &Method::POST),
            Err(refused) => refused,
        },
        Decision::Deny => {
            let denied = AuthorizationError::new(ErrorCode::AccessDenied, "the user denied the request");
            request.error(&denied).into_http(&Method::POST)
        }
    }
}

fn approve(server: &Server, request: &ValidatedRequest, method: &Method) -> Response {
    match server.codes.put(Code::new(request)) {
        Ok(code) => request.success([("code", code.as_str())]).into_http(method),
        Err(NoEntropy) => failed(request, method),
    }
}

fn failed(request: &ValidatedRequest, method: &Method) -> Response {
    tracing::error!("the operating system gave no random bytes");
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
