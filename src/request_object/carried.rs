//! Pushed requests without a store: the `request_uri` is the sealed request itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::log;
use super::one_time::failed;
use super::seal::{Binding, SealError, SealKeys, random};
use super::sources::REQUEST_URI_PREFIX;
use crate::authorization::arrival::{OneTime, UseUpErrorKind, UseUpFailure};
use crate::state::{StateError, StateStore};

/// No [`RequestSealer`](crate::RequestSealer) has it: theirs begin with `page`.
const PURPOSE: &str = "pushed request";

/// 128 random bits.
const ID_BYTES: usize = 16;

/// The clocks of nodes differ by less than this. Used ids are remembered for this much longer than a request lives.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Seals requests into their `request_uri`, and remembers the ids of those that were used.
pub(super) struct Carried {
    pub(super) keys: SealKeys,
    pub(super) tenant: Option<Box<str>>,
    pub(super) used_ids: Arc<dyn StateStore>,
}

impl Carried {
    /// The `request_uri` of a request.
    pub(super) fn seal(&self, request: &str, lifetime: Duration) -> Result<String, SealError> {
        let mut content = random::<ID_BYTES>()?.to_vec();
        content.extend(request.as_bytes());
        let seal = self.keys.seal(&self.binding(), SystemTime::now() + lifetime, &content)?;
        Ok(format!("{REQUEST_URI_PREFIX}{seal}"))
    }

    /// The request of a `request_uri`, used up or not.
    pub(super) fn open(&self, request_uri: &str) -> Option<(Vec<u8>, CarriedOnce)> {
        let seal = request_uri.strip_prefix(REQUEST_URI_PREFIX)?;
        let opened = self.keys.open(seal, &self.binding(), SystemTime::now());
        let (mut content, expires_at) = opened.map_err(|fault| log::not_opened(fault.as_str())).ok()?;
        let request = content.split_off(ID_BYTES.min(content.len()));
        let id = BASE64_URL_SAFE_NO_PAD.encode(content);
        let used_ids = Arc::clone(&self.used_ids);
        let once = CarriedOnce { used_ids, request_uri: request_uri.into(), key: format!("used/{id}"), expires_at };
        Some((request, once))
    }

    fn binding(&self) -> Binding<'_> {
        Binding { purpose: PURPOSE, issuer: None, tenant: self.tenant.as_deref(), context: None }
    }
}

/// A request that counts until its id is among the used ones.
pub(super) struct CarriedOnce {
    used_ids: Arc<dyn StateStore>,
    request_uri: Box<str>,
    key: String,
    expires_at: SystemTime,
}

impl CarriedOnce {
    pub(super) async fn is_used_up(&self) -> Result<bool, StateError> {
        Ok(self.used_ids.get(&self.key).await?.is_some())
    }
}

impl OneTime for CarriedOnce {
    fn request_uri(&self) -> &str {
        &self.request_uri
    }

    fn use_up(&self) -> BoxFuture<'static, Result<(), UseUpFailure>> {
        let (used_ids, key, expires_at) = (Arc::clone(&self.used_ids), self.key.clone(), self.expires_at);
        async move {
            let used = || UseUpFailure { kind: UseUpErrorKind::Used, source: None };
            let Ok(remaining) = expires_at.duration_since(SystemTime::now()) else {
                return Err(used());
            };
            match used_ids.put_new(&key, b"", remaining + CLOCK_TOLERANCE).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(used()),
                Err(error) => Err(failed(error)),
            }
        }
        .boxed()
    }
}
