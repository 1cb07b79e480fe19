//! Cookies that bind a sealed request to the browser that it was made for, so that nobody can finish what somebody else began.

use std::time::Duration;

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Response};

#[derive(Debug)]
pub(crate) struct Browser {
    is_https: bool,
}

impl Browser {
    pub(crate) fn of(issuer: &str) -> Self {
        Self { is_https: issuer.starts_with("https://") }
    }

    /// Sets the cookie for `name`. Each request has its own, so that two tabs do not disturb each other.
    pub(crate) fn set<B>(&self, response: &mut Response<B>, name: &str, value: &str, lifetime: Duration) {
        let name = self.cookie_name(name);
        let secure = if self.is_https { "; Secure" } else { "" };
        let seconds = lifetime.as_secs();
        // Lax, because the browser comes back from another site by a link.
        let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }

    pub(crate) fn clear<B>(&self, response: &mut Response<B>, name: &str) {
        self.set(response, name, "", Duration::ZERO);
    }

    pub(crate) fn get<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let name = self.cookie_name(name);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        let mut cookies =
            cookies.flat_map(|header| header.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        cookies.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The prefix keeps other hosts of the same site from setting the cookie.
    fn cookie_name(&self, name: &str) -> String {
        let prefix = if self.is_https { "__Host-" } else { "" };
        let name = name.get(..16).unwrap_or(name);
        format!("{prefix}mcp-proxy-{name}")
    }
}
