//! Shared by the targets: splitting an input, and the reference of the tests.
//!
//! An input is text and bytes in parts, with a byte 0xFF between them: libFuzzer mutates that well, a person can
//! read it, and `seeds` can write it.

#[path = "../../tests/vectors/agreement.rs"]
mod agreement;
#[allow(dead_code)]
#[path = "../../tests/vectors/answer.rs"]
mod answer;
#[path = "../../tests/vectors/inner.rs"]
mod inner;
#[path = "../../tests/reference/mod.rs"]
mod reference;
#[allow(dead_code)]
#[path = "../../tests/vectors/request.rs"]
mod request;
#[allow(dead_code)]
#[path = "../../tests/vectors/setup.rs"]
mod setup;

use serde_json::{Map, Value};

use self::agreement::Trial;
use self::request::Request;
use self::setup::LayerOptions;

/// What the reference says of a registered and a requested redirect URI, where any port may match.
pub fn admits(registered: &str, requested: &str) -> bool {
    reference::redirect_uri::admits(registered, requested, true)
}

/// Whether the reference lets a stranger register this redirect URI.
pub fn is_registrable_by_strangers(uri: &str) -> bool {
    const SCHEMES: [&str; 7] = ["claude", "cursor", "raycast", "vscode", "vscode-insiders", "warp", "windsurf"];
    reference::redirect_uri::is_registrable_by_strangers(uri, &SCHEMES)
}

/// The parts of an input; the last one is the rest.
pub fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |&byte| byte == 0xFF);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Like [`parts`], of text.
pub fn texts<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let parts = parts::<N>(input).map(std::str::from_utf8);
    parts.iter().all(Result::is_ok).then(|| parts.map(Result::unwrap_or_default))
}

/// Whether the reference lets a redirect URI be registered; `insecure` where `http` may go to any host.
pub fn is_registrable(uri: &str, insecure: bool) -> bool {
    reference::redirect_uri::is_registrable(uri, insecure)
}

/// A request to the whole service. False for an input that is none.
pub fn service_agrees(input: &[u8]) -> bool {
    let [policy, client, method, headers, query, body] = parts(input);
    trial(policy, client, method, headers, query, body).is_some_and(|trial| agreed(trial.check()))
}

/// The same, with the body in pieces of these lengths.
pub fn service_agrees_in_pieces(lengths: &[u8], limit: &[u8], query: &[u8], body: &[u8]) -> bool {
    let trial = trial(limit, b"", b"POST", b"", query, body);
    trial.is_some_and(|trial| agreed(trial.check()) && agreed(trial.check_in_pieces(lengths)))
}

fn agreed(result: Result<Option<Value>, String>) -> bool {
    match result {
        Ok(observed) => observed.is_some(),
        Err(disagreement) => panic!("{disagreement}"),
    }
}

fn trial(settings: &[u8], client: &[u8], method: &[u8], headers: &[u8], query: &[u8], body: &[u8]) -> Option<Trial> {
    let (policy, layer) = self::settings(std::str::from_utf8(settings).ok()?)?;
    let client = if client.is_empty() { None } else { Some(serde_json::from_slice(client).ok()?) };
    let method = std::str::from_utf8(method).ok()?;
    let headers: Vec<(&str, &[u8])> = headers
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_at_checked(line.iter().position(|&byte| byte == b':')?)?;
            Some((std::str::from_utf8(name).ok()?, value[1..].trim_ascii_start()))
        })
        .collect::<Option<_>>()?;
    let query = (!query.is_empty()).then_some(query);
    let body = (method == "POST" || !body.is_empty()).then_some(body);
    Some(Trial { client, policy, layer, request: Request::new(method, query, body, &headers) })
}

/// `name=value`, the value as JSON, with a tab between settings.
fn settings(text: &str) -> Option<(Map<String, Value>, LayerOptions)> {
    let mut policy = Map::new();
    let mut layer = LayerOptions::default();
    for setting in text.split('\t').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=')?;
        let value: Value = value.parse().ok()?;
        match name {
            "max_body_bytes" => layer.max_body_bytes = Some(usize::try_from(value.as_u64()?).ok()?),
            "report_only" => layer.report_only = value.as_bool()?,
            // What is shown is looked through for these; the operator's own page may be named so.
            "error_uri" if ["evil", "href"].iter().any(|word| value.to_string().contains(word)) => return None,
            _ => drop(policy.insert(name.to_owned(), value)),
        }
    }
    Some((policy, layer))
}
