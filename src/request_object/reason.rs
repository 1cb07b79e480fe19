//! Why requests that came pushed or signed are refused before their parameters are judged.

use crate::authorization::reason::reasons;

reasons! {
    // These look the same from outside, as `REQUEST_URI_USED` does: strangers must not learn which requests exist.
    /// The `request_uri` is unknown, has expired, or was used up: a store keeps none of these.
    REQUEST_URI_UNKNOWN = "request_uri_unknown", InvalidRequestUri, "the request_uri is not valid", "RFC 9126 §4";
    /// Another client pushed the request.
    REQUEST_URI_FOREIGN = "request_uri_foreign", InvalidRequestUri, "the request_uri is not valid", "RFC 9126 §4";
    /// `request` and `request_uri` came together.
    REQUEST_AND_REQUEST_URI = "request_and_request_uri", InvalidRequest,
        "request and request_uri must not be used together", "RFC 9101 §5";
}
