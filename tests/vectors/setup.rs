//! Builds the clients and policies of a case.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tower_oauth_client_validation::{
    AuthorizationError, Client, ErrorCode, LoopbackPorts, Parameter, Pkce, Policy, PolicyBuilder, RedirectErrors,
    RedirectUri, RegistryError, RequestObjects, ResponseType, ScopeExcess, UnknownClients, UnlistedScopes,
    ValidatedRequest,
};

/// Settings of the layer rather than of its policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LayerOptions {
    pub(super) max_body_bytes: Option<usize>,
    /// A limit further out.
    pub(super) outer_limit: Option<usize>,
    pub(super) report_only: bool,
}

/// The clients of `clients.json`: their metadata, and what it was read as.
pub(super) static SHARED: LazyLock<HashMap<String, (Value, Client)>> = LazyLock::new(|| {
    let clients: Vec<Value> = serde_json::from_str(include_str!("clients.json")).unwrap();
    let read = |metadata: Value| (metadata.clone(), client(metadata).unwrap());
    clients.into_iter().map(read).map(|entry| (entry.1.id().to_owned(), entry)).collect()
});

/// The clients of one case.
#[derive(Clone)]
pub(super) struct Clients(Option<Client>);

impl Clients {
    pub(super) fn of(own: Option<&Value>) -> Self {
        Self::try_of(own).unwrap_or_else(|error| panic!("{own:?}: {error}"))
    }

    pub(super) fn try_of(own: Option<&Value>) -> Result<Self, String> {
        own.cloned().map(client).transpose().map(Self)
    }

    /// The ids `registry-…` make the lookup go wrong.
    pub(super) fn find(&self, client_id: &str) -> Result<Option<Client>, RegistryError> {
        match client_id {
            "registry-down" => Err(RegistryError::transient("connection refused")),
            "registry-broken" => Err(RegistryError::permanent("no such table")),
            "registry-confused" => Ok(Some(SHARED["web"].1.clone())),
            _ => {
                let shared = || SHARED.get(client_id).map(|(_, client)| client);
                Ok(self.0.iter().find(|client| client.id() == client_id).or_else(shared).cloned())
            }
        }
    }
}

/// RFC 7591 metadata; `insecure_redirect_uris` are those of `RedirectUri::insecure_http`.
fn client(mut metadata: Value) -> Result<Client, String> {
    let insecure = metadata.as_object_mut().and_then(|members| members.remove("insecure_redirect_uris"));
    let mut builder = Client::from_metadata(metadata).map_err(|error| error.to_string())?.to_builder();
    for uri in insecure.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        builder = builder.parsed_redirect_uri(RedirectUri::insecure_http(uri).map_err(|error| error.to_string())?);
    }
    builder.build().map_err(|error| error.to_string())
}

/// `profile`, then the methods of `Policy` by name.
pub(crate) fn policy(options: &Map<String, Value>) -> Policy {
    try_policy(options).unwrap_or_else(|| panic!("policy {options:?}"))
}

/// `None` for settings that are none.
pub(super) fn try_policy(options: &Map<String, Value>) -> Option<Policy> {
    let start = match options.get("profile").map(Value::as_str) {
        None | Some(Some("oauth2")) => Policy::oauth2(),
        Some(Some("rfc9700")) => Policy::rfc9700(),
        Some(Some("oauth21")) => Policy::oauth21(),
        Some(Some("mcp")) => Policy::mcp(),
        Some(_) => return None,
    };
    let mut others = options.iter().filter(|(name, _)| *name != "profile");
    others.try_fold(start, |policy, (name, value)| set(policy, name, value))?.build().ok()
}

fn set(policy: PolicyBuilder, name: &str, value: &Value) -> Option<PolicyBuilder> {
    let flag = || value.as_bool();
    let texts = || value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    Some(match (name, value.as_str().unwrap_or_default()) {
        ("redirect_uri_required", _) => policy.redirect_uri_required(flag()?),
        ("loopback_ports", "ip_literals") => policy.loopback_ports(LoopbackPorts::IpLiterals),
        ("loopback_ports", "exact") => policy.loopback_ports(LoopbackPorts::Exact),
        ("loopback_ports", "native_clients") => policy.loopback_ports(LoopbackPorts::NativeClients),
        ("request_objects", "forward") => policy.request_objects(RequestObjects::Forward),
        ("require_pushed_requests", _) => policy.require_pushed_requests(flag()?),
        ("require_signed_requests", _) => policy.require_signed_requests(flag()?),
        ("response_types", _) => {
            policy.response_types(texts()?.into_iter().map(ResponseType::parse).collect::<Option<_>>()?)
        }
        ("scope_required", _) => policy.scope_required(flag()?),
        ("scope_excess", "narrow") => policy.scope_excess(ScopeExcess::Narrow),
        ("unlisted_scopes", _) if *value == true => policy.unlisted_scopes(UnlistedScopes::Supported),
        ("unlisted_scopes", _) => policy.unlisted_scopes(value.as_str()?),
        ("supported_scopes", _) => policy.supported_scopes(value.as_str()?),
        ("scope_matcher", "prefix") => policy.scope_matcher(|allowed: &str, asked: &str| asked.starts_with(allowed)),
        ("pkce", "optional") => policy.pkce(Pkce::Optional),
        ("pkce", "required") => policy.pkce(Pkce::Required),
        ("pkce", "required_for_public_clients") => policy.pkce(Pkce::RequiredForPublicClients),
        ("plain_pkce", _) => policy.plain_pkce(flag()?),
        ("resources", _) => policy.resources(texts()?),
        ("parameters", _) => policy.parameters(texts()?),
        ("openid", _) if flag()? => policy.openid(),
        ("authorization_details_types", _) => policy.authorization_details_types(texts()?),
        ("dpop_jkt_required", _) => policy.dpop_jkt_required(flag()?),
        ("resource_required", _) => policy.resource_required(flag()?),
        ("validators", _) => texts()?.into_iter().try_fold(policy, |policy, name| match name {
            "nonce" => Some(require(policy, Parameter::Nonce, ErrorCode::AccessDenied)),
            "state" => Some(require(policy, Parameter::State, ErrorCode::LoginRequired)),
            _ => None,
        })?,
        ("redirect_errors", "always") => policy.redirect_errors(RedirectErrors::Always),
        ("redirect_errors", "vouched") => policy.redirect_errors(RedirectErrors::Vouched),
        ("redirect_errors", "never") => policy.redirect_errors(RedirectErrors::Never),
        ("issuer", issuer) => policy.issuer(issuer),
        ("error_uri", uri) => policy.error_uri(uri),
        ("insecure_detailed_errors", _) => policy.insecure_detailed_errors(flag()?),
        ("unknown_clients", "forward") => policy.unknown_clients(UnknownClients::Forward),
        _ => return None,
    })
}

/// A validator as users write them, with a description that is not fit to be sent.
fn require(policy: PolicyBuilder, parameter: Parameter, error: ErrorCode) -> PolicyBuilder {
    policy.check(move |request: &ValidatedRequest| match request.parameter(parameter) {
        Some(_) => Ok(()),
        None => Err(AuthorizationError::new(error, "a \"parameter\"\r\nis missing: é")),
    })
}
