//! BR-GATEWAY-018: the `RemediationRequest`'s life, from the signal that makes it to its end.
//!
//! Made in the signal's namespace with all that the remediation controllers need; counted up while
//! it is worked on; left alone once it has ended, when the next signal makes a new one.

use anyhow::{Context as _, Result};
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::audit;
use gateway_e2e::env::Env;
use gateway_e2e::gateway::{Gateway, PROMETHEUS, Taken, created};
use gateway_e2e::kubectl;
use gateway_e2e::namespace::{Namespace, unique};
use gateway_e2e::remediation::{self, RESOURCE};
use gateway_e2e::spec::Spec;
use serde_json::{Value, json};

#[test]
fn br_gateway_018_crd_creation_lifecycle() -> Spec {
    let env = Env::from_run()?;
    let gateway = Gateway::at(&env.gateway_url);
    let namespace = Namespace::create("lifecycle")?;
    the_definition_is_served_and_strict(namespace.name())?;

    let alert = Alert::firing("LifeOfARequest", namespace.name())
        .with_label("team", "payments")
        .with_annotation("runbook", "https://runbooks.example.test/life");
    let request_id = unique("lifecycle");
    let headers = [("X-Request-Id", request_id.as_str())];
    let answer = gateway.post(PROMETHEUS, &headers, &webhook(std::slice::from_ref(&alert)))?;
    let first = created(&answer)?;
    assert_eq!(first.request_id, request_id);

    let object = remediation::get(&first.remediation_request)?;
    assert_metadata(&object, &first, namespace.name());
    assert_spec(&object["spec"], &first, &alert, namespace.name())?;
    assert_audited(&env.datastorage_url, &first, namespace.name())?;

    its_end_makes_room_for_the_next(&gateway, &alert, &first)?;
    Ok(())
}

/// The API server itself must refuse a `RemediationRequest` that no controller could use.
fn the_definition_is_served_and_strict(namespace: &str) -> Result<()> {
    let definition = kubectl::json(&["get", "customresourcedefinition", RESOURCE])?;
    let established = |condition: &&Value| condition["type"] == "Established";
    let conditions = definition["status"]["conditions"].as_array().context("no conditions")?;
    let condition = conditions.iter().find(established).context("no condition Established")?;
    assert_eq!(condition["status"], "True");
    let version = &definition["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha1");
    assert!(version["subresources"]["status"].is_object(), "no status subresource");

    let hollow = kubectl::create(&json!({
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "RemediationRequest",
        "metadata": { "name": "hollow", "namespace": namespace },
        "spec": { "severity": "critical" },
    }));
    assert!(hollow.is_err(), "a RemediationRequest without a fingerprint was accepted");
    Ok(())
}

fn assert_metadata(object: &Value, taken: &Taken, namespace: &str) {
    let metadata = &object["metadata"];
    assert_eq!(object["kind"], "RemediationRequest");
    assert_eq!(metadata["namespace"], namespace);
    assert_eq!(taken.remediation_request.namespace, namespace);
    let prefix = format!("rr-{}-", &taken.fingerprint[..12]);
    assert!(taken.remediation_request.name.starts_with(&prefix), "{taken:?}");
    let labels = &metadata["labels"];
    assert_eq!(labels["kubernaut.ai/fingerprint"], taken.fingerprint[..63]);
    assert_eq!(labels["kubernaut.ai/signal-type"], "prometheus-alert");
}

fn assert_spec(spec: &Value, taken: &Taken, alert: &Alert, namespace: &str) -> Result<()> {
    assert_eq!(spec["signalFingerprint"], taken.fingerprint);
    assert_eq!(spec["signalName"], "LifeOfARequest");
    assert_eq!(spec["signalType"], "prometheus-alert");
    assert_eq!(spec["severity"], "critical");
    let target = &spec["targetResource"];
    assert_eq!(target["namespace"], namespace);
    assert_eq!(target["name"], "web-0");
    assert_eq!(target["kind"], "Pod");
    assert_eq!(spec["signalLabels"]["team"], "payments");
    assert_eq!(spec["signalLabels"]["alertname"], "LifeOfARequest");
    assert_eq!(spec["signalAnnotations"]["runbook"], "https://runbooks.example.test/life");
    assert!(!spec["providerData"].is_null(), "the webhook's own data is missing: {spec}");

    let time = |field: &str| -> Result<_> {
        let text = spec[field].as_str().with_context(|| format!("`{field}` is missing"))?;
        humantime::parse_rfc3339(text).with_context(|| format!("`{field}` is {text}"))
    };
    assert_eq!(time("firingTime")?, humantime::parse_rfc3339(&alert.starts_at())?);
    assert!(time("receivedTime")? >= time("firingTime")?, "received before it fired: {spec}");
    Ok(())
}

fn assert_audited(datastorage_url: &str, taken: &Taken, namespace: &str) -> Result<()> {
    let types = ["gateway.signal.received", "gateway.crd.created"];
    for event in audit::events_of(datastorage_url, &taken.request_id, &types)? {
        assert_eq!(event.service, "gateway");
        assert_eq!(event.correlation_id, taken.request_id);
        assert_eq!(event.namespace.as_deref(), Some(namespace), "{event:?}");
        assert_eq!(event.fingerprint.as_deref(), Some(taken.fingerprint.as_str()), "{event:?}");
        assert_eq!(event.outcome, "success", "{event:?}");
        humantime::parse_rfc3339_weak(event.occurred_at.trim_end_matches('Z'))
            .with_context(|| format!("`occurred_at` is no time: {event:?}"))?;
    }
    Ok(())
}

fn its_end_makes_room_for_the_next(gateway: &Gateway, alert: &Alert, first: &Taken) -> Result<()> {
    remediation::set_phase(&first.remediation_request, "Processing")?;
    let repetition = gateway.deduplicates(alert)?;
    assert_eq!(repetition.remediation_request, first.remediation_request);
    assert_eq!(repetition.occurrences, Some(2));
    remediation::counted(&first.remediation_request, 2)?;

    remediation::set_phase(&first.remediation_request, "Completed")?;
    let ended = remediation::get(&first.remediation_request)?;
    let second = gateway.creates(alert)?;
    assert_eq!(second.fingerprint, first.fingerprint);
    assert_ne!(second.remediation_request, first.remediation_request);
    assert_eq!(remediation::get(&first.remediation_request)?, ended, "history was rewritten");

    remediation::delete(&second.remediation_request)?;
    let third = gateway.creates(alert)?;
    assert_ne!(third.remediation_request, second.remediation_request);
    Ok(())
}
