//! Responses to a redirect URI: a redirect, or a form that the browser posts.

use std::fmt::Write;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Response, StatusCode};
use percent_encoding::percent_encode_byte;
use serde::Serialize;
use url::form_urlencoded;

use super::page::{Escaped, page_headers, page_policy, page_start};
use crate::authorization::error::AuthorizationError;
use crate::authorization::proven::RedirectTarget;
use crate::authorization::response_mode::ResponseMode;
use crate::http::answer::{for_method, redirect_headers};

/// A response to the client: a redirect, or a page with a form that posts itself.
///
/// Made by [`ValidatedRequest`](crate::ValidatedRequest).
#[derive(Clone)]
#[must_use]
pub struct AuthorizationResponse {
    mode: ResponseMode,
    /// The `Location`, or the page.
    text: String,
}

impl AuthorizationResponse {
    pub(in crate::authorization) fn new<'a>(
        target: RedirectTarget<'_>,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let parameters: Vec<_> = parameters.into_iter().collect();
        Self::build(target, parameters.into_iter())
    }

    /// The parameters are the members of `parameters`, as `serde_urlencoded` writes them.
    pub(in crate::authorization) fn serialized(
        target: RedirectTarget<'_>,
        parameters: &impl Serialize,
    ) -> Result<Self, SerializeParametersError> {
        let text = serde_urlencoded::to_string(parameters).map_err(SerializeParametersError)?;
        let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
        Ok(Self::new(target, pairs.iter().map(|(name, value)| (&**name, &**value))))
    }

    pub(in crate::authorization) fn error(target: RedirectTarget<'_>, error: &AuthorizationError) -> Self {
        Self::build(target, error_parameters(target, error))
    }

    fn build<'a>(target: RedirectTarget<'a>, parameters: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let text = match target.mode {
            ResponseMode::FormPost => form_page(target, parameters),
            ResponseMode::Query | ResponseMode::Fragment => location(target, parameters),
        };
        Self { mode: target.mode, text }
    }

    /// The `Location` of a redirect; `None` where the response is a page with a form.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        (self.mode != ResponseMode::FormPost).then_some(&*self.text)
    }

    /// The response to a request with this method: 302 for `GET` and `HEAD`, 303 for every other method, so that the
    /// browser does not post the user's credentials to the client (RFC 9700 §4.12).
    #[must_use]
    pub fn into_http<B: From<Bytes>>(self, method: &Method) -> Response<B> {
        let mut response = Response::new(Bytes::new());
        if self.mode == ResponseMode::FormPost {
            *response.body_mut() = self.text.into();
            *response.headers_mut() = page_headers(FORM_CSP);
        } else {
            let location = HeaderValue::from_maybe_shared(Bytes::from(self.text))
                .expect("a proven redirect URI and form encoding are visible ASCII");
            *response.headers_mut() = redirect_headers(location);
            let read = method == Method::GET || method == Method::HEAD;
            *response.status_mut() = if read { StatusCode::FOUND } else { StatusCode::SEE_OTHER };
        }
        for_method(response, method)
    }
}

/// Response parameters that are not a flat set of names and values.
#[derive(Debug)]
pub struct SerializeParametersError(serde_urlencoded::ser::Error);

impl std::fmt::Display for SerializeParametersError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the response parameters are not a flat set of names and values")
    }
}

impl std::error::Error for SerializeParametersError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Without its text, which contains codes and `state`.
impl std::fmt::Debug for AuthorizationResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizationResponse").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What separates the parameters from the URI, whose own query stays verbatim (RFC 6749 §4.1.2).
fn query_separator(uri: &str) -> &'static str {
    match uri.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    }
}

fn error_parameters<'a>(
    target: RedirectTarget<'a>,
    error: &'a AuthorizationError,
) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
    let parameters = [("error", error.code().as_str()), ("error_description", error.description())];
    parameters.into_iter().chain(target.error_uri.map(|uri| ("error_uri", uri)))
}

/// Adds `state` and `iss`, which every response carries.
fn with_common<'a>(
    target: RedirectTarget<'a>,
    parameters: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
    let state = target.state.map(|state| ("state", state));
    parameters.chain(state).chain(target.issuer.map(|issuer| ("iss", issuer)))
}

