//! Faults around the layer, and hostile input.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthorizationRequest, Client, ClientValidationLayer, MemoryRegistry, Parameter, ParameterFault, Policy, Reason,
    RegistryError, RegistrySource, Rejection, RequestBody, ResponseBody, ValidatedRequest, Validator, registry_fn,
};
use tower_test::mock;

use crate::fixture::{
    self, ACCEPTED, CALLBACK, HeldBody, UNKNOWN, client, form, held_body, held_registry, layer, text,
};

type Body = Full<Bytes>;

fn get(query: &str) -> Request<Body> {
    fixture::get(query)
}

async fn fine(_: Request<Body>) -> Result<Response<Body>, BoxError> {
    Ok(Response::new(Body::from("fine")))
}

fn reason<B>(response: &Response<B>) -> Reason {
    response.extensions().get::<Rejection>().expect("a rejection").reason()
}

mod inner_service {
    use super::*;

    #[tokio::test]
    async fn a_panic_frees_the_permit_and_hurts_no_other_request() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let service = ServiceBuilder::new().layer(layer()).concurrency_limit(1).service_fn(move |_: Request<Body>| {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            assert!(call != 0, "in call");
            async move {
                assert!(call != 1, "in the future");
                Ok::<_, BoxError>(Response::new(Body::from("fine")))
            }
        });
        for _ in 0..2 {
            let panicked = AssertUnwindSafe(service.clone().oneshot(get(ACCEPTED))).catch_unwind().await;
            assert!(panicked.is_err());
            assert_eq!(service.clone().oneshot(get(UNKNOWN)).await.unwrap().status(), 400);
        }
        assert_eq!(text(service.oneshot(get(ACCEPTED)).await.unwrap()).await, "fine");
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_service_that_never_answers_delays_no_other_request() {
        let stuck = service_fn(|request: Request<Body>| async move {
            if request.uri().query().unwrap().contains("stuck") {
                std::future::pending::<()>().await;
            }
            Ok::<_, BoxError>(Response::new(Body::from("fine")))
        });
        let mut service = mock::Spawn::new(layer().layer(stuck));
        assert_ready_ok!(service.poll_ready::<Request<Body>>());
        let mut waiting = task::spawn(service.call(get(&format!("{ACCEPTED}&stuck"))));
        assert_pending!(waiting.poll());
        for (query, status) in [(ACCEPTED, 200), (UNKNOWN, 400)] {
            assert_ready_ok!(service.poll_ready::<Request<Body>>());
            assert_eq!(assert_ready_ok!(task::spawn(service.call(get(query))).poll()).status(), status);
        }
        assert_pending!(waiting.poll());
    }

    #[test]
    fn errors_in_poll_ready_are_not_kept() {
        let (mut service, mut handle): (_, mock::Handle<Request<Body>, Response<Body>>) = mock::spawn_layer(layer());
        handle.send_error("for now");
        let Poll::Ready(Err(error)) = service.poll_ready::<Request<Body>>() else { panic!("no error") };
        assert_eq!(error.to_string(), "for now");
        assert_ready_ok!(service.poll_ready::<Request<Body>>());
        assert_eq!(assert_ready_ok!(task::spawn(service.call(get(UNKNOWN))).poll()).status(), 400);
    }
}

mod source {
    use super::*;

    #[tokio::test]
    async fn a_panic_frees_the_permit_and_hurts_no_other_request() {
        let registry = registry_fn(|client_id: String| {
            assert!(client_id != "bomb", "in find_client");
            async move {
                assert!(client_id != "late-bomb", "in the future");
                Ok((client_id == "app").then(|| Arc::new(client())))
            }
        });
        let service =
            ServiceBuilder::new().layer(ClientValidationLayer::new(registry)).concurrency_limit(1).service_fn(fine);
        for bomb in ["client_id=bomb", "client_id=late-bomb"] {
            let panicked = AssertUnwindSafe(service.clone().oneshot(get(bomb))).catch_unwind().await;
            assert!(panicked.is_err());
            assert_eq!(service.clone().oneshot(get(ACCEPTED)).await.unwrap().status(), 200);
        }
    }

