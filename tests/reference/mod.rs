//! A second implementation of the rules, written for readability.
//!
//! Nothing of the crate is used here, so that a mistake has to be made twice to go unnoticed. Neither speed nor
//! allocations count. Answers have the shape in which the vectors observe them.

mod openid;
pub(crate) mod redirect_uri;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use url::form_urlencoded;

/// A request as a server sees it.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) query: &'a [u8],
    pub(crate) headers: &'a [(String, Vec<u8>)],
    pub(crate) body: &'a [u8],
    pub(crate) max_body_bytes: usize,
}

/// What the registry has under an id.
pub(crate) enum Found<'a> {
    Client(&'a Value),
    Nothing,
    Outage,
    Fault,
}

/// What `asked` gets. `policy` is as the vectors have it, and so are clients.
pub(crate) fn decide<'a>(
    policy: &Map<String, Value>,
    find: impl FnOnce(&str) -> Found<'a>,
    asked: &Asked<'_>,
) -> Value {
    let policy = Settings(policy);
    match outcome(policy, find, asked) {
        Ok(value) => value,
        Err(Refused::Direct(status, error)) => direct(policy, asked, status, error),
        Err(Refused::Redirect(error, to)) => redirect(policy, asked, error, &to),
    }
}

enum Refused {
    Direct(u16, &'static str),
    Redirect(&'static str, Target),
}

/// Where an error goes once the redirect URI is proven.
#[derive(Clone)]
struct Target {
    uri: String,
    mode: &'static str,
    state: Option<String>,
    /// A dynamic client that is not trusted.
    stranger: bool,
}

const INVALID_REQUEST: &str = "invalid_request";

fn outcome<'a>(
    policy: Settings<'_>,
    find: impl FnOnce(&str) -> Found<'a>,
    asked: &Asked<'_>,
) -> Result<Value, Refused> {
    let mut bytes = asked.query.to_vec();
    match asked.method {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Ok(json!({ "untouched": {} })),
        "POST" => {
            if !is_form(asked) {
                return Err(Refused::Direct(400, INVALID_REQUEST));
            }
            if asked.body.len() > asked.max_body_bytes {
                return Err(Refused::Direct(413, INVALID_REQUEST));
            }
            let declared = openid::declared(policy);
            if Parameters::read(asked.query).names_one(&declared) && Parameters::read(asked.body).names_one(&declared) {
                return Err(Refused::Direct(400, INVALID_REQUEST));
            }
            bytes.push(b'&');
            bytes.extend_from_slice(asked.body);
        }
        _ => return Err(Refused::Direct(405, INVALID_REQUEST)),
    }
    let parameters = Parameters::read(&bytes);

    // Row 1.
    let client_id = match parameters.get("client_id") {
        Ok(Some(id)) if id.bytes().all(|byte| (0x20..=0x7E).contains(&byte)) => id,
        _ => return Err(Refused::Direct(400, INVALID_REQUEST)),
    };
    // Row 2.
    let client = match find(&client_id) {
        Found::Client(client) => client,
        Found::Nothing if policy.is("unknown_clients", "forward") => {
            return Ok(json!({ "forwarded": { "client_id": client_id, "validated": false } }));
        }
        Found::Nothing => return Err(Refused::Direct(400, "invalid_client")),
        Found::Outage => return Err(Refused::Direct(503, "temporarily_unavailable")),
        Found::Fault => return Err(Refused::Direct(500, "server_error")),
    };
    let client = Registered(client);
    if client.text("client_id") != Some(&client_id) {
        return Err(Refused::Direct(500, "server_error"));
    }
    // Row 3.
    let expired = client.0["expires_at"].as_u64().is_some_and(|end| end != 0 && end <= now());
    if client.flag("disabled") || client.flag("revoked") || expired {
        return Err(Refused::Direct(400, "invalid_client"));
    }
    // Row 4.
    let requested = match parameters.get("redirect_uri") {
        Ok(requested) => requested,
        Err(Faulty) => return Err(Refused::Direct(400, INVALID_REQUEST)),
    };
    let explicit = requested.is_some();
    let uris: BTreeSet<&str> = client.uris().collect();
    let redirect_uri = match requested {
        Some(requested) => {
            let any_port = |uri: &str| match policy.text("loopback_ports") {
                Some("ip_literals") => !uri.starts_with("http://localhost"),
                Some("exact") => false,
                Some("native_clients") => client.text("application_type") == Some("native"),
                _ => true,
            };
            uris.iter().any(|uri| redirect_uri::admits(uri, &requested, any_port(uri))).then_some(requested)
        }
        None if uris.len() == 1 && !policy.flag("redirect_uri_required") => {
            uris.first().filter(|uri| !uri.contains(":*")).map(|&uri| uri.to_owned())
        }
        None => None,
    };
    let Some(redirect_uri) = redirect_uri else {
        return Err(Refused::Direct(400, INVALID_REQUEST));
    };

    // From here on the error can go to the redirect URI.
    let type_asked = parameters.get("response_type").unwrap_or(None).unwrap_or_default();
    let names_token = type_asked.split(' ').any(|word| word == "token" || word == "id_token");
    let default_mode = if names_token { "fragment" } else { "query" };
    let mode_asked = parameters.get("response_mode");
    let mode = match mode_asked.clone().unwrap_or(None).as_deref() {
        Some("fragment") => "fragment",
        Some("form_post") => "form_post",
        Some("query") if !names_token => "query",
        _ => default_mode,
    };
    let state = parameters.get("state").unwrap_or(None);
    let target = Target {
        uri: redirect_uri.clone(),
        mode,
        state: state.clone(),
        stranger: client.flag("dynamic") && !client.flag("trusted"),
    };
    let refuse = |error| Err(Refused::Redirect(error, target.clone()));

    // Row 5.
    for name in SINGLE {
        if parameters.get(name).is_err() {
            return refuse(INVALID_REQUEST);
        }
    }
    let Ok(resources) = parameters.all("resource") else {
        return refuse(INVALID_REQUEST);
    };
    let declared = openid::declared(policy);
    if declared.iter().any(|name| parameters.get(name).is_err()) {
        return refuse(INVALID_REQUEST);
    }
    let get = |name| parameters.get(name).unwrap_or(None);
    // Row 6.
    let (object, object_uri) = (get("request").is_some(), get("request_uri").is_some());
    let forwards = policy.is("request_objects", "forward");
    if object && (!forwards || object_uri) {
        return refuse("request_not_supported");
    }
    if object_uri && !forwards {
        return refuse("request_uri_not_supported");
    }
    // Row 7.
    if type_asked.is_empty() {
        return refuse(INVALID_REQUEST);
    }
    let Some(response_type) = response_type(&type_asked) else {
        return refuse("unsupported_response_type");
    };
    if !names_type(policy.texts("response_types"), response_type) {
        return refuse("unsupported_response_type");
    }
    let grant_types = client.texts("grant_types").unwrap_or_else(|| vec!["authorization_code"]);
    let words: Vec<&str> = response_type.split(' ').collect();
    if !names_type(client.texts("response_types"), response_type)
        || (words.contains(&"code") && !grant_types.contains(&"authorization_code"))
        || (names_token && !grant_types.contains(&"implicit"))
    {
        return refuse("unauthorized_client");
    }
    // Row 8.
    let mode_is_right = match mode_asked.unwrap_or(None).as_deref() {
        None | Some("fragment" | "form_post") => true,
        Some("query") => !names_token,
        Some(_) => false,
    };
    if !mode_is_right {
        return Err(Refused::Redirect(INVALID_REQUEST, Target { mode: default_mode, ..target }));
    }
    // Row 9.
    let Some(scope) = scope(policy, client, get("scope")) else {
        return refuse("invalid_scope");
    };
    // Row 10.
    let offers_none =
        client.texts("token_endpoint_auth_methods_supported").is_some_and(|methods| methods.contains(&"none"));
    let is_public = offers_none || client.text("token_endpoint_auth_method") == Some("none");
    let (challenge, method) = (get("code_challenge"), get("code_challenge_method"));
    let pkce_is_right = match (&challenge, method.as_deref()) {
        (None, Some(_)) => false,
        (None, None) => match policy.text("pkce") {
            Some("required") => false,
            Some("required_for_public_clients") => !is_public,
            _ => true,
        },
        (Some(challenge), method) => {
            let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            (43..=128).contains(&challenge.len())
                && challenge.bytes().all(unreserved)
                && match method {
                    Some("S256") => true,
                    Some("plain") | None => policy.flag("plain_pkce"),
                    Some(_) => false,
                }
        }
    };
    if !pkce_is_right {
        return refuse(INVALID_REQUEST);
    }
    // Row 11.
    let allowed = policy.texts("resources");
    let mut granted = Vec::new();
    for resource in &resources {
        let spelled = match &allowed {
            None => Some(resource.clone()),
            Some(allowed) => allowed
                .iter()
                .find(|ours| plain_resource(ours) == plain_resource(resource))
                .map(|ours| (*ours).to_owned()),
        };
        match spelled {
            Some(spelled) if redirect_uri::is_absolute_uri(resource) => granted.push(spelled),
            _ => return refuse("invalid_target"),
        }
    }
    if resources.is_empty() && policy.flag("resource_required") {
        return refuse("invalid_target");
    }
    // Row 11a.
    let extension = |name: &str| declared.contains(name).then(|| parameters.get(name).unwrap_or(None)).flatten();
    if let Err(error) = openid::check(policy, client, &extension, &words, &scope, get("nonce").is_some()) {
        return refuse(error);
    }
    let extensions: Map<String, Value> =
        declared.iter().filter_map(|name| Some(((*name).to_owned(), extension(name)?.into()))).collect();
    // Row 12.
    for validator in policy.texts("validators").unwrap_or_default() {
        match validator {
            "nonce" if get("nonce").is_none() => return refuse("access_denied"),
            "state" if state.is_none() => return refuse("login_required"),
            _ => {}
        }
    }

    let method = challenge.as_ref().map(|_| method.unwrap_or_else(|| "plain".to_owned()));
    let mut answer = vec![("code", "c d")];
    if let Some(state) = &state {
        answer.push(("state", state));
    }
    if let Some(issuer) = policy.text("issuer") {
        answer.push(("iss", issuer));
    }
    let success = (mode != "form_post").then(|| location(&redirect_uri, mode, &answer));
    Ok(json!({ "accepted": {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "explicit": explicit,
        "scope": scope,
        "response_type": response_type,
        "response_mode": mode,
        "state": state,
        "nonce": get("nonce"),
        "code_challenge": challenge,
        "code_challenge_method": method,
        "resources": granted,
        "requested_resources": resources,
        "prompts": openid::prompts(&extension),
        "max_age": openid::max_age(&extension),
        "authorization_details": openid::authorization_details(&extension),
        "dpop_jkt": extension("dpop_jkt"),
        "extensions": extensions,
        "success": success,
        "success_status": status_of_answer(asked.method, mode),
        "success_headers_fault": null,
    }}))
}

/// A resource as it is compared: scheme and host in lower case, and `/` for an empty path after a host.
fn plain_resource(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once(':') else { return uri.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    let Some(rest) = rest.strip_prefix("//") else { return format!("{scheme}:{rest}") };
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, place) = authority.rsplit_once('@').map_or(("", authority), |(user, place)| (user, place));
    let user = if place.len() < authority.len() { format!("{user}@") } else { String::new() };
    // A port has no letters.
    let place = place.to_ascii_lowercase();
    let slash = if rest.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{user}{place}{slash}{rest}")
}

/// The same words in another order are the same type.
fn names_type(list: Option<Vec<&str>>, response_type: &str) -> bool {
    list.unwrap_or_else(|| vec!["code"]).into_iter().any(|name| self::response_type(name) == Some(response_type))
}

/// One media type, in any case, and no content coding: what the layer reads is what others read.
fn is_form(asked: &Asked<'_>) -> bool {
    let values = |name: &str| -> Vec<String> {
        let named = asked.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    };
    let trimmed = |text: &str| text.trim_matches([' ', '\t']).to_ascii_lowercase();
    let types = values("content-type");
    let is_type =
        |value: &str| value.split(';').next().is_some_and(|name| trimmed(name) == "application/x-www-form-urlencoded");
    let codings = values("content-encoding");
    types.len() == 1 && is_type(&types[0]) && codings.iter().all(|coding| trimmed(coding) == "identity")
}

/// Those of which one is allowed.
const SINGLE: [&str; 11] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];

