//! An authorization server in front of an identity provider that knows only this server: what many MCP servers are.
//!
//! `cargo run --release --features full --example mcp_proxy -- --upstream https://login.example`
//!
//! Applications register here, and at the identity provider where it takes registrations; people sign in there, under
//! the client id of this server. The identity provider asks them once whether *this server* may sign them in. So this
//! server asks for each application, before it sends anybody on: else whoever registers an application could pick up
//! what people allowed for another one (the confused deputy of the MCP specification). What the identity provider
//! issues stays here, and applications get tokens of this server.
//!
//! Clients are those of `ALLOWED_MCP_CLIENTS`, and those that register until the program ends.

mod args;
mod browser;
#[path = "../shared/consent.rs"]
mod consent;
mod flow;
#[path = "../shared/serve.rs"]
mod serve;
mod upstream;

// As in the other example.
#[path = "../authorization_server/pages.rs"]
mod pages;
#[path = "../authorization_server/store.rs"]
mod store;
#[path = "../authorization_server/token.rs"]
mod token;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::Value;
use tower::Layer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_oauth_client_validation::{
    BoxRegistry, BoxStore, ClientValidationLayer, DEFAULT_MAX_BODY_BYTES, Environment, GrantTypes, Policy,
    RegistrationPolicy, RegistrationService, RegistrySource, RegistryStore, UpstreamRegistration, Validator,
    server_metadata,
};
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::browser::Browser;
use crate::flow::{Asked, Forwarded};
use crate::store::{Code, Grant, OneTime};
use crate::upstream::Upstream;

/// How long a person may take for a page.
const PATIENCE: Duration = Duration::from_secs(600);

/// All that the handlers share.
struct Server {
    issuer: String,
    validator: Validator,
    clients: Clients,
    upstream: Upstream,
    browser: Browser,
    asked: OneTime<Asked>,
    forwarded: OneTime<Forwarded>,
    codes: OneTime<Code>,
    refresh_tokens: OneTime<Arc<Grant>>,
}

struct Clients {
    source: BoxRegistry,
    store: BoxStore,
}

impl Clients {
    /// Remembers that a client got tokens.
    async fn touch(&self, client_id: &str) {
        if let Err(error) = self.store.touch(client_id, SystemTime::now()).await {
            tracing::warn!(client_id, %error, "the use of a client was not recorded");
        }
    }
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::from_command_line() {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error} (--help lists what there is)");
            return ExitCode::from(2);
        }
    };
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
    let server = Server {
        validator: Validator::new(Policy::mcp().insecure_http_issuer(&issuer).build()?),
        browser: Browser::of(&issuer),
        issuer,
        clients: Clients { source: registry.clone().boxed(), store: registry.boxed_store() },
        upstream,
        asked: OneTime::new(PATIENCE),
        forwarded: OneTime::new(PATIENCE),
        codes: OneTime::new(Duration::from_secs(60)),
        refresh_tokens: OneTime::new(Duration::from_secs(30 * 24 * 3600)),
    };
    let app = router(Arc::new(server))?;
    bound.serve(app).await?;
    Ok(())
}

fn router(server: Arc<Server>) -> Result<Router, Box<dyn Error>> {
    let validation = ClientValidationLayer::new(Arc::clone(&server.clients.source)).validator(server.validator.clone());
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(AllowHeaders::mirror_request());
    let router = Router::new()
        .route("/authorize", any(flow::authorize).layer(validation))
        .route("/consent", post(flow::decide))
        .route("/callback", get(flow::callback))
        .route("/token", post(token::token).layer(cors.clone()))
        .route("/.well-known/oauth-authorization-server", get(metadata).layer(cors.clone()))
        .nest_service("/register", cors.layer(registration(&server)?))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(DEFAULT_MAX_BODY_BYTES))
        .with_state(server);
    Ok(router)
}

/// Where the upstream takes registrations it decides about them, and keeps them too.
fn registration(server: &Server) -> Result<Router, Box<dyn Error>> {
    let (store, endpoint) = (Arc::clone(&server.clients.store), server.url("/register"));
    let policy = RegistrationPolicy::new().grant_types(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::REFRESH_TOKEN));
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

async fn metadata(State(server): State<Arc<Server>>) -> Json<Value> {
    let mut document = server_metadata(server.validator.policy())
        .authorization_endpoint(server.url("/authorize"))
        .token_endpoint(server.url("/token"))
        .registration_endpoint(server.url("/register"))
        .token_endpoint_auth_methods(["none", "client_secret_basic", "client_secret_post"])
        .member("grant_types_supported", vec!["authorization_code", "refresh_token"])
        .metadata_documents(false);
    if let Some(scopes) = server.upstream.scopes() {
        document = document.grantable_scopes(scopes);
    }
    Json(Value::Object(document.build()))
}
