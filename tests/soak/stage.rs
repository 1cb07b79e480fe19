//! A server, and what is known about its clients.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::control::Source;
use crate::http::Answer;
use crate::process::Running;
use crate::random::Random;
use crate::reference::{self, Asked, Found};

/// What the registry holds under an id, if anything.
pub(crate) type Document = Option<Arc<Value>>;

const STEADY: usize = 8;
pub(crate) const CHANGING: usize = 16;

/// No request takes that long, so nothing older is asked for.
const MEMORY: Duration = Duration::from_secs(600);

pub(crate) struct Run {
    stop: AtomicBool,
    stop_controllers: AtomicBool,
    wrong: Mutex<Option<String>>,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self { stop: AtomicBool::new(false), stop_controllers: AtomicBool::new(false), wrong: Mutex::new(None) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn controllers_are_over(&self) -> bool {
        self.stop_controllers.load(Ordering::Relaxed) || self.is_over()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stop_controllers(&self) {
        self.stop_controllers.store(true, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, outcome: Result<(), String>) {
        if let Err(wrong) = outcome {
            self.wrong.lock().unwrap().get_or_insert(wrong);
            self.stop();
        }
    }

    pub(crate) fn outcome(&self) -> Result<(), String> {
        self.wrong.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

/// A document and the time in which it may have been the right one: from the begin of the write that made it so,
/// to when the next one was seen to count.
struct Version {
    document: Document,
    from: Instant,
    until: Option<Instant>,
}

pub(crate) struct Slot {
    pub(crate) id: String,
    versions: Mutex<VecDeque<Version>>,
}

impl Slot {
    fn new(id: String, document: Document) -> Self {
        let first = Version { document, from: Instant::now(), until: None };
        Self { id, versions: Mutex::new(VecDeque::from([first])) }
    }

    pub(crate) fn current(&self) -> Document {
        self.versions.lock().unwrap().back().expect("there is always one").document.clone()
    }

    /// From now on the document may be the right one.
    pub(crate) fn begin(&self, document: Document) {
        let mut versions = self.versions.lock().unwrap();
        versions.retain(|version| version.until.is_none_or(|until| until.elapsed() < MEMORY));
        versions.push_back(Version { document, from: Instant::now(), until: None });
    }

    /// From now on nothing but the last document is right.
    pub(crate) fn settle(&self) {
        let mut versions = self.versions.lock().unwrap();
        let now = Instant::now();
        for version in versions.iter_mut().rev().skip(1) {
            version.until.get_or_insert(now);
        }
    }

    pub(crate) fn during(&self, from: Instant, to: Instant) -> Vec<Document> {
        let versions = self.versions.lock().unwrap();
        let overlaps = |version: &&Version| version.from <= to && version.until.is_none_or(|until| until >= from);
        versions.iter().filter(overlaps).map(|version| version.document.clone()).collect()
    }
}

pub(crate) fn is_active(document: &Document) -> bool {
    let flag = |document: &Value, name| document[name].as_bool().unwrap_or(false);
    document.as_ref().is_some_and(|document| !flag(document, "disabled") && !flag(document, "revoked"))
}

pub(crate) fn uris_of(id: &str) -> Vec<String> {
    vec![
        format!("https://{id}.example/cb"),
        format!("https://{id}.example/cb?tenant=1&x=%20"),
        "http://127.0.0.1/cb".to_owned(),
        "http://localhost:3000/cb".to_owned(),
        "http://localhost:*".to_owned(),
        "http://[::1]:*/cb".to_owned(),
        format!("com.example.{id}:/cb"),
    ]
}

/// Each has the first redirect URI, and its own scope that distinguishes it from the others.
pub(crate) fn document(id: &str, random: &mut Random) -> Value {
    let uris = uris_of(id);
    let mut chosen = vec![uris[0].clone()];
    chosen.extend(uris[1..].iter().filter(|_| random.percent(40)).cloned());
    let mut document = json!({
        "client_id": id,
        "client_name": format!("Client {id}"),
        "redirect_uris": chosen,
        "scope": format!("read write own-{:x}", random.number()),
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    if random.percent(20) {
        document["grant_types"] = json!(["authorization_code", "implicit", "refresh_token"]);
        document["response_types"] = json!(["code", "code id_token", "token"]);
    }
    if random.percent(20) {
        document["default_scope"] = "read".into();
    }
    document
}

/// What the workers of a stage counted since the last look.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) latencies: Mutex<Vec<Duration>>,
    pub(crate) statuses: Mutex<std::collections::BTreeMap<u16, u64>>,
    pub(crate) codes: AtomicU64,
    pub(crate) tokens: AtomicU64,
    pub(crate) registrations: AtomicU64,
    /// Answers with 503 while the database was there.
    pub(crate) busy: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) slowest_change: Mutex<Duration>,
}

pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) server: Running,
    pub(crate) slots: Vec<Slot>,
    pub(crate) tally: Tally,
    policy: Map<String, Value>,
    outages: Mutex<Vec<(Instant, Option<Instant>)>>,
}

impl Stage {
    pub(crate) async fn start(source: &Source) -> Self {
        let mut random = Random::new();
        let slots: Vec<Slot> = (0..STEADY + CHANGING)
            .map(|number| {
                let id = if number < CHANGING { format!("changing-{number}") } else { format!("steady-{number}") };
                let document = document(&id, &mut random);
                Slot::new(id, Some(Arc::new(document)))
            })
            .collect();
        source.fill(&slots).await;
        let args = [
            "--listen",
            "127.0.0.1:0",
            "--profile",
            "oauth2",
            "--auto-approve",
            "--registration",
            "open",
            "--registry",
            &source.location,
        ];
        let server = Running::start("authorization_server", &args).await;
        let policy = Map::from_iter([("issuer".to_owned(), server.base.clone().into())]);
        Self { name: source.name, server, slots, tally: Tally::default(), policy, outages: Mutex::default() }
    }

    pub(crate) fn outage_begins(&self) {
        self.outages.lock().unwrap().push((Instant::now(), None));
    }

    pub(crate) fn outage_ends(&self) {
        self.outages.lock().unwrap().last_mut().expect("it began").1 = Some(Instant::now());
    }

    pub(crate) fn outages(&self) -> Vec<(Instant, Option<Instant>)> {
        self.outages.lock().unwrap().clone()
    }

    /// One may be away, or too busy: then 503 is right.
    pub(crate) fn has_database(&self) -> bool {
        self.name != "file"
    }

    /// Whether the database may have been away at any time between.
    pub(crate) fn may_be_out(&self, from: Instant, to: Instant) -> bool {
        let outages = self.outages.lock().unwrap();
        outages.iter().rev().any(|(begin, end)| *begin <= to && end.is_none_or(|end| end >= from))
    }

    /// What may be under this id; `own` is a client that only the caller knows.
    pub(crate) fn documents(&self, id: &str, from: Instant, to: Instant, own: Option<&Own>) -> Vec<Document> {
        if let Some(own) = own.filter(|own| own.id == id) {
            return vec![own.document.clone()];
        }
        let slot = self.slots.iter().find(|slot| slot.id == id);
        slot.map_or_else(|| vec![None], |slot| slot.during(from, to))
    }

    /// All that would be right.
    pub(crate) fn expected(&self, asked: &Asked<'_>, from: Instant, to: Instant, own: Option<&Own>) -> Vec<Value> {
        let mut id = None;
        let unknown = reference::decide(
            &self.policy,
            |asked| {
                id = Some(asked.to_owned());
                Found::Nothing
            },
            asked,
        );
        let Some(id) = id else { return vec![unknown] };
        let mut right: Vec<Value> =
            self.documents(&id, from, to, own).into_iter().map(|document| self.decide(asked, &document)).collect();
        if self.has_database() {
            right.push(reference::decide(&self.policy, |_| Found::Outage, asked));
        }
        right
    }

    pub(crate) fn decide(&self, asked: &Asked<'_>, document: &Document) -> Value {
        let found = |_: &str| document.as_deref().map_or(Found::Nothing, Found::Client);
        reference::decide(&self.policy, found, asked)
    }
}

/// A client that registered itself.
pub(crate) struct Own {
    pub(crate) id: String,
    pub(crate) document: Document,
}

/// Whether the answer is what the reference says.
pub(crate) fn fits(expected: &Value, answer: &Answer, method: &str) -> bool {
    let (kind, told) = expected.as_object().and_then(|kinds| kinds.iter().next()).expect("one kind of answer");
    let status = u64::from(answer.status.as_u16());
    let location = answer.headers.get("location").map(|location| location.to_str().unwrap_or("?"));
    let has_body = method != "HEAD";
    if kind == "untouched" {
        return status == 204 && location.is_none();
    }
    if answer.header("cache-control") != "no-store" {
        return false;
    }
    match kind.as_str() {
        "direct" => {
            let kind = answer.header("content-type");
            let is_page = kind.starts_with("text/html");
            told["status"] == status
                && location.is_none()
                && answer.header("allow") == told["allow"].as_str().unwrap_or_default()
                && answer.headers.contains_key("retry-after") == told["retry_after"].as_bool().unwrap_or(false)
                && told["html"].as_bool().is_none_or(|html| html == is_page)
                && (is_page || kind.starts_with("application/json"))
                && (!has_body || is_page || answer.json()["error"] == told["error"])
        }
        "redirect" => {
            let described = told["location"].as_str().and_then(|expected| expected.split_once("{description}"));
            let (before, after) = described.expect("it has a description");
            let rest = location.and_then(|location| location.strip_prefix(before)?.strip_suffix(after));
            told["status"] == status && rest.is_some_and(|text| !text.is_empty() && !text.contains(['&', '#', '?']))
        }
        // HEAD issues no code.
        "accepted" if !has_body => status == 200 && location.is_none(),
        "accepted" if told["success"].is_null() => {
            told["success_status"] == status && is_form(answer, &told["redirect_uri"], "code")
        }
        "accepted" => {
            let (before, after) = told["success"].as_str().and_then(|success| success.split_once("code=c+d")).unwrap();
            let code = location.and_then(|location| location.strip_prefix(before)?.strip_suffix(after));
            let code = code.and_then(|code| code.strip_prefix("code="));
            told["success_status"] == status && code.is_some_and(|code| code.len() > 20 && !code.contains('&'))
        }
        "form_post" => told["status"] == status && (!has_body || is_form(answer, &told["action"], "error")),
        _ => false,
    }
}

fn is_form(answer: &Answer, action: &Value, field: &str) -> bool {
    let action = action.as_str().unwrap_or_default().replace('&', "&amp;");
    answer.body.contains(&format!("action=\"{action}\"")) && answer.fields().contains_key(field)
}