/// A value that is repeated, does not decode, or holds what it must not.
#[derive(Clone, Copy, Debug)]
struct Faulty;

/// Each pair: the decoded name, and the value where it decodes.
struct Parameters(Vec<(Vec<u8>, Result<String, Faulty>)>);

impl Parameters {
    fn read(bytes: &[u8]) -> Self {
        let pairs = bytes.split(|&byte| byte == b'&').map(|pair| {
            let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let value = decoded(value).and_then(|value| String::from_utf8(value).ok());
            (decoded(name).unwrap_or_default(), value.ok_or(Faulty))
        });
        Self(pairs.collect())
    }

    /// Whether there is a recognized parameter, be it empty.
    fn names_one(&self, declared: &BTreeSet<&str>) -> bool {
        SINGLE.into_iter().chain(["resource"]).chain(declared.iter().copied()).any(|name| !self.copies(name).is_empty())
    }

    fn copies(&self, name: &str) -> Vec<Result<String, Faulty>> {
        self.0.iter().filter(|(given, _)| given == name.as_bytes()).map(|(_, value)| value.clone()).collect()
    }

    fn get(&self, name: &str) -> Result<Option<String>, Faulty> {
        match &self.copies(name)[..] {
            [] => Ok(None),
            [Ok(value)] if value.is_empty() => Ok(None),
            [Ok(value)] if matches!(name, "state" | "nonce") && value.chars().any(is_control) => Err(Faulty),
            [value] => value.clone().map(Some),
            _ => Err(Faulty),
        }
    }

