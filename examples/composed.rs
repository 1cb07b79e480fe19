//! The layer in a router that has everything else too: a log, a rate limit, protection against forged requests, and a
//! login with sessions.
//!
//! `cargo run --features axum --example composed -- 127.0.0.1:8080`, then open the address that it prints.
//!
//! What a request meets, in this order, and why:
//!
//! 1. **Log** (tower-http `TraceLayer`), so that it also shows what the others refuse. The path alone: the query holds
//!    what no log should.
//! 2. **Rate limit** (tower_governor), before there is any work: neither the registry nor the login can be kept busy.
//! 3. **Forged requests** (tower-http `CsrfLayer`): another site can neither log the user in nor press *Allow*. Whoever
//!    points a name of theirs at this address gets past it, but without the session, whose cookie keeps to this host.
//! 4. **Client validation**, on `/authorize` alone. Before the session, so that nobody is asked for a password by a URL
//!    that leads nowhere, and a refusal looks up no session. An error that goes to the application is thus redirected
//!    without a login, which is safe as long as the operator knows every client. Where strangers can register one, set
//!    `RedirectErrors::TrustedClients` (RFC 9700 §4.11.2).
//! 5. **Session and login** (axum-login, tower-sessions): whoever is not logged in does so and comes back to the very
//!    same URL, which is validated again. Nothing that was judged waits anywhere.
//! 6. **The handler**, which has a user and a validated request.
//!
//! `Router::layer` puts each layer around those before it, so the last one runs first; `ServiceBuilder` is read from
//! top to bottom.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Form, OriginalUri, Query, RawQuery, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_http::csrf::CsrfLayer;
use tower_http::trace::TraceLayer;
use tower_oauth_client_validation::{
    AuthorizationError, Client, ClientValidationLayer, ErrorCode, MemoryRegistry, Policy, ValidatedRequest,
};
use tower_sessions::cookie::SameSite;
use tower_sessions::{MemoryStore, SessionManagerLayer};
use url::form_urlencoded;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let clients = MemoryRegistry::from_clients([Client::builder("photo-app")
        .name("Photo App")
        .redirect_uri("http://127.0.0.1/callback")
        .scope("profile photos:read")
        .build()?]);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    let base = format!("http://{}", listener.local_addr()?);
    let app = router(clients, &base)?;
    println!("listening on {base}");
    // Not on standard output, whose only line a program may read.
    eprintln!("open {base}/authorize?response_type=code&client_id=photo-app&redirect_uri={base}/callback&state=xyz");
    // The rate limit counts by address.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

fn router(clients: MemoryRegistry, issuer: &str) -> Result<Router, Box<dyn Error>> {
    let log = TraceLayer::new_for_http().make_span_with(
        |request: &Request| tracing::info_span!("request", method = %request.method(), path = request.uri().path()),
    );
    let limit = GovernorConfigBuilder::default().burst_size(50).per_millisecond(500).finish().ok_or("no rate limit")?;
    let validation = ClientValidationLayer::new(clients).policy(Policy::oauth2().issuer(issuer).build()?);
    let cookies = SessionManagerLayer::new(MemoryStore::default())
        // People come here by a link on another site. With `Strict`, the default, they would seem to be logged out.
        .with_same_site(SameSite::Lax)
        // Not outside of this machine: there it takes https.
        .with_secure(false);
    let session = AuthManagerLayerBuilder::new(Users, cookies).build();
    let judged = ServiceBuilder::new().layer(validation).layer(session.clone()).layer(from_fn(require_login));
    Ok(Router::new()
        .route("/authorize", get(ask).post(decide).layer(judged))
        .route("/login", get(login_page).post(login).layer(session))
        .route("/callback", get(callback))
        .route("/style.css", get(async || ([(CONTENT_TYPE, "text/css")], STYLE)))
        .layer(CsrfLayer::new().with_rejection_response(|_| {
            page(StatusCode::FORBIDDEN, "This was not your decision", &html! { p { "Another site sent this form." } })
        }))
        .layer(GovernorLayer::new(limit))
        .layer(log))
}

/// Shows who asks for what. The form posts to the URL of the page, so the answer is validated like the question.
async fn ask(auth: AuthSession<Users>, validated: ValidatedRequest) -> Response {
    let client = validated.client();
    let user = auth.user.map(|user| user.name).unwrap_or_default();
    let body = html! {
        p {
            strong { (client.name().unwrap_or_else(|| client.id())) }
            " asks for access to the account of " strong { (user) } "."
        }
        p { "It will be able to: " (validated.scope()) }
        p { "You will be sent to: " (validated.redirect_uri()) }
        form method="post" {
            button name="decision" value="approve" { "Allow" }
            button name="decision" value="deny" { "Deny" }
        }
    };
    page(StatusCode::OK, "Allow access?", &body)
}

#[derive(Deserialize)]
struct Decided {
    decision: Decision,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Approve,
    Deny,
}

async fn decide(validated: ValidatedRequest, Form(decided): Form<Decided>) -> Response {
    match decided.decision {
        // A real server keeps what the code stands for.
        Decision::Approve => validated.success([("code", "a-code")]),
        Decision::Deny => {
            validated.error(&AuthorizationError::new(ErrorCode::AccessDenied, "the user denied the request"))
        }
    }
    .into_http(&Method::POST)
}

/// axum-login's `login_required!` answers 307, with which a browser would post the decision of a user whose session
/// has ended to the login page. After 303 it asks for that page.
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
    /// To this server's authorization endpoint and to nowhere else: the login is no redirector.
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
            tracing::error!(%error, "the session cannot be kept");
            page(StatusCode::INTERNAL_SERVER_ERROR, "Please try again later", &html! {})
        }
    }
}

/// The form posts to the URL of the page, which names the way back.
fn ask_for_password(back: &WayBack, status: StatusCode, problem: &str) -> Response {
    let body = html! {
        @if !problem.is_empty() { p role="alert" { strong { (problem) } } }
        p { "The name is ada, the password enchantress." }
        form method="post" {
            label { "Name " input name="name" autocomplete="username" required autofocus; }
            label { "Password " input type="password" name="password" autocomplete="current-password" required; }
            button { "Log in" }
        }
        @if back.target().is_some() { p { "After that you will be asked what the application may do." } }
    };
    page(status, "Log in", &body)
}

/// Stands in for the application.
async fn callback(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let body = html! { @for (name, value) in form_urlencoded::parse(query.as_bytes()) { p { (name) ": " (value) } } };
    page(StatusCode::OK, "The application got", &body)
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

    /// A session ends when this changes: with a new password.
    fn session_auth_hash(&self) -> &[u8] {
        PASSWORD.as_bytes()
    }
}

const PASSWORD: &str = "enchantress";

/// The only one is `ada`. A real server keeps a slow hash of each password.
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
        Ok(user.filter(|_| credentials.password == PASSWORD))
    }

    async fn get_user(&self, name: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok((name == "ada").then(|| User { name: name.clone() }))
    }
}
