//! Reads a [`Client`] from RFC 7591 client metadata, and writes it.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::error::{ClientError, ClientErrorKind};
use super::member::AUTH_METHOD;
use super::time::from_unix_seconds;
use super::{
    ApplicationType, Client, ClientBuilder, ClientStatus, GrantTypes, RedirectUri, RedirectUriError, ResponseType,
};

impl Client {
    /// Reads an RFC 7591 §2 client metadata object with a `client_id`.
    ///
    /// It also reads `application_type` (OpenID Connect) and these extensions, which only an operator may set:
    ///
    /// | member | meaning |
    /// |---|---|
    /// | `default_scope` | scopes granted to a request without `scope` |
    /// | `dynamic` | `true`: see [`Client::is_dynamic`] |
    /// | `disabled`, `revoked` | `true`: requests are refused |
    /// | `expires_at`, `client_expires_at` | seconds since the epoch; 0 means never |
    /// | `insecure_http` | `true`: redirect URIs may be `http` on any host, see [`RedirectUri::insecure_http`] |
    /// | `trusted` | `true`: see [`Client::is_trusted`] |
    ///
    /// Every other member is kept as [`metadata`](Client::metadata). A `null` member counts as absent (RFC 7591 §2).
    ///
    /// The defaults are those of RFC 7591 §2: `response_types` is `["code"]`, `grant_types` is `["authorization_code"]`
    /// and `token_endpoint_auth_method` is `client_secret_basic`, so a client is confidential unless the method is
    /// `none`.
    ///
    /// # Errors
    ///
    /// Names the client, and the member that has a wrong type or breaks a rule.
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
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    pub fn from_metadata(metadata: impl Into<Value>) -> Result<Self, ClientError> {
        read(metadata.into(), Err)
    }

