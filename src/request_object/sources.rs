//! Where the parameters of a request are read from, if not from the request itself.

use std::sync::Arc;

use tower::BoxError;

#[cfg(feature = "request-object")]
use super::signed::SignedRequests;
#[cfg(feature = "pushed-requests")]
use super::store::PushedRequests;
use crate::authorization::arrival::Arrival;
use crate::authorization::{AuthorizationRequest, Parameter, Reason, Validator};
use crate::client::Client;

/// The sources that are switched on. Cheap to clone; takes no space without the features.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestSources {
    #[cfg(feature = "pushed-requests")]
    pub(crate) pushed: Option<PushedRequests>,
    #[cfg(feature = "request-object")]
    pub(crate) signed: Option<SignedRequests>,
}

/// Why the parameters of a request could not be read: a direct error, because no redirect URI is known.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) reason: Reason,
    /// The failure of a store or a key source.
    pub(crate) cause: Option<BoxError>,
}

impl From<Reason> for Unresolved {
    fn from(reason: Reason) -> Self {
        Self { reason, cause: None }
    }
}

impl RequestSources {
    #[cfg_attr(
        not(feature = "pushed-requests"),
        expect(clippy::unused_self, reason = "without the feature nothing is read")
    )]
    fn reads_pushed(&self) -> bool {
        #[cfg(feature = "pushed-requests")]
        return self.pushed.is_some();
        #[cfg(not(feature = "pushed-requests"))]
        false
    }

    #[cfg_attr(
        not(feature = "request-object"),
        expect(clippy::unused_self, reason = "without the feature nothing is read")
    )]
    fn reads_signed(&self) -> bool {
        #[cfg(feature = "request-object")]
        return self.signed.is_some();
        #[cfg(not(feature = "request-object"))]
        false
    }

    /// Whether the parameters must be read from elsewhere. A `request_uri` that a client hosts is left to the validator,
    /// which refuses it.
    #[inline]
    pub(crate) fn concern(&self, request: &AuthorizationRequest) -> bool {
        (self.reads_pushed() || self.reads_signed()) && self.concern_parameters(request)
    }

    fn concern_parameters(&self, request: &AuthorizationRequest) -> bool {
        let has = |parameter| request.has(parameter);
        let is_pushed = request.get(Parameter::RequestUri).is_none_or(|uri| uri.starts_with(REQUEST_URI_PREFIX));
        has(Parameter::Request) && (self.reads_signed() || has(Parameter::RequestUri))
            || has(Parameter::RequestUri) && self.reads_pushed() && is_pushed
    }

    /// Reads the parameters of a request that [concerns](Self::concern) these sources. The client is the one that the
    /// request names, and is active. All other parameters are ignored, repeated or not (RFC 9101 §6.3).
    pub(crate) async fn resolve(
        &self,
        request: &AuthorizationRequest,
        client: &Arc<Client>,
        validator: &Validator,
    ) -> Result<AuthorizationRequest, Unresolved> {
        for parameter in [Parameter::ClientId, Parameter::Request, Parameter::RequestUri] {
            if let Some(fault) = request.fault(parameter) {
                return Err(Reason::of_fault(fault).into());
            }
        }
        match (request.get(Parameter::Request), request.get(Parameter::RequestUri)) {
            (Some(_), Some(_)) => Err(Reason::REQUEST_AND_REQUEST_URI.into()),
            (Some(object), None) => {
                let form = self.read_signed(object, client).await?;
                let arrival = Arrival { is_pushed: request.is_pushed(), is_signed: true, ..Arrival::default() };
                Ok(validator.parse_arrived(form.as_bytes(), arrival))
            }
            (None, Some(request_uri)) => self.find_pushed(request_uri, client, validator).await,
            (None, None) => Err(Reason::REQUEST_URI_UNKNOWN.into()),
        }
    }

    async fn find_pushed(
        &self,
        request_uri: &str,
        client: &Client,
        validator: &Validator,
    ) -> Result<AuthorizationRequest, Unresolved> {
        #[cfg(feature = "pushed-requests")]
        if let Some(pushed) = &self.pushed {
            return pushed.find(request_uri, client.id(), validator).await;
        }
        let _ = (request_uri, client, validator);
        Err(Reason::REQUEST_URI_UNKNOWN.into())
    }

    /// The parameters in a request object, as a form.
    async fn read_signed(&self, object: &str, client: &Client) -> Result<String, Unresolved> {
        #[cfg(feature = "request-object")]
        if let Some(signed) = &self.signed {
            return signed.read(object, client, std::time::SystemTime::now()).await;
        }
        let _ = (object, client);
        Err(Reason::REQUEST_OBJECT.into())
    }
}

/// What the `request_uri` of a pushed request begins with (RFC 9126 §2.2).
pub(crate) const REQUEST_URI_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";
