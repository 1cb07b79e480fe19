//! Decides about a request whose client was looked up, for the service and for other frameworks.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use http_body_util::Full;

use super::hook::{answer_with, run_checks};
use super::tenant::Tenancy;
use super::{ClientValidationLayer, Settings, UnregisteredClient, Verdict, log, metrics};
use crate::authorization::response::reject;
use crate::authorization::{AuthorizationRequest, Delivery, Reason, Rejection, ValidatedRequest, Validator};
use crate::client::Client;
use crate::http::head::{announced_length, is_form};
use crate::registry::{RegistryError, RegistrySource};
use crate::request_object::{RequestSources, Unresolved};

pub(super) enum Decision {
    Accepted(ValidatedRequest),
    Forwarded(UnregisteredClient),
    Refused(Rejection),
}

impl From<Result<ValidatedRequest, Rejection>> for Decision {
    fn from(judged: Result<ValidatedRequest, Rejection>) -> Self {
        match judged {
            Ok(validated) => Self::Accepted(validated),
            Err(rejection) => Self::Refused(rejection),
        }
    }
}

pub(super) fn decide(
    validator: &Validator,
    report_only: bool,
    asked: AuthorizationRequest,
    found: Result<Option<Arc<Client>>, RegistryError>,
) -> Decision {
    match found {
        Ok(None) if validator.policy().forwards_unknown_clients() => {
            log::forwarded(&asked, report_only);
            metrics::forwarded(report_only);
            Decision::Forwarded(UnregisteredClient::new(asked))
        }
        Ok(client) => validator.validate(asked, client).into(),
        Err(error) => {
            let reason = reason_of(&error);
            log::registry_failed(&error, &asked, reason, report_only);
            Decision::Refused(validator.direct(reason, Some(asked)))
        }
    }
}

fn reason_of(error: &RegistryError) -> Reason {
    if error.is_transient() { Reason::REGISTRY_UNAVAILABLE } else { Reason::REGISTRY_FAULT }
}

/// Reads the parameters that the client pushed or signed, and judges the request by them. The client is the one that
/// the registry found.
pub(super) async fn resolve(
    sources: RequestSources,
    validator: Validator,
    report_only: bool,
    asked: AuthorizationRequest,
    client: Arc<Client>,
) -> Result<ValidatedRequest, Rejection> {
    let client = validator.check_client(&asked, Some(client))?;
    match sources.resolve(&asked, &client, &validator).await {
        Ok(request) => validator.validate(request, Some(client)),
        Err(Unresolved { reason, cause }) => {
            if let Some(cause) = cause {
                log::source_failed(&*cause, &asked, reason, report_only);
            }
            Err(validator.direct(reason, Some(asked)))
        }
    }
}

impl Settings {
    /// Whether a request is judged at all.
    pub(super) fn judges(&self, request: &Parts) -> bool {
        (request.method != Method::OPTIONS || self.refuse_options)
            && self.bypass.as_ref().is_none_or(|bypass| !bypass(request))
    }
}

impl<R: RegistrySource, M> ClientValidationLayer<R, M> {
    /// Decides about a request without answering it, for an operator's tool or a test: looks up the client, reads what the
    /// client pushed or signed, and applies all rules of the policy.
    ///
    /// It runs no [checks](Self::check), logs nothing, and uses nothing up.
    ///
    /// # Errors
    ///
    /// The rejection, if the request is refused. It contains details that strangers must not see.
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthorizationRequest, Client, ClientValidationLayer, MemoryRegistry};
    ///
    /// # futures::executor::block_on(async {
    /// let clients = [Client::builder("app").redirect_uri("https://app.example/cb").build()?];
    /// let layer = ClientValidationLayer::new(MemoryRegistry::from_clients(clients));
    /// let request = AuthorizationRequest::parse(b"client_id=app&response_type=code", b"");
    /// let rejection = layer.explain(&request).await.unwrap_err();
    /// assert_eq!(rejection.reason().as_str(), "code_challenge_missing");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn explain(&self, request: &AuthorizationRequest) -> Result<ValidatedRequest, Rejection> {
        let Settings { validator, sources, .. } = &self.settings;
        let found = self.tenancy.find_client(validator.client_id(request)?).await;
        let asked = request.clone();
        match found {
            Ok(Some(client)) if sources.concern(&asked) => {
                let client = validator.check_client(&asked, Some(client))?;
                match sources.resolve(&asked, &client, validator).await {
                    Ok(resolved) => validator.validate(resolved, Some(client)),
                    Err(Unresolved { reason, .. }) => Err(validator.direct(reason, Some(asked))),
                }
            }
            Ok(client) => validator.validate(asked, client),
            Err(error) => Err(validator.direct(reason_of(&error), Some(asked))),
        }
    }
}