    #[test]
    fn a_lookup_that_hangs_delays_no_other_client() {
        let (registry, mut lookups) = held_registry();
        let mut service = mock::Spawn::new(ClientValidationLayer::new(registry).layer(service_fn(fine)));
        let mut ask = |query: &str| {
            assert_ready_ok!(service.poll_ready::<Request<Body>>());
            task::spawn(service.call(get(query)))
        };
        let mut hanging = ask("client_id=slow");
        assert_pending!(hanging.poll());
        let mut other = ask(ACCEPTED);
        assert_pending!(other.poll());
        let slow = lookups.try_recv().unwrap();
        lookups.try_recv().unwrap().answer(Ok(Some(client().into())));
        assert_eq!(assert_ready_ok!(other.poll()).status(), 200);
        assert!(!hanging.is_woken());
        assert_pending!(hanging.poll());
        slow.answer(Err(RegistryError::transient("slow")));
        assert!(hanging.is_woken());
        assert_eq!(assert_ready_ok!(hanging.poll()).status(), 503);
    }

    #[test]
    fn an_answer_to_a_dropped_request_changes_nothing() {
        let (registry, mut lookups) = held_registry();
        let (mut service, mut handle): (_, mock::Handle<Request<Body>, Response<Body>>) =
            mock::spawn_layer(ClientValidationLayer::new(registry));
        let late: Vec<_> = (0..10)
            .map(|_| {
                assert_ready_ok!(service.poll_ready::<Request<Body>>());
                let mut response = task::spawn(service.call(get(ACCEPTED)));
                assert_pending!(response.poll());
                lookups.try_recv().unwrap()
            })
            .collect();
        for lookup in late {
            assert!(lookup.is_dropped());
            lookup.answer(Ok(Some(client().into())));
        }
        assert_pending!(handle.poll_request());
    }

    #[tokio::test]
    async fn a_failure_does_not_outlast_itself() {
        let calls = AtomicUsize::new(0);
        let registry = registry_fn(move |_| {
            let found = match calls.fetch_add(1, Ordering::Relaxed) {
                0 => Err(RegistryError::transient("down")),
                1 => Err(RegistryError::permanent("broken")),
                2 => Ok(None),
                _ => Ok(Some(Arc::new(client()))),
            };
            std::future::ready(found)
        });
        let service = ClientValidationLayer::new(registry).layer(service_fn(fine));
        for status in [503, 500, 400, 200] {
            assert_eq!(service.clone().oneshot(get(ACCEPTED)).await.unwrap().status(), status);
        }
    }

    #[tokio::test]
    async fn a_request_makes_one_lookup_at_most() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let registry = registry_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(None))
        });
        let service = ClientValidationLayer::new(registry).layer(service_fn(fine));
        for (query, expected) in
            [(ACCEPTED, 1), ("", 1), ("client_id=a&client_id=b", 1), ("client_id=%ff", 1), ("client_id=b", 2)]
        {
            service.clone().oneshot(get(query)).await.unwrap();
            assert_eq!(calls.load(Ordering::Relaxed), expected, "{query}");
        }
    }
}

mod body {
    use super::*;

