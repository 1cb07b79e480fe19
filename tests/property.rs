//! Properties that hold for any bytes of a request.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use http::{Method, Request, Response, Uri, header};
use http_body_util::Full;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthorizationRequest, Client, ClientOrigin, ClientValidationLayer, DynamicClientRules, MemoryRegistry, Parameter,
    ParameterFault, Policy, RedirectUri, ResponseType, ResponseTypes, Scope, ValidatedRequest, Validator,
};
use url::{Url, form_urlencoded};

use crate::dynamic::SCHEMES;
use crate::reference::redirect_uri::{admits, is_registrable, is_registrable_by_strangers};

/// Legal and near-legal URIs.
fn uri() -> impl Strategy<Value = String> {
    let scheme = select(vec![
        "https://",
        "https://",
        "https://",
        "http://",
        "http://",
        "http://",
        "com.example.app:/",
        "cursor://",
        "HTTPS://",
        "javascript:",
        "data:",
        "https:",
        "https:/",
        "https:///",
        "//",
        "",
        "ftp://",
        "com.example.app:",
    ]);
    let user = select(vec!["", "", "", "", "", "", "", "u@", "u:p@", "a.example@"]);
    let host = select(vec![
        "localhost",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "a.example",
        "b.example",
        "evil.example",
        "127.1",
        "2130706433",
        "LOCALHOST",
        "localhost.",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::ffff:127.0.0.1]",
        "A.example",
        "xn--bcher-kva.example",
        "b\u{fc}cher.example",
        "a%2eexample",
        "a.example\\evil.example",
        "a.example\tb",
        "",
        "*.example",
        "a_b.example",
        "0x7f.1",
        "[0:0:0:0:0:0:0:1]",
    ]);
    let port =
        select(vec!["", "", "", ":8080", ":*", ":*", ":443", ":80", ":0", ":", ":65536", ":080", ":65535", ":1*"]);
    let path = select(vec![
        "",
        "",
        "/",
        "/cb",
        "/cb",
        "/cb/",
        "/CB",
        "/a/b",
        "/./cb",
        "/a/../cb",
        "/%2e%2E/cb",
        "/%2e/cb",
        "//cb",
        "/cb%2f",
        "/*",
        "/c\u{f6}",
        "/c b",
        "/cb;x",
        "/..%2f",
        "/%5c",
        "/@evil.example",
        "/:80",
        "/%",
        "/\r\nSet-Cookie:a=b",
    ]);
    let query = select(vec![
        "",
        "",
        "",
        "",
        "?",
        "?a=1",
        "?a=1&",
        "?a=%26",
        "?code=1",
        "?a&State=x",
        "?a;error=x",
        "?%63ode=1",
        "?a=?b",
        "?*",
        "?a=code",
    ]);
    let fragment = select(vec!["", "", "", "", "", "", "", "#", "#x", "%23"]);
    (scheme, user, host, port, path, query, fragment).prop_map(|(scheme, user, host, port, path, query, fragment)| {
        format!("{scheme}{user}{host}{port}{path}{query}{fragment}")
    })
}

/// URIs as clients have them.
fn legal_uri() -> impl Strategy<Value = String> {
    select(vec![
        "https://a.example/cb",
        "https://a.example/cb?a=1&",
        "https://a.example",
        "https://a.example:8443/cb",
        "http://localhost/cb",
        "http://localhost:*",
        "http://127.0.0.1:*/cb",
        "http://127.0.0.1:8080/cb?a=%26",
        "http://[::1]/",
        "http://[::1]:*?a=1",
        "com.example.app:/cb",
        "cursor://host/cb",
    ])
    .prop_map(str::to_owned)
}

