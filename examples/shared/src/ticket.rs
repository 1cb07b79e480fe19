//! Requests that wait for the user's decision, kept by the browser instead of the server.
//!
//! Anybody can open consent pages. If the server kept something for each, a stranger could open so many that the pages of
//! others stop working.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tower_oauth_client_validation::{AuthorizationRequest, ValidatedRequest};

use crate::store::Refused;

/// Issues tickets: signed copies of a request, which only this process accepts back.
#[allow(missing_debug_implementations, reason = "holds a key")]
pub struct Tickets {
    key: [u8; 32],
    lifetime: Duration,
}

/// A request as the user saw it.
#[derive(Debug)]
pub struct Pending {
    /// The request.
    pub request: AuthorizationRequest,
    /// The scope that the page showed.
    pub scope: String,
}

#[derive(Deserialize, Serialize)]
struct Payload {
    /// Seconds since 1970.
    expires: u64,
    request: String,
    scope: String,
}

impl Tickets {
    /// Tickets that are good for `lifetime`.
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes.
    pub fn new(lifetime: Duration) -> Result<Self, Refused> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| Refused::NoEntropy)?;
        Ok(Self { key, lifetime })
    }

    /// A ticket for the request. It is accepted only together with the same `binding`.
    #[must_use]
    pub fn issue(&self, request: &ValidatedRequest, binding: &str) -> String {
        let payload = Payload {
            expires: seconds(SystemTime::now() + self.lifetime),
            request: request.request().to_query(),
            scope: request.scope().to_owned(),
        };
        let payload = serde_json::to_vec(&payload).unwrap_or_default();
        let signature = self.signer(binding, &payload).finalize().into_bytes();
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature), BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    /// The request of the ticket; `None` if the ticket was forged, has expired, or was issued for another `binding`.
    #[must_use]
    pub fn read(&self, ticket: &str, binding: &str) -> Option<Pending> {
        let (signature, payload) = ticket.split_once('.')?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.signer(binding, &payload).verify_slice(&signature).ok()?;
        let Payload { expires, request, scope } = serde_json::from_slice(&payload).ok()?;
        let is_current = seconds(SystemTime::now()) < expires;
        is_current.then(|| Pending { request: AuthorizationRequest::parse(request.as_bytes(), b""), scope })
    }

    /// A secret that only this process can derive from `text`.
    #[must_use]
    pub fn derive(&self, text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.signer("derived secret", text.as_bytes()).finalize().into_bytes())
    }

    fn signer(&self, binding: &str, payload: &[u8]) -> Hmac<Sha256> {
        let mut signer = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        // Of fixed length, so that no other pair has the same bytes.
        signer.update(&(binding.len() as u64).to_be_bytes());
        signer.update(binding.as_bytes());
        signer.update(payload);
        signer
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
