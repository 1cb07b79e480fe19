//! Sources with an `async fn`.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// A source whose lookup is an `async fn`, for your own storage. [`into_source`](Self::into_source) turns it into a
/// [`RegistrySource`], at the cost of one boxed future per lookup.
///
/// ```
/// use std::sync::Arc;
/// use tower_oauth_client_validation::{AsyncRegistry, Client, ClientValidationLayer, RegistryError};
/// # struct Pool;
/// # struct Row { redirect_uri: String }
/// # impl Pool {
/// #     async fn query(&self, _id: &str) -> Result<Option<Row>, std::io::Error> { Ok(None) }
/// # }
///
/// struct Database {
///     pool: Pool,
/// }
///
/// impl AsyncRegistry for Database {
///     async fn find_client(&self, client_id: &str) -> Result<Option<Arc<Client>>, RegistryError> {
///         let Some(row) = self.pool.query(client_id).await.map_err(RegistryError::transient)? else {
///             return Ok(None);
///         };
///         let client = Client::builder(client_id).redirect_uri(row.redirect_uri).build();
///         client.map(|client| Some(Arc::new(client))).map_err(RegistryError::permanent)
///     }
/// }
///
/// # let pool = Pool;
/// let layer = ClientValidationLayer::new(Database { pool }.into_source());
/// # let _ = layer;
/// ```
pub trait AsyncRegistry: Send + Sync + 'static {
    /// Looks up the client with this id. [`RegistrySource`] says what the results mean.
    fn find_client(&self, client_id: &str) -> impl Future<Output = Result<Option<Arc<Client>>, RegistryError>> + Send;

    /// Turns this into a [`RegistrySource`].
    fn into_source(self) -> AsyncSource<Self>
    where
        Self: Sized,
    {
        AsyncSource { registry: Arc::new(self) }
    }
}

/// A [`RegistrySource`] made of an [`AsyncRegistry`]. Cheap to clone.
pub struct AsyncSource<R> {
    registry: Arc<R>,
}

impl<R: AsyncRegistry> RegistrySource for AsyncSource<R> {
    type Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let (registry, client_id) = (Arc::clone(&self.registry), client_id.to_owned());
        async move { registry.find_client(&client_id).await }.boxed()
    }
}

impl<R> Clone for AsyncSource<R> {
    fn clone(&self) -> Self {
        Self { registry: Arc::clone(&self.registry) }
    }
}

impl<R> fmt::Debug for AsyncSource<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSource").finish_non_exhaustive()
    }
}
