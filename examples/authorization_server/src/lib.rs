//! A small but complete authorization server: authorization endpoint with a consent page, token endpoint, client
//! registration, metadata document, and a start page whose links show how requests are answered.
//!
//! `cargo run --release -p authorization_server`
//!
//! Nobody signs in: a real server asks for that before it shows the consent page.

mod args;
mod authorize;
mod clients;
mod metadata;
mod registration;
mod start;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::from_fn;
use axum::response::Redirect;
use axum::routing::{MethodRouter, any, get, post};
use clap::Parser;
use shared::token::Tokens;
use shared::{consent, pages, serve, token};
use tower::util::MapRequestLayer;
use tower::{Layer, ServiceBuilder};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::trace::TraceLayer;
use tower_oauth_client_validation::{
    BoxRegistry, ClientAuthenticationLayer, ClientValidationLayer, ConfigError, DEFAULT_MAX_BODY_BYTES, Policy,
    PushedRequestService, PushedRequests, RedirectErrors, RegistrationPolicy, RegistrationService, RequestSealer,
    SealKeys, SignedRequests, Validator,
};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::args::{Args, Documents};
use crate::clients::{Clients, StartError};

const DEMO_CALLBACK: &str = "/demo/callback";
const REGISTER: &str = "/register";
const PAR: &str = "/par";

/// How long a user may take on the consent page.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the handlers share.
struct Server {
    issuer: String,
    policy: Policy,
    validator: Validator,
    clients: Clients,
    registration: Option<RegistrationPolicy>,
    code_lifetime: Duration,
    documents: Documents,
    auto_approve: bool,
    report_only: bool,
    sealer: RequestSealer,
    signed: SignedRequests,
    pushed: PushedRequests,
    tokens: Arc<Tokens>,
    authentication: ClientAuthenticationLayer<BoxRegistry>,
}

impl Server {
    fn url(&self, path: &str) -> String {
        url(&self.issuer, path)
    }
}

fn url(issuer: &str, path: &str) -> String {
    format!("{}{path}", issuer.trim_end_matches('/'))
}

/// The program.
#[must_use]
#[tokio::main]
pub async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();

    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is::<StartError>() { 2 } else { 1 })
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let bound = serve::bind(&args.listen, args.issuer.clone()).await?;
    let issuer = bound.issuer.clone();
    let documents = args.documents();
    let mut clients = Clients::open(args.registry.as_ref(), &Url::parse(&url(&issuer, DEMO_CALLBACK))?).await?;
    if let Some(documents) = registration::documents(documents, args.profile)? {
        clients = clients.with_documents(documents)?;
    }
    let mut policy = args.profile.policy().insecure_http_issuer(&issuer);
    if args.auto_approve {
        // Without pages, an error page before the redirect makes no sense either.
        policy = policy.redirect_errors(RedirectErrors::Always);
    }
    if args.openid {
        policy = policy.openid().authorization_details_types(["payment_initiation"]).dpop_jkt_required(true);
    }
    let policy = policy.require_pushed_requests(args.require_pushed).build()?;
    let state = clients.state_store(args.state.as_ref()).await?;
    let mut pushed = PushedRequests::builder(Arc::clone(&state));
    if !args.auto_approve {
        // A code must be issued within the lifetime.
        pushed = pushed.lifetime(PATIENCE);
    }
    let pushed = pushed.build()?;
    let keys = registration::keys(documents)?;
    let authentication = token::authentication_policy(&issuer, state).keys(keys.clone()).build()?;
    let seal_keys = args.seal_key.map_or_else(SealKeys::generate, Ok)?;
    let signed = SignedRequests::builder(&issuer).keys(keys).build()?;
    let code_lifetime = Duration::from_secs(args.code_lifetime);
    let registration = registration::policy(&args.registration, &authentication)?;
    let server = Server {
        validator: Validator::new(policy.clone()),
        policy,
        issuer,
        sealer: RequestSealer::new(seal_keys).lifetime(PATIENCE).pushed_requests(pushed.clone()),
        signed,
        pushed,
        tokens: Arc::new(Tokens::new(Arc::clone(&clients.store), code_lifetime)),
        authentication: ClientAuthenticationLayer::new(Arc::clone(&clients.source), authentication),
        code_lifetime,
        clients,
        registration,
        documents,
        auto_approve: args.auto_approve,
        report_only: args.report_only,
    };
    let app = router(Arc::new(server))?;
    bound.serve(app).await?;
    Ok(())
}

