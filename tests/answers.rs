//! Responses: their headers, the answer hooks, and responses of the inner service.

use bytes::Bytes;
use futures::executor::block_on;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthorizationError, ClientValidationLayer, Delivery, ErrorCode, MemoryRegistry, Policy, RedirectErrors,
    RegistryError, RegistrySource, Rejection, ValidatedRequest, registry_fn,
};

use crate::fixture::{self, ACCEPTED, UNKNOWN, WRONG_SCOPE, layer, location, text};

type Body = Full<Bytes>;

/// The inner service answers to the redirect URI.
fn ask<R: RegistrySource>(layer: ClientValidationLayer<R>, request: Request<Body>) -> Response<Body> {
    let inner = service_fn(|request: Request<Body>| async move {
        let validated = request.extensions().get::<ValidatedRequest>().unwrap();
        Ok::<_, BoxError>(validated.success([("code", "c")]).into_http(request.method()))
    });
    block_on(layer.layer(inner).oneshot(request)).unwrap()
}

fn page(query: &str) -> Request<Body> {
    let mut request = fixture::get(query);
    request.headers_mut().insert(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap());
    request
}

fn body<B>(response: Response<B>) -> String
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    block_on(text(response))
}

fn assert_security_headers(response: &Response<Body>) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let values: Vec<_> = response.headers().get_all(&name).iter().collect();
        assert_eq!(values, [value], "{name} of {response:?}");
    }
    let is_html =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let policy = response.headers().get(header::CONTENT_SECURITY_POLICY).map(|value| value.to_str().unwrap());
    if is_html {
        let policy = policy.expect("a page has a policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    } else {
        assert_eq!(policy, None);
    }
}

#[test]
fn every_answer_carries_the_security_headers() {
    let failing =
        || ClientValidationLayer::new(registry_fn(|_| std::future::ready(Err(RegistryError::transient("x")))));
    let form_post = |query: &str| fixture::get(&format!("{query}&response_mode=form_post"));
    for response in [
        ask(layer(), fixture::get(UNKNOWN)),
        ask(layer(), page(UNKNOWN)),
        ask(layer(), fixture::get(WRONG_SCOPE)),
        ask(layer(), page(WRONG_SCOPE)),
        ask(layer(), fixture::post(WRONG_SCOPE)),
        ask(layer(), form_post(WRONG_SCOPE)),
        ask(layer(), fixture::get(&format!("{WRONG_SCOPE}&response_mode=fragment"))),
        ask(layer(), Request::put("/").body(Body::default()).unwrap()),
        ask(layer(), fixture::post(vec![b'a'; 70_000])),
        ask(layer(), Request::head(format!("/?{UNKNOWN}")).body(Body::default()).unwrap()),
        ask(failing(), fixture::get(ACCEPTED)),
        ask(failing(), page(ACCEPTED)),
        // Those that the inner service makes are the same.
        ask(layer(), fixture::get(ACCEPTED)),
        ask(layer(), form_post(ACCEPTED)),
    ] {
        assert_security_headers(&response);
    }
}

/// Changes answers of one content type.
fn with_hook<R: RegistrySource>(
    layer: ClientValidationLayer<R>,
    content_type: &'static str,
    change: impl Fn(&Rejection, &mut Response<Bytes>) + Send + Sync + 'static,
) -> ClientValidationLayer<R> {
    layer.answer_hook(move |_: &Parts, rejection: &Rejection, mut answer: Response<Bytes>| {
        if answer.headers()[header::CONTENT_TYPE].as_bytes().starts_with(content_type.as_bytes()) {
            change(rejection, &mut answer);
        }
        std::future::ready(answer)
    })
}

