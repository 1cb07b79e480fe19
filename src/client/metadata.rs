//! RFC 7591 client metadata to a [`Client`] and back.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{
    ApplicationType, Client, ClientBuilder, ClientError, ClientKind, ClientStatus, GrantTypes, RedirectUri,
    ResponseType, ResponseTypes,
};

/// Kept as it came when it is neither `none` nor `client_secret_basic`.
pub(super) const AUTH_METHOD: &str = "token_endpoint_auth_method";

/// Members that the model holds whole, so that other metadata of the same name means nothing.
const MODELLED: [&str; 10] = [
    "client_id",
    "client_name",
    "redirect_uris",
    "scope",
    "default_scope",
    "application_type",
    "disabled",
    "revoked",
    "trusted",
    "expires_at",
];

impl Client {
    /// Reads an RFC 7591 §2 client metadata object plus `client_id`.
    ///
    /// Besides the members of the RFC it knows `application_type` (OpenID Connect), and as extensions
    /// `default_scope` (what is granted when nothing is asked for), `disabled`, `revoked`, `trusted` and
    /// `expires_at` (seconds since the epoch, 0: never). Every other member is kept as
    /// [`metadata`](Client::metadata). A member that is `null` counts as left out (RFC 7591 §2).
    ///
    /// Defaults are those of RFC 7591 §2: `response_types` is `["code"]`, `grant_types` is
    /// `["authorization_code"]`, and `token_endpoint_auth_method` is `client_secret_basic`, so that a client is
    /// confidential unless the method is `none`.
    ///
    /// # Errors
    ///
    /// Names the member that has a wrong type, or the rule that a redirect URI or scope breaks.
    ///
    /// # Example
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_oauth_client_validation::{Client, ClientKind, GrantTypes, ResponseTypes};
    ///
    /// let client = Client::from_metadata(json!({
    ///     "client_id": "photo-app",
    ///     "redirect_uris": ["https://photos.example/callback"],
    ///     "scope": "openid photos:read",
    /// }))?;
    /// assert_eq!(client.kind(), ClientKind::Confidential);
    /// assert_eq!(client.response_types(), ResponseTypes::CODE);
    /// assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
    /// # Ok::<(), tower_oauth_client_validation::MetadataError>(())
    /// ```
    pub fn from_metadata(metadata: impl Into<Value>) -> Result<Self, MetadataError> {
        let Value::Object(members) = metadata.into() else {
            return Err(MetadataError::NotAnObject);
        };
        let mut members: Members = Members(members.into_iter().filter(|(_, value)| !value.is_null()).collect());
        let id = members.take_string("client_id")?.ok_or(MetadataError::Missing("client_id"))?;
        let mut builder = Self::builder(id);
        if let Some(name) = members.take_string("client_name")? {
            builder = builder.name(name);
        }
        for uri in members.take_strings("redirect_uris")?.unwrap_or_default() {
            builder = builder.redirect_uri(uri);
        }
        if let Some(scope) = members.take_string("scope")? {
            builder = builder.scope(scope);
        }
        if let Some(scope) = members.take_string("default_scope")? {
            builder = builder.default_scope(scope);
        }
        builder = response_and_grant_types(builder, &mut members)?;
        let method = members.string(AUTH_METHOD)?;
        builder = if method == Some("none") { builder.public() } else { builder.confidential() };
        // Any other method stays in the metadata: the token endpoint needs to know which one it is.
        if matches!(method, Some("none" | "client_secret_basic")) {
            members.0.remove(AUTH_METHOD);
        }
        builder = match members.string("application_type")? {
            Some("native") => builder.application_type(ApplicationType::Native),
            Some("web") => builder.application_type(ApplicationType::Web),
            Some(_) => return Err(MetadataError::Type { member: "application_type", expected: "native or web" }),
            None => builder,
        };
        members.0.remove("application_type");
        let revoked = members.take_bool("revoked")?;
        let disabled = members.take_bool("disabled")?;
        builder = builder.trusted(members.take_bool("trusted")?).status(match (revoked, disabled) {
            (true, _) => ClientStatus::Revoked,
            (false, true) => ClientStatus::Disabled,
            (false, false) => ClientStatus::Active,
        });
        if let Some(seconds) = members.take_seconds("expires_at")? {
            let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            let expected = "seconds since the epoch";
            builder = builder.expires_at(end.ok_or(MetadataError::Type { member: "expires_at", expected })?);
        }
        for (name, value) in members.0 {
            builder = builder.metadata(name, value);
        }
        builder.build().map_err(MetadataError::Client)
    }

