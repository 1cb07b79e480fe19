//! One layer for several authorization servers.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;

use self::sealed::Sealed;
use crate::authorization::{Policy, Validator};
use crate::registry::RegistrySource;
#[cfg(feature = "pushed-requests")]
use crate::request_object::PushedRequests;
use crate::request_object::RequestSources;
#[cfg(feature = "request-object")]
use crate::request_object::SignedRequests;

mod sealed {
    pub trait Sealed {}
}

/// Where the layer finds the registry and the policy for a request. Implemented by every [`RegistrySource`], which serves
/// all requests, and by [`ForEachTenant`].
pub trait Tenancy: Sealed {
    /// The registry that is asked for clients.
    type Registry: RegistrySource;

    /// What is kept while a request is judged.
    #[doc(hidden)]
    type Tenant;

    /// `None` for a request of an unknown tenant.
    #[doc(hidden)]
    fn tenant(&self, request: &Parts) -> Option<Self::Tenant>;

    #[doc(hidden)]
    fn registry<'a>(&'a self, tenant: &'a Self::Tenant) -> &'a Self::Registry;

    #[doc(hidden)]
    fn validator<'a>(tenant: &'a Self::Tenant, default: &'a Validator) -> &'a Validator;

    #[doc(hidden)]
    #[expect(private_interfaces, reason = "the trait is sealed")]
    fn sources<'a>(tenant: &'a Self::Tenant, default: &'a RequestSources) -> &'a RequestSources;
}

impl<R: RegistrySource> Sealed for R {}

impl<R: RegistrySource> Tenancy for R {
    type Registry = R;
    type Tenant = ();

    fn tenant(&self, _request: &Parts) -> Option<()> {
        Some(())
    }

    fn registry<'a>(&'a self, (): &'a ()) -> &'a R {
        self
    }

    fn validator<'a>((): &'a (), default: &'a Validator) -> &'a Validator {
        default
    }

    #[expect(private_interfaces, reason = "the trait is sealed")]
    fn sources<'a>((): &'a (), default: &'a RequestSources) -> &'a RequestSources {
        default
    }
}

/// An authorization server among several: its registry, and its policy with its issuer. Cheap to clone.
///
/// See [`ClientValidationLayer::for_each_tenant`](super::ClientValidationLayer::for_each_tenant).
pub struct Tenant<R> {
    registry: Arc<R>,
    validator: Option<Validator>,
    sources: RequestSources,
}

impl<R: RegistrySource> Tenant<R> {
    /// Creates a tenant with these clients. It has the policy of the layer unless it gets its own.
    #[must_use]
    pub fn new(registry: R) -> Self {
        Self { registry: Arc::new(registry), validator: None, sources: RequestSources::default() }
    }

    /// Sets the policy of this tenant, with its issuer.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        self.validator(Validator::new(policy))
    }

    /// Sets the validator of this tenant, to share one with other endpoints.
    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// Accepts the requests that clients of this tenant pushed, see
    /// [`ClientValidationLayer::pushed_requests`](super::ClientValidationLayer::pushed_requests).
    ///
    /// Give each tenant its own: tenants that share a store take it with
    /// [prefixes](crate::StateStore::prefixed), so that a request of one is unknown to the others.
    ///
    /// ```
    /// use tower_oauth_client_validation::{MemoryRegistry, MemoryStateStore, PushedRequests, StateStore, Tenant};
    ///
    /// let store = MemoryStateStore::new();
    /// let pushed = PushedRequests::new(store.clone().prefixed("tenant-1"));
    /// let tenant = Tenant::new(MemoryRegistry::new()).pushed_requests(pushed);
    /// # let _ = tenant;
    /// ```
    #[cfg(feature = "pushed-requests")]
    #[cfg_attr(docsrs, doc(cfg(feature = "pushed-requests")))]
    #[must_use]
    pub fn pushed_requests(mut self, pushed: PushedRequests) -> Self {
        self.sources.pushed = Some(pushed);
        self
    }

    /// Accepts the requests that clients of this tenant sign, see
    /// [`ClientValidationLayer::signed_requests`](super::ClientValidationLayer::signed_requests). The audience must be the
    /// issuer of this tenant.
    #[cfg(feature = "request-object")]
    #[cfg_attr(docsrs, doc(cfg(feature = "request-object")))]
    #[must_use]
    pub fn signed_requests(mut self, signed: SignedRequests) -> Self {
        self.sources.signed = Some(signed);
        self
    }
}

impl<R> Clone for Tenant<R> {
    fn clone(&self) -> Self {
        Self { registry: Arc::clone(&self.registry), validator: self.validator.clone(), sources: self.sources.clone() }
    }
}

impl<R> fmt::Debug for Tenant<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant").field("validator", &self.validator).finish_non_exhaustive()
    }
}

/// Resolves the tenant of each request, see
/// [`ClientValidationLayer::for_each_tenant`](super::ClientValidationLayer::for_each_tenant).
#[derive(Clone, Copy)]
pub struct ForEachTenant<F> {
    resolver: F,
}

impl<F> ForEachTenant<F> {
    pub(super) fn new(resolver: F) -> Self {
        Self { resolver }
    }
}

impl<F> Sealed for ForEachTenant<F> {}

impl<F, R> Tenancy for ForEachTenant<F>
where
    F: Fn(&Parts) -> Option<Tenant<R>>,
    R: RegistrySource,
{
    type Registry = R;
    type Tenant = Tenant<R>;

    fn tenant(&self, request: &Parts) -> Option<Tenant<R>> {
        (self.resolver)(request)
    }

    fn registry<'a>(&'a self, tenant: &'a Tenant<R>) -> &'a R {
        &tenant.registry
    }

    fn validator<'a>(tenant: &'a Tenant<R>, default: &'a Validator) -> &'a Validator {
        tenant.validator.as_ref().unwrap_or(default)
    }

    #[expect(private_interfaces, reason = "the trait is sealed")]
    fn sources<'a>(tenant: &'a Tenant<R>, _default: &'a RequestSources) -> &'a RequestSources {
        &tenant.sources
    }
}

impl<F> fmt::Debug for ForEachTenant<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForEachTenant").finish_non_exhaustive()
    }
}
