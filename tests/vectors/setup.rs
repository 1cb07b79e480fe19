//! Clients and policies, from what a case says about them.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower_oauth_client_validation::{
    AllowedScopes, AuthorizationError, Client, CodeChallengeMethod, ErrorCode, LoopbackPorts, Parameter, Pkce, Policy,
    RedirectErrors, RedirectUri, RegistryError, RequestObjects, ResponseType, Scope, ScopeExcess, UnknownClients,
    ValidatedRequest,
};

use super::Vector;
use super::answer::security_headers;

/// Settings of the layer rather than of its policy.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LayerOptions {
    pub(super) body_limit: Option<usize>,
    /// A limit further out.
    pub(super) outer_limit: Option<usize>,
    pub(super) report_only: bool,
}

static SHARED: LazyLock<HashMap<String, Client>> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/clients.json");
    let clients: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    clients.into_iter().map(client).map(|client| (client.id().to_owned(), client)).collect()
});

/// The clients of one case.
#[derive(Clone)]
pub(super) struct Clients(Option<Client>);

impl Clients {
    pub(super) fn of(vector: &Vector) -> Self {
        Self(vector.client.clone().map(client))
    }

    /// The ids `registry-…` make the look-up go wrong.
    pub(super) fn find(&self, client_id: &str) -> Result<Option<Client>, RegistryError> {
        match client_id {
            "registry-down" => Err(RegistryError::transient("connection refused")),
            "registry-broken" => Err(RegistryError::permanent("no such table")),
            "registry-confused" => Ok(SHARED.get("web").cloned()),
            _ => Ok(self.0.iter().find(|client| client.id() == client_id).or_else(|| SHARED.get(client_id)).cloned()),
        }
    }
}

/// RFC 7591 metadata; `insecure_redirect_uris` are those of `RedirectUri::insecure_http`.
fn client(mut metadata: Value) -> Client {
    let insecure = metadata.as_object_mut().unwrap().remove("insecure_redirect_uris").unwrap_or_else(|| json!([]));
    let client = Client::from_metadata(metadata.clone()).unwrap_or_else(|error| panic!("{metadata}: {error}"));
    let insecure = insecure.as_array().unwrap().iter().map(|uri| RedirectUri::insecure_http(uri.as_str().unwrap()));
    insecure.fold(client.to_builder(), |builder, uri| builder.judged_redirect_uri(uri.unwrap())).build().unwrap()
}

/// `profile`, then the methods of `Policy` by name.
pub(super) fn policy(options: &Map<String, Value>) -> Policy {
    let start = match options.get("profile").and_then(Value::as_str) {
        None | Some("oauth2") => Policy::oauth2(),
        Some("oauth21") => Policy::oauth21(),
        Some("mcp") => Policy::mcp(),
        Some(other) => panic!("profile {other}"),
    };
    options.iter().filter(|(name, _)| *name != "profile").fold(start, |policy, (name, value)| set(policy, name, value))
}

fn set(policy: Policy, name: &str, value: &Value) -> Policy {
    let flag = || value.as_bool().unwrap();
    let text = || value.as_str().unwrap();
    let texts = || value.as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    match (name, value.as_str().unwrap_or_default()) {
        ("redirect_uri_required", _) => policy.redirect_uri_required(flag()),
        ("loopback_ports", "ip_literals") => policy.loopback_ports(LoopbackPorts::IpLiterals),
        ("loopback_ports", "native_clients") => policy.loopback_ports(LoopbackPorts::NativeClients),
        ("request_objects", "forward") => policy.request_objects(RequestObjects::Forward),
        ("response_types", _) => {
            policy.response_types(texts().map(|name| ResponseType::parse(name).unwrap()).collect())
        }
        ("scope_required", _) => policy.scope_required(flag()),
        ("scope_excess", "narrow") => policy.scope_excess(ScopeExcess::Narrow),
        ("unlisted_scopes", _) => policy.unlisted_scopes(AllowedScopes::new(Scope::parse(text()).unwrap())),
        ("supported_scopes", _) => policy.supported_scopes(Scope::parse(text()).unwrap()),
        ("scope_matcher", "prefix") => policy.scope_matcher(|allowed: &str, asked: &str| asked.starts_with(allowed)),
        ("pkce", "required") => policy.pkce(Pkce::Required),
        ("pkce", "required_for_public_clients") => policy.pkce(Pkce::RequiredForPublicClients),
        ("plain_pkce", _) => policy.plain_pkce(flag()),
        ("resources", _) => policy.resources(texts()),
        ("resource_required", _) => policy.resource_required(flag()),
        ("validators", _) => texts().fold(policy, |policy, name| match name {
            "nonce" => require(policy, Parameter::Nonce, ErrorCode::AccessDenied),
            "state" => require(policy, Parameter::State, ErrorCode::LoginRequired),
            other => panic!("validator {other}"),
        }),
        ("redirect_errors", "trusted_clients") => policy.redirect_errors(RedirectErrors::TrustedClients),
        ("redirect_errors", "never") => policy.redirect_errors(RedirectErrors::Never),
        ("issuer", issuer) => policy.issuer(issuer),
        ("error_uri", uri) => policy.error_uri(uri).unwrap(),
        ("insecure_detailed_errors", _) => policy.insecure_detailed_errors(flag()),
        ("unknown_clients", "forward") => policy.unknown_clients(UnknownClients::Forward),
        _ => panic!("policy {name}: {value}"),
    }
}

/// A validator as users write them, with a description that is not fit to be sent.
fn require(policy: Policy, parameter: Parameter, error: ErrorCode) -> Policy {
    policy.validator(move |request: &ValidatedRequest| match request.parameter(parameter) {
        Some(_) => Ok(()),
        None => Err(AuthorizationError::new(error, "a \"parameter\"\r\nis missing: é")),
    })
}

/// All that the inner service can learn, and the answer that it would give.
pub(super) fn describe(validated: &ValidatedRequest, method: &Method) -> Value {
    let challenge = validated.code_challenge();
    let success = validated.success([("code", "c d")]);
    let location = success.location().map(str::to_owned);
    let response: Response<Bytes> = success.into_http(method);
    json!({
        "client_id": validated.client_id(),
        "redirect_uri": validated.redirect_uri(),
        "explicit": validated.redirect_uri_is_explicit(),
        "scope": validated.scope(),
        "response_type": validated.response_type().as_str(),
        "response_mode": validated.response_mode().as_str(),
        "state": validated.state(),
        "nonce": validated.nonce(),
        "code_challenge": challenge.map(|challenge| challenge.challenge),
        "code_challenge_method": challenge.map(|challenge| match challenge.method {
            CodeChallengeMethod::S256 => "S256",
            CodeChallengeMethod::Plain => "plain",
        }),
        "resources": validated.resources().collect::<Vec<_>>(),
        "success": location,
        "success_status": response.status().as_u16(),
        "success_headers_fault": security_headers(response.headers()).err(),
    })
}
