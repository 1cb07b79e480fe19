//! What every answer of this crate has in common.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response};

/// RFC 9700 §4.2.4 and §4.16, RFC 6749 §5.1.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// Adds the security headers; the answer to a `HEAD` request keeps only its headers.
pub(crate) fn finish<B: From<Bytes>>(mut response: Response<Bytes>, method: &Method) -> Response<B> {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, value);
    }
    if method == Method::HEAD {
        // The headers are those of the answer to a GET (RFC 9110 §9.3.2).
        let length = response.body().len();
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *response.body_mut() = Bytes::new();
    }
    response.map(B::from)
}
