//! The page that tells users why their request was refused.

use std::fmt::Write;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};

use super::page::{Escaped, page_headers, page_policy, page_start};
use super::redirect::error_link;
use crate::authorization::error::ErrorCode;
use crate::authorization::rejection::{Delivery, Rejection};

/// The content security policy of the page for this rejection. If the user decides, the page may contain a form, and
/// some browsers apply `form-action` to the redirects of the client that follow.
fn policy(rejection: &Rejection) -> &'static str {
    match rejection.delivery() {
        Delivery::Confirm => page_policy!("script-src 'none'"),
        Delivery::Direct | Delivery::Redirect => page_policy!("form-action 'none'"),
    }
}

/// A custom answer may set its own content security policy; a page without one gets ours.
pub(super) fn keep_policy(rejection: &Rejection, response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().ends_with(b"json"));
    if !is_json {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert_with(|| HeaderValue::from_static(policy(rejection)));
    }
}

pub(super) fn write_page(rejection: &Rejection, response: &mut Response<Bytes>) {
    *response.headers_mut() = page_headers(policy(rejection));
    *response.body_mut() = page(rejection, response.status().as_u16()).into();
}

fn page(rejection: &Rejection, status: u16) -> String {
    let what = match rejection.error() {
        ErrorCode::TemporarilyUnavailable => {
            "The server cannot look up the application at the moment. Please go back and try again in a few seconds."
        }
        ErrorCode::ServerError => "Something is wrong with this server. Please try again later.",
        ErrorCode::InvalidClient => "The application that sent you here is not known to this server.",
        _ => "The application that sent you here made a request that this server cannot accept.",
    };
    let mut page = page_start("Sign-in could not continue");
    let _ = write!(page, "<p>{what}</p>\n<p>This is not your fault, and nothing was sent to the application. ");
    match rejection.target() {
        None => page.push_str("You can close this page and go back to where you came from.</p>\n"),
        Some(target) => {
            let destination = destination(target.uri);
            let _ = write!(
                page,
                "The application registered itself, and the operator of this server has not checked it.</p>\n\
                 <p>If you trust <strong>{}</strong>, you can continue there; the application then receives the error. \
                 If you do not, close this page.</p>\n",
                Escaped(&destination),
            );
            page.push_str(&error_link(target, rejection.authorization_error(), &destination));
        }
    }
    let _ = write!(
        page,
        "<p>If it happens again, report this to the application's developers:</p>\n\
         <dl>\n<dt>Error</dt><dd><code>{}</code> ({status})</dd>\n<dt>Description</dt><dd>{}</dd>\n",
        rejection.error(),
        Escaped(rejection.description()),
    );
    if let Some(uri) = rejection.error_uri() {
        let _ = writeln!(page, "<dt>More information</dt><dd>{}</dd>", Escaped(uri));
    }
    page.push_str("</dl>\n</main>\n</body>\n</html>\n");
    page
}

/// Where a redirect URI leads, for people: host and port, or the application that opens the scheme.
fn destination(uri: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
    match rest.strip_prefix("//") {
        Some(rest) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") => {
            rest.split(['/', '?']).next().unwrap_or_default().to_owned()
        }
        Some(_) | None => format!("the application that opens {scheme}: links"),
    }
}
