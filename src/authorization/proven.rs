//! The proof that a redirect URI belongs to the client.
//!
//! [`ProvenRequest::prove`] is the only way to one, and every answer that goes to a redirect URI is made
//! from one. An error that is redirected too early (CVE-2026-41479, CVE-2026-44681) does not compile.

use std::ops::Range;
use std::sync::Arc;

use crate::client::Client;

use super::request::{AuthorizationRequest, Parameter};
use super::response::{RedirectTarget, ResponseMode};
use super::{AuthorizationError, DirectError, Policy, Reason, RedirectError, RedirectErrors, Rejection};

/// A request whose redirect URI is one of the client's.
#[derive(Clone)]
pub(super) struct ProvenRequest {
    request: AuthorizationRequest,
    client: Arc<Client>,
    redirect_uri: Range<usize>,
    redirect_uri_is_explicit: bool,
    policy: Arc<Policy>,
}

impl ProvenRequest {
    /// Row 4: the redirect URI matches, or is left out where that is allowed (RFC 6749 §3.1.2.3).
    pub(super) fn prove(
        mut request: AuthorizationRequest,
        client: Arc<Client>,
        policy: Arc<Policy>,
    ) -> Result<Self, Rejection> {
        let direct = |reason: Reason, request: &AuthorizationRequest| {
            Rejection::Direct(DirectError::new(reason, reason.to_error(), &policy, Some(request)))
        };
        if let Some(fault) = request.fault(Parameter::RedirectUri) {
            return Err(direct(Reason::Parameter(Parameter::RedirectUri, fault), &request));
        }
        let explicit = request.range(Parameter::RedirectUri);
        let redirect_uri_is_explicit = explicit.is_some();
        let redirect_uri = if let Some(range) = explicit {
            match client.check_redirect_uri(&request.text()[range.clone()], policy.loopback_ports) {
                Ok(_) => range,
                Err(mismatch) => return Err(direct(Reason::RedirectUri(mismatch), &request)),
            }
        } else {
            match client.sole_redirect_uri() {
                Some(sole) if !policy.redirect_uri_required => request.append(sole.as_str()),
                Some(_) | None => return Err(direct(Reason::RedirectUriMissing, &request)),
            }
        };
        Ok(Self { request, client, redirect_uri, redirect_uri_is_explicit, policy })
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
        &self.request.text()[self.redirect_uri.clone()]
    }

    pub(super) fn redirect_uri_is_explicit(&self) -> bool {
        self.redirect_uri_is_explicit
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
        if !redirected {
            return Rejection::Direct(DirectError::new(reason, error, &self.policy, Some(&self.request)));
        }
        let state = self.request.range(Parameter::State);
        Rejection::Redirect(RedirectError::new(
            reason,
            error,
            Destination {
                text: self.request.into_text(),
                client: self.client,
                uri: self.redirect_uri,
                state,
                mode,
                policy: self.policy,
            },
        ))
    }
}

/// What remains of a refused [`ProvenRequest`].
#[derive(Clone)]
pub(super) struct Destination {
    text: String,
    client: Arc<Client>,
    uri: Range<usize>,
    state: Option<Range<usize>>,
    mode: ResponseMode,
    policy: Arc<Policy>,
}

impl Destination {
    pub(super) fn client_id(&self) -> &str {
        self.client.id()
    }

    pub(super) fn target(&self) -> RedirectTarget<'_> {
        RedirectTarget {
            uri: &self.text[self.uri.clone()],
            mode: self.mode,
            state: self.state.clone().map(|state| &self.text[state]),
            issuer: self.policy.issuer.as_deref(),
            error_uri: self.policy.error_uri.as_deref(),
        }
    }
}
