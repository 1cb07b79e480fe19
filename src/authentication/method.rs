//! How a client authenticates.

use std::fmt;

use futures::future::BoxFuture;
use http::request::Parts;

use super::failure::AuthenticationError;
use super::parameters::FormParameters;
use crate::client::Client;

/// A client authentication method (`token_endpoint_auth_method`, RFC 7591 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthenticationMethod {
    /// `none`: a public client that sends only its id.
    None,
    /// `client_secret_basic`: a secret in the `Authorization` header (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// `client_secret_post`: a secret in the body (RFC 6749 §2.3.1).
    ClientSecretPost,
    /// `private_key_jwt`: an assertion signed by the client's key (RFC 7523 §2.2).
    PrivateKeyJwt,
    /// A [`CustomMethod`] of this name.
    Custom(&'static str),
}

impl AuthenticationMethod {
    /// The name in metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::Custom(name) => name,
        }
    }

    pub(super) fn uses_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

impl From<AuthenticationMethod> for String {
    fn from(method: AuthenticationMethod) -> Self {
        method.as_str().to_owned()
    }
}

impl fmt::Display for AuthenticationMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a request uses a [`CustomMethod`], and for which client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// The request holds no credentials of this method.
    Absent,
    /// The request holds credentials of this method for the client with this id.
    Client(String),
}

/// An authentication method that this crate does not have, such as mutual TLS that a proxy terminates.
///
/// [`claim`](Self::claim) finds credentials; [`verify`](Self::verify) checks them, once the client was found to be
/// active and registered for this method. A request with credentials of two methods is refused before either runs.
///
/// # Example
///
/// `tls_client_auth` (RFC 8705 §2.1) behind a proxy that verifies certificates and puts their subject into a header.
/// The proxy must remove that header from what clients send.
///
/// ```
/// use futures::FutureExt;
/// use futures::future::BoxFuture;
/// use http::request::Parts;
/// use tower_oauth_client_validation::{AuthenticationError, Claim, Client, CustomMethod, FormParameters};
///
/// struct TlsClientAuth;
///
/// impl CustomMethod for TlsClientAuth {
///     fn name(&self) -> &'static str {
///         "tls_client_auth"
///     }
///
///     fn claim(&self, parts: &Parts, parameters: &FormParameters) -> Claim {
///         match parameters.get("client_id") {
///             Some(id) if parts.headers.contains_key("x-client-subject") => Claim::Client(id.to_owned()),
///             _ => Claim::Absent,
///         }
///     }
///
///     fn verify<'a>(
///         &'a self,
///         client: &'a Client,
///         parts: &'a Parts,
///         _parameters: &'a FormParameters,
///     ) -> BoxFuture<'a, Result<(), AuthenticationError>> {
///         let registered = client.metadata().and_then(|members| members.get("tls_client_auth_subject_dn"));
///         let presented = parts.headers.get("x-client-subject").and_then(|subject| subject.to_str().ok());
///         let matches = registered.and_then(|dn| dn.as_str()).is_some_and(|dn| Some(dn) == presented);
///         let verified = matches.then_some(()).ok_or_else(AuthenticationError::credentials_refused);
///         std::future::ready(verified).boxed()
///     }
/// }
/// ```
pub trait CustomMethod: Send + Sync {
    /// The method's name in `token_endpoint_auth_method`.
    fn name(&self) -> &'static str;

    /// Whether the request holds credentials of this method.
    fn claim(&self, parts: &Parts, parameters: &FormParameters) -> Claim;

    /// Checks the credentials.
    ///
    /// # Errors
    ///
    /// [`AuthenticationError::credentials_refused`] when they are wrong, or
    /// [`AuthenticationError::unavailable`] when they cannot be checked at the moment.
    fn verify<'a>(
        &'a self,
        client: &'a Client,
        parts: &'a Parts,
        parameters: &'a FormParameters,
    ) -> BoxFuture<'a, Result<(), AuthenticationError>>;
}
