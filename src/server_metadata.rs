//! The metadata by which the server announces what it enforces (RFC 8414).

use serde_json::{Map, Value};

#[cfg(feature = "client-authentication")]
use crate::authentication::AuthenticationPolicy;
use crate::authorization::{Policy, Prompt, ResponseMode};
use crate::client::{ResponseType, Scope};
#[cfg(feature = "request-object")]
use crate::request_object::SignedRequests;

/// Begins authorization server metadata (RFC 8414) with the members that follow from `policy`:
///
/// | member | value |
/// |---|---|
/// | `issuer` | the issuer of the policy, where it has one |
/// | `authorization_response_iss_parameter_supported` | whether the policy has an issuer (RFC 9207) |
/// | `response_types_supported` | the response types of the policy |
/// | `response_modes_supported` | `fragment`, `form_post`, and `query` unless every response type carries a token |
/// | `scopes_supported` | the scopes that the policy lists, cut to [those that clients can get](ServerMetadata::grantable_scopes) |
/// | `code_challenge_methods_supported` | `S256`, and `plain` where the policy allows it |
/// | `require_pushed_authorization_requests`, `require_signed_request_object` | `true` where the policy requires them (RFC 9126 §5, RFC 9101 §10.5) |
/// | `prompt_values_supported` | the values of [`Prompt`], where the policy has OpenID Connect |
/// | `authorization_details_types_supported` | the types of the policy, where it declares `authorization_details` (RFC 9396 §10) |
/// | `request_parameter_supported`, `request_uri_parameter_supported` | `false` where the policy refuses them: OpenID Connect takes a missing `request_uri_parameter_supported` for `true` |
///
/// Add the endpoints, and how clients authenticate at them.
///
/// ```
/// use tower_oauth_client_validation::{Policy, Scope, server_metadata};
///
/// let policy = Policy::oauth21()
///     .issuer("https://login.example")
///     .supported_scopes("openid read admin")
///     .build()?;
/// let document = server_metadata(&policy)
///     .authorization_endpoint("https://login.example/authorize")
///     .token_endpoint("https://login.example/token")
///     .registration_endpoint("https://login.example/register")
///     .grantable_scopes(&Scope::parse("openid read")?)
///     .token_endpoint_auth_methods(["none", "client_secret_basic"])
///     .metadata_documents(true)
///     .build();
/// assert_eq!(document["issuer"], "https://login.example");
/// assert_eq!(document["scopes_supported"], serde_json::json!(["openid", "read"]));
/// assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
/// assert_eq!(document["client_id_metadata_document_supported"], true);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn server_metadata(policy: &Policy) -> ServerMetadata {
    let announced = policy.announced();
    let types: Vec<ResponseType> = announced.response_types.iter().collect();
    let modes = [ResponseMode::Query, ResponseMode::Fragment, ResponseMode::FormPost];
    let query_is_used = types.iter().any(|response_type| !response_type.carries_token());
    let modes = modes.into_iter().filter(|mode| *mode != ResponseMode::Query || query_is_used);
    let methods = if announced.plain_pkce { &["S256", "plain"][..] } else { &["S256"] };

    let mut metadata = ServerMetadata { members: Map::new(), scopes: announced.scopes.cloned() }
        .member("response_types_supported", types.iter().map(|response_type| response_type.as_str()).collect::<Value>())
        .member("response_modes_supported", modes.map(ResponseMode::as_str).collect::<Value>())
        .member("code_challenge_methods_supported", methods)
        .member("authorization_response_iss_parameter_supported", announced.issuer.is_some());
    if let Some(issuer) = announced.issuer {
        metadata = metadata.member("issuer", issuer);
    }
    if announced.requires_pushed_requests {
        metadata = metadata.member("require_pushed_authorization_requests", true);
    }
    if announced.requires_signed_requests {
        metadata = metadata.member("require_signed_request_object", true);
    }
    if announced.openid {
        let prompts = Prompt::ALL.iter().map(|prompt| prompt.as_str());
        metadata = metadata.member("prompt_values_supported", prompts.collect::<Value>());
    }
    if let Some(types) = announced.authorization_details_types {
        let types = types.iter().map(|name| &**name);
        metadata = metadata.member("authorization_details_types_supported", types.collect::<Value>());
    }
    if announced.refuses_request_objects {
        metadata =
            metadata.member("request_parameter_supported", false).member("request_uri_parameter_supported", false);
    }
    metadata
}

/// Builds the document of [`server_metadata`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerMetadata {
    members: Map<String, Value>,
    /// `None`: any.
    scopes: Option<Scope>,
}

impl ServerMetadata {
    /// Sets `authorization_endpoint`.
    pub fn authorization_endpoint(self, url: impl Into<String>) -> Self {
        self.member("authorization_endpoint", url.into())
    }

    /// Sets `token_endpoint`.
    pub fn token_endpoint(self, url: impl Into<String>) -> Self {
        self.member("token_endpoint", url.into())
    }

    /// Sets `registration_endpoint` (RFC 7591).
    pub fn registration_endpoint(self, url: impl Into<String>) -> Self {
        self.member("registration_endpoint", url.into())
    }

    /// Sets `pushed_authorization_request_endpoint` (RFC 9126), and `require_pushed_authorization_requests` to `false`
    /// unless the policy requires them. Its authentication methods are those of the token endpoint.
    pub fn pushed_authorization_request_endpoint(self, url: impl Into<String>) -> Self {
        self.member("pushed_authorization_request_endpoint", url.into())
    }

