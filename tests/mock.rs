//! The `tower` contract of the service: readiness, permits, errors, cancellation.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::buffer::Buffer;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    ClientValidation, ClientValidationLayer, RegistrySource, ReportedOutcome, ValidatedRequest,
};
use tower_test::mock;

use crate::fixture::{self, ACCEPTED, HeldBody, UNKNOWN, WRONG_SCOPE, client, held_body, held_registry};

type Body = Full<Bytes>;
type Handle = mock::Handle<Request<Body>, Response<Body>>;
type Mock = mock::Mock<Request<Body>, Response<Body>>;

fn get(query: &str) -> Request<Body> {
    fixture::get(query)
}

fn found() -> fixture::Found {
    Ok(Some(client().into()))
}

#[test]
fn pending_readiness_is_passed_on() {
    let (mut service, mut handle) = mock::spawn_layer::<_, Response<Body>, _>(fixture::layer());
    handle.allow(0);
    assert_pending!(service.poll_ready::<Request<Body>>());
    assert!(!service.is_woken());
    handle.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready::<Request<Body>>());
}

#[tokio::test]
async fn an_accepted_request_reaches_the_inner_service_unchanged() {
    let (mut service, mut handle): (_, Handle) = mock::spawn_layer(fixture::layer());
    assert_ready_ok!(service.poll_ready::<Request<Body>>());
    let mut request = Request::get(format!("/authorize?{ACCEPTED}&extra=%zz&extra=2"))
        .version(http::Version::HTTP_10)
        .header("x-one", "1")
        .header("x-one", "2")
        .body(Body::from("a body on a GET"))
        .unwrap();
    request.extensions_mut().insert(7_u8);
    let mut response = task::spawn(service.call(request));
    assert_pending!(response.poll());

    let (mut inner, answer) = handle.next_request().await.unwrap();
    assert_eq!(inner.method(), Method::GET);
    assert_eq!(inner.uri(), &*format!("/authorize?{ACCEPTED}&extra=%zz&extra=2"));
    assert_eq!(inner.version(), http::Version::HTTP_10);
    assert_eq!(inner.headers().get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(inner.headers().len(), 2);
    assert_eq!(inner.extensions().get::<u8>(), Some(&7));
    let validated = inner.extensions_mut().remove::<ValidatedRequest>().unwrap();
    assert_eq!((validated.client_id(), validated.scope(), validated.state()), ("app", "read", Some("xyz")));
    assert!(inner.extensions().get::<ReportedOutcome>().is_none());
    assert_eq!(inner.into_body().collect().await.unwrap().to_bytes(), "a body on a GET");

    let mut answered = Response::builder().status(418).header("x-two", "3").body(Body::from("tea")).unwrap();
    answered.extensions_mut().insert(8_u8);
    answer.send_response(answered);
    let response = assert_ready_ok!(response.poll());
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.extensions().get::<u8>(), Some(&8));
    assert_eq!(fixture::text(response).await, "tea");
}

#[test]
fn a_rejected_request_never_reaches_the_inner_service() {
    for (request, status) in [
        (get(UNKNOWN), 400),
        (get(WRONG_SCOPE), 302),
        (get(""), 400),
        (Request::put("/authorize").body(Body::default()).unwrap(), 405),
        (Request::post("/authorize").body(Body::from(ACCEPTED)).unwrap(), 400),
        (fixture::post(UNKNOWN), 400),
        (fixture::post(WRONG_SCOPE), 303),
        (fixture::post(vec![b'a'; 65_537]), 413),
    ] {
        let (mut service, mut handle): (_, Handle) = mock::spawn_layer(fixture::layer());
        assert_ready_ok!(service.poll_ready::<Request<Body>>());
        let mut response = task::spawn(service.call(request));
        assert_eq!(assert_ready_ok!(response.poll()).status(), status);
        assert_pending!(handle.poll_request());
    }
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    // The mock panics when a clone, which was not polled ready, is called.
    let (mut service, mut handle): (_, Handle) = mock::spawn_layer(fixture::layer());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready::<Request<Body>>());
    let mut response = task::spawn(service.call(get(ACCEPTED)));
    assert_pending!(response.poll());
    // What was left behind has no readiness of the one that went.
    assert_pending!(service.poll_ready::<Request<Body>>());
    handle.next_request().await.unwrap().1.send_response(Response::new(Body::default()));
    assert_ready_ok!(response.poll());
}

