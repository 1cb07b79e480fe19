//! What the command line asks for.

use std::ffi::OsString;

use serde_json::{Map, Value};
use tower_oauth_client_validation::{Policy, PolicyBuilder};

use crate::registry::{DEFAULT, Location};

pub(crate) const HELP: &str = "\
Looks after the clients of an authorization server.

Usage: clients [--registry URL] [--json] COMMAND

Commands:
  add --id ID [OPTIONS]     adds a client
        --name NAME           for people
        --redirect-uri URI    may be repeated
        --scope SCOPE         what it may ask for, separated by spaces; * is everything
        --default-scope SCOPE what it gets when it asks for nothing
        --public              it has no secret (default)
        --confidential        it has one: --metadata '{\"client_secret\": \"…\"}'
        --metadata JSON       an object of any RFC 7591 members; the options above go before
  list                      lists them all
  show ID                   tells what is known about one; secrets are hidden
  disable ID                switches it off
  enable ID                 switches it on again
  revoke ID                 ends it for good; its id is not given again
  remove ID                 removes it without a trace
  import                    adds one client a line of standard input, each an RFC 7591 object plus client_id,
                            and prints each id once that client is stored
        --at-once N           so many writes at the same time [default: 8]
  check [URL] [OPTIONS]     tells what an authorization request gets, and why; URL is the whole request
        --client ID
        --redirect-uri URI
        --scope SCOPE
        --response-type TYPE  [default: code]
        --code-challenge CHALLENGE
        --code-challenge-method METHOD
        --profile oauth2|oauth21|mcp
                              what the server asks of requests [default: oauth2]

Options:
  --registry URL            sqlite://PATH or postgres://HOST/DATABASE; to read only also FILE.json, FILE.toml
                            or env (ALLOWED_MCP_CLIENTS) [default: sqlite://clients.db]
  --json                    JSON instead of text
  --help                    print this

Exit code: 0 done, or accepted; 1 refused, or no such client; 2 a wrong command line, or a failure
";

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) registry: Location,
    pub(crate) json: bool,
    pub(crate) command: Command,
}

#[derive(Debug)]
pub(crate) enum Command {
    Add(NewClient),
    List,
    /// Of one client.
    Of(Action, Option<String>),
    Import {
        at_once: usize,
    },
    Check(Check),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Show,
    Disable,
    Enable,
    Revoke,
    Remove,
}

/// RFC 7591 members.
#[derive(Debug, Default)]
pub(crate) struct NewClient {
    metadata: Map<String, Value>,
    options: Map<String, Value>,
    redirect_uris: Vec<String>,
    is_confidential: Option<bool>,
}

impl NewClient {
    pub(crate) fn into_metadata(self) -> Value {
        let mut members = self.metadata;
        members.extend(self.options);
        if !self.redirect_uris.is_empty() {
            members.insert("redirect_uris".to_owned(), self.redirect_uris.into());
        }
        let method = "token_endpoint_auth_method";
        let known = members.get(method).filter(|known| !known.is_null() && *known != "none").is_some();
        match self.is_confidential {
            // Which method that is, the metadata may say.
            Some(true) if !known => members.insert(method.to_owned(), "client_secret_basic".into()),
            Some(false) => members.insert(method.to_owned(), "none".into()),
            None if !members.contains_key(method) => members.insert(method.to_owned(), "none".into()),
            Some(true) | None => None,
        };
        Value::Object(members)
    }
}

#[derive(Debug)]
pub(crate) struct Check {
    /// The request, as it was sent.
    pub(crate) url: Option<String>,
    pub(crate) parameters: Vec<(&'static str, String)>,
    pub(crate) policy: PolicyBuilder,
}

impl Args {
    /// `None` where help is asked for.
    pub(crate) fn from_command_line() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut registry = None;
        let mut json = false;
        let mut command: Option<Command> = None;
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("registry") => registry = Some(location(parser.value()?)?),
                Long("json") => json = true,
                Long("help") | Short('h') => return Ok(None),
                Value(word) => match &mut command {
                    None => command = Some(Command::begin(&word.string()?)?),
                    Some(command) => command.take_value(word.string()?)?,
                },
                Long(name) => {
                    let name = name.to_owned();
                    let Some(command) = &mut command else {
                        return Err(format!("--{name}: the command must come before it").into());
                    };
                    command.take_option(&name, &mut parser)?;
                }
                Short(_) => return Err(arg.unexpected()),
            }
        }
        let command = command.ok_or("no command")?;
        command.check()?;
        let registry = registry.map_or_else(|| location(DEFAULT.into()), Ok)?;
        Ok(Some(Self { registry, json, command }))
    }
}

