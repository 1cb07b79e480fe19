//! A validated request as hidden fields of a form, for the second step of a login.

use std::fmt;

use super::page::Escaped;
use crate::authorization::request::AuthorizationRequest;
use crate::authorization::validated::ValidatedRequest;

impl ValidatedRequest {
    /// The request as hidden fields of a form that the user submits, such as a login or consent form. The route that gets
    /// the form must judge the request again, because users can change the fields: put the layer there too.
    ///
    /// These are all parameters of the request that were read, a repeated `resource` included. A pushed request has its
    /// `client_id` and `request_uri` instead. See [The second step](crate::guide::the_second_step).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tower_oauth_client_validation::{AuthorizationRequest, Client, Validator};
    /// # let client = Client::builder("app").confidential().redirect_uri("https://app.example/cb").build()?;
    /// # let request = AuthorizationRequest::parse(b"client_id=app&response_type=code&state=%22%3E", b"");
    /// # let validated = Validator::default().validate(request, Some(Arc::new(client))).unwrap();
    /// let form = format!("<form method=post action=/approve>{}<button>Allow</button></form>", validated.hidden_fields());
    /// assert!(form.contains(r#"<input type="hidden" name="state" value="&quot;&gt;">"#));
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    #[must_use]
    pub fn hidden_fields(&self) -> HiddenFields<'_> {
        HiddenFields(self.request())
    }
}

/// The hidden fields of a form, from [`ValidatedRequest::hidden_fields`]. Formats them as HTML, escaped.
#[derive(Clone, Copy)]
pub struct HiddenFields<'a>(&'a AuthorizationRequest);

impl<'a> HiddenFields<'a> {
    /// The name and value of each field, not escaped, for templates that escape them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.pairs_to_repeat()
    }
}

impl fmt::Display for HiddenFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, value)| {
            writeln!(f, "<input type=\"hidden\" name=\"{}\" value=\"{}\">", Escaped(name), Escaped(value))
        })
    }
}

/// Names only: values must not be logged.
impl fmt::Debug for HiddenFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
