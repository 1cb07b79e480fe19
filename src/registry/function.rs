//! A source made of a closure.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// A source made of a closure, as `tower::service_fn` makes a service of one.
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{Client, RegistryError, registry_fn};
///
/// let registry = registry_fn(|client_id: String| async move {
///     if client_id != "app" {
///         return Ok(None);
///     }
///     let client = Client::builder(client_id).redirect_uri("https://app.example/cb").build();
///     client.map(|client| Some(Arc::new(client))).map_err(RegistryError::permanent)
/// });
/// # let _ = registry;
/// ```
pub fn registry_fn<F, Fut>(function: F) -> RegistryFn<F>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<Option<Arc<Client>>, RegistryError>>,
{
    RegistryFn { function }
}

/// A source made of a closure, see [`registry_fn`].
#[derive(Clone, Copy)]
pub struct RegistryFn<F> {
    function: F,
}

impl<F, Fut> RegistrySource for RegistryFn<F>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<Option<Arc<Client>>, RegistryError>>,
{
    type Future = Fut;

    fn find_client(&self, client_id: &str) -> Self::Future {
        (self.function)(client_id.to_owned())
    }
}

impl<F> fmt::Debug for RegistryFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryFn").finish_non_exhaustive()
    }
}
