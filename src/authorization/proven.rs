//! The proof that a redirect URI belongs to the client.
//!
//! [`ProvenRequest::prove`] is the only way to one, and every answer that goes to a redirect URI is made
//! from one. An error that is redirected too early (CVE-2026-41479, CVE-2026-44681) does not compile.

use std::sync::Arc;

use crate::client::{Client, RedirectUri};

use super::request::{AuthorizationRequest, Parameter, Span};
use super::response::{RedirectTarget, ResponseMode};
use super::{AuthorizationError, DirectError, Policy, Reason, RedirectError, RedirectErrors, Rejection};

/// A request whose redirect URI is one of the client's.
#[derive(Clone)]
pub(super) struct ProvenRequest {
    request: AuthorizationRequest,
    client: Arc<Client>,
    policy: Arc<Policy>,
    redirect_uri: ProvenRedirectUri,
}

#[derive(Clone, Copy)]
enum ProvenRedirectUri {
    /// As it was requested.
    Requested(Span),
    /// Left out; it is the only one that the client has.
    Sole,
}

impl ProvenRequest {
    /// Row 4: the redirect URI matches, or is left out where that is allowed (RFC 6749 §3.1.2.3).
    pub(super) fn prove(
        request: AuthorizationRequest,
        client: Arc<Client>,
        policy: &Arc<Policy>,
    ) -> Result<Self, Rejection> {
        match prove_redirect_uri(&request, &client, policy) {
            Ok(redirect_uri) => Ok(Self { request, client, policy: Arc::clone(policy), redirect_uri }),
            Err(reason) => Err(Rejection::Direct(DirectError::new(reason, reason.to_error(), policy, Some(request)))),
        }
    }

    pub(super) fn request(&self) -> &AuthorizationRequest {
        &self.request
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn redirect_uri(&self) -> &str {
        match self.redirect_uri {
            ProvenRedirectUri::Requested(span) => self.request.value(span),
            ProvenRedirectUri::Sole => {
                self.client.sole_redirect_uri().map(RedirectUri::as_str).expect("it was there for the proof")
            }
        }
    }

    pub(super) fn redirect_uri_is_explicit(&self) -> bool {
        matches!(self.redirect_uri, ProvenRedirectUri::Requested(_))
    }

    /// Where answers go, and how.
    pub(super) fn target(&self, mode: ResponseMode) -> RedirectTarget<'_> {
        RedirectTarget {
            uri: self.redirect_uri(),
            mode,
            state: self.request.get(Parameter::State),
            issuer: self.policy.issuer.as_deref(),
            error_uri: self.policy.error_uri.as_deref(),
        }
    }

    /// The mode of an error: a valid `response_mode` if one was given, else the default of the response type
    /// as far as that can be told.
    pub(super) fn error_mode(&self) -> ResponseMode {
        let response_type = self.request.get(Parameter::ResponseType).unwrap_or_default();
        let carries_token = response_type.split(' ').any(|word| matches!(word, "token" | "id_token"));
        let given = self.request.get(Parameter::ResponseMode).and_then(ResponseMode::parse);
        match given {
            Some(mode) if mode.suits(carries_token) => mode,
            Some(_) | None => ResponseMode::default_for(carries_token),
        }
    }

    /// Refuses the request: to the redirect URI, or to the user where the policy wants it so.
    pub(super) fn refuse(self, reason: Reason, error: AuthorizationError, mode: ResponseMode) -> Rejection {
        let redirected = match self.policy.redirect_errors {
            RedirectErrors::Always => true,
            RedirectErrors::TrustedClients => self.client.is_trusted(),
            RedirectErrors::Never => false,
        };
        if redirected {
            Rejection::Redirect(RedirectError::new(reason, error, self, mode))
        } else {
            Rejection::Direct(DirectError::new(reason, error, &self.policy, Some(self.request)))
        }
    }
}

fn prove_redirect_uri(
    request: &AuthorizationRequest,
    client: &Client,
    policy: &Policy,
) -> Result<ProvenRedirectUri, Reason> {
    if let Some(fault) = request.fault(Parameter::RedirectUri) {
        return Err(Reason::Parameter(Parameter::RedirectUri, fault));
    }
    match request.span(Parameter::RedirectUri) {
        Some(span) => match client.check_redirect_uri(request.value(span), policy.loopback_ports) {
            Ok(_) => Ok(ProvenRedirectUri::Requested(span)),
            Err(mismatch) => Err(Reason::RedirectUri(mismatch)),
        },
        None if policy.redirect_uri_required => Err(Reason::RedirectUriMissing),
        None => client.sole_redirect_uri().map(|_| ProvenRedirectUri::Sole).ok_or(Reason::RedirectUriMissing),
    }
}
