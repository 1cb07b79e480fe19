//! The same requests over sockets, byte for byte as they stand in the cases.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::{map_request, map_response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::{ServiceBuilder, service_fn};
use tower_oauth_client_validation::{
    ClientValidationLayer, Rejection, ReportedOutcome, UnregisteredClient, ValidatedRequest, registry_fn,
};
use url::form_urlencoded;

use super::Vector;
use super::setup::{Clients, describe, policy};

/// A request as it goes out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default)]
    method: Option<String>,
    /// Without `?`; a missing one is not an empty one.
    query: Option<String>,
    body: Option<String>,
    /// Of a request with a body, unless `headers` has one.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Adds bytes of an unrecognised parameter to the body, until it is this long.
    pad_body_to: Option<usize>,
    /// How the length of the body is told.
    #[serde(default)]
    framing: Framing,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Framing {
    /// `Content-Length`
    #[default]
    Length,
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// Chunked, with a second chunk that has no length.
    BrokenChunk,
    /// `Content-Length`, and nothing of the body.
    LengthOnly,
}

/// One byte for each character.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("U+0000-00FF only")).collect()
}

impl Request {
    pub(super) fn method(&self) -> Method {
        self.method.as_deref().unwrap_or("GET").parse().unwrap()
    }

    pub(super) fn query(&self) -> Vec<u8> {
        bytes(self.query.as_deref().unwrap_or_default())
    }

    fn body(&self) -> Vec<u8> {
        let mut body = bytes(self.body.as_deref().unwrap_or_default());
        if let Some(length) = self.pad_body_to {
            body.extend_from_slice(b"&pad=");
            body.resize(length, b'x');
        }
        body
    }

    /// The part of the body that holds parameters.
    pub(super) fn parameters_of_body(&self) -> Vec<u8> {
        if self.method() == Method::POST { self.body() } else { Vec::new() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let body = self.body();
        let mut out = format!("{} /authorize", self.method()).into_bytes();
        if self.query.is_some() {
            out.push(b'?');
            out.extend(self.query());
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n");
        let mut header = |name: &str, value: &str| {
            out.extend_from_slice(format!("{name}: ").as_bytes());
            out.extend(bytes(value));
            out.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.headers {
            header(name, value);
        }
        if self.body.is_some() {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                header("Content-Type", "application/x-www-form-urlencoded");
            }
            match self.framing {
                Framing::Length | Framing::LengthOnly => header("Content-Length", &body.len().to_string()),
                Framing::Chunked | Framing::BrokenChunk => header("Transfer-Encoding", "chunked"),
            }
        }
        out.extend_from_slice(b"\r\n");
        match self.framing {
            Framing::Length => out.extend(body),
            Framing::LengthOnly => {}
            Framing::Chunked | Framing::BrokenChunk => {
                out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                out.extend(body);
                let last = if self.framing == Framing::Chunked { "\r\n0\r\n\r\n" } else { "\r\nno length\r\n" };
                out.extend_from_slice(last.as_bytes());
            }
        }
        out
    }
}

#[derive(Clone, Copy)]
pub(super) enum Server {
    /// `Router::route_layer`, bodies as they are.
    Axum,
    /// hyper's own bodies, wrapped.
    Hyper,
}

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Hyper => "hyper",
        }
    }

    /// A server with the policy and the clients of this case.
    async fn start(self, vector: &Vector) -> (SocketAddr, JoinHandle<()>) {
        let clients = Clients::of(vector);
        let registry = registry_fn(move |client_id: String| {
            let found = clients.find(&client_id);
            async move { found.map(|client| client.map(Arc::new)) }
        });
        let mut layer =
            ClientValidationLayer::new(registry).policy(policy(&vector.policy)).report_only(vector.layer.report_only);
        if let Some(bytes) = vector.layer.body_limit {
            layer = layer.body_limit(bytes);
        }
        let outer_limit = vector.layer.outer_limit.unwrap_or(usize::MAX);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = match self {
            Self::Axum => {
                let limit = move |request: axum::extract::Request| async move {
                    request.map(|body| Body::new(Limited::new(body, outer_limit)))
                };
                let router = Router::new()
                    .route_service("/authorize", service_fn(inner::<Body>))
                    .route_layer(layer)
                    .layer(map_request(limit))
                    .layer(map_response(async |response: Response<Body>| expose_rejection(response)));
                tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
            }
            Self::Hyper => {
                let service = ServiceBuilder::new()
                    .map_response(expose_rejection)
                    .map_request(move |request: http::Request<hyper::body::Incoming>| {
                        request.map(|body| Limited::new(body, outer_limit))
                    })
                    .layer(layer.wrap_bodies())
                    .service_fn(inner);
                tokio::spawn(async move {
                    let (stream, _) = listener.accept().await.unwrap();
                    let connection =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
                    // A broken request ends the connection with an error, as it should.
                    let _ = connection.await;
                })
            }
        };
        (address, task)
    }
}