    fn all(&self, name: &str) -> Result<Vec<String>, Faulty> {
        let values: Result<Vec<String>, Faulty> = self.copies(name).into_iter().collect();
        Ok(values?.into_iter().filter(|value| !value.is_empty()).collect())
    }
}

fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{1F}' | '\u{7F}')
}

/// `None` when an escape is broken.
fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &after[2..];
            }
            byte => out.push(*byte),
        }
    }
    Some(out)
}

/// The words in the order in which they are registered (OAuth 2.0 Multiple Response Type Encoding Practices).
fn response_type(value: &str) -> Option<&'static str> {
    let words: Vec<&str> = value.split(' ').collect();
    let set: BTreeSet<&str> = words.iter().copied().collect();
    if set.len() != words.len() {
        return None;
    }
    let known =
        ["code", "token", "id_token", "none", "code id_token", "code token", "id_token token", "code id_token token"];
    known.into_iter().find(|known| known.split(' ').collect::<BTreeSet<&str>>() == set)
}

/// The scopes that are granted, `None` where the request is refused.
fn scope(policy: Settings<'_>, client: Registered<'_>, asked: Option<String>) -> Option<String> {
    // An unlisted client takes that of the policy, where there is one.
    let all_supported = policy.flag("unlisted_scopes").then(|| policy.text("supported_scopes").unwrap_or("*"));
    let unlisted = all_supported.or(policy.text("unlisted_scopes"));
    let allowed = client.text("scope").or(unlisted).unwrap_or_default();
    let supported = policy.text("supported_scopes").unwrap_or("*");
    let covers = |list: &str, token: &str| {
        words(list).any(|allowed| match policy.text("scope_matcher") {
            _ if allowed == "*" => true,
            Some("prefix") => token.starts_with(allowed),
            _ => token == allowed,
        })
    };
    let Some(asked) = asked else {
        let all = words(allowed).any(|token| token == "*");
        let default = client.text("default_scope").unwrap_or(if all { "" } else { allowed });
        let granted: Vec<&str> = words(default).filter(|token| covers(supported, token)).collect();
        return (!policy.flag("scope_required")).then(|| without_repeats(&granted));
    };
    let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let tokens: Vec<&str> = asked.split(' ').collect();
    if tokens.iter().any(|token| token.is_empty() || !token.bytes().all(legal) || *token == "*") {
        return None;
    }
    let granted: Vec<&str> =
        tokens.iter().copied().filter(|token| covers(allowed, token) && covers(supported, token)).collect();
    let enough = if policy.is("scope_excess", "narrow") { !granted.is_empty() } else { granted.len() == tokens.len() };
    enough.then(|| without_repeats(&granted))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(' ').filter(|word| !word.is_empty())
}