/// A client with those of the URIs that can be registered.
fn client() -> impl Strategy<Value = Client> {
    let types = [ResponseType::CODE, ResponseType::TOKEN, ResponseType::CODE_ID_TOKEN, ResponseType::NONE];
    vec(prop_oneof![legal_uri(), uri()], 1..6).prop_map(move |uris| {
        let mut builder = Client::builder("app").scope("read write").response_types(types.into_iter().collect());
        for uri in uris.iter().filter_map(|uri| RedirectUri::parse(uri).ok()) {
            builder = builder.parsed_redirect_uri(uri);
        }
        let all = serde_json::json!(["authorization_code", "implicit"]);
        let mut metadata = builder.build().unwrap().to_metadata();
        metadata.insert("grant_types".to_owned(), all);
        Client::from_metadata(metadata).unwrap()
    })
}

/// What is asked for: near to something that was registered, or anything.
fn requested(registered: Vec<String>) -> BoxedStrategy<String> {
    let near = (
        select(registered.clone()),
        0_usize..200,
        select(vec![
            "",
            "",
            "",
            "",
            "/",
            "?",
            "&",
            "#",
            "@evil.example",
            ".evil.example",
            ":1",
            "%00",
            "\r\n",
            "*",
            "\\",
            ";",
            "\u{130}",
            "/..",
            "/%2e%2e/",
            "?code=1",
            "&state=1",
        ]),
        select(vec!["*", "1", "49152", "0", "065", "65536", "", "8080"]),
    )
        .prop_map(|(uri, at, inserted, port)| {
            let mut uri = uri.replacen('*', port, 1);
            let at = at.min(uri.len());
            if uri.is_char_boundary(at) {
                uri.insert_str(at, inserted);
            }
            uri
        });
    let same =
        (select(registered), select(vec!["1", "49152", "65535"])).prop_map(|(uri, port)| uri.replacen('*', port, 1));
    prop_oneof![12 => same, 6 => near, 1 => uri(), 1 => any::<String>()].boxed()
}

/// A value in the spelling of a form, mostly a right one.
fn encoded(value: &str, spelling: u8) -> Vec<u8> {
    match spelling % 32 {
        0..=19 => form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().into_bytes(),
        20..=29 => value.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect(),
        30 => value.as_bytes().to_vec(),
        _ => [value.as_bytes(), b"%f"].concat(),
    }
}

fn pairs(registered: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let id = select(vec!["app", "app", "app", "app", "app", "app", "app", "app", "other", "", "app\n"])
        .prop_map(str::to_owned);
    let ty = select(vec!["code", "code", "code", "token", "code id_token", "none", "id_token", "x", ""])
        .prop_map(str::to_owned);
    let mode =
        option::weighted(0.4, select(vec!["query", "fragment", "form_post", "web_message"]).prop_map(str::to_owned));
    let scope = option::weighted(
        0.5,
        prop_oneof![
            select(vec!["read", "read write", "admin", "*", "read  write"]).prop_map(str::to_owned),
            any::<String>()
        ],
    );
    let state = option::weighted(0.8, any::<String>());
    let more = vec(
        (
            select(vec!["nonce", "resource", "request", "code_challenge", "x", "state", "redirect_uri", "client_id"]),
            any::<String>(),
        ),
        0..2,
    );
    let more = option::weighted(0.3, more);
    let redirect_uri = option::weighted(0.9, requested(registered));
    (id, ty, mode, scope, state, more, redirect_uri, vec(any::<u8>(), 10), any::<bool>()).prop_map(
        |(id, ty, mode, scope, state, more, redirect_uri, spellings, reverse)| {
            let given = [
                Some(("client_id", id)),
                Some(("response_type", ty)),
                mode.map(|mode| ("response_mode", mode)),
                scope.map(|scope| ("scope", scope)),
                state.map(|state| ("state", state)),
                redirect_uri.map(|uri| ("redirect_uri", uri)),
            ];
            let mut given: Vec<_> = given.into_iter().flatten().chain(more.into_iter().flatten()).collect();
            if reverse {
                given.reverse();
            }
            let pairs: Vec<Vec<u8>> = given
                .iter()
                .zip(spellings.iter().cycle())
                // The client id mostly right, so that most requests get as far as the redirect URI.
                .map(|((name, value), spelling)| {
                    let spelling =
                        if *name == "client_id" || *name == "redirect_uri" { spelling % 31 } else { *spelling };
                    [name.as_bytes(), b"=", &encoded(value, spelling)].concat()
                })
                .collect();
            pairs.join(&b'&')
        },
    )
}

