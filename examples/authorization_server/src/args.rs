//! The command line.

use std::ffi::OsStr;

use clap::Parser;
use shared::args::{Discreet, Profile, seal_keys};
use shared::registry::Location;
use shared::token::CODE_LIFETIME;
use tower_oauth_client_validation::{RedirectUri, SealKeys};

/// A small OAuth authorization server.
#[derive(Debug, Parser)]
#[command(name = "authorization_server", args_override_self = true)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub(crate) listen: String,

    /// Where the clients are: sqlite://PATH or postgres://HOST/DATABASE, whose tables are created if they are missing;
    /// FILE.json or FILE.toml of RFC 7591 metadata objects; env for ALLOWED_MCP_CLIENTS; or memory for demonstration
    /// clients that end with the program [default: sqlite://clients.db, which starts with the demonstration clients]
    #[arg(long, value_name = "REGISTRY", value_parser = Discreet(Location::parse))]
    pub(crate) registry: Option<Location>,

    /// Where used assertions and pushed requests are: memory, sqlite://PATH, postgres://HOST/DATABASE or
    /// redis://HOST/DATABASE [default: the database of the registry, or memory]
    #[arg(long, value_name = "STATE", value_parser = Discreet(state))]
    pub(crate) state: Option<State>,

    /// The issuer identifier; all endpoints are below its path [default: http://HOST:PORT]
    #[arg(long, value_name = "URL", value_parser = issuer)]
    pub(crate) issuer: Option<String>,

    /// What the server requires of authorization requests
    #[arg(long, value_enum, default_value_t = Profile::Rfc9700)]
    pub(crate) profile: Profile,

    /// Who may register a client at /register: everybody (open), holders of the token T (token:T), or nobody (off)
    #[arg(long, value_name = "open|token:T|off", default_value = "off", value_parser = Discreet(registration))]
    pub(crate) registration: Registration,

    /// Accept clients whose id is the https address of their metadata
    #[arg(long)]
    pub(crate) metadata_documents: bool,

    /// The same, on this machine and without TLS too; for development
    #[arg(long)]
    pub(crate) insecure_loopback_documents: bool,

    /// No consent page: redirect every valid request with a code at once
    #[arg(long)]
    pub(crate) auto_approve: bool,

    /// Judge the parameters of OpenID Connect (prompt, max_age, nonce, …), authorization_details of the type
    /// payment_initiation, and dpop_jkt
    #[arg(long)]
    pub(crate) openid: bool,

    /// Refuse authorization requests that were not pushed to /par
    #[arg(long)]
    pub(crate) require_pushed: bool,

    /// How long an authorization code is good for
    #[arg(long, value_name = "SECONDS", default_value_t = CODE_LIFETIME.as_secs())]
    pub(crate) code_lifetime: u64,

    /// The keys that seal requests for the consent page: FILE, or 64 hexadecimal digits each, separated by commas, the
    /// current one first; every node needs the same [default: a key that ends with the process]
    #[arg(long, value_name = "FILE|HEX", value_parser = Discreet(seal_keys))]
    pub(crate) seal_key: Option<SealKeys>,

    /// Refuse nothing; show what would have been refused
    #[arg(long)]
    pub(crate) report_only: bool,
}

/// Where short-lived facts are.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Database(Location),
    Redis(String),
}

/// Who may register a client.
#[derive(Clone, Debug)]
pub(crate) enum Registration {
    Open,
    Token(String),
    Off,
}

/// Which client metadata documents are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Documents {
    Off,
    Public,
    InsecureLoopback,
}

impl Args {
    pub(crate) fn documents(&self) -> Documents {
        match (self.insecure_loopback_documents, self.metadata_documents) {
            (true, _) => Documents::InsecureLoopback,
            (false, true) => Documents::Public,
            (false, false) => Documents::Off,
        }
    }
}

fn listen(value: &str) -> Result<String, &'static str> {
    let parts = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match parts.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(value.to_owned()),
        _ => Err("not HOST:PORT"),
    }
}

fn state(value: &OsStr) -> Result<State, String> {
    match value.to_str() {
        Some(url) if url.starts_with("redis://") || url.starts_with("rediss://") || url.starts_with("unix://") => {
            Ok(State::Redis(url.to_owned()))
        }
        _ => match Location::parse(value)? {
            Location::Environment | Location::File(_) => {
                Err("must be memory, sqlite://PATH, postgres://HOST/DATABASE or redis://HOST/DATABASE".to_owned())
            }
            location => Ok(State::Database(location)),
        },
    }
}

fn registration(value: &OsStr) -> Result<Registration, String> {
    let value = value.to_str().unwrap_or_default();
    match (value, value.strip_prefix("token:")) {
        ("open", _) => Ok(Registration::Open),
        ("off", _) => Ok(Registration::Off),
        (_, Some(token)) if !token.is_empty() => Ok(Registration::Token(token.to_owned())),
        _ => Err("must be open, token:T or off".to_owned()),
    }
}

/// RFC 8414 §2, and `http` for development. The rules for redirect URIs are just as good for an issuer.
fn issuer(value: &str) -> Result<String, String> {
    if !value.starts_with("https://") && !value.starts_with("http://") {
        return Err("must begin with https:// or http://".to_owned());
    }
    let parsed = RedirectUri::parse(value).or_else(|_| RedirectUri::insecure_http(value));
    let uri = parsed.map_err(|error| error.to_string())?;
    if value.contains('?') || uri.has_wildcard_port() {
        return Err("must have no query and no wildcard".to_owned());
    }
    Ok(value.to_owned())
}