fn without_repeats(tokens: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for token in tokens {
        if !kept.contains(token) {
            kept.push(token);
        }
    }
    kept.join(" ")
}

fn direct(policy: Settings<'_>, asked: &Asked<'_>, status: u16, error: &str) -> Value {
    let mut told = json!({
        "status": status,
        "error": error,
        "allow": (status == 405).then_some("GET, HEAD, POST, OPTIONS"),
        "retry_after": status == 503,
    });
    if let Some(html) = wants_page(asked) {
        told["html"] = html.into();
        if !html && asked.method != "HEAD" {
            told["error_uri"] = policy.text("error_uri").into();
        }
    }
    json!({ "direct": told })
}

/// Whether `text/html` is preferred to `application/json`; `None` for headers whose reading is nowhere laid down.
fn wants_page(asked: &Asked<'_>) -> Option<bool> {
    let mut values = Vec::new();
    for (_, value) in asked.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("accept")) {
        values.push(std::str::from_utf8(value).ok()?);
    }
    // (range, quality in thousandths)
    let mut ranges = Vec::new();
    for part in values.iter().flat_map(|value| value.split(',')) {
        let mut pieces = part.split(';').map(|piece| piece.trim_matches([' ', '\t']).to_ascii_lowercase());
        let range = pieces.next()?;
        let known = ["text/html", "text/*", "application/json", "application/*", "*/*"];
        let other = range.split_once('/').is_some_and(|(kind, name)| {
            [kind, name].iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        });
        if !known.contains(&&*range) && !other {
            return None;
        }
        let quality = match (pieces.next().as_deref(), pieces.next()) {
            (None | Some("q=1"), None) => 1_000,
            (Some("q=0"), None) => 0,
            (Some(q), None) => {
                let digits = q.strip_prefix("q=0.")?;
                if !(1..=3).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                    return None;
                }
                format!("{digits:0<3}").parse::<u32>().ok()?
            }
            _ => return None,
        };
        if ranges.iter().any(|(seen, _)| *seen == range) {
            return None;
        }
        ranges.push((range, quality));
    }
    let quality = |names: [&str; 3]| {
        let of = |name: &str| ranges.iter().find(|(range, _)| range == name).map(|(_, quality)| *quality);
        names.into_iter().find_map(of).unwrap_or(0)
    };
    Some(quality(["text/html", "text/*", "*/*"]) > quality(["application/json", "application/*", "*/*"]))
}

