//! The command line.

use std::ffi::OsStr;
use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value};
use shared::args::{Discreet, Profile};
use shared::registry::{DEFAULT, Location};

/// Manages the clients of an authorization server, and explains why a request is refused.
#[derive(Debug, Parser)]
#[command(name = "clients", args_override_self = true)]
#[command(after_help = "Exit code: 0 for done, or accepted; 1 for refused, or no such client; 2 for a failure")]
pub(crate) struct Arguments {
    /// sqlite://PATH or postgres://HOST/DATABASE; for reading also FILE.json, FILE.toml or env (ALLOWED_MCP_CLIENTS)
    #[arg(long, global = true, value_name = "REGISTRY", default_value = DEFAULT, value_parser = Discreet(location))]
    pub(crate) registry: Location,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a client
    Add(NewClient),
    /// List all clients
    List,
    /// Show a client; its secrets stay hidden
    Show(Id),
    /// Switch a client off
    Disable(Id),
    /// Switch a client on again
    Enable(Id),
    /// End a client permanently; its id is not assigned again
    Revoke(Id),
    /// Give a client a new secret, and print it once; the previous one stays valid until it is dropped
    Secret {
        id: String,
        /// Drop the previous secret instead
        #[arg(long)]
        drop_previous: bool,
    },
    /// Remove a client without a trace
    Remove(Id),
    /// Add a client for each line of standard input, an RFC 7591 object with a client_id; prints the id of each client
    /// once it is stored
    Import {
        /// How many clients to write at the same time
        #[arg(long, value_name = "N", default_value = "8")]
        at_once: NonZeroUsize,
    },
    /// Explain how an authorization request is answered
    Check(Check),
}

#[derive(Args, Debug)]
pub(crate) struct Id {
    pub(crate) id: String,
}

/// RFC 7591 members.
#[derive(Args, Debug)]
pub(crate) struct NewClient {
    #[arg(long, required_unless_present = "metadata")]
    id: Option<String>,

    /// The name that users see
    #[arg(long)]
    name: Option<String>,

    /// May be repeated
    #[arg(long = "redirect-uri", value_name = "URI")]
    redirect_uris: Vec<String>,

    /// What the client may ask for, separated by spaces; * for everything
    #[arg(long)]
    scope: Option<String>,

    /// What the client gets when it asks for no scope
    #[arg(long, value_name = "SCOPE")]
    default_scope: Option<String>,

    /// The client has no secret (default)
    #[arg(long, conflicts_with = "confidential")]
    public: bool,

    /// The client has a secret: --metadata '{"client_secret": "…"}'
    #[arg(long)]
    confidential: bool,

    /// A JSON object of RFC 7591 members; the options above take precedence
    #[arg(long, value_name = "JSON", value_parser = Discreet(object))]
    metadata: Option<Map<String, Value>>,
}

impl NewClient {
    pub(crate) fn into_metadata(self) -> Value {
        let mut members = self.metadata.unwrap_or_default();
        let options = [
            ("client_id", self.id),
            ("client_name", self.name),
            ("scope", self.scope),
            ("default_scope", self.default_scope),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        members.extend(given);
        if !self.redirect_uris.is_empty() {
            members.insert("redirect_uris".to_owned(), self.redirect_uris.into());
        }
        let method = "token_endpoint_auth_method";
        let has_method = members.get(method).is_some_and(|known| !known.is_null());
        if self.public || !(self.confidential || has_method) {
            members.insert(method.to_owned(), "none".into());
        } else if self.confidential && members.get(method).is_none_or(|known| known.is_null() || known == "none") {
            members.insert(method.to_owned(), "client_secret_basic".into());
        }
        Value::Object(members)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The URL of the request, as it was sent
    #[arg(conflicts_with_all = ["client", "redirect_uri", "scope", "response_type", "code_challenge", "code_challenge_method"])]
    pub(crate) url: Option<String>,

    #[arg(long, value_name = "ID", required_unless_present = "url")]
    pub(crate) client: Option<String>,

    #[arg(long, value_name = "URI")]
    pub(crate) redirect_uri: Option<String>,

    #[arg(long)]
    pub(crate) scope: Option<String>,

    /// [default: code]
    #[arg(long, value_name = "TYPE")]
    pub(crate) response_type: Option<String>,

    #[arg(long, value_name = "CHALLENGE")]
    pub(crate) code_challenge: Option<String>,

    #[arg(long, value_name = "METHOD")]
    pub(crate) code_challenge_method: Option<String>,

    /// The issuer identifier of the server, to check a request that the client signed
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,

    /// What the server requires of requests
    #[arg(long, value_enum, default_value_t = Profile::Rfc9700)]
    pub(crate) profile: Profile,
}

fn location(value: &OsStr) -> Result<Location, String> {
    match Location::parse(value)? {
        Location::Memory => Err("memory ends with the program".to_owned()),
        location => Ok(location),
    }
}

fn object(value: &OsStr) -> Result<Map<String, Value>, String> {
    let text = value.to_str().ok_or("not UTF-8")?;
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}
