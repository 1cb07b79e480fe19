//! What stands between the consent page and the code.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tower_oauth_client_validation::{BoxRegistry, OpenErrorKind, RequestSealer, ValidatedRequest, Validator};
use url::{Position, Url};

use crate::pages;

/// The form of the consent page.
#[derive(Debug, Deserialize)]
pub struct Decided {
    /// The request that the page showed.
    pub sealed_request: String,
    /// Which button was pressed.
    pub decision: Decision,
}

/// What the user decided.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The client may.
    Approve,
    /// The client may not.
    Deny,
}

/// Redirects to the issuer's host. `localhost` and `127.0.0.1` are two origins to a browser, and the consent page accepts
/// answers from one of them only.
#[must_use]
pub fn redirect_to_issuer(method: &Method, uri: &Uri, headers: &HeaderMap, issuer: &str) -> Option<Response> {
    let is_local = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let host = headers.get(HOST)?.to_str().ok()?;
    let here = Url::parse(&format!("http://{host}")).ok().filter(is_local)?;
    let there = Url::parse(issuer).ok().filter(|issuer| issuer.scheme() == "http" && is_local(issuer))?;
    let differs = here.host() != there.host() && here.port_or_known_default() == there.port_or_known_default();
    let target = format!("{}/authorize?{}", issuer.trim_end_matches('/'), uri.query().unwrap_or_default());
    (differs && method == Method::GET).then(|| (pages::headers(), Redirect::temporary(&target)).into_response())
}

/// Refuses requests that pages of other sites make the browser send.
///
/// # Errors
///
/// The page that says so.
pub fn refuse_other_sites(headers: &HeaderMap, issuer: &str) -> Result<(), Response> {
    if is_own_site(headers, issuer) {
        return Ok(());
    }
    let origin = headers.get(ORIGIN).and_then(|origin| Url::parse(origin.to_str().ok()?).ok());
    let authority = origin.as_ref().map(|origin| &origin[Position::BeforeHost..Position::AfterPort]);
    let text = if headers.get(HOST).is_some_and(|host| authority.is_some_and(|authority| host == authority)) {
        format!(
            "You opened this server under a name that is not its own. It accepts answers only from its pages at {}. \
             Please go back to the application and start again with that address. Nothing was sent to any application.",
            origin_of(issuer)
        )
    } else {
        "Another site tried to answer for you. Nothing was sent to any application.".to_owned()
    };
    Err(pages::message(StatusCode::FORBIDDEN, "This answer was not accepted", &text))
}

/// Whether the request comes from a page of the issuer, or from a program.
///
/// Browsers name the site of a page in `Origin` or `Sec-Fetch-Site`; programs send neither. A site can make its own name
/// resolve to this server (DNS rebinding), so the name in `Host` proves nothing and only the issuer's origin counts.
fn is_own_site(headers: &HeaderMap, issuer: &str) -> bool {
    match (headers.get("sec-fetch-site"), headers.get(ORIGIN)) {
        (None, None) => true,
        (site, Some(origin)) => site.is_none_or(|site| site == "same-origin") && *origin == *origin_of(issuer),
        (Some(_), None) => false,
    }
}

fn origin_of(issuer: &str) -> String {
    Url::parse(issuer).map(|issuer| issuer.origin().ascii_serialization()).unwrap_or_default()
}

/// Middleware for endpoints that programs call without credentials: no page of another site may do so through the
/// browser of a visitor, who may reach servers that the site cannot.
pub async fn programs_only(issuer: String, request: Request, next: Next) -> Response {
    if is_own_site(request.headers(), &issuer) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "pages of other sites cannot use this endpoint\n").into_response()
}

/// Opens a sealed request and judges it again: the client may have been disabled or changed since.
///
/// # Errors
///
/// The page for the user if the request is not valid any more.
pub async fn open(
    sealer: &RequestSealer,
    sealed: &str,
    clients: &BoxRegistry,
    validator: &Validator,
) -> Result<ValidatedRequest, Response> {
    sealer.open(sealed, clients, validator).await.map_err(|error| match error.kind() {
        OpenErrorKind::Refused => pages::message(
            StatusCode::BAD_REQUEST,
            "This application's registration has changed",
            "It changed after the page was shown, so nothing was sent to the application. \
             Please go back to it and start again.",
        ),
        OpenErrorKind::Unavailable => pages::message(
            StatusCode::SERVICE_UNAVAILABLE,
            "Sign-in could not continue",
            "The server could not look the application up. Please go back to it and start again in a moment.",
        ),
        _ => start_again(),
    })
}

/// The page for an answer that cannot be used.
#[must_use]
pub fn start_again() -> Response {
    pages::message(
        StatusCode::BAD_REQUEST,
        "This page is no longer valid",
        "It is too old, or was opened in another browser. Please go back to the application and start again.",
    )
}