#[tokio::test]
async fn errors_of_the_inner_service_pass_through() {
    let (mut service, mut handle): (_, Handle) = mock::spawn_layer(fixture::layer());
    assert_ready_ok!(service.poll_ready::<Request<Body>>());
    let mut response = task::spawn(service.call(get(ACCEPTED)));
    assert_pending!(response.poll());
    handle.next_request().await.unwrap().1.send_error(std::io::Error::other("from call"));
    let error = assert_ready_err!(response.poll());
    assert_eq!(error.downcast::<std::io::Error>().unwrap().to_string(), "from call");

    handle.send_error(std::io::Error::other("from poll_ready"));
    let error = assert_ready_err!(service.poll_ready::<Request<Body>>());
    assert_eq!(error.downcast::<std::io::Error>().unwrap().to_string(), "from poll_ready");
}

/// So many permits under the layer.
fn limited<R>(registry: R, permits: usize) -> (mock::Spawn<ClientValidation<ConcurrencyLimit<Mock>, R>>, Handle)
where
    R: RegistrySource,
{
    let (mock, handle) = mock::pair();
    let service = ClientValidationLayer::new(registry).layer(ConcurrencyLimit::new(mock, permits));
    (mock::Spawn::new(service), handle)
}

#[test]
fn a_rejection_frees_the_permit_while_its_future_lives() {
    let (registry, mut lookups) = held_registry();
    let (mut service, mut handle) = limited(registry, 1);

    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(get(UNKNOWN)));
    assert_pending!(response.poll());
    assert_pending!(service.poll_ready());
    lookups.try_recv().unwrap().answer(Ok(None));
    assert_eq!(assert_ready_ok!(response.poll()).status(), 400);
    // `response`, the future, is still there.
    assert_ready_ok!(service.poll_ready());
    assert_pending!(handle.poll_request());
    drop(response);
}

#[test]
fn a_rejection_that_needs_no_lookup_frees_the_permit_before_it_is_polled() {
    let (mut service, _handle) = limited(fixture::registry(), 1);
    for request in [
        Request::put("/authorize").body(Body::default()).unwrap(),
        Request::post("/authorize").body(Body::from(ACCEPTED)).unwrap(),
        get("client_id=a&client_id=a"),
    ] {
        assert_ready_ok!(service.poll_ready());
        let unpolled = service.call(request);
        assert_ready_ok!(service.poll_ready());
        drop(unpolled);
    }
}

#[test]
fn one_rejection_frees_its_permit_while_another_request_is_looked_up() {
    let (registry, mut lookups) = held_registry();
    let (mut service, _handle) = limited(registry, 2);

    assert_ready_ok!(service.poll_ready());
    let mut waiting = task::spawn(service.call(get(ACCEPTED)));
    assert_pending!(waiting.poll());
    let first = lookups.try_recv().unwrap();
    assert_eq!(first.client_id, "app");

    assert_ready_ok!(service.poll_ready());
    let mut rejected = task::spawn(service.call(get(UNKNOWN)));
    assert_pending!(rejected.poll());
    assert_pending!(service.poll_ready());
    lookups.try_recv().unwrap().answer(Ok(None));
    assert!(rejected.is_woken());
    assert!(!waiting.is_woken());
    assert_eq!(assert_ready_ok!(rejected.poll()).status(), 400);
    assert_ready_ok!(service.poll_ready());
    assert_pending!(waiting.poll());
    assert!(!first.is_dropped());
}

#[tokio::test]
async fn an_accepted_request_holds_its_permit_until_the_inner_service_answers() {
    let (mut service, mut handle) = limited(fixture::registry(), 1);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(get(ACCEPTED)));
    assert_pending!(response.poll());
    assert_pending!(service.poll_ready());
    handle.next_request().await.unwrap().1.send_response(Response::new(Body::default()));
    assert_ready_ok!(response.poll());
    drop(response);
    assert_ready_ok!(service.poll_ready());
}

#[test]
fn a_future_that_is_dropped_during_the_lookup_leaves_nothing_behind() {
    let (registry, mut lookups) = held_registry();
    let (mut service, mut handle) = limited(registry, 1);

    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(get(ACCEPTED)));
    assert_pending!(response.poll());
    let lookup = lookups.try_recv().unwrap();
    drop(response);
    assert!(lookup.is_dropped());
    assert_ready_ok!(service.poll_ready());
    // An answer that comes too late does nothing.
    lookup.answer(found());
    assert_pending!(handle.poll_request());
}

