//! The command line.

use clap::Parser;
use url::Url;

/// An authorization server in front of an identity provider.
#[derive(Debug, Parser)]
#[command(name = "mcp_proxy", args_override_self = true)]
pub(crate) struct Args {
    /// The issuer identifier of the identity provider
    #[arg(long, value_name = "URL", value_parser = upstream_issuer)]
    pub(crate) upstream: String,

    /// The client id of this server at the identity provider; its secret, if any, is read from the environment variable
    /// UPSTREAM_CLIENT_SECRET [default: registers a new client at each start]
    #[arg(long, value_name = "ID")]
    pub(crate) upstream_client: Option<String>,

    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    pub(crate) listen: String,

    /// The issuer identifier of this server [default: http://HOST:PORT]
    #[arg(long, value_name = "URL", value_parser = own_issuer)]
    pub(crate) issuer: Option<String>,
}

fn upstream_issuer(value: &str) -> Result<String, &'static str> {
    let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    match url {
        Some(url) if url.query().is_none() && url.fragment().is_none() => Ok(value.to_owned()),
        _ => Err("must be a URL without a query, such as https://login.example"),
    }
}

/// This example supports issuers without a path only.
fn own_issuer(value: &str) -> Result<String, &'static str> {
    let is_origin = Url::parse(value)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.origin().ascii_serialization() == value);
    if is_origin { Ok(value.to_owned()) } else { Err("must be an origin, such as https://proxy.example") }
}
