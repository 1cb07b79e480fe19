//! A small complete authorization server: authorization endpoint with a consent page, token endpoint, registration of
//! clients, metadata document, and a start page whose links show what requests get.
//!
//! `cargo run --release --features full --example authorization_server`
//!
//! Nobody signs in here; that is what a real server would add in front of the consent page.

mod args;
mod authorize;
mod clients;
#[path = "../shared/consent.rs"]
mod consent;
mod metadata;
mod pages;
mod registration;
#[path = "../shared/registry.rs"]
mod registry;
#[path = "../shared/serve.rs"]
mod serve;
mod start;
mod store;
mod token;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::Redirect;
use axum::routing::{any, get, post};
use tower::Layer;
use tower::util::MapRequestLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::trace::TraceLayer;
use tower_oauth_client_validation::{
    ClientValidationLayer, DEFAULT_MAX_BODY_BYTES, Policy, RegistrationConfigError, RegistrationPolicy,
    RegistrationService, ValidatedRequest, Validator,
};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::args::{Args, Documents};
use crate::clients::{Clients, StartError};
use crate::store::{Code, Grant, OneTime};

const DEMO_CALLBACK: &str = "/demo/callback";
const REGISTER: &str = "/register";

/// All that the handlers share.
struct Server {
    issuer: String,
    policy: Policy,
    validator: Validator,
    clients: Clients,
    registration: Option<RegistrationPolicy>,
    documents: Documents,
    auto_approve: bool,
    report_only: bool,
    tickets: OneTime<ValidatedRequest>,
    codes: OneTime<Code>,
    refresh_tokens: OneTime<Arc<Grant>>,
}

impl Server {
    fn url(&self, path: &str) -> String {
        url(&self.issuer, path)
    }
}

fn url(issuer: &str, path: &str) -> String {
    format!("{}{path}", issuer.trim_end_matches('/'))
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
    let bound = serve::bind(&args.listen, args.issuer).await?;
    let issuer = bound.issuer.clone();
    let mut clients = Clients::open(args.registry.as_ref(), &Url::parse(&url(&issuer, DEMO_CALLBACK))?).await?;
    if let Some(documents) = registration::documents(args.documents, args.profile)? {
        clients = clients.or_documents(documents);
    }
    let policy = args.profile.policy().insecure_http_issuer(&issuer).build()?;
    let registration = registration::policy(&args.registration)?;
    let server = Server {
        validator: Validator::new(policy.clone()),
        policy,
        issuer,
        clients,
        registration,
        documents: args.documents,
        auto_approve: args.auto_approve,
        report_only: args.report_only,
        tickets: OneTime::new(Duration::from_secs(600)),
        codes: OneTime::new(Duration::from_secs(60)),
        refresh_tokens: OneTime::new(Duration::from_secs(30 * 24 * 3600)),
    };
    let app = router(Arc::new(server))?;
    bound.serve(app).await?;
    Ok(())
}

fn router(server: Arc<Server>) -> Result<Router, RegistrationConfigError> {
    let validation = ClientValidationLayer::new(Arc::clone(&server.clients.source))
        .validator(server.validator.clone())
        .report_only(server.report_only)
        // So that report-only passes every body on as it came.
        .wrap_bodies();
    // Applications in browsers use these two; the authorization endpoint is for navigation only.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(AllowHeaders::mirror_request());
    let router = match &server.registration {
        Some(policy) => {
            let store = Arc::clone(&server.clients.store);
            let service = RegistrationService::new(store, &server.url(REGISTER), policy.clone())?;
            Router::new().nest_service(REGISTER, cors.layer(service))
        }
        None => Router::new(),
    };
    let issuer_path = metadata::issuer_path(&server.issuer);
    let router = router
        // The path of the issuer may have segments that older routers took for patterns.
        .without_v07_checks()
        .route("/", get(start::page))
        // On the method router, so that the layer sees, and answers, every method.
        .route("/authorize", any(authorize::authorize).layer(validation))
        .route("/consent", post(authorize::decide))
        .route("/token", post(token::token).layer(cors.clone()))
        .route(&metadata::path(&server.issuer), get(metadata::document).layer(cors))
        .route(DEMO_CALLBACK, get(start::callback).post(start::callback))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(DEFAULT_MAX_BODY_BYTES))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // The path alone: the query holds what no log should.
            tracing::info_span!("request", method = %request.method(), path = request.uri().path())
        }))
        .with_state(server);
    Ok(under_the_issuer(&issuer_path, router))
}

/// All endpoints are under the path of the issuer, where it has one. At the root too, for a proxy in front that
/// takes the path away.
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
        // It may have segments that older routers took for patterns.
        .without_v07_checks()
        .route(path, get(async move || Redirect::permanent(&start)))
        .fallback_service(MapRequestLayer::new(strip).layer(router))
}
