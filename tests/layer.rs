//! Settings of the layer other than the policy: tenants, asynchronous checks, answer hooks, and other frameworks.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AnswerHook, AsyncCheck, AsyncRegistry, AuthorizationError, Client, ClientValidationLayer, ErrorCode,
    MemoryRegistry, Policy, Reason, RedirectErrors, RegistryError, Rejection, ReportedOutcome, Tenancy, Tenant,
    UnknownClients, ValidatedRequest, Verdict,
};

use crate::fixture::{self, ACCEPTED, CALLBACK, UNKNOWN, WRONG_SCOPE, client, layer, location, registry, text};

type Body = Full<Bytes>;

fn ask<T: Tenancy>(layer: ClientValidationLayer<T>, request: Request<Body>) -> Response<Body> {
    let inner = service_fn(|request: Request<Body>| async move {
        let validated = request.extensions().get::<ValidatedRequest>();
        let body = validated.map(|validated| validated.redirect_uri().to_owned()).unwrap_or_default();
        Ok::<_, Infallible>(Response::new(Body::from(body)))
    });
    block_on(layer.layer(inner).oneshot(request)).unwrap()
}

fn body(response: Response<Body>) -> String {
    block_on(text(response))
}

fn reason(response: &Response<Body>) -> Reason {
    response.extensions().get::<Rejection>().unwrap().reason()
}

fn of_host(host: &str, request: Request<Body>) -> Request<Body> {
    let mut request = request;
    request.headers_mut().insert(header::HOST, host.parse().unwrap());
    request
}

fn tenants() -> ClientValidationLayer<impl Tenancy> {
    let of_b = Client::builder("app").redirect_uri("https://b.example/cb").scope("read").build().unwrap();
    let policy = Policy::oauth2().issuer("https://b.as.example").build().unwrap();
    let a = Tenant::new(registry());
    let b = Tenant::new(MemoryRegistry::from_clients([of_b])).policy(policy);
    let layer =
        ClientValidationLayer::for_each_tenant(move |request| match request.headers.get(header::HOST)?.as_bytes() {
            b"a.example" => Some(a.clone()),
            b"b.example" => Some(b.clone()),
            _ => None,
        });
    // The policy of tenants without their own.
    layer.policy(Policy::oauth2().build().unwrap())
}

#[test]
fn each_tenant_has_its_own_clients_policy_and_issuer() {
    assert_eq!(body(ask(tenants(), of_host("a.example", fixture::get(ACCEPTED)))), CALLBACK);
    assert_eq!(body(ask(tenants(), of_host("b.example", fixture::get(ACCEPTED)))), "https://b.example/cb");
    assert_eq!(body(ask(tenants(), of_host("b.example", fixture::post(ACCEPTED)))), "https://b.example/cb");
    // The same id is another client.
    let foreign = format!("{ACCEPTED}&redirect_uri={CALLBACK}");
    assert_eq!(ask(tenants(), of_host("a.example", fixture::get(&foreign))).status(), 200);
    let refused = ask(tenants(), of_host("b.example", fixture::get(&foreign)));
    assert_eq!((refused.status().as_u16(), reason(&refused)), (400, Reason::REDIRECT_URI_NOT_REGISTERED));

    let of_a = ask(tenants(), of_host("a.example", fixture::get(WRONG_SCOPE)));
    assert!(!location(&of_a).contains("iss="));
    let of_b = ask(tenants(), of_host("b.example", fixture::get(WRONG_SCOPE)));
    assert!(location(&of_b).ends_with("&iss=https%3A%2F%2Fb.as.example"), "{}", location(&of_b));
}

#[test]
fn an_unknown_tenant_is_not_found() {
    for request in [fixture::get(ACCEPTED), fixture::post(ACCEPTED), Request::put("/").body(Body::default()).unwrap()] {
        let response = ask(tenants(), of_host("c.example", request));
        assert_eq!((response.status(), reason(&response)), (StatusCode::NOT_FOUND, Reason::TENANT_UNKNOWN));
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    }
    let (request, ()) = Request::get(format!("/?{ACCEPTED}")).body(()).unwrap().into_parts();
    let Verdict::Refused(response) = block_on(tenants().judge(&request, Bytes::new())) else { panic!("not refused") };
    assert_eq!(response.status(), 404);
}

/// Waits, and refuses requests without a ticket.
#[derive(Clone)]
struct Tickets(Arc<std::sync::Mutex<Option<oneshot::Receiver<()>>>>);

impl AsyncCheck for Tickets {
    async fn check(&self, request: &Parts, validated: &ValidatedRequest) -> Result<(), AuthorizationError> {
        let waits = self.0.lock().unwrap().take();
        if let Some(wait) = waits {
            wait.await.unwrap();
        }
        match request.headers.get("x-ticket") {
            Some(ticket) if ticket == validated.client_id() => Ok(()),
            _ => Err(AuthorizationError::new(ErrorCode::AccessDenied, "no ticket")),
        }
    }
}

