//! The start page, with links that show the outcomes of requests, and a page that plays the client.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use shared::pages;
use tower_oauth_client_validation::{
    AllowedScopes, Client, ClientKind, ClientStatus, Parameter, Reason, RedirectUri, Rejection, ResponseMode, Validator,
};
use url::{Url, form_urlencoded};

use crate::args::Documents;
use crate::{DEMO_CALLBACK, REGISTER, Server};

/// The example of RFC 7636 appendix B.
const CODE_VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CODE_CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A request object with the algorithm `none`.
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.e30.";

const LISTED: usize = 50;

pub(crate) async fn page(State(server): State<Arc<Server>>) -> Response {
    let Ok(clients) = server.clients.listed().await else {
        return pages::message(
            StatusCode::SERVICE_UNAVAILABLE,
            "Clients cannot be looked up",
            "Please try again in a moment.",
        );
    };
    let clients = &clients[..];
    let samples: Vec<Sample<'_>> = clients.iter().filter_map(|client| Sample::of(client, &server)).collect();
    // The request that names no redirect URI is the better example where it is accepted.
    let accepted = samples.iter().filter(|sample| sample.is_accepted(&server, clients));
    let example = accepted.min_by_key(|sample| sample.client.sole_redirect_uri().is_none());
    let body = html! {
        p {
            "An authorization server at work: every request to " code { "/authorize" } " is judged before the server "
            "itself sees it. Its "
            a href=(crate::metadata::path(&server.issuer)) { "metadata document" }
            " tells clients where everything is."
        }
        @if server.registration.is_some() {
            p { "Applications can register themselves at " code { (server.url(REGISTER)) } "." }
        }
        @if server.documents != Documents::Off {
            p { "An application may also use the address of its metadata document as its client id." }
        }
        @if server.report_only {
            p { strong { "Report-only: nothing is refused." } }
        }
        @match example {
            Some(sample) => {
                h2 { "What requests get" }
                p class="note" { "Each link is a request of the client " code { (sample.client.id()) } "." }
                ul class="links" {
                    @for (title, query) in cases(sample, clients) {
                        (link(&server, clients, &html! { (title) }, &query))
                    }
                }
                h2 { "From code to tokens" }
                p { "A code is good for " (server.code_lifetime.as_secs()) " seconds and for one use:" }
                pre { (token_command(sample, &server)) }
            }
            None => p { "No client is known that could be let in, so every request is refused." }
        }
        h2 { "Clients" }
        ul class="links" {
            @for sample in samples.iter().take(LISTED) {
                (link(&server, clients, &html! {
                    bdi { (sample.client.name().unwrap_or_else(|| sample.client.id())) } " to " (sample.redirect_uri)
                }, &sample.query(&[])))
            }
        }
        @if clients.len() > LISTED {
            p class="note" { "… and more." }
        }
    };
    pages::respond(StatusCode::OK, "OAuth authorization server", &body)
}

/// A request that this client could make.
struct Sample<'a> {
    client: &'a Arc<Client>,
    redirect_uri: String,
    scope: Option<&'a str>,
}

type Parameters<'a> = [(&'a str, Option<&'a str>)];

impl<'a> Sample<'a> {
    fn of(client: &'a Arc<Client>, server: &Server) -> Option<Self> {
        let scope = match client.allowed_scopes() {
            Some(AllowedScopes::Listed(scope)) => scope.iter().next(),
            Some(AllowedScopes::All) => Some("profile"),
            None => None,
        };
        let redirect_uri = client.redirect_uris().iter().map(|uri| concrete(uri, &server.issuer)).next()?;
        Some(Self { client, redirect_uri, scope })
    }