fn redirect(policy: Settings<'_>, asked: &Asked<'_>, error: &'static str, to: &Target) -> Value {
    match policy.text("redirect_errors") {
        Some("never") => return direct(policy, asked, 400, error),
        Some("always") => {}
        _ if !to.stranger => {}
        _ => match wants_page(asked) {
            Some(true) => return confirm(policy, asked, error, to),
            Some(false) => return direct(policy, asked, 400, error),
            // A page or JSON.
            None => return json!({ "either": {} }),
        },
    }
    let answer = error_parameters(policy, error, to);
    let status = status_of_answer(asked.method, to.mode);
    if to.mode == "form_post" {
        let mut told = json!({ "error": error, "status": status });
        if asked.method != "HEAD" {
            told["action"] = to.uri.clone().into();
            told["fields"] = fields(&answer);
        }
        return json!({ "form_post": told });
    }
    let location = location(&to.uri, to.mode, &answer).replacen("%7Bdescription%7D", "{description}", 1);
    json!({ "redirect": { "error": error, "status": status, "mode": to.mode, "location": location } })
}

/// The page that lets the user decide.
fn confirm(policy: Settings<'_>, asked: &Asked<'_>, error: &'static str, to: &Target) -> Value {
    let mut told = json!({ "error": error, "status": 400 });
    if asked.method == "HEAD" {
        return json!({ "confirm": told });
    }
    let (scheme, rest) = to.uri.split_once(':').unwrap_or_default();
    let destination = match rest.strip_prefix("//") {
        Some(rest) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") => {
            rest.split(['/', '?']).next().unwrap_or_default().to_owned()
        }
        _ => format!("the application that opens {scheme}: links"),
    };
    told["destination"] = destination.into();
    let answer = error_parameters(policy, error, to);
    if to.mode == "form_post" {
        told["action"] = to.uri.clone().into();
        told["fields"] = fields(&answer);
    } else {
        told["mode"] = to.mode.into();
        told["location"] = location(&to.uri, to.mode, &answer).replacen("%7Bdescription%7D", "{description}", 1).into();
    }
    json!({ "confirm": told })
}

