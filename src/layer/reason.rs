//! Reasons of the layer itself.

use crate::authorization::reason::reasons;

reasons! {
    /// The method is not `GET`, `HEAD`, `POST` or `OPTIONS`.
    METHOD = "method", InvalidRequest, "the authorization endpoint takes GET and POST", "RFC 6749 §3.1", 405;
    /// The body of a `POST` is not `application/x-www-form-urlencoded`.
    CONTENT_TYPE = "content_type", InvalidRequest, "the body must be application/x-www-form-urlencoded",
        "RFC 6749 appendix B";
    /// The body is over the limit.
    BODY_TOO_LARGE = "body_too_large", InvalidRequest, "the body is too large", "RFC 9110 §15.5.14", 413;
    /// The body could not be read to its end.
    BODY_UNREADABLE = "body_unreadable", InvalidRequest, "the body could not be read", "RFC 9110 §15.5.1";
    /// The tenant is unknown.
    TENANT_UNKNOWN = "tenant_unknown", InvalidRequest, "there is no authorization server here", "RFC 9110 §15.5.5", 404;
    /// The registry is unavailable at the moment.
    REGISTRY_UNAVAILABLE = "registry_unavailable", TemporarilyUnavailable,
        "clients cannot be looked up at the moment, please try again", "RFC 6749 §4.1.2.1";
    /// The registry failed permanently.
    REGISTRY_FAULT = "registry_fault", ServerError, "clients cannot be looked up", "RFC 6749 §4.1.2.1";
}
