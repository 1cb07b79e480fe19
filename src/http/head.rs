//! What the headers of a request say about its body.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http_body::Body;

/// Whether the body is `application/x-www-form-urlencoded`.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    has_media_type(headers, "application/x-www-form-urlencoded")
}

/// Whether the body has this media type, with any parameters. False where it has a content coding: another reader might
/// decode it.
pub(crate) fn has_media_type(headers: &HeaderMap, expected: &str) -> bool {
    let is_identity = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    let fits = |value: &HeaderValue| {
        // Nearly all clients spell it this way.
        value == expected || bare_type(value).is_some_and(|media_type| media_type.eq_ignore_ascii_case(expected))
    };
    headers.get_all(CONTENT_ENCODING).iter().all(is_identity) && content_type(headers).is_some_and(fits)
}

/// The media type of the body, without parameters. `None` where `Content-Type` is missing, repeated or unreadable:
/// another reader might use the other header.
#[cfg(feature = "metadata-document")]
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    bare_type(content_type(headers)?)
}

fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(CONTENT_TYPE).into_iter();
    values.next().filter(|_| values.next().is_none())
}

fn bare_type(content_type: &HeaderValue) -> Option<&str> {
    let value = content_type.to_str().ok()?;
    Some(value.split_once(';').map_or(value, |(media_type, _)| media_type).trim())
}

/// The length that `Content-Length` or the body itself announces, or else 0.
pub(crate) fn announced_length(headers: &HeaderMap, body: &impl Body) -> u64 {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    body.size_hint().lower().max(announced)
}
