//! Metrics, as a Prometheus server would read them.

use bytes::Bytes;
use futures::executor::block_on;
use http::{Request, Response};
use http_body_util::Full;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    CacheConfig, CachedRegistry, ClientValidationLayer, Policy, RegistryError, RegistrySource, UnknownClients,
    registry_fn,
};

use crate::fixture::{self, ACCEPTED, UNKNOWN, WRONG_SCOPE, client};

type Body = Full<Bytes>;

/// The metrics of these requests.
fn scrape<R>(layer: ClientValidationLayer<R>, requests: impl IntoIterator<Item = Request<Body>>) -> String
where
    R: RegistrySource,
{
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let service =
            layer.layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) }));
        for request in requests {
            block_on(service.clone().oneshot(request)).unwrap();
        }
    });
    recorder.handle().render()
}

pub(crate) fn has(metrics: &str, name: &str, labels: &[(&str, &str)], value: u64) -> bool {
    metrics.lines().any(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
            && line.ends_with(&format!(" {value}"))
    })
}

const DECISIONS: &str = "oauth_client_validation_decisions_total";
const LOOKUPS: &str = "oauth_client_validation_lookup_duration_seconds_count";

#[test]
fn decisions_are_counted_by_outcome_error_and_reason() {
    let requests = [ACCEPTED, ACCEPTED, UNKNOWN, WRONG_SCOPE, ""].map(fixture::get);
    let metrics = scrape(fixture::layer(), requests);
    for (outcome, error, reason, count) in [
        ("accepted", "", "", 2),
        ("rejected", "invalid_client", "client_unknown", 1),
        ("rejected", "invalid_scope", "scope_not_allowed", 1),
        ("rejected", "invalid_request", "client_id_missing", 1),
    ] {
        let labels = [("outcome", outcome), ("error", error), ("reason", reason), ("report_only", "false")];
        assert!(has(&metrics, DECISIONS, &labels, count), "{labels:?} in {metrics}");
    }
    assert!(has(&metrics, LOOKUPS, &[("result", "found")], 3), "{metrics}");
    assert!(has(&metrics, LOOKUPS, &[("result", "unknown")], 1), "{metrics}");
}

#[test]
fn reported_and_forwarded_requests_are_counted_separately() {
    let layer = fixture::layer().report_only(true);
    let metrics = scrape(layer, [fixture::get(WRONG_SCOPE)]);
    assert!(has(&metrics, DECISIONS, &[("outcome", "rejected"), ("report_only", "true")], 1), "{metrics}");

    let layer = fixture::layer().policy(Policy::oauth2().unknown_clients(UnknownClients::Forward).build().unwrap());
    let metrics = scrape(layer, [fixture::get(UNKNOWN)]);
    assert!(has(&metrics, DECISIONS, &[("outcome", "forwarded"), ("report_only", "false")], 1), "{metrics}");
}

#[test]
fn a_failing_registry_is_counted_in_decisions_and_lookups() {
    for (error, result, reason) in [
        (RegistryError::transient("away"), "unavailable", "registry_unavailable"),
        (RegistryError::permanent("broken"), "fault", "registry_fault"),
    ] {
        let failing = registry_fn(move |_| std::future::ready(Err(error.clone())));
        let metrics = scrape(ClientValidationLayer::new(failing), [fixture::get(ACCEPTED)]);
        assert!(has(&metrics, LOOKUPS, &[("result", result)], 1), "{metrics}");
        assert!(has(&metrics, DECISIONS, &[("reason", reason)], 1), "{metrics}");
    }
}

/// A label that strangers fill would take memory without bound.
#[test]
fn no_label_contains_a_value_of_a_request() {
    let strange = "client_id=zzz-nobody&redirect_uri=https://zzz.example/&scope=zzz&state=zzz&response_type=zzz";
    let metrics =
        scrape(fixture::layer(), [fixture::get(strange), fixture::get(&strange.replace("zzz-nobody", "app"))]);
    assert!(has(&metrics, DECISIONS, &[("reason", "client_unknown")], 1), "{metrics}");
    assert!(!metrics.contains("zzz"), "{metrics}");
}

#[test]
fn cache_events_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let source = registry_fn(|id: String| async move { Ok((id == "app").then(|| client().into())) });
        let cache = CachedRegistry::with_config(source, CacheConfig::new());
        for id in ["app", "app", "app", "nobody"] {
            block_on(cache.find_client(id)).unwrap();
        }
    });
    let metrics = recorder.handle().render();
    for (event, count) in [("hit", 2), ("miss", 2), ("source_lookup", 2)] {
        assert!(has(&metrics, "oauth_client_cache_events_total", &[("event", event)], count), "{event}: {metrics}");
    }
}

/// Every metric that the dashboard uses is reported.
#[test]
fn the_dashboard_uses_existing_metrics() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string("../examples/grafana-dashboard.json").unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    for metric in [
        "oauth_client_authentication_decisions_total",
        "oauth_client_validation_decisions_total",
        "oauth_client_validation_lookup_duration_seconds_bucket",
        "oauth_client_cache_events_total",
    ] {
        assert!(queries.iter().any(|query| query.contains(metric)), "{metric}");
    }
    let known = [
        "oauth_client_authentication_decisions_total",
        "oauth_client_validation_decisions_total",
        "oauth_client_validation_lookup_duration_seconds_",
        "oauth_client_cache_events_total",
    ];
    for query in queries {
        let asked =
            query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("oauth_"));
        for metric in asked {
            assert!(known.iter().any(|known| metric.starts_with(known)), "{metric}");
        }
    }
}
