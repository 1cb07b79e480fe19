//! The minimum that any validation has to do, written twice for speed alone.

use std::collections::HashMap;

use tower_oauth_client_validation::Client;

/// Decodes and compares as it goes, and allocates nothing.
pub(crate) struct StreamingFloor {
    clients: HashMap<String, Client>,
}

impl StreamingFloor {
    pub(crate) fn new(clients: impl Iterator<Item = Client>) -> Self {
        Self { clients: clients.map(|client| (client.id().to_owned(), client)).collect() }
    }

    /// Whether all is in order. The order of parameters does not matter, but `client_id` must be unescaped.
    pub(crate) fn check(&self, query: &str) -> bool {
        let mut client_id = None;
        let mut redirect_uri = None;
        let mut scope = None;
        let (mut seen, mut fine) = (0_u32, true);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bit = match name {
                "client_id" => {
                    client_id = Some(value);
                    1
                }
                "redirect_uri" => {
                    redirect_uri = Some(value);
                    2
                }
                "scope" => {
                    scope = Some(value);
                    4
                }
                "response_type" => {
                    fine &= value == "code";
                    8
                }
                "state" => {
                    fine &= decode(value).all(|byte| !byte.is_ascii_control());
                    16
                }
                "code_challenge" => {
                    fine &= (43..=128).contains(&value.len()) && value.bytes().all(is_unreserved);
                    32
                }
                "code_challenge_method" => {
                    fine &= value == "S256";
                    64
                }
                _ => 0,
            };
            fine &= seen & bit == 0;
            seen |= bit;
        }
        let (Some(client_id), Some(redirect_uri)) = (client_id, redirect_uri) else {
            return false;
        };
        let Some(client) = self.clients.get(client_id) else {
            return false;
        };
        fine && client.redirect_uris().iter().any(|uri| matches(uri.as_str(), decode(redirect_uri)))
            && scope.is_none_or(|scope| {
                scope.split('+').all(|token| client.allowed_scopes().is_some_and(|allowed| allowed.contains(token)))
            })
    }
}

/// Equal, or equal but for the port of an address of this host.
fn matches(registered: &str, requested: impl Iterator<Item = u8> + Clone) -> bool {
    requested.clone().eq(registered.bytes())
        || loopback_prefix(registered).is_some_and(|prefix| {
            let mut requested = requested;
            let is_there = prefix.bytes().all(|byte| requested.next() == Some(byte));
            let mut rest = requested.peekable();
            if rest.next_if_eq(&b':').is_some() {
                while rest.next_if(u8::is_ascii_digit).is_some() {}
            }
            is_there && rest.eq(registered[prefix.len()..].bytes())
        })
}

fn loopback_prefix(uri: &str) -> Option<&'static str> {
    ["http://127.0.0.1", "http://[::1]", "http://localhost"].into_iter().find(|prefix| uri.starts_with(prefix))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn decode(value: &str) -> impl Iterator<Item = u8> + Clone {
    let mut bytes = value.bytes();
    std::iter::from_fn(move || match bytes.next()? {
        b'+' => Some(b' '),
        b'%' => Some(hex(bytes.next()?)? << 4 | hex(bytes.next()?)?),
        byte => Some(byte),
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What one would write by hand: `form_urlencoded`, a map, strings.
pub(crate) struct FormFloor {
    clients: HashMap<String, Client>,
}

impl FormFloor {
    pub(crate) fn new(clients: impl Iterator<Item = Client>) -> Self {
        Self { clients: clients.map(|client| (client.id().to_owned(), client)).collect() }
    }

    pub(crate) fn check(&self, query: &str) -> bool {
        let mut parameters = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if parameters.insert(name, value).is_some() {
                return false;
            }
        }
        let Some(client) = parameters.get("client_id").and_then(|id| self.clients.get(&**id)) else {
            return false;
        };
        let Some(redirect_uri) = parameters.get("redirect_uri") else {
            return false;
        };
        let scope = parameters.get("scope").map_or("", |scope| &**scope);
        parameters.get("response_type").is_some_and(|value| value == "code")
            && client.redirect_uris().iter().any(|uri| matches(uri.as_str(), redirect_uri.bytes()))
            && scope.split(' ').all(|token| client.allowed_scopes().is_some_and(|allowed| allowed.contains(token)))
    }
}