#[derive(Clone, Debug)]
struct Case {
    client: Client,
    policy: Policy,
    method: Method,
    query: Vec<u8>,
    body: Vec<u8>,
    content_type: Option<Vec<u8>>,
    accept: Option<Vec<u8>>,
}

fn case() -> impl Strategy<Value = Case> {
    client().prop_flat_map(|client| {
        let registered: Vec<String> = client.redirect_uris().iter().map(ToString::to_string).collect();
        let registered = if registered.is_empty() { vec!["https://none.example/".to_owned()] } else { registered };
        let method = select(vec![
            Method::GET,
            Method::GET,
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::POST,
            Method::POST,
            Method::POST,
            Method::OPTIONS,
            Method::PUT,
            Method::from_bytes(b"X").unwrap(),
        ]);
        let content_type = prop_oneof![
            6 => Just(Some(b"application/x-www-form-urlencoded".to_vec())),
            1 => Just(None),
            1 => vec(any::<u8>(), 0..20).prop_map(Some),
        ];
        let accept = prop_oneof![Just(None), Just(Some(b"text/html".to_vec())), vec(any::<u8>(), 0..20).prop_map(Some)];
        let policy = any::<[bool; 4]>().prop_map(|[issuer, detailed, error_uri, plain]| {
            let mut policy = Policy::oauth2().insecure_detailed_errors(detailed).plain_pkce(plain);
            policy = policy.response_types(
                [ResponseType::CODE, ResponseType::TOKEN, ResponseType::CODE_ID_TOKEN]
                    .into_iter()
                    .collect::<ResponseTypes>(),
            );
            if issuer {
                policy = policy.issuer("https://login.example/a=b&c");
            }
            if error_uri {
                policy = policy.error_uri("https://docs.example/?a&b");
            }
            policy.build().unwrap()
        });
        let bytes = prop_oneof![12 => pairs(registered), 1 => vec(any::<u8>(), 0..200)];
        let split = any::<prop::sample::Index>();
        let case = (Just(client), policy, method, bytes, content_type, accept, split, any::<bool>());
        case.prop_map(|(client, policy, method, bytes, content_type, accept, split, across)| {
            let (query, body) = if method != Method::POST {
                (bytes, Vec::new())
            } else if across && !bytes.is_empty() {
                let (query, body) = bytes.split_at(split.index(bytes.len()));
                (query.to_vec(), body.to_vec())
            } else {
                (Vec::new(), bytes)
            };
            Case { client, policy, method, query, body, content_type, accept }
        })
    })
}

/// Answers as a server would: success for what the layer accepts.
async fn respond(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
    let Some(validated) = request.extensions().get::<ValidatedRequest>() else {
        return Ok(Response::new(Full::default()));
    };
    Ok(validated.success([("code", "c&d=e\r\n#")]).into_http(request.method()))
}

