//! The cases of `tests/vectors/pushed.json`: pushes and authorization requests, and what each gets. They run against the
//! services themselves, and over a socket.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::{Map, Value};
use tower_oauth_client_validation::{Client, PushedRequests, StateError};

use super::{Server, Store};
use crate::fixture::FORM;
use crate::vectors::{Case, cases, policy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    /// The section that the case is taken from.
    source: String,
    /// The policy of the authorization endpoint, as methods of `Policy` and their arguments.
    #[serde(default)]
    policy: Map<String, Value>,
    /// The policy of the endpoint for pushed requests, where it is another one.
    push_policy: Option<Map<String, Value>>,
    max_per_client: Option<u64>,
    max_in_all: Option<u64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    /// A form that is pushed.
    Push(Push),
    /// A query of the authorization endpoint; `{uri}` is the `request_uri` of the last push, `{uri1}` of the one before.
    Ask(Ask),
    /// Replaces a client, given as its metadata.
    Client(Value),
    /// What the store does from now on: `expired`, `unavailable`, `failed`, `full` or `works`.
    Store(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    #[serde(default)]
    form: String,
    /// Repeats the form's last byte until it is this long.
    pad_to: Option<usize>,
    method: Option<String>,
    #[serde(default)]
    query: String,
    content_type: Option<String>,
    /// `id:secret`, sent as `Authorization: Basic`.
    basic: Option<String>,
    expect: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(default)]
    query: String,
    /// Sent as a form with `POST`.
    body: Option<String>,
    path: Option<String>,
    accept: Option<String>,
    expect: Vec<Value>,
}

/// Where a case runs.
enum Target {
    Services(Server),
    Socket(Server, SocketAddr),
}

impl Target {
    fn server(&self) -> &Server {
        match self {
            Self::Services(server) | Self::Socket(server, _) => server,
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let (head, body) = match self {
            Self::Services(server) => {
                let (head, body) = server.send(request).await.into_parts();
                (head, body.collect().await.unwrap().to_bytes())
            }
            Self::Socket(_, address) => {
                let (head, body) = crate::socket::send(*address, request).await.into_parts();
                (head, body.collect().await.unwrap().to_bytes())
            }
        };
        Response::from_parts(head, body)
    }
}

fn pushed(vector: &Vector, store: &Store) -> PushedRequests {
    let mut pushed = PushedRequests::builder(store.clone());
    if let Some(max) = vector.max_per_client {
        pushed = pushed.max_per_client(max);
    }
    if let Some(max) = vector.max_in_all {
        pushed = pushed.max_in_all(max);
    }
    pushed.build().unwrap()
}

impl Push {
    fn request(&self, uris: &[String]) -> Request<Full<Bytes>> {
        let question_mark = if self.query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(self.method.as_deref().unwrap_or("POST"))
            .uri(format!("/par{question_mark}{}", self.query))
            .header("content-type", self.content_type.as_deref().unwrap_or(FORM));
        if let Some(basic) = &self.basic {
            request = request.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(basic)));
        }
        let mut form = fill(&self.form, uris).into_bytes();
        if let (Some(length), Some(last)) = (self.pad_to, form.last().copied()) {
            form.resize(length, last);
        }
        request.body(Full::from(form)).unwrap()
    }
}

impl Ask {
    fn request(&self, uris: &[String]) -> Request<Full<Bytes>> {
        let path = self.path.as_deref().unwrap_or("/authorize");
        let question_mark = if self.query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(if self.body.is_some() { "POST" } else { "GET" })
            .uri(format!("{path}{question_mark}{}", fill(&self.query, uris)));
        if self.body.is_some() {
            request = request.header("content-type", FORM);
        }
        if let Some(accept) = &self.accept {
            request = request.header("accept", accept);
        }
        request.body(Full::from(fill(self.body.as_deref().unwrap_or_default(), uris))).unwrap()
    }
}

fn fill(text: &str, uris: &[String]) -> String {
    let at = |back: usize| uris.len().checked_sub(back).and_then(|index| uris.get(index)).cloned().unwrap_or_default();
    text.replace("{uri}", &at(1)).replace("{uri1}", &at(2))
}

