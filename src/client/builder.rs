//! Builds clients.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::error::{ClientError, ClientErrorKind};
use super::member::AUTH_METHOD;
use super::redirect_uri::{RedirectUri, RedirectUriError};
use super::response_type::{GrantTypes, ResponseTypes};
use super::scope::{AllowedScopes, Scope, ScopeError, tokens};
use super::time::unix_seconds;
use super::typed::Requirements;
use super::{ApplicationType, Client, ClientKind, ClientScopes, ClientStatus, Details, is_client_id};

/// The metadata members that methods of the builder set.
const BUILDER_MEMBERS: [&str; 16] = [
    "application_type",
    "client_expires_at",
    "client_id",
    "client_name",
    "default_scope",
    "disabled",
    "dynamic",
    "expires_at",
    "grant_types",
    "insecure_http",
    "redirect_uris",
    "response_types",
    "revoked",
    "scope",
    AUTH_METHOD,
    "trusted",
];

impl Client {
    /// Starts a client with this id: public, with response type `code` and grant type `authorization_code` (the
    /// defaults of RFC 7591 §2), no redirect URI and no scope list.
    ///
    /// ```
    /// use tower_oauth_client_validation::{Client, ClientKind, GrantTypes, ResponseTypes};
    ///
    /// let client = Client::builder("a").build()?;
    /// assert_eq!(client.kind(), ClientKind::Public);
    /// assert_eq!(client.response_types(), ResponseTypes::CODE);
    /// assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
    /// assert!(client.redirect_uris().is_empty() && client.allowed_scopes().is_none());
    /// # Ok::<(), tower_oauth_client_validation::ClientError>(())
    /// ```
    pub fn builder(id: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            client: Self {
                id: id.into().into(),
                redirect_uris: Box::default(),
                scopes: Arc::default(),
                details: None,
                response_types: ResponseTypes::CODE,
                grant_types: GrantTypes::AUTHORIZATION_CODE,
                kind: ClientKind::Public,
                application_type: None,
                status: ClientStatus::Active,
                trusted: false,
                dynamic: false,
            },
            redirect_uris: Vec::new(),
            allowed_scopes: None,
            default_scopes: None,
            builder_member: None,
        }
    }

    /// Starts a builder from this client, to change it.
    pub fn to_builder(&self) -> ClientBuilder {
        ClientBuilder {
            client: self.clone(),
            redirect_uris: self.redirect_uris.iter().cloned().map(Ok).collect(),
            allowed_scopes: self.scopes.allowed.clone().map(Ok),
            default_scopes: self.scopes.default.clone().map(Ok),
            builder_member: None,
        }
    }
}

/// Builds a [`Client`]. Every error is reported by [`ClientBuilder::build`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    client: Client,
    redirect_uris: Vec<Result<RedirectUri, RedirectUriError>>,
    allowed_scopes: Option<Result<AllowedScopes, ScopeError>>,
    default_scopes: Option<Result<Scope, ScopeError>>,
    /// The first member that was wrongly set as other metadata.
    builder_member: Option<String>,
}

