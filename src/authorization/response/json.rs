//! `{"error", "error_description"}`, as in RFC 6749 §5.2.

use bytes::Bytes;
use http::Response;
use serde_json::json;

use crate::authorization::rejection::Rejection;
use crate::http::answer::json_headers;

pub(super) fn write_error(rejection: &Rejection, response: &mut Response<Bytes>) {
    *response.headers_mut() = json_headers();
    *response.body_mut() = if let Some(json) = rejection.prepared_json() {
        Bytes::from_static(json.as_bytes())
    } else {
        let mut body = json!({ "error": rejection.error().as_str(), "error_description": rejection.description() });
        if let Some(uri) = rejection.error_uri() {
            body["error_uri"] = uri.into();
        }
        body.to_string().into()
    };
}