/// Tells what it got: the extensions in `x-inner`, the query in `x-query`, and the body as it came.
async fn inner<B>(request: http::Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body<Data = Bytes>,
{
    let (parts, body) = request.into_parts();
    let validated = parts.extensions.get::<ValidatedRequest>().map(|validated| describe(validated, &parts.method));
    let told = if let Some(outcome) = parts.extensions.get::<ReportedOutcome>() {
        json!({ "reported": match outcome {
            ReportedOutcome::Accepted => json!({ "outcome": "accepted", "validated": validated.is_some() }),
            ReportedOutcome::Rejected(rejection) => {
                json!({ "outcome": "rejected", "validated": validated.is_some(), "reason": rejection.reason().as_str() })
            }
            _ => json!({ "outcome": "forwarded", "validated": validated.is_some() }),
        }})
    } else if let Some(unknown) = parts.extensions.get::<UnregisteredClient>() {
        json!({ "forwarded": { "client_id": unknown.client_id(), "validated": validated.is_some() } })
    } else if let Some(validated) = validated {
        json!({ "accepted": validated })
    } else {
        json!({ "untouched": {} })
    };
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert("x-inner", HeaderValue::from_bytes(told.to_string().as_bytes()).unwrap());
    if let Some(query) = parts.uri.query() {
        response.headers_mut().insert("x-query", HeaderValue::from_bytes(query.as_bytes()).unwrap());
    }
    Ok(response)
}

/// Makes the rejection in the response's extensions visible over the wire.
fn expose_rejection<B>(mut response: Response<B>) -> Response<B> {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        let (error, reason) = (rejection.error().as_str(), rejection.reason().as_str());
        let headers = response.headers_mut();
        headers.insert("x-error", HeaderValue::from_static(error));
        headers.insert("x-reason", HeaderValue::from_static(reason));
    }
    response
}

/// Sends the request of a case, and tells what came of it.
pub(super) async fn observe(server: Server, vector: &Vector) -> Result<Value, String> {
    let (address, task) = server.start(vector).await;
    let exchange = exchange(address, vector.request.to_bytes());
    let answer = tokio::time::timeout(Duration::from_secs(60), exchange).await;
    task.abort();
    let answer = answer.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    let response = parse(&answer).ok_or_else(|| format!("unreadable: {}", String::from_utf8_lossy(&answer)))?;
    examine(&vector.request, &response)
}

async fn exchange(address: SocketAddr, request: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Response<Vec<u8>>> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut response = Response::new(answer[end + 4..].to_vec());
    *response.status_mut() = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(response)
}

fn header(response: &Response<Vec<u8>>, name: impl header::AsHeaderName) -> Option<&str> {
    response.headers().get(name).map(|value| std::str::from_utf8(value.as_bytes()).unwrap())
}

fn ensure(holds: bool, rule: &str, response: &Response<Vec<u8>>) -> Result<(), String> {
    let body = String::from_utf8_lossy(response.body());
    if holds { Ok(()) } else { Err(format!("{rule}: {} {:?} {body}", response.status(), response.headers())) }
}

/// Checks what holds for every answer, and tells the rest.
fn examine(request: &Request, response: &Response<Vec<u8>>) -> Result<Value, String> {
    ensure(!response.headers().contains_key(header::TRANSFER_ENCODING), "the length is known", response)?;
    let is_head = request.method() == Method::HEAD;
    ensure(!is_head || response.body().is_empty(), "no body for HEAD", response)?;
    if let Some(told) = header(response, "x-inner") {
        let query = request.query.as_ref().map(|_| request.query());
        let same_query = header(response, "x-query").map(str::as_bytes) == query.as_deref();
        ensure(same_query, "the query reaches the inner service as it came", response)?;
        let same_body = is_head || *response.body() == request.body();
        ensure(same_body, "the body reaches the inner service as it came", response)?;
        return serde_json::from_str(told).map_err(|error| error.to_string());
    }
    security_headers(response.headers())?;
    let error = header(response, "x-error").ok_or_else(|| format!("no rejection in {response:?}"))?;
    let mut observed = match header(response, header::LOCATION) {
        Some(location) => redirect(error, location, response)?,
        None if response.status() == StatusCode::OK => form_post(error, is_head, response)?,
        None => direct(error, is_head, response)?,
    };
    let members = observed.as_object_mut().and_then(|observed| observed.values_mut().next()).unwrap();
    members["status"] = response.status().as_u16().into();
    members["error"] = error.into();
    members["reason"] = header(response, "x-reason").into();
    Ok(observed)
}