fn location(name: OsString) -> Result<Location, lexopt::Error> {
    match Location::parse(name)? {
        Location::Memory => Err("--registry: what is kept in memory ends with this program".into()),
        location => Ok(location),
    }
}

impl Command {
    fn begin(word: &str) -> Result<Self, lexopt::Error> {
        Ok(match word {
            "add" => Self::Add(NewClient::default()),
            "list" => Self::List,
            "show" => Self::Of(Action::Show, None),
            "disable" => Self::Of(Action::Disable, None),
            "enable" => Self::Of(Action::Enable, None),
            "revoke" => Self::Of(Action::Revoke, None),
            "remove" => Self::Of(Action::Remove, None),
            "import" => Self::Import { at_once: 8 },
            "check" => Self::Check(Check { url: None, parameters: Vec::new(), policy: Policy::oauth2() }),
            _ => return Err(format!("{word:?} is no command").into()),
        })
    }

    fn take_value(&mut self, value: String) -> Result<(), lexopt::Error> {
        match self {
            Self::Of(_, id @ None) => *id = Some(value),
            Self::Check(Check { url: url @ None, .. }) => *url = Some(value),
            _ => return Err(lexopt::Error::UnexpectedArgument(value.into())),
        }
        Ok(())
    }

    fn take_option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        use lexopt::prelude::ValueExt;

        match self {
            Self::Add(client) => client.take_option(name, parser),
            Self::Check(check) => check.take_option(name, parser),
            Self::Import { at_once } if name == "at-once" => {
                *at_once = parser.value()?.parse()?;
                if *at_once == 0 { Err("--at-once: must be 1 at least".into()) } else { Ok(()) }
            }
            _ => Err(lexopt::Error::UnexpectedOption(format!("--{name}"))),
        }
    }

    /// That nothing is missing.
    fn check(&self) -> Result<(), lexopt::Error> {
        match self {
            Self::Of(_, None) => Err("the id of the client is missing".into()),
            Self::Add(new) if !new.options.contains_key("client_id") && !new.metadata.contains_key("client_id") => {
                Err("--id is missing".into())
            }
            Self::Check(Check { url: None, parameters, .. }) if !parameters.iter().any(|(name, _)| *name == CLIENT) => {
                Err("--client is missing".into())
            }
            Self::Check(Check { url: Some(_), parameters, .. }) if !parameters.is_empty() => {
                Err("either the URL of the request, or what is in it".into())
            }
            _ => Ok(()),
        }
    }
}

impl NewClient {
    fn take_option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        use lexopt::prelude::ValueExt;

        let member = match name {
            "id" => "client_id",
            "name" => "client_name",
            "scope" => "scope",
            "default-scope" => "default_scope",
            "redirect-uri" => {
                self.redirect_uris.push(parser.value()?.string()?);
                return Ok(());
            }
            "public" | "confidential" => {
                let confidential = name == "confidential";
                return match self.is_confidential.replace(confidential) {
                    Some(before) if before != confidential => Err("either --public or --confidential".into()),
                    _ => Ok(()),
                };
            }
            "metadata" => {
                let text = parser.value()?.string()?;
                self.metadata = serde_json::from_str(&text)
                    .map_err(|error| format!("--metadata: {error}, where a JSON object is expected"))?;
                return Ok(());
            }
            _ => return Err(lexopt::Error::UnexpectedOption(format!("--{name}"))),
        };
        self.options.insert(member.to_owned(), parser.value()?.string()?.into());
        Ok(())
    }
}

const CLIENT: &str = "client_id";

impl Check {
    fn take_option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        use lexopt::prelude::ValueExt;

        let parameter = match name {
            "client" => CLIENT,
            "redirect-uri" => "redirect_uri",
            "scope" => "scope",
            "response-type" => "response_type",
            "code-challenge" => "code_challenge",
            "code-challenge-method" => "code_challenge_method",
            "profile" => {
                self.policy = match parser.value()?.string()?.as_str() {
                    "oauth2" => Policy::oauth2(),
                    "oauth21" => Policy::oauth21(),
                    "mcp" => Policy::mcp(),
                    other => {
                        return Err(format!("--profile: {other:?} is none of oauth2, oauth21, mcp").into());
                    }
                };
                return Ok(());
            }
            _ => return Err(lexopt::Error::UnexpectedOption(format!("--{name}"))),
        };
        self.parameters.push((parameter, parser.value()?.string()?));
        Ok(())
    }
}
