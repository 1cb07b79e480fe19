//! The HTTP that all endpoints share: bodies in, answers out. It knows no clients.

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod body;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The media type of the body, without parameters. `None` where `Content-Type` is missing, repeated or unreadable: with
/// two of them, the inner service might read the other one.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(CONTENT_TYPE).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let value = value.to_str().ok()?;
    Some(value.split_once(';').map_or(value, |(media_type, _)| media_type).trim())
}
