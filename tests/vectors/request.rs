//! Requests, byte for byte as they stand in the cases.

use http::Method;
use serde::Deserialize;

/// A request as it goes out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// `GET` where it is left out.
    method: Option<String>,
    /// Without `?`; a missing one is not an empty one.
    pub(super) query: Option<String>,
    body: Option<String>,
    /// A body without content type here gets that of a form.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Adds bytes of an unrecognised parameter to the body, until it is this long.
    pad_body_to: Option<usize>,
    /// How the length of the body is told.
    #[serde(default)]
    framing: Framing,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Framing {
    /// `Content-Length`
    #[default]
    Length,
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// Chunked, with a second chunk that has no length.
    BrokenChunk,
    /// `Content-Length`, and nothing of the body.
    LengthOnly,
}

/// One byte for each character.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("U+0000-00FF only")).collect()
}

impl Request {
    pub(super) fn method(&self) -> Method {
        self.method.as_deref().unwrap_or("GET").parse().unwrap()
    }

    pub(super) fn query(&self) -> Vec<u8> {
        bytes(self.query.as_deref().unwrap_or_default())
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = bytes(self.body.as_deref().unwrap_or_default());
        if let Some(length) = self.pad_body_to {
            body.extend_from_slice(b"&pad=");
            body.resize(length, b'x');
        }
        body
    }

    /// The part of the body that holds parameters.
    pub(super) fn parameters_of_body(&self) -> Vec<u8> {
        if self.method() == Method::POST { self.body() } else { Vec::new() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = self.body();
        let mut out = format!("{} /authorize", self.method()).into_bytes();
        if self.query.is_some() {
            out.push(b'?');
            out.extend(self.query());
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n");
        let mut header = |name: &str, value: &str| {
            out.extend_from_slice(format!("{name}: ").as_bytes());
            out.extend(bytes(value));
            out.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.headers {
            header(name, value);
        }
        if self.body.is_some() {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                header("Content-Type", "application/x-www-form-urlencoded");
            }
            match self.framing {
                Framing::Length | Framing::LengthOnly => header("Content-Length", &body.len().to_string()),
                Framing::Chunked | Framing::BrokenChunk => header("Transfer-Encoding", "chunked"),
            }
        }
        out.extend_from_slice(b"\r\n");
        match self.framing {
            Framing::Length => out.extend(body),
            Framing::LengthOnly => {}
            Framing::Chunked | Framing::BrokenChunk => {
                out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                out.extend(body);
                let last = if self.framing == Framing::Chunked { "\r\n0\r\n\r\n" } else { "\r\nno length\r\n" };
                out.extend_from_slice(last.as_bytes());
            }
        }
        out
    }
}
