//! A small complete authorization server: authorization endpoint with a consent page, token endpoint, registration of
//! clients, metadata document, and a start page whose links show what requests get.
//!
//! `cargo run --release --features full --example authorization_server`
//!
//! Nobody signs in here; that is what a real server would add in front of the consent page.

mod args;
mod authorize;
mod clients;
mod metadata;
mod pages;
mod registration;
#[path = "../shared/registry.rs"]
mod registry;
mod start;
mod store;
mod token;

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{any, get, post};
use tokio::net::TcpListener;
use tower::Layer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::trace::TraceLayer;
use tower_oauth_client_validation::{
    ClientValidationLayer, DEFAULT_BODY_LIMIT, EndpointError, Policy, RegistrationPolicy, RegistrationService,
    ValidatedRequest, Validator,
};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::args::{Args, Documents};
use crate::clients::{Clients, StartError};
use crate::store::{Code, Grant, OneTime};

const DEMO_CALLBACK: &str = "/demo/callback";
const REGISTER: &str = "/register";

/// How long requests that are under way may go on after a signal.
const SHUTDOWN: Duration = Duration::from_secs(10);

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
    let listener =
        TcpListener::bind(&args.listen).await.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    let base = format!("http://{}", listener.local_addr()?);
    let issuer = args.issuer.unwrap_or_else(|| base.clone());
    let mut clients = Clients::open(args.registry.as_ref(), &Url::parse(&url(&issuer, DEMO_CALLBACK))?).await?;
    if let Some(documents) = registration::documents(args.documents, args.profile)? {
        clients = clients.or_documents(documents);
    }
    let policy = args.profile.policy().issuer(&issuer);
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
    let stop = stop_signal()?;

    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {base}")?;
    stdout.flush()?;

    let (stopping, mut stopped) = tokio::sync::watch::channel(());
    let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("shutting down");
        drop(stopping);
    });
    tokio::select! {
        result = serving.into_future() => result?,
        () = async {
            // The sender never sends: this is the signal.
            let _ = stopped.changed().await;
            tokio::time::sleep(SHUTDOWN).await;
        } => tracing::warn!("gave up on requests that were still under way"),
    }
    Ok(())
}

fn router(server: Arc<Server>) -> Result<Router, EndpointError> {
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
        .layer(DefaultBodyLimit::max(DEFAULT_BODY_LIMIT))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // The path alone: the query holds what no log should.
            tracing::info_span!("request", method = %request.method(), path = request.uri().path())
        }))
        .with_state(server);
    Ok(router)
}

/// Caught from now on, not only once the future is polled: whoever reads the address may send one at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