fn unescape(html: &str) -> String {
    html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

fn host_of(uri: &str) -> Option<String> {
    let uri = uri.replacen(":*", ":1", 1);
    Url::parse(&uri).ok()?.host_str().map(str::to_owned)
}

/// `target` goes to a redirect URI of the client, and only adds parameters to it.
fn check_target(case: &Case, target: &str, is_extended: bool) -> Result<(), TestCaseError> {
    let sent = || form_urlencoded::parse(&case.query).chain(form_urlencoded::parse(&case.body));
    let asked: Vec<_> = sent().filter(|(name, _)| name == "redirect_uri").map(|(_, value)| value).collect();
    let registered: Vec<&str> = case.client.redirect_uris().iter().map(RedirectUri::as_str).collect();
    let base = match &*asked {
        [] => registered[0].to_owned(),
        [one] if one.is_empty() => registered[0].to_owned(),
        [one] => one.clone().into_owned(),
        _ => return Err(TestCaseError::fail("two redirect URIs, and one of them was used")),
    };
    if !asked.iter().any(|asked| !asked.is_empty()) {
        prop_assert_eq!(registered.len(), 1);
        prop_assert!(!base.contains('*'));
    }
    prop_assert!(registered.iter().any(|registered| admits(registered, &base, true)), "{base} of {registered:?}");

    if is_extended {
        let added = target.strip_prefix(&base);
        prop_assert!(added.is_some(), "{target} does not begin with {base}");
        let added = added.unwrap_or_default();
        let joined = match base.split_once('?') {
            _ if added.starts_with('#') => &added[1..],
            None => added.strip_prefix('?').unwrap_or("joined wrongly"),
            Some((_, query)) if query.is_empty() || query.ends_with('&') => added,
            Some(_) => added.strip_prefix('&').unwrap_or("joined wrongly"),
        };
        prop_assert!(joined.starts_with("error=") || joined.starts_with("code="), "{target}");
        prop_assert!(joined.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{target}");
    } else {
        prop_assert_eq!(target, &base);
    }
    let host = host_of(target);
    prop_assert!(registered.iter().any(|registered| host_of(registered) == host), "{target}: {host:?}");
    Ok(())
}

fn check_case(case: &Case) -> Result<bool, TestCaseError> {
    let uri = [b"/authorize?", &*case.query].concat();
    let Ok(uri) = Uri::try_from(uri) else { return Ok(false) };
    // What counts is what arrives: a URI ends at a fragment.
    let query = uri.query().unwrap_or_default().as_bytes().to_vec();
    let case = &Case { query, ..case.clone() };
    let mut request = Request::builder().method(&case.method).uri(uri).body(Full::from(case.body.clone())).unwrap();
    for (name, value) in [(header::CONTENT_TYPE, &case.content_type), (header::ACCEPT, &case.accept)] {
        if let Some(Ok(value)) = value.as_ref().map(|value| value.as_slice().try_into()) {
            request.headers_mut().insert(name, value);
        }
    }
    let registry = MemoryRegistry::from_clients([case.client.clone()]);
    let layer = ClientValidationLayer::new(registry.clone()).policy(case.policy.clone());
    let response = block_on(layer.layer(service_fn(respond)).oneshot(request)).unwrap();
    prop_assert_eq!(&*registry.get("app").unwrap(), &case.client, "a request changed the client");

    for (name, value) in response.headers() {
        prop_assert!(value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)), "{name}: {value:?}");
    }
    let location = response.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
    if let Some(location) = &location {
        prop_assert!([302, 303].contains(&response.status().as_u16()));
        check_target(case, location, true)?;
    }
    let page = block_on(crate::fixture::text(response));
    let form = page.split_once("<form method=\"post\" action=\"").map(|(_, rest)| rest.split('"').next().unwrap());
    if let Some(action) = form {
        check_target(case, &unescape(action), false)?;
    }
    Ok(location.is_some() || form.is_some())
}

