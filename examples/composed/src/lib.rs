//! The layer in a realistic stack: request log, time limits, rate limit, protection against forged requests, and a login
//! with sessions.
//!
//! `cargo run -p composed -- 127.0.0.1:8080`, then open the URL that it prints.
//!
//! A request passes these layers in this order:
//!
//! 1. **Log** (tower-http `TraceLayer`), so that it includes what the others refuse. It records the path only, because
//!    the query holds values that must not be logged.
//! 2. **Time limit** (tower-http `TimeoutLayer`) for slow bodies. The connection limits slow heads.
//! 3. **Rate limit** (tower_governor), before anything expensive.
//! 4. **Forged requests** (tower-http `CsrfLayer`): another site can neither log the user in nor press *Allow*. A site
//!    that makes its own name resolve to this server passes, but without the session, whose cookie belongs to this host.
//! 5. **Client validation**, on `/authorize` only. It runs before the session, so that nobody enters a password for a
//!    request that will be refused, and refusals need no session lookup. Redirect errors are thus sent without a login.
//!    That is safe as long as the operator registers all clients (RFC 9700 §4.11.2).
//! 6. **Session and login** (axum-login, tower-sessions). The login leads back to the same URL, which is validated again,
//!    so no validated request has to be stored meanwhile.
//! 7. **The handler**, which has a user and a validated request.
//!
//! Applications call `/token` themselves, without a browser. It stands behind the first three layers and **client
//! authentication**, so its handler knows which client redeems a code.
//!
//! The consent page carries the request sealed, and bound to its user, in a form field. `/consent` opens it and judges it
//! again. Give every node the same `SEAL_KEY` (`openssl rand -hex 32`), and any of them can take the answer; without it,
//! each start makes a new key.
//!
//! `Router::layer` wraps what was added before it, so the last layer runs first. `ServiceBuilder` reads from top to
//! bottom.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, Extension, Form, OriginalUri, Query, RawQuery, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use shared::store::Code;
use shared::token::{self, CODE_LIFETIME, Tokens};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_http::csrf::CsrfLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_oauth_client_validation::{
    AuthorizationError, Client, ClientValidationLayer, ErrorCode, MemoryRegistry, MemoryStateStore, Policy,
    RegistrySource, RegistryStore, RequestSealer, SealKeys, ValidatedRequest, Validator,
};
use tower_sessions::cookie::SameSite;
use tower_sessions::{MemoryStore, SessionManagerLayer};
use url::form_urlencoded;

/// The time that a client has to send the head of a request, and then its body.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The program.
#[must_use]
#[tokio::main]
pub async fn main() -> ExitCode {
    let Err(error) = run().await;
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run() -> Result<Infallible, Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let clients = MemoryRegistry::from_clients([Client::builder("photo-app")
        .name("Photo App")
        .redirect_uri("http://127.0.0.1/callback")
        .scope("profile photos:read")
        .build()?]);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    let base = format!("http://{}", listener.local_addr()?);
    let keys = match std::env::var("SEAL_KEY") {
        Ok(keys) => keys.parse()?,
        Err(_) => SealKeys::generate()?,
    };
    let app = router(clients, &base, keys)?;
    println!("listening on {base}");
    eprintln!("open {base}/authorize?response_type=code&client_id=photo-app&redirect_uri={base}/callback&state=xyz");
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
    loop {
        let (stream, peer) = listener.accept().await?;
        // The rate limit counts by address.
        let service = app.clone().layer(Extension(ConnectInfo(peer)));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection failed");
            }
        });
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Server {
    clients: MemoryRegistry,
    validator: Validator,
    sealer: RequestSealer,
    tokens: Arc<Tokens>,
}

