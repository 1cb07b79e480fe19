//! What else than a validated request the inner service may find.

use crate::authorization::{AuthorizationRequest, Parameter, Rejection};

/// In the extensions of a request that [`UnknownClients::Forward`](crate::UnknownClients::Forward) let through:
/// its client is unknown, and **nothing else about it was checked**. See there what is left to do.
#[derive(Clone, Debug)]
pub struct UnregisteredClient {
    request: AuthorizationRequest,
}

impl UnregisteredClient {
    pub(super) fn new(request: AuthorizationRequest) -> Self {
        Self { request }
    }

    /// The id that nobody registered. Printable ASCII; that is all that is known of it.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.request.get(Parameter::ClientId).unwrap_or_default()
    }

    /// The request, to be judged by a [`Validator`](crate::Validator) once the client is known.
    #[must_use]
    pub fn request(&self) -> &AuthorizationRequest {
        &self.request
    }
}

/// What would have become of a request that [`report_only`](super::ClientValidationLayer::report_only) let
/// through. In the extensions of the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReportedOutcome {
    /// It would have been accepted; a [`ValidatedRequest`](crate::ValidatedRequest) is there too.
    Accepted,
    /// It would have been refused.
    Rejected(Rejection),
    /// Its client is unknown, and it would have been let through all the same.
    Forwarded,
}
