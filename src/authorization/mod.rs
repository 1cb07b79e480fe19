//! Judging one request: pure, without I/O, and without knowledge of registries.

pub(crate) mod arrival;
mod authorization_details;
mod dpop;
pub(crate) mod error;
mod extensions;
mod openid;
mod policy;
mod proven;
pub(crate) mod reason;
mod rejection;
mod request;
mod resource;
pub(crate) mod response;
mod response_mode;
mod rules;
mod scope;
mod use_up;
mod validated;
mod validator;

pub use self::arrival::UseUpErrorKind;
pub use self::error::{AuthorizationError, ErrorCode};
pub use self::openid::Prompt;
pub use self::policy::{Policy, PolicyBuilder, PolicyError, RequestCheck};
pub use self::reason::Reason;
pub use self::rejection::{Delivery, Rejection};
pub use self::request::{AuthorizationRequest, Parameter, ParameterFault};
pub use self::response::hidden_fields::HiddenFields;
pub use self::response::redirect::{AuthorizationResponse, SerializeParametersError};
pub use self::response_mode::ResponseMode;
pub use self::rules::{
    Pkce, RedirectErrors, RequestObjects, ScopeExcess, ScopeMatcher, UnknownClients, UnlistedScopes,
};
pub use self::use_up::UseUpError;
pub use self::validated::{CodeChallenge, CodeChallengeMethod, ValidatedRequest};
pub use self::validator::Validator;