/// `{description}` stands for any text.
fn error_parameters<'a>(policy: Settings<'a>, error: &'static str, to: &'a Target) -> Vec<(&'static str, &'a str)> {
    let mut answer = vec![("error", error), ("error_description", "{description}")];
    if let Some(uri) = policy.text("error_uri") {
        answer.push(("error_uri", uri));
    }
    if let Some(state) = &to.state {
        answer.push(("state", state));
    }
    if let Some(issuer) = policy.text("issuer") {
        answer.push(("iss", issuer));
    }
    answer
}

fn fields(answer: &[(&str, &str)]) -> Value {
    let fields = answer.iter().filter(|(name, _)| *name != "error_description");
    fields.map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect::<Map<_, _>>().into()
}

fn status_of_answer(method: &str, mode: &str) -> u16 {
    match (mode, method) {
        ("form_post", _) => 200,
        (_, "POST") => 303,
        _ => 302,
    }
}

fn location(uri: &str, mode: &str, answer: &[(&str, &str)]) -> String {
    let joint = match uri.split_once('?') {
        _ if mode == "fragment" => "#",
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let pairs: Vec<String> = answer
        .iter()
        .map(|(name, value)| {
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            format!("{name}={value}")
        })
        .collect();
    format!("{uri}{joint}{}", pairs.join("&"))
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs()
}

/// What the operator set; what is not there is the default.
#[derive(Clone, Copy)]
struct Settings<'a>(&'a Map<String, Value>);

impl<'a> Settings<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        let profile = self.0.get("profile").and_then(Value::as_str);
        match (self.0.get(name).and_then(Value::as_str), profile) {
            (None, Some("oauth21" | "mcp")) if name == "pkce" => Some("required"),
            (None, Some("rfc9700")) if name == "pkce" => Some("required_for_public_clients"),
            (text, _) => text,
        }
    }

    fn is(self, name: &str, value: &str) -> bool {
        self.text(name) == Some(value)
    }

    fn flag(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn texts(self, name: &str) -> Option<Vec<&'a str>> {
        self.0.get(name).map(texts)
    }
}

/// A client as its metadata describes it (RFC 7591 §2); a member that is `null` is not there.
#[derive(Clone, Copy)]
struct Registered<'a>(&'a Value);

impl<'a> Registered<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        self.0[name].as_str()
    }

    fn flag(self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    fn texts(self, name: &str) -> Option<Vec<&'a str>> {
        self.0.get(name).filter(|value| !value.is_null()).map(texts)
    }

    fn uris(self) -> impl Iterator<Item = &'a str> {
        ["redirect_uris", "insecure_redirect_uris"]
            .into_iter()
            .flat_map(move |name| self.texts(name).unwrap_or_default())
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
