//! Fetches within limits, whatever sends the request.

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

/// The head of an answer, and its body still to be read.
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
    /// Our own limits refused it.
    TooMany,
    TooLarge,
    /// The host, or the way to it.
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