#[test]
fn every_location_extends_a_redirect_uri_of_the_client() {
    use std::cell::Cell;
    let (cases, sent, posted) = (Cell::new(0_u32), Cell::new(0_u32), Cell::new(0_u32));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4_000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    });
    runner
        .run(&case(), |case| {
            cases.set(cases.get() + 1);
            let went = u32::from(check_case(&case)?);
            sent.set(sent.get() + went);
            posted.set(posted.get() + if case.method == Method::POST { went } else { 0 });
            Ok(())
        })
        .unwrap();
    // Otherwise the generator tests little.
    let share = |count: u32| count * 100 / cases.get();
    assert!(share(sent.get()) >= 10 && share(posted.get()) >= 3, "{}%, {}%", share(sent.get()), share(posted.get()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_registered_is_harmless(uri in uri()) {
        let parsed = RedirectUri::parse(&uri);
        prop_assert_eq!(parsed.is_ok(), is_registrable(&uri, false), "{}", uri);
        let metadata = serde_json::Map::from_iter([("redirect_uris".to_owned(), vec![uri.clone()].into())]);
        let judged = DynamicClientRules::new().judge(ClientOrigin::Registered, &metadata);
        prop_assert_eq!(judged.is_ok(), is_registrable_by_strangers(&uri, &SCHEMES), "{}", uri);
        let Ok(registered) = parsed else { return Ok(()) };
        let concrete = uri.replacen(":*", ":1", 1);
        prop_assert!(!concrete.contains('*'), "{uri}");
        prop_assert_eq!(registered.as_str(), &uri);
        // `cursor://:80/` follows RFC 3986, and leads a browser nowhere.
        let Ok(url) = Url::parse(&concrete) else {
            prop_assert!(!concrete.starts_with("http"), "{uri}");
            return Ok(());
        };
        let scheme = concrete.split(':').next().unwrap();
        prop_assert!(!["javascript", "data", "ftp", ""].contains(&scheme.to_lowercase().as_str()));
        prop_assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
        if url.scheme() == "http" {
            prop_assert!(["localhost", "127.0.0.1", "[::1]"].contains(&url.host_str().unwrap()), "{uri}");
        }
        if ["http", "https"].contains(&url.scheme()) {
            let prefix = format!("{}://{}", url.scheme(), url.host_str().unwrap());
            prop_assert!(uri.starts_with(&prefix), "{uri} is {url}");
        }
    }

    #[test]
    fn matching_agrees_with_the_rules((registered, requested) in uri().prop_flat_map(|uri| (Just(uri.clone()), requested(vec![uri])))) {
        if let Ok(uri) = RedirectUri::parse(&registered) {
            prop_assert_eq!(uri.matches(&requested), admits(&registered, &requested, true), "{} {}", registered, requested);
        }
    }

    #[test]
    fn parsing_agrees_with_form_urlencoded(
        query in vec(form_bytes(), 0..8).prop_map(|parts| parts.concat()),
        body in vec(form_bytes(), 0..8).prop_map(|parts| parts.concat()),
    ) {
        let request = AuthorizationRequest::parse(&query, &body);
        let pairs: Vec<_> = form_urlencoded::parse(&query).chain(form_urlencoded::parse(&body)).collect();
        for parameter in Parameter::ALL.iter().copied() {
            let values: Vec<&str> = pairs.iter().filter(|(name, _)| name == parameter.as_str()).map(|(_, value)| &**value).collect();
            let usable = values.iter().copied().filter(|value| !value.is_empty());
            match request.fault(parameter) {
                None if parameter == Parameter::Resource => prop_assert!(usable.eq(request.resources())),
                None => {
                    prop_assert!(values.len() < 2, "{parameter}: {values:?}");
                    prop_assert!(usable.eq(request.get(parameter)));
                }
                Some(ParameterFault::Repeated) => prop_assert!(values.len() > 1),
                Some(ParameterFault::ControlCharacter) => prop_assert!(values.iter().any(|value| value.bytes().any(|byte| byte.is_ascii_control()))),
                // The other one leaves a broken escape alone, and puts U+FFFD for bad UTF-8.
                Some(_) => prop_assert!(values.iter().any(|value| value.contains(['%', char::REPLACEMENT_CHARACTER]))),
            }
            if request.fault(parameter).is_some() {
                prop_assert_eq!(request.get(parameter), None);
            }
        }
    }

    #[test]
    fn a_request_can_be_kept_as_a_query_and_read_again(form in vec(form_bytes(), 0..8).prop_map(|parts| parts.concat())) {
        let request = AuthorizationRequest::parse(&form, b"");
        let again = AuthorizationRequest::parse(request.to_query().as_bytes(), b"");
        prop_assert_eq!(again.first_fault(), None);
        for parameter in Parameter::ALL.iter().copied() {
            if request.fault(parameter).is_none() {
                prop_assert_eq!(again.get(parameter), request.get(parameter), "{}", parameter);
            }
        }
        prop_assert!(again.resources().eq(request.resources()));
        if request.first_fault().is_none() {
            prop_assert!(again == request);
        }
    }

    #[test]
    fn scopes_round_trip(text in "[ -~\u{e4}]{0,12}", tokens in vec("[!#-\\[\\]-~]{1,4}", 0..6)) {
        let legal = !text.is_empty() && text.split(' ').all(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)));
        let parsed = Scope::parse(&text);
        prop_assert_eq!(parsed.is_ok(), legal, "{:?}", text);
        if let Ok(scope) = parsed {
            prop_assert_eq!(&Scope::parse(scope.as_str()).unwrap(), &scope);
            let mut first_of_each: Vec<&str> = Vec::new();
            for token in text.split(' ') {
                if !first_of_each.contains(&token) {
                    first_of_each.push(token);
                }
            }
            prop_assert_eq!(scope.iter().collect::<Vec<_>>(), first_of_each);
        }
        let scope = Scope::from_tokens(&tokens).unwrap();
        prop_assert!(tokens.iter().all(|token| scope.contains(token)));
        prop_assert_eq!(Scope::from_tokens(scope.iter()).unwrap(), scope);
    }

    #[test]
    fn responses_round_trip(
        parameters in vec((any::<String>(), any::<String>()), 0..4),
        state in "\\PC{0,12}",
        mode in select(vec!["query", "fragment"]),
        uri in select(vec!["https://a.example", "https://a.example/cb", "https://a.example/cb?", "https://a.example/cb?x=%20y", "https://a.example/cb?x&", "com.example.app:/cb?x=1"]),
    ) {
        let client = Client::builder("app").redirect_uri(uri).build().unwrap();
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("client_id", "app"), ("response_type", "code"), ("response_mode", mode), ("state", &state)])
            .finish();
        let validator = Validator::new(Policy::oauth2().issuer("https://login.example/a=b&c").build().unwrap());
        let request = AuthorizationRequest::parse(query.as_bytes(), b"");
        let validated = validator.validate(request, Some(Arc::new(client))).unwrap();
        let response = validated.success(parameters.iter().map(|(name, value)| (&**name, &**value)));
        let location = response.location().unwrap();
        prop_assert!(location.starts_with(uri), "{location}");
        let added = &location[uri.len()..];
        let added = added.strip_prefix(['?', '&', '#']).unwrap_or(added);
        let read: Vec<(String, String)> = form_urlencoded::parse(added.as_bytes()).into_owned().collect();
        let mut expected = parameters;
        if !state.is_empty() {
            expected.push(("state".to_owned(), state));
        }
        expected.push(("iss".to_owned(), "https://login.example/a=b&c".to_owned()));
        // A pair without name and value leaves nothing but its `=`, which is how forms are.
        prop_assert_eq!(read, expected);
    }
}

/// Pieces of a form, right and wrong.
fn form_bytes() -> impl Strategy<Value = Vec<u8>> {
    let name = select(Parameter::ALL.to_vec()).prop_map(|parameter| parameter.as_str().as_bytes().to_vec());
    let spelled = select(vec![
        &b"client%5Fid"[..],
        b"client%5fid",
        b"%73cope",
        b"client_id+",
        b"Client_Id",
        b"client_id%",
        b"stat%65",
        b"code_challenge_methodx",
        b"%ff",
    ])
    .prop_map(<[u8]>::to_vec);
    let piece = select(vec![
        &b"&"[..],
        b"&",
        b"=",
        b"=",
        b"+",
        b"%",
        b"%2",
        b"%zz",
        b"%41",
        b"%C3%A4",
        b"%c3",
        b"%00",
        b"%0d%0a",
        b"\xff",
        b"\xc3\xa4",
        b"a",
        b"",
        b";",
        b"\x01",
    ])
    .prop_map(<[u8]>::to_vec);
    prop_oneof![3 => (name, piece.clone()).prop_map(|(name, piece)| [b"&", &*name, b"=", &*piece].concat()), 1 => spelled, 3 => piece, 1 => vec(any::<u8>(), 0..4)]
}
