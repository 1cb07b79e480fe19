//! Requests of the registration endpoints: where they go, who sends them, and what they carry.

use std::fmt;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use super::answer::Refusal;
use crate::http::body::{announces_more_than, is_length_limit};
use crate::http::media_type;
use tower::BoxError;

/// All but the unreserved characters of RFC 3986 §2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where clients reach the endpoint from outside.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    url: String,
    path: String,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Endpoint,
    Client(String),
    Other,
}

impl Endpoint {
    pub(super) fn parse(url: &str) -> Result<Self, EndpointError> {
        let parsed = Url::parse(url).map_err(|_| EndpointError)?;
        let is_plain = parsed.query().is_none() && parsed.fragment().is_none() && !url.contains(['?', '#']);
        if !matches!(parsed.scheme(), "https" | "http") || !is_plain {
            return Err(EndpointError);
        }
        let path = parsed.path().trim_end_matches('/').to_owned();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), path })
    }

    /// The path may still begin with that of the endpoint, or have lost it to a router.
    pub(super) fn target(&self, path: &str) -> Target {
        let rest = match path.strip_prefix(&self.path) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            Some(_) | None => path,
        };
        let segment = rest.strip_prefix('/').unwrap_or(rest);
        match segment {
            "" => Target::Endpoint,
            segment if segment.contains('/') => Target::Other,
            segment => match percent_decode_str(segment).decode_utf8() {
                Ok(id) => Target::Client(id.into_owned()),
                Err(_) => Target::Other,
            },
        }
    }

    /// The `registration_client_uri` of a client.
    pub(super) fn client_uri(&self, client_id: &str) -> String {
        format!("{}/{}", self.url, utf8_percent_encode(client_id, SEGMENT))
    }
}

/// The address of a registration endpoint that is none: it must be an absolute `https` or `http` URL without
/// query and fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointError;

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("registration endpoint: must be an absolute https or http URL without query and fragment")
    }
}

impl std::error::Error for EndpointError {}

/// The access token of RFC 6750 §2.1.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// The JSON object that a request carries.
pub(super) async fn read_members<B>(headers: &HeaderMap, body: B, limit: usize) -> Result<Map<String, Value>, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if !media_type(headers).is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        let description = "the content type must be application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_client_metadata", description));
    }
    if announces_more_than(limit, headers, &body) {
        return Err(Refusal::too_large());
    }
    let bytes = read(body, limit).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(Refusal::metadata("the body must be a JSON object")),
    }
}

async fn read<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if is_length_limit(&*error) => Err(Refusal::too_large()),
        Err(_) => Err(Refusal::metadata("the body could not be read")),
    }
}
