//! Counts nothing.

use crate::authorization::Rejection;

pub(in crate::layer) type Lookup<F> = F;

pub(in crate::layer) fn time<F>(lookup: F) -> Lookup<F> {
    lookup
}

pub(in crate::layer) fn accepted(_report_only: bool) {}

pub(in crate::layer) fn forwarded(_report_only: bool) {}

pub(in crate::layer) fn rejected(_rejection: &Rejection, _report_only: bool) {}