    /// Sets `revocation_endpoint` (RFC 7009). Its authentication methods are those of the token endpoint.
    pub fn revocation_endpoint(self, url: impl Into<String>) -> Self {
        self.member("revocation_endpoint", url.into())
    }

    /// Sets `introspection_endpoint` (RFC 7662). Its authentication methods are those of the token endpoint.
    pub fn introspection_endpoint(self, url: impl Into<String>) -> Self {
        self.member("introspection_endpoint", url.into())
    }

    /// Announces the methods and signing algorithms of this policy (`token_endpoint_auth_methods_supported`,
    /// `token_endpoint_auth_signing_alg_values_supported`).
    ///
    /// ```
    /// use tower_oauth_client_validation::{AuthenticationPolicy, Policy, server_metadata};
    ///
    /// let authentication = AuthenticationPolicy::builder().build()?;
    /// let document = server_metadata(&Policy::default()).client_authentication(&authentication).build();
    /// let methods = serde_json::json!(["none", "client_secret_basic", "client_secret_post"]);
    /// assert_eq!(document["token_endpoint_auth_methods_supported"], methods);
    /// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
    /// ```
    #[cfg(feature = "client-authentication")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client-authentication")))]
    pub fn client_authentication(self, policy: &AuthenticationPolicy) -> Self {
        let algorithms: Vec<_> = policy.signing_algorithms().map(|algorithm| algorithm.as_str()).collect();
        let metadata = self.token_endpoint_auth_methods(policy.methods().map(|method| method.as_str()));
        if algorithms.is_empty() {
            return metadata;
        }
        metadata.member("token_endpoint_auth_signing_alg_values_supported", algorithms)
    }

    /// Announces that clients may sign their requests (`request_parameter_supported`), the algorithms
    /// (`request_object_signing_alg_values_supported`), and that a `request_uri` of the client's own is not fetched.
    ///
    /// ```
    /// use tower_oauth_client_validation::{Policy, SignedRequests, server_metadata};
    ///
    /// let signed = SignedRequests::builder("https://login.example").build()?;
    /// let document = server_metadata(&Policy::default()).signed_requests(&signed).build();
    /// assert_eq!(document["request_parameter_supported"], true);
    /// assert_eq!(document["request_uri_parameter_supported"], false);
    /// let algorithms = serde_json::json!(["ES256", "EdDSA", "PS256", "RS256"]);
    /// assert_eq!(document["request_object_signing_alg_values_supported"], algorithms);
    /// # Ok::<(), tower_oauth_client_validation::ConfigError>(())
    /// ```
    #[cfg(feature = "request-object")]
    #[cfg_attr(docsrs, doc(cfg(feature = "request-object")))]
    pub fn signed_requests(self, signed: &SignedRequests) -> Self {
        let algorithms: Vec<_> = signed.signing_algorithms().map(|algorithm| algorithm.as_str()).collect();
        self.member("request_parameter_supported", true)
            .member("request_uri_parameter_supported", false)
            .member("request_object_signing_alg_values_supported", algorithms)
    }

    /// Announces only scopes that clients of one source can get, such as those that register themselves, because some
    /// clients ask for all of `scopes_supported`. Call it once for each source.
    pub fn grantable_scopes(mut self, grantable: &Scope) -> Self {
        self.scopes = Some(match self.scopes {
            None => grantable.clone(),
            Some(scopes) => Scope::from_valid_tokens(scopes.iter().filter(|scope| grantable.contains(scope))),
        });
        self
    }

    /// Sets `token_endpoint_auth_methods_supported`. Without it, clients assume `client_secret_basic` alone (RFC 8414 §2).
    pub fn token_endpoint_auth_methods<T: Into<String>>(self, methods: impl IntoIterator<Item = T>) -> Self {
        let methods: Vec<String> = methods.into_iter().map(Into::into).collect();
        self.member("token_endpoint_auth_methods_supported", methods)
    }

    /// Sets `client_id_metadata_document_supported`: whether the id of a client may be the address of its metadata.
    pub fn metadata_documents(self, supported: bool) -> Self {
        self.member("client_id_metadata_document_supported", supported)
    }

    /// Sets any other member. It replaces one with the same name.
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.members.insert(name.into(), value.into());
        self
    }

    /// Returns the document.
    #[must_use]
    pub fn build(mut self) -> Map<String, Value> {
        if let Some(scopes) = &self.scopes {
            self.members.entry("scopes_supported").or_insert_with(|| scopes.iter().collect());
        }
        if self.members.contains_key("pushed_authorization_request_endpoint") {
            self.members.entry("require_pushed_authorization_requests").or_insert(false.into());
        }
        for endpoint in ["revocation_endpoint", "introspection_endpoint"] {
            if self.members.contains_key(endpoint) {
                self.copy_from_token_endpoint(endpoint);
            }
        }
        self.members
    }

    fn copy_from_token_endpoint(&mut self, endpoint: &str) {
        for suffix in ["_auth_methods_supported", "_auth_signing_alg_values_supported"] {
            if let Some(value) = self.members.get(&format!("token_endpoint{suffix}")).cloned() {
                self.members.entry(format!("{endpoint}{suffix}")).or_insert(value);
            }
        }
    }
}
