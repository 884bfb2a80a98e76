//! BR-GATEWAY-004: the fingerprint names what the signal is about, and nothing else.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::env::Env;
use gateway_e2e::gateway::{Gateway, PROMETHEUS, Taken};
use gateway_e2e::http::Answer;
use gateway_e2e::namespace::Namespace;
use gateway_e2e::spec::Spec;

#[test]
fn br_gateway_004_fingerprint_stability() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    let namespace = Namespace::create("fingerprint")?;
    let alert = Alert::firing("HighMemory", namespace.name());
    let fingerprint = of(&gateway.alert(&alert)?)?;
    assert_eq!(fingerprint.len(), 64, "{fingerprint}");
    assert!(fingerprint.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{fingerprint}");

    what_does_not_matter(&gateway, &alert, &fingerprint)?;
    what_matters(&gateway, &alert, &fingerprint)?;
    fields_do_not_run_into_each_other(&gateway, namespace.name())?;
    Ok(())
}

fn what_does_not_matter(gateway: &Gateway, alert: &Alert, fingerprint: &str) -> Result<()> {
    let an_hour_ago = SystemTime::now() - Duration::from_hours(1);
    let alike = [
        alert.clone(),
        alert.clone().with_label("severity", "warning"),
        alert.clone().with_label("instance", "10.0.0.7:9100"),
        alert.clone().with_annotation("summary", "Told otherwise"),
        alert.clone().with_start(an_hour_ago),
    ];
    for other in alike {
        assert_eq!(of(&gateway.alert(&other)?)?, fingerprint, "{other:?}");
    }

    // serde_json writes keys in order; here they come the other way round.
    let body = webhook(std::slice::from_ref(alert));
    let labels = body["alerts"][0]["labels"].as_object().into_iter().flatten();
    let backwards: Vec<_> = labels.rev().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    let text = format!(
        r#"{{"alerts":[{{"startsAt":"{}","labels":{{{}}},"status":"firing"}}],"version":"4","status":"firing"}}"#,
        alert.starts_at(),
        backwards.join(",")
    );
    let json = [("Content-Type", "application/json")];
    let answer = gateway.send("POST", PROMETHEUS, &json, text.as_bytes())?;
    assert_eq!(of(&answer)?, fingerprint, "the order of labels matters");
    Ok(())
}

fn what_matters(gateway: &Gateway, alert: &Alert, fingerprint: &str) -> Result<()> {
    let elsewhere = Namespace::create("fingerprint")?;
    let others = [
        alert.clone().with_label("alertname", "HighCpu"),
        alert.clone().with_label("pod", "web-1"),
        alert.clone().with_label("namespace", elsewhere.name()),
        alert.clone().without_label("pod").with_label("deployment", "web-0"),
    ];
    let mut seen = vec![fingerprint.to_owned()];
    for other in others {
        let fingerprint = of(&gateway.alert(&other)?)?;
        assert!(!seen.contains(&fingerprint), "{other:?} is taken for another");
        seen.push(fingerprint);
    }
    Ok(())
}

/// `Hot` + `xy…` and `Hotx` + `y…` are the same letters in a row, and different signals.
fn fields_do_not_run_into_each_other(gateway: &Gateway, namespace: &str) -> Result<()> {
    let longer = Namespace::create_as("fingerprint", format!("x{namespace}"))?;
    let one = of(&gateway.alert(&Alert::firing("Hot", longer.name()))?)?;
    let other = of(&gateway.alert(&Alert::firing("Hotx", namespace))?)?;
    assert_ne!(one, other);
    Ok(())
}

/// Created or de-duplicated does not matter here.
fn of(answer: &Answer) -> Result<String> {
    assert!(matches!(answer.status, 201 | 202), "{answer:?}");
    Ok(answer.parse::<Taken>()?.fingerprint)
}
