//! The metadata document (RFC 8414).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use tower_oauth_client_validation::{Scope, server_metadata};
use url::Url;

use crate::args::Documents;
use crate::{REGISTER, Server, clients, registration};

/// Where clients look for it: before the path of the issuer, where it has one (RFC 8414 §3.1).
pub(crate) fn path(issuer: &str) -> String {
    format!("/.well-known/oauth-authorization-server{}", issuer_path(issuer))
}

/// The path of the issuer without a slash at its end; empty where it has none.
pub(crate) fn issuer_path(issuer: &str) -> String {
    Url::parse(issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

pub(crate) async fn document(State(server): State<Arc<Server>>) -> Json<Value> {
    let mut document = server_metadata(&server.policy)
        .authorization_endpoint(server.url("/authorize"))
        .token_endpoint(server.url("/token"))
        .token_endpoint_auth_methods(["none", "client_secret_basic", "client_secret_post"])
        .member("grant_types_supported", vec!["authorization_code", "refresh_token"])
        .metadata_documents(server.documents != Documents::Off);
    if server.registration.is_some() {
        document = document.registration_endpoint(server.url(REGISTER));
    }
    if let Some(scopes) = scopes(&server).await {
        document = document.grantable_scopes(&scopes);
    }
    Json(Value::Object(document.build()))
}

/// Some clients ask for all that is announced, so it must be what those get whom nobody configured.
async fn scopes(server: &Server) -> Option<Scope> {
    if server.registration.is_some() || server.documents != Documents::Off {
        return registration::scopes().ok();
    }
    // RECOMMENDED only (RFC 8414 §2): clients can do without while they cannot be listed.
    let listed = server.clients.listed().await.ok()?;
    Scope::from_tokens(clients::scopes(&listed)).ok().filter(|scopes| !scopes.is_empty())
}
