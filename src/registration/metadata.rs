//! Validates metadata of registration requests (RFC 7591 §2).

use http::StatusCode;
use serde_json::{Map, Value};

use super::error::RegistrationError;
use super::members::is_reserved;
use super::policy::{RegistrationPolicy, SoftwareStatementError};
use super::refusal::{invalid_metadata, invalid_redirect_uri};
use crate::client::member::{
    self, AUTH_METHOD, AUTH_METHODS, holds_private_key, is_key_set, is_web_uri, strings, usable_auth_methods,
};
use crate::client::{
    AllowedScopes, ApplicationType, Client, ClientOrigin, GrantTypes, RedirectUri, ResponseType, Scope,
};
use crate::http::endpoint::Refusal;

/// Members that are checked one by one, below.
pub(super) const CHECKED_MEMBERS: [&str; 6] =
    ["redirect_uris", "response_types", "grant_types", "scope", AUTH_METHOD, "application_type"];

/// Members that are stored as they are if their type is right: those of RFC 7591 §2, and what a server needs to know for
/// authentication, OpenID Connect, and pushed, signed, rich (RFC 9396) and DPoP-bound requests.
const PLAIN_MEMBERS: [(&str, Shape); 24] = [
    ("client_name", Shape::Text),
    ("client_uri", Shape::WebUri),
    ("logo_uri", Shape::WebUri),
    ("tos_uri", Shape::WebUri),
    ("policy_uri", Shape::WebUri),
    ("contacts", Shape::Texts),
    ("software_id", Shape::Text),
    ("software_version", Shape::Text),
    ("software_statement", Shape::Text),
    ("jwks_uri", Shape::HttpsUri),
    ("jwks", Shape::PublicKeys),
    ("post_logout_redirect_uris", Shape::RedirectUris),
    ("subject_type", Shape::Text),
    ("default_max_age", Shape::Number),
    ("require_auth_time", Shape::Bool),
    ("default_acr_values", Shape::Texts),
    ("initiate_login_uri", Shape::LoginUri),
    (AUTH_METHODS, Shape::Texts),
    ("token_endpoint_auth_signing_alg", Shape::Algorithm),
    ("request_object_signing_alg", Shape::Algorithm),
    ("require_pushed_authorization_requests", Shape::Bool),
    ("require_signed_request_object", Shape::Bool),
    ("authorization_details_types", Shape::Texts),
    ("dpop_bound_access_tokens", Shape::Bool),
];

/// Members that may carry a language tag (RFC 7591 §2.2).
const HUMAN_READABLE: [&str; 5] = ["client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"];

#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Texts,
    Bool,
    Number,
    Algorithm,
    WebUri,
    HttpsUri,
    PublicKeys,
    RedirectUris,
    LoginUri,
}

impl Shape {
    /// The error says what the value must be.
    pub(super) fn check(self, value: &Value, policy: &RegistrationPolicy) -> Result<(), &'static str> {
        let allowed = |uri: &str| RedirectUri::parse(uri).is_ok_and(|uri| check_allowed(&uri, policy).is_ok());
        let (fits, expected) = match self {
            Self::Text => (value.is_string(), "a string"),
            Self::Texts => (strings(value).is_some(), "an array of strings"),
            Self::Bool => (value.is_boolean(), "true or false"),
            Self::Number => (value.is_u64(), "a number that is not negative"),
            Self::Algorithm => {
                let is_asymmetric = |alg: &str| ["ES", "Ed", "PS", "RS"].iter().any(|family| alg.starts_with(family));
                (value.as_str().is_some_and(is_asymmetric), "an asymmetric signature algorithm")
            }
            // Shown as links: no `javascript` and the like.
            Self::WebUri => (is_web_uri(value, &["https", "http"]), "an absolute https or http URI"),
            Self::HttpsUri => (is_web_uri(value, &["https"]), "an absolute https URI"),
            Self::PublicKeys => (is_key_set(value) && !holds_private_key(value), "a set of public keys"),
            // Users are sent to these, too.
            Self::RedirectUris => {
                let fits = strings(value).is_some_and(|uris| uris.into_iter().all(allowed));
                (fits, "an array of redirect URIs that are allowed here")
            }
            Self::LoginUri => {
                let fits = value.as_str().is_some_and(|uri| uri.starts_with("https:") && allowed(uri));
                (fits, "an https URI that is allowed here")
            }
        };
        if fits { Ok(()) } else { Err(expected) }
    }
}

/// The name of a member without its language tag.
pub(super) fn plain_member(name: &str) -> Option<(&'static str, Shape)> {
    let plain = name.split_once('#').map_or(name, |(plain, _)| plain);
    let may_have_tag = plain == name || HUMAN_READABLE.contains(&plain);
    PLAIN_MEMBERS.into_iter().find(|(member, _)| *member == plain && may_have_tag)
}

