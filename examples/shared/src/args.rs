//! Values of the command line that several programs take.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, ValueEnum};
use tower_oauth_client_validation::{Pkce, Policy, PolicyBuilder};

/// What a server requires of authorization requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// RFC 6749; PKCE is optional.
    #[value(name = "oauth2")]
    OAuth2,
    /// The security best practice: PKCE is required of public clients.
    #[value(name = "rfc9700")]
    Rfc9700,
    /// OAuth 2.1: PKCE with S256 is required, and only codes are issued.
    #[value(name = "oauth21")]
    OAuth21,
    /// The Model Context Protocol: OAuth 2.1, and metadata documents must name the client.
    #[value(name = "mcp")]
    Mcp,
}

impl Profile {
    /// The policy of this name.
    pub fn policy(self) -> PolicyBuilder {
        match self {
            Self::OAuth2 => Policy::oauth2(),
            Self::Rfc9700 => Policy::oauth2().pkce(Pkce::RequiredForPublicClients),
            Self::OAuth21 => Policy::oauth21(),
            Self::Mcp => Policy::mcp(),
        }
    }
}

/// A parser for values that may hold a secret. Clap's own messages repeat the value; these say only what is wrong.
#[derive(Clone, Debug)]
pub struct Discreet<T>(pub fn(&OsStr) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Discreet<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        (self.0)(value).map_err(|why| {
            let name = arg.and_then(Arg::get_long).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("--{name}: {why}\n")).with_cmd(command)
        })
    }
}
