//! A decision, told as data.

use std::sync::Arc;

use crate::client::{Client, RedirectUri, RedirectUriMismatch, UriPart};

use super::{AuthorizationRequest, Reason, Rejection, ValidatedRequest, Validator};

impl Validator {
    /// Decides as [`Validator::validate`] does, and tells why as data: for an operator's tool, a support page, a
    /// test. It says more than an answer may: keep it from strangers.
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
    /// let nearest = explanation.closest_redirect_uri().unwrap();
    /// assert_eq!(nearest.as_str(), "https://app.example/callback");
    /// assert_eq!(explanation.differences().collect::<Vec<_>>(), [UriPart::LetterCase]);
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    #[must_use]
    pub fn explain(&self, request: &AuthorizationRequest, client: Option<&Client>) -> Explanation {
        let client = client.cloned().map(Arc::new);
        Explanation { decision: self.validate(request.clone(), client.clone()), client }
    }
}

/// A decision and why it was made, from [`Validator::explain`].
#[derive(Clone, Debug)]
pub struct Explanation {
    decision: Result<ValidatedRequest, Rejection>,
    client: Option<Arc<Client>>,
}

impl Explanation {
    /// Whether the request reaches the handler.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.decision.is_ok()
    }

    /// What the handler gets, or what the answer is made from.
    ///
    /// # Errors
    ///
    /// The rejection, where the request is refused.
    pub fn decision(&self) -> Result<&ValidatedRequest, &Rejection> {
        self.decision.as_ref()
    }

    /// Why it is refused.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.decision.as_ref().err().map(Rejection::reason)
    }

    /// The section that it is refused by, see [`Reason::rule`].
    #[must_use]
    pub fn rule(&self) -> Option<&'static str> {
        self.reason().map(Reason::rule)
    }

    /// Of the client's redirect URIs the one that comes nearest, where none matches.
    #[must_use]
    pub fn closest_redirect_uri(&self) -> Option<&RedirectUri> {
        match self.reason()? {
            Reason::RedirectUri(RedirectUriMismatch::NotRegistered(nearest)) => {
                self.client.as_ref()?.redirect_uris().get(nearest.index()?)
            }
            _ => None,
        }
    }

    /// In what the nearest redirect URI differs from the requested one.
    pub fn differences(&self) -> impl Iterator<Item = UriPart> + use<> {
        let nearest = match self.reason() {
            Some(Reason::RedirectUri(RedirectUriMismatch::NotRegistered(nearest))) => Some(*nearest),
            _ => None,
        };
        nearest.into_iter().flat_map(|nearest| nearest.parts())
    }
}
