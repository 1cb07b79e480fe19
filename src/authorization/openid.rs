//! The parameters of OpenID Connect (row 11a).

use std::fmt;
use std::time::Duration;

use crate::client::{ResponseType, tokens};

use super::reason::Reason;
use super::request::{AuthorizationRequest, Parameter};
use super::validated::ValidatedRequest;

const PROMPT: &str = "prompt";
const MAX_AGE: &str = "max_age";

/// What [`PolicyBuilder::openid`](crate::PolicyBuilder::openid) declares.
pub(super) const PARAMETERS: [&str; 8] =
    [PROMPT, MAX_AGE, "claims", "id_token_hint", "login_hint", "acr_values", "ui_locales", "display"];

/// A value of `prompt`: which pages the client wants the user to see (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prompt {
    /// `none`: no page at all. Where one is needed, answer with `login_required`, `consent_required`,
    /// `account_selection_required` or `interaction_required` (OpenID Connect Core §3.1.2.6).
    None,
    /// `login`: the user must authenticate again.
    Login,
    /// `consent`: the user must be asked for consent.
    Consent,
    /// `select_account`: the user must be asked to select an account.
    SelectAccount,
}

impl Prompt {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::None, Self::Login, Self::Consent, Self::SelectAccount];

    /// The value with this name.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|prompt| prompt.as_str() == value)
    }

    /// The name in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Login => "login",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
        }
    }
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ValidatedRequest {
    /// The values of `prompt`, where the policy declares it. `none` is always alone.
    pub fn prompts(&self) -> impl Iterator<Item = Prompt> {
        self.extension(PROMPT).into_iter().flat_map(tokens).filter_map(Prompt::parse)
    }

    /// `max_age`, where the policy declares it: how long ago the user may have authenticated at most (OpenID Connect Core
    /// §3.1.2.1).
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        self.extension(MAX_AGE).and_then(seconds).map(Duration::from_secs)
    }
}

/// OpenID Connect Core §3.1.2.1, §3.2.2.1, §3.3.2.1.
pub(super) fn check(request: &AuthorizationRequest, response_type: ResponseType, scope: &str) -> Result<(), Reason> {
    if let Some(prompt) = request.extension(PROMPT) {
        let words: Vec<_> = prompt.split(' ').map(Prompt::parse).collect();
        if words.contains(&None) {
            return Err(Reason::PROMPT_UNKNOWN);
        }
        if words.len() > 1 && words.contains(&Some(Prompt::None)) {
            return Err(Reason::PROMPT_NONE_COMBINED);
        }
    }
    if request.extension(MAX_AGE).is_some_and(|age| seconds(age).is_none()) {
        return Err(Reason::MAX_AGE_MALFORMED);
    }
    if response_type.carries_id_token() {
        if request.get(Parameter::Nonce).is_none() {
            return Err(Reason::NONCE_MISSING);
        }
        if !tokens(scope).any(|token| token == "openid") {
            return Err(Reason::SCOPE_OPENID_MISSING);
        }
    }
    Ok(())
}

/// A non-negative integer. One that is too large to count means the same as the largest.
fn seconds(value: &str) -> Option<u64> {
    let is_integer = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_integer.then(|| value.parse().unwrap_or(u64::MAX))
}
