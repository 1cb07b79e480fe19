//! Clients of another server.

mod keycloak;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use super::{ConfigError, RegistryError, RegistrySource, can_be_known_elsewhere};
use crate::client::member::is_operator_member;
use crate::client::{Client, Untrusted, tokens};
use crate::fetch::{self, BodyError};
use tower::BoxError;

/// All but the unreserved characters of RFC 3986 §2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Finds clients of another server, where `GET {base}/{client_id}` returns RFC 7591 client metadata. Cheap to clone.
///
/// This is the admin API of Ory Hydra as it is (its empty `grant_types` and `response_types` mean the defaults).
/// [`HttpRegistry::keycloak`] knows the API of Keycloak, and a [mapping](HttpRegistryBuilder::mapping) reads any other.
///
/// | answer | meaning |
/// |---|---|
/// | 200 | the client; its `client_id` must be the requested one |
/// | 404 | the client does not exist |
/// | 408, 425, 429, 5xx, no connection, too slow | a [transient](RegistryError::is_transient) failure |
/// | 401, 403, any other status, a redirect, an unreadable or too long document | a permanent failure |
///
/// Redirects are not followed, because they would forward the `Authorization` header. Put a `CachedRegistry` (feature
/// `cache`) in front of this registry.
///
/// On many servers clients write their own metadata. Members that grant privileges are therefore ignored: `trusted`,
/// `default_scope`, digests of secrets (`…_sha256`, `client_secret_hash`), and the scope `*`, which allows all. `disabled`, `revoked` and
/// `expires_at` only restrict, and are read. See [`operator_members`](HttpRegistryBuilder::operator_members).
///
/// ```
/// use http::HeaderValue;
/// use tower_oauth_client_validation::{HttpRegistry, RegistryError};
///
/// let registry = HttpRegistry::builder("https://hydra.example/admin/clients")
///     .authorization(|| async {
///         let token = std::env::var("HYDRA_TOKEN").map_err(RegistryError::permanent)?;
///         HeaderValue::try_from(format!("Bearer {token}")).map_err(RegistryError::permanent)
///     })
///     .build()?;
/// # let _ = registry;
/// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct HttpRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    address: Address,
    authorization: Option<Authorization>,
    mapping: Option<Mapping>,
    operator_members: bool,
    timeout: Duration,
    max_body_bytes: usize,
}

type Authorization = Box<dyn Fn() -> BoxFuture<'static, Result<HeaderValue, RegistryError>> + Send + Sync>;
type Mapping = Box<dyn Fn(&str, Value) -> Result<Option<Client>, BoxError> + Send + Sync>;

impl HttpRegistry {
    /// Begins a registry that asks `{base}/{client_id}`.
    pub fn builder(base: impl Into<String>) -> HttpRegistryBuilder {
        HttpRegistryBuilder {
            base: base.into(),
            parameter: None,
            authorization: None,
            mapping: None,
            operator_members: false,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            max_body_bytes: 64 * 1024,
            system_proxy: false,
        }
    }

    /// Begins a registry that asks Keycloak; `base` is `https://HOST/admin/realms/REALM/clients`.
    ///
    /// It asks with `?clientId=` and reads `clientId`, `name`, `enabled`, `publicClient`, the flows (as response and grant
    /// types), and the client scopes: default and optional ones, and `openid`, are allowed; the default ones are granted to
    /// a request without `scope`. A SAML client is unknown.
    ///
    /// Relative `redirectUris` are resolved against `rootUrl`. Those that [`RedirectUri`](crate::RedirectUri) does not
    /// accept are left out with a warning. The most common is `/*`, which would send codes to any page of the host
    /// (RFC 9700 §4.1.3): register the full URIs in Keycloak.
    pub fn keycloak(base: impl Into<String>) -> HttpRegistryBuilder {
        Self::builder(base).query_parameter("clientId").mapping(keycloak::client)
    }
}

fn rfc7591(mut document: Value, operator_members: bool) -> Result<Client, BoxError> {
    if let Value::Object(members) = &mut document {
        // Ory Hydra writes omitted lists as empty ones and applies the defaults of RFC 7591 §2.
        for name in ["grant_types", "response_types"] {
            if members.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty) {
                members.remove(name);
            }
        }
        if !operator_members {
            drop_privileges(members);
        }
    }
    Ok(Client::from_metadata(document)?)
}

/// The client may have written this metadata, so it must not grant privileges.
fn drop_privileges(members: &mut Map<String, Value>) {
    members.retain(|name, _| {
        matches!(&**name, "disabled" | "revoked" | "expires_at" | "client_expires_at") || !is_operator_member(name)
    });
    let Some(scope) = members.get("scope").and_then(Value::as_str).filter(|scope| scope.contains('*')) else {
        return;
    };
    let listed: Vec<_> = tokens(scope).filter(|token| *token != "*").collect();
    if listed.is_empty() {
        members.remove("scope");
    } else {
        let listed = listed.join(" ");
        members.insert("scope".into(), listed.into());
    }
}

/// Builds an [`HttpRegistry`].
#[must_use]
pub struct HttpRegistryBuilder {
    base: String,
    parameter: Option<&'static str>,
    authorization: Option<Authorization>,
    mapping: Option<Mapping>,
    operator_members: bool,
    timeout: Duration,
    connect_timeout: Duration,
    max_body_bytes: usize,
    system_proxy: bool,
}

