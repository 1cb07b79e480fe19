//! The metadata document (RFC 8414).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use url::Url;

use crate::args::Documents;
use crate::registration::SCOPES;
use crate::{REGISTER, Server};

/// Where clients look for it: before the path of the issuer, where it has one (RFC 8414 §3.1).
pub(crate) fn path(issuer: &str) -> String {
    let issuer_path = Url::parse(issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    format!("/.well-known/oauth-authorization-server{issuer_path}")
}

pub(crate) async fn document(State(server): State<Arc<Server>>) -> Json<Value> {
    let mut document = json!({
        "issuer": server.issuer,
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    document["client_id_metadata_document_supported"] = json!(server.documents != Documents::Off);
    if server.registration.is_some() {
        document["registration_endpoint"] = json!(server.url(REGISTER));
    }
    // Some clients ask for all that is announced, so it must be what any client gets.
    if server.registration.is_some() || server.documents != Documents::Off {
        document["scopes_supported"] = SCOPES.split(' ').collect();
    } else if !server.clients.scopes.is_empty() {
        document["scopes_supported"] = json!(server.clients.scopes);
    }
    Json(document)
}
