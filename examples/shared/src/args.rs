//! Values of the command line that several programs take.

use std::ffi::OsStr;
use std::path::Path;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, ValueEnum};
use tower_oauth_client_validation::{Policy, PolicyBuilder, SealKeys};

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
            Self::Rfc9700 => Policy::rfc9700(),
            Self::OAuth21 => Policy::oauth21(),
            Self::Mcp => Policy::mcp(),
        }
    }
}

/// Seal keys: the keys themselves, or a file that holds them.
///
/// # Errors
///
/// Says what is wrong, without the keys.
pub fn seal_keys(value: &OsStr) -> Result<SealKeys, String> {
    if let Some(Ok(keys)) = value.to_str().map(str::parse) {
        return Ok(keys);
    }
    let path = Path::new(value);
    if !path.is_file() {
        return Err("must be a file, or 64 hexadecimal digits".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse::<SealKeys>().map_err(|error| error.to_string())
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
