//! One event for each decision, in fields. Never logs `state`, `nonce`, `code_challenge` or secrets.

use std::error::Error;

use tracing::field::{DisplayValue, display};

use crate::authorization::{AuthorizationRequest, Parameter, Reason, Rejection, ValidatedRequest};
use crate::client::{Causes, Untrusted};
use crate::registry::RegistryError;

pub(super) fn accepted(validated: &ValidatedRequest, report_only: bool) {
    tracing::debug!(outcome = "accepted", client_id = display(Untrusted(validated.client_id())), report_only);
}

pub(super) fn rejected(rejection: &Rejection, report_only: bool) {
    let reason = rejection.reason();
    let error = rejection.error().as_str();
    let client_id = rejection.client_id().map(|id| display(Untrusted(id)));
    match reason {
        // `registry_failed` and `source_failed` log these, with their cause.
        Reason::REGISTRY_UNAVAILABLE
        | Reason::REGISTRY_FAULT
        | Reason::REQUEST_STORE_UNAVAILABLE
        | Reason::REQUEST_STORE_FAULT => {}
        #[cfg(feature = "request-object")]
        Reason::REQUEST_OBJECT_KEYS_UNAVAILABLE => {}
        Reason::CLIENT_ID_MISMATCH | Reason::EXTENSIONS_NOT_READ => {
            tracing::error!(
                outcome = "rejected",
                error,
                "error.type" = reason.as_str(),
                reason = reason.as_str(),
                client_id,
                report_only
            );
        }
        _ => {
            tracing::info!(
                outcome = "rejected",
                error,
                // What OpenTelemetry calls it.
                "error.type" = reason.as_str(),
                reason = reason.as_str(),
                client_id,
                // Formatted only where the event is enabled.
                detail = rejection.detail(),
                report_only,
            );
        }
    }
}

pub(super) fn forwarded(request: &AuthorizationRequest, report_only: bool) {
    let client_id = client_id(request);
    tracing::info!(outcome = "forwarded", reason = Reason::CLIENT_UNKNOWN.as_str(), client_id, report_only);
}

pub(super) fn registry_failed(
    error: &RegistryError,
    request: &AuthorizationRequest,
    reason: Reason,
    report_only: bool,
) {
    failed(error, error.is_client_hosted(), request, reason, report_only);
}

/// The parameters of a request could not be read.
pub(super) fn source_failed(
    cause: &(dyn Error + 'static),
    request: &AuthorizationRequest,
    reason: Reason,
    report_only: bool,
) {
    #[cfg(feature = "request-object")]
    let is_client_hosted = reason == Reason::REQUEST_OBJECT_KEYS_UNAVAILABLE;
    #[cfg(not(feature = "request-object"))]
    let is_client_hosted = false;
    failed(cause, is_client_hosted, request, reason, report_only);
}

fn failed(
    cause: &(dyn Error + 'static),
    is_client_hosted: bool,
    request: &AuthorizationRequest,
    reason: Reason,
    report_only: bool,
) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                outcome = "rejected",
                error = reason.error().as_str(),
                "error.type" = reason.as_str(),
                reason = reason.as_str(),
                client_id = client_id(request),
                cause = display(Causes(cause)),
                report_only,
            )
        };
    }
    // Strangers can make the hosts that they chose fail, which must not raise an alarm.
    if is_client_hosted {
        event!(info);
    } else {
        event!(error);
    }
}

fn client_id(request: &AuthorizationRequest) -> Option<DisplayValue<Untrusted<'_>>> {
    request.get(Parameter::ClientId).map(|id| display(Untrusted(id)))
}
