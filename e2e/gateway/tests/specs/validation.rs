//! BR-GATEWAY-003: what is not a valid signal is refused, by name of the field, and leaves nothing.

use anyhow::Result;
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::audit;
use gateway_e2e::env::Env;
use gateway_e2e::event::warning;
use gateway_e2e::gateway::{Gateway, PROMETHEUS};
use gateway_e2e::http::Answer;
use gateway_e2e::namespace::{Namespace, unique};
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;
use serde_json::{Value, json};

#[test]
fn br_gateway_003_signal_validation_and_rejection() -> Spec {
    let env = Env::from_run()?;
    let gateway = Gateway::at(&env.gateway_url);
    let namespace = Namespace::create("validation")?;

    alerts_are_refused_by_field(&gateway, namespace.name())?;
    webhooks_are_refused_whole(&gateway)?;
    events_are_refused_by_field(&gateway, namespace.name())?;
    rejections_are_audited(&gateway, &env.datastorage_url, namespace.name())?;
    resolved_alerts_are_no_signals(&gateway, namespace.name())?;
    assert_eq!(remediation::names(namespace.name())?, Vec::<String>::new());

    the_good_ones_of_a_batch_are_taken(&gateway, namespace.name())?;
    Ok(())
}

fn alerts_are_refused_by_field(gateway: &Gateway, namespace: &str) -> Result<()> {
    let valid = || Alert::firing("Valid", namespace);
    let long = "x".repeat(254);
    for (field, alert) in [
        ("alertname", valid().without_label("alertname")),
        ("alertname", valid().with_label("alertname", "")),
        ("namespace", valid().without_label("namespace")),
        ("namespace", valid().with_label("namespace", "Not_A_Namespace")),
        ("namespace", valid().with_label("namespace", "../kube-system")),
        ("namespace", valid().with_label("namespace", &long)),
        ("severity", valid().without_label("severity")),
        ("severity", valid().with_label("severity", "apocalyptic")),
        ("pod", valid().with_label("pod", "no such name!")),
    ] {
        assert_refused(&gateway.alert(&alert)?, field)?;
    }

    // One walk finds every fault: nobody should have to send three times to learn of three.
    let alert = valid().without_label("alertname").with_label("severity", "apocalyptic");
    let answer = gateway.alert(&alert)?;
    assert_refused(&answer, "alertname")?;
    assert_refused(&answer, "severity")
}

fn webhooks_are_refused_whole(gateway: &Gateway) -> Result<()> {
    for body in [json!({}), json!([]), json!(null), json!({ "version": "4", "alerts": "none" })] {
        let answer = gateway.post(PROMETHEUS, &[], &body)?;
        assert_eq!(answer.status, 400, "{body} was answered by {answer:?}");
    }
    assert_refused(&gateway.post(PROMETHEUS, &[], &webhook(&[]))?, "alerts")
}

fn events_are_refused_by_field(gateway: &Gateway, namespace: &str) -> Result<()> {
    let with = |path: &str, value: Value| {
        let mut event = warning("Valid", namespace, "web-0");
        if let Some(field) = event.pointer_mut(path) {
            *field = value;
        }
        event
    };
    for (field, event) in [
        ("reason", with("/reason", json!(""))),
        ("name", with("/involvedObject/name", json!("no such name!"))),
        ("kind", with("/involvedObject/kind", json!(""))),
        ("namespace", with("/involvedObject/namespace", json!("Not_A_Namespace"))),
    ] {
        assert_refused(&gateway.event(&event)?, field)?;
    }
    Ok(())
}

fn rejections_are_audited(gateway: &Gateway, datastorage: &str, namespace: &str) -> Result<()> {
    let request_id = unique("rejected");
    let body = webhook(&[Alert::firing("Valid", namespace).with_label("severity", "none")]);
    let answer = gateway.post(PROMETHEUS, &[("X-Request-Id", &request_id)], &body)?;
    assert_refused(&answer, "severity")?;
    let events = audit::events_of(datastorage, &request_id, &["gateway.signal.rejected"])?;
    for event in events.iter().filter(|event| event.event_type == "gateway.signal.rejected") {
        assert_eq!(event.outcome, "failure", "{event:?}");
        assert_eq!(event.correlation_id, request_id);
    }
    Ok(())
}

fn resolved_alerts_are_no_signals(gateway: &Gateway, namespace: &str) -> Result<()> {
    let answer = gateway.alert(&Alert::firing("Over", namespace).resolved())?;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json()?["status"], "ignored", "{answer:?}");
    Ok(())
}

fn the_good_ones_of_a_batch_are_taken(gateway: &Gateway, namespace: &str) -> Result<()> {
    let good = Alert::firing("Good", namespace);
    let bad = Alert::firing("Bad", namespace).with_label("severity", "apocalyptic");
    let answer = gateway.post(PROMETHEUS, &[], &webhook(&[bad, good]))?;
    assert_eq!(answer.status, 207, "{answer:?}");
    let results = answer.json()?["results"].take();
    assert_eq!(results.as_array().map(Vec::len), Some(2), "{results}");
    assert_eq!(results[0]["status"], 400, "{results}");
    assert_eq!(results[1]["status"], "created", "{results}");
    let name = results[1]["remediation_request"]["name"].as_str().unwrap_or_default();
    assert_eq!(remediation::names(namespace)?, [name]);
    Ok(())
}

/// A 400 that names `field`.
fn assert_refused(answer: &Answer, field: &str) -> Result<()> {
    assert_eq!(answer.status, 400, "{field}: {answer:?}");
    let problem = answer.json()?;
    let named = |error: &Value| {
        let path = error["field"].as_str().unwrap_or_default();
        let last = path.rsplit('.').next().unwrap_or_default();
        last == field && !error["message"].as_str().unwrap_or_default().is_empty()
    };
    let errors = problem["errors"].as_array();
    assert!(errors.into_iter().flatten().any(named), "`{field}` is not named in {problem}");
    Ok(())
}