impl HttpRegistryBuilder {
    /// Sets the `Authorization` header to what `authorization` returns before each lookup. If it fails, the lookup fails.
    pub fn authorization<F>(mut self, authorization: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<HeaderValue, RegistryError>> + Send + 'static,
    {
        self.authorization = Some(Box::new(move || authorization().boxed()));
        self
    }

    /// Reads the client from the answer of the server. `None` means that the client does not exist, and an error is a
    /// permanent failure. The mapping decides which members to trust.
    pub fn mapping(
        mut self,
        mapping: impl Fn(&str, Value) -> Result<Option<Client>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.mapping = Some(Box::new(mapping));
        self
    }

    /// Takes `trusted`, `default_scope`, digests of secrets and the scope `*` from the server too (default: no). Set this only if no
    /// client writes its own metadata there. A [`mapping`](Self::mapping) ignores it.
    pub fn operator_members(mut self, taken: bool) -> Self {
        self.operator_members = taken;
        self
    }

    /// Asks `{base}?{name}={client_id}`, for servers that answer with a list. 404 is a permanent failure then, because the
    /// list itself is missing.
    pub fn query_parameter(mut self, name: &'static str) -> Self {
        self.parameter = Some(name);
        self
    }

    /// How long a lookup may take, from the call of [`authorization`](Self::authorization) to the last byte (default: 5
    /// seconds).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long connecting may take (default: 2 seconds).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many bytes of an answer are read (default: 64 KiB).
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Uses the proxy that the environment names (default: no proxy).
    pub fn system_proxy(mut self, allowed: bool) -> Self {
        self.system_proxy = allowed;
        self
    }

    /// Builds the registry.
    ///
    /// # Errors
    ///
    /// When the base is not an `http` or `https` URL without query and fragment, or TLS cannot be set up.
    pub fn build(self) -> Result<HttpRegistry, ConfigError> {
        let base = Url::parse(&self.base).ok().filter(|base| {
            matches!(base.scheme(), "http" | "https") && base.query().is_none() && base.fragment().is_none()
        });
        let problem = "must be an http or https URL without query and fragment";
        let base = base.ok_or(ConfigError::new("base", problem))?;
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect_timeout);
        if !self.system_proxy {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ConfigError::new("base", "TLS cannot be set up").with_source(error))?;
        let shared = Shared {
            http,
            address: Address { base, parameter: self.parameter },
            authorization: self.authorization,
            mapping: self.mapping,
            operator_members: self.operator_members,
            timeout: self.timeout,
            max_body_bytes: self.max_body_bytes,
        };
        Ok(HttpRegistry { shared: Arc::new(shared) })
    }
}

struct Address {
    base: Url,
    parameter: Option<&'static str>,
}

impl Address {
    /// `None` when no server can know such a client.
    fn of(&self, client_id: &str) -> Option<Url> {
        if !can_be_known_elsewhere(client_id) {
            return None;
        }
        let mut url = self.base.clone();
        if let Some(name) = self.parameter {
            url.query_pairs_mut().append_pair(name, client_id);
            return Some(url);
        }
        // URL parsers read these as steps in the path, even encoded.
        if matches!(client_id, "." | "..") {
            return None;
        }
        let path = format!("{}/{}", url.path().trim_end_matches('/'), utf8_percent_encode(client_id, ESCAPED));
        url.set_path(&path);
        Some(url)
    }
}

impl RegistrySource for HttpRegistry {
    type Future = BoxFuture<'static, Result<Option<Arc<Client>>, RegistryError>>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let (shared, client_id) = (Arc::clone(&self.shared), client_id.to_owned());
        async move {
            let found = tokio::time::timeout(shared.timeout, shared.find(&client_id)).await;
            found.unwrap_or_else(|elapsed| Err(RegistryError::transient(elapsed)))
        }
        .boxed()
    }
}

impl Shared {
    async fn find(&self, client_id: &str) -> Result<Option<Arc<Client>>, RegistryError> {
        let Some(url) = self.address.of(client_id) else {
            return Ok(None);
        };
        let mut request = self.http.get(url).header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            let mut value = authorization().await?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(registry_error)?;
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if self.address.parameter.is_none() => return Ok(None),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                return Err(RegistryError::transient(format!("the server answered {status}")));
            }
            _ if status.is_server_error() => {
                return Err(RegistryError::transient(format!("the server answered {status}")));
            }
            _ => return Err(RegistryError::permanent(format!("the server answered {status}"))),
        }
        let body = fetch::read(http::Response::<reqwest::Body>::from(response).into_body(), self.max_body_bytes).await;
        let body = body.map_err(|error| match error {
            BodyError::TooLarge => {
                RegistryError::permanent(format!("the answer is longer than {} bytes", self.max_body_bytes))
            }
            BodyError::Broken(error) => RegistryError::transient(error),
        })?;
        let unreadable = |source: BoxError| {
            let client_id = Untrusted(client_id);
            RegistryError::permanent(format!("the document of client \"{client_id}\" cannot be used: {source}"))
        };
        let document = serde_json::from_slice(&body).map_err(|error| unreadable(error.into()))?;
        let client = match &self.mapping {
            Some(mapping) => mapping(client_id, document),
            None => rfc7591(document, self.operator_members).map(Some),
        };
        match client.map_err(unreadable)? {
            Some(client) if client.id() != client_id => Err(unreadable("it belongs to another client".into())),
            client => Ok(client.map(Arc::new)),
        }
    }
}

/// Leaves out the address, which may hold a password.
fn registry_error(error: reqwest::Error) -> RegistryError {
    let is_permanent = error.is_builder();
    let error = error.without_url();
    if is_permanent { RegistryError::permanent(error) } else { RegistryError::transient(error) }
}

impl fmt::Debug for HttpRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRegistry").field("host", &self.shared.address.base.host_str()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRegistryBuilder").finish_non_exhaustive()
    }
}