/// The claims of a software statement replace the members beside it (RFC 7591 §2.3).
pub(super) async fn with_software_statement(
    mut members: Map<String, Value>,
    policy: &RegistrationPolicy,
) -> Result<Map<String, Value>, Refusal> {
    let Some(statement) = members.get("software_statement").filter(|value| !value.is_null()) else {
        return Ok(members);
    };
    let verified = match (&policy.statement_hook, statement.as_str()) {
        (Some(hook), Some(statement)) => hook(statement.to_owned()).await,
        (Some(_), None) => Err(SoftwareStatementError::Invalid),
        (None, _) => Err(SoftwareStatementError::Unapproved),
    };
    let claims = verified.map_err(refused_statement)?;
    members.extend(claims.into_iter().filter(|(name, _)| name != "software_statement"));
    Ok(members)
}

fn refused_statement(error: SoftwareStatementError) -> Refusal {
    let code = match error {
        SoftwareStatementError::Invalid => "invalid_software_statement",
        SoftwareStatementError::Unapproved => "unapproved_software_statement",
    };
    Refusal::new(StatusCode::BAD_REQUEST, code, error.to_string())
}

impl RegistrationPolicy {
    /// Validates the metadata of a registration request, for your own endpoint or store. The client gets the id
    /// `client_id`, is marked as [dynamic](Client::is_dynamic), and has no credentials, which you issue. If it
    /// is confidential and [uses a secret](Client::token_endpoint_auth_method), store the secret's SHA-256 as
    /// `client_secret_sha256`.
    ///
    /// This checks the metadata only, not who may register or how many clients there may be. Software statements are
    /// refused, since nothing verifies them here.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_oauth_client_validation::{RegistrationPolicy, Scope};
    ///
    /// let policy = RegistrationPolicy::new().default_scopes(Scope::parse("openid")?);
    /// let request = json!({
    ///     "redirect_uris": ["http://127.0.0.1/callback"],
    ///     "token_endpoint_auth_method": "none",
    ///     "trusted": true,
    /// });
    /// let client = policy.judge("my-new-id", request)?;
    /// assert!(client.is_dynamic() && !client.is_trusted());
    /// assert_eq!(client.allowed_scopes().unwrap().as_str(), "openid");
    ///
    /// let refused = policy.judge("my-new-id", json!({ "redirect_uris": ["http://app.example/"] })).unwrap_err();
    /// assert_eq!(refused.code(), "invalid_redirect_uri");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error has the code of RFC 7591 §3.2.2 and a description that names the member.
    pub fn judge(&self, client_id: &str, metadata: impl Into<Value>) -> Result<Client, RegistrationError> {
        let judged = || {
            let Value::Object(asked) = metadata.into() else {
                return Err(invalid_metadata("the metadata must be a JSON object"));
            };
            if asked.get("software_statement").is_some_and(|statement| !statement.is_null()) {
                return Err(refused_statement(SoftwareStatementError::Unapproved));
            }
            let mut members = judge(asked, ClientOrigin::Registered, self)?;
            members.insert("client_id".into(), client_id.into());
            Ok(Client::from_metadata(members)?.to_builder().dynamic(true).build()?)
        };
        judged().map_err(|refusal: Refusal| RegistrationError::from(&refusal))
    }
}

/// The metadata as it will be stored, without id and credentials.
pub(super) fn judge(
    mut asked: Map<String, Value>,
    origin: ClientOrigin,
    policy: &RegistrationPolicy,
) -> Result<Map<String, Value>, Refusal> {
    asked.retain(|name, value| !value.is_null() && is_understood(name, policy));
    policy.rules.judge(origin, &asked)?;
    let mut stored = Map::new();
    for (name, value) in &asked {
        if let Some((member, shape)) = plain_member(name) {
            let wrong = |expected| invalid_metadata(format!("{member}: must be {expected}"));
            shape.check(value, policy).map_err(wrong)?;
            stored.insert(name.clone(), value.clone());
        } else if policy.extra_members.contains(name) {
            stored.insert(name.clone(), value.clone());
        }
    }
    if stored.contains_key("jwks") && stored.contains_key("jwks_uri") {
        return Err(invalid_metadata("jwks, jwks_uri: only one of them is allowed"));
    }
    auth_method(&asked, policy, &mut stored)?;
    let grants = grants(&asked, policy, &mut stored)?;
    redirect_uris(&asked, grants, policy, &mut stored)?;
    scopes(&asked, policy, &mut stored)?;
    Ok(stored)
}

