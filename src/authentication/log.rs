//! One event for each decision. Never a secret, an assertion or a token.

use std::error::Error;

use tracing::field::display;

use super::authenticator::AuthenticatedClient;
use super::failure::{AuthenticationError, AuthenticationFailure};
use super::method::AuthenticationMethod;
use crate::client::{Causes, Untrusted};

pub(super) fn accepted(client: &AuthenticatedClient) {
    tracing::debug!(
        outcome = "accepted",
        client_id = display(Untrusted(client.client_id())),
        method = client.method().as_str(),
        "client authentication"
    );
}

pub(super) fn refused(error: &AuthenticationError, client_id: Option<&str>, method: Option<AuthenticationMethod>) {
    let reason = error.failure().as_str();
    let client_id = client_id.map(|id| display(Untrusted(id)));
    let method = method.map(AuthenticationMethod::as_str);
    let cause = error.source().map(|cause| display(Causes(cause)));
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                outcome = "refused",
                error = error.error(),
                reason,
                client_id,
                method,
                cause,
                "client authentication"
            )
        };
    }
    match error.failure() {
        AuthenticationFailure::RegistryFault
        | AuthenticationFailure::RegistryUnavailable
        | AuthenticationFailure::StateFault
        | AuthenticationFailure::StateUnavailable => event!(error),
        AuthenticationFailure::Busy => event!(warn),
        // Strangers decide how many there are, the hosts of their keys included.
        _ => event!(info),
    }
}
