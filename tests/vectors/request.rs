//! Requests, byte for byte as the cases have them.

use bytes::Bytes;
use http::{Method, Uri};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

/// A request as it goes out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
    /// Adds bytes of an unrecognized parameter to the body, until it is this long.
    pad_body_to: Option<usize>,
    /// How the length of the body is announced.
    #[serde(default)]
    framing: Framing,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
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

/// A character for each byte.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

impl Request {
    pub(crate) fn new(method: &str, query: Option<&[u8]>, body: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Self {
        Self {
            method: Some(method.to_owned()),
            query: query.map(characters),
            body: body.map(characters),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), characters(value))).collect(),
            ..Self::default()
        }
    }

    pub(super) fn method(&self) -> Method {
        self.method_name().parse().unwrap()
    }

    pub(super) fn method_name(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
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

    /// Whether nothing breaks off.
    pub(super) fn arrives_whole(&self) -> bool {
        self.framing != Framing::BrokenChunk
    }

    /// The headers that go out, but for those of the framing.
    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let mut headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.clone(), bytes(value))).collect();
        let is_typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if self.body.is_some() && !is_typed {
            headers.push(("Content-Type".to_owned(), b"application/x-www-form-urlencoded".to_vec()));
        }
        headers
    }

    /// The request without a connection; `None` if the `http` crate cannot represent it.
    pub(super) fn to_http(&self) -> Option<http::Request<Full<Bytes>>> {
        let uri = match self.query {
            Some(_) => Uri::try_from([b"/authorize?", &*self.query()].concat()).ok()?,
            None => Uri::from_static("/authorize"),
        };
        // A URI ends at a fragment.
        if uri.query().map(str::as_bytes) != self.query.as_ref().map(|_| self.query()).as_deref() {
            return None;
        }
        let mut request = http::Request::builder().method(Method::from_bytes(self.method_name().as_bytes()).ok()?);
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        request.uri(uri).body(Full::from(self.body())).ok()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = self.body();
        let mut out = format!("{} /authorize", self.method()).into_bytes();
        if self.query.is_some() {
            out.push(b'?');
            out.extend(self.query());
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n");
        let mut header = |name: &str, value: &[u8]| {
            out.extend_from_slice(format!("{name}: ").as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        for (name, value) in self.headers() {
            header(&name, &value);
        }
        if self.body.is_some() {
            match self.framing {
                Framing::Length | Framing::LengthOnly => header("Content-Length", body.len().to_string().as_bytes()),
                Framing::Chunked | Framing::BrokenChunk => header("Transfer-Encoding", b"chunked"),
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
