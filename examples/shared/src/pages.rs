//! HTML pages. They have no scripts; the policy allows the style sheet in the page by its hash.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower_oauth_client_validation::{RedirectUri, ValidatedRequest};
use url::{Position, Url};

const STYLE: &str = include_str!("style.css");

/// No `form-action`: browsers apply it to redirects too, and an approved request is redirected to the client.
static CSP: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    );
    policy.try_into().unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The headers of every page. `Referrer-Policy` is `same-origin` because `no-referrer` would also hide the `Origin` of the
/// consent form.
#[must_use]
pub fn headers() -> [(HeaderName, HeaderValue); 4] {
    [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_SECURITY_POLICY, CSP.clone()),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]
}

fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Keeps browsers from asking for /favicon.ico.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { h1 { (title) } (body) } }
        }
    }
}

/// A page with this heading.
#[must_use]
pub fn respond(status: StatusCode, title: &str, body: &Markup) -> Response {
    (status, headers(), page(title, body)).into_response()
}

/// A page with one paragraph.
#[must_use]
pub fn message(status: StatusCode, title: &str, text: &str) -> Response {
    respond(status, title, &html! { p { (text) } })
}

/// The fallback of the router.
pub async fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Page not found", "The start page of this server is at /.")
}

/// The consent page. `document` is the host of the client's metadata document, if it has one.
#[must_use]
pub fn consent(request: &ValidatedRequest, document: Option<&str>, sealed: &str) -> Response {
    let client = request.client();
    let is_local = client.redirect_uris().iter().all(RedirectUri::is_loopback);
    let name = readable(client.name().unwrap_or_else(|| client.id()));
    let body = html! {
        p { bdi { strong { (name) } } " asks for access to your account." }
        dl {
            dt { "It will be able to" }
            dd {
                @if request.scope().is_empty() {
                    "nothing in particular"
                } @else {
                    @for (index, scope) in request.scopes().enumerate() {
                        @if index > 0 { " " }
                        code { (scope) }
                    }
                }
            }
            @for detail in request.authorization_details() {
                dt { "In particular" }
                dd { code { (readable(detail.get("type").and_then(Value::as_str).unwrap_or_default())) } }
            }
            @for resource in request.resources() {
                dt { "At" }
                dd { bdi { (readable(resource)) } }
            }
            dt { "You will be sent to" }
            dd { (destination(request.redirect_uri())) }
            @if let Some(host) = document {
                dt { "It is described by" }
                dd { strong { (host) } }
            }
            dt { @if document.is_some() { "Its metadata document is" } @else { "It is registered here as" } }
            dd { code { (client.id()) } }
        }
        @if is_local {
            p class="warning" {
                strong { "Any program on this computer can claim to be this application." }
                " Nothing here proves that it is the one that asks."
            }
        }
        p class="note" { "Allow this only if you have just started it yourself, in an application that you trust." }
        form method="post" action="consent" {
            input type="hidden" name="sealed_request" value=(sealed);
            button type="submit" class="primary" name="decision" value="approve" { "Allow" }
            button type="submit" name="decision" value="deny" { "Deny" }
        }
    };
    respond(StatusCode::OK, &format!("Allow {name}?"), &body)
}

/// Says where a redirect URI leads.
fn destination(redirect_uri: &str) -> Markup {
    let Ok(url) = Url::parse(redirect_uri) else {
        return html! { (redirect_uri) };
    };
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some("localhost" | "127.0.0.1" | "[::1]")) => {
            html! { "a program on this computer (" strong { (authority) } ")" }
        }
        ("http" | "https", Some(_)) => html! { strong { (authority) } },
        (scheme, _) => html! { "the application on this device that opens " strong { (scheme) ":" } " links" },
    }
}

/// Removes what could reverse or hide parts of a text that the client chose.
fn readable(text: &str) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{00AD}'
                    | '\u{034F}'
                    | '\u{061C}'
                    | '\u{115F}'..='\u{1160}'
                    | '\u{17B4}'..='\u{17B5}'
                    | '\u{180B}'..='\u{180F}'
                    | '\u{200B}'..='\u{200F}'
                    | '\u{2028}'..='\u{202E}'
                    | '\u{2060}'..='\u{206F}'
                    | '\u{3164}'
                    | '\u{FE00}'..='\u{FE0F}'
                    | '\u{FEFF}'
                    | '\u{FFA0}'
                    | '\u{FFF0}'..='\u{FFFB}'
                    | '\u{E0000}'..='\u{E0FFF}'
            )
    };
    text.chars().filter(|c| !misleads(*c)).take(200).collect()
}
