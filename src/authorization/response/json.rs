//! `{"error", "error_description"}`, as in RFC 6749 §5.2.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use serde_json::json;

use crate::authorization::rejection::DirectError;

pub(super) fn write_error(error: &DirectError, response: &mut Response<Bytes>) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = match error.prepared_json() {
        Some(json) => Bytes::from_static(json.as_bytes()),
        None => {
            let mut body = json!({ "error": error.error().as_str(), "error_description": error.description() });
            if let Some(uri) = error.error_uri() {
                body["error_uri"] = uri.into();
            }
            body.to_string().into()
        }
    };
}
