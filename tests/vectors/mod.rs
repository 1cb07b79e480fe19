//! Every rule as data. Each line of the JSON files beside this one is a case: a request, and what it gets.
//!
//! A case runs three times: against the pure [`Validator`], over a socket against an axum server, and over a
//! socket against a plain hyper server. `query` and `body` are bytes, one for each character (U+0000-00FF), and
//! go out as they are. What a case says in `expect` must be observed; what it does not mention may be anything.
//! In a `Location`, the value of `error_description` is written as `{description}`.

mod agreement;
mod answer;
mod inner;
mod nasty;
mod request;
mod server;
mod setup;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use futures::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tower_oauth_client_validation::{AuthorizationRequest, Delivery, Reason, RedirectUri, Validator};

use crate::reference::redirect_uri::is_registrable;

use self::agreement::Trial;
use self::inner::describe;
use self::request::Request;
use self::server::{Server, observe};
use self::setup::{Clients, LayerOptions, policy};

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    /// The RFC section, CVE or client that the case is taken from.
    source: String,
    /// A client for this case only, beside those of `clients.json`.
    client: Option<Value>,
    /// Methods of `Policy`, and their arguments.
    #[serde(default)]
    policy: Map<String, Value>,
    #[serde(default)]
    layer: LayerOptions,
    request: Request,
    /// `{"outcome": {"member": value}}`
    expect: Map<String, Value>,
    /// Why the request cannot be sent over HTTP.
    no_transport: Option<String>,
}

/// What is left when the server does its part: method, body and lookup come before the validator.
const HTTP_ONLY_REASONS: [&str; 6] =
    ["method", "content_type", "body_too_large", "body_unreadable", "registry_unavailable", "registry_fault"];

impl Vector {
    fn trial(&self) -> Trial {
        let Self { client, policy, layer, request, .. } = self;
        Trial { client: client.clone(), policy: policy.clone(), layer: *layer, request: request.clone() }
    }

    fn outcome(&self) -> (&str, &Map<String, Value>) {
        let (outcome, members) = self.expect.iter().next().expect("an outcome");
        (outcome, members.as_object().expect("members of the outcome"))
    }

    fn reason(&self) -> Option<&str> {
        self.outcome().1.get("reason").and_then(Value::as_str)
    }

    fn suits_validator(&self) -> bool {
        !matches!(self.outcome().0, "untouched" | "forwarded" | "reported")
            && !self.reason().is_some_and(|reason| HTTP_ONLY_REASONS.contains(&reason))
    }
}

/// A line of a file, for messages.
pub(crate) struct Case<T> {
    pub(crate) place: String,
    pub(crate) vector: T,
}

/// The lines of `tests/vectors/<file>`: an array with one object a line.
pub(crate) fn cases<T: DeserializeOwned>(file: &str) -> Vec<Case<T>> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let lines = text.lines().enumerate().filter(|(_, line)| !matches!(line.trim(), "" | "[" | "]"));
    lines
        .map(|(index, line)| {
            let place = format!("tests/vectors/{file}:{}", index + 1);
            let vector = serde_json::from_str(line.trim().trim_end_matches(','))
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            Case { place, vector }
        })
        .collect()
}

const FILES: [&str; 14] = [
    "http.json",
    "parameters.json",
    "client.json",
    "redirect_uri.json",
    "order.json",
    "response.json",
    "scope.json",
    "pkce.json",
    "resource.json",
    "answers.json",
    "accepted.json",
    "report_only.json",
    "presets.json",
    "vulnerabilities.json",
];

fn all_cases() -> Vec<Case<Vector>> {
    FILES.into_iter().flat_map(cases).collect()
}

#[tokio::test]
async fn each_vector_gets_what_it_says() {
    let cases = all_cases();
    let failures: Vec<Vec<String>> = futures::stream::iter(&cases).map(failures_of).buffered(8).collect().await;
    report(&failures.concat());
}

#[test]
fn vectors_cover_every_reason() {
    let cases = all_cases();
    assert!(cases.len() >= 300, "only {} vectors", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|case| &case.vector.name).collect();
    assert_eq!(names.len(), cases.len(), "two vectors have the same name");

    let seen: BTreeSet<_> = cases.iter().filter_map(|case| case.vector.reason()).collect();
    let missing: Vec<_> = reasons().into_iter().filter(|reason| !seen.contains(reason)).collect();
    assert!(missing.is_empty(), "no vector is refused for {missing:?}");
}

async fn failures_of(case: &Case<Vector>) -> Vec<String> {
    let Case { place, vector } = case;
    let mut failures = Vec::new();
    let mut check = |run: &str, result: Result<(), String>| {
        if let Err(why) = result {
            failures.push(format!("{place}: {} [{run}]\n    {why}", vector.name));
        }
    };
    if vector.source.is_empty() || vector.expect.len() != 1 {
        check("form", Err("needs a source and one outcome".to_owned()));
    }
    if vector.suits_validator() {
        check("validator", compare(vector, &judge(vector), vector.no_transport.is_none()));
    }
    if vector.request.arrives_whole() {
        check("reference", compare(vector, &vector.trial().expected(), true));
    }
    for server in [Server::Axum, Server::Hyper] {
        let observed = observe(server, vector).await;
        let result = match &vector.no_transport {
            None => observed.and_then(|observed| compare(vector, &observed, false)),
            Some(_) if observed.is_err() => Ok(()),
            Some(claim) => Err(format!("{claim}, yet it was answered")),
        };
        check(server.name(), result);
    }
    failures
}

