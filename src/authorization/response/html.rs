//! A page for people, and when to send it.

use std::fmt::{self, Write};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::authorization::{DirectError, ErrorCode};

/// Nothing but the style that the page holds ([`STYLE`], by its hash), no frame around it, and what is named.
macro_rules! page_policy {
    ($more:literal) => {
        concat!(
            "default-src 'none'; style-src 'sha256-bIYHgPj95Rv5GAUWzNo8bDUdSPRtAY2trbuy198Rfo4='; ",
            $more,
            "; base-uri 'none'; frame-ancestors 'none'"
        )
    };
}
pub(super) use page_policy;

const PAGE_CSP: &str = page_policy!("form-action 'none'");

/// An answer that somebody else wrote may have a policy of its own, but a page not none.
pub(super) fn keep_policy(response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().ends_with(b"json"));
    if !is_json {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(PAGE_CSP));
    }
}

pub(super) fn write_error_page(error: &DirectError, response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_CSP));
    *response.body_mut() = error_page(error, response.status()).into();
}

fn error_page(error: &DirectError, status: StatusCode) -> String {
    let what = match error.error() {
        ErrorCode::TemporarilyUnavailable => {
            "The server cannot look up the application at the moment. Please go back and try again in a few seconds."
        }
        ErrorCode::ServerError => "Something is wrong with this server. Please try again later.",
        ErrorCode::InvalidClient => "The application that sent you here is not known to this server.",
        _ => "The application that sent you here made a request that this server cannot accept.",
    };
    let mut page = page_start("Sign-in cannot go on");
    let _ = write!(
        page,
        "<p>{what}</p>\n\
         <p>This is not your fault, and nothing was sent to the application. \
         You can close this page and go back to where you came from.</p>\n\
         <p>If it happens again, tell the makers of the application:</p>\n\
         <dl>\n<dt>Error</dt><dd><code>{}</code> ({})</dd>\n<dt>Description</dt><dd>{}</dd>\n",
        error.error(),
        status.as_u16(),
        Escaped(error.description()),
    );
    if let Some(uri) = error.error_uri() {
        let _ = writeln!(page, "<dt>More about it</dt><dd>{}</dd>", Escaped(uri));
    }
    page.push_str("</dl>\n</main>\n</body>\n</html>\n");
    page
}

/// Readable on a phone and in the dark. Its hash is in [`page_policy`].
const STYLE: &str = "\
:root{color-scheme:light dark;background:Canvas;color:CanvasText}
body{max-width:40rem;margin:0 auto;padding:1.5rem 1rem;font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25}
dt{font-weight:600}
dd{margin:0 0 .75rem}
code{font-size:1rem}
button{font:inherit;padding:.75rem 1.5rem}
";

pub(super) fn page_start(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    )
}

/// Text for element content and quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}
