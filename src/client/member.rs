//! Metadata members that only the server writes, and checks on single ones that come from outside.
#![cfg_attr(
    not(all(feature = "http-registry", feature = "metadata-document", feature = "registration")),
    allow(dead_code)
)]

use serde_json::{Map, Value};
use url::Url;

/// How the client authenticates at the token endpoint.
pub(crate) const AUTH_METHOD: &str = "token_endpoint_auth_method";
/// The methods that the client offers, best first (OpenID Connect Relying Party Metadata Choices).
pub(crate) const AUTH_METHODS: &str = "token_endpoint_auth_methods_supported";
pub(crate) const PRIVATE_KEY_JWT: &str = "private_key_jwt";

/// Those of the methods that a client offers by which it can authenticate at this server, in the client's order.
pub(crate) fn usable_auth_methods<'m>(offered: &[&'m str], server: &[String], has_keys: bool) -> Vec<&'m str> {
    let is_usable =
        |method: &&str| server.iter().any(|known| known == *method) && (has_keys || *method != PRIVATE_KEY_JWT);
    offered.iter().copied().filter(is_usable).collect()
}

/// Whether clients with this method have a secret.
pub(crate) fn uses_secret(auth_method: &str) -> bool {
    auth_method.starts_with("client_secret")
}

/// SHA-256 of the client secret, in hexadecimal.
pub(crate) const CLIENT_SECRET: &str = "client_secret_sha256";
/// The same of the secret before it, while a client rotates.
pub(crate) const PREVIOUS_SECRET: &str = "previous_client_secret_sha256";
/// A password hash of a secret.
pub(crate) const SECRET_HASH: &str = "client_secret_hash";
/// A secret as it is, or its password hash.
pub(crate) const PLAIN_SECRET: &str = "client_secret";
/// Secrets that an operator gave a client besides the one that was issued here.
pub(crate) const SECRETS: [&str; 3] = [PLAIN_SECRET, SECRET_HASH, PREVIOUS_SECRET];
/// Fingerprints of the metadata that a dynamic client was granted last, see [`operator`](super::operator).
pub(crate) const GRANTED: &str = "registration_granted";
/// Where a registration comes from.
pub(crate) const SOURCE_MEMBER: &str = "registration_source";
/// Set on a client that strangers share.
pub(crate) const SHARED: &str = "registration_shared";
/// The client configuration endpoint at the upstream.
pub(crate) const UPSTREAM_URI: &str = "upstream_registration_client_uri";
/// How long a document is fresh, and how long it is answered while its host fails.
pub(crate) const TIMES: &str = "metadata_document_times";

/// Members that a store keeps, and that are neither accepted from outside nor shown.
pub(crate) fn is_internal(name: &str) -> bool {
    is_operator_member(name)
        || [GRANTED, SOURCE_MEMBER, SHARED, UPSTREAM_URI, TIMES].contains(&name)
        || SECRETS.contains(&name)
}

/// What may be shown of metadata.
pub(crate) fn public_metadata(mut members: Map<String, Value>) -> Map<String, Value> {
    members.retain(|name, _| !is_internal(name));
    members
}

/// Whether only an operator or the server sets this member. Such members give privileges, so they are not accepted
/// from outside, and not shown.
pub(crate) fn is_operator_member(name: &str) -> bool {
    matches!(name, "trusted" | "dynamic" | "disabled" | "revoked" | "default_scope" | "insecure_http")
        || matches!(name, "expires_at" | "client_expires_at" | "client_secret_hash")
        || name.ends_with("_sha256")
}

/// Whether a JSON Web Key Set holds a private or symmetric key (RFC 7517, RFC 7518 §6), which must not be published.
pub(crate) fn holds_private_key(jwks: &Value) -> bool {
    const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let keys = jwks.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.chain([jwks]).any(|key| PRIVATE_MEMBERS.iter().any(|member| key.get(member).is_some()))
}

/// Whether this is a JSON Web Key Set.
pub(crate) fn is_key_set(jwks: &Value) -> bool {
    jwks.get("keys").is_some_and(Value::is_array)
}

/// Whether this is a URI that is safe to show as a link: an allowed scheme, and nothing that a browser reads
/// differently from a person (userinfo, white space, backslash).
pub(crate) fn is_web_uri(value: &Value, schemes: &[&str]) -> bool {
    let Some(uri) = value.as_str() else {
        return false;
    };
    let is_plain = !uri.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    let has_scheme = scheme.is_some_and(|scheme| schemes.iter().any(|name| scheme.eq_ignore_ascii_case(name)));
    let is_plain_url = |url: Url| url.has_host() && url.username().is_empty() && url.password().is_none();
    is_plain && has_scheme && Url::parse(uri).is_ok_and(is_plain_url)
}

/// The strings of an array of strings.
pub(crate) fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}
