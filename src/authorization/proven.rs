//! The proof that a redirect URI belongs to the client.
//!
//! [`ProvenRequest::prove`] is the only way to get one, and every answer to a redirect URI is made from one. Code that
//! redirects an error before the proof (CVE-2026-41479, CVE-2026-44681) does not compile.

use std::sync::Arc;

use crate::client::{Client, RedirectUri, judge_requested};

use super::reason::Reason;
use super::request::{AuthorizationRequest, Parameter, Span};
use super::response_mode::ResponseMode;
use super::rules::Rules;

/// A request whose redirect URI belongs to the client.
#[derive(Clone)]
pub(super) struct ProvenRequest {
    request: AuthorizationRequest,
    client: Arc<Client>,
    rules: Arc<Rules>,
    redirect_uri: ProvenRedirectUri,
}

#[derive(Clone, Copy)]
enum ProvenRedirectUri {
    /// As it was requested.
    Requested(Span),
    /// Left out; the client registered only one.
    Sole,
}

/// Where an answer goes, and what every answer there carries.
#[derive(Clone, Copy)]
pub(super) struct RedirectTarget<'a> {
    pub(super) uri: &'a str,
    pub(super) mode: ResponseMode,
    pub(super) state: Option<&'a str>,
    pub(super) issuer: Option<&'a str>,
    pub(super) error_uri: Option<&'a str>,
}

impl ProvenRequest {
    /// Row 4: the redirect URI matches, or is left out where that is allowed (RFC 6749 §3.1.2.3).
    pub(super) fn prove(
        request: AuthorizationRequest,
        client: Arc<Client>,
        rules: &Arc<Rules>,
    ) -> Result<Self, (Reason, AuthorizationRequest, Arc<Client>)> {
        match prove_redirect_uri(&request, &client, rules) {
            Ok(redirect_uri) => Ok(Self { request, client, rules: Arc::clone(rules), redirect_uri }),
            Err(reason) => Err((reason, request, client)),
        }
    }

    pub(super) fn request(&self) -> &AuthorizationRequest {
        &self.request
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    pub(super) fn redirect_uri(&self) -> &str {
        match self.redirect_uri {
            ProvenRedirectUri::Requested(span) => self.request.value(span),
            ProvenRedirectUri::Sole => {
                self.client.sole_redirect_uri().map(RedirectUri::as_str).expect("the proof found it")
            }
        }
    }

    pub(super) fn redirect_uri_is_explicit(&self) -> bool {
        matches!(self.redirect_uri, ProvenRedirectUri::Requested(_))
    }

    pub(super) fn target(&self, mode: ResponseMode) -> RedirectTarget<'_> {
        RedirectTarget {
            uri: self.redirect_uri(),
            mode,
            state: self.request.get(Parameter::State),
            issuer: self.rules.issuer.as_deref(),
            error_uri: self.rules.error_uri.as_deref(),
        }
    }

    /// The mode of an error: a valid `response_mode` if one was given, else the default of the response type, as far
    /// as it is known.
    pub(super) fn error_mode(&self) -> ResponseMode {
        let response_type = self.request.get(Parameter::ResponseType).unwrap_or_default();
        let mut words = response_type.as_bytes().split(|byte| *byte == b' ');
        let carries_token = words.any(|word| matches!(word, b"token" | b"id_token"));
        let given = self.request.get(Parameter::ResponseMode).and_then(ResponseMode::parse);
        given.filter(|mode| mode.suits(carries_token)).unwrap_or(ResponseMode::default_for(carries_token))
    }
}

fn prove_redirect_uri(
    request: &AuthorizationRequest,
    client: &Client,
    rules: &Rules,
) -> Result<ProvenRedirectUri, Reason> {
    if let Some(fault) = request.fault(Parameter::RedirectUri) {
        return Err(Reason::of_fault(fault));
    }
    match request.span(Parameter::RedirectUri) {
        Some(span) => {
            let requested = request.value(span);
            match client.find_redirect_uri(requested, rules.loopback_ports) {
                Some(_) => Ok(ProvenRedirectUri::Requested(span)),
                // `Rejection::detail` finds the closest registered URI when it is needed.
                None if judge_requested(requested).is_err() => Err(Reason::REDIRECT_URI_MALFORMED),
                None => Err(Reason::REDIRECT_URI_NOT_REGISTERED),
            }
        }
        None if rules.redirect_uri_required => Err(Reason::REDIRECT_URI_MISSING),
        None => client.sole_redirect_uri().map(|_| ProvenRedirectUri::Sole).ok_or(Reason::REDIRECT_URI_MISSING),
    }
}
