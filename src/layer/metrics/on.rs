//! Reports to the recorder of the `metrics` crate that the application installed. No label takes a value from a request.

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
const LOOKUPS: &str = "oauth_client_validation_lookup_duration_seconds";

/// With literals, counting an accepted request allocates nothing.
macro_rules! count {
    ($outcome:literal, $report_only:expr) => {
        if $report_only {
            counter!(DECISIONS, "outcome" => $outcome, "error" => "", "reason" => "", "report_only" => "true")
        } else {
            counter!(DECISIONS, "outcome" => $outcome, "error" => "", "reason" => "", "report_only" => "false")
        }
        .increment(1);
    };
}

pub(in crate::layer) fn accepted(report_only: bool) {
    count!("accepted", report_only);
}

pub(in crate::layer) fn forwarded(report_only: bool) {
    count!("forwarded", report_only);
}

pub(in crate::layer) fn rejected(rejection: &Rejection, report_only: bool) {
    let (error, reason) = (rejection.error().as_str(), rejection.reason().as_str());
    let report_only = if report_only { "true" } else { "false" };
    let labels = [("outcome", "rejected"), ("error", error), ("reason", reason), ("report_only", report_only)];
    counter!(DECISIONS, &labels).increment(1);
}

pub(in crate::layer) fn time<F>(lookup: F) -> Lookup<F> {
    Lookup { lookup, began: Instant::now() }
}

pin_project! {
    /// A lookup, and when it began.
    pub(in crate::layer) struct Lookup<F> {
        #[pin]
        lookup: F,
        began: Instant,
    }
}

impl<F> Future for Lookup<F>
where
    F: Future<Output = Result<Option<Arc<Client>>, RegistryError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let found = ready!(this.lookup.poll(cx));
        match &found {
            Ok(Some(_)) => histogram!(LOOKUPS, "result" => "found"),
            Ok(None) => histogram!(LOOKUPS, "result" => "unknown"),
            Err(error) if error.is_transient() => histogram!(LOOKUPS, "result" => "unavailable"),
            Err(_) => histogram!(LOOKUPS, "result" => "fault"),
        }
        .record(this.began.elapsed());
        Poll::Ready(found)
    }
}
