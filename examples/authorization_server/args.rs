//! What the command line asks for.

use tower_oauth_client_validation::{Policy, PolicyBuilder, RedirectUri};

use crate::registry::Location;

pub(crate) const HELP: &str = "\
A small OAuth authorization server.

Usage: authorization_server [OPTIONS]

Options:
  --listen HOST:PORT        where to listen; port 0 takes a free one [default: 127.0.0.1:8080]
  --registry sqlite://PATH|postgres://HOST/DATABASE|FILE.json|FILE.toml|env|memory
                            where clients come from: a SQLite file or a PostgreSQL database, whose tables
                            are made when they are missing; a file of RFC 7591 metadata objects; the
                            variable ALLOWED_MCP_CLIENTS; or a few for demonstration that are forgotten
                            at the end. [default: sqlite://clients.db, which begins with those for
                            demonstration]
  --issuer URL              the issuer identifier; the endpoints are under its path
                            [default: http://HOST:PORT]
  --profile oauth2|oauth21|mcp
                            what is asked of requests [default: oauth2]
  --registration open|token:T|off
                            whether clients may register themselves at /register: all, those that present
                            the token T, or none [default: off]
  --metadata-documents      also take clients whose id is the https address of their metadata
  --insecure-loopback-documents
                            the same, on this machine and without TLS there too; for development
  --auto-approve            no consent page: an accepted request is redirected with a code at once
  --report-only             refuse nothing; say what would have been refused
  --help                    print this
";

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) listen: String,
    /// The default one is `None`.
    pub(crate) registry: Option<Location>,
    pub(crate) issuer: Option<String>,
    pub(crate) profile: Profile,
    pub(crate) registration: Registration,
    pub(crate) documents: Documents,
    pub(crate) auto_approve: bool,
    pub(crate) report_only: bool,
}

/// Who may register a client.
#[derive(Debug)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    OAuth2,
    OAuth21,
    Mcp,
}

impl Profile {
    pub(crate) fn policy(self) -> PolicyBuilder {
        match self {
            Self::OAuth2 => Policy::oauth2(),
            Self::OAuth21 => Policy::oauth21(),
            Self::Mcp => Policy::mcp(),
        }
    }
}

impl Args {
    /// `None` where help is asked for.
    pub(crate) fn from_command_line() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut args = Self {
            listen: "127.0.0.1:8080".to_owned(),
            registry: None,
            issuer: None,
            profile: Profile::OAuth2,
            registration: Registration::Off,
            documents: Documents::Off,
            auto_approve: false,
            report_only: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => args.listen = listen(parser.value()?.string()?)?,
                Long("registry") => args.registry = Some(Location::parse(parser.value()?)?),
                Long("issuer") => args.issuer = Some(issuer(parser.value()?.string()?)?),
                Long("profile") => args.profile = profile(&parser.value()?.string()?)?,
                Long("registration") => args.registration = registration(&parser.value()?.string()?)?,
                Long("metadata-documents") if args.documents == Documents::Off => args.documents = Documents::Public,
                Long("metadata-documents") => {}
                Long("insecure-loopback-documents") => args.documents = Documents::InsecureLoopback,
                Long("auto-approve") => args.auto_approve = true,
                Long("report-only") => args.report_only = true,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(args))
    }
}

fn listen(value: String) -> Result<String, lexopt::Error> {
    let parts = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match parts.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(value),
        _ => Err(format!("--listen: {value:?} is not HOST:PORT").into()),
    }
}

fn profile(value: &str) -> Result<Profile, lexopt::Error> {
    match value {
        "oauth2" => Ok(Profile::OAuth2),
        "oauth21" => Ok(Profile::OAuth21),
        "mcp" => Ok(Profile::Mcp),
        _ => Err(format!("--profile: {value:?} is none of oauth2, oauth21, mcp").into()),
    }
}

fn registration(value: &str) -> Result<Registration, lexopt::Error> {
    match (value, value.strip_prefix("token:")) {
        ("open", _) => Ok(Registration::Open),
        ("off", _) => Ok(Registration::Off),
        (_, Some(token)) if !token.is_empty() => Ok(Registration::Token(token.to_owned())),
        // Without the value: it may hold a token that was mistyped.
        _ => Err("--registration: must be open, token:T or off".into()),
    }
}

/// RFC 8414 §2, with `http` for development. The rules for redirect URIs are just as good for an issuer.
fn issuer(value: String) -> Result<String, lexopt::Error> {
    let wrong = |why: &str| format!("--issuer: {value:?}: {why}").into();
    if !value.starts_with("https://") && !value.starts_with("http://") {
        return Err(wrong("must begin with https:// or http://"));
    }
    let judged = RedirectUri::parse(&value).or_else(|_| RedirectUri::insecure_http(&value));
    let uri = judged.map_err(|error| wrong(&error.to_string()))?;
    if value.contains('?') || uri.has_wildcard_port() {
        return Err(wrong("must have no query and no wildcard"));
    }
    Ok(value)
}
