//! The HTTP client for URLs that strangers choose.

use std::error::Error;
use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, redirect, retry};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use super::address::{AddressFilter, Network};
use super::permits::Permit;

/// Sends a request and returns the response with its unread body.
pub(super) type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody>, BoxError>;

pub(super) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

type Resolver = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

tokio::task_local! {
    /// The permit of the fetch that is being polled.
    pub(super) static PERMIT: Arc<Permit>;
}

/// What the guarded HTTP client is made of.
#[derive(Clone)]
pub(crate) struct TransportConfig {
    pub(crate) filter: AddressFilter,
    resolver: Arc<Resolver>,
    root_certificates: Vec<u8>,
    /// Sends requests in place of the guarded HTTP client.
    replacement: Option<Transport>,
}

impl TransportConfig {
    pub(crate) fn new() -> Self {
        Self {
            filter: AddressFilter::new(),
            resolver: Arc::new(|host| system_addresses(host).boxed()),
            root_certificates: Vec::new(),
            replacement: None,
        }
    }

    pub(crate) fn set_resolver<F, Fut>(&mut self, resolver: F)
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        self.resolver = Arc::new(move |host| resolver(host).boxed());
    }

    pub(crate) fn add_root_certificates(&mut self, pem: &[u8]) {
        self.root_certificates.extend_from_slice(pem);
        self.root_certificates.push(b'\n');
    }

    pub(crate) fn replace<S, B>(&mut self, service: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let boxed = |response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync());
        self.replacement = Some(BoxCloneSyncService::new(service.map_response(boxed).map_err(Into::into)));
    }

    /// No proxy, no redirect, no retry, no decompression, no connection that is kept.
    pub(super) fn build(self) -> Result<Transport, reqwest::Error> {
        if let Some(replacement) = self.replacement {
            return Ok(replacement);
        }
        let filter = self.filter;
        let http = reqwest::Client::builder()
            .user_agent(HeaderValue::from_static(concat!("tower-oauth-client-validation/", env!("CARGO_PKG_VERSION"))))
            .dns_resolver(Arc::new(FilteringResolver { resolver: self.resolver, filter }))
            .https_only(!filter.allows_loopback())
            .tls_certs_merge(Certificate::from_pem_bundle(&self.root_certificates)?)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            // A pooled connection would skip the address filter.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(BoxCloneSyncService::new(tower::service_fn(move |request: Request<Full<Bytes>>| {
            let http = http.clone();
            async move {
                let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
                // The resolver never sees an address that the URL spells out.
                if !filter.admits_host_of(request.url()) {
                    return Err(NoPublicAddress.into());
                }
                // Events must not carry whole addresses, which strangers choose.
                let response = http.execute(request).await.map_err(reqwest::Error::without_url)?;
                let response = Response::<reqwest::Body>::from(response);
                Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
            }
        })))
    }
}

async fn system_addresses(host: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
}

/// Resolves a host once, for the check and for the connection: a second lookup could answer differently.
struct FilteringResolver {
    resolver: Arc<Resolver>,
    filter: AddressFilter,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Ok(permit) = PERMIT.try_with(Arc::clone) else {
            return Box::pin(ready(Err(io::Error::other("a name lookup without a permit").into())));
        };
        let lookup_permit = match permit.lookup() {
            Ok(permit) => permit,
            Err(refused) => return Box::pin(ready(Err(refused.into()))),
        };
        let addresses = (self.resolver)(name.as_str().to_owned());
        // `getaddrinfo` occupies a thread until it returns, even if the fetch was cancelled, so keep the permit until then.
        let lookup = tokio::spawn(async move {
            let _permit = lookup_permit;
            addresses.await
        });
        let filter = self.filter;
        Box::pin(async move {
            let addresses = lookup.await??;
            // One forbidden address is enough to refuse: no honest host has both kinds.
            if addresses.is_empty() || !addresses.iter().all(|address| filter.admits(*address)) {
                return Err(NoPublicAddress.into());
            }
            let addresses = of_one_network_each(addresses);
            permit.enter(addresses.iter().copied())?;
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// The addresses in the first IPv4 and the first IPv6 network, so that a host cannot use up the permits of many
/// networks.
fn of_one_network_each(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first = |is_v4: bool| addresses.iter().find(|address| address.is_ipv4() == is_v4).copied().map(Network::of);
    let networks = [first(true), first(false)];
    addresses.into_iter().filter(|address| networks.contains(&Some(Network::of(*address)))).collect()
}

/// The host has no address, or a forbidden one. Both look the same to strangers.
#[derive(Debug)]
pub(super) struct NoPublicAddress;

impl fmt::Display for NoPublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host has no address, or one that is not public")
    }
}

impl Error for NoPublicAddress {}
