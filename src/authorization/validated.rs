//! The request that the inner service gets.

use std::fmt;
use std::sync::Arc;

use crate::client::{Client, ResponseType, Untrusted, tokens};

use super::arrival::{Arrival, UseUpErrorKind, UseUpFailure};
use super::error::{AuthorizationError, ErrorCode};
use super::proven::{ProvenRequest, RedirectTarget};
use super::reason::Reason;
use super::rejection::Rejection;
use super::request::{AuthorizationRequest, Parameter};
use super::resource;
use super::response::redirect::{AuthorizationResponse, SerializeParametersError};
use super::response_mode::ResponseMode;
use super::scope::GrantedScope;
use super::use_up::UseUpError;

/// An authorization request that passed every check. Cheap to clone.
///
/// The layer puts it into the extensions of the request. It builds the response for its redirect URI, with `state`,
/// `iss`, mode and headers as in the answers of the layer:
///
/// ```
/// use std::sync::Arc;
/// use http::Method;
/// use tower_oauth_client_validation::{AuthorizationRequest, Client, Validator};
///
/// let client = Client::builder("app").confidential().redirect_uri("https://app.example/cb").build()?;
/// let request = AuthorizationRequest::parse(b"client_id=app&response_type=code&state=xyz", b"");
/// let validated = Validator::default().validate(request, Some(Arc::new(client))).unwrap();
///
/// let response = validated.success([("code", "SplxlOBeZQQYbYS6WxSbIA")]);
/// let response: http::Response<bytes::Bytes> = response.into_http(&Method::GET);
/// assert_eq!(response.status(), 302);
/// assert_eq!(
///     response.headers()["location"],
///     "https://app.example/cb?code=SplxlOBeZQQYbYS6WxSbIA&state=xyz",
/// );
/// # Ok::<(), tower_oauth_client_validation::ClientError>(())
/// ```
#[derive(Clone)]
pub struct ValidatedRequest {
    proven: ProvenRequest,
    response_type: ResponseType,
    response_mode: ResponseMode,
    scope: GrantedScope,
}

impl ValidatedRequest {
    pub(super) fn new(
        proven: ProvenRequest,
        response_type: ResponseType,
        response_mode: ResponseMode,
        scope: GrantedScope,
    ) -> Self {
        Self { proven, response_type, response_mode, scope }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        self.proven.client()
    }