/// `[status, error, reason]` of a refusal, `[status, location]` of a redirect, `[status]` of anything else; no more than
/// is expected.
fn observe(response: &Response<Bytes>, expected: &[Value]) -> Result<(), String> {
    let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let json: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let mut observed = vec![Value::from(response.status().as_u16())];
    if let Some(location) = text("location") {
        // Descriptions are prose.
        let location = location.split('&').filter(|pair| !pair.starts_with("error_description=")).collect::<Vec<_>>();
        observed.push(location.join("&").into());
    } else if let Some(error) = json.get("error") {
        observed.push(error.clone());
    }
    observed.extend(text("x-reason").map(Value::from));
    observed.truncate(expected.len());
    if observed != expected {
        let observed = serde_json::to_string(&observed).unwrap();
        return Err(format!("{observed} {}", String::from_utf8_lossy(response.body())));
    }
    if text("cache-control").as_deref() != Some("no-store") && response.status() != 200 {
        return Err("may be cached".to_owned());
    }
    Ok(())
}

/// Every answer of the endpoint is JSON; 405, 429 and 503 say what to do.
fn check_push(response: &Response<Bytes>) -> Result<(), String> {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    let is_right = header("content-type") == Some("application/json")
        && header("location").is_none()
        && (response.status() != 405 || header("allow") == Some("POST"))
        && (!matches!(response.status().as_u16(), 429 | 503) || header("retry-after").is_some());
    if is_right { Ok(()) } else { Err(format!("a wrong answer: {response:?}")) }
}

async fn run(vector: &Vector, over_socket: bool) -> Result<(), String> {
    let store = Store::new();
    let policies = (policy(vector.push_policy.as_ref().unwrap_or(&vector.policy)), policy(&vector.policy));
    let server = Server::with_policies(pushed(vector, &store), policies.0, policies.1);
    let target = if over_socket {
        let address = crate::socket::serve(server.router.clone()).await;
        Target::Socket(server, address)
    } else {
        Target::Services(server)
    };
    let mut uris: Vec<String> = Vec::new();
    for (index, step) in vector.steps.iter().enumerate() {
        let outcome = match step {
            Step::Push(push) => {
                let response = target.send(push.request(&uris)).await;
                if response.status() == 201 {
                    let uri = super::request_uri(std::str::from_utf8(response.body()).unwrap());
                    uris.push(url::form_urlencoded::byte_serialize(uri.as_bytes()).collect());
                }
                observe(&response, &push.expect).and_then(|()| check_push(&response))
            }
            Step::Ask(ask) => observe(&target.send(ask.request(&uris)).await, &ask.expect),
            Step::Client(metadata) => {
                target.server().registry.replace(Client::from_metadata(metadata.clone()).unwrap()).unwrap();
                Ok(())
            }
            Step::Store(what) => {
                match what.as_str() {
                    "expired" => store.expire(),
                    "unavailable" => store.fail(Some(|| StateError::unavailable("gone"))),
                    "failed" => store.fail(Some(|| StateError::failed("no table"))),
                    "full" => store.fail(Some(StateError::full)),
                    "works" => store.fail(None),
                    _ => return Err(format!("a store cannot be {what}")),
                }
                Ok(())
            }
        };
        outcome.map_err(|error| format!("step {}: {error}", index + 1))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_vector_gets_the_expected_outcome() {
    let mut failures = Vec::new();
    for Case { place, vector } in cases::<Vector>("pushed.json") {
        for over_socket in [false, true] {
            if let Err(error) = crate::wait::in_time(run(&vector, over_socket)).await {
                let how = if over_socket { "over a socket" } else { "the services" };
                failures.push(format!("{place} {:?} ({how}): {error}", vector.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn vectors_have_distinct_names_and_sources() {
    let vectors = cases::<Vector>("pushed.json");
    let names: BTreeSet<_> = vectors.iter().map(|case| &case.vector.name).collect();
    assert_eq!(names.len(), vectors.len());
    assert!(vectors.iter().all(|case| !case.vector.source.is_empty()));
}