/// What the pure validator says.
fn judge(vector: &Vector) -> Value {
    let validator = Validator::new(policy(&vector.policy));
    let clients = Clients::of(vector.client.as_ref());
    let request = AuthorizationRequest::parse(&vector.request.query(), &vector.request.parameters_of_body());
    let found = match validator.client_id(&request) {
        Ok(client_id) => clients.find(client_id).ok().flatten().map(Arc::new),
        Err(_) => None,
    };
    match validator.validate(request, found) {
        Ok(validated) => json!({ "accepted": describe(&validated, &vector.request.method()) }),
        Err(rejection) => {
            let outcome = match (rejection.delivery(), vector.outcome().0) {
                // The mode is seen in the answer only.
                (Delivery::Redirect, "form_post") => "form_post",
                (Delivery::Redirect, _) => "redirect",
                _ => "direct",
            };
            json!({ outcome: { "error": rejection.error().as_str(), "reason": rejection.reason().as_str() } })
        }
    }
}

/// Whether each expected member was observed. With `may_lack`, one that cannot be observed this way is passed over.
fn compare(vector: &Vector, observed: &Value, may_lack: bool) -> Result<(), String> {
    let (outcome, members) = vector.outcome();
    let Some(found) = observed.get(outcome) else {
        return Err(format!("expected {outcome}, got {observed}"));
    };
    for (member, expected) in members {
        match found.get(member) {
            None if may_lack => {}
            None => return Err(format!("{member} is nothing that can be observed in {observed}")),
            Some(value) if value == expected => {}
            Some(value) => return Err(format!("{member}: expected {expected}, got {value} in {observed}")),
        }
    }
    Ok(())
}

/// A redirect URI, and whether it can be registered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    uri: String,
    source: String,
    #[serde(default)]
    insecure_http: bool,
    /// `ok`, or the rule that it breaks.
    expect: String,
    /// The byte where it breaks it.
    at: Option<usize>,
}

#[test]
fn each_redirect_uri_is_registered_or_refused_as_it_says() {
    let mut failures = Vec::new();
    for Case { place, vector } in cases::<Registration>("registration.json") {
        let parse = if vector.insecure_http { RedirectUri::insecure_http } else { RedirectUri::parse };
        let verdict = parse(&vector.uri);
        let reference = is_registrable(&vector.uri, vector.insecure_http);
        if reference != (vector.expect == "ok") {
            failures.push(format!("{place}: {:?}: the reference says {reference}", vector.uri));
        }
        let rule = verdict.as_ref().map_or_else(|error| error.rule().as_str(), |_| "ok");
        let at = verdict.err().map(|error| error.at());
        if rule != vector.expect || (vector.at.is_some() && vector.at != at) || vector.source.is_empty() {
            failures.push(format!("{place}: {:?}: expected {}, got {rule} at {at:?}", vector.uri, vector.expect));
        }
    }
    report(&failures);
}

pub(crate) fn report<T: Display>(failures: &[T]) {
    for failure in failures {
        eprintln!("{failure}");
    }
    assert!(failures.is_empty(), "{} failures, see above", failures.len());
}

fn reasons() -> Vec<&'static str> {
    [
        Reason::METHOD,
        Reason::CONTENT_TYPE,
        Reason::BODY_TOO_LARGE,
        Reason::BODY_UNREADABLE,
        Reason::CLIENT_ID_MISSING,
        Reason::CLIENT_ID_CHARACTER,
        Reason::REGISTRY_UNAVAILABLE,
        Reason::REGISTRY_FAULT,
        Reason::CLIENT_ID_MISMATCH,
        Reason::CLIENT_UNKNOWN,
        Reason::CLIENT_DISABLED,
        Reason::CLIENT_REVOKED,
        Reason::CLIENT_EXPIRED,
        Reason::REDIRECT_URI_MISSING,
        Reason::REDIRECT_URI_MALFORMED,
        Reason::REDIRECT_URI_NOT_REGISTERED,
        Reason::PARAMETER_REPEATED,
        Reason::PARAMETER_UNDECODABLE,
        Reason::PARAMETER_CONTROL_CHARACTER,
        Reason::REQUEST_OBJECT,
        Reason::REQUEST_URI,
        Reason::RESPONSE_TYPE_MISSING,
        Reason::RESPONSE_TYPE_UNSUPPORTED,
        Reason::RESPONSE_TYPE_NOT_REGISTERED,
        Reason::GRANT_TYPE_NOT_REGISTERED,
        Reason::RESPONSE_MODE_UNKNOWN,
        Reason::RESPONSE_MODE_QUERY,
        Reason::SCOPE_MISSING,
        Reason::SCOPE_MALFORMED,
        Reason::SCOPE_NOT_ALLOWED,
        Reason::CODE_CHALLENGE_MISSING,
        Reason::CODE_CHALLENGE_MALFORMED,
        Reason::CODE_CHALLENGE_METHOD,
        Reason::CODE_CHALLENGE_METHOD_ALONE,
        Reason::RESOURCE_MISSING,
        Reason::RESOURCE_MALFORMED,
        Reason::RESOURCE_NOT_ALLOWED,
        Reason::CHECK,
    ]
    .map(|reason| reason.as_str())
    .to_vec()
}