#[test]
fn a_future_that_is_dropped_while_the_body_is_read_leaves_nothing_behind() {
    let (frames, body) = held_body();
    let (registry, mut lookups) = held_registry();
    let (mock, mut handle) = mock::pair::<Request<_>, Response<Body>>();
    let layer = ClientValidationLayer::new(registry).wrap_bodies();
    let mut service = mock::Spawn::new(layer.layer(ConcurrencyLimit::new(mock, 1)));

    assert_ready_ok!(service.poll_ready::<Request<HeldBody>>());
    let mut response = task::spawn(service.call(fixture::post(body)));
    assert_pending!(response.poll());
    frames.unbounded_send(Ok(http_body::Frame::data(Bytes::from("client_id=app")))).unwrap();
    assert!(response.is_woken());
    assert_pending!(response.poll());
    assert_pending!(service.poll_ready::<Request<HeldBody>>());
    drop(response);
    assert!(frames.is_closed());
    assert_ready_ok!(service.poll_ready::<Request<HeldBody>>());
    assert!(lookups.try_recv().is_err(), "a body that did not end must not be looked up");
    assert_pending!(handle.poll_request());
}

#[test]
fn a_future_that_is_dropped_while_the_inner_service_works_drops_its_future() {
    let (held, mut waiting) = tokio::sync::oneshot::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(Some(held)));
    let inner = service_fn(move |_: Request<Body>| {
        let held = held.lock().unwrap().take();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, BoxError>(Response::new(Body::default()))
        }
    });
    let mut service = mock::Spawn::new(fixture::layer().layer(inner));
    assert_ready_ok!(service.poll_ready::<Request<Body>>());
    let mut response = task::spawn(service.call(get(ACCEPTED)));
    assert_pending!(response.poll());
    assert_eq!(waiting.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty));
    drop(response);
    assert_eq!(waiting.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Closed));
}

#[test]
fn options_is_not_judged() {
    let (registry, mut lookups) = held_registry();
    let (mut service, mut handle): (_, Handle) = mock::spawn_layer(ClientValidationLayer::new(registry));
    assert_ready_ok!(service.poll_ready::<Request<Body>>());
    let request = Request::options(format!("/authorize?{UNKNOWN}&client_id=%zz"))
        .header("access-control-request-method", "POST")
        .body(Body::from("left alone"))
        .unwrap();
    let mut response = task::spawn(service.call(request));
    assert_pending!(response.poll());
    let std::task::Poll::Ready(Some((inner, answer))) = handle.poll_request() else {
        panic!("it did not reach the inner service");
    };
    assert_eq!(inner.method(), Method::OPTIONS);
    assert_eq!(inner.headers()["access-control-request-method"], "POST");
    assert!(inner.extensions().get::<ValidatedRequest>().is_none());
    assert!(lookups.try_recv().is_err());
    let mut answered = Response::new(Body::default());
    *answered.status_mut() = StatusCode::NO_CONTENT;
    answer.send_response(answered);
    let response = assert_ready_ok!(response.poll());
    assert_eq!(response.status(), 204);
    assert!(response.headers().is_empty());
}

async fn hello(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let validated = request.extensions().get::<ValidatedRequest>().unwrap();
    Ok(Response::new(Body::from(validated.client_id().to_owned())))
}

async fn assert_accepts_and_rejects<S>(service: S)
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
    S::Error: std::fmt::Debug,
{
    for _ in 0..3 {
        let accepted = service.clone().oneshot(get(ACCEPTED)).await.unwrap();
        assert_eq!((accepted.status(), &*fixture::text(accepted).await), (StatusCode::OK, "app"));
        let posted = service.clone().oneshot(fixture::post(ACCEPTED)).await.unwrap();
        assert_eq!(posted.status(), 200);
        assert_eq!(service.clone().oneshot(get(UNKNOWN)).await.unwrap().status(), 400);
        assert_eq!(service.clone().oneshot(get(WRONG_SCOPE)).await.unwrap().status(), 302);
    }
}

#[tokio::test]
async fn it_works_under_and_over_other_middleware() {
    let minute = Duration::from_secs(60);
    let layer = fixture::layer();
    let builder = ServiceBuilder::new;
    assert_accepts_and_rejects(builder().buffer(1).layer(layer.clone()).service_fn(hello)).await;
    assert_accepts_and_rejects(builder().layer(layer.clone()).buffer(1).service_fn(hello)).await;
    assert_accepts_and_rejects(builder().concurrency_limit(1).layer(layer.clone()).service_fn(hello)).await;
    assert_accepts_and_rejects(builder().layer(layer.clone()).concurrency_limit(1).service_fn(hello)).await;
    assert_accepts_and_rejects(builder().load_shed().layer(layer.clone()).service_fn(hello)).await;
    assert_accepts_and_rejects(builder().layer(layer.clone()).load_shed().service_fn(hello)).await;
    assert_accepts_and_rejects(builder().timeout(minute).layer(layer.clone()).service_fn(hello)).await;
    assert_accepts_and_rejects(builder().layer(layer.clone()).timeout(minute).service_fn(hello)).await;
    let sandwich = builder()
        .buffer(4)
        .load_shed()
        .concurrency_limit(2)
        .timeout(minute)
        .layer(layer.clone())
        .timeout(minute)
        .load_shed()
        .concurrency_limit(1)
        .buffer(4);
    assert_accepts_and_rejects(sandwich.service_fn(hello)).await;
    assert_accepts_and_rejects(builder().layer(layer.clone()).layer(layer).service_fn(hello)).await;
}