#[test]
fn the_json_hook_changes_the_answer_and_keeps_the_security_headers() {
    let hooked = with_hook(layer(), "application/json", |error, response| {
        let title = format!(r#"{{"title":"{}","why":"{}"}}"#, error.error(), error.reason().as_str());
        let headers = response.headers_mut();
        headers.clear();
        headers.insert(header::CONTENT_TYPE, "application/problem+json".parse().unwrap());
        headers.insert(header::CACHE_CONTROL, "public, max-age=3600".parse().unwrap());
        headers.append(header::CACHE_CONTROL, "immutable".parse().unwrap());
        headers.insert("x-own", "1".parse().unwrap());
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        *response.body_mut() = title.into();
    });
    let response = ask(hooked.clone(), fixture::get(UNKNOWN));
    assert_eq!(response.status(), 422);
    assert_eq!(response.headers()["x-own"], "1");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_security_headers(&response);
    assert!(response.extensions().get::<Rejection>().is_some());
    assert_eq!(body(response), r#"{"title":"invalid_client","why":"client_unknown"}"#);

    // Neither pages nor redirects are its business.
    let html = ask(hooked.clone(), page(UNKNOWN));
    assert_eq!(
        (html.status().as_u16(), &html.headers()[header::CONTENT_TYPE]),
        (400, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert_eq!(ask(hooked.clone(), fixture::get(WRONG_SCOPE)).status(), 302);
    assert_eq!(ask(hooked.clone(), fixture::get(ACCEPTED)).status(), 302);

    let head = ask(hooked, Request::head(format!("/?{UNKNOWN}")).body(Body::default()).unwrap());
    assert_eq!(head.headers()[header::CONTENT_LENGTH], "49");
    assert_eq!(body(head), "");
}

#[test]
fn the_html_hook_changes_the_page_and_keeps_the_security_headers() {
    let hooked = with_hook(layer(), "text/html", |error, response| {
        *response.body_mut() = format!("<h1>Our page: {}</h1>", error.description()).into();
        response.headers_mut().insert("x-own", "1".parse().unwrap());
    });
    let response = ask(hooked.clone(), page(UNKNOWN));
    assert_eq!((response.status().as_u16(), &response.headers()["x-own"]), (400, &"1".parse().unwrap()));
    assert_security_headers(&response);
    assert_eq!(body(response), "<h1>Our page: the client is not registered here</h1>");
    assert!(body(ask(hooked, fixture::get(UNKNOWN))).starts_with('{'));

    // A response made anew has lost the policy; it gets the prepared one.
    let replaced = with_hook(layer(), "text/html", |_, response| {
        *response = Response::new("<h1>Ours</h1>".into());
        response.headers_mut().insert(header::CONTENT_TYPE, "text/html".parse().unwrap());
    });
    assert_security_headers(&ask(replaced, page(UNKNOWN)));

    let own = "default-src 'none'; style-src 'self'; frame-ancestors 'none'";
    let styled = with_hook(layer(), "text/html", move |_, response| {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, own.parse().unwrap());
    });
    let response = ask(styled, page(UNKNOWN));
    assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], own);
    assert_security_headers(&response);
}

#[test]
fn hooks_see_errors_that_are_not_redirected() {
    let policy =
        Policy::oauth2().redirect_errors(RedirectErrors::Never).error_uri("https://docs.example/").build().unwrap();
    let hooked = with_hook(layer().policy(policy), "application/json", |error, response| {
        *response.body_mut() = format!("{} {:?}", error.error(), error.error_uri()).into()
    });
    let response = ask(hooked, fixture::get(WRONG_SCOPE));
    assert_eq!(response.status(), 400);
    assert!(!response.headers().contains_key(header::LOCATION));
    assert_eq!(body(response), r#"invalid_scope Some("https://docs.example/")"#);
}

#[test]
fn a_page_shows_nothing_that_the_request_said() {
    let hostile =
        "client_id=%3Cscript%3Ealert(1)%3C/script%3E&redirect_uri=https://evil.example/&state=%3Cimg%3E&scope=%22%3E";
    for detailed in [false, true] {
        let policy = Policy::oauth2().insecure_detailed_errors(detailed).build().unwrap();
        let response = ask(layer().policy(policy), page(hostile));
        assert_eq!(response.status(), 400);
        let page = body(response);
        for text in ["alert", "evil.example", "<img", "<script", "<a ", "href", "src="] {
            assert!(!page.contains(text), "{text} in {page}");
        }
        assert!(page.contains("not your fault"));
    }
    let with_uri = layer().policy(Policy::oauth2().error_uri("https://docs.example/?a=1&b='").build().unwrap());
    let page = body(ask(with_uri, page(UNKNOWN)));
    assert!(page.contains("https://docs.example/?a=1&amp;b=&#39;") && !page.contains("href"), "{page}");
}

#[test]
fn a_custom_check_keeps_its_error_description() {
    let refused = AuthorizationError::new(ErrorCode::LoginRequired, "not at night");
    assert_eq!((refused.code(), refused.description()), (ErrorCode::LoginRequired, "not at night"));
    let answer = |redirect_errors| {
        let refused = refused.clone();
        let policy = Policy::oauth2().redirect_errors(redirect_errors);
        let policy = policy.check(move |_: &ValidatedRequest| Err(refused.clone()));
        ask(layer().policy(policy.build().unwrap()), fixture::get(ACCEPTED))
    };
    let redirected = answer(RedirectErrors::Always);
    let rejection: &Rejection = redirected.extensions().get().unwrap();
    assert_eq!((rejection.delivery(), rejection.description()), (Delivery::Redirect, "not at night"));
    let told = "https://app.example/cb?error=login_required&error_description=not+at+night&state=xyz";
    assert_eq!(location(&redirected), told);

    let direct = answer(RedirectErrors::Never);
    let rejection: &Rejection = direct.extensions().get().unwrap();
    assert_eq!((rejection.delivery(), rejection.description()), (Delivery::Direct, "not at night"));
    assert_eq!(body(direct), r#"{"error":"login_required","error_description":"not at night"}"#);
}

#[test]
fn responses_of_the_handler_have_the_headers_of_the_layer() {
    let own = AuthorizationError::new(ErrorCode::InvalidScope, "the client may not ask for this scope");
    let inner = service_fn(move |request: Request<Body>| {
        let validated = request.extensions().get::<ValidatedRequest>().unwrap();
        let response: Response<Body> = validated.error(&own).into_http(request.method());
        async { Ok::<_, BoxError>(response) }
    });
    let policy =
        || Policy::oauth2().issuer("https://login.example").error_uri("https://docs.example/").build().unwrap();
    for mode in ["", "&response_mode=query", "&response_mode=fragment", "&response_mode=form_post"] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let request = |query: &str| {
                let query = format!("{query}{mode}");
                if method == Method::POST {
                    return fixture::post(query);
                }
                let mut request = fixture::get::<Body>(&query);
                *request.method_mut() = method.clone();
                request
            };
            let by_handler = layer().policy(policy()).layer(inner.clone()).oneshot(request(ACCEPTED));
            let by_handler = block_on(by_handler).unwrap();
            let by_layer = ask(layer().policy(policy()), request(WRONG_SCOPE));
            assert_eq!(by_handler.status(), by_layer.status());
            assert_eq!(by_handler.headers(), by_layer.headers());
            assert_eq!(body(by_handler), body(by_layer));
        }
    }
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let with = |method: Method, query: &str, accept: &str| {
        let mut request = fixture::get::<Body>(query);
        *request.method_mut() = method;
        request.headers_mut().insert(header::ACCEPT, accept.parse().unwrap());
        ask(layer(), request)
    };
    for query in [UNKNOWN, WRONG_SCOPE, ""] {
        for accept in ["text/html", "application/json"] {
            let get = with(Method::GET, query, accept);
            let mut head = with(Method::HEAD, query, accept);
            assert_eq!(head.status(), get.status());
            let length = head.headers_mut().remove(header::CONTENT_LENGTH).unwrap();
            assert_eq!(head.headers(), get.headers());
            assert_eq!(length, &*body(get).len().to_string());
            assert_eq!(body(head), "");
        }
    }
}

#[test]
fn a_page_says_what_failed() {
    let failing = |error: fn(&'static str) -> RegistryError| {
        let layer = ClientValidationLayer::new(registry_fn(move |_| std::future::ready(Err(error("x")))));
        body(ask(layer, page(ACCEPTED)))
    };
    for (page, sentence) in [
        (failing(RegistryError::transient), "Please go back and try again in a few seconds."),
        (failing(RegistryError::permanent), "Something is wrong with this server."),
        (body(ask(layer(), page(UNKNOWN))), "The application that sent you here is not known to this server."),
        (body(ask(layer(), page("response_type=code"))), "made a request that this server cannot accept."),
    ] {
        assert!(page.contains(sentence), "{page}");
    }
}

#[test]
fn json_or_a_page() {
    for (accept, html) in [
        (None, false),
        (Some("*/*"), false),
        (Some("application/json"), false),
        (Some("text/html"), true),
        (Some("text/html, application/json"), false),
        (Some("text/html, application/json;q=0.9"), true),
        (Some("text/*, */*;q=0.1"), true),
        (Some(r#"text/html;p="x,y", application/json;q=0.5"#), true),
        (Some(r#"text/html;p="x;q=0", application/json;q=0.5"#), true),
        (Some(r#"text/html;p="x\",y", application/json;q=0.5"#), true),
        (Some(r#"text/html;p="x", application/json"#), false),
        (Some("\u{7f}"), false),
    ] {
        let mut request = fixture::get::<Body>(UNKNOWN);
        if let Some(accept) = accept {
            let Ok(accept) = http::HeaderValue::from_bytes(accept.as_bytes()) else { continue };
            request.headers_mut().insert(header::ACCEPT, accept);
        }
        let response = ask(layer(), request);
        let content_type = if html { "text/html; charset=utf-8" } else { "application/json" };
        assert_eq!(response.headers()[header::CONTENT_TYPE], content_type, "{accept:?}");
    }
}

#[test]
fn only_a_405_has_an_allow_header() {
    let put = ask(layer(), Request::put("/").body(Body::default()).unwrap());
    assert_eq!(
        (put.status().as_u16(), put.headers()[header::ALLOW].to_str().unwrap()),
        (405, "GET, HEAD, POST, OPTIONS")
    );
    let has = |query: &str, name: HeaderName| ask(layer(), fixture::get(query)).headers().contains_key(name);
    for query in [UNKNOWN, WRONG_SCOPE, "", ACCEPTED] {
        assert!(!has(query, header::ALLOW) && !has(query, header::RETRY_AFTER), "{query}");
    }
}

#[test]
fn every_redirect_carries_the_issuer() {
    let layer = || layer().policy(Policy::oauth2().issuer("https://login.example").build().unwrap());
    let iss = "&iss=https%3A%2F%2Flogin.example";
    assert_eq!(
        location(&ask(layer(), fixture::get(ACCEPTED))),
        format!("https://app.example/cb?code=c&state=xyz{iss}"),
    );
    assert!(location(&ask(layer(), fixture::get(WRONG_SCOPE))).ends_with(&format!("&state=xyz{iss}")));
}

#[test]
fn setting_a_hook_does_not_change_the_original_layer() {
    let plain: ClientValidationLayer<MemoryRegistry> = layer();
    let hooked = with_hook(plain.clone(), "application/json", |_, response| *response.body_mut() = "hooked".into());
    assert_eq!(body(ask(hooked, fixture::get(UNKNOWN))), "hooked");
    assert!(body(ask(plain, fixture::get(UNKNOWN))).starts_with('{'));
}
