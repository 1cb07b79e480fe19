//! One event for each sealed request that is not opened. Never the seal, `state`, `nonce` or `code_challenge`.

use tracing::field::display;

use crate::authorization::Rejection;
use crate::client::{Causes, Untrusted};
use crate::registry::RegistryError;

pub(super) fn not_opened(reason: &'static str) {
    tracing::info!(outcome = "rejected", error = "invalid_request", "error.type" = reason, reason, "sealed request");
}

pub(super) fn refused(rejection: &Rejection, source: Option<&RegistryError>) {
    let reason = rejection.reason().as_str();
    let client_id = rejection.client_id().map(|id| display(Untrusted(id)));
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                outcome = "rejected",
                error = rejection.error().as_str(),
                "error.type" = reason,
                reason,
                client_id,
                detail = rejection.detail(),
                cause = source.map(|source| display(Causes(source))),
                "sealed request"
            )
        };
    }
    match source {
        // Strangers can make the hosts that they chose fail, which must not raise an alarm.
        Some(error) if !error.is_client_hosted() => event!(error),
        _ => event!(info),
    }
}
