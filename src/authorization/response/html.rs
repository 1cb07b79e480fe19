//! The page for people.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::page::{Escaped, page_policy, page_start};
use crate::authorization::error::ErrorCode;
use crate::authorization::rejection::Rejection;

const PAGE_CSP: &str = page_policy!("form-action 'none'");

/// A custom answer may set its own content security policy; a page without one gets ours.
pub(super) fn keep_policy(response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().ends_with(b"json"));
    if !is_json {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(PAGE_CSP));
    }
}

pub(super) fn write_error_page(rejection: &Rejection, response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_CSP));
    *response.body_mut() = error_page(rejection, response.status()).into();
}

fn error_page(rejection: &Rejection, status: StatusCode) -> String {
    let what = match rejection.error() {
        ErrorCode::TemporarilyUnavailable => {
            "The server cannot look up the application at the moment. Please go back and try again in a few seconds."
        }
        ErrorCode::ServerError => "Something is wrong with this server. Please try again later.",
        ErrorCode::InvalidClient => "The application that sent you here is not known to this server.",
        _ => "The application that sent you here made a request that this server cannot accept.",
    };
    let mut page = page_start("Sign-in could not continue");
    let _ = write!(
        page,
        "<p>{what}</p>\n\
         <p>This is not your fault, and nothing was sent to the application. \
         You can close this page and go back to where you came from.</p>\n\
         <p>If it happens again, report this to the application's developers:</p>\n\
         <dl>\n<dt>Error</dt><dd><code>{}</code> ({})</dd>\n<dt>Description</dt><dd>{}</dd>\n",
        rejection.error(),
        status.as_u16(),
        Escaped(rejection.description()),
    );
    if let Some(uri) = rejection.error_uri() {
        let _ = writeln!(page, "<dt>More information</dt><dd>{}</dd>", Escaped(uri));
    }
    page.push_str("</dl>\n</main>\n</body>\n</html>\n");
    page
}
