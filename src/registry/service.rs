//! Sources as `tower` services, and services as sources.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower::{BoxError, Service, ServiceExt};

use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// Makes a source from a `tower::Service<String>`, so that lookups can use `tower`'s middleware.
///
/// Each lookup clones the service; put a `Buffer` around one that cannot be cloned. Errors of the service that are not a
/// [`RegistryError`], such as `Elapsed` of a `Timeout` or `Overloaded` of a `LoadShed`, become transient ones.
///
/// ```
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_oauth_client_validation::{MemoryRegistry, RegistrySource, ServiceRegistry};
///
/// let registry = ServiceRegistry::new(
///     ServiceBuilder::new()
///         .load_shed()
///         .concurrency_limit(64)
///         .timeout(Duration::from_secs(2))
///         .service(MemoryRegistry::new().into_service()),
/// );
/// # let _ = registry;
/// ```
#[derive(Clone, Debug)]
pub struct ServiceRegistry<S> {
    service: S,
}

impl<S> ServiceRegistry<S> {
    /// Calls `service` with the id of a client to look it up.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self { service }
    }
}

impl<S> RegistrySource for ServiceRegistry<S>
where
    S: Service<String, Response = Option<Arc<Client>>> + Clone,
    S::Error: Into<BoxError>,
{
    type Future = ServiceFuture<S>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        ServiceFuture { future: self.service.clone().oneshot(client_id.to_owned()) }
    }
}

pin_project! {
    /// The lookup of [`ServiceRegistry`].
    #[derive(Debug)]
    pub struct ServiceFuture<S: Service<String>> {
        #[pin]
        future: Oneshot<S, String>,
    }
}

impl<S> Future for ServiceFuture<S>
where
    S: Service<String, Response = Option<Arc<Client>>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Option<Arc<Client>>, RegistryError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().future.poll(cx)).map_err(|error| {
            match error.into().downcast::<RegistryError>() {
                Ok(error) => *error,
                Err(error) => RegistryError::transient(error),
            }
        }))
    }
}

/// A source as a `tower::Service<String>`, see [`RegistrySource::into_service`]. Always ready.
#[derive(Debug)]
pub struct RegistryService<S> {
    source: Arc<S>,
}

impl<S> RegistryService<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source: Arc::new(source) }
    }
}

impl<S> Clone for RegistryService<S> {
    fn clone(&self) -> Self {
        Self { source: Arc::clone(&self.source) }
    }
}

impl<S: RegistrySource> Service<String> for RegistryService<S> {
    type Response = Option<Arc<Client>>;
    type Error = RegistryError;
    type Future = S::Future;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, client_id: String) -> Self::Future {
        self.source.find_client(&client_id)
    }
}