fn router(server: Arc<Server>) -> Result<Router, ConfigError> {
    let validation = ClientValidationLayer::new(Arc::clone(&server.clients.source))
        .validator(server.validator.clone())
        .signed_requests(server.signed.clone())
        .pushed_requests(server.pushed.clone())
        .report_only(server.report_only)
        .check("consent_required", authorize::SilentRequests { are_answered: server.auto_approve })
        // Report-only then passes on bodies of any size.
        .wrap_bodies();
    // Applications in browsers call these endpoints; the authorization endpoint is for navigation only.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(AllowHeaders::mirror_request());
    let router = match &server.registration {
        Some(policy) => {
            let store = Arc::clone(&server.clients.store);
            let service = RegistrationService::new(store, &server.url(REGISTER), policy.clone())?;
            let issuer = server.issuer.clone();
            let guard = from_fn(move |request, next| consent::programs_only(issuer.clone(), request, next));
            Router::new().nest_service(REGISTER, guard.layer(service))
        }
        None => Router::new(),
    };
    let called_by_clients = |handler: MethodRouter<Arc<Tokens>>| {
        let layers = ServiceBuilder::new().layer(cors.clone()).layer(server.authentication.clone());
        handler.with_state(Arc::clone(&server.tokens)).layer(layers)
    };
    let push = ServiceBuilder::new().layer(cors.clone()).layer(server.authentication.clone()).service(
        PushedRequestService::new(server.pushed.clone(), server.policy.clone()).signed_requests(server.signed.clone()),
    );
    let issuer_path = metadata::issuer_path(&server.issuer);
    let router = router
        // Segments of the issuer's path may look like patterns of older routers.
        .without_v07_checks()
        .route("/", get(start::page))
        // On the method router, so that the layer sees every method.
        .route("/authorize", any(authorize::authorize).layer(validation))
        .route("/consent", post(authorize::decide))
        .route_service(PAR, push)
        .route("/token", called_by_clients(post(token::token)))
        .route("/revoke", called_by_clients(post(token::revoke)))
        .route(&metadata::path(&server.issuer), get(metadata::document).layer(cors.clone()))
        .route(DEMO_CALLBACK, get(start::callback).post(start::callback))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(DEFAULT_MAX_BODY_BYTES))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // Only the path: the query holds values that must not be logged.
            tracing::info_span!("request", method = %request.method(), path = request.uri().path())
        }))
        .with_state(server);
    Ok(under_the_issuer(&issuer_path, router))
}

/// Serves all endpoints below the path of the issuer, if it has one, and at the root for proxies that strip the path.
fn under_the_issuer(path: &str, router: Router) -> Router {
    if path.is_empty() {
        return router;
    }
    let (prefix, start) = (path.to_owned(), format!("{path}/"));
    let strip = move |mut request: Request| {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let inner = target.strip_prefix(&*prefix).filter(|inner| inner.starts_with('/'));
        if let Some(inner) = inner.and_then(|inner| inner.parse().ok()) {
            *request.uri_mut() = inner;
        }
        request
    };
    Router::new()
        // Segments of the issuer's path may look like patterns of older routers.
        .without_v07_checks()
        .route(path, get(async move || Redirect::permanent(&start)))
        .fallback_service(MapRequestLayer::new(strip).layer(router))
}