#[test]
fn load_shed_under_the_layer_sheds_accepted_requests_only() {
    let (mock, mut handle): (Mock, Handle) = mock::pair();
    handle.allow(0);
    let mut service = mock::Spawn::new(ServiceBuilder::new().layer(fixture::layer()).load_shed().service(mock));
    assert_ready_ok!(service.poll_ready());
    assert_eq!(assert_ready_ok!(task::spawn(service.call(get(UNKNOWN))).poll()).status(), 400);
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call(get(ACCEPTED))).poll());
    assert!(error.is::<Overloaded>());
}

#[test]
fn load_shed_over_the_layer_sees_that_the_inner_service_is_busy() {
    let (mock, mut handle): (Mock, Handle) = mock::pair();
    handle.allow(0);
    let mut service = mock::Spawn::new(ServiceBuilder::new().load_shed().layer(fixture::layer()).service(mock));
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call(get(UNKNOWN))).poll());
    assert!(error.is::<Overloaded>());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_over_the_layer_ends_a_lookup() {
    let (registry, mut lookups) = held_registry();
    let service = ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .layer(ClientValidationLayer::new(registry))
        .concurrency_limit(1)
        .service_fn(hello);
    let error = service.clone().oneshot(get(ACCEPTED)).await.unwrap_err();
    assert!(error.is::<Elapsed>());
    assert!(lookups.try_recv().unwrap().is_dropped());

    let answer = tokio::spawn(async move { lookups.recv().await.unwrap().answer(found()) });
    assert_eq!(service.oneshot(get(ACCEPTED)).await.unwrap().status(), 200);
    answer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_under_the_layer_does_not_count_the_lookup() {
    let (registry, mut lookups) = held_registry();
    let service = ServiceBuilder::new()
        .layer(ClientValidationLayer::new(registry))
        .timeout(Duration::from_secs(5))
        .service_fn(hello);
    let answer = tokio::spawn(async move {
        let lookup = lookups.recv().await.unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        lookup.answer(found());
    });
    assert_eq!(service.oneshot(get(ACCEPTED)).await.unwrap().status(), 200);
    answer.await.unwrap();
}

#[tokio::test]
async fn a_rejection_frees_the_slot_of_a_buffer() {
    let (mock, _handle): (Mock, Handle) = mock::pair();
    let (registry, mut lookups) = held_registry();
    let (buffer, _worker) = Buffer::pair(mock, 1);
    let mut service = mock::Spawn::new(ClientValidationLayer::new(registry).layer(buffer));
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call(get(UNKNOWN)));
    assert_pending!(response.poll());
    assert_pending!(service.poll_ready());
    lookups.recv().await.unwrap().answer(Ok(None));
    assert_eq!(assert_ready_ok!(response.poll()).status(), 400);
    assert_ready_ok!(service.poll_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clones_work_at_the_same_time() {
    const TASKS: usize = 64;
    let (registry, mut lookups) = held_registry();
    let service = ClientValidationLayer::new(registry).layer(service_fn(hello));
    let tasks: Vec<_> = (0..TASKS)
        .map(|index| {
            let service = service.clone();
            let request = if index % 2 == 0 { get(ACCEPTED) } else { get(UNKNOWN) };
            tokio::spawn(async move { service.oneshot(request).await.unwrap().status() })
        })
        .collect();
    // No lookup is answered before all of them are under way.
    let mut waiting = Vec::new();
    for _ in 0..TASKS {
        waiting.push(lookups.recv().await.unwrap());
    }
    for lookup in waiting {
        let answer = if lookup.client_id == "app" { found() } else { Ok(None) };
        lookup.answer(answer);
    }
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), if index % 2 == 0 { 200 } else { 400 });
    }
}

#[test]
fn the_inner_service_can_be_reached() {
    let mut service = fixture::layer().layer(5_u8);
    assert_eq!(*service.get_ref(), 5);
    *service.get_mut() = 6;
    assert_eq!(service.into_inner(), 6);
}

#[test]
fn debug_output_does_not_require_a_debug_registry() {
    let (registry, _lookups) = held_registry();
    let layer = ClientValidationLayer::new(registry);
    assert!(format!("{layer:?}").contains("max_body_bytes: 65536"));
    let service = layer.layer("inner");
    assert!(format!("{service:?}").contains("inner"));
}
