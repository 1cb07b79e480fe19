//! Codes that are bound to a DPoP key (RFC 9449 §10; row 11a).

use crate::client::Client;

use super::reason::Reason;
use super::request::AuthorizationRequest;
use super::rules::Rules;
use super::validated::ValidatedRequest;

pub(super) const DPOP_JKT: &str = "dpop_jkt";

/// The length of a SHA-256 thumbprint in base64url.
const THUMBPRINT: usize = 43;

impl ValidatedRequest {
    /// `dpop_jkt`, where the policy declares it: the thumbprint of the key that the token request must prove (RFC 9449
    /// §10).
    #[must_use]
    pub fn dpop_jkt(&self) -> Option<&str> {
        self.extension(DPOP_JKT)
    }
}

pub(super) fn check(request: &AuthorizationRequest, client: &Client, rules: &Rules) -> Result<(), Reason> {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match request.extension(DPOP_JKT) {
        Some(thumbprint) if thumbprint.len() == THUMBPRINT && thumbprint.bytes().all(is_base64url) => Ok(()),
        Some(_) => Err(Reason::DPOP_JKT_MALFORMED),
        None if rules.dpop_jkt_required && client.dpop_bound_access_tokens() => Err(Reason::DPOP_JKT_MISSING),
        None => Ok(()),
    }
}