fn location<'a>(target: RedirectTarget<'a>, parameters: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let (uri, parameters) = (target.uri, with_common(target, parameters));
    if parameters.clone().next().is_none() {
        return uri.to_owned();
    }
    // A redirect URI has no fragment.
    let mut separator = if target.mode == ResponseMode::Fragment { "#" } else { query_separator(uri) };
    // Exact unless something is escaped: the text then becomes a header value without another allocation.
    let added: usize = parameters.clone().map(|(name, value)| "&=".len() + name.len() + value.len()).sum();
    let mut location = Vec::with_capacity(uri.len() + separator.len() + added - "&".len());
    location.extend_from_slice(uri.as_bytes());
    for (name, value) in parameters {
        location.extend_from_slice(separator.as_bytes());
        push_encoded(&mut location, name);
        location.push(b'=');
        push_encoded(&mut location, value);
        separator = "&";
    }
    String::from_utf8(location).expect("a redirect URI and form encoding are ASCII")
}

/// What `application/x-www-form-urlencoded` makes of a byte; 0 if it is escaped.
const ENCODED: [u8; 256] = {
    let mut encoded = [0; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-' | b'.' | b'_') {
            encoded[byte as usize] = byte;
        }
        byte += 1;
    }
    encoded[b' ' as usize] = b'+';
    encoded
};

/// Appends a name or value. `form_urlencoded` takes three times as long for words and spaces, which most values are.
fn push_encoded(form: &mut Vec<u8>, value: &str) {
    let start = form.len();
    form.extend(value.bytes().map(|byte| ENCODED[usize::from(byte)]));
    // Branch-free: faster than stopping at the first.
    if form[start..].iter().fold(false, |any, byte| any | (*byte == 0)) {
        form.truncate(start);
        for byte in value.bytes() {
            match ENCODED[usize::from(byte)] {
                0 => form.extend_from_slice(percent_encode_byte(byte).as_bytes()),
                encoded => form.push(encoded),
            }
        }
    }
}

/// The error as a link to the redirect URI, or as a form with a button.
pub(super) fn error_link(target: RedirectTarget<'_>, error: &AuthorizationError, destination: &str) -> String {
    let (parameters, label) = (error_parameters(target, error), Escaped(destination));
    match target.mode {
        ResponseMode::FormPost => {
            let fields = fields(target, parameters);
            format!("{fields}<p><button type=\"submit\">Continue to {label}</button></p>\n</form>\n")
        }
        ResponseMode::Query | ResponseMode::Fragment => {
            let location = location(target, parameters);
            format!("<p><a href=\"{}\">Continue to {label}</a></p>\n", Escaped(&location))
        }
    }
}

/// The only script that the page runs, see [`FORM_CSP`].
const SUBMIT: &str = "document.forms[0].submit()";

/// With the hash of [`SUBMIT`]. Without `form-action`: some browsers apply it to the client's redirects after the form.
const FORM_CSP: &str = page_policy!("script-src 'sha256-ePniVEkSivX/c7XWBGafqh8tSpiRrKiqYeqbG7N1TOE='");

/// OAuth 2.0 Form Post Response Mode §2.
fn form_page<'a>(target: RedirectTarget<'a>, parameters: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let mut page = page_start("Back to the application");
    page.push_str(&fields(target, parameters));
    let _ = write!(
        page,
        "<noscript><p>Your browser does not run scripts. Press the button to go back to the application.</p></noscript>\n\
         <button type=\"submit\">Continue</button>\n</form>\n</main>\n<script>{SUBMIT}</script>\n</body>\n</html>\n"
    );
    page
}

/// A form to the redirect URI up to its button.
fn fields<'a>(target: RedirectTarget<'a>, parameters: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let mut form = format!("<form method=\"post\" action=\"{}\">\n", Escaped(target.uri));
    for (name, value) in with_common(target, parameters) {
        let _ = writeln!(form, "<input type=\"hidden\" name=\"{}\" value=\"{}\">", Escaped(name), Escaped(value));
    }
    form
}
