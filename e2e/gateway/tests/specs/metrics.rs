//! BR-GATEWAY-017: what operators alert on. A gateway of its own, so that every count is exact.

use anyhow::Result;
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::event::warning;
use gateway_e2e::gateway::{Gateway, PROMETHEUS, created};
use gateway_e2e::metrics::Scrape;
use gateway_e2e::namespace::unique;
use gateway_e2e::spec::Spec;
use gateway_e2e::stack;

#[test]
fn br_gateway_017_metrics() -> Spec {
    let stack = stack::start("metrics", &[])?;
    let gateway = Gateway::of(&stack);
    let namespace = stack.namespace().name();

    assert_format(&gateway)?;
    let before = gateway.metrics()?;
    let alert = Alert::firing("Counted", namespace);
    gateway.creates(&alert)?;
    gateway.deduplicates(&alert)?;
    gateway.deduplicates(&alert)?;
    created(&gateway.event(&warning("Counted", namespace, "other-0"))?)?;
    let invalid = webhook(&[alert.without_label("alertname")]);
    assert_eq!(gateway.post(PROMETHEUS, &[], &invalid)?.status, 400);
    let nowhere = format!("/{}", unique("no-such-path"));
    assert_eq!(gateway.get(&nowhere)?.status, 404);
    let after = gateway.metrics()?;

    assert_counted(&before, &after);
    assert_histogram(&before, &after);
    let labelled = |value: &String| value.contains(&nowhere);
    let unbounded = after.samples.iter().find(|sample| sample.labels.values().any(labelled));
    assert_eq!(unbounded, None, "a caller can make as many series as it likes");
    Ok(())
}

fn assert_format(gateway: &Gateway) -> Result<()> {
    let answer = gateway.get("/metrics")?;
    assert_eq!(answer.status, 200);
    assert!(answer.header("Content-Type").starts_with("text/plain"), "{:?}", answer.headers);
    for (name, kind) in [
        ("gateway_signals_received_total", "counter"),
        ("gateway_signals_deduplicated_total", "counter"),
        ("gateway_crds_created_total", "counter"),
        ("gateway_signals_rejected_total", "counter"),
        ("gateway_http_request_duration_seconds", "histogram"),
        ("gateway_degraded", "gauge"),
        ("gateway_kube_api_retries_total", "counter"),
        ("gateway_audit_events_dropped_total", "counter"),
    ] {
        let lines: Vec<_> = answer.body.lines().collect();
        assert!(lines.contains(&format!("# TYPE {name} {kind}").as_str()), "{name} is missing");
        let help = format!("# HELP {name} ");
        assert!(lines.iter().any(|line| line.starts_with(&help)), "{name} has no help");
    }
    Ok(())
}

fn assert_counted(before: &Scrape, after: &Scrape) {
    for (rise, name, labels) in [
        (4, "gateway_signals_received_total", &[("source", "prometheus")][..]),
        (1, "gateway_signals_received_total", &[("source", "kubernetes-event")]),
        (2, "gateway_signals_deduplicated_total", &[]),
        (2, "gateway_crds_created_total", &[]),
        (0, "gateway_kube_api_retries_total", &[]),
        (0, "gateway_audit_events_dropped_total", &[]),
        (0, "gateway_degraded", &[]),
    ] {
        let risen = after.count(name, labels) - before.count(name, labels);
        assert_eq!(risen, rise, "{name}{labels:?} rose by {risen}");
    }
    let rejected = "gateway_signals_rejected_total";
    let rejected = |scrape: &Scrape| scrape.count(rejected, &[("reason", "invalid-signal")]);
    assert_eq!(rejected(after) - rejected(before), 1, "one signal was invalid");
}

fn assert_histogram(before: &Scrape, after: &Scrape) {
    for (status, requests) in [("201", 1), ("202", 2), ("400", 1)] {
        let labels = [("method", "POST"), ("path", PROMETHEUS), ("status", status)];
        let count = "gateway_http_request_duration_seconds_count";
        let risen = after.count(count, &labels) - before.count(count, &labels);
        assert_eq!(risen, requests, "requests with status {status}");

        let bucket = "gateway_http_request_duration_seconds_bucket";
        let mut buckets: Vec<_> = after
            .matching(bucket, &labels)
            .filter_map(|sample| {
                let bound: f64 = sample.labels.get("le")?.replace("+Inf", "inf").parse().ok()?;
                Some((bound, sample.value))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "buckets must add up: {buckets:?}");
        let all = buckets.last().copied().unwrap_or_default();
        assert!(all.0.is_infinite(), "no bucket takes everything: {buckets:?}");
        assert_eq!(after.count(count, &labels), after.count(bucket, &with_le_inf(&labels)));
    }
}

fn with_le_inf<'a>(labels: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [labels, &[("le", "+Inf")]].concat()
}
