//! Extensions of requests that were let through without validation.

use bytes::Bytes;
use http::Response;

use crate::authorization::{AuthorizationRequest, Parameter, Rejection, ValidatedRequest};

/// The extension of a request that [`UnknownClients::Forward`](crate::UnknownClients::Forward) let through. Its client is
/// unknown, and **nothing else about it was checked**; see there what the handler must do.
#[derive(Clone, Debug)]
pub struct UnregisteredClient {
    request: AuthorizationRequest,
}

impl UnregisteredClient {
    pub(super) fn new(request: AuthorizationRequest) -> Self {
        Self { request }
    }

    /// The id of the unknown client. It is printable ASCII; nothing else is known about it.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.request.get(Parameter::ClientId).unwrap_or_default()
    }

    /// The request. Pass it to a [`Validator`](crate::Validator) once the client is known.
    #[must_use]
    pub fn request(&self) -> &AuthorizationRequest {
        &self.request
    }
}

/// The extension of a request that [`report_only`](super::ClientValidationLayer::report_only) let through: what would
/// have happened otherwise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReportedOutcome {
    /// The request would have been accepted. It has a [`ValidatedRequest`](crate::ValidatedRequest) too.
    Accepted,
    /// The request would have been refused.
    Rejected(Rejection),
    /// The request would have been forwarded although its client is unknown.
    Forwarded,
}

/// What [`ClientValidationLayer::judge`](super::ClientValidationLayer::judge) decided.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// The request is valid: handle it.
    Accepted(ValidatedRequest),
    /// The client is unknown, and the policy forwards such requests: see [`UnregisteredClient`].
    Forwarded(UnregisteredClient),
    /// The request was not judged: it is `OPTIONS`, or the layer is bypassed.
    PassedOn,
    /// The request would have been refused, but the layer only reports. Handle it as without the layer.
    Reported(Rejection),
    /// The request is refused: send this response.
    Refused(Response<Bytes>),
}

/// The extension of a request that was not judged, for the extractor's message.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotJudged {
    Options,
    Bypassed,
}
