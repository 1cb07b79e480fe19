#![cfg_attr(docsrs, feature(doc_cfg))]
// Pages link to items of every feature.
#![cfg_attr(not(feature = "full"), allow(rustdoc::broken_intra_doc_links))]
#![doc = include_str!("../docs/crate.md")]

#[cfg(feature = "client-authentication")]
mod authentication;
mod authorization;
mod client;
#[cfg(any(feature = "cache", feature = "http-registry", feature = "metadata-document"))]
mod fetch;
mod http;
mod layer;
#[cfg(feature = "registration")]
mod registration;
mod registry;
mod request_object;
mod server_metadata;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "state")]
mod state;

// The gate at the authorization endpoint.
pub use crate::http::body::{KeepBodies, RequestBodies, RequestBody, ResponseBodies, ResponseBody, WrapBodies};
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use crate::layer::NotValidated;
pub use crate::layer::{
    AnswerHook, AsyncCheck, ClientValidation, ClientValidationLayer, DEFAULT_MAX_BODY_BYTES, ForEachTenant,
    ReportedOutcome, ResponseFuture, Tenancy, Tenant, UnregisteredClient, Verdict,
};
pub use crate::server_metadata::{ServerMetadata, server_metadata};

// What is asked of requests.
pub use crate::authorization::{
    Pkce, Policy, PolicyBuilder, PolicyError, RedirectErrors, RequestCheck, RequestObjects, ScopeExcess, ScopeMatcher,
    UnknownClients, UnlistedScopes,
};

// Requests, decisions and answers.
pub use crate::authorization::{
    AuthorizationError, AuthorizationRequest, AuthorizationResponse, CodeChallenge, CodeChallengeMethod, Delivery,
    ErrorCode, HiddenFields, Parameter, ParameterFault, Prompt, Reason, Rejection, ResponseMode,
    SerializeParametersError, UseUpError, UseUpErrorKind, ValidatedRequest, Validator,
};

// Clients.
pub use crate::client::{
    AllowedScopes, ApplicationType, Client, ClientBuilder, ClientError, ClientErrorKind, ClientKind, ClientOrigin,
    ClientStatus, ClosestMatch, DynamicClientError, DynamicClientRules, GrantTypes, LoopbackPorts, RedirectUri,
    RedirectUriError, RedirectUriMismatch, RedirectUriRule, ResponseType, ResponseTypes, Scope, ScopeError, UriPart,
};

// Where clients come from.
#[cfg(feature = "metadata-document")]
#[cfg_attr(docsrs, doc(cfg(feature = "metadata-document")))]
pub use crate::fetch::AddressFilter;
#[cfg(any(feature = "cache", feature = "metadata-document"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "cache", feature = "metadata-document"))))]
pub use crate::fetch::single_flight::LookupFuture;
#[cfg(any(
    feature = "client-authentication",
    feature = "http-registry",
    feature = "metadata-document",
    feature = "registration"
))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(
        feature = "client-authentication",
        feature = "http-registry",
        feature = "metadata-document",
        feature = "registration"
    )))
)]
pub use crate::registry::ConfigError;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use crate::registry::PostgresRegistry;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use crate::registry::SqlRegistry;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use crate::registry::SqliteRegistry;
pub use crate::registry::{
    AsyncRegistry, AsyncSource, BoxRegistry, BoxStore, Change, CheckError, Environment, EnvironmentRegistry,
    EnvironmentWarning, MemoryRegistry, Or, OrFuture, Record, RegisterError, RegistryError, RegistryFn,
    RegistryService, RegistrySource, RegistryStore, ServiceFuture, ServiceRegistry, StoreError, WellKnownClient,
    registry_fn,
};
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use crate::registry::{CacheConfig, CacheStats, CachedRegistry};
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub use crate::registry::{FileError, FileRegistry, FileWatch, FileWatchConfig};
#[cfg(feature = "http-registry")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-registry")))]
pub use crate::registry::{HttpRegistry, HttpRegistryBuilder};
#[cfg(feature = "metadata-document")]
#[cfg_attr(docsrs, doc(cfg(feature = "metadata-document")))]
pub use crate::registry::{MetadataDocumentBuilder, MetadataDocumentRegistry};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use crate::sql::SqlConfig;

// Short-lived facts that nodes share.
#[cfg(all(feature = "state", feature = "postgres"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "state", feature = "postgres"))))]
pub use crate::state::PostgresStateStore;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use crate::state::RedisStateStore;
#[cfg(all(feature = "state", any(feature = "postgres", feature = "sqlite")))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "state", any(feature = "postgres", feature = "sqlite")))))]
pub use crate::state::SqlStateStore;
#[cfg(all(feature = "state", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "state", feature = "sqlite"))))]
pub use crate::state::SqliteStateStore;
#[cfg(feature = "state")]
#[cfg_attr(docsrs, doc(cfg(feature = "state")))]
pub use crate::state::{MemoryStateStore, PrefixedStateStore, StateBounds, StateError, StateErrorKind, StateStore};

