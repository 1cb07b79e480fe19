#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../docs/crate.md")]

mod authorization;
mod client;
#[cfg(any(feature = "cache", feature = "http-registry", feature = "metadata-document"))]
mod fetch;
mod http;
mod layer;
#[cfg(feature = "registration")]
mod registration;
mod registry;

// The gate at the authorization endpoint.
pub use crate::http::body::{KeepBodies, RequestBodies, RequestBody, ResponseBodies, ResponseBody, WrapBodies};
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use crate::layer::MissingLayer;
pub use crate::layer::{
    ClientValidation, ClientValidationLayer, DEFAULT_MAX_BODY_BYTES, ReportedOutcome, ResponseFuture, ServerMetadata,
    UnregisteredClient, server_metadata,
};

// What is asked of requests.
pub use crate::authorization::{
    Pkce, Policy, PolicyError, RedirectErrors, RequestCheck, RequestObjects, ScopeExcess, ScopeMatcher, UnknownClients,
};

// Requests, decisions and answers.
pub use crate::authorization::{
    AuthorizationError, AuthorizationRequest, AuthorizationResponse, CodeChallenge, CodeChallengeMethod, DirectError,
    ErrorCode, Explanation, Parameter, ParameterFault, Reason, RedirectError, Rejection, ResponseMode,
    SerializeParametersError, ValidatedRequest, Validator,
};

// Clients.
pub use crate::client::{
    AllowedScopes, ApplicationType, Client, ClientBuilder, ClientError, ClientKind, ClientStatus, ClosestMatch,
    GrantTypes, LoopbackPorts, MetadataError, RedirectUri, RedirectUriError, RedirectUriMismatch, RedirectUriRule,
    ResponseType, ResponseTypes, Scope, ScopeError, UriPart,
};

// Where clients come from.
#[cfg(feature = "metadata-document")]
#[cfg_attr(docsrs, doc(cfg(feature = "metadata-document")))]
pub use crate::fetch::AddressFilter;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use crate::registry::PostgresRegistry;
#[cfg(any(feature = "http-registry", feature = "metadata-document"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "http-registry", feature = "metadata-document"))))]
pub use crate::registry::RegistryConfigError;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use crate::registry::SqliteRegistry;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use crate::registry::{Backend, SqlOptions, SqlRegistry};
pub use crate::registry::{
    BoxRegistry, BoxStore, Change, CheckError, ClientOrigin, DEFAULT_REDIRECT_URIS, DEFAULT_SCOPES, Environment,
    EnvironmentWarning, MemoryRegistry, Or, OrFuture, Record, RegisterError, RegistryError, RegistryFn,
    RegistryService, RegistrySource, RegistryStore, ServiceFuture, ServiceRegistry, StoreError, WellKnownClient,
    registry_fn,
};
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use crate::registry::{CacheConfig, CacheStats, CachedFuture, CachedRegistry};
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub use crate::registry::{FileError, FileRegistry, FileWatch};
#[cfg(feature = "http-registry")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-registry")))]
pub use crate::registry::{HttpRegistry, HttpRegistryBuilder};
#[cfg(feature = "metadata-document")]
#[cfg_attr(docsrs, doc(cfg(feature = "metadata-document")))]
pub use crate::registry::{MetadataDocumentBuilder, MetadataDocumentFuture, MetadataDocumentRegistry};

// Clients that register themselves.
#[cfg(feature = "registration")]
#[cfg_attr(docsrs, doc(cfg(feature = "registration")))]
pub use crate::registration::{
    EndpointError, RegistrationFuture, RegistrationPolicy, RegistrationService, SoftwareStatementError,
    verify_client_secret,
};
#[cfg(feature = "upstream-registration")]
#[cfg_attr(docsrs, doc(cfg(feature = "upstream-registration")))]
pub use crate::registration::{Upstream, UpstreamError, UpstreamRegistration};

/// Compiles the README's example.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Guides, each a page.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/guide/defaults.md")]
    pub mod defaults {}
    #[doc = include_str!("../docs/guide/why_refused.md")]
    pub mod why_refused {}
    #[doc = include_str!("../docs/guide/choosing_a_source.md")]
    pub mod choosing_a_source {}
    #[doc = include_str!("../docs/guide/writing_a_source.md")]
    pub mod writing_a_source {}
    #[doc = include_str!("../docs/guide/native_clients.md")]
    pub mod native_clients {}
    #[doc = include_str!("../docs/guide/rolling_out.md")]
    pub mod rolling_out {}
    #[doc = include_str!("../docs/guide/mcp_servers.md")]
    pub mod mcp_servers {}
    #[doc = include_str!("../docs/guide/from_python.md")]
    pub mod from_python {}
    #[cfg(feature = "metrics")]
    #[doc = include_str!("../docs/guide/seeing_it_run.md")]
    pub mod seeing_it_run {}
    #[doc = include_str!("../docs/guide/testing.md")]
    pub mod testing {}
    #[doc = include_str!("../docs/guide/the_handler.md")]
    pub mod the_handler {}
}