    fn wrapped(body: HeldBody) -> impl Future<Output = Result<Response<ResponseBody<Body>>, BoxError>> {
        let inner =
            service_fn(|_: Request<RequestBody<HeldBody>>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
        layer().wrap_bodies().layer(inner).oneshot(form(body))
    }

    #[test]
    fn an_endless_body_takes_bounded_memory() {
        let (frames, body) = held_body();
        let mut response = task::spawn(wrapped(body));
        assert_pending!(response.poll());
        // Empty frames are no progress, and no end.
        for _ in 0..100 {
            frames.unbounded_send(Ok(Frame::data(Bytes::new()))).unwrap();
            assert_pending!(response.poll());
        }
        let mut sent = 0;
        let refused = loop {
            frames.unbounded_send(Ok(Frame::data(Bytes::from(vec![b'&'; 1024])))).unwrap();
            sent += 1024;
            if let Poll::Ready(refused) = response.poll() {
                break refused.unwrap();
            }
        };
        assert_eq!((refused.status().as_u16(), sent), (413, 65_536 + 1024));
        assert!(frames.is_closed(), "the body is dropped with the refusal");
    }

    #[tokio::test]
    async fn an_interrupted_body_is_refused_wherever_it_ends() {
        for sent in ["", ACCEPTED, "client_id=nobody", "%"] {
            let frames = [Ok(Frame::data(Bytes::from(sent))), Err(std::io::Error::other("reset"))];
            let broken = axum::body::Body::new(StreamBody::new(futures::stream::iter(frames)));
            let inner = service_fn(|_: Request<axum::body::Body>| async {
                Ok::<_, BoxError>(Response::new(axum::body::Body::empty()))
            });
            let response = layer().layer(inner).oneshot(form(broken)).await.unwrap();
            assert_eq!((response.status().as_u16(), reason(&response)), (400, Reason::BODY_UNREADABLE));
        }
    }

    #[test]
    fn the_limit_of_an_outer_layer_is_recognized_however_deep() {
        #[derive(Debug)]
        struct Outer(BoxError);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("outer")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&*self.0)
            }
        }
        let limited = http_body_util::Limited::new(Body::from("too much"), 1);
        let limit = http_body_util::BodyExt::collect(limited).now_or_never().unwrap().unwrap_err();
        let (frames, body) = held_body();
        frames.unbounded_send(Err(Outer(Box::new(Outer(limit))).into())).unwrap();
        let response = wrapped(body).now_or_never().unwrap().unwrap();
        assert_eq!((response.status().as_u16(), reason(&response)), (413, Reason::BODY_TOO_LARGE));
    }
}

mod input {
    use super::*;

    const MANY: usize = 100_000;

    fn ask(registry: impl RegistrySource, policy: Policy, body: String) -> Response<Body> {
        let layer = ClientValidationLayer::new(registry).policy(policy).max_body_bytes(64 * 1024 * 1024);
        layer.layer(service_fn(fine)).oneshot(fixture::post(body)).now_or_never().unwrap().unwrap()
    }

    fn many(pair: &str) -> String {
        format!("{ACCEPTED}{}", format!("&{pair}").repeat(MANY))
    }

    #[test]
    fn a_hundred_thousand_parameters() {
        for (pair, status, why) in [
            ("x=1", 200, None),
            ("", 200, None),
            ("=", 200, None),
            ("%=%", 200, None),
            ("%63lient_idx=app", 200, None),
            ("resource=https://api.example/", 200, None),
            ("client_id=app", 400, Some("parameter_repeated")),
            ("%63lient_id=app", 400, Some("parameter_repeated")),
            ("redirect_uri=https://app.example/cb", 400, Some("parameter_repeated")),
            ("scope=read", 303, Some("parameter_repeated")),
            ("state=", 303, Some("parameter_repeated")),
            ("resource=x", 303, Some("resource_malformed")),
        ] {
            let response = ask(fixture::registry(), Policy::default(), many(pair));
            let rejection = response.extensions().get::<Rejection>();
            let because = rejection.map(|rejection| rejection.reason().as_str());
            assert_eq!((response.status().as_u16(), because), (status, why), "{pair}");
        }
    }

    #[test]
    fn a_hundred_thousand_resources_are_all_kept() {
        let request = AuthorizationRequest::parse(b"", many("resource=https://api.example/").as_bytes());
        assert_eq!(request.resources().count(), MANY);
        let validated = Validator::default().validate(request, Some(Arc::new(client()))).unwrap();
        assert_eq!(validated.resources().count(), MANY);
    }

    #[test]
    fn a_scope_of_a_hundred_thousand_tokens() {
        let scope = |token: fn(usize) -> String| (0..MANY).map(token).collect::<Vec<_>>().join("+");
        let base = "client_id=app&response_type=code&scope=";
        let different = format!("{base}{}", scope(|index| format!("s{index}")));
        let same = format!("{base}{}", scope(|_| "read".to_owned()));

        let all = Client::builder("app").confidential().redirect_uri(CALLBACK).scope("*").build().unwrap();
        let granted = |client: Client, body: &str| {
            let request = AuthorizationRequest::parse(b"", body.as_bytes());
            Validator::default().validate(request, Some(Arc::new(client))).map(|validated| validated.scopes().count())
        };
        assert_eq!(granted(all.clone(), &different).unwrap(), MANY);
        assert_eq!(granted(all, &same).unwrap(), 1);
        assert_eq!(granted(client(), &same).unwrap(), 1);
        assert_eq!(granted(client(), &different).unwrap_err().reason(), Reason::SCOPE_NOT_ALLOWED);
        let many = Client::builder("app")
            .confidential()
            .redirect_uri(CALLBACK)
            .scope(scope(|index| format!("s{index}")).replace('+', " "))
            .build()
            .unwrap();
        assert_eq!(granted(many, &different).unwrap(), MANY);
    }