fn router(clients: MemoryRegistry, issuer: &str, keys: SealKeys) -> Result<Router, Box<dyn Error>> {
    let validator = Validator::new(Policy::oauth2().issuer(issuer).build()?);
    let log = TraceLayer::new_for_http().make_span_with(
        |request: &Request| tracing::info_span!("request", method = %request.method(), path = request.uri().path()),
    );
    let limit = GovernorConfigBuilder::default().burst_size(50).per_millisecond(500).finish().ok_or("no rate limit")?;
    let validation = ClientValidationLayer::new(clients.clone()).validator(validator.clone());
    let authentication = token::authentication(clients.clone().boxed(), issuer, Arc::new(MemoryStateStore::new()))?;
    let tokens = Arc::new(Tokens::new(clients.clone().boxed_store(), CODE_LIFETIME));
    let cookies = SessionManagerLayer::new(MemoryStore::default())
        // Users arrive by a link on another site. With `Strict`, the default, they would seem to be logged out.
        .with_same_site(SameSite::Lax)
        // For this machine only: elsewhere the server needs https, and this line must go.
        .with_secure(false);
    let session = AuthManagerLayerBuilder::new(Users, cookies).build();
    let with_user = ServiceBuilder::new().layer(session.clone()).layer(from_fn(require_login));
    let judged = ServiceBuilder::new().layer(validation).layer(with_user.clone());
    Ok(Router::new()
        .route("/authorize", get(ask).layer(judged))
        .route("/consent", post(decide).layer(with_user))
        .route("/login", get(login_page).post(login).layer(session))
        .route("/callback", get(callback))
        .route("/style.css", get(async || ([(CONTENT_TYPE, "text/css")], STYLE)))
        .layer(CsrfLayer::new().with_rejection_response(|_| {
            page(StatusCode::FORBIDDEN, "This answer was not accepted", &html! { p { "Another site sent this form." } })
        }))
        .route("/token", post(token::token).with_state(Arc::clone(&tokens)).layer(authentication))
        .layer(GovernorLayer::new(limit))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .layer(log)
        .with_state(Server { clients, validator, sealer: RequestSealer::new(keys), tokens }))
}

/// The consent page. Its form carries the request to [`decide`].
async fn ask(State(server): State<Server>, auth: AuthSession<Users>, validated: ValidatedRequest) -> Response {
    let client = validated.client();
    let user = auth.user.map(|user| user.name).unwrap_or_default();
    let Ok(sealed) = server.sealer.bound_to(&user).seal(&validated) else {
        return page(StatusCode::INTERNAL_SERVER_ERROR, "Please try again later", &html! {});
    };
    let body = html! {
        p {
            strong { (client.name().unwrap_or_else(|| client.id())) }
            " asks for access to the account of " strong { (user) } "."
        }
        p { "It will be able to: " (validated.scope()) }
        p { "You will be sent to: " (validated.redirect_uri()) }
        form method="post" action="consent" {
            input type="hidden" name="sealed_request" value=(sealed);
            button type="submit" name="decision" value="approve" { "Allow" }
            button type="submit" name="decision" value="deny" { "Deny" }
        }
    };
    page(StatusCode::OK, "Allow access?", &body)
}

#[derive(Deserialize)]
struct Decided {
    sealed_request: String,
    decision: Decision,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Approve,
    Deny,
}

async fn decide(
    State(server): State<Server>,
    auth: AuthSession<Users>,
    headers: HeaderMap,
    decided: Result<Form<Decided>, FormRejection>,
) -> Response {
    let Ok(Form(decided)) = decided else {
        return page(StatusCode::BAD_REQUEST, "This answer could not be read", &html! {});
    };
    let user = auth.user.map(|user| user.name).unwrap_or_default();
    let sealer = server.sealer.bound_to(user);
    let validated = match sealer.open(&decided.sealed_request, &server.clients, &server.validator).await {
        Ok(validated) => validated,
        Err(error) => return error.into_http(&Method::POST, &headers),
    };
    let answer = match decided.decision {
        Decision::Approve => {
            // A pushed request gets one code. Every other request passes.
            if let Err(error) = validated.use_up().await {
                return error.into_rejection().into_http(&Method::POST, &headers);
            }
            match server.tokens.issue_code(Code::new(&validated)) {
                Ok(code) => validated.success([("code", code.as_str())]),
                Err(error) => {
                    tracing::error!(%error, "no code was issued");
                    validated.error(&AuthorizationError::new(ErrorCode::ServerError, "the server failed"))
                }
            }
        }
        Decision::Deny => {
            validated.error(&AuthorizationError::new(ErrorCode::AccessDenied, "the user denied the request"))
        }
    };
    answer.into_http(&Method::POST)
}

