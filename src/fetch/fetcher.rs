//! Fetches within limits, over any transport.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, ServiceExt};
use url::Url;

use super::body::{self, BodyError};
use super::permits::{Limits, Permit, Permits, TooManyFetches};
use super::transport::{PERMIT, ResponseBody, Transport, TransportConfig};
use crate::http::head::media_type;

/// How documents are fetched. Builders have one as a field `fetcher`, and its setters by [`fetcher_settings`].
#[derive(Clone)]
pub(crate) struct FetcherConfig {
    pub(crate) transport: TransportConfig,
    pub(crate) limits: Limits,
    /// Until the headers of the response, from the lookup of the host.
    pub(crate) headers_timeout: Duration,
    /// Until the last byte.
    pub(crate) timeout: Duration,
    pub(crate) max_bytes: usize,
}

impl FetcherConfig {
    /// The defaults that the setters name.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            transport: TransportConfig::new(),
            limits: Limits { all: 256, per_domain: 4, per_network: 16 },
            headers_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
            max_bytes,
        }
    }
}

/// The setters of a builder for its [`FetcherConfig`]. Attributes are added to `fetcher`.
macro_rules! fetcher_settings {
    ($(#[$fetcher:meta])*) => {
        /// How long a fetch may take until the headers of the response, from the lookup of the host (default: 3
        /// seconds).
        pub fn headers_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.fetcher.headers_timeout = timeout;
            self
        }

        /// How long a fetch may take until the last byte (default: 10 seconds).
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.fetcher.timeout = timeout;
            self
        }

        /// Trusts the certificates in this PEM text in addition to the roots of the platform. Those are read by `build`;
        /// on Linux from `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set.
        pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
            self.fetcher.transport.add_root_certificates(pem.as_ref());
            self
        }

        /// Resolves host names (default: the system does). The addresses are filtered.
        ///
        /// A lookup runs to its end even if its fetch is cancelled, because a lookup by the system cannot be. It no
        /// longer counts as a fetch then, but there are at most four times as many lookups as fetches for a domain, and
        /// as many as fetches in all.
        pub fn resolver<F, Fut>(mut self, resolver: F) -> Self
        where
            F: Fn(String) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = std::io::Result<Vec<std::net::IpAddr>>> + Send + 'static,
        {
            self.fetcher.transport.set_resolver(resolver);
            self
        }

        /// Sends requests with `service` instead of the HTTP client of this crate, for instance through an egress proxy,
        /// or to record them.
        ///
        /// The limits of time, size and number of fetches still apply, except the one for each network: the service
        /// resolves hosts, so it must keep requests away from private addresses (see
        /// [`AddressFilter`](crate::AddressFilter)). It must not follow redirects. The [`resolver`](Self::resolver) and
        /// [`root_certificates`](Self::root_certificates) have no effect.
        $(#[$fetcher])*
        pub fn fetcher<S, B>(mut self, service: S) -> Self
        where
            S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>, Response = http::Response<B>>
                + Clone
                + Send
                + Sync
                + 'static,
            S::Error: Into<tower::BoxError>,
            S::Future: Send + 'static,
            B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
            B::Error: Into<tower::BoxError>,
        {
            self.fetcher.transport.replace(service);
            self
        }

        /// For development: admits loopback addresses, also over `http` (default: no). Anybody who sends a request can
        /// then reach the services on this machine.
        pub fn insecure_allow_loopback(mut self, allow: bool) -> Self {
            self.fetcher.transport.filter = self.fetcher.transport.filter.insecure_allow_loopback(allow);
            self
        }
    };
}
pub(crate) use fetcher_settings;

/// Fetches documents that strangers host.
pub(crate) struct Fetcher {
    transport: Transport,
    permits: Permits,
    headers_timeout: Duration,
    timeout: Duration,
    max_bytes: usize,
}

impl Fetcher {
    pub(crate) fn new(config: FetcherConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            transport: config.transport.build()?,
            permits: Permits::new(config.limits),
            headers_timeout: config.headers_timeout,
            timeout: config.timeout,
            max_bytes: config.max_bytes,
        })
    }

    /// Permission to fetch from the host of `url`, without waiting for it.
    pub(crate) fn permit(&self, url: &Url) -> Result<Arc<Permit>, TooManyFetches> {
        self.permits.acquire(url.host_str().unwrap_or_default()).map(Arc::new)
    }

    /// Asks for a JSON document. The body of the answer is not read yet.
    pub(crate) async fn get(&self, permit: &Arc<Permit>, url: &Url) -> Result<Fetched, FetchError> {
        let began = Instant::now();
        let deadline = began + self.timeout;
        let request = Request::get(url.as_str()).header(ACCEPT, "application/json").body(Full::default());
        let request = request.map_err(FetchError::failed)?;
        let response = PERMIT.scope(Arc::clone(permit), self.transport.clone().oneshot(request));
        let response = timeout_at(deadline.min(began + self.headers_timeout), response).await;
        let response = match response {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(FetchError::of_transport(error, permit)),
            Err(elapsed) => {
                permit.answered(false);
                return Err(FetchError::failed(elapsed));
            }
        };
        permit.answered(true);
        let (parts, body) = response.into_parts();
        let permit = Arc::clone(permit);
        Ok(Fetched { status: parts.status, headers: parts.headers, body, permit, deadline, max_bytes: self.max_bytes })
    }
}

/// The head of a response, and its unread body.
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: ResponseBody,
    permit: Arc<Permit>,
    deadline: Instant,
    max_bytes: usize,
}

impl Fetched {
    /// Whether the content type is `application/json` or `application/…+json`.
    pub(crate) fn is_json(&self) -> bool {
        let media_type = media_type(&self.headers).unwrap_or_default().to_ascii_lowercase();
        media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
    }

    pub(crate) async fn bytes(self) -> Result<Bytes, FetchError> {
        let read = timeout_at(self.deadline, body::read(self.body, self.max_bytes)).await;
        let read = read.unwrap_or_else(|elapsed| Err(BodyError::Broken(elapsed.into())));
        read.map_err(|error| match error {
            BodyError::TooLarge => FetchError::TooLarge,
            BodyError::Broken(error) => {
                self.permit.answered(false);
                FetchError::Failed(error)
            }
        })
    }
}

/// Why there are no bytes.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// Refused by our own limits.
    TooMany,
    TooLarge,
    /// The host or the network failed.
    Failed(BoxError),
}

impl FetchError {
    fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed(error.into())
    }

    fn of_transport(error: BoxError, permit: &Permit) -> Self {
        let first: &(dyn Error + 'static) = &*error;
        if std::iter::successors(Some(first), |error| (**error).source()).any(|error| error.is::<TooManyFetches>()) {
            return Self::TooMany;
        }
        permit.answered(false);
        Self::Failed(error)
    }
}