/// Whether a member is read at all; others are ignored (RFC 7591 §2).
pub(super) fn is_understood(name: &str, policy: &RegistrationPolicy) -> bool {
    !is_reserved(name)
        && (CHECKED_MEMBERS.contains(&name) || plain_member(name).is_some() || policy.extra_members.contains(name))
}

/// Of several methods, the first one that is supported here (OpenID Connect Relying Party Metadata Choices).
fn auth_method(
    asked: &Map<String, Value>,
    policy: &RegistrationPolicy,
    stored: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let has_keys = stored.contains_key("jwks") || stored.contains_key("jwks_uri");
    let usable = |offered: &[_]| usable_auth_methods(offered, &policy.auth_methods, has_keys);
    // The default of RFC 7591 §2.
    let single = text(asked, AUTH_METHOD)?.unwrap_or("client_secret_basic");
    let choices = usable(&member_texts(asked, AUTH_METHODS)?.unwrap_or_default());
    let Some(method) = choices.iter().chain(&usable(&[single])).next().copied() else {
        let is_supported = policy.auth_methods.iter().any(|supported| supported == single);
        let reason = if is_supported { "needs jwks or jwks_uri" } else { "this method is not supported" };
        return Err(invalid_metadata(format!("{AUTH_METHOD}: {reason}")));
    };
    stored.insert(AUTH_METHOD.into(), method.into());
    // The token endpoint must choose the same one.
    match choices.is_empty() {
        true => stored.remove(AUTH_METHODS),
        false => stored.insert(AUTH_METHODS.into(), choices.into_iter().collect()),
    };
    Ok(())
}

/// Whether clients with this metadata have a secret.
pub(super) fn uses_secret(stored: &Map<String, Value>) -> bool {
    stored.get(AUTH_METHOD).and_then(Value::as_str).is_none_or(member::uses_secret)
}

pub(super) fn supported_grants(names: &[&str], policy: &RegistrationPolicy) -> GrantTypes {
    let known = names.iter().filter_map(|name| GrantTypes::from_name(name));
    known.filter(|grant| policy.grant_types.contains(*grant)).fold(GrantTypes::EMPTY, GrantTypes::with)
}

/// `grant_types` and `response_types` must fit together (RFC 7591 §2.1).
fn grants(
    asked: &Map<String, Value>,
    policy: &RegistrationPolicy,
    stored: &mut Map<String, Value>,
) -> Result<GrantTypes, Refusal> {
    let names = member_texts(asked, "grant_types")?.unwrap_or_else(|| vec!["authorization_code"]);
    let grants = supported_grants(&names, policy);
    if grants == GrantTypes::EMPTY {
        return Err(invalid_metadata("grant_types: none of them is supported"));
    }
    let types = match member_texts(asked, "response_types")? {
        // The default of RFC 7591 §2 is for clients that can use it.
        None if grants.contains(GrantTypes::AUTHORIZATION_CODE) => vec![ResponseType::CODE],
        None => Vec::new(),
        Some(names) => names
            .iter()
            .map(|name| ResponseType::parse(name))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| invalid_metadata("response_types: one of them is not supported"))?,
    };
    if !types.iter().all(|response_type| grants.contains(response_type.required_grant_types())) {
        return Err(invalid_metadata("response_types: one of them needs a grant type that is missing"));
    }
    let needs =
        |grant, carries: fn(ResponseType) -> bool| grants.contains(grant) && !types.iter().copied().any(carries);
    if needs(GrantTypes::AUTHORIZATION_CODE, ResponseType::carries_code)
        || needs(GrantTypes::IMPLICIT, ResponseType::carries_token)
    {
        return Err(invalid_metadata("grant_types: one of them needs a response type that is missing"));
    }
    stored.insert("grant_types".into(), grants.names().collect());
    stored.insert("response_types".into(), types.into_iter().map(ResponseType::as_str).collect());
    Ok(grants)
}

fn redirect_uris(
    asked: &Map<String, Value>,
    grants: GrantTypes,
    policy: &RegistrationPolicy,
    stored: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let wrong_type = || invalid_redirect_uri("redirect_uris: must be an array of strings");
    let uris = match asked.get("redirect_uris") {
        None => Vec::new(),
        Some(value) => strings(value).ok_or_else(wrong_type)?,
    };
    let redirects = grants.contains(GrantTypes::AUTHORIZATION_CODE) || grants.contains(GrantTypes::IMPLICIT);
    if uris.is_empty() && redirects {
        return Err(invalid_redirect_uri("redirect_uris: the grant types need at least one"));
    }
    let application_type = match text(asked, "application_type")? {
        None => None,
        Some("native") => Some(ApplicationType::Native),
        Some("web") => Some(ApplicationType::Web),
        Some(_) => return Err(invalid_metadata("application_type: must be native or web")),
    };
    for (index, uri) in uris.iter().enumerate() {
        let uri = RedirectUri::parse(uri).map_err(|error| invalid_redirect_uri(error.to_string()))?;
        let checked = check_allowed(&uri, policy).and_then(|()| check_application_type(&uri, application_type, grants));
        checked.map_err(|rule| invalid_redirect_uri(format!("redirect_uris[{index}]: {rule}")))?;
    }
    stored.insert("redirect_uris".into(), uris.into_iter().collect());
    if let Some(application_type) = application_type {
        stored.insert("application_type".into(), application_type.as_str().into());
    }
    Ok(())
}