    /// Reads client metadata from a database row or another server, like [`Client::from_metadata`], but leaves out
    /// redirect URIs that break a rule and reports them.
    ///
    /// One bad redirect URI, which the client itself may have registered, then does not make the whole client unusable.
    /// Any other fault is an error, because ignoring it could grant the client more than was registered.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_oauth_client_validation::Client;
    ///
    /// let (client, dropped) = Client::from_stored_metadata(json!({
    ///     "client_id": "app",
    ///     "redirect_uris": ["https://app.example/cb#top", "https://app.example/cb"],
    /// }))?;
    /// assert_eq!(client.redirect_uris().len(), 1);
    /// assert_eq!(dropped[0].to_string(), r#"client "app": redirect_uris[0]: a fragment is not allowed (at byte 22)"#);
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Client::from_metadata`], except for redirect URIs.
    pub fn from_stored_metadata(metadata: impl Into<Value>) -> Result<(Self, Vec<ClientError>), ClientError> {
        let mut dropped = Vec::new();
        let client = read(metadata.into(), |error| {
            dropped.push(error);
            Ok(())
        })?;
        Ok((client, dropped))
    }

    /// Writes the client as an RFC 7591 metadata object with a `client_id`. [`Client::from_metadata`] reads it back.
    #[must_use]
    pub fn to_metadata(&self) -> Map<String, Value> {
        let mut members = self.metadata().cloned().unwrap_or_default();
        let mut set = |name: &str, value: Value| {
            // A list with unknown values was kept whole.
            members.entry(name).or_insert(value);
        };
        set("client_id", self.id().into());
        if let Some(name) = self.name() {
            set("client_name", name.into());
        }
        set("redirect_uris", self.redirect_uris.iter().map(RedirectUri::as_str).collect());
        if self.redirect_uris.iter().any(RedirectUri::is_insecure_http) {
            set("insecure_http", true.into());
        }
        if let Some(allowed) = self.allowed_scopes() {
            set("scope", allowed.as_str().into());
        }
        if let Some(default) = &self.scopes.default {
            set("default_scope", default.as_str().into());
        }
        set("response_types", self.response_types.iter().map(ResponseType::as_str).collect());
        set("grant_types", self.grant_types.names().collect());
        set(AUTH_METHOD, self.token_endpoint_auth_method().into());
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
        if self.dynamic {
            set("dynamic", true.into());
        }
        if let Some(seconds) = self.details.as_ref().and_then(|details| details.expires_at) {
            set("expires_at", seconds.get().into());
        }
        members
    }
}

/// Reads a client. `bad_redirect_uri` decides whether a redirect URI that breaks a rule is an error.
fn read(
    metadata: Value,
    mut bad_redirect_uri: impl FnMut(ClientError) -> Result<(), ClientError>,
) -> Result<Client, ClientError> {
    let Value::Object(members) = metadata else {
        return Err(ClientErrorKind::NotAnObject.into());
    };
    let mut members = Members(members.into_iter().filter(|(_, value)| !value.is_null()).collect());
    let id = members.take_string("client_id")?.ok_or(ClientErrorKind::IdMissing)?;
    let error = |kind| ClientError::new(&id, kind);
    let mut builder = Client::builder(&*id);
    for (index, uri) in members.take_redirect_uris().map_err(error)?.into_iter().enumerate() {
        match uri {
            Ok(uri) => builder = builder.parsed_redirect_uri(uri),
            Err(source) => bad_redirect_uri(error(ClientErrorKind::RedirectUri { index, source }))?,
        }
    }
    members.read(builder).map_err(error)?.build()
}

/// Members that are not read yet.
struct Members(Map<String, Value>);

impl Members {
    fn read(mut self, mut builder: ClientBuilder) -> Result<ClientBuilder, ClientErrorKind> {
        if let Some(name) = self.take_string("client_name")? {
            builder = builder.name(name);
        }
        if let Some(scope) = self.take_string("scope")? {
            builder = builder.scope(scope);
        }
        if let Some(scope) = self.take_string("default_scope")? {
            builder = builder.default_scope(scope);
        }
        if let Some(types) = self.take_known("response_types", ResponseType::parse)? {
            builder = builder.response_types(types.into_iter().collect());
        }
        if let Some(grants) = self.take_known("grant_types", GrantTypes::from_name)? {
            builder = builder.grant_types(grants.into_iter().fold(GrantTypes::EMPTY, GrantTypes::with));
        }
        let method = self.take_string(AUTH_METHOD)?;
        builder = builder.token_endpoint_auth_method(method.as_deref().unwrap_or("client_secret_basic"));
        builder = match self.take_string("application_type")?.as_deref() {
            Some("native") => builder.application_type(ApplicationType::Native),
            Some("web") => builder.application_type(ApplicationType::Web),
            Some(_) => return Err(ClientErrorKind::Type { member: "application_type", expected: "native or web" }),
            None => builder,
        };
        builder = match (self.take_bool("revoked")?, self.take_bool("disabled")?) {
            (true, _) => builder.status(ClientStatus::Revoked),
            (false, disabled) => builder.disabled(disabled),
        };
        builder = builder.trusted(self.take_bool("trusted")?).dynamic(self.take_bool("dynamic")?);
        // Other servers write the second name. If both are there, the earlier end counts; 0 means never.
        let ends = [self.take_time("expires_at")?, self.take_time("client_expires_at")?];
        if let Some(end) = ends.into_iter().flatten().filter(|end| *end != SystemTime::UNIX_EPOCH).min() {
            builder = builder.expires_at(end);
        }
        for (name, value) in self.0 {
            builder.keep(name, value);
        }
        Ok(builder)
    }

    fn take_redirect_uris(&mut self) -> Result<Vec<Result<RedirectUri, RedirectUriError>>, ClientErrorKind> {
        let parse = if self.take_bool("insecure_http")? { RedirectUri::insecure_http } else { RedirectUri::parse };
        let uris = self.take_strings("redirect_uris")?.unwrap_or_default();
        Ok(uris.iter().map(|uri| parse(uri)).collect())
    }

    fn take<T>(
        &mut self,
        member: &'static str,
        expected: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, ClientErrorKind> {
        let Some(value) = self.0.remove(member) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or(ClientErrorKind::Type { member, expected })
    }

    fn take_string(&mut self, member: &'static str) -> Result<Option<String>, ClientErrorKind> {
        self.take(member, "a string", string)
    }

    fn take_strings(&mut self, member: &'static str) -> Result<Option<Vec<String>>, ClientErrorKind> {
        self.take(member, "an array of strings", |value| match value {
            Value::Array(values) => values.into_iter().map(string).collect(),
            _ => None,
        })
    }

    /// The known values of a list. A list with unknown ones is also kept whole, so that nothing that a client registered
    /// is lost.
    fn take_known<T>(
        &mut self,
        member: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ClientErrorKind> {
        let Some(names) = self.take_strings(member)? else {
            return Ok(None);
        };
        let known: Vec<T> = names.iter().filter_map(|name| parse(name)).collect();
        if known.len() < names.len() {
            self.0.insert(member.to_owned(), names.into());
        }
        Ok(Some(known))
    }

    fn take_bool(&mut self, member: &'static str) -> Result<bool, ClientErrorKind> {
        let value = self.take(member, "true or false", |value| value.as_bool())?;
        Ok(value.unwrap_or_default())
    }

    fn take_time(&mut self, member: &'static str) -> Result<Option<SystemTime>, ClientErrorKind> {
        self.take(member, "seconds since the epoch", |value| from_unix_seconds(value.as_u64()?))
    }
}

fn string(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
