//! What the command line asks for.

use url::Url;

pub(crate) const HELP: &str = "\
An authorization server in front of an identity provider.

Usage: mcp_proxy --upstream URL [OPTIONS]

Options:
  --upstream URL            the issuer identifier of the identity provider
  --upstream-client ID      the client id of this server there; its secret, if it has one, is read from the
                            variable UPSTREAM_CLIENT_SECRET [default: register a new one at each start]
  --listen HOST:PORT        where to listen; port 0 takes a free one [default: 127.0.0.1:8081]
  --issuer URL              the issuer identifier of this server [default: http://HOST:PORT]
  --help                    print this
";

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) listen: String,
    pub(crate) issuer: Option<String>,
    pub(crate) upstream: String,
    pub(crate) upstream_client: Option<String>,
}

impl Args {
    /// `None` where help is asked for.
    pub(crate) fn from_command_line() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let (mut listen, mut issuer) = ("127.0.0.1:8081".to_owned(), None);
        let (mut upstream, mut upstream_client) = (None, None);
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("upstream") => upstream = Some(upstream_issuer(parser.value()?.string()?)?),
                Long("upstream-client") => upstream_client = Some(parser.value()?.string()?),
                Long("listen") => listen = parser.value()?.string()?,
                Long("issuer") => issuer = Some(own_issuer(parser.value()?.string()?)?),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        let upstream = upstream.ok_or("--upstream is missing")?;
        Ok(Some(Self { listen, issuer, upstream, upstream_client }))
    }
}

fn upstream_issuer(value: String) -> Result<String, lexopt::Error> {
    let url = Url::parse(&value).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    match url {
        Some(url) if url.query().is_none() && url.fragment().is_none() => Ok(value),
        _ => Err(format!("--upstream: {value:?} is not like https://login.example").into()),
    }
}

/// This example keeps to an issuer without a path.
fn own_issuer(value: String) -> Result<String, lexopt::Error> {
    let is_origin = Url::parse(&value)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.origin().ascii_serialization() == value);
    if is_origin { Ok(value) } else { Err(format!("--issuer: {value:?} is not like https://proxy.example").into()) }
}