    /// The id of the client.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.client().id()
    }

    /// The redirect URI, byte for byte as requested, or the only registered one. It was proven to belong to the client.
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        self.proven.redirect_uri()
    }

    /// Whether `redirect_uri` was in the request. If so, the token request must repeat it (RFC 6749 §4.1.3).
    #[must_use]
    pub fn redirect_uri_is_explicit(&self) -> bool {
        self.proven.redirect_uri_is_explicit()
    }

    /// Whether a token request with this `redirect_uri` repeats the redirect URI as it must (RFC 6749 §4.1.3): byte for
    /// byte if the authorization request named it, else not at all or correctly.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tower_oauth_client_validation::{AuthorizationRequest, Client, Validator};
    /// # let client = Client::builder("app").confidential().redirect_uri("https://app.example/cb").build()?;
    /// # let request = AuthorizationRequest::parse(b"client_id=app&response_type=code", b"");
    /// let validated = Validator::default().validate(request, Some(Arc::new(client))).unwrap();
    /// assert!(validated.is_repeated_redirect_uri(None));
    /// assert!(!validated.is_repeated_redirect_uri(Some("https://app.example/other")));
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    #[must_use]
    pub fn is_repeated_redirect_uri(&self, sent: Option<&str>) -> bool {
        match sent {
            Some(sent) => sent == self.redirect_uri(),
            None => !self.redirect_uri_is_explicit(),
        }
    }

    /// The granted scopes, in the order of the request, without repeats.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        tokens(self.scope())
    }

    /// The granted scopes as a scope value; empty where none is granted.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.scope.as_str(self.request())
    }

    /// The response type.
    #[must_use]
    pub fn response_type(&self) -> ResponseType {
        self.response_type
    }

    /// How the response goes back: as requested, or the default of the response type.
    #[must_use]
    pub fn response_mode(&self) -> ResponseMode {
        self.response_mode
    }

    /// `state`. The responses that this value builds already carry it.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.parameter(Parameter::State)
    }

    /// `nonce`, for the ID token.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.parameter(Parameter::Nonce)
    }

    /// The PKCE challenge, for the token endpoint to check the verifier against.
    #[must_use]
    pub fn code_challenge(&self) -> Option<CodeChallenge<'_>> {
        let challenge = self.parameter(Parameter::CodeChallenge)?;
        let method = match self.parameter(Parameter::CodeChallengeMethod) {
            Some("S256") => CodeChallengeMethod::S256,
            // Left out means `plain`, RFC 7636 §4.3; any other method was refused.
            Some(_) | None => CodeChallengeMethod::Plain,
        };
        Some(CodeChallenge { challenge, method })
    }

    /// The resources that the token is for (RFC 8707), as [`PolicyBuilder::resources`](crate::PolicyBuilder::resources)
    /// spells them if it was set.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        let set = self.proven.rules().resources.as_deref().unwrap_or_default();
        self.request().resources().map(|requested| resource::find(set, requested).unwrap_or(requested))
    }

    /// The requested resources, as the request spells them.
    pub fn requested_resources(&self) -> impl Iterator<Item = &str> {
        self.request().resources()
    }

    /// The request as it was read. Validate it again after a consent page: the client may have been disabled since.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tower_oauth_client_validation::{AuthorizationRequest, Client, Validator};
    /// # let client = Client::builder("app").confidential().redirect_uri("https://app.example/cb").build()?;
    /// # let validator = Validator::default();
    /// # let request = AuthorizationRequest::parse(b"client_id=app&response_type=code", b"");
    /// let validated = validator.validate(request, Some(Arc::new(client.clone()))).unwrap();
    ///
    /// let found = client.to_builder().disabled(true).build()?;
    /// assert!(validator.validate(validated.request().clone(), Some(Arc::new(found))).is_err());
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    #[must_use]
    pub fn request(&self) -> &AuthorizationRequest {
        self.proven.request()
    }

    /// Any parameter, as it was requested.
    #[must_use]
    pub fn parameter(&self, parameter: Parameter) -> Option<&str> {
        self.request().get(parameter)
    }

    /// Uses up a pushed request, so that one code is issued for it: call it right before issuing the code, not earlier,
    /// because users reload pages and come back (RFC 9126 §4). Of racing calls for one `request_uri`, on all nodes,
    /// exactly one succeeds.
    ///
    /// Succeeds at once for requests that were not pushed, any number of times, so handlers call it for every request.
    /// Until it has succeeded, [`success`](Self::success) answers a pushed request with `server_error`.
    ///
    /// # Errors
    ///
    /// If a code was issued for the request before, if its lifetime is over, or if the store fails. Issue no code then,
    /// and answer with [`UseUpError::rejection`].
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{HeaderMap, Method, Response};
    /// use tower_oauth_client_validation::{UseUpError, ValidatedRequest};
    ///
    /// async fn log_in(_validated: &ValidatedRequest) -> String { "alice".to_owned() }
    /// async fn issue_code(_validated: &ValidatedRequest, _user: &str) -> String { "SplxlOBeZQQYbYS6WxSbIA".to_owned() }
    ///
    /// async fn authorize(validated: ValidatedRequest) -> Result<Response<Bytes>, UseUpError> {
    ///     let user = log_in(&validated).await;
    ///     validated.use_up().await?;
    ///     let code = issue_code(&validated, &user).await;
    ///     Ok(validated.success([("code", &*code)]).into_http(&Method::GET))
    /// }
    /// ```
    pub fn use_up(&self) -> impl Future<Output = Result<(), UseUpError>> + Send + use<> {
        let pushed = self.arrival().filter(|arrival| arrival.is_pushed);
        let pushed = pushed.map(|arrival| (self.clone(), arrival.one_time.clone()));
        async move {
            let Some((validated, one_time)) = pushed else {
                return Ok(());
            };
            let used_up = match one_time {
                Some(one_time) => one_time.use_up().await,
                // The endpoint for pushed requests judges requests that nothing answers.
                None => Err(UseUpFailure { kind: UseUpErrorKind::Used, source: None }),
            };
            match used_up {
                Ok(()) => {
                    if let Some(arrival) = validated.arrival() {
                        arrival.set_used_up();
                    }
                    Ok(())
                }
                Err(failure) => Err(UseUpError::new(failure, |reason| {
                    let (request, client) = (validated.request().clone(), Arc::clone(validated.client()));
                    Rejection::direct(reason, validated.proven.rules(), Some(request), Some(client))
                })),
            }
        }
    }

    /// An extension parameter, as it was requested. Only those that the policy
    /// [declares](crate::PolicyBuilder::parameters) can be read.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tower_oauth_client_validation::{Client, Policy, Validator};
    ///
    /// let client = Client::builder("app").confidential().redirect_uri("https://app.example/cb").build()?;
    /// let validator = Validator::new(Policy::rfc9700().parameters(["audience"]).build()?);
    /// let request = validator.parse(b"client_id=app&response_type=code&audience=https://api.example&tenant=a", b"");
    /// let validated = validator.validate(request, Some(Arc::new(client))).unwrap();
    ///
    /// assert_eq!(validated.extension("audience"), Some("https://api.example"));
    /// assert_eq!(validated.extension("tenant"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.request().extension(name)
    }

    /// A success response with these parameters, `state` and `iss`.
    ///
    /// A pushed request that was not [used up](Self::use_up) gets `server_error` instead.
    pub fn success<'a>(&self, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> AuthorizationResponse {
        match self.check_used_up() {
            Ok(()) => AuthorizationResponse::new(self.target(), parameters),
            Err(error) => self.error(&error),
        }
    }

    /// A success response whose parameters are the members of a struct or map, like [`success`](Self::success).
    ///
    /// # Errors
    ///
    /// If they are not a flat set of names and values.
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthorizationResponse, SerializeParametersError, ValidatedRequest};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Answer {
    ///     code: String,
    ///     session_state: Option<String>,
    /// }
    ///
    /// fn answer(validated: &ValidatedRequest) -> Result<AuthorizationResponse, SerializeParametersError> {
    ///     validated.success_from(&Answer { code: "SplxlOBeZQQYbYS6WxSbIA".to_owned(), session_state: None })
    /// }
    /// ```
    pub fn success_from(
        &self,
        parameters: &impl serde::Serialize,
    ) -> Result<AuthorizationResponse, SerializeParametersError> {
        match self.check_used_up() {
            Ok(()) => AuthorizationResponse::serialized(self.target(), parameters),
            Err(error) => Ok(self.error(&error)),
        }
    }

    /// An error response, such as `access_denied`, with `state` and `iss`.
    pub fn error(&self, error: &AuthorizationError) -> AuthorizationResponse {
        AuthorizationResponse::error(self.target(), error)
    }

    /// Fails closed: a pushed request gets at most one code.
    fn check_used_up(&self) -> Result<(), AuthorizationError> {
        if self.arrival().is_none_or(Arrival::may_be_answered) {
            return Ok(());
        }
        tracing::error!(
            client_id = tracing::field::display(Untrusted(self.client_id())),
            "a pushed request must be used up before it is answered: call `ValidatedRequest::use_up`"
        );
        Err(AuthorizationError::from_static(ErrorCode::ServerError, "the server could not complete the request"))
    }

    /// The issuer of the policy.
    #[cfg(feature = "sealed-requests")]
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.proven.rules().issuer.as_deref()
    }

    fn arrival(&self) -> Option<&Arrival> {
        self.request().arrival()
    }

    fn target(&self) -> RedirectTarget<'_> {
        self.proven.target(self.response_mode)
    }

    /// Refuses the request by a check of the user's.
    pub(crate) fn refuse(self, reason: Reason, error: AuthorizationError) -> Rejection {
        Rejection::of_proven(reason, error, self.proven, self.response_mode)
    }
}

