//! A decision as data.

use std::sync::Arc;

use crate::client::{Client, RedirectUri, UriPart};

use super::reason::Reason;
use super::rejection::Rejection;
use super::request::AuthorizationRequest;
use super::validated::ValidatedRequest;
use super::validator::Validator;

impl Validator {
    /// Decides like [`Validator::validate`] and gives the reasons as data, for an operator's tool, a support page or a
    /// test. It tells more than an answer may: keep it from strangers.
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthorizationRequest, Client, UriPart, Validator};
    ///
    /// let client = Client::builder("app")
    ///     .redirect_uri("https://app.example/callback")
    ///     .redirect_uri("https://staging.app.example/callback")
    ///     .build()?;
    /// let request = "client_id=app&response_type=code&redirect_uri=https://app.example/Callback";
    /// let request = AuthorizationRequest::parse(request.as_bytes(), b"");
    ///
    /// let explanation = Validator::default().explain(&request, Some(&client));
    /// assert!(!explanation.is_accepted());
    /// assert_eq!(explanation.reason().map(|reason| reason.as_str()), Some("redirect_uri_not_registered"));
    /// assert_eq!(explanation.rule(), Some("RFC 6749 §3.1.2.3, RFC 9700 §4.1.3"));
    /// let closest = explanation.closest_redirect_uri().unwrap();
    /// assert_eq!(closest.as_str(), "https://app.example/callback");
    /// assert_eq!(explanation.differences().collect::<Vec<_>>(), [UriPart::LetterCase]);
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    #[must_use]
    pub fn explain(&self, request: &AuthorizationRequest, client: Option<&Client>) -> Explanation {
        Explanation(self.validate(request.clone(), client.cloned().map(Arc::new)))
    }
}

/// A decision and the reasons for it, from [`Validator::explain`] or
/// [`ClientValidationLayer::explain`](crate::ClientValidationLayer::explain).
#[derive(Clone, Debug)]
pub struct Explanation(Result<ValidatedRequest, Rejection>);

impl From<Result<ValidatedRequest, Rejection>> for Explanation {
    fn from(decision: Result<ValidatedRequest, Rejection>) -> Self {
        Self(decision)
    }
}

impl Explanation {
    /// Whether the request reaches the handler.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.0.is_ok()
    }

    /// What the handler gets, or what the answer is made from.
    ///
    /// # Errors
    ///
    /// The rejection, if the request is refused.
    pub fn decision(&self) -> Result<&ValidatedRequest, &Rejection> {
        self.0.as_ref()
    }

    /// Why the request is refused.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.rejection().map(Rejection::reason)
    }

    /// The section that the request breaks, see [`Rejection::rule`].
    #[must_use]
    pub fn rule(&self) -> Option<&'static str> {
        self.rejection().map(Rejection::rule)
    }

    /// The client's redirect URI that is closest to the requested one, where none matches.
    #[must_use]
    pub fn closest_redirect_uri(&self) -> Option<&RedirectUri> {
        self.rejection()?.closest_redirect_uri()
    }

    /// How the closest redirect URI differs from the requested one.
    pub fn differences(&self) -> impl Iterator<Item = UriPart> + use<> {
        self.rejection().into_iter().flat_map(Rejection::differences).collect::<Vec<_>>().into_iter()
    }

    fn rejection(&self) -> Option<&Rejection> {
        self.0.as_ref().err()
    }
}
