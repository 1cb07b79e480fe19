//! What stands between the consent page and the code: what both servers share.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use tower_oauth_client_validation::{BoxRegistry, RegistrySource, ValidatedRequest, Validator};
use url::{Position, Url};

use crate::pages;
use crate::registry::Causes;

/// `localhost` and `127.0.0.1` are two origins to a browser, and answers are taken from one of them. So whoever
/// comes to this machine by the other name goes on there.
pub fn at_the_issuers_name(method: &Method, uri: &Uri, headers: &HeaderMap, issuer: &str) -> Option<Response> {
    let is_local = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let host = headers.get(HOST)?.to_str().ok()?;
    let here = Url::parse(&format!("http://{host}")).ok().filter(is_local)?;
    let there = Url::parse(issuer).ok().filter(|issuer| issuer.scheme() == "http" && is_local(issuer))?;
    let differs = here.host() != there.host() && here.port_or_known_default() == there.port_or_known_default();
    let target = format!("{}/authorize?{}", issuer.trim_end_matches('/'), uri.query().unwrap_or_default());
    (differs && method == Method::GET).then(|| (pages::headers(), Redirect::temporary(&target)).into_response())
}

/// The ticket alone does not tell whose browser brings it: another site could fetch one and post it here. A site
/// whose name was made to lead here (DNS rebinding) is of one origin with what it fetches, so only the origin of the
/// issuer counts, and not the name that was asked for. Browsers say where a form comes from, programs need not.
pub fn refuse_other_sites(headers: &HeaderMap, issuer: &str) -> Result<(), Response> {
    let site = headers.get("sec-fetch-site");
    let origin = headers.get(ORIGIN);
    let ours = Url::parse(issuer).map(|issuer| issuer.origin().ascii_serialization()).unwrap_or_default();
    let is_ours = match (site, origin) {
        (None, None) => true,
        (site, Some(origin)) => site.is_none_or(|site| site == "same-origin") && *origin == *ours,
        (Some(_), None) => false,
    };
    if is_ours {
        return Ok(());
    }
    let authority = origin.and_then(|origin| Url::parse(origin.to_str().ok()?).ok());
    let authority = authority.as_ref().map(|origin| &origin[Position::BeforeHost..Position::AfterPort]);
    let text = if headers.get(HOST).is_some_and(|host| authority.is_some_and(|authority| host == authority)) {
        format!(
            "You came to this server by a name that is not its own. It takes answers only from its pages at {ours}: \
             please go back to the application and start again, with that address. Nothing was sent to any application."
        )
    } else {
        "Another site tried to answer the question of this server for you. Nothing was sent to any application."
            .to_owned()
    };
    Err(pages::message(StatusCode::FORBIDDEN, "This answer does not count", &text))
}

/// What was true when the page was shown may not be any more: a client may be disabled, or changed, since.
pub async fn judge_again(
    request: &ValidatedRequest,
    clients: &BoxRegistry,
    validator: &Validator,
) -> Result<(), Response> {
    let client = clients.find_client(request.client_id()).await.map_err(|error| {
        tracing::error!(error = %Causes(&error), "the client could not be looked up");
        pages::message(
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot go on now",
            "The server cannot look the application up. Please go back to it, and start again in a moment.",
        )
    })?;
    match validator.validate(request.request().clone(), client) {
        Ok(judged) if judged.scope() == request.scope() => Ok(()),
        judged => {
            let reason = judged.err().map(|rejection| rejection.reason().as_str());
            tracing::info!(client_id = request.client_id(), reason, "the client has changed since the consent page");
            Err(pages::message(
                StatusCode::BAD_REQUEST,
                "This application cannot be let in any more",
                "What the server knows about it has changed since the page was shown. Nothing was sent to it. \
                 Please go back to the application and start again.",
            ))
        }
    }
}
