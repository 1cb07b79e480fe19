//! The metadata document (RFC 8414).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::response::IntoResponse;
use serde_json::Value;
use shared::token;
use tower_oauth_client_validation::{Scope, server_metadata};
use url::Url;

use crate::args::Documents;
use crate::{PAR, REGISTER, Server, clients, registration};

/// Where clients look for the document: the well-known part precedes the issuer's path (RFC 8414 §3.1).
pub(crate) fn path(issuer: &str) -> String {
    format!("/.well-known/oauth-authorization-server{}", issuer_path(issuer))
}

/// The path of the issuer without its final slash.
pub(crate) fn issuer_path(issuer: &str) -> String {
    Url::parse(issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

pub(crate) async fn document(State(server): State<Arc<Server>>) -> impl IntoResponse {
    let document = server_metadata(&server.policy)
        .authorization_endpoint(server.url("/authorize"))
        .token_endpoint(server.url("/token"))
        .pushed_authorization_request_endpoint(server.url(PAR))
        .revocation_endpoint(server.url("/revoke"))
        .signed_requests(&server.signed);
    let mut document = token::announce(document, server.authentication.authenticator().policy())
        .metadata_documents(server.documents != Documents::Off);
    if server.registration.is_some() {
        document = document.registration_endpoint(server.url(REGISTER));
    }
    if let Some(scopes) = scopes(&server).await {
        document = document.grantable_scopes(&scopes);
    }
    ([(X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(Value::Object(document.build())))
}

/// Some clients ask for every scope that is announced, so dynamically registered ones must be allowed them.
async fn scopes(server: &Server) -> Option<Scope> {
    if server.registration.is_some() || server.documents != Documents::Off {
        return registration::scopes().ok();
    }
    // Optional (RFC 8414 §2), so the document leaves it out if the registry fails.
    let listed = server.clients.listed().await.ok()?;
    Scope::from_tokens(clients::scopes(&listed)).ok().filter(|scopes| !scopes.is_empty())
}
