//! The rules as data. Each object in the JSON files of this folder is a case: a request and its outcome.
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
use tower_oauth_client_validation::{Delivery, Reason, RedirectUri, Validator};

use crate::reference::redirect_uri::is_registrable;

use self::agreement::Trial;
use self::inner::describe;
use self::request::Request;
use self::server::{Server, observe};
pub(crate) use self::setup::policy;
use self::setup::{Clients, LayerOptions};

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    /// The RFC section, CVE or client that the case is taken from.
    source: String,
    /// The row of `Validator`'s order that the case tests; `gate` for what the layer checks before, `answer` for what an
    /// answer looks like, `report` for report-only.
    row: String,
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

/// The cases of `tests/vectors/<file>`: an array of objects. Each begins on its own line and continues on indented
/// lines where it is long.
pub(crate) fn cases<T: DeserializeOwned>(file: &str) -> Vec<Case<T>> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut cases: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !matches!(line.trim(), "" | "[" | "]")) {
        assert!(line.chars().count() <= MAX_LINE, "tests/vectors/{file}:{}: the line is too long", index + 1);
        match cases.last_mut() {
            Some((_, case)) if line.starts_with(' ') || line.starts_with('}') => case.push_str(line),
            _ => cases.push((index + 1, line.to_owned())),
        }
    }
    cases
        .into_iter()
        .map(|(line, case)| {
            let place = format!("tests/vectors/{file}:{line}");
            let vector = serde_json::from_str(case.trim().trim_end_matches(','))
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            Case { place, vector }
        })
        .collect()
}

/// What a reviewer can still read.
const MAX_LINE: usize = 400;

const FILES: [&str; 15] = [
    "http.json",
    "parameters.json",
    "client.json",
    "redirect_uri.json",
    "order.json",
    "response.json",
    "scope.json",
    "pkce.json",
    "resource.json",
    "openid.json",
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
async fn each_vector_gets_the_expected_outcome() {
    let cases = all_cases();
    let failures: Vec<Vec<String>> = futures::stream::iter(&cases).map(failures_of).buffered(8).collect().await;
    report(&failures.concat());
}

/// The row that refuses a request for each reason, in the order of `Validator`.
const ROWS: [(&str, &[&str]); 13] = [
    ("gate", &["method", "content_type", "body_too_large", "body_unreadable", "split_parameters"]),
    ("1", &["client_id_missing", "client_id_character"]),
    ("2", &["registry_unavailable", "registry_fault", "client_id_mismatch"]),
    ("3", &["client_unknown", "client_disabled", "client_revoked", "client_expired"]),
    ("4", &["redirect_uri_malformed", "redirect_uri_not_registered", "redirect_uri_missing"]),
    ("6", &["request_object", "request_uri"]),
    (
        "7",
        &[
            "response_type_missing",
            "response_type_unsupported",
            "response_type_not_registered",
            "grant_type_not_registered",
        ],
    ),
    ("8", &["response_mode_unknown", "response_mode_query"]),
    ("9", &["scope_missing", "scope_malformed", "scope_not_allowed"]),
    (
        "10",
        &["code_challenge_missing", "code_challenge_malformed", "code_challenge_method", "code_challenge_method_alone"],
    ),
    ("11", &["resource_missing", "resource_malformed", "resource_not_allowed"]),
    (
        "11a",
        &[
            "prompt_unknown",
            "prompt_none_combined",
            "max_age_malformed",
            "nonce_missing",
            "scope_openid_missing",
            "authorization_details_malformed",
            "authorization_details_type_unknown",
            "authorization_details_type_not_registered",
            "dpop_jkt_malformed",
            "dpop_jkt_missing",
        ],
    ),
    ("12", &["check"]),
];

#[test]
fn each_vector_names_the_row_that_decides() {
    let cases = all_cases();
    for Case { place, vector } in &cases {
        let reason = vector.reason().unwrap_or_default();
        let rows: Vec<_> = ROWS.iter().filter(|(_, reasons)| reasons.contains(&reason)).collect();
        assert!(rows.iter().all(|(row, _)| *row == vector.row), "{place}: {reason} is not of row {}", vector.row);
        // A broken `client_id` or `redirect_uri` is refused earlier than other parameters.
        let is_of_parameter = !reason.starts_with("parameter_") || ["1", "4", "5"].contains(&&*vector.row);
        assert!(is_of_parameter, "{place}: {reason} is not of row {}", vector.row);
    }
    let named: BTreeSet<_> = cases.iter().map(|case| &*case.vector.row).collect();
    for row in ["gate", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "11a", "12", "answer", "report"] {
        assert!(named.contains(row), "no vector tests row {row}");
    }
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
    let request = validator.parse(&vector.request.query(), &vector.request.parameters_of_body());
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
                // What it becomes depends on the headers.
                (Delivery::Confirm, outcome @ ("confirm" | "direct")) => outcome,
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
        Reason::SPLIT_PARAMETERS,
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
        Reason::PROMPT_UNKNOWN,
        Reason::PROMPT_NONE_COMBINED,
        Reason::MAX_AGE_MALFORMED,
        Reason::NONCE_MISSING,
        Reason::SCOPE_OPENID_MISSING,
        Reason::AUTHORIZATION_DETAILS_MALFORMED,
        Reason::AUTHORIZATION_DETAILS_TYPE_UNKNOWN,
        Reason::AUTHORIZATION_DETAILS_TYPE_NOT_REGISTERED,
        Reason::DPOP_JKT_MALFORMED,
        Reason::DPOP_JKT_MISSING,
        Reason::CHECK,
    ]
    .map(|reason| reason.as_str())
    .to_vec()
}