/// Without `state`, `nonce` and `code_challenge`, which must not be logged.
impl fmt::Debug for ValidatedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatedRequest")
            .field("client_id", &self.client_id())
            .field("redirect_uri", &self.redirect_uri())
            .field("redirect_uri_is_explicit", &self.redirect_uri_is_explicit())
            .field("scope", &self.scope())
            .field("response_type", &self.response_type())
            .field("response_mode", &self.response_mode())
            .finish_non_exhaustive()
    }
}

/// A PKCE challenge (RFC 7636 §4.3).
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeChallenge<'a> {
    /// `code_challenge`
    pub challenge: &'a str,
    /// `code_challenge_method`, with its default.
    pub method: CodeChallengeMethod,
}

impl<'a> CodeChallenge<'a> {
    /// The challenge that was kept with a code.
    #[must_use]
    pub fn new(challenge: &'a str, method: CodeChallengeMethod) -> Self {
        Self { challenge, method }
    }

    /// Whether the challenge was made of this `code_verifier` (RFC 7636 §4.6). Takes the same time for every wrong one of
    /// the same length.
    ///
    /// ```
    /// use tower_oauth_client_validation::{CodeChallenge, CodeChallengeMethod};
    ///
    /// // RFC 7636 appendix B
    /// let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    /// let challenge = CodeChallenge::new(challenge, CodeChallengeMethod::S256);
    /// assert!(challenge.verify("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
    /// assert!(!challenge.verify("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl"));
    /// assert!(!challenge.verify(""));
    /// ```
    #[cfg(feature = "client-authentication")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client-authentication")))]
    #[must_use]
    pub fn verify(&self, verifier: &str) -> bool {
        use base64::Engine;
        use base64::prelude::BASE64_URL_SAFE_NO_PAD;
        use sha2::{Digest, Sha256};
        use subtle::ConstantTimeEq;

        let derived = match self.method {
            CodeChallengeMethod::S256 => BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)),
            CodeChallengeMethod::Plain => verifier.to_owned(),
        };
        derived.as_bytes().ct_eq(self.challenge.as_bytes()).into()
    }
}

/// Without the challenge.
impl fmt::Debug for CodeChallenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeChallenge").field("method", &self.method).finish_non_exhaustive()
    }
}

/// How the challenge is derived from the verifier (RFC 7636 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeChallengeMethod {
    /// BASE64URL(SHA256(verifier))
    S256,
    /// The verifier itself.
    Plain,
}
