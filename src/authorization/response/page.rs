//! What all pages have in common.

use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};

use crate::http::answer::with_security_headers;

/// A content security policy: only the style of the page ([`STYLE`], by its hash), no frame around it, and the given
/// directives.
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

/// The headers of a page with this policy.
pub(super) fn page_headers(policy: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    with_security_headers(headers)
}

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