impl ClientBuilder {
    /// Sets the name shown to users (`client_name`).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.details().name = Some(name.into().into());
        self
    }

    /// Adds a redirect URI, see [`RedirectUri::parse`].
    pub fn redirect_uri(mut self, uri: impl AsRef<str>) -> Self {
        self.redirect_uris.push(RedirectUri::parse(uri.as_ref()));
        self
    }

    /// Adds a redirect URI that was parsed before, such as one of [`RedirectUri::insecure_http`].
    pub fn parsed_redirect_uri(mut self, uri: RedirectUri) -> Self {
        self.redirect_uris.push(Ok(uri));
        self
    }

    /// Removes all redirect URIs.
    pub fn clear_redirect_uris(mut self) -> Self {
        self.redirect_uris.clear();
        self
    }

    /// Sets the scopes that the client may ask for, separated by spaces. `*` allows all, an empty string none.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.allowed_scopes = Some(Scope::from_tokens(tokens(scope.as_ref())).map(AllowedScopes::new));
        self
    }

    /// Sets the scopes that are granted to a request without `scope`, separated by spaces. They must be among the
    /// allowed ones.
    pub fn default_scope(mut self, scope: impl AsRef<str>) -> Self {
        self.default_scopes = Some(Scope::from_tokens(tokens(scope.as_ref())));
        self
    }

    /// Sets the response types. They need not fit the grant types: a request that needs a missing one is refused.
    pub fn response_types(mut self, response_types: ResponseTypes) -> Self {
        self.forget("response_types");
        self.client.response_types = response_types;
        self
    }

    /// Sets the grant types.
    pub fn grant_types(mut self, grant_types: GrantTypes) -> Self {
        self.forget("grant_types");
        self.client.grant_types = grant_types;
        self
    }

    /// Declares that the client can keep a secret: [`client_secret_basic`](Self::token_endpoint_auth_method).
    pub fn confidential(self) -> Self {
        self.token_endpoint_auth_method("client_secret_basic")
    }

    /// Declares that the client cannot keep a secret (the default): [`none`](Self::token_endpoint_auth_method).
    pub fn public(self) -> Self {
        self.token_endpoint_auth_method("none")
    }

    /// Sets how the client authenticates at the token endpoint. With any method but `none` it is confidential.
    pub fn token_endpoint_auth_method(mut self, method: impl Into<String>) -> Self {
        let method = method.into();
        self.client.kind = if method == "none" { ClientKind::Public } else { ClientKind::Confidential };
        if matches!(&*method, "none" | "client_secret_basic") {
            self.forget(AUTH_METHOD);
        } else {
            self.keep(AUTH_METHOD, method);
        }
        self
    }

    /// Sets the `application_type` of OpenID Connect registration.
    pub fn application_type(mut self, application_type: ApplicationType) -> Self {
        self.client.application_type = Some(application_type);
        self
    }

    /// Marks the client as trusted by the operator.
    pub fn trusted(mut self, trusted: bool) -> Self {
        self.client.trusted = trusted;
        self
    }

    /// Marks the client as dynamic, see [`Client::is_dynamic`] (default: no). Sources that accept dynamic clients do it
    /// themselves.
    pub fn dynamic(mut self, dynamic: bool) -> Self {
        self.client.dynamic = dynamic;
        self
    }

    /// Disables the client, or makes it active.
    pub fn disabled(self, disabled: bool) -> Self {
        self.status(if disabled { ClientStatus::Disabled } else { ClientStatus::Active })
    }

    /// Sets the status.
    pub fn status(mut self, status: ClientStatus) -> Self {
        self.client.status = status;
        self
    }

    /// Sets when the registration expires, in whole seconds. `None` and the epoch mean never.
    pub fn expires_at(mut self, end: impl Into<Option<SystemTime>>) -> Self {
        self.details().expires_at = end.into().filter(|end| *end != SystemTime::UNIX_EPOCH).map(|end| {
            // Clamp to 1; 0 would mean "never".
            NonZeroU64::new(unix_seconds(end)).unwrap_or(NonZeroU64::MIN)
        });
        self
    }

    /// Sets any other metadata member. [`build`](Self::build) fails for a member that another method sets.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        if BUILDER_MEMBERS.contains(&&*name) {
            self.builder_member.get_or_insert(name);
        } else {
            self.keep(name, value);
        }
        self
    }

    /// Keeps a member as it is, even if another field holds part of it.
    pub(super) fn keep(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.details().metadata.insert(name.into(), value.into());
    }

    fn forget(&mut self, member: &str) {
        if let Some(details) = &mut self.client.details {
            details.metadata.remove(member);
        }
    }

    fn details(&mut self) -> &mut Details {
        self.client.details.get_or_insert_default()
    }

    /// Checks everything and builds the client.
    ///
    /// # Errors
    ///
    /// When the id is empty or not printable ASCII, a redirect URI breaks a rule, a scope does not follow the grammar,
    /// a default scope is not allowed, or [`metadata`](Self::metadata) was given a member with its own method or a
    /// value of the wrong type.
    pub fn build(self) -> Result<Client, ClientError> {
        let id = self.client.id.clone();
        self.build_checked().map_err(|kind| ClientError::new(&id, kind))
    }

    fn build_checked(self) -> Result<Client, ClientErrorKind> {
        let Self { mut client, redirect_uris, allowed_scopes, default_scopes, builder_member } = self;
        if client.id.is_empty() || !is_client_id(&client.id) {
            return Err(ClientErrorKind::Id);
        }
        if let Some(member) = builder_member {
            return Err(ClientErrorKind::BuilderMember(member));
        }
        let mut distinct = Vec::with_capacity(redirect_uris.len());
        let mut seen = HashSet::with_capacity(redirect_uris.len());
        for (index, uri) in redirect_uris.into_iter().enumerate() {
            let uri = uri.map_err(|source| ClientErrorKind::RedirectUri { index, source })?;
            if seen.insert(uri.clone()) {
                distinct.push(uri);
            }
        }
        let broken = |member| move |source| ClientErrorKind::Scope { member, source };
        let allowed = allowed_scopes.transpose().map_err(broken("scope"))?;
        let default = default_scopes.transpose().map_err(broken("default_scope"))?;
        let is_allowed = |scope: &str| allowed.as_ref().is_some_and(|allowed| allowed.contains(scope));
        if !default.iter().flat_map(Scope::iter).all(is_allowed) {
            return Err(ClientErrorKind::DefaultScope);
        }
        if let Some(details) = &mut client.details {
            details.requirements = Requirements::read(&details.metadata)?;
        }
        client.redirect_uris = distinct.into();
        client.scopes = Arc::new(ClientScopes { allowed, default });
        Ok(client.without_empty_details())
    }
}