/// Redirects to the login with 303. With the 307 of axum-login's `login_required!`, the browser would post the decision of
/// a user whose session has expired to the login page.
async fn require_login(
    auth: AuthSession<Users>,
    OriginalUri(here): OriginalUri,
    request: Request,
    next: Next,
) -> Response {
    if auth.user.is_some() {
        return next.run(request).await;
    }
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", &here.to_string()).finish();
    Redirect::to(&format!("/login?{query}")).into_response()
}

#[derive(Deserialize)]
struct WayBack {
    #[serde(default)]
    next: String,
}

impl WayBack {
    /// Only the authorization endpoint of this server: the login must not redirect anywhere else.
    fn target(&self) -> Option<&str> {
        Some(self.next.as_str()).filter(|next| next.starts_with("/authorize?"))
    }
}

async fn login_page(Query(back): Query<WayBack>) -> Response {
    ask_for_password(&back, StatusCode::OK, "")
}

async fn login(
    mut auth: AuthSession<Users>,
    Query(back): Query<WayBack>,
    Form(credentials): Form<Credentials>,
) -> Response {
    let logged_in = match auth.authenticate(credentials).await {
        Ok(Some(user)) => auth.login(&user).await,
        Ok(None) => return ask_for_password(&back, StatusCode::UNAUTHORIZED, "Name or password is wrong."),
        Err(error) => Err(error),
    };
    match (logged_in, back.target()) {
        (Ok(()), Some(target)) => Redirect::to(target).into_response(),
        (Ok(()), None) => {
            page(StatusCode::OK, "You are logged in", &html! { p { "Go back to the application and start again." } })
        }
        (Err(error), _) => {
            tracing::error!(%error, "the session could not be stored");
            page(StatusCode::INTERNAL_SERVER_ERROR, "Please try again later", &html! {})
        }
    }
}

/// The login page. Its form posts to the URL of the page, which names the way back.
fn ask_for_password(back: &WayBack, status: StatusCode, problem: &str) -> Response {
    let body = html! {
        @if !problem.is_empty() { p role="alert" { strong { (problem) } } }
        p { "The name is ada, the password enchantress; or grace, and compiler." }
        form method="post" {
            label { "Name " input name="name" autocomplete="username" required autofocus; }
            label { "Password " input type="password" name="password" autocomplete="current-password" required; }
            button type="submit" { "Log in" }
        }
        @if back.target().is_some() { p { "Next, you decide what the application may do." } }
    };
    page(status, "Log in", &body)
}

/// Stands in for the application, and shows what it received.
async fn callback(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let body = html! { @for (name, value) in form_urlencoded::parse(query.as_bytes()) { p { (name) ": " (value) } } };
    page(StatusCode::OK, "The application received", &body)
}

const STYLE: &str = "\
:root { color-scheme: light dark; background: Canvas; color: CanvasText }
body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
main { overflow-wrap: anywhere }
input, button { display: block; font: inherit; padding: .5rem 1rem; margin: .25rem 0 1rem }
";

const HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "same-origin"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

fn page(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                link rel="stylesheet" href="style.css";
                title { (title) }
            }
            body { main { h1 { (title) } (body) } }
        }
    };
    (status, HEADERS, page).into_response()
}

#[derive(Clone, Debug)]
struct User {
    name: String,
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    /// A session ends when this changes, for example with a new password.
    fn session_auth_hash(&self) -> &[u8] {
        password_of(&self.name).unwrap_or_default().as_bytes()
    }
}

/// A real server stores a slow hash of each password.
const PASSWORDS: [(&str, &str); 2] = [("ada", "enchantress"), ("grace", "compiler")];

fn password_of(user: &str) -> Option<&'static str> {
    PASSWORDS.iter().find(|(name, _)| *name == user).map(|(_, password)| *password)
}

#[derive(Clone, Debug)]
struct Users;

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, credentials: Credentials) -> Result<Option<User>, Infallible> {
        let user = self.get_user(&credentials.name).await?;
        Ok(user.filter(|user| password_of(&user.name) == Some(&credentials.password)))
    }

    async fn get_user(&self, name: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(password_of(name).map(|_| User { name: name.clone() }))
    }
}
