//! The tower side: layer and service.

use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};
use tower_layer::Layer;

use super::authenticator::{ClientAuthenticator, check_head};
use super::failure::AuthenticationFailure;
use super::future::{AuthenticationFuture, Waiting};
use super::policy::AuthenticationPolicy;
use crate::http::body::{KeepBodies, Reading, RequestBodies, ResponseBodies, WrapBodies};
use crate::http::head;
use crate::registry::RegistrySource;

/// Authenticates clients before the inner service sees their requests: for the token endpoint, and the endpoints for
/// pushed requests, revocation and introspection.
///
/// | request | answer |
/// |---|---|
/// | the client is authenticated, or public | the inner service, with an [`AuthenticatedClient`](crate::AuthenticatedClient) in the extensions and the same body |
/// | the client is unknown or not active, its credentials are wrong, or the method is not the registered one | 401 `invalid_client`; the answers do not tell these apart |
/// | several methods at once, several `Authorization` headers, another client's `client_id`, a repeated parameter, a parameter in the query, no form | 400 `invalid_request` |
/// | any method but `POST` | 405 `invalid_request` |
/// | a body over the limit | 413 `invalid_request` |
/// | the registry, the key source or the replay store cannot answer | 503 `temporarily_unavailable` or 500 `server_error` |
///
/// Put a CORS layer outside of this one: a preflight request carries no credentials and is answered with 405 here. As
/// in [`ClientValidationLayer`](crate::ClientValidationLayer), body types are kept unless
/// [`wrap_bodies`](Self::wrap_bodies) is called.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// use tower_oauth_client_validation::{
///     AuthenticatedClient, AuthenticationPolicy, Client, ClientAuthenticationLayer, MemoryRegistry,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let registry = MemoryRegistry::from_clients([Client::builder("app").build()?]);
/// let layer = ClientAuthenticationLayer::new(registry, AuthenticationPolicy::builder().build()?);
/// let service = ServiceBuilder::new().layer(layer).service_fn(|request: Request<Full<Bytes>>| async move {
///     let caller = request.extensions().get::<AuthenticatedClient>().expect("the layer put it there");
///     let body: Full<Bytes> = format!("tokens for {}", caller.client_id()).into();
///     Ok::<_, BoxError>(Response::new(body))
/// });
///
/// let form = |body: &'static str| {
///     let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
///     request.body(Full::<Bytes>::from(body))
/// };
/// assert_eq!(service.clone().oneshot(form("client_id=app&grant_type=authorization_code")?).await?.status(), 200);
/// assert_eq!(service.oneshot(form("client_id=nobody&grant_type=authorization_code")?).await?.status(), 401);
/// # Ok(())
/// # }
/// ```
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct ClientAuthenticationLayer<R, M = KeepBodies> {
    authenticator: ClientAuthenticator<R>,
    bodies: PhantomData<fn() -> M>,
}

impl<R: RegistrySource> ClientAuthenticationLayer<R> {
    /// Authenticates the clients of `registry` by `policy`.
    pub fn new(registry: R, policy: AuthenticationPolicy) -> Self {
        Self { authenticator: ClientAuthenticator::new(registry, policy), bodies: PhantomData }
    }

    /// Wraps request and response bodies in types of this crate, so that any body works, such as hyper's `Incoming`.
    pub fn wrap_bodies(self) -> ClientAuthenticationLayer<R, WrapBodies> {
        ClientAuthenticationLayer { authenticator: self.authenticator, bodies: PhantomData }
    }
}

impl<R, M> ClientAuthenticationLayer<R, M> {
    /// What decides.
    #[must_use]
    pub fn authenticator(&self) -> &ClientAuthenticator<R> {
        &self.authenticator
    }
}

impl<S, R, M> Layer<S> for ClientAuthenticationLayer<R, M> {
    type Service = ClientAuthentication<S, R, M>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientAuthentication { inner, authenticator: self.authenticator.clone(), bodies: PhantomData }
    }
}

/// The service of [`ClientAuthenticationLayer`].
pub struct ClientAuthentication<S, R, M = KeepBodies> {
    inner: S,
    authenticator: ClientAuthenticator<R>,
    bodies: PhantomData<fn() -> M>,
}

impl<S, R, M, ReqBody, ResBody> Service<Request<ReqBody>> for ClientAuthentication<S, R, M>
where
    S: Service<Request<<M as RequestBodies<ReqBody>>::Inner>, Response = Response<ResBody>> + Clone,
    R: RegistrySource<Future: Send> + Send + Sync + 'static,
    M: RequestBodies<ReqBody> + ResponseBodies<ResBody>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    type Response = Response<<M as ResponseBodies<ResBody>>::Outer>;
    type Error = S::Error;
    type Future = AuthenticationFuture<S, R, M, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready goes with the request; its clone was not polled.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let (parts, body) = request.into_parts();
        let limit = self.authenticator.policy().settings.max_body_bytes;
        let announced = head::announced_length(&parts.headers, &body);
        let refused = match check_head(&parts) {
            Err(failure) => Some(failure),
            Ok(()) if announced > limit as u64 => Some(AuthenticationFailure::BodyTooLarge),
            Ok(()) => None,
        };
        if let Some(failure) = refused {
            // Drops the inner service, and its permits with it.
            return AuthenticationFuture::refused(&parts, failure);
        }
        let waiting = Waiting { inner, authenticator: self.authenticator.clone() };
        AuthenticationFuture::reading(waiting, parts, Reading::new(body, limit))
    }
}

impl<R, M> Clone for ClientAuthenticationLayer<R, M> {
    fn clone(&self) -> Self {
        Self { authenticator: self.authenticator.clone(), bodies: PhantomData }
    }
}

impl<S: Clone, R, M> Clone for ClientAuthentication<S, R, M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), authenticator: self.authenticator.clone(), bodies: PhantomData }
    }
}

impl<R, M> fmt::Debug for ClientAuthenticationLayer<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthenticationLayer").field("authenticator", &self.authenticator).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, R, M> fmt::Debug for ClientAuthentication<S, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthentication")
            .field("inner", &self.inner)
            .field("authenticator", &self.authenticator)
            .finish_non_exhaustive()
    }
}
