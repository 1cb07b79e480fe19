//! One event a decision: fields, not prose. Never `state`, `nonce`, `code_challenge` or secrets.

use std::error::Error;
use std::fmt;

use tracing::field::display;

use crate::authorization::{AuthorizationRequest, Parameter, Reason, Rejection, ValidatedRequest};
use crate::registry::RegistryError;

/// Names chosen by strangers are cut here.
const LONGEST_CLIENT_ID: usize = 256;

pub(super) fn accepted(validated: &ValidatedRequest, report_only: bool) {
    tracing::debug!(outcome = "accepted", client_id = display(ClientId(validated.client_id())), report_only);
}

pub(super) fn rejected(rejection: &Rejection, report_only: bool) {
    let reason = rejection.reason();
    let error = rejection.error().as_str();
    let client_id = rejection.client_id().map(|id| display(ClientId(id)));
    match reason {
        // Told by `registry_failed`, with its cause.
        Reason::RegistryUnavailable | Reason::RegistryFault => {}
        Reason::ClientIdMismatch => {
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
                // Formatted only where somebody listens.
                detail = reason.detail(),
                report_only,
            );
        }
    }
}

pub(super) fn forwarded(request: &AuthorizationRequest, report_only: bool) {
    let client_id = client_id(request);
    tracing::info!(outcome = "forwarded", reason = Reason::ClientUnknown.as_str(), client_id, report_only);
}

pub(super) fn registry_failed(
    error: &RegistryError,
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
                cause = display(Causes(error)),
                report_only,
            )
        };
    }
    // Strangers cause failures of hosts that they chose: those must not raise an alarm.
    if error.is_client_hosted() {
        event!(info);
    } else {
        event!(error);
    }
}

fn client_id(request: &AuthorizationRequest) -> Option<tracing::field::DisplayValue<ClientId<'_>>> {
    request.get(Parameter::ClientId).map(|id| display(ClientId(id)))
}

/// Escaped and cut.
struct ClientId<'a>(&'a str);

impl fmt::Display for ClientId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = LONGEST_CLIENT_ID;
        for c in self.0.chars() {
            // An escape is cut before it, not within.
            match left.checked_sub(c.escape_debug().map(char::len_utf8).sum()) {
                Some(rest) => left = rest,
                None => return Ok(()),
            }
            write!(f, "{}", c.escape_debug())?;
        }
        Ok(())
    }
}

/// An error and what caused it, in one line.
struct Causes<'a>(&'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
