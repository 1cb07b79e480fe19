//! Logs: one event per decision, in fields.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::executor::block_on;
use http::{Request, Response};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    Client, ClientValidationLayer, MemoryRegistry, Policy, RegistryError, RegistrySource, UnknownClients, registry_fn,
};
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::fixture::{self, ACCEPTED, UNKNOWN, WRONG_SCOPE, client, text};

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) level: Level,
    fields: BTreeMap<&'static str, String>,
}

impl Event {
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    fn of(&self, fields: [&str; 4]) -> [Option<&str>; 4] {
        fields.map(|field| self.get(field))
    }
}

impl Visit for Event {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<Event>>>);

impl<S: Subscriber> tracing_subscriber::Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target().starts_with("tower_oauth_client_validation") {
            let mut captured = Event { level: *event.metadata().level(), fields: BTreeMap::new() };
            event.record(&mut captured);
            self.0.lock().unwrap().push(captured);
        }
    }
}

type Body = Full<Bytes>;

/// The events of this crate while something runs, and its result.
pub(crate) fn events_of<T>(run: impl FnOnce() -> T) -> (Vec<Event>, T) {
    let capture = Capture::default();
    let subscriber = tracing_subscriber::registry().with(capture.clone());
    let result = tracing::subscriber::with_default(subscriber, || {
        // Another test may have reached the call sites without a subscriber.
        tracing::callsite::rebuild_interest_cache();
        run()
    });
    let events = std::mem::take(&mut *capture.0.lock().unwrap());
    (events, result)
}

/// The events of one request, and the answer.
fn ask<R: RegistrySource>(layer: ClientValidationLayer<R>, request: Request<Body>) -> (Vec<Event>, Response<Body>) {
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
    events_of(|| block_on(layer.layer(inner).oneshot(request)).unwrap())
}