// The gate at endpoints that clients call themselves.
#[cfg(all(feature = "axum", feature = "client-authentication"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "axum", feature = "client-authentication"))))]
pub use crate::authentication::MissingAuthentication;
#[cfg(feature = "client-authentication")]
#[cfg_attr(docsrs, doc(cfg(feature = "client-authentication")))]
pub use crate::authentication::{
    AuthenticatedClient, AuthenticationError, AuthenticationFailure, AuthenticationFuture, AuthenticationMethod,
    AuthenticationPolicy, AuthenticationPolicyBuilder, Claim, ClientAuthentication, ClientAuthenticationLayer,
    ClientAuthenticator, CustomMethod, FormParameters, KeyError, KeySource, SigningAlgorithm,
};

#[cfg(all(feature = "client-authentication", feature = "metadata-document"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "client-authentication", feature = "metadata-document"))))]
pub use crate::authentication::{FetchedKeys, FetchedKeysBuilder};

// Endpoints of this crate.
#[cfg(any(feature = "pushed-requests", feature = "registration"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "pushed-requests", feature = "registration"))))]
pub use crate::http::endpoint::EndpointFuture;

// Requests that come pushed, signed or sealed.
#[cfg(feature = "sealed-requests")]
#[cfg_attr(docsrs, doc(cfg(feature = "sealed-requests")))]
pub use crate::request_object::{OpenError, OpenErrorKind, RequestSealer, SealError, SealKeys, SealKeysError};
#[cfg(feature = "pushed-requests")]
#[cfg_attr(docsrs, doc(cfg(feature = "pushed-requests")))]
pub use crate::request_object::{PushedRequestService, PushedRequests, PushedRequestsBuilder};
#[cfg(feature = "request-object")]
#[cfg_attr(docsrs, doc(cfg(feature = "request-object")))]
pub use crate::request_object::{SignedRequests, SignedRequestsBuilder};

// Clients that register themselves.
#[cfg(feature = "registration")]
#[cfg_attr(docsrs, doc(cfg(feature = "registration")))]
pub use crate::registration::{RegistrationError, RegistrationPolicy, RegistrationService, SoftwareStatementError};
#[cfg(feature = "upstream-registration")]
#[cfg_attr(docsrs, doc(cfg(feature = "upstream-registration")))]
pub use crate::registration::{Upstream, UpstreamRegistration};

/// Compiles the README's example.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// One page for each task.
// Their programs use every feature.
#[cfg(all(doc, any(feature = "full", not(doctest))))]
pub mod guide {
    #[doc = include_str!("../docs/guide/request_rules.md")]
    pub mod request_rules {}
    #[doc = include_str!("../docs/guide/the_handler.md")]
    pub mod the_handler {}
    #[doc = include_str!("../docs/guide/the_second_step.md")]
    pub mod the_second_step {}
    #[doc = include_str!("../docs/guide/openid_connect.md")]
    pub mod openid_connect {}
    #[doc = include_str!("../docs/guide/your_server.md")]
    pub mod your_server {}
    #[doc = include_str!("../docs/guide/client_authentication.md")]
    pub mod client_authentication {}
    #[doc = include_str!("../docs/guide/pushed_and_signed_requests.md")]
    pub mod pushed_and_signed_requests {}
    #[doc = include_str!("../docs/guide/troubleshooting.md")]
    pub mod troubleshooting {}
    #[doc = include_str!("../docs/guide/defaults.md")]
    pub mod defaults {}
    #[doc = include_str!("../docs/guide/choosing_a_source.md")]
    pub mod choosing_a_source {}
    #[doc = include_str!("../docs/guide/writing_a_source.md")]
    pub mod writing_a_source {}
    #[doc = include_str!("../docs/guide/native_clients.md")]
    pub mod native_clients {}
    #[doc = include_str!("../docs/guide/dynamic_clients.md")]
    pub mod dynamic_clients {}
    #[doc = include_str!("../docs/guide/mcp_servers.md")]
    pub mod mcp_servers {}
    #[doc = include_str!("../docs/guide/rolling_out.md")]
    pub mod rolling_out {}
    #[doc = include_str!("../docs/guide/logs_and_metrics.md")]
    pub mod logs_and_metrics {}
    #[doc = include_str!("../docs/guide/testing.md")]
    pub mod testing {}
    #[doc = include_str!("../docs/guide/from_python.md")]
    pub mod from_python {}
}
