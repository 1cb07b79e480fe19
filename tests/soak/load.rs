//! Sends requests without a pause and checks their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use url::form_urlencoded::byte_serialize;

use crate::http::{Answer, form};
use crate::random::Random;
use crate::reference::Asked;
use crate::stage::{Own, Run, Stage, fits, is_active, uris_of};

/// RFC 7636 appendix B
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Only a bound, for machines that have much else to do: registrations wait for each other.
const LONGEST: Duration = Duration::from_secs(300);

/// How many codes of a client the example keeps: a code may be pushed out by as many others.
const CODES: u64 = 1_000;

/// Registrations that stay until the server's cap is reached, and the oldest begin to make room.
const CAP: u64 = 10_000;

/// What the example lets registered clients have.
const SCOPES: &str = "profile photos:read photos:write";

type Params = Vec<(String, String)>;

/// One connection, for as long as the server keeps it.
pub(crate) struct Connection {
    stage: Arc<Stage>,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request as the reference sees it, and when it was under way.
struct Exchange {
    method: &'static str,
    query: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    from: Instant,
    to: Instant,
}

impl Connection {
    pub(crate) async fn open(stage: &Arc<Stage>) -> Result<Self, String> {
        let authority = stage.server.base.trim_start_matches("http://");
        let failed = |error: &dyn std::fmt::Display| format!("{}: no connection: {error}", stage.name);
        let stream = TcpStream::connect(authority).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        Ok(Self { stage: Arc::clone(stage), sender, driver: tokio::spawn(connection) })
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<(Answer, Instant, Instant), String> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(target)
            .header("host", "soak");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).map_err(|error| error.to_string())?;
        let from = Instant::now();
        let exchange = async {
            let (parts, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok::<_, hyper::Error>(Answer { status: parts.status, headers: parts.headers, body })
        };
        let broken = |why: &dyn std::fmt::Display| format!("{}: {method} {target}: {why}", self.stage.name);
        let answer = tokio::time::timeout(LONGEST, exchange).await.map_err(|_| broken(&"no answer"))?;
        let answer = answer.map_err(|error| broken(&error))?;
        let to = Instant::now();
        self.stage.tally.latencies.lock().unwrap().push(to - from);
        if answer.status == StatusCode::SERVICE_UNAVAILABLE && !self.stage.may_be_out(from, to) {
            self.stage.tally.busy.fetch_add(1, Ordering::Relaxed);
        }
        *self.stage.tally.statuses.lock().unwrap().entry(answer.status.as_u16()).or_default() += 1;
        Ok((answer, from, to))
    }

    /// Asks the authorization endpoint.
    async fn ask(
        &mut self,
        method: &'static str,
        query: String,
        headers: Vec<(&'static str, &'static str)>,
        body: String,
    ) -> Result<(Answer, Exchange), String> {
        let target = format!("/authorize?{query}");
        let (answer, from, to) = self.send(method, &target, &headers, &body).await?;
        Ok((answer, Exchange { method, query, headers, body, from, to }))
    }

    /// Asks, and compares.
    async fn check(
        &mut self,
        method: &'static str,
        query: String,
        headers: Vec<(&'static str, &'static str)>,
        body: String,
        own: Option<&Own>,
    ) -> Result<(Answer, Exchange), String> {
        let (answer, exchange) = self.ask(method, query, headers, body).await?;
        exchange.judge(&self.stage, &answer, own)?;
        Ok((answer, exchange))
    }