    /// The query of the request, with some parameters changed, or left out where the change is `None`.
    fn query(&self, changes: &Parameters<'_>) -> String {
        let usual = [
            ("response_type", Some("code")),
            ("client_id", Some(self.client.id())),
            ("redirect_uri", Some(&*self.redirect_uri)),
            ("scope", self.scope),
            ("state", Some("from-the-start-page")),
            ("code_challenge", Some(CODE_CHALLENGE)),
            ("code_challenge_method", Some("S256")),
        ];
        let changed = |name| changes.iter().any(|(changed, _)| *changed == name);
        let kept = usual.iter().filter(|(name, _)| !changed(*name));
        let pairs = kept.chain(changes).filter_map(|(name, value)| Some((*name, (*value)?)));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    fn is_accepted(&self, server: &Server, clients: &[Arc<Client>]) -> bool {
        matches!(judge(&server.validator, clients, &self.query(&[])), Outcome::Accepted(_))
    }
}

/// A URI that the registered one matches; where it can be, a page of this server.
fn concrete(uri: &RedirectUri, issuer: &str) -> String {
    let registered = uri.as_str();
    let port = Url::parse(issuer).ok().and_then(|url| url.port_or_known_default()).unwrap_or(8080);
    if let Some((before, path)) = registered.split_once(":*") {
        let path = if path.is_empty() { DEMO_CALLBACK } else { path };
        return format!("{before}:{port}{path}");
    }
    let has_port = Url::parse(registered).is_ok_and(|url| url.port().is_some());
    match registered.strip_suffix(DEMO_CALLBACK) {
        Some(origin) if uri.is_loopback() && !has_port => format!("{origin}:{port}{DEMO_CALLBACK}"),
        _ => registered.to_owned(),
    }
}

fn cases(sample: &Sample<'_>, clients: &[Arc<Client>]) -> Vec<(&'static str, String)> {
    let foreign_scope = match sample.client.allowed_scopes() {
        // No client may have this scope, not even one that may have all.
        Some(AllowedScopes::All) => "*",
        _ => "another-scope",
    };
    let repeated = |name: &str, value: &str| {
        let mut query = form_urlencoded::Serializer::new(sample.query(&[]));
        query.append_pair(name, value).finish()
    };
    let of_client = |is: &dyn Fn(&Client) -> bool| {
        clients.iter().find(|client| is(client)).map(|client| sample.query(&[("client_id", Some(client.id()))]))
    };
    let now = std::time::SystemTime::now();
    let mut cases = vec![
        ("All in order", sample.query(&[])),
        ("Answer by form post", sample.query(&[("response_mode", Some("form_post"))])),
        ("Answer in the fragment", sample.query(&[("response_mode", Some("fragment"))])),
        ("No scope asked for", sample.query(&[("scope", None)])),
        ("No redirect URI named", sample.query(&[("redirect_uri", None)])),
        ("No PKCE", sample.query(&[("code_challenge", None), ("code_challenge_method", None)])),
        ("PKCE with the method plain", sample.query(&[("code_challenge_method", Some("plain"))])),
        ("Unknown client", sample.query(&[("client_id", Some("nobody"))])),
        ("No client named", sample.query(&[("client_id", None)])),
        ("Client named twice", repeated("client_id", sample.client.id())),
        ("Foreign redirect URI", sample.query(&[("redirect_uri", Some("https://attacker.example/callback"))])),
        ("Redirect URI named twice", repeated("redirect_uri", &sample.redirect_uri)),
        ("Scope that the client may not have", sample.query(&[("scope", Some(foreign_scope))])),
        (
            "The same, answer by form post",
            sample.query(&[("scope", Some(foreign_scope)), ("response_mode", Some("form_post"))]),
        ),
        ("Parameter sent twice", repeated("state", "another")),
        ("Response type that is not supported", sample.query(&[("response_type", Some("token"))])),
        ("No response type", sample.query(&[("response_type", None)])),
        ("Unknown response mode", sample.query(&[("response_mode", Some("carrier-pigeon"))])),
        ("Request object that is not signed", sample.query(&[("request", Some(UNSIGNED))])),
        ("Resource that is no URI", sample.query(&[("resource", Some("somewhere"))])),
    ];
    cases.extend(
        of_client(&|client| client.status() != ClientStatus::Active)
            .map(|query| ("Client that is switched off", query)),
    );
    cases.extend(
        of_client(&|client| client.is_expired_at(now)).map(|query| ("Client whose registration has ended", query)),
    );
    cases
}

enum Outcome {
    Accepted(ResponseMode),
    Rejected(Rejection),
}

/// What the layer will say, asked of the same validator. It reads request objects too, and the only one here is refused.
fn judge(validator: &Validator, clients: &[Arc<Client>], query: &str) -> Outcome {
    let request = validator.parse(query.as_bytes(), b"");
    let client = match validator.client_id(&request) {
        Ok(id) => clients.binary_search_by(|client| client.id().cmp(id)).ok().map(|at| Arc::clone(&clients[at])),
        Err(rejection) => return Outcome::Rejected(rejection),
    };
    if request.get(Parameter::Request).is_some() {
        return Outcome::Rejected(validator.direct(Reason::REQUEST_OBJECT_ALGORITHM, Some(request)));
    }
    match validator.validate(request, client) {
        Ok(request) => Outcome::Accepted(request.response_mode()),
        Err(rejection) => Outcome::Rejected(rejection),
    }
}

fn link(server: &Server, clients: &[Arc<Client>], title: &Markup, query: &str) -> Markup {
    let outcome = judge(&server.validator, clients, query);
    html! {
        li {
            a href={ "authorize?" (query) } { (title) }
            span class="outcome" {
                @match outcome {
                    Outcome::Accepted(mode) if server.auto_approve => {
                        "a " code { "code" } " goes to the client by " code { (mode.as_str()) }
                    }
                    Outcome::Accepted(_) => { code { "consent page" } }
                    Outcome::Rejected(rejection) => {
                        @if server.report_only { "would be " }
                        @match rejection.redirect_uri() {
                            None => {
                                code { "400 " (rejection.error()) } " here, and nothing goes to the client"
                            }
                            Some(_) => {
                                code { (rejection.error()) } " goes to the client"
                            }
                        }
                        ": " (rejection.description())
                    }
                }
            }
        }
    }
}

fn token_command(sample: &Sample<'_>, server: &Server) -> String {
    let secret = (sample.client.kind() == ClientKind::Confidential).then_some(" -d client_secret=…");
    format!(
        "curl {} -d grant_type=authorization_code -d code=… -d client_id={}{} -d redirect_uri={} -d code_verifier={CODE_VERIFIER}",
        server.url("/token"),
        sample.client.id(),
        secret.unwrap_or_default(),
        sample.redirect_uri,
    )
}

/// What a client would get, shown.
pub(crate) async fn callback(method: Method, RawQuery(query): RawQuery, body: String) -> Response {
    let sent = if method == Method::POST { body } else { query.unwrap_or_default() };
    let parameters: Vec<_> = form_urlencoded::parse(sent.as_bytes()).collect();
    let how = if method == Method::POST { "by form post" } else { "in the query" };
    let title = match parameters.iter().map(|(name, _)| name.as_ref()).find(|name| matches!(*name, "code" | "error")) {
        Some("code") => "The client got a code",
        Some(_) => "The client got an error",
        None => "The answer stands in the address bar",
    };
    let body = html! {
        @if parameters.is_empty() {
            p {
                "This page stands in for a client. An answer in the fragment comes after the " code { "#" }
                ", where only a script of the client reads it. Where there is none, nothing was sent."
            }
        } @else {
            p { "This page stands in for a client. It got, " (how) ":" }
            dl {
                @for (name, value) in &parameters {
                    dt { (name) }
                    dd { code { (value) } }
                }
            }
        }
        p { a href="../" { "Back to the start page" } }
    };
    pages::respond(StatusCode::OK, title, &body)
}
