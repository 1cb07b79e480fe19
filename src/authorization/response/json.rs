//! `{"error", "error_description"}`, as RFC 6749 §5.2 words it.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use serde_json::json;

use crate::authorization::DirectError;

pub(super) fn write_error(error: &DirectError, response: &mut Response<Bytes>) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = if error.is_plain() {
        Bytes::from_static(error.reason().json().as_bytes())
    } else {
        let mut body = json!({ "error": error.error().as_str(), "error_description": error.description() });
        if let Some(uri) = error.error_uri() {
            body["error_uri"] = uri.into();
        }
        body.to_string().into()
    };
}