/// The only event of one request.
fn event<R: RegistrySource>(layer: ClientValidationLayer<R>, request: Request<Body>) -> Event {
    let (mut events, _) = ask(layer, request);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

const FIELDS: [&str; 4] = ["outcome", "error", "reason", "client_id"];

#[test]
fn accepted_is_debug() {
    let event = event(fixture::layer(), fixture::get(ACCEPTED));
    assert_eq!(event.level, Level::DEBUG);
    assert_eq!(event.of(FIELDS), [Some("accepted"), None, None, Some("app")]);
    assert_eq!(event.get("report_only"), Some("false"));
    assert_eq!(event.get("message"), None, "fields, not prose");
}

#[test]
fn rejected_is_info_with_error_reason_and_client() {
    for (request, error, reason, client_id) in [
        (fixture::get(UNKNOWN), "invalid_client", "client_unknown", Some("nobody")),
        (fixture::get(WRONG_SCOPE), "invalid_scope", "scope_not_allowed", Some("app")),
        (fixture::get(""), "invalid_request", "client_id_missing", None),
        (fixture::get("client_id=a&client_id=b"), "invalid_request", "parameter_repeated", None),
        (fixture::get("client_id=app"), "invalid_request", "response_type_missing", Some("app")),
        (fixture::post(WRONG_SCOPE), "invalid_scope", "scope_not_allowed", Some("app")),
        (fixture::post(vec![b'a'; 70_000]), "invalid_request", "body_too_large", None),
        (Request::put("/").body(Body::default()).unwrap(), "invalid_request", "method", None),
        (Request::post("/").body(Body::default()).unwrap(), "invalid_request", "content_type", None),
    ] {
        let event = event(fixture::layer(), request);
        assert_eq!(event.level, Level::INFO, "{reason}");
        assert_eq!(event.of(FIELDS), [Some("rejected"), Some(error), Some(reason), client_id]);
        assert_eq!(event.get("error.type"), Some(reason), "OpenTelemetry's name");
        assert_eq!(event.get("report_only"), Some("false"));
        assert_eq!(event.get("message"), None);
    }
}

#[test]
fn what_looks_the_same_from_outside_is_distinct_in_the_log() {
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
    let clients = [
        (client().to_builder().disabled(true).build().unwrap(), "client_disabled"),
        (client().to_builder().expires_at(past).build().unwrap(), "client_expired"),
        (client(), "client_revoked"),
        (Client::builder("other").build().unwrap(), "client_unknown"),
    ];
    let mut answers = Vec::new();
    for (client, reason) in clients {
        let registry = MemoryRegistry::from_clients([client]);
        if reason == "client_revoked" {
            registry.revoke("app").unwrap();
        }
        let (events, response) = ask(ClientValidationLayer::new(registry), fixture::get(ACCEPTED));
        assert_eq!(events[0].of(FIELDS), [Some("rejected"), Some("invalid_client"), Some(reason), Some("app")]);
        let (parts, body) = response.into_parts();
        answers.push((parts.status, parts.headers, block_on(text(Response::new(body)))));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

fn failing(error: RegistryError) -> ClientValidationLayer<impl RegistrySource> {
    ClientValidationLayer::new(registry_fn(move |_| std::future::ready(Err(error.clone()))))
}

#[test]
fn a_failure_of_the_registry_is_an_error_with_its_cause() {
    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("query failed")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let cause = || Outer(std::io::Error::other("connection reset"));
    for (error, code, reason) in [
        (RegistryError::transient(cause()), "temporarily_unavailable", "registry_unavailable"),
        (RegistryError::permanent(cause()), "server_error", "registry_fault"),
    ] {
        let event = event(failing(error), fixture::get(ACCEPTED));
        assert_eq!(event.level, Level::ERROR);
        assert_eq!(event.of(FIELDS), [Some("rejected"), Some(code), Some(reason), Some("app")]);
        let cause = event.get("cause").unwrap();
        assert!(cause.ends_with(": query failed: connection reset"), "{cause}");
        assert_eq!(event.get("report_only"), Some("false"));
    }
}

#[test]
fn a_failure_of_a_host_that_the_client_chose_is_no_error_event() {
    let error = RegistryError::client_hosted(std::io::Error::other("connection refused"));
    let event = event(failing(error), fixture::get(ACCEPTED));
    assert_eq!(event.level, Level::INFO);
    let fields = [Some("rejected"), Some("temporarily_unavailable"), Some("registry_unavailable"), Some("app")];
    assert_eq!(event.of(FIELDS), fields);
    assert!(event.get("cause").unwrap().ends_with(": connection refused"));
}

#[test]
fn a_registry_that_answers_for_another_client_is_an_error() {
    let wrong = registry_fn(|_| std::future::ready(Ok(Some(Client::builder("other").build().unwrap().into()))));
    let event = event(ClientValidationLayer::new(wrong), fixture::get(ACCEPTED));
    assert_eq!(event.level, Level::ERROR);
    assert_eq!(event.of(FIELDS), [Some("rejected"), Some("server_error"), Some("client_id_mismatch"), Some("app")]);
}

#[test]
fn events_in_report_only_mode_say_so() {
    for (request, outcome, reason) in [
        (fixture::get(ACCEPTED), "accepted", None),
        (fixture::get(UNKNOWN), "rejected", Some("client_unknown")),
        (fixture::get(WRONG_SCOPE), "rejected", Some("scope_not_allowed")),
    ] {
        let event = event(fixture::layer().report_only(true), request);
        assert_eq!((event.get("outcome"), event.get("reason")), (Some(outcome), reason));
        assert_eq!(event.get("report_only"), Some("true"));
    }
    let event = event(failing(RegistryError::transient("down")).report_only(true), fixture::get(ACCEPTED));
    assert_eq!((event.level, event.get("report_only")), (Level::ERROR, Some("true")));
}

#[test]
fn a_forwarded_request_is_one_event() {
    let policy = Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap();
    let event = event(fixture::layer().policy(policy), fixture::get(UNKNOWN));
    assert_eq!(event.level, Level::INFO);
    assert_eq!(event.of(FIELDS), [Some("forwarded"), None, Some("client_unknown"), Some("nobody")]);
}

#[test]
fn a_request_that_is_not_judged_is_not_logged() {
    let options = Request::options(format!("/authorize?{UNKNOWN}")).body(Body::default()).unwrap();
    assert!(ask(fixture::layer(), options).0.is_empty());
    assert!(ask(fixture::layer().insecure_bypass(|_| true), fixture::get(UNKNOWN)).0.is_empty());
}

#[test]
fn a_client_id_is_escaped_and_cut() {
    let logged = |query: String| event(fixture::layer(), fixture::post(query)).get("client_id").unwrap().to_owned();
    let forged = logged("client_id=a%0Aoutcome%3Daccepted%1B%5B31m%00%C2%85%E2%80%AE%22".to_owned());
    assert!(forged.starts_with(r"a\noutcome=accepted\u{1b}[31m\0"), "{forged}");
    assert!(forged.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{forged:?}");

    for (filler, unit) in [("a", 1), ("%C3%A4", 2), ("%0A", 2), ("%F0%9F%A6%80", 4)] {
        let long = logged(format!("client_id={}", filler.repeat(5_000)));
        assert!(long.len() <= 256 && long.len() > 256 - unit, "{filler}: {}", long.len());
    }
    assert_eq!(logged(format!("client_id={}", "a".repeat(256))).len(), 256);
}

#[test]
fn untrusted_text_in_causes_is_cut_and_escaped() {
    let cause = |text: String| {
        let error = RegistryError::client_hosted(std::io::Error::other(text));
        event(failing(error), fixture::get(ACCEPTED)).get("cause").unwrap().to_owned()
    };
    let url = format!("https://evil.example/{}", "a".repeat(5_000));
    let cut = cause(format!("error sending request for url ({url}): connection refused"));
    assert!(cut.len() < 500 && cut.ends_with(" connection refused"), "{cut}");
    assert!(cut.contains("(https://evil.example/aaa"), "{cut}");

    let forged = cause("line\noutcome=accepted\u{1b}[31m\u{202e} \"quoted\"".to_owned());
    assert!(forged.ends_with(r#"line\noutcome=accepted\u{1b}[31m\u{202e} "quoted""#), "{forged}");
    assert!(cause("many words ".repeat(5_000)).len() <= 1_024);
}

#[test]
fn secrets_are_never_logged() {
    let secret = "state=S3CRET-state&nonce=S3CRET-nonce&code_challenge=S3CRET-challenge-S3CRET-challenge-S3CRET-challenge\
                  &code_challenge_method=S256&request_secret=S3CRET&client_secret=S3CRET";
    let forward =
        || fixture::layer().policy(Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap());
    for query in [ACCEPTED, UNKNOWN, WRONG_SCOPE, "client_id=app", "client_id=app&redirect_uri=https://x.example/"] {
        let query = format!("{}&{secret}", query.replace("&state=xyz", ""));
        for layer in [fixture::layer(), fixture::layer().report_only(true), forward()] {
            for request in
                [fixture::get(&query), fixture::post(query.clone()), fixture::get(&format!("{query}&state=S3CRET"))]
            {
                let (events, _) = ask(layer.clone(), request);
                assert_eq!(events.len(), 1);
                assert!(!format!("{events:?}").contains("S3CRET"), "{events:?}");
            }
        }
        let (events, _) = ask(failing(RegistryError::transient("down")), fixture::get(&query));
        assert!(!format!("{events:?}").contains("S3CRET"), "{events:?}");
    }
}

#[test]
fn only_the_log_says_how_the_closest_redirect_uri_differs() {
    let client = Client::builder("app")
        .redirect_uri("https://app.example/cb?a=1")
        .redirect_uri("http://localhost:8080/native")
        .redirect_uri("https://[2001:db8::1]/six")
        .build()
        .unwrap();
    let layer = || ClientValidationLayer::new(MemoryRegistry::from_clients([client.clone()]));
    for (uri, difference) in [
        ("http://app.example/cb?a=1", "scheme"),
        ("https://evil.example/cb?a=1", "host"),
        ("https://app.example:8443/cb?a=1", "port"),
        ("https://app.example/other?a=1", "path"),
        ("https://app.example/cb?a=2", "query"),
        ("https://app.example/cb", "query"),
        ("https://app.example/cb/?a=1", "trailing_slash"),
        ("https://app.example/CB?a=1", "letter_case"),
        ("https://evil.example/cb?a=2", "host,query"),
        ("http://localhost:9090/other", "port,path"),
        ("https://[2001:db8::2]/six", "host"),
    ] {
        let query = format!("client_id=app&response_type=code&redirect_uri={}", encoded(uri));
        let (events, response) = ask(layer(), fixture::get(&query));
        let expected = format!("the closest registered URI differs in {difference}");
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].get("detail"), Some(&*expected), "{uri}");
        assert_eq!(events[0].get("reason"), Some("redirect_uri_not_registered"));
        let body = block_on(text(response));
        assert!(!body.contains("differs") && !body.contains("app.example"), "{body}");

        let detailed = layer().policy(Policy::oauth2().insecure_detailed_errors(true).build().unwrap());
        let (_, response) = ask(detailed, fixture::get(&query));
        assert!(block_on(text(response)).contains(&expected));
    }

    let malformed = "client_id=app&response_type=code&redirect_uri=https://app.example/cb%23x";
    let event_of = |layer, query| event(layer, fixture::get(query));
    let event = event_of(layer(), malformed);
    assert_eq!(event.get("reason"), Some("redirect_uri_malformed"));
    assert_eq!(event.get("detail"), Some("a fragment is not allowed (at byte 22)"));
    let none = ClientValidationLayer::new(MemoryRegistry::from_clients([Client::builder("app").build().unwrap()]));
    let event = event_of(none, "client_id=app&response_type=code&redirect_uri=https://app.example/cb");
    assert_eq!(event.get("detail"), Some("no redirect URI is registered"));
}

fn encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

#[test]
fn the_log_names_the_faulty_parameter() {
    let event = event(fixture::layer(), fixture::get(&format!("{ACCEPTED}&state=again")));
    assert_eq!((event.get("reason"), event.get("detail")), (Some("parameter_repeated"), Some("state")));
}

#[cfg(feature = "pushed-requests")]
mod pushed {
    use http::request::Parts;
    use tower_oauth_client_validation::{
        AuthorizationRequest, MemoryStateStore, PushedRequestService, PushedRequests, Validator, Verdict,
    };

    use super::*;

    fn push(pushed: &PushedRequests, form: &str) -> (Vec<Event>, String) {
        let service = PushedRequestService::new(pushed.clone(), Policy::default());
        let service = service.client_from(|_: &Parts| std::future::ready(Ok(Some(Arc::new(client())))));
        events_of(|| {
            block_on(async { text(service.oneshot(fixture::form(Body::from(form.to_owned()))).await.unwrap()).await })
        })
    }

    #[test]
    fn pushes_are_logged_like_requests() {
        let pushed = PushedRequests::new(MemoryStateStore::new());
        let (events, _) = push(&pushed, ACCEPTED);
        assert_eq!((events.len(), events[0].level), (1, Level::DEBUG));
        assert_eq!(events[0].of(FIELDS), [Some("accepted"), None, None, Some("app")]);
        let (events, _) = push(&pushed, WRONG_SCOPE);
        assert_eq!((events.len(), events[0].level), (1, Level::INFO));
        let fields = [Some("rejected"), Some("invalid_scope"), Some("scope_not_allowed"), Some("app")];
        assert_eq!(events[0].of(FIELDS), fields);
    }

    #[test]
    fn what_a_handler_forgets_and_what_comes_twice_is_logged_without_parameters() {
        let pushed = PushedRequests::new(MemoryStateStore::new());
        let (_, answer) = push(&pushed, ACCEPTED);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let query = format!("client_id=app&request_uri={}", answer["request_uri"].as_str().unwrap());
        let layer = fixture::layer().pushed_requests(pushed);
        let request = fixture::get::<Body>(&query).into_parts().0;
        let validated = match block_on(layer.judge(&request, Bytes::new())) {
            Verdict::Accepted(validated) => validated,
            other => panic!("{other:?}"),
        };
        let (events, _) = events_of(|| validated.success([("code", "c")]));
        assert_eq!((events.len(), events[0].level), (1, Level::ERROR));
        assert!(events[0].get("message").unwrap().contains("ValidatedRequest::use_up"));
        block_on(validated.use_up()).unwrap();
        let (events, _) = events_of(|| block_on(validated.use_up()).unwrap_err());
        assert_eq!((events.len(), events[0].level), (1, Level::INFO));
        let fields = [Some("rejected"), Some("invalid_request_uri"), Some("request_uri_used"), Some("app")];
        assert_eq!(events[0].of(FIELDS), fields);
        assert!(!format!("{events:?}").contains("xyz"));
        // A request from the user agent is silent.
        let plain = AuthorizationRequest::parse(ACCEPTED.as_bytes(), b"");
        let plain = Validator::default().validate(plain, Some(Arc::new(client()))).unwrap();
        assert!(events_of(|| block_on(plain.use_up()).unwrap()).0.is_empty());
    }
}
