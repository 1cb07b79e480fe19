//! The public keys of clients.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::jws::{JwsError, UnverifiedJws};
use crate::client::Client;

/// Finds the JSON Web Key Set of a client (RFC 7517 §5).
///
/// The default reads the client's `jwks` and knows no `jwks_uri`.
pub trait KeySource: Send + Sync {
    /// The client's key set; `None` where it has none.
    ///
    /// `refresh` asks for a set that is newer than the last one that this source gave: a signature names a key that
    /// the last one did not hold. A source that fetches keys bounds how often it does that.
    ///
    /// # Errors
    ///
    /// When the keys cannot be had at the moment.
    fn keys<'a>(&'a self, client: &'a Client, refresh: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>>;
}

/// The `jwks` that a client registered.
pub(crate) struct RegisteredKeys;

impl KeySource for RegisteredKeys {
    fn keys<'a>(&'a self, client: &'a Client, _refresh: bool) -> BoxFuture<'a, Result<Option<Arc<Value>>, KeyError>> {
        let keys = client.jwks().cloned().map(Arc::new);
        std::future::ready(Ok(keys)).boxed()
    }
}

/// The claims of a JWT, once one of the client's keys has verified its signature.
pub(crate) async fn verify_signature(
    jws: UnverifiedJws<'_>,
    client: &Client,
    source: &dyn KeySource,
) -> Result<Map<String, Value>, SignatureError> {
    let mut keys = source.keys(client, false).await.map_err(SignatureError::Unavailable)?;
    // A client that rotates its keys signs with one that is not known here yet.
    if !keys.as_deref().is_some_and(|keys| jws.names_key_in(keys)) {
        keys = source.keys(client, true).await.map_err(SignatureError::Unavailable)?;
    }
    let keys = keys.ok_or(SignatureError::Wrong(JwsError::Key))?;
    jws.verify(&keys).map_err(SignatureError::Wrong)
}

/// Why a signature was not verified.
pub(crate) enum SignatureError {
    Wrong(JwsError),
    Unavailable(KeyError),
}

/// The keys of a client cannot be had at the moment.
#[derive(Clone, Debug)]
pub struct KeyError(Arc<dyn std::error::Error + Send + Sync>);

impl KeyError {
    /// Wraps what went wrong.
    #[must_use]
    pub fn new(source: impl Into<tower::BoxError>) -> Self {
        Self(source.into().into())
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the keys of the client are not available")
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
