//! Counters by method and outcome, where the feature `metrics` is on. No label takes a value from a request.

use super::failure::AuthenticationFailure;
use super::method::AuthenticationMethod;

#[cfg(feature = "metrics")]
const DECISIONS: &str = "oauth_client_authentication_decisions_total";

#[cfg(feature = "metrics")]
pub(super) fn accepted(method: AuthenticationMethod) {
    count("accepted", method.as_str(), "");
}

#[cfg(feature = "metrics")]
pub(super) fn refused(failure: AuthenticationFailure, method: Option<AuthenticationMethod>) {
    count("rejected", method.map_or("", AuthenticationMethod::as_str), failure.as_str());
}

#[cfg(feature = "metrics")]
fn count(outcome: &'static str, method: &'static str, reason: &'static str) {
    metrics::counter!(DECISIONS, "outcome" => outcome, "method" => method, "reason" => reason).increment(1);
}

#[cfg(not(feature = "metrics"))]
pub(super) fn accepted(_method: AuthenticationMethod) {}

#[cfg(not(feature = "metrics"))]
pub(super) fn refused(_failure: AuthenticationFailure, _method: Option<AuthenticationMethod>) {}
