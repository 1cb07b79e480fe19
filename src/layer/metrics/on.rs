//! Told to the recorder that the application installed for the `metrics` crate. No label takes a value from a request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use metrics::{counter, histogram};
use pin_project_lite::pin_project;

use crate::authorization::Rejection;
use crate::client::Client;
use crate::registry::RegistryError;

const DECISIONS: &str = "oauth_client_validation_decisions_total";
const LOOK_UPS: &str = "oauth_client_validation_lookup_duration_seconds";

pub(in crate::layer) fn accepted(report_only: bool) {
    decided("accepted", "", "", report_only);
}

pub(in crate::layer) fn forwarded(report_only: bool) {
    decided("forwarded", "", "", report_only);
}

pub(in crate::layer) fn rejected(rejection: &Rejection, report_only: bool) {
    decided("rejected", rejection.error().as_str(), rejection.reason().as_str(), report_only);
}

fn decided(outcome: &'static str, error: &'static str, reason: &'static str, report_only: bool) {
    let report_only = if report_only { "true" } else { "false" };
    let labels = [("outcome", outcome), ("error", error), ("reason", reason), ("report_only", report_only)];
    counter!(DECISIONS, &labels).increment(1);
}

pub(in crate::layer) fn time<F>(look_up: F) -> LookUp<F> {
    LookUp { look_up, began: Instant::now() }
}

pin_project! {
    /// A look-up and when it began.
    pub(in crate::layer) struct LookUp<F> {
        #[pin]
        look_up: F,
        began: Instant,
    }
}

impl<F> Future for LookUp<F>
where
    F: Future<Output = Result<Option<Arc<Client>>, RegistryError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let found = ready!(this.look_up.poll(cx));
        let result = match &found {
            Ok(Some(_)) => "found",
            Ok(None) => "unknown",
            Err(error) if error.is_transient() => "unavailable",
            Err(_) => "fault",
        };
        histogram!(LOOK_UPS, "result" => result).record(this.began.elapsed());
        Poll::Ready(found)
    }
}
