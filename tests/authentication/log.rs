//! What is logged and counted: one decision each, and never a secret.

use bytes::Bytes;
use futures::executor::block_on;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth_client_validation::{Client, ClientAuthenticationLayer, MemoryRegistry, RegistryError, registry_fn};
use tracing::Level;

use super::{FORM, SECRET_SHA256, assertion, assertion_form, form, jwt_client, policy, secret_client};
use crate::log::events_of;

/// In every secret that the requests hold.
const SECRET: &str = "xyzzy";

/// A layer over the clients `public`, `app` and `jwt`. Lookups of some ids fail.
fn decide(request: Request<Full<Bytes>>) -> StatusCode {
    let clients = MemoryRegistry::from_clients([
        Client::builder("public").build().unwrap(),
        secret_client("app", "client_secret_sha256", SECRET_SHA256),
        jwt_client(),
    ]);
    let registry = registry_fn(move |id: String| {
        std::future::ready(match &*id {
            "registry-down" => Err(RegistryError::transient("connection refused")),
            "registry-broken" => Err(RegistryError::permanent("no such table")),
            "host-down" => Err(RegistryError::client_hosted("connection refused")),
            _ => Ok(clients.get(&id)),
        })
    });
    let layer = ClientAuthenticationLayer::new(registry, policy());
    let service = ServiceBuilder::new().layer(layer).service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default()))
    });
    block_on(service.oneshot(request)).unwrap().status()
}

fn with_authorization(value: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("/token").header("content-type", FORM).header("authorization", value);
    request.body(Full::from(body)).unwrap()
}

#[test]
fn each_refusal_is_one_event_with_its_reason_and_no_secret() {
    let forged = assertion(&json!({ "aud": "https://other.example", "jti": SECRET }));
    // `app:xyzzy`
    let basic = "Basic YXBwOnh5enp5";
    let (info, error) = (Level::INFO, Level::ERROR);
    let with_secret = |id: &str| form(format!("client_id={id}&client_secret=xyzzy&code=xyzzy"));
    let cases = [
        (with_secret("app"), info, "secret_wrong", Some("app"), Some("client_secret_post")),
        (with_secret("nobody"), info, "client_unknown", Some("nobody"), Some("client_secret_post")),
        (with_secret("public"), info, "method_not_registered", Some("public"), Some("client_secret_post")),
        (with_secret("a%0Ab"), info, "client_unknown", Some("a\\nb"), Some("client_secret_post")),
        (with_authorization(basic, "code=xyzzy"), info, "secret_wrong", Some("app"), Some("client_secret_basic")),
        (with_authorization("Bearer xyzzy", ""), info, "authorization_malformed", None, None),
        (with_authorization(basic, "client_secret=xyzzy"), info, "several_methods", None, None),
        (form(assertion_form(&forged)), info, "assertion_audience", Some("jwt"), Some("private_key_jwt")),
        (form("client_assertion=xyzzy"), info, "assertion_type", None, None),
        (form("client_secret=xyzzy&client_secret=xyzzy"), info, "parameter_repeated", None, None),
        (form(vec![b'x'; 70_000]), info, "body_too_large", None, None),
        (Request::get("/token?code=xyzzy").body(Full::default()).unwrap(), info, "http_method", None, None),
        (
            with_secret("registry-down"),
            error,
            "registry_unavailable",
            Some("registry-down"),
            Some("client_secret_post"),
        ),
        (with_secret("registry-broken"), error, "registry_fault", Some("registry-broken"), Some("client_secret_post")),
        // Strangers choose these hosts, so they raise no alarm.
        (with_secret("host-down"), info, "registry_unavailable", Some("host-down"), Some("client_secret_post")),
    ];
    for (request, level, reason, client_id, method) in cases {
        let (events, status) = events_of(|| decide(request));
        let [event] = &events[..] else { panic!("{reason}: {events:?}") };
        assert_eq!((event.level, event.get("outcome"), event.get("reason")), (level, Some("rejected"), Some(reason)));
        assert_eq!(event.get("error.type"), Some(reason), "OpenTelemetry's name");
        assert_eq!((event.get("client_id"), event.get("method")), (client_id, method), "{reason}");
        let error = match status.as_u16() {
            401 => "invalid_client",
            503 => "temporarily_unavailable",
            500 => "server_error",
            _ => "invalid_request",
        };
        assert_eq!(event.get("error"), Some(error), "{reason}");
        assert_eq!(event.get("cause").is_some(), status.is_server_error(), "{event:?}");
        let text = format!("{event:?}");
        assert!(!text.contains(SECRET) && !text.contains("eHl6enk") && !text.contains(&forged), "{text}");
    }
}

#[test]
fn an_authenticated_client_is_a_debug_event() {
    let signed = assertion(&json!({}));
    for (request, client_id, method) in [
        (form("client_id=public&code=xyzzy"), "public", "none"),
        (form("client_id=app&client_secret=secret"), "app", "client_secret_post"),
        (form(assertion_form(&signed)), "jwt", "private_key_jwt"),
    ] {
        let (events, status) = events_of(|| decide(request));
        assert_eq!((events.len(), status), (1, StatusCode::OK));
        let event = &events[0];
        assert_eq!((event.level, event.get("outcome"), event.get("reason")), (Level::DEBUG, Some("accepted"), None));
        assert_eq!((event.get("client_id"), event.get("method")), (Some(client_id), Some(method)));
        let text = format!("{event:?}");
        assert!(!text.contains(SECRET) && !text.contains("\"secret\"") && !text.contains(&signed), "{text}");
    }
}

/// A label that strangers fill would take memory without bound.
#[cfg(all(feature = "cache", feature = "metrics"))]
#[test]
fn decisions_are_counted_by_method_and_outcome() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use crate::metrics::has;

    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for body in [
            "client_id=public",
            "client_id=public",
            "client_id=app&client_secret=secret",
            "client_id=app&client_secret=zzz",
            "client_id=zzz&client_secret=zzz",
            "client_id=zzz&client_id=zzz&zzz=zzz",
        ] {
            decide(form(body));
        }
        decide(with_authorization("zzz zzz", "client_id=zzz"));
    });
    let metrics = recorder.handle().render();
    for (outcome, method, reason, count) in [
        ("accepted", "none", "", 2),
        ("accepted", "client_secret_post", "", 1),
        ("rejected", "client_secret_post", "secret_wrong", 1),
        ("rejected", "client_secret_post", "client_unknown", 1),
        ("rejected", "", "parameter_repeated", 1),
        ("rejected", "", "authorization_malformed", 1),
    ] {
        let labels = [("outcome", outcome), ("method", method), ("reason", reason)];
        assert!(
            has(&metrics, "oauth_client_authentication_decisions_total", &labels, count),
            "{labels:?} in {metrics}"
        );
    }
    assert!(!metrics.contains("zzz"), "{metrics}");
}