    #[test]
    fn a_scope_matcher_is_asked_no_more_than_once_for_each_pair() {
        let asked = Arc::new(AtomicUsize::new(0));
        for (tokens, allowed) in [(10, 10), (100, 10), (1000, 10)] {
            let list = |count: usize| (0..count).map(|index| format!("s{index}")).collect::<Vec<_>>();
            let counted = Arc::clone(&asked);
            counted.store(0, Ordering::Relaxed);
            let policy = Policy::oauth2().scope_matcher(move |_: &str, _: &str| {
                counted.fetch_add(1, Ordering::Relaxed);
                true
            });
            let policy = policy.build().unwrap();
            let client = Client::builder("app")
                .confidential()
                .redirect_uri(CALLBACK)
                .scope(list(allowed).join(" "))
                .build()
                .unwrap();
            let body = format!("client_id=app&response_type=code&scope={}", list(tokens).join("+"));
            let response = ask(MemoryRegistry::from_clients([client]), policy, body);
            assert_eq!(response.status(), 200);
            assert!(asked.load(Ordering::Relaxed) <= tokens * allowed);
        }
    }

    #[test]
    fn very_long_values() {
        let long = "a".repeat(1_000_000);
        let escaped = "%61".repeat(1_000_000);
        for (body, status) in [
            (format!("{ACCEPTED}&nonce={long}"), 200),
            (format!("{ACCEPTED}&nonce={escaped}"), 200),
            (format!("{ACCEPTED}&{long}=1"), 200),
            (format!("{ACCEPTED}&{escaped}=1"), 200),
            (format!("client_id={long}"), 400),
            (format!("client_id=app&redirect_uri=https://app.example/{long}"), 400),
            (format!("{ACCEPTED}&code_challenge={long}"), 303),
            (format!("{ACCEPTED}&response_mode={long}"), 303),
        ] {
            let what = body[..body.len().min(60)].to_owned();
            assert_eq!(ask(fixture::registry(), Policy::default(), body).status(), status, "{what}");
        }
        // `state` comes back whole.
        let response = ask(fixture::registry(), Policy::default(), format!("client_id=app&state={long}"));
        assert!(fixture::location(&response).ends_with(&format!("&state={long}")));
    }