/// The operator's rules.
fn check_allowed(uri: &RedirectUri, policy: &RegistrationPolicy) -> Result<(), &'static str> {
    let (scheme, host) = scheme_and_host(uri);
    if policy.redirect_schemes.as_ref().is_some_and(|allowed| !allowed.contains(&scheme)) {
        return Err("this scheme is not allowed here");
    }
    match (&policy.redirect_hosts, host) {
        (Some(allowed), Some(host)) if !allowed.contains(host) => Err("this host is not allowed here"),
        _ => Ok(()),
    }
}

/// The rules of OpenID Connect Dynamic Client Registration §2 for clients that declare their type.
fn check_application_type(
    uri: &RedirectUri,
    application_type: Option<ApplicationType>,
    grants: GrantTypes,
) -> Result<(), &'static str> {
    let (scheme, host) = scheme_and_host(uri);
    match application_type {
        Some(ApplicationType::Native) if host.is_some() && !uri.is_loopback() => {
            Err("native clients use private-use schemes or http on a loopback host")
        }
        Some(ApplicationType::Web) if host.is_none() => Err("web clients use https or http"),
        Some(ApplicationType::Web)
            if grants.contains(GrantTypes::IMPLICIT) && (scheme != "https" || host == Some("localhost")) =>
        {
            Err("web clients of the implicit grant use https, and not localhost")
        }
        _ => Ok(()),
    }
}

/// The scheme in lower case, and the host if it is `http` or `https`.
fn scheme_and_host(uri: &RedirectUri) -> (String, Option<&str>) {
    let parts = uri.parts();
    let scheme = parts.scheme.to_ascii_lowercase();
    let host = matches!(&*scheme, "http" | "https").then_some(parts.host);
    (scheme, host)
}

fn scopes(
    asked: &Map<String, Value>,
    policy: &RegistrationPolicy,
    stored: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let named = match text(asked, "scope")? {
        None | Some("") => policy.default_scopes.clone(),
        Some(value) => {
            let named = Scope::parse(value).map_err(|error| invalid_metadata(format!("scope: {error}")))?;
            Some(registrable(&named, policy)?)
        }
    };
    grant_scopes(named, policy, stored);
    Ok(())
}

fn registrable(named: &Scope, policy: &RegistrationPolicy) -> Result<Scope, Refusal> {
    let allowed = policy.registrable_scopes().map_or(AllowedScopes::All, AllowedScopes::Listed);
    let (within, outside): (Vec<_>, Vec<_>) = named.iter().partition(|token| *token != "*" && allowed.contains(token));
    if outside.is_empty() || (policy.narrow_scopes && !within.is_empty()) {
        return Ok(Scope::from_valid_tokens(within.into_iter()));
    }
    Err(invalid_metadata("scope: one of the scopes cannot be registered here"))
}

/// Stores the scopes of a client, or with [`RegistrationPolicy::grant_all_scopes`] all that the policy allows.
pub(super) fn grant_scopes(own: Option<Scope>, policy: &RegistrationPolicy, stored: &mut Map<String, Value>) {
    let Some(all) = policy.allowed_scopes.as_ref().filter(|_| policy.grant_all_scopes) else {
        stored.extend(own.map(|own| ("scope".to_owned(), own.as_str().into())));
        return;
    };
    // `*` is no scope that could be granted.
    let own = own.filter(|own| !own.contains("*")).unwrap_or_default();
    let scope = match all {
        AllowedScopes::All => "*".into(),
        AllowedScopes::Listed(all) => Scope::from_valid_tokens(all.iter().chain(own.iter())).as_str().into(),
    };
    stored.insert("scope".into(), scope);
    stored.insert("default_scope".into(), own.as_str().into());
}

fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid_metadata(format!("{name}: must be a string"))),
    }
}

fn member_texts<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<Vec<&'a str>>, Refusal> {
    let wrong_type = || invalid_metadata(format!("{name}: must be an array of strings"));
    members.get(name).map(|value| strings(value).ok_or_else(wrong_type)).transpose()
}
