//! Using up a pushed request.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::authorization::arrival::{OneTime, UseUpErrorKind, UseUpFailure};
use crate::state::{StateError, StateStore};

/// A pushed request in a store, until it is taken from there.
pub(super) struct KeptOnce {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) request_uri: Box<str>,
    pub(super) key: Box<str>,
}

impl OneTime for KeptOnce {
    fn request_uri(&self) -> &str {
        &self.request_uri
    }

    fn use_up(&self) -> BoxFuture<'static, Result<(), UseUpFailure>> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        async move {
            match store.take(&key).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(UseUpFailure { kind: UseUpErrorKind::Used, source: None }),
                Err(error) => Err(failed(error)),
            }
        }
        .boxed()
    }
}

pub(super) fn failed(error: StateError) -> UseUpFailure {
    let kind = if error.is_transient() { UseUpErrorKind::Unavailable } else { UseUpErrorKind::Fault };
    UseUpFailure { kind, source: Some(error.into()) }
}