fn tickets() -> (oneshot::Sender<()>, Tickets) {
    let (sender, receiver) = oneshot::channel();
    (sender, Tickets(Arc::new(std::sync::Mutex::new(Some(receiver)))))
}

#[tokio::test]
async fn a_check_waits_and_sees_the_request() {
    let (go_on, tickets) = tickets();
    let inner = service_fn(|request: Request<Body>| async move {
        assert_eq!(request.headers()["x-ticket"], "app");
        assert_eq!(request.uri().query(), Some(ACCEPTED));
        assert!(request.extensions().get::<ValidatedRequest>().is_some());
        Ok::<_, Infallible>(Response::new(Body::default()))
    });
    let mut request: Request<Body> = fixture::get(ACCEPTED);
    request.headers_mut().insert("x-ticket", "app".parse().unwrap());
    let mut asking = tokio_test::task::spawn(layer().check("ticket", tickets).layer(inner).oneshot(request));
    assert!(asking.poll().is_pending());
    go_on.send(()).unwrap();
    assert!(asking.is_woken());
    assert_eq!(asking.await.unwrap().status(), 200);
}

#[test]
fn a_check_refuses_by_its_name_where_the_policy_sends_errors() {
    let refusing = || Tickets(Arc::default());
    let redirected = ask(layer().check("ticket", refusing()), fixture::get(ACCEPTED));
    assert_eq!((redirected.status().as_u16(), reason(&redirected).as_str()), (302, "ticket"));
    assert!(location(&redirected).starts_with("https://app.example/cb?error=access_denied&"));

    let never = Policy::oauth2().redirect_errors(RedirectErrors::Never).build().unwrap();
    let direct = ask(layer().policy(never).check("ticket", refusing()), fixture::get(ACCEPTED));
    assert_eq!((direct.status().as_u16(), reason(&direct).as_str()), (400, "ticket"));

    // Rules come first, and the first check decides.
    let first = |_: &Parts, _: &ValidatedRequest| async { Err(AuthorizationError::new(ErrorCode::LoginRequired, "x")) };
    let both = layer().check("first", first).check("ticket", refusing());
    assert_eq!(reason(&ask(both.clone(), fixture::get(ACCEPTED))).as_str(), "first");
    assert_eq!(reason(&ask(both, fixture::get(WRONG_SCOPE))), Reason::SCOPE_NOT_ALLOWED);
}

struct Localised;

impl AnswerHook for Localised {
    async fn answer(&self, request: &Parts, rejection: &Rejection, mut answer: Response<Bytes>) -> Response<Bytes> {
        tokio::task::yield_now().await;
        let language = request.headers.get(header::ACCEPT_LANGUAGE).map_or("none", |value| value.to_str().unwrap());
        *answer.body_mut() = format!("{language} {}", rejection.error()).into();
        answer
    }
}

#[tokio::test]
async fn a_hook_may_wait_and_sees_the_request() {
    let mut request: Request<Body> = fixture::get(UNKNOWN);
    request.headers_mut().insert(header::ACCEPT_LANGUAGE, "de".parse().unwrap());
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::default())) });
    let response = layer().answer_hook(Localised).layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(text(response).await, "de invalid_client");
}

#[test]
fn a_hook_is_not_called_for_redirects() {
    let hooked = layer().answer_hook(Localised);
    assert_eq!(body(ask(hooked, fixture::get(WRONG_SCOPE))), "");
}

#[test]
fn options_can_be_refused() {
    let options = || Request::options(format!("/authorize?{ACCEPTED}")).body(Body::default()).unwrap();
    assert_eq!(ask(layer(), options()).status(), 200);
    let response = ask(layer().refuse_options(true), options());
    assert_eq!((response.status().as_u16(), reason(&response)), (405, Reason::METHOD));
    assert_eq!(response.headers()[header::ALLOW], "GET, HEAD, POST");
    let put = Request::put("/").body(Body::default()).unwrap();
    assert_eq!(ask(layer().refuse_options(true), put).headers()[header::ALLOW], "GET, HEAD, POST");
}

fn judge<T: Tenancy>(layer: &ClientValidationLayer<T>, request: Request<Body>) -> Verdict {
    let (parts, body) = request.into_parts();
    block_on(async { layer.judge(&parts, body.collect().await.unwrap().to_bytes()).await })
}