impl<T: Tenancy, M> ClientValidationLayer<T, M> {
    /// Judges a request for a framework whose handlers are not tower services: the same rules, events and counters as
    /// in the layer.
    ///
    /// Pass the whole body of a `POST`, and read no more than [`max_body_bytes`](Self::max_body_bytes) of it, plus one.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, Verdict};
    ///
    /// # futures::executor::block_on(async {
    /// let clients = [Client::builder("app").redirect_uri("https://app.example/cb").build()?];
    /// let layer = ClientValidationLayer::new(MemoryRegistry::from_clients(clients));
    ///
    /// let (request, ()) = Request::get("/authorize?client_id=nobody&response_type=code").body(())?.into_parts();
    /// match layer.judge(&request, Bytes::new()).await {
    ///     Verdict::Accepted(validated) => println!("log in, and send a code to {}", validated.redirect_uri()),
    ///     Verdict::Refused(response) => assert_eq!(response.status(), 400),
    ///     _ => unreachable!("neither report-only nor OPTIONS"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn judge(&self, request: &Parts, body: Bytes) -> Verdict {
        let settings = &self.settings;
        if !settings.judges(request) {
            return Verdict::PassedOn;
        }
        let Some(tenant) = self.tenancy.tenant(request) else {
            return self.refused(request, settings.validator.direct(Reason::TENANT_UNKNOWN, None)).await;
        };
        let validator = T::validator(&tenant, &settings.validator);
        let body = match self.readable_body(request, body) {
            Ok(body) => body,
            Err(reason) => return self.refused(request, validator.direct(reason, None)).await,
        };
        let query = request.uri.query().unwrap_or_default();
        let asked = validator.parse(query.as_bytes(), &body);
        let lookup = match validator.client_id(&asked) {
            Ok(client_id) => metrics::time(self.tenancy.registry(&tenant).find_client(client_id)),
            Err(rejection) => return self.refused(request, rejection).await,
        };
        let sources = T::sources(&tenant, &settings.sources);
        let mut decision = match lookup.await {
            Ok(Some(client)) if sources.concern(&asked) => {
                resolve(sources.clone(), validator.clone(), settings.report_only, asked, client).await.into()
            }
            found => decide(validator, settings.report_only, asked, found),
        };
        if let Decision::Accepted(validated) = decision {
            decision = run_checks(&settings.checks, request, validated).await.into();
        }
        match decision {
            Decision::Accepted(validated) => {
                log::accepted(&validated, settings.report_only);
                metrics::accepted(settings.report_only);
                Verdict::Accepted(validated)
            }
            Decision::Forwarded(client) => Verdict::Forwarded(client),
            Decision::Refused(rejection) => self.refused(request, rejection).await,
        }
    }

    /// The body to read parameters from.
    fn readable_body(&self, request: &Parts, body: Bytes) -> Result<Bytes, Reason> {
        match request.method {
            Method::GET | Method::HEAD => Ok(Bytes::new()),
            Method::POST if !is_form(&request.headers) => Err(Reason::CONTENT_TYPE),
            Method::POST => {
                let length = announced_length(&request.headers, &Full::new(body.clone()));
                if length > self.settings.max_body_bytes as u64 { Err(Reason::BODY_TOO_LARGE) } else { Ok(body) }
            }
            _ => Err(Reason::METHOD),
        }
    }

    async fn refused(&self, request: &Parts, rejection: Rejection) -> Verdict {
        let settings = &self.settings;
        log::rejected(&rejection, settings.report_only);
        metrics::rejected(&rejection, settings.report_only);
        if settings.report_only {
            return Verdict::Reported(rejection);
        }
        Verdict::Refused(match &settings.answer_hook {
            Some(hook) if rejection.delivery() != Delivery::Redirect => {
                answer_with(&**hook, request, settings.allow(), rejection).await
            }
            Some(_) | None => reject(rejection, settings.answer_to(request)),
        })
    }
}
