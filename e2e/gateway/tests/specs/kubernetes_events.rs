//! BR-GATEWAY-002: Warning events of the cluster become `RemediationRequests` too.

use anyhow::Result;
use gateway_e2e::alert::Alert;
use gateway_e2e::audit;
use gateway_e2e::env::Env;
use gateway_e2e::event::warning;
use gateway_e2e::gateway::{Gateway, created, deduplicated};
use gateway_e2e::namespace::Namespace;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;
use serde_json::json;

#[test]
fn br_gateway_002_kubernetes_event_ingestion() -> Spec {
    let env = Env::from_run()?;
    let gateway = Gateway::at(&env.gateway_url);
    let namespace = Namespace::create("events")?;

    // The kubelet repeats an event under a new name; Prometheus may tell of the same thing.
    let event = || warning("BackOff", namespace.name(), "crasher-0");
    let alert = Alert::firing("BackOff", namespace.name()).with_label("pod", "crasher-0");
    let first = created(&gateway.event(&event())?)?;
    let repetition = deduplicated(&gateway.event(&event())?)?;
    assert_eq!(repetition.remediation_request, first.remediation_request);
    let retold = gateway.deduplicates(&alert)?;
    assert_eq!(retold.remediation_request, first.remediation_request);

    let object = remediation::get(&first.remediation_request)?;
    assert_eq!(object["metadata"]["labels"]["kubernaut.ai/signal-type"], "kubernetes-event");
    let spec = &object["spec"];
    assert_eq!(spec["signalType"], "kubernetes-event");
    assert_eq!(spec["signalName"], "BackOff");
    assert_eq!(spec["targetResource"]["kind"], "Pod");
    assert_eq!(spec["targetResource"]["name"], "crasher-0");
    assert_eq!(spec["targetResource"]["namespace"], namespace.name());
    let types = ["gateway.signal.received", "gateway.signal.deduplicated"];
    audit::events_of(&env.datastorage_url, &repetition.request_id, &types)?;

    normal_events_are_no_signals(&gateway, namespace.name())?;
    assert_eq!(remediation::names(namespace.name())?, [first.remediation_request.name.as_str()]);
    Ok(())
}

fn normal_events_are_no_signals(gateway: &Gateway, namespace: &str) -> Result<()> {
    let mut event = warning("Scheduled", namespace, "crasher-1");
    event["type"] = json!("Normal");
    let answer = gateway.event(&event)?;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json()?["status"], "ignored", "{answer:?}");

    let mut event = warning("Scheduled", namespace, "crasher-1");
    event["involvedObject"] = json!(null);
    let answer = gateway.event(&event)?;
    assert_eq!(answer.status, 400, "{answer:?}");
    Ok(())
}
