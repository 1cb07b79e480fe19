//! A source made from a closure.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// Makes a source from a closure, as `tower::service_fn` does for services.
///
/// The closure gets the id of the client and returns a future of `Result<Option<Arc<Client>>, RegistryError>`, see
/// [`RegistrySource`] for what that means. It cannot borrow from its own captures, so it clones handles such as a
/// connection pool for each lookup:
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{Client, ClientValidationLayer, RegistryError, registry_fn};
/// # #[derive(Clone)] struct Pool;
/// # struct Row { redirect_uri: String }
/// # impl Pool {
/// #     async fn query(&self, _id: &str) -> Result<Option<Row>, std::io::Error> { Ok(None) }
/// # }
///
/// # let pool = Pool;
/// let registry = registry_fn(move |client_id: String| {
///     let pool = pool.clone();
///     async move {
///         let Some(row) = pool.query(&client_id).await.map_err(RegistryError::transient)? else {
///             return Ok(None);
///         };
///         let client = Client::builder(client_id).redirect_uri(row.redirect_uri).build();
///         client.map(|client| Some(Arc::new(client))).map_err(RegistryError::permanent)
///     }
/// });
/// let layer = ClientValidationLayer::new(registry);
/// # let _ = layer;
/// ```
pub fn registry_fn<F, Fut>(function: F) -> RegistryFn<F>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<Option<Arc<Client>>, RegistryError>>,
{
    RegistryFn { function }
}

/// A source made from a closure, see [`registry_fn`].
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
