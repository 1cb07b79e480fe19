//! Reads answers, and checks what holds for every answer.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::request::Request;

/// Checks what holds for every answer, and returns the rest.
pub(super) fn examine(request: &Request, response: &Response<Vec<u8>>) -> Result<Value, String> {
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
        None if is_confirmed(response) => confirm(error, is_head, response)?,
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
    ensure(!text.contains("evil"), "nothing of the request is shown", response)?;
    if html && !is_head {
        let plain = !text.contains("<script") && !text.contains("href") && text.contains(error);
        ensure(plain, "a page without script and links that names the error", response)?;
        ensure(allowed_by_hash("style", &text, response), "its own style", response)?;
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
    ensure(allowed_by_hash("style", &page, response), "its own style", response)?;
    let only_this = allowed_by_hash("script", &page, response);
    ensure(only_this && page.contains("<button"), "a script that is allowed by its hash, and a button", response)?;
    let fields = fields(&page, error, response)?;
    Ok(json!({ "form_post": { "action": attribute(&page, "action"), "fields": fields } }))
}

/// The hidden fields of a form but for the description.
fn fields(page: &str, error: &str, response: &Response<Vec<u8>>) -> Result<Map<String, Value>, String> {
    let mut fields: Map<_, _> = page
        .split("<input ")
        .skip(1)
        .filter_map(|input| Some((attribute(&format!(" {input}"), "name")?, attribute(input, "value")?.into())))
        .collect();
    ensure(fields.get("error").is_some_and(|field| field == error), "the form names the error", response)?;
    let description = fields.remove("error_description");
    let described = description.is_some_and(|text: Value| text.as_str().is_some_and(is_description));
    ensure(described, "a description", response)?;
    Ok(fields)
}

fn attribute(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!(" {name}=\""))?;
    Some(unescape(rest.split_once('"')?.0))
}

/// Whether this is the page that lets the user decide.
fn is_confirmed(response: &Response<Vec<u8>>) -> bool {
    let html = header(response, header::CONTENT_TYPE) == Some("text/html; charset=utf-8");
    html && header(response, "x-delivery") == Some("confirm")
}

/// A page with one link or one form, and no script.
fn confirm(error: &str, is_head: bool, response: &Response<Vec<u8>>) -> Result<Value, String> {
    if is_head {
        return Ok(json!({ "confirm": {} }));
    }
    let page = String::from_utf8_lossy(response.body());
    ensure(allowed_by_hash("style", &page, response), "its own style", response)?;
    let policy = header(response, header::CONTENT_SECURITY_POLICY).unwrap_or_default();
    ensure(!page.contains("<script") && policy.contains("script-src 'none'"), "no script", response)?;
    ensure(page.contains(error) && page.contains("not your fault"), "the page says what happened", response)?;
    let (links, forms) = (page.matches("<a ").count(), page.matches("<form ").count());
    ensure(links + forms == 1, "one link or form", response)?;
    let named = page.split_once("<strong>").and_then(|(_, rest)| rest.split_once("</strong>"));
    let mut observed = json!({ "destination": named.map(|(name, _)| unescape(name)) });
    if let Some(link) = attribute(&page, "href") {
        let link = redirect(error, &link, response)?;
        observed["mode"] = link["redirect"]["mode"].clone();
        observed["location"] = link["redirect"]["location"].clone();
    } else {
        observed["action"] = attribute(&page, "action").into();
        observed["fields"] = fields(&page, error, response)?.into();
    }
    Ok(json!({ "confirm": observed }))
}

/// The one such element of the page is what the policy allows.
fn allowed_by_hash(element: &str, page: &str, response: &Response<Vec<u8>>) -> bool {
    let content =
        page.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    let hash = BASE64_STANDARD.encode(Sha256::digest(content.map_or("", |(content, _)| content)));
    let policy = header(response, header::CONTENT_SECURITY_POLICY).unwrap_or_default();
    page.matches(&format!("<{element}")).count() == 1 && policy.contains(&format!("{element}-src 'sha256-{hash}';"))
}

fn unescape(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.into_iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// An answer as it came over the wire.
pub(super) fn parse(answer: &[u8]) -> Result<Response<Vec<u8>>, String> {
    read(answer).ok_or_else(|| format!("unreadable: {}", String::from_utf8_lossy(answer)))
}

fn read(answer: &[u8]) -> Option<Response<Vec<u8>>> {
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