    /// A plain request of this client, for looking what counts now.
    pub(crate) async fn probe(&mut self, id: &str, scope: Option<&str>) -> Result<Answer, String> {
        let uri = &uris_of(id)[0];
        let mut params = vec![("client_id", id), ("response_type", "code"), ("redirect_uri", uri)];
        params.extend(scope.map(|scope| ("scope", scope)));
        Ok(self.ask("GET", form(&params), vec![], String::new()).await?.0)
    }
}

impl Exchange {
    fn judge(&self, stage: &Stage, answer: &Answer, own: Option<&Own>) -> Result<(), String> {
        let headers: Vec<(String, Vec<u8>)> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let asked = Asked {
            method: self.method,
            query: self.query.as_bytes(),
            headers: &headers,
            body: self.body.as_bytes(),
            max_body_bytes: 64 * 1024,
        };
        let right = stage.expected(&asked, self.from, self.to, own);
        if right.iter().any(|expected| fits(expected, answer, self.method)) {
            return Ok(());
        }
        Err(format!(
            "{}: {} /authorize?{} {:?} body {:?}\nwas answered {} {:?}\n{}\nright is {}",
            stage.name,
            self.method,
            self.query,
            self.headers,
            self.body,
            answer.status,
            answer.headers,
            answer.body,
            right.iter().map(Value::to_string).collect::<Vec<_>>().join("\nor ")
        ))
    }
}

pub(crate) async fn work(run: Arc<Run>, stage: Arc<Stage>, number: usize) -> Result<(), String> {
    let mut random = Random::new();
    let mut connection = Connection::open(&stage).await?;
    while !run.is_over() {
        // To the cap soon, so that the rest of the run is about what happens at it.
        let is_filling = stage.tally.registrations.load(Ordering::Relaxed) < CAP;
        match random.below(1000) {
            0 => connection = Connection::open(&stage).await?,
            1..150 if is_filling => life(&mut connection, &mut random, number).await?,
            1..30 => life(&mut connection, &mut random, number).await?,
            30..80 => tokens(&mut connection, &mut random).await?,
            _ => {
                let (method, query, headers, body) = request(&stage, &mut random);
                let (answer, _) = connection.check(method, query, headers, body, None).await?;
                count_code(&stage, &answer);
            }
        }
    }
    Ok(())
}

fn count_code(stage: &Stage, answer: &Answer) {
    let location = answer.header("location");
    if location.contains("code=") || answer.body.contains("name=\"code\"") {
        stage.tally.codes.fetch_add(1, Ordering::Relaxed);
    }
}

fn encoded(value: &str) -> String {
    byte_serialize(value.as_bytes()).collect()
}

/// Method, query, headers and body of a request that may be right, or wrong in one way or two.
fn request(stage: &Stage, random: &mut Random) -> (&'static str, String, Vec<(&'static str, &'static str)>, String) {
    let slot = &stage.slots[random.below(stage.slots.len())];
    let id = &slot.id;
    let known = slot.current();
    let scopes = known.as_deref().and_then(|known| known["scope"].as_str()).unwrap_or("read").to_owned();
    let uris = known.as_deref().map_or_else(Vec::new, |known| known["redirect_uris"].as_array().unwrap().clone());
    let uri = match uris.is_empty() {
        false => random.pick(&uris).as_str().unwrap().replace(":*", &format!(":{}", 1024 + random.below(60_000))),
        true => uris_of(id)[0].clone(),
    };
    let mut params: Params = vec![
        ("client_id".into(), encoded(id)),
        ("response_type".into(), "code".into()),
        ("redirect_uri".into(), encoded(&uri)),
    ];
    let mut add = |name: &str, value: &str| params.push((name.to_owned(), encoded(value)));
    if random.percent(50) {
        add("scope", random.pick(&["read", "write", "write read read", &*scopes]));
    }
    if random.percent(80) {
        add("state", &format!("{:x}", random.number()));
    }
    if random.percent(40) {
        add("code_challenge", CHALLENGE);
        add("code_challenge_method", "S256");
    }
    let mutations = random.pick(&[0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
    for _ in 0..mutations {
        mutate(&mut params, id, random);
    }
    finish(&params, random)
}

fn set(params: &mut Params, name: &str, raw: &str) {
    params.retain(|(known, _)| known != name);
    params.push((name.to_owned(), raw.to_owned()));
}

fn mutate(params: &mut Params, id: &str, random: &mut Random) {
    let any = random.below(params.len().max(1));
    let port = 1 + random.below(65_535);
    match random.below(17) {
        0 => {
            let host = random.pick(&["127.0.0.1", "localhost", "[::1]", "127.0.0.2", "localhost.evil.example"]);
            let path = random.pick(&["/cb", "/cb", "/cb/", "/other?x=1", ""]);
            set(params, "redirect_uri", &encoded(&format!("http://{host}:{port}{path}")));
        }
        1 => {
            let foreign = [
                "https://evil.example/cb".to_owned(),
                format!("https://{id}.example/cb/../evil"),
                format!("https://{id}.example/cb#top"),
                format!("https://{id}.example.evil.example/cb"),
                format!("https://{id}.example/CB"),
                format!("https://{id}.example/cb/"),
                format!("https://{id}.example@evil.example/cb"),
                format!("https://{id}.example:443/cb"),
                format!("https://{id}.example\\@evil.example/cb"),
                format!("https://{id}.example/cb?code=x"),
                "javascript:alert(1)".to_owned(),
                "http://localhost:*".to_owned(),
                "/cb".to_owned(),
            ];
            set(params, "redirect_uri", &encoded(&random.pick(&foreign)));
        }
        2 => set(params, "redirect_uri", &encoded(&random.pick(&uris_of(id)))),
        3 => {
            if let Some(copy) = params.get(any).cloned() {
                params.push(copy);
            }
        }
        4 => {
            if let Some((_, value)) = params.get_mut(any) {
                value.push_str(random.pick(&["%zz", "%f", "%ff", "%", "%C3%28"]));
            }
        }
        5 => {
            let bad = ["admin", "read admin", "read  write", " read", "*", "read\"", "read\\", "READ", "r\u{e9}ad"];
            set(params, "scope", &encoded(random.pick(&bad)));
        }
        6 => set(params, "response_mode", random.pick(&["query", "fragment", "form_post", "web_message"])),
        7 => {
            let types = ["token", "id_token", "code+id_token", "id_token+code", "code+code", "none", "password", ""];
            set(params, "response_type", random.pick(&types));
        }
        8 => {
            if any < params.len() {
                params.remove(any);
            }
        }
        9 => set(params, "client_id", &format!("nobody-{:x}", random.number())),
        // The server reads `request` and `request_uri`, which the reference does not know.
        10 => set(params, random.pick(&["prompt", "login_hint"]), "none"),
        11 => {
            let resources = ["https%3A%2F%2Fapi.example%2F", "api", "https%3A%2F%2Fapi.example%2F%23x"];
            params.push(("resource".to_owned(), random.pick(&resources).to_owned()));
        }
        12 => set(params, "code_challenge", random.pick(&["short", ""])),
        13 => set(params, "code_challenge_method", random.pick(&["plain", "S512"])),
        14 => set(
            params,
            "state",
            random.pick(&["a%00b", "%E2%82%AC+%26%23%3D", "%0D%0ASet-Cookie%3Ax", "%22%3E%3Cscript%3E"]),
        ),
        15 => set(params, "client_id", random.pick(&["", "%C3%A9", "%00", "steady-1000", "a%0D%0Ab"])),
        _ => params.push(("unknown%zz".to_owned(), "%zz".to_owned())),
    }
}

fn finish(params: &Params, random: &mut Random) -> (&'static str, String, Vec<(&'static str, &'static str)>, String) {
    let method = match random.below(100) {
        0..70 => "GET",
        70..94 => "POST",
        94..97 => "HEAD",
        97..99 => "OPTIONS",
        _ => "PUT",
    };
    let mut headers = Vec::new();
    if random.percent(30) {
        headers
            .push(("accept", random.pick(&["text/html,application/xhtml+xml,*/*;q=0.8", "application/json", "*/*"])));
    }
    let (mut query, mut body) = (Vec::new(), Vec::new());
    for (name, value) in params {
        let side = if method == "POST" && random.percent(90) { &mut body } else { &mut query };
        side.push(format!("{name}={value}"));
    }
    if method == "POST" {
        headers.push(if random.percent(97) { FORM } else { JSON });
    }
    (method, query.join("&"), headers, body.join("&"))
}

/// A code becomes tokens, and they are renewed.
async fn tokens(connection: &mut Connection, random: &mut Random) -> Result<(), String> {
    let stage = Arc::clone(&connection.stage);
    let slot = &stage.slots[random.below(stage.slots.len())];
    redeem(connection, random, &slot.id, None).await
}

async fn redeem(
    connection: &mut Connection,
    random: &mut Random,
    id: &str,
    own: Option<(&Own, &str)>,
) -> Result<(), String> {
    let stage = Arc::clone(&connection.stage);
    let uri = own.map_or_else(|| uris_of(id)[0].clone(), |(_, uri)| uri.to_owned());
    let query = form(&[
        ("client_id", id),
        ("response_type", "code"),
        ("redirect_uri", &uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let own = own.map(|(own, _)| own);
    let (answer, _) = connection.check("GET", query, vec![], String::new(), own).await?;
    let location = answer.header("location");
    let Some((_, rest)) = location.split_once("?code=") else { return Ok(()) };
    count_code(&stage, &answer);
    let issued = stage.tally.codes.load(Ordering::Relaxed);
    let code = rest.split('&').next().unwrap_or_default();
    let params = |verifier| {
        form(&[
            ("grant_type", "authorization_code"),
            ("client_id", id),
            ("code", code),
            ("redirect_uri", &uri),
            ("code_verifier", verifier),
        ])
    };
    let wrong_verifier = random.percent(10);
    let verifier = if wrong_verifier { CHALLENGE } else { VERIFIER };
    let (answer, from, to) = connection.send("POST", "/token", &[FORM], &params(verifier)).await?;
    // Others may have evicted it in the meantime.
    let may_be_gone = stage.tally.codes.load(Ordering::Relaxed) >= issued + CODES / 2;
    let wanted = if wrong_verifier { Wanted::Refused } else { Wanted::Tokens { may_be_gone } };
    judge_token(&stage, id, own, &answer, (from, to), wanted)?;
    if answer.status != StatusCode::OK {
        return Ok(());
    }
    stage.tally.tokens.fetch_add(1, Ordering::Relaxed);
    let refresh_token = answer.json()["refresh_token"].as_str().unwrap_or_default().to_owned();
    if random.percent(20) {
        let (again, from, to) = connection.send("POST", "/token", &[FORM], &params(VERIFIER)).await?;
        // Used codes are the first to be pushed out, so that the tokens may stay good all the same.
        return judge_token(&stage, id, own, &again, (from, to), Wanted::Refused);
    }
    let form = form(&[("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", &refresh_token)]);
    let (answer, from, to) = connection.send("POST", "/token", &[FORM], &form).await?;
    let may_be_gone = may_be_gone || stage.tally.codes.load(Ordering::Relaxed) >= issued + CODES / 2;
    judge_token(&stage, id, own, &answer, (from, to), Wanted::Tokens { may_be_gone })
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Tokens { may_be_gone: bool },
    Refused,
}

fn judge_token(
    stage: &Stage,
    id: &str,
    own: Option<&Own>,
    answer: &Answer,
    (from, to): (Instant, Instant),
    wanted: Wanted,
) -> Result<(), String> {
    let documents = stage.documents(id, from, to, own);
    let error = || answer.json()["error"].as_str().unwrap_or_default().to_owned();
    let may_be_active = documents.iter().any(is_active);
    let is_right = match answer.status {
        StatusCode::OK => {
            matches!(wanted, Wanted::Tokens { .. }) && may_be_active && answer.json()["access_token"].is_string()
        }
        StatusCode::UNAUTHORIZED => !documents.iter().all(is_active) && error() == "invalid_client",
        StatusCode::BAD_REQUEST => {
            matches!(wanted, Wanted::Refused | Wanted::Tokens { may_be_gone: true })
                && may_be_active
                && error() == "invalid_grant"
        }
        StatusCode::SERVICE_UNAVAILABLE => stage.has_database(),
        _ => false,
    };
    let told = || format!("{}: POST /token of {id}: {wanted:?}, but {} {}", stage.name, answer.status, answer.body);
    if is_right { Ok(()) } else { Err(format!("{}\nof {documents:?}", told())) }
}

/// A client registers itself, is used, changes, and goes, or is forgotten.
async fn life(connection: &mut Connection, random: &mut Random, number: usize) -> Result<(), String> {
    let stage = Arc::clone(&connection.stage);
    let host = format!("w{number}-{:x}.example", random.number());
    let uris = [format!("https://{host}/cb"), format!("https://{host}/other")];
    let wrong = |what: &str, answer: &Answer| Err(format!("{}: {what}: {} {}", stage.name, answer.status, answer.body));
    let metadata = |uri: &str| {
        json!({
            "client_name": format!("Client at {host}"),
            "redirect_uris": [uri, "http://127.0.0.1/cb"],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        })
    };
    let is_bad = random.percent(15);
    let uri = if is_bad { "http://evil.example/cb" } else { &uris[0] };
    let (answer, ..) = connection.send("POST", "/register", &[JSON], &metadata(uri).to_string()).await?;
    match answer.status {
        StatusCode::CREATED if !is_bad => {}
        StatusCode::BAD_REQUEST if is_bad && answer.json()["error"] == "invalid_redirect_uri" => return Ok(()),
        StatusCode::SERVICE_UNAVAILABLE if stage.has_database() => return Ok(()),
        _ => return wrong("POST /register", &answer),
    }
    let registrations = stage.tally.registrations.fetch_add(1, Ordering::Relaxed);
    let registered = answer.json();
    let text = |name: &str| registered[name].as_str().unwrap_or_default().to_owned();
    let bearer =
        |registered: &Value| format!("Bearer {}", registered["registration_access_token"].as_str().unwrap_or_default());
    let (id, mut token) = (text("client_id"), bearer(&registered));
    let target = text("registration_client_uri").replacen(&stage.server.base, "", 1);
    let document = |registered: &Value| {
        let mut document = registered.clone();
        document["default_scope"] = registered["scope"].as_str().unwrap_or("profile").into();
        document["scope"] = SCOPES.into();
        Some(Arc::new(document))
    };
    if registered["redirect_uris"] != metadata(uri)["redirect_uris"] || id.is_empty() {
        return wrong("POST /register keeps something else", &answer);
    }
    let mut own = Own { id: id.clone(), document: document(&registered) };
    let asks = |uri: &str| form(&[("client_id", &id), ("response_type", "code"), ("redirect_uri", uri)]);
    for uri in &uris {
        connection.check("GET", asks(uri), vec![], String::new(), Some(&own)).await?;
    }
    if random.percent(if registrations < CAP { 90 } else { 10 }) {
        return Ok(());
    }
    if random.percent(50) {
        redeem(connection, random, &id, Some((&own, &uris[0]))).await?;
    }
    if random.percent(50) {
        let mut changed = metadata(&uris[1]);
        changed["client_id"] = id.clone().into();
        let headers = [JSON, ("authorization", &*token)];
        let (answer, ..) = connection.send("PUT", &target, &headers, &changed.to_string()).await?;
        match answer.status {
            StatusCode::OK => own.document = document(&answer.json()),
            // It may have been done, and the new token is lost.
            StatusCode::SERVICE_UNAVAILABLE if stage.has_database() => return Ok(()),
            _ => return wrong("PUT of a registration", &answer),
        }
        token = bearer(&answer.json());
        for uri in &uris {
            connection.check("GET", asks(uri), vec![], String::new(), Some(&own)).await?;
        }
    }
    // After a failure it may have been done, so that the token is good no more.
    let mut may_be_gone = false;
    loop {
        let (answer, ..) = connection.send("DELETE", &target, &[("authorization", &token)], "").await?;
        match answer.status {
            StatusCode::NO_CONTENT => break,
            StatusCode::UNAUTHORIZED if may_be_gone => break,
            StatusCode::SERVICE_UNAVAILABLE if stage.has_database() => may_be_gone = true,
            _ => return wrong("DELETE of a registration", &answer),
        }
    }
    own.document = None;
    connection.check("GET", asks(&uris[0]), vec![], String::new(), Some(&own)).await?;
    Ok(())
}