#[test]
fn other_frameworks_get_what_the_layer_decides() {
    for request in [
        || fixture::get(UNKNOWN),
        || fixture::get(WRONG_SCOPE),
        || fixture::get(""),
        || fixture::post(UNKNOWN),
        || fixture::post(WRONG_SCOPE),
        || fixture::post(vec![b'a'; 65_537]),
        || Request::post(format!("/?{ACCEPTED}")).body(Body::default()).unwrap(),
        || Request::put("/").body(Body::default()).unwrap(),
        || Request::head(format!("/?{UNKNOWN}")).body(Body::default()).unwrap(),
        || {
            let mut split: Request<Body> = fixture::post("client_id=app");
            *split.uri_mut() = "/?response_type=code".parse().unwrap();
            split
        },
    ] {
        let (expected, expected_body) = ask(layer(), request()).into_parts();
        let Verdict::Refused(response) = judge(&layer(), request()) else { panic!("not refused") };
        assert_eq!((response.status(), response.headers()), (expected.status, &expected.headers));
        assert_eq!(*response.body(), block_on(expected_body.collect()).unwrap().to_bytes());
        assert!(response.extensions().get::<Rejection>().is_some());
    }
    for request in [fixture::get(ACCEPTED), fixture::post(ACCEPTED)] {
        let Verdict::Accepted(validated) = judge(&layer(), request) else { panic!("not accepted") };
        assert_eq!(validated.redirect_uri(), CALLBACK);
    }
    let options = || Request::builder().method(Method::OPTIONS).body(Body::default()).unwrap();
    assert!(matches!(judge(&layer(), options()), Verdict::PassedOn));
    assert!(matches!(judge(&layer().insecure_bypass(|_| true), fixture::get(UNKNOWN)), Verdict::PassedOn));
    let reporting = layer().report_only(true);
    assert!(matches!(judge(&reporting, fixture::get(UNKNOWN)), Verdict::Reported(_)));
    let policy = Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap();
    assert!(matches!(judge(&layer().policy(policy), fixture::get(UNKNOWN)), Verdict::Forwarded(_)));
    let checked = layer().check("ticket", Tickets(Arc::default()));
    let Verdict::Refused(response) = judge(&checked, fixture::get(ACCEPTED)) else { panic!("not refused") };
    assert_eq!(response.status(), 302);
    let Verdict::Refused(response) = judge(&layer().answer_hook(Localised), fixture::get(UNKNOWN)) else {
        panic!("not refused")
    };
    assert_eq!(*response.body(), "none invalid_client");
}

struct Table;

impl AsyncRegistry for Table {
    async fn find_client(&self, client_id: &str) -> Result<Option<Arc<Client>>, RegistryError> {
        tokio::task::yield_now().await;
        Ok((client_id == "app").then(|| Arc::new(client())))
    }
}

#[test]
fn a_lookup_can_be_an_async_fn() {
    let layer = ClientValidationLayer::new(Table.into_source()).policy(Policy::oauth2().build().unwrap());
    assert_eq!(body(ask(layer.clone(), fixture::get(ACCEPTED))), CALLBACK);
    assert_eq!(ask(layer, fixture::get(UNKNOWN)).status(), 400);
}

#[cfg(feature = "axum")]
mod extractor {
    use axum::Router;
    use axum::routing::any;

    use super::*;

    async fn answer<T>(layer: ClientValidationLayer<T>, request: Request<axum::body::Body>) -> (u16, String)
    where
        T: Tenancy<Registry: tower_oauth_client_validation::RegistrySource<Future: Send>, Tenant: Send + Sync>
            + Send
            + Sync
            + 'static,
    {
        let handler = |validated: ValidatedRequest| async move { validated.client_id().to_owned() };
        let response = Router::new().route("/authorize", any(handler)).layer(layer).oneshot(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    }

    #[tokio::test]
    async fn the_extractor_says_why_a_request_was_not_validated() {
        let options = Request::options(format!("/authorize?{ACCEPTED}")).body(axum::body::Body::empty()).unwrap();
        let forward = Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap();
        for ((status, body), expected_status, expected) in [
            (answer(layer(), options).await, 405, "OPTIONS"),
            (answer(layer().insecure_bypass(|_| true), fixture::get(ACCEPTED)).await, 500, "insecure_bypass"),
            (answer(layer().report_only(true), fixture::get(UNKNOWN)).await, 500, "report_only"),
            (answer(layer().policy(forward), fixture::get(UNKNOWN)).await, 500, "unknown"),
        ] {
            assert_eq!(status, expected_status);
            assert!(body.contains(expected), "{body}");
        }
        let handler = |validated: ValidatedRequest| async move { validated.client_id().to_owned() };
        let bare = Router::new().route("/authorize", any(handler));
        let response = bare.oneshot(fixture::get::<axum::body::Body>(ACCEPTED)).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(text(response).await.contains("`ClientValidationLayer` is not on this route"));
    }
}

#[test]
fn report_only_runs_checks_too() {
    let inner = service_fn(|request: Request<Body>| async move {
        let outcome = request.extensions().get::<ReportedOutcome>().unwrap();
        let ReportedOutcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
        Ok::<_, Infallible>(Response::new(Body::from(rejection.reason().as_str())))
    });
    let layer = layer().report_only(true).check("ticket", Tickets(Arc::default()));
    let response = block_on(layer.layer(inner).oneshot(fixture::get(ACCEPTED))).unwrap();
    assert_eq!(body(response), "ticket");
}
