//! An authorization server in front of an identity provider that knows only this server: what many MCP servers are.
//!
//! `cargo run --release -p mcp_proxy -- --upstream https://login.example`
//!
//! Applications register here, and at the identity provider if it accepts registrations. Users sign in at the identity
//! provider, under the client id of this server, and it asks them only once whether *this server* may sign them in. So
//! this server asks for each application before it forwards anybody. Otherwise anyone could register an application and
//! use what users allowed for another one (the confused deputy of the MCP specification). The tokens of the identity
//! provider stay here; applications get tokens of this server.
//!
//! The clients are those of `ALLOWED_MCP_CLIENTS` and those that register, until the program ends.

mod args;
mod browser;
mod flow;
mod upstream;
mod verifier;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use clap::Parser;
use serde_json::Value;
use shared::token::{CODE_LIFETIME, Tokens};
use shared::{consent, pages, serve, token};
use tower::{Layer, ServiceBuilder};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_oauth_client_validation::{
    BoxRegistry, BoxStore, ClientAuthenticationLayer, ClientValidationLayer, DEFAULT_MAX_BODY_BYTES, Environment,
    FetchedKeys, GrantTypes, MemoryStateStore, Policy, RegistrationPolicy, RegistrationService, RegistrySource,
    RegistryStore, RequestSealer, SealKeys, UpstreamRegistration, Validator, server_metadata,
};
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::browser::Browser;
use crate::upstream::Upstream;
use crate::verifier::CodeVerifiers;

/// How long a user may take here, and at the identity provider.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the handlers share.
struct Server {
    issuer: String,
    validator: Validator,
    clients: Clients,
    upstream: Upstream,
    browser: Browser,
    sealer: RequestSealer,
    verifiers: CodeVerifiers,
    tokens: Arc<Tokens>,
    authentication: ClientAuthenticationLayer<BoxRegistry>,
}

struct Clients {
    source: BoxRegistry,
    store: BoxStore,
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }
}

/// The program.
#[must_use]
#[tokio::main]
pub async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let bound = serve::bind(&args.listen, args.issuer).await?;
    let issuer = bound.issuer.clone();
    let upstream = Upstream::discover(&args.upstream, args.upstream_client, &format!("{issuer}/callback")).await?;
    let registry = Environment::from_process().into_registry();
    let clients = Clients { source: registry.clone().boxed(), store: registry.boxed_store() };
    let authentication = token::authentication_policy(&issuer, Arc::new(MemoryStateStore::new()));
    // Clients that register may name the address of their keys.
    let authentication = authentication.keys(FetchedKeys::builder().build()?).build()?;
    let server = Server {
        validator: Validator::new(Policy::mcp().insecure_http_issuer(&issuer).build()?),
        browser: Browser::of(&issuer),
        issuer,
        tokens: Arc::new(Tokens::new(Arc::clone(&clients.store), CODE_LIFETIME)),
        authentication: ClientAuthenticationLayer::new(Arc::clone(&clients.source), authentication),
        clients,
        upstream,
        sealer: RequestSealer::new(SealKeys::generate()?).lifetime(PATIENCE),
        verifiers: CodeVerifiers::new()?,
    };
    let app = router(Arc::new(server))?;
    bound.serve(app).await?;
    Ok(())
}

fn router(server: Arc<Server>) -> Result<Router, Box<dyn Error>> {
    let validation = ClientValidationLayer::new(Arc::clone(&server.clients.source)).validator(server.validator.clone());
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(AllowHeaders::mirror_request());
    let issuer = server.issuer.clone();
    let programs_only = from_fn(move |request, next| consent::programs_only(issuer.clone(), request, next));
    let called_by_clients = |handler: MethodRouter<Arc<Tokens>>| {
        let layers = ServiceBuilder::new().layer(cors.clone()).layer(server.authentication.clone());
        handler.with_state(Arc::clone(&server.tokens)).layer(layers)
    };
    let router = Router::new()
        .route("/authorize", any(flow::authorize).layer(validation))
        .route("/consent", post(flow::decide))
        .route("/callback", get(flow::callback))
        .route("/token", called_by_clients(post(token::token)))
        .route("/revoke", called_by_clients(post(token::revoke)))
        .route("/.well-known/oauth-authorization-server", get(metadata).layer(cors.clone()))
        .nest_service("/register", programs_only.layer(registration(&server)?))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(DEFAULT_MAX_BODY_BYTES))
        .with_state(server);
    Ok(router)
}

/// Registers clients at the upstream too, if it accepts registrations: then it decides about them.
fn registration(server: &Server) -> Result<Router, Box<dyn Error>> {
    let (store, endpoint) = (Arc::clone(&server.clients.store), server.url("/register"));
    let policy = RegistrationPolicy::new()
        .grant_types(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::REFRESH_TOKEN))
        .auth_methods(server.authentication.authenticator().policy().methods());
    if let Some(upstream) = server.upstream.registration() {
        let service = UpstreamRegistration::new(store, &endpoint, upstream, policy)?;
        return Ok(Router::new().fallback_service(service));
    }
    let policy = match server.upstream.scopes() {
        Some(scopes) => policy.allowed_scopes(scopes.clone()).default_scopes(scopes.clone()),
        None => policy,
    };
    Ok(Router::new().fallback_service(RegistrationService::new(store, &endpoint, policy)?))
}

async fn metadata(State(server): State<Arc<Server>>) -> impl IntoResponse {
    let document = server_metadata(server.validator.policy())
        .authorization_endpoint(server.url("/authorize"))
        .token_endpoint(server.url("/token"))
        .revocation_endpoint(server.url("/revoke"))
        .registration_endpoint(server.url("/register"));
    let mut document =
        token::announce(document, server.authentication.authenticator().policy()).metadata_documents(false);
    if let Some(scopes) = server.upstream.scopes() {
        document = document.grantable_scopes(scopes);
    }
    ([(X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(Value::Object(document.build())))
}
