//! Dynamic clients: they register themselves, or their id is the URL of their metadata.

use shared::args::Profile;
use tower_oauth_client_validation::{
    AuthenticationPolicy, ConfigError, FetchedKeys, GrantTypes, MetadataDocumentBuilder, MetadataDocumentRegistry,
    RegistrationPolicy, Scope, ScopeError,
};

use crate::args::{Documents, Registration};

/// The scopes that such clients may request even if they did not register them: many register none, or request more later.
const SCOPES: &str = "profile photos:read photos:write";
/// What they get when neither the client nor its request names any.
const DEFAULT_SCOPE: &str = "profile";

pub(crate) fn scopes() -> Result<Scope, ScopeError> {
    Scope::parse(SCOPES)
}

/// `None` if registration is off.
pub(crate) fn policy(
    registration: &Registration,
    authentication: &AuthenticationPolicy,
) -> Result<Option<RegistrationPolicy>, ScopeError> {
    let policy = RegistrationPolicy::new()
        .allowed_scopes(scopes()?)
        .default_scopes(Scope::parse(DEFAULT_SCOPE)?)
        .grant_all_scopes(true)
        .narrow_scopes(true)
        .grant_types(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::REFRESH_TOKEN))
        .auth_methods(authentication.methods());
    Ok(match registration {
        Registration::Open => Some(policy),
        Registration::Token(token) => Some(policy.initial_access_token(token)),
        Registration::Off => None,
    })
}

/// `None` where no document is fetched.
pub(crate) fn documents(documents: Documents, profile: Profile) -> Result<Option<MetadataDocumentBuilder>, ScopeError> {
    if documents == Documents::Off {
        return Ok(None);
    }
    let builder = MetadataDocumentRegistry::builder()
        .allowed_scopes(scopes()?)
        .default_scopes(Scope::parse(DEFAULT_SCOPE)?)
        .grant_all_scopes(true)
        .require_client_name(profile == Profile::Mcp)
        .insecure_allow_loopback(documents == Documents::InsecureLoopback);
    Ok(Some(builder))
}

/// The keys of clients, which may be at an address that the client names.
pub(crate) fn keys(documents: Documents) -> Result<FetchedKeys, ConfigError> {
    FetchedKeys::builder().insecure_allow_loopback(documents == Documents::InsecureLoopback).build()
}
