//! What exactly is to be authorized, as JSON (RFC 9396; row 11a).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::client::Client;

use super::reason::Reason;
use super::request::AuthorizationRequest;
use super::rules::Rules;
use super::validated::ValidatedRequest;

pub(super) const AUTHORIZATION_DETAILS: &str = "authorization_details";

impl ValidatedRequest {
    /// The objects of `authorization_details`, where the policy declares it; empty where the request has none.
    ///
    /// Each has a `type` that the server and the client know. What else an object of that type must have, and may have, is
    /// for the server to check: refuse other members with `invalid_authorization_details` (RFC 9396 §5).
    #[must_use]
    pub fn authorization_details(&self) -> Vec<Map<String, Value>> {
        let text = self.extension(AUTHORIZATION_DETAILS);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// An array of objects, each with a string `type` that the server and the client know (RFC 9396 §2, §5, §10).
pub(super) fn check(request: &AuthorizationRequest, client: &Client, rules: &Rules) -> Result<(), Reason> {
    let Some(text) = request.extension(AUTHORIZATION_DETAILS) else {
        return Ok(());
    };
    let details: Vec<Detail> = serde_json::from_str(text).map_err(|_| Reason::AUTHORIZATION_DETAILS_MALFORMED)?;
    for Detail { kind } in &details {
        let supported = rules.authorization_details_types.as_deref();
        if supported.is_some_and(|supported| supported.iter().all(|supported| **supported != **kind)) {
            return Err(Reason::AUTHORIZATION_DETAILS_TYPE_UNKNOWN);
        }
        if client.authorization_details_types().all(|registered| registered != kind) {
            return Err(Reason::AUTHORIZATION_DETAILS_TYPE_NOT_REGISTERED);
        }
    }
    Ok(())
}

/// The `type` of one object. A repeated one is an error, because JSON readers differ in which of them they take.
struct Detail {
    kind: String,
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DetailVisitor)
    }
}

struct DetailVisitor;

impl<'de> Visitor<'de> for DetailVisitor {
    type Value = Detail;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a string `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Detail, A::Error> {
        let mut kind = None;
        while let Some(name) = members.next_key::<String>()? {
            if name != "type" {
                // Not `IgnoredAny`: it accepts values that cannot be read later.
                members.next_value::<Value>()?;
            } else if kind.replace(members.next_value()?).is_some() {
                return Err(A::Error::duplicate_field("type"));
            }
        }
        kind.map(|kind| Detail { kind }).ok_or_else(|| A::Error::missing_field("type"))
    }
}
