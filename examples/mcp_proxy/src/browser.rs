//! Which browser a page was shown to.

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Response};
use shared::store::{NoEntropy, secret};
use subtle::ConstantTimeEq;

use crate::PATIENCE;

/// Binds a ticket, or a state, to the browser that it was made for: what another browser brings is not taken, so
/// nobody can finish what somebody else began.
#[derive(Debug)]
pub(crate) struct Browser {
    is_https: bool,
}

impl Browser {
    pub(crate) fn of(issuer: &str) -> Self {
        Self { is_https: issuer.starts_with("https://") }
    }

    /// What the browser must show again, to be kept with the value.
    pub(crate) fn mark() -> Result<String, NoEntropy> {
        secret()
    }

    /// Hands the mark to the browser. A cookie for each `name`, so that two tabs do not get in each other's way.
    pub(crate) fn set<B>(&self, response: &mut Response<B>, name: &str, mark: &str) {
        self.set_cookie(response, name, mark, PATIENCE.as_secs());
    }

    pub(crate) fn clear<B>(&self, response: &mut Response<B>, name: &str) {
        self.set_cookie(response, name, "", 0);
    }

    fn set_cookie<B>(&self, response: &mut Response<B>, name: &str, value: &str, seconds: u64) {
        let name = self.cookie_name(name);
        let secure = if self.is_https { "; Secure" } else { "" };
        // Lax: the browser comes back from another site, by a link.
        let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }

    pub(crate) fn has(&self, headers: &HeaderMap, name: &str, mark: &str) -> bool {
        let name = self.cookie_name(name);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        cookies
            .flat_map(|header| header.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(known, value)| known == name && bool::from(value.as_bytes().ct_eq(mark.as_bytes())))
    }

    /// The prefix keeps other hosts of the same site from setting it.
    fn cookie_name(&self, name: &str) -> String {
        let prefix = if self.is_https { "__Host-" } else { "" };
        let name = name.get(..16).unwrap_or(name);
        format!("{prefix}mcp-proxy-{name}")
    }
}