/// Each once, and for pages a content security policy.
pub(super) fn security_headers(headers: &HeaderMap) -> Result<(), String> {
    let once = |name: &str, value: &str| headers.get_all(name).iter().eq([value]);
    let all = once("cache-control", "no-store")
        && once("pragma", "no-cache")
        && once("referrer-policy", "no-referrer")
        && once("x-content-type-options", "nosniff");
    let is_page = headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let policy = headers.get("content-security-policy").map_or("", |policy| policy.to_str().unwrap());
    let guarded = policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'");
    if all && (guarded || !is_page) { Ok(()) } else { Err(format!("security headers are missing: {headers:?}")) }
}

/// RFC 6749 §4.1.2.1
fn is_description(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

fn direct(error: &str, is_head: bool, response: &Response<Vec<u8>>) -> Result<Value, String> {
    let html = header(response, header::CONTENT_TYPE) == Some("text/html; charset=utf-8");
    let json = header(response, header::CONTENT_TYPE) == Some("application/json");
    ensure(html || json, "JSON or a page", response)?;
    let mut observed = json!({
        "html": html,
        "allow": header(response, header::ALLOW),
        "retry_after": header(response, header::RETRY_AFTER).is_some(),
        "length_told": header(response, header::CONTENT_LENGTH).is_some_and(|length| length != "0"),
    });
    let text = String::from_utf8_lossy(response.body());
    if html && !is_head {
        let plain = !text.contains("<script") && !text.contains("href") && text.contains(error);
        ensure(plain, "a page without script and links that names the error", response)?;
        observed["page"] = text.into();
    } else if !is_head {
        let body: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        ensure(body["error"] == error, "the body names the error", response)?;
        ensure(body["error_description"].as_str().is_some_and(is_description), "a description", response)?;
        observed["error_uri"] = body["error_uri"].clone();
        observed["description"] = body["error_description"].clone();
    }
    Ok(json!({ "direct": observed }))
}

fn redirect(error: &str, location: &str, response: &Response<Vec<u8>>) -> Result<Value, String> {
    let mark = "error_description=";
    let at = location.rfind(mark).map(|at| at + mark.len()).ok_or_else(|| format!("no description: {location}"))?;
    let end = location[at..].find('&').map_or(location.len(), |end| at + end);
    let pair = form_urlencoded::parse(&location.as_bytes()[at - mark.len()..end]).next();
    ensure(pair.is_some_and(|(_, text)| is_description(&text)), "a description", response)?;
    ensure(location.contains(&format!("error={error}&")), "the Location names the error", response)?;
    let mode = if location.contains('#') { "fragment" } else { "query" };
    let shown = format!("{}{{description}}{}", &location[..at], &location[end..]);
    Ok(json!({ "redirect": { "mode": mode, "location": shown } }))
}

fn form_post(error: &str, is_head: bool, response: &Response<Vec<u8>>) -> Result<Value, String> {
    if is_head {
        return Ok(json!({ "form_post": {} }));
    }
    let page = String::from_utf8_lossy(response.body());
    let script =
        page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>")).map(|(script, _)| script);
    let hash = BASE64_STANDARD.encode(Sha256::digest(script.unwrap_or_default()));
    let policy = header(response, header::CONTENT_SECURITY_POLICY).unwrap_or_default();
    let only_this = page.matches("<script").count() == 1 && policy.contains(&format!("script-src 'sha256-{hash}';"));
    ensure(only_this && page.contains("<button"), "a script that is allowed by its hash, and a button", response)?;
    let attribute = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!(" {name}=\""))?;
        Some(unescape(rest.split_once('"')?.0))
    };
    let mut fields: serde_json::Map<_, _> = page
        .split("<input ")
        .skip(1)
        .filter_map(|input| Some((attribute(&format!(" {input}"), "name")?, attribute(input, "value")?.into())))
        .collect();
    ensure(fields.get("error").is_some_and(|field| field == error), "the form names the error", response)?;
    let description = fields.remove("error_description");
    let described = description.is_some_and(|text: Value| text.as_str().is_some_and(is_description));
    ensure(described, "a description", response)?;
    Ok(json!({ "form_post": { "action": attribute(&page, "action"), "fields": fields } }))
}

fn unescape(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.into_iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}