    /// The client as an RFC 7591 metadata object plus `client_id`; [`Client::from_metadata`] reads it back.
    ///
    /// A redirect URI of [`RedirectUri::insecure_http`] is written as it is, and will not be read back.
    #[must_use]
    pub fn to_metadata(&self) -> Map<String, Value> {
        let mut members = self.metadata().cloned().unwrap_or_default();
        members.retain(|name, _| !MODELLED.contains(&name.as_str()));
        let mut set = |name: &str, value: Value| {
            // A list that holds more than the model knows was kept as it came.
            members.entry(name).or_insert(value);
        };
        set("client_id", self.id().into());
        if let Some(name) = self.name() {
            set("client_name", name.into());
        }
        set("redirect_uris", self.redirect_uris.iter().map(RedirectUri::as_str).collect());
        if let Some(allowed) = self.allowed_scopes() {
            set("scope", allowed.as_str().into());
        }
        if let Some(default) = &self.scopes.default {
            set("default_scope", default.as_str().into());
        }
        set("response_types", self.response_types.iter().map(ResponseType::as_str).collect());
        set("grant_types", self.grant_types.names().collect());
        set(
            AUTH_METHOD,
            match self.kind {
                ClientKind::Public => "none".into(),
                ClientKind::Confidential => "client_secret_basic".into(),
            },
        );
        if let Some(application_type) = self.application_type {
            set("application_type", application_type.as_str().into());
        }
        match self.status {
            ClientStatus::Active => {}
            ClientStatus::Disabled => set("disabled", true.into()),
            ClientStatus::Revoked => set("revoked", true.into()),
        }
        if self.trusted {
            set("trusted", true.into());
        }
        if let Some(seconds) = self.details.as_ref().and_then(|details| details.expires_at) {
            set("expires_at", seconds.get().into());
        }
        members
    }
}

/// Values that the model does not know stay in the metadata whole, so that nothing a client registered is lost.
fn response_and_grant_types(mut builder: ClientBuilder, members: &mut Members) -> Result<ClientBuilder, MetadataError> {
    if let Some(names) = members.strings("response_types")? {
        let known: Vec<_> = names.iter().filter_map(|name| ResponseType::parse(name)).collect();
        let all_known = known.len() == names.len();
        builder = builder.response_types(known.into_iter().collect::<ResponseTypes>());
        if all_known {
            members.0.remove("response_types");
        }
    }
    if let Some(names) = members.strings("grant_types")? {
        let known: Vec<_> = names.iter().filter_map(|name| GrantTypes::from_name(name)).collect();
        let all_known = known.len() == names.len();
        builder = builder.grant_types(known.into_iter().fold(GrantTypes::EMPTY, GrantTypes::with));
        if all_known {
            members.0.remove("grant_types");
        }
    }
    Ok(builder)
}

/// Whether a JSON Web Key Set holds a private or a symmetric key (RFC 7517, RFC 7518 §6), which nobody may
/// publish.
#[cfg(any(feature = "registration", feature = "metadata-document"))]
pub(crate) fn holds_private_key(jwks: &Value) -> bool {
    const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let keys = jwks.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.chain([jwks]).any(|key| PRIVATE_MEMBERS.iter().any(|member| key.get(member).is_some()))
}

/// Whether this is a URI that may be shown as a link: no script, and nothing that a browser reads another way than a
/// person does (no userinfo, white space or backslash).
#[cfg(any(feature = "registration", feature = "metadata-document"))]
pub(crate) fn is_web_uri(value: &Value, schemes: &[&str]) -> bool {
    let Some(uri) = value.as_str() else {
        return false;
    };
    let is_plain = !uri.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    let has_scheme = scheme.is_some_and(|scheme| schemes.iter().any(|name| scheme.eq_ignore_ascii_case(name)));
    let is_plain_url = |url: url::Url| url.has_host() && url.username().is_empty() && url.password().is_none();
    is_plain && has_scheme && url::Url::parse(uri).is_ok_and(is_plain_url)
}

/// Members that only an operator or the server itself sets: from outside they would give privileges, and they
/// are not for showing.
#[cfg(any(feature = "http-registry", feature = "metadata-document", feature = "registration"))]
pub(crate) fn is_operator_member(name: &str) -> bool {
    matches!(name, "trusted" | "disabled" | "revoked" | "expires_at" | "default_scope") || name.ends_with("_sha256")
}

struct Members(Map<String, Value>);

impl Members {
    fn string(&self, member: &'static str) -> Result<Option<&str>, MetadataError> {
        match self.0.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(MetadataError::Type { member, expected: "a string" }),
        }
    }

    fn take_string(&mut self, member: &'static str) -> Result<Option<String>, MetadataError> {
        let text = self.string(member)?.map(str::to_owned);
        self.0.remove(member);
        Ok(text)
    }

    fn strings(&self, member: &'static str) -> Result<Option<Vec<&str>>, MetadataError> {
        let wrong = MetadataError::Type { member, expected: "an array of strings" };
        match self.0.get(member) {
            None => Ok(None),
            Some(Value::Array(values)) => {
                values.iter().map(|value| value.as_str().ok_or(wrong)).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong),
        }
    }

    fn take_strings(&mut self, member: &'static str) -> Result<Option<Vec<String>>, MetadataError> {
        let strings = self.strings(member)?.map(|strings| strings.into_iter().map(str::to_owned).collect());
        self.0.remove(member);
        Ok(strings)
    }

    fn take_bool(&mut self, member: &'static str) -> Result<bool, MetadataError> {
        match self.0.remove(member) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(MetadataError::Type { member, expected: "true or false" }),
        }
    }

    fn take_seconds(&mut self, member: &'static str) -> Result<Option<u64>, MetadataError> {
        let expected = "seconds since the epoch";
        match self.0.remove(member) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(MetadataError::Type { member, expected }),
        }
    }
}

/// Client metadata that describes no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// It is no JSON object.
    NotAnObject,
    /// A member is missing.
    Missing(&'static str),
    /// A member has a wrong type.
    Type {
        /// Its name.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A rule for clients is broken.
    Client(ClientError),
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("client metadata must be a JSON object"),
            Self::Missing(member) => write!(f, "{member}: missing"),
            Self::Type { member, expected } => write!(f, "{member}: must be {expected}"),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MetadataError {}
