//! Mutated requests: the layer agrees with the reference about them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::agreement::Trial;
use super::request::Request;
use super::setup::{LayerOptions, SHARED};

/// Decides by numbers that proptest throws. All zeros is an ordinary request.
struct Dice<'a>(std::slice::Iter<'a, u32>);

impl Dice<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.0.next().map_or(0, |&number| number as usize % bound)
    }

    fn pick<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.below(choices.len())]
    }

    /// The first of them, mostly.
    fn mostly<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        if self.below(4) == 3 { self.pick(choices) } else { choices[0] }
    }

    /// True once in `times`.
    fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}

/// Settings, each with the values that it may have, as JSON.
const SETTINGS: [(&str, &[&str]); 24] = [
    ("profile", &[r#""oauth2""#, r#""rfc9700""#, r#""oauth21""#, r#""mcp""#]),
    ("redirect_uri_required", &["true", "false"]),
    ("loopback_ports", &[r#""ip_literals""#, r#""native_clients""#]),
    ("request_objects", &[r#""forward""#]),
    ("response_types", &[r#"["code", "token", "code id_token"]"#, r#"["none", "id_token"]"#, "[]"]),
    ("scope_required", &["true", "false"]),
    ("scope_excess", &[r#""narrow""#]),
    ("unlisted_scopes", &["true", r#""read""#, r#""*""#, r#""read * x""#]),
    ("supported_scopes", &[r#""read""#, r#""*""#, r#""admin read:mail""#]),
    ("scope_matcher", &[r#""prefix""#]),
    ("pkce", &[r#""required_for_public_clients""#, r#""required""#]),
    ("plain_pkce", &["true", "false"]),
    (
        "resources",
        &[r#"["https://api.example/"]"#, "[]", r#"["https://api.example", "urn:a", "https://u@API.example:8/x?Y"]"#],
    ),
    ("resource_required", &["true", "false"]),
    ("parameters", &[r#"["prompt"]"#, r#"["x", "dpop_jkt"]"#, r#"["authorization_details"]"#]),
    ("openid", &["true"]),
    ("authorization_details_types", &[r#"["payment"]"#, r#"["payment", "account"]"#, "[]"]),
    ("dpop_jkt_required", &["true", "true", "false"]),
    ("validators", &[r#"["nonce"]"#, r#"["state"]"#, r#"["state", "nonce"]"#]),
    ("redirect_errors", &[r#""always""#, r#""vouched""#, r#""never""#]),
    ("issuer", &[r#""https://as.example""#, r#""https://as.example/a=b&c""#, r#""http://as.example""#]),
    ("error_uri", &[r#""https://as.example/errors?a&b""#]),
    ("insecure_detailed_errors", &["true", "false"]),
    ("unknown_clients", &[r#""forward""#]),
];

fn policy(dice: &mut Dice<'_>) -> Map<String, Value> {
    let mut policy = Map::new();
    for (name, values) in SETTINGS {
        if dice.rarely(16) {
            policy.insert(name.to_owned(), dice.pick(values).parse().unwrap());
        }
    }
    policy
}

const REDIRECT_URIS: [&str; 16] = [
    "https://app.example/cb",
    "http://localhost/cb",
    "http://localhost:*",
    "http://127.0.0.1:*/cb",
    "http://[::1]:8080/cb?a=%26",
    "https://app.example:8443",
    "https://app.example/cb?a=1&",
    "https://app.example/cb?",
    "https://app.example/cb?x=(y)",
    "com.example.app:/cb",
    "cursor://host/cb?a",
    "http://127.0.0.1",
    "http://[::1]:*?a=1",
    "http://localhost:*/",
    "https://app.example/a%2fb;c=1/",
    "http://localhost:1",
];

fn own_client(dice: &mut Dice<'_>) -> Value {
    let uris: Vec<&str> = (0..=dice.below(2)).map(|_| dice.pick(&REDIRECT_URIS)).collect();
    let mut client = json!({ "client_id": "c", "redirect_uris": uris, "scope": "read write" });
    let members: [(&str, &[&str]); 13] = [
        ("dynamic", &["true", "true", "false"]),
        ("scope", &["null", r#""*""#, r#""""#, r#""read * read""#, r#""read:mail admin""#, r#""openid read""#]),
        ("default_scope", &[r#""read""#, r#""""#]),
        (
            "response_types",
            &[r#"["code", "token"]"#, r#"["id_token code", "none"]"#, "[]", r#"["code id_token token", "x"]"#],
        ),
        ("grant_types", &[r#"["authorization_code", "implicit"]"#, r#"["implicit"]"#, r#"["refresh_token"]"#]),
        ("token_endpoint_auth_method", &[r#""none""#, r#""client_secret_basic""#, r#""private_key_jwt""#]),
        ("application_type", &[r#""native""#, r#""web""#]),
        ("trusted", &["true", "false"]),
        ("disabled", &["false", "false", "true"]),
        ("revoked", &["false", "false", "true"]),
        ("authorization_details_types", &[r#"["payment"]"#, "[]"]),
        ("dpop_bound_access_tokens", &["true", "false"]),
        ("expires_at", &["0", "99999999999", "1", "null"]),
    ];
    for (name, values) in members {
        if dice.rarely(8) {
            client[name] = dice.pick(values).parse().unwrap();
        }
    }
    client
}

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbGkTeZF-8Xk";

/// What is put somewhere into a value.
const ODD: [&str; 32] = [
    " ",
    "/",
    "?",
    "&",
    "#",
    "%",
    "%2e",
    "..",
    "/../",
    ":1",
    ":",
    "*",
    "@evil.example",
    "\\",
    ";code=1",
    "\0",
    "\n",
    "\u{7f}",
    "\u{e4}",
    "\u{feff}",
    "  ",
    "+",
    "=",
    ".",
    "read",
    "code",
    "?state=x",
    "\"",
    "none",
    "\u{130}",
    "[",
    "A",
];

fn value(dice: &mut Dice<'_>, name: &str, client: &Value) -> String {
    let registered = client["redirect_uris"].as_array().map(|uris| uris.iter().filter_map(Value::as_str).collect());
    let registered: Vec<&str> =
        registered.filter(|uris: &Vec<_>| !uris.is_empty()).unwrap_or(vec!["https://app.example/cb"]);
    let mut value = match name {
        "client_id" => client["client_id"].as_str().unwrap_or("web").to_owned(),
        "redirect_uri" => {
            let uri = dice.pick(&registered).to_owned();
            let port = dice.mostly(&["1", "49152", "65535", "*", "0", "065", "65536", ""]);
            match dice.below(4) {
                0 | 1 => uri.replacen(":*", &format!(":{port}"), 1),
                2 => uri.replacen("localhost", &format!("localhost:{port}"), 1),
                _ => uri.replacen("127.0.0.1", &format!("127.0.0.1:{port}"), 1),
            }
        }
        "response_type" => dice
            .mostly(&["code", "token", "id_token code", "code id_token", "none", "code token id_token", "x"])
            .to_owned(),
        "response_mode" => dice.mostly(&["query", "fragment", "form_post", "web_message", "Query"]).to_owned(),
        "scope" => dice
            .pick(&[
                "read",
                "read write",
                "write read read",
                "read:mail",
                "*",
                "admin",
                "read *",
                "read  write",
                "r\"d",
                "openid read",
            ])
            .to_owned(),
        "state" | "nonce" => dice.mostly(&["xyz", "a b&c=d#e%f+g", "\u{e4}\u{1f980}", "<script>'\"", ""]).to_owned(),
        "code_challenge" => {
            let length: usize = dice.mostly(&["43", "128", "42", "129"]).parse().unwrap();
            CHALLENGE.repeat(3)[..length].to_owned()
        }
        "code_challenge_method" => dice.mostly(&["S256", "S256", "plain", "s256", "S512"]).to_owned(),
        "resource" => dice
            .mostly(&[
                "https://api.example/",
                "https://api.example",
                "HTTPS://Api.Example",
                "https://u@api.EXAMPLE:8/x?Y",
                "urn:a",
                "URN:a",
                "https://api.example/#",
                "/relative",
                "a:",
                "//a",
                "http://[::1/",
            ])
            .to_owned(),
        "prompt" => dice.mostly(&["login consent", "none", "none login", "login  consent", "create"]).to_owned(),
        "max_age" => dice.mostly(&["3600", "0", "-1", "1.5", "99999999999999999999"]).to_owned(),
        "dpop_jkt" => {
            let length: usize = dice.mostly(&["43", "42", "44"]).parse().unwrap();
            CHALLENGE.repeat(3)[..length].to_owned()
        }
        "authorization_details" => dice
            .mostly(&[
                r#"[{"type": "payment", "amount": {"type": 1}}]"#,
                r#"[{"type": "account"}, {"type": "payment"}]"#,
                "[]",
                r#"{"type": "payment"}"#,
                r#"[{"type": 1}]"#,
                r#"[["payment"]]"#,
                r#"[{"type": "payment", "type": "account"}]"#,
                r#"[{"type": "payment", "t\u0079pe": "payment"}]"#,
                r#"[{"type": "other"}]"#,
                r#"[{}]"#,
            ])
            .to_owned(),
        "request" => "e30.e30.".to_owned(),
        "request_uri" => "urn:ietf:params:oauth:request_uri:x".to_owned(),
        _ => "x".to_owned(),
    };
    if dice.rarely(if name == "client_id" { 50 } else { 20 }) {
        let ends: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
        value.insert_str(ends[dice.below(ends.len())], dice.pick(&ODD));
    }
    value
}

fn spelled(dice: &mut Dice<'_>, text: &str) -> Vec<u8> {
    match dice.below(16) {
        0..=9 => form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().into_bytes(),
        10 => text.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect(),
        11 => text.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect(),
        _ => text.replace('%', "%25").replace('&', "%26").replace('#', "%23").replace(['+', ' '], "%20").into_bytes(),
    }
}

fn pairs(dice: &mut Dice<'_>, client: &Value) -> Vec<Vec<u8>> {
    let mut names = vec!["client_id", "response_type"];
    if dice.below(8) > 0 {
        names.push("redirect_uri");
    }
    if dice.below(2) == 1 {
        names.push("code_challenge");
    }
    if names.contains(&"code_challenge") != dice.rarely(12) {
        names.push("code_challenge_method");
    }
    let likely = ["state", "scope"];
    let unlikely = ["response_mode", "nonce", "resource", "resource", "request", "request_uri", "x"];
    for name in likely {
        if dice.below(2) == 1 {
            names.push(name);
        }
    }
    for name in unlikely {
        if dice.rarely(if name == "response_mode" { 3 } else { 7 }) {
            names.push(name);
        }
    }
    for name in ["prompt", "max_age", "login_hint", "authorization_details", "dpop_jkt"] {
        if dice.rarely(16) {
            names.push(name);
        }
    }
    if dice.rarely(20) {
        names.remove(dice.below(names.len()));
    }
    if dice.rarely(10) && !names.is_empty() {
        names.push(names[dice.below(names.len())]);
    }
    let mut pairs: Vec<Vec<u8>> = Vec::new();
    for name in names {
        let value = value(dice, name, client);
        let shown = match dice.below(40) {
            39 => dice.pick(&["Client_Id", "STATE", "scope ", " scope", "redirect_uri[]", "state\0", ""]),
            _ => name,
        };
        let mut pair = if dice.rarely(8) { spelled(dice, shown) } else { shown.as_bytes().to_vec() };
        pair.extend_from_slice(if dice.rarely(60) { b"" } else { b"=" });
        pair.extend(spelled(dice, &value));
        if dice.rarely(40) {
            let at = dice.below(pair.len() + 1);
            let broken: [&[u8]; 9] = [b"%", b"%zz", b"%f", b"%ff", b"\xff", b"%c3", b"\xc3\xa4", b";state=x", b"=="];
            pair.splice(at..at, broken[dice.below(broken.len())].iter().copied());
        }
        let at = if dice.rarely(3) { dice.below(pairs.len() + 1) } else { pairs.len() };
        pairs.insert(at, pair);
    }
    pairs
}

fn trial(numbers: &[u32]) -> Trial {
    let dice = &mut Dice(numbers.iter());
    let policy = policy(dice);
    let own = (dice.below(3) > 0).then(|| own_client(dice));
    let mut shared: Vec<&str> = SHARED.keys().map(String::as_str).collect();
    shared.sort_unstable_by_key(|id| (*id != "web", *id));
    shared.extend(["registry-down", "registry-broken", "registry-confused", "nobody", "app \u{e4}"]);
    let client = own.clone().unwrap_or_else(|| {
        let id = dice.mostly(&shared);
        SHARED.get(id).map_or_else(|| json!({ "client_id": id }), |(client, _)| client.clone())
    });
    let pairs = pairs(dice, &client);
    let method = match dice.below(16) {
        0..=6 => "GET",
        7..=13 => "POST",
        14 => "HEAD",
        _ => dice.pick(&["OPTIONS", "PUT", "get", "QUERY"]),
    };
    let joined = |pairs: &[Vec<u8>], dice: &mut Dice<'_>| {
        let joint: &[u8] = if dice.rarely(60) {
            b";"
        } else if dice.rarely(20) {
            b"&&"
        } else {
            b"&"
        };
        pairs.join(joint)
    };
    let in_query = match method {
        "POST" => dice.below(pairs.len() + 1),
        _ => pairs.len(),
    };
    let query = joined(&pairs[..in_query], dice);
    let body = (method == "POST" || dice.rarely(20)).then(|| joined(&pairs[in_query..], dice));
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    let types = [
        "application/x-www-form-urlencoded; charset=utf-8",
        "APPLICATION/X-WWW-FORM-URLENCODED\t;",
        "application/json",
        "application/x-www-form-urlencoded, text/plain",
        "application/x-www-form-urlencoded;",
        "application/x-www-form-urlencodedx",
        "application /x-www-form-urlencoded",
        "\u{e4}",
    ];
    if dice.rarely(16) {
        headers.push(("Content-Type", dice.pick(&types).as_bytes()));
        if dice.rarely(4) {
            headers.push(("content-type", b"application/x-www-form-urlencoded"));
        }
    }
    let accepted = [
        "text/html",
        "*/*",
        "application/json, text/html;q=0.9",
        "text/*;q=0.5, */*;q=0.1",
        "text/html;q=0",
        "image/png",
        "",
    ];
    if dice.rarely(3) {
        headers.push(("Accept", dice.pick(&accepted).as_bytes()));
    }
    if dice.rarely(40) {
        headers.push(("Content-Encoding", dice.pick(&["gzip", "identity", "Identity", ""]).as_bytes()));
    }
    let layer = LayerOptions { max_body_bytes: dice.rarely(30).then(|| dice.below(60)), ..LayerOptions::default() };
    let layer = LayerOptions { report_only: dice.rarely(30), ..layer };
    let query = (in_query > 0 || dice.rarely(2)).then_some(query);
    let request = Request::new(method, query.as_deref(), body.as_deref(), &headers);
    Trial { client: own, policy, layer, request }
}

#[test]
fn the_layer_and_the_reference_agree_on_nasty_requests() {
    let seen = RefCell::new(BTreeMap::<String, u32>::new());
    let config = ProptestConfig { cases: 2_000, source_file: Some(file!()), ..ProptestConfig::default() };
    let agreed = TestRunner::new(config).run(&vec(any::<u32>(), 160), |numbers| {
        let trial = trial(&numbers);
        let observed = trial.check().map_err(TestCaseError::fail)?;
        let lengths: Vec<u8> = numbers.iter().take(8).map(|number| (number % 16) as u8).collect();
        prop_assert_eq!(&trial.check_in_pieces(&lengths).map_err(TestCaseError::fail)?, &observed);
        let outcome = observed.as_ref().and_then(Value::as_object).and_then(|observed| observed.keys().next().cloned());
        *seen.borrow_mut().entry(outcome.unwrap_or_default()).or_default() += 1;
        Ok(())
    });
    if let Err(error) = agreed {
        panic!("{error}");
    }
    // Otherwise the generator tests little.
    let seen = seen.into_inner();
    let share = |outcome: &str| seen.get(outcome).map_or(0, |times| times * 100 / seen.values().sum::<u32>());
    assert!(share("accepted") >= 2 && share("redirect") >= 15 && share("direct") >= 10, "{seen:?}");
}