    #[tokio::test]
    async fn undecodable_bytes_in_any_parameter_are_refused() {
        let raw: [&[u8]; 8] = [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\r\n", b"\0", b"%", b"%z", b"a%0"];
        let escaped: [&[u8]; 6] = [b"%ff", b"a%c3", b"%ed%a0%80", b"%0d%0aSet-Cookie:%20a=b", b"%00", b"a%00b"];
        for parameter in Parameter::ALL.iter().copied() {
            for nasty in raw.into_iter().chain(escaped) {
                let name = parameter.as_str();
                let others =
                    ["client_id=app", "response_type=code", "redirect_uri=https://app.example/cb", "state=kept"];
                let mut body: Vec<u8> = [name.as_bytes(), b"=", nasty].concat();
                for other in others.iter().filter(|other| !other.starts_with(&format!("{name}="))) {
                    body.extend_from_slice(b"&");
                    body.extend_from_slice(other.as_bytes());
                }
                let inner =
                    service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(BoxError::from("reached")) });
                let response = layer().layer(inner).oneshot(fixture::post(body)).await;
                let response = response.unwrap_or_else(|error| panic!("{name}={nasty:?}: {error}"));
                let direct = matches!(parameter, Parameter::ClientId | Parameter::RedirectUri);
                let what = format!("{name}={} {response:?}", nasty.escape_ascii());
                assert_eq!(response.status(), if direct { 400 } else { 303 }, "{what}");
                for (_, value) in response.headers() {
                    assert!(value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)), "{what}");
                }
                if let Some(location) = response.headers().get(header::LOCATION) {
                    let location = location.to_str().unwrap();
                    assert!(location.starts_with("https://app.example/cb?error="), "{what}");
                    assert_eq!(location.ends_with("&state=kept"), parameter != Parameter::State, "{what}");
                    assert!(parameter != Parameter::State || !location.contains("state="), "{what}");
                }
                assert!(!text(response).await.contains(char::REPLACEMENT_CHARACTER), "{what}");
            }
        }
    }

    #[tokio::test]
    async fn undecodable_bytes_elsewhere_are_ignored() {
        for nasty in [&b"\xff"[..], b"\r\n\0", b"%", b"%zz", b"%00", b"%0d%0a"] {
            for body in [
                [b"x=", nasty].concat(),
                [nasty, b"=x"].concat(),
                [b"client_id", nasty, b"=x"].concat(),
                nasty.to_vec(),
            ] {
                let body = [ACCEPTED.as_bytes(), b"&", &body, b"&", &body].concat();
                let inner = service_fn(|request: Request<Body>| async move {
                    assert!(request.extensions().get::<ValidatedRequest>().is_some());
                    Ok::<_, BoxError>(Response::new(
                        http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes().into(),
                    ))
                });
                let response: Response<Body> = layer().layer(inner).oneshot(fixture::post(body.clone())).await.unwrap();
                assert_eq!(response.status(), 200, "{}", body.escape_ascii());
                let got = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
                assert_eq!(got, body, "byte for byte");
            }
        }
    }

    #[test]
    fn control_characters_are_distinct_from_undecodable_bytes() {
        let fault =
            |value: &str| AuthorizationRequest::parse(format!("state={value}").as_bytes(), b"").fault(Parameter::State);
        for byte in 0..=0xff_u8 {
            let expected = match byte {
                0x00..=0x1f | 0x7f => Some(ParameterFault::ControlCharacter),
                0x80.. => Some(ParameterFault::Undecodable),
                _ => None,
            };
            assert_eq!(fault(&format!("%{byte:02X}")), expected, "{byte:#x}");
        }
        assert_eq!(fault("%C2%80"), None, "C1 characters are text like any other");
    }

    #[tokio::test]
    async fn no_request_changes_a_stored_client() {
        let registry = fixture::registry();
        let before = format!("{:?}", registry.list());
        let service = ClientValidationLayer::new(registry.clone()).layer(service_fn(fine));
        for query in [ACCEPTED, UNKNOWN, "client_id=app&redirect_uri=https://evil.example/&scope=%2A", ""] {
            service.clone().oneshot(get(query)).await.unwrap();
            service.clone().oneshot(fixture::post(query)).await.unwrap();
        }
        assert_eq!(format!("{:?}", registry.list()), before);
        assert_eq!(registry.len(), 1);
    }
}

mod clock {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use tower_oauth_client_validation::{AuthorizationRequest, Reason, RegistryStore, Validator};

    use crate::fixture::{ACCEPTED, client, registry};

    /// No decision is cached: each request is judged by the current time.
    #[test]
    fn a_clock_that_jumps_decides_each_request_by_the_current_time() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let expiring = Arc::new(client().to_builder().expires_at(end).build().unwrap());
        let validator = Validator::default();
        let judge = |now| {
            let request = AuthorizationRequest::parse(ACCEPTED.as_bytes(), b"");
            validator.validate_at(request, Some(Arc::clone(&expiring)), now).map_err(|refused| refused.reason())
        };
        let second = Duration::from_secs(1);
        for (now, is_accepted) in [
            (end - second, true),
            (end, false),
            (end + 1_000 * second, false),
            (SystemTime::UNIX_EPOCH, true),
            (SystemTime::UNIX_EPOCH - 1_000 * second, true),
            (end + second, false),
            (end - second, true),
        ] {
            match judge(now) {
                Ok(_) => assert!(is_accepted, "{now:?}"),
                Err(reason) => assert!(!is_accepted && matches!(reason, Reason::CLIENT_EXPIRED), "{now:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_clock_that_jumps_back_keeps_the_last_use_of_a_client() {
        let (store, day) = (registry(), Duration::from_secs(86_400));
        let now = SystemTime::UNIX_EPOCH + 20_000 * day;
        for at in [now, now - day, SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH - day] {
            store.touch("app", at).await.unwrap();
            assert_eq!(store.record("app").await.unwrap().unwrap().last_used_at, Some(now));
        }
    }
}
