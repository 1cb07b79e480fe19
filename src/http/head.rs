//! What the head of a request says about its body.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

/// Whether the body is `application/x-www-form-urlencoded`, with any media-type parameters. Two `Content-Type` headers
/// or a content coding make it none: the inner service might go by the other header, or decode what the gate did not.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    let mut values = headers.get_all(CONTENT_TYPE).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// The announced length of the body; 0 where it is not known.
pub(crate) fn content_length(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}
