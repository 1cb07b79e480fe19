//! One event for each decision. Never a secret, an assertion or a token.

use std::error::Error;

use tracing::field::display;

use super::authenticator::AuthenticatedClient;
use super::failure::{AuthenticationError, AuthenticationFailure};
use super::method::AuthenticationMethod;
use crate::client::{Causes, Untrusted};
use crate::registry::RegistryError;

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
                outcome = "rejected",
                error = error.error(),
                // What OpenTelemetry calls it.
                "error.type" = reason,
                reason,
                client_id,
                method,
                cause,
                "client authentication"
            )
        };
    }
    let registry_error = error.source().and_then(|cause| cause.downcast_ref::<RegistryError>());
    match error.failure() {
        // Strangers can make the hosts that they chose fail, which must not raise an alarm.
        _ if registry_error.is_some_and(RegistryError::is_client_hosted) => event!(info),
        AuthenticationFailure::RegistryFault
        | AuthenticationFailure::RegistryUnavailable
        | AuthenticationFailure::StateFault
        | AuthenticationFailure::StateUnavailable => event!(error),
        AuthenticationFailure::Busy => event!(warn),
        // Strangers decide how many there are, the hosts of their keys included.
        _ => event!(info),
    }
}
