//! Judging one request: pure, without I/O, and without knowledge of registries.

mod explanation;
mod policy;
mod proven;
mod rejection;
mod request;
pub(crate) mod response;
mod validated;
mod validator;

pub use self::explanation::Explanation;
pub use self::policy::{
    Pkce, Policy, PolicyError, RedirectErrors, RequestCheck, RequestObjects, ScopeExcess, ScopeMatcher, UnknownClients,
};
pub use self::rejection::{AuthorizationError, DirectError, ErrorCode, Reason, RedirectError, Rejection};
pub use self::request::{AuthorizationRequest, Parameter, ParameterFault};
pub use self::response::{AuthorizationResponse, ResponseMode, SerializeParametersError};
pub use self::validated::{CodeChallenge, CodeChallengeMethod, ValidatedRequest};
pub use self::validator::Validator;
