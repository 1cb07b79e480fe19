//! PKCE verifiers for the identity provider (RFC 7636).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use shared::store::Refused;

/// Derives a verifier from each `state`, so that none has to be kept. Only this process can.
pub(crate) struct CodeVerifiers {
    key: [u8; 32],
}

impl CodeVerifiers {
    pub(crate) fn new() -> Result<Self, Refused> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| Refused::NoEntropy)?;
        Ok(Self { key })
    }

    pub(crate) fn derive(&self, state: &str) -> String {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        hmac.update(state.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(hmac.finalize().into_bytes())
    }
}
