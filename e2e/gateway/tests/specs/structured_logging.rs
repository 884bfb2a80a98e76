//! BR-GATEWAY-024: one JSON object a line, one request id from the caller to the last line.

use anyhow::{Context as _, Result, ensure};
use gateway_e2e::alert::{Alert, webhook};
use gateway_e2e::deployment;
use gateway_e2e::env::Env;
use gateway_e2e::eventually::{SOON, eventually};
use gateway_e2e::gateway::{Gateway, PROMETHEUS, created};
use gateway_e2e::namespace::{Namespace, SYSTEM, unique};
use gateway_e2e::spec::Spec;
use serde_json::Value;

#[test]
fn br_gateway_024_structured_logging() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    let namespace = Namespace::create("logging")?;
    let (good, bad, secret) = (unique("good"), unique("bad"), unique("hunter2"));
    let alert = Alert::firing("Logged", namespace.name())
        .with_label("token", &secret)
        .with_annotation("summary", &format!("password={secret}\n{{\"level\":\"forged\"}}"));

    let body = webhook(std::slice::from_ref(&alert));
    let answer = gateway.post(PROMETHEUS, &[("X-Request-Id", &good)], &body)?;
    let taken = created(&answer)?;
    assert_eq!((taken.request_id.as_str(), answer.header("X-Request-Id")), (&*good, &*good));
    let body = webhook(&[alert.with_label("severity", &secret)]);
    let answer = gateway.post(PROMETHEUS, &[("X-Request-Id", &bad)], &body)?;
    assert_eq!(answer.status, 400, "{answer:?}");

    let line = access_line(&good)?;
    assert_access(&line, "201");
    assert_eq!(line["fingerprint"], taken.fingerprint, "{line}");
    assert_eq!(line["namespace"], namespace.name(), "{line}");
    assert_access(&access_line(&bad)?, "400");
    assert_every_line(&secret)?;
    bad_request_ids_are_replaced(&gateway)?;
    Ok(())
}

/// The line that sums the request up; it is written after the answer is sent.
fn access_line(request_id: &str) -> Result<Value> {
    eventually(&format!("request `{request_id}` is in the gateway's log"), SOON, || {
        let lines = logged()?;
        lines
            .lines()
            .filter(|line| line.contains(request_id))
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["request_id"] == request_id && !line["status"].is_null())
            .with_context(|| format!("none of {} lines is the one", lines.lines().count()))
    })
}

fn assert_access(line: &Value, status: &str) {
    assert_eq!(line["method"], "POST", "{line}");
    assert_eq!(line["path"], PROMETHEUS, "{line}");
    assert_eq!(line["status"].to_string(), status, "{line}");
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
}

/// Other specs' lines are held to the same: nobody may write a line that is not one.
fn assert_every_line(secret: &str) -> Result<()> {
    let logged = logged()?;
    for line in logged.lines() {
        ensure!(!line.contains(secret), "a secret of the payload is logged: {line}");
        let object: Value =
            serde_json::from_str(line).with_context(|| format!("this line is no JSON: {line}"))?;
        let time = object["timestamp"].as_str().unwrap_or_default();
        humantime::parse_rfc3339(time).with_context(|| format!("no `timestamp`: {line}"))?;
        let level = object["level"].as_str().unwrap_or_default().to_ascii_lowercase();
        let levels = ["trace", "debug", "info", "warn", "error"];
        assert!(levels.contains(&level.as_str()), "no `level`: {line}");
        assert!(object["message"].is_string(), "no `message`: {line}");
    }
    Ok(())
}

/// An id that could break a log, a header or a query is not taken over.
fn bad_request_ids_are_replaced(gateway: &Gateway) -> Result<()> {
    let long = "x".repeat(4000);
    for id in ["", "two words", "\"quoted\"", "<script>", &long] {
        let answer = gateway.send("GET", "/healthz", &[("X-Request-Id", id)], b"")?;
        let made = answer.header("X-Request-Id");
        assert!(!made.is_empty() && made != id, "`{id:.20}` became `{made:.20}`");
    }
    Ok(())
}

/// The log of every replica, of the last minutes.
fn logged() -> Result<String> {
    deployment::logs(SYSTEM, "gateway", "5m")
}
