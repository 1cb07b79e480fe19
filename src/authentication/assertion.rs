//! `private_key_jwt`: assertions that clients sign (RFC 7523 §3 with its 2025 correction, OpenID Connect Core §9).

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::failure::{AuthenticationError, AuthenticationFailure};
use super::jws::{self, JwsError, LEEWAY, SigningAlgorithm, TimeError, UnverifiedJws};
use super::keys::{SignatureError, verify_signature};
use super::policy::Settings;
use crate::client::Client;

/// How far ahead an assertion may expire.
const MAX_LIFETIME: Duration = Duration::from_secs(600);

/// Longer ids are not remembered; real ones are UUIDs.
const MAX_ID_BYTES: usize = 1024;

/// `typ` of client assertions; without it, anything that has the right claims.
const KINDS: [&str; 2] = ["jwt", "client-authentication+jwt"];

/// An assertion that was read, but not verified.
pub(super) struct Assertion<'a> {
    jws: UnverifiedJws<'a>,
    client_id: String,
}

impl<'a> Assertion<'a> {
    pub(super) fn read(assertion: &'a str) -> Result<Self, AuthenticationFailure> {
        let jws = UnverifiedJws::parse(assertion).map_err(failure)?;
        if jws.kind().is_some_and(|kind| !KINDS.contains(&&*kind)) {
            return Err(AuthenticationFailure::AssertionMalformed);
        }
        let claims = jws.unverified_claims();
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let client_id = text("sub").filter(|subject| text("iss") == Some(*subject));
        let client_id = client_id.ok_or(AuthenticationFailure::AssertionIssuer)?.to_owned();
        Ok(Self { jws, client_id })
    }

    /// The client that the assertion names. Not proven yet.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Checks the assertion against the client's keys, and uses it up.
    pub(super) async fn verify(
        self,
        client: &Client,
        settings: &Settings,
        now: SystemTime,
    ) -> Result<(), AuthenticationError> {
        let refused = |failure| Err(AuthenticationError::new(failure));
        let algorithm = self.jws.algorithm();
        let registered = client.token_endpoint_auth_signing_alg();
        let is_registered = registered.is_none_or(|name| SigningAlgorithm::parse(name) == Some(algorithm));
        if !settings.algorithms.contains(&algorithm) || !is_registered {
            return refused(AuthenticationFailure::AssertionAlgorithm);
        }
        let claims = verify_signature(self.jws, client, &*settings.keys).await.map_err(|error| match error {
            SignatureError::Wrong(error) => AuthenticationError::new(failure(error)),
            SignatureError::Unavailable(error) => {
                AuthenticationError::caused_by(AuthenticationFailure::KeysUnavailable, error)
            }
        })?;
        let expires_at = check_claims(&claims, settings, now).map_err(AuthenticationError::new)?;
        let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| is_usable_id(id)) else {
            return refused(AuthenticationFailure::AssertionId);
        };
        let Some(store) = &settings.replay_store else {
            return refused(AuthenticationFailure::MethodNotSupported);
        };
        // Past its expiry, and the leeway that it is given, the assertion is refused anyway.
        let lifetime = expires_at.duration_since(now).unwrap_or_default() + LEEWAY;
        match store.put_new(&replay_key(client.id(), id), &[], lifetime).await {
            Ok(true) => Ok(()),
            Ok(false) => refused(AuthenticationFailure::AssertionReplayed),
            Err(error) if error.is_transient() => {
                Err(AuthenticationError::caused_by(AuthenticationFailure::StateUnavailable, error))
            }
            Err(error) => Err(AuthenticationError::caused_by(AuthenticationFailure::StateFault, error)),
        }
    }
}

/// `aud`, and the times. Returns when the assertion expires.
fn check_claims(
    claims: &Map<String, Value>,
    settings: &Settings,
    now: SystemTime,
) -> Result<SystemTime, AuthenticationFailure> {
    let audience = claims.get("aud").and_then(Value::as_str);
    if !audience.is_some_and(|audience| settings.audiences.iter().any(|known| known == audience)) {
        return Err(AuthenticationFailure::AssertionAudience);
    }
    jws::check_times(claims, MAX_LIFETIME, now).map_err(|error| match error {
        TimeError::Expiry => AuthenticationFailure::AssertionExpiry,
        TimeError::NotYetValid => AuthenticationFailure::AssertionNotYetValid,
    })
}

fn is_usable_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID_BYTES
}

/// One key for each client and `jti`, of a length that every store takes.
fn replay_key(client_id: &str, id: &str) -> String {
    use base64::Engine;

    let mut digest = Sha256::new();
    digest.update((client_id.len() as u64).to_be_bytes());
    digest.update(client_id);
    digest.update(id);
    format!("assertion:{}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(digest.finalize()))
}

fn failure(error: JwsError) -> AuthenticationFailure {
    match error {
        JwsError::Malformed => AuthenticationFailure::AssertionMalformed,
        JwsError::Algorithm => AuthenticationFailure::AssertionAlgorithm,
        JwsError::Key => AuthenticationFailure::AssertionKey,
        JwsError::Signature => AuthenticationFailure::AssertionSignature,
    }
}
