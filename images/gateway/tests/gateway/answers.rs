//! What is answered to what.

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::*;

#[tokio::test]
async fn an_alert_becomes_a_request() {
    let world = World::start().await;
    let answer = expect(&world.alert(&alert("A")).await, 201);
    assert_eq!(answer["status"], "created");
    let fingerprint = answer["fingerprint"].as_str().unwrap();
    let [request] = &world.kube.requests(NAMESPACE)[..] else { panic!("not one request") };
    assert_eq!(request["metadata"]["name"], name_in(&answer));
    assert_eq!(request["metadata"]["labels"]["kubernaut.ai/fingerprint"], fingerprint[..63]);
    assert_eq!(request["spec"]["signalFingerprint"], fingerprint);
    assert_eq!(request["spec"]["firingTime"], "2026-11-21T08:00:00Z");
    assert_eq!(request["status"]["deduplication"]["occurrenceCount"], 1);
}

#[tokio::test]
async fn an_event_and_an_alert_about_one_trouble_are_one_signal() {
    let world = World::start().await;
    let event = json!({
        "type": "Warning",
        "reason": "BackOff",
        "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": "web-0"},
    });
    expect(&world.post(KUBERNETES_EVENT, &event).await, 201);
    expect(&world.alert(&alert("BackOff")).await, 202);
}

#[tokio::test]
async fn what_needs_no_remedy_is_ignored() {
    let world = World::start().await;
    let mut resolved = alert("A");
    resolved["status"] = json!("resolved");
    for answer in [
        world.alert(&resolved).await,
        world.post(KUBERNETES_EVENT, &json!({"type": "Normal"})).await,
    ] {
        assert_eq!(expect(&answer, 202)["status"], "ignored");
    }
    assert!(world.kube.requests(NAMESPACE).is_empty());
}

#[tokio::test]
async fn several_alerts_are_answered_one_by_one() {
    let world = World::start().await;
    let mut bad = alert("B");
    bad["labels"]["severity"] = json!("loud");
    let answer = world.post(PROMETHEUS, &webhook(&[alert("A"), bad, alert("A")])).await;
    let answer = expect(&answer, 207);
    let statuses: Vec<&Value> =
        answer["results"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [&json!("created"), &json!(400), &json!("deduplicated")]);
    assert_eq!(answer["results"][1]["errors"][0]["field"], "alerts[1].labels.severity");
    expect(&world.post(PROMETHEUS, &webhook(&[alert("C"), alert("D")])).await, 201);
}

#[tokio::test]
async fn errors_are_problems() {
    let world = World::start().await;
    let replica = &world.replicas[0];
    let json = ("Content-Type", "application/json");
    let large = "x".repeat((1 << 20) + 1);
    for (status, method, path, headers, body) in [
        (400, Method::POST, PROMETHEUS, vec![json], "{"),
        (400, Method::POST, PROMETHEUS, vec![json], "null"),
        (400, Method::POST, PROMETHEUS, vec![json], "{}"),
        (400, Method::POST, KUBERNETES_EVENT, vec![json], "[]"),
        (404, Method::GET, "/nothing", vec![], ""),
        (405, Method::GET, PROMETHEUS, vec![], ""),
        (405, Method::POST, "/healthz", vec![json], "{}"),
        (413, Method::POST, PROMETHEUS, vec![json, ("Expect", "100-continue")], &large),
        (415, Method::POST, PROMETHEUS, vec![], "{}"),
    ] {
        let answer = replica.send(method.clone(), path, &headers, body).await;
        let problem = expect(&answer, status);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["instance"], path);
        assert_eq!(problem["request_id"], answer.headers["x-request-id"].to_str().unwrap());
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn a_signal_about_no_namespace_is_refused() {
    let world = World::start().await;
    let mut lost = alert("A");
    lost["labels"]["namespace"] = json!("nowhere");
    let problem = expect(&world.alert(&lost).await, 422);
    assert!(problem["detail"].as_str().unwrap().contains("`nowhere`"), "{problem}");
    assert!(world.redis.values().is_empty(), "a claim stays behind");
}

#[tokio::test]
async fn the_request_id_is_kept() {
    let world = World::start().await;
    let body = webhook(&[alert("A")]);
    let headers = [("X-Request-Id", "abc-1")];
    let answer = world.replicas[0].post(PROMETHEUS, &headers, &body).await;
    assert_eq!(answer.headers["x-request-id"], "abc-1");
    assert_eq!(expect(&answer, 201)["request_id"], "abc-1");
}

#[tokio::test]
async fn browsers_are_told_who_may_call() {
    let world = World::start().await;
    for (origin, allowed) in [("https://console.example.test", true), ("https://e.test", false)] {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        let replica = &world.replicas[0];
        let preflight = replica.send(Method::OPTIONS, PROMETHEUS, &headers, "").await;
        assert_eq!(preflight.status, 204);
        let error = replica.send(Method::GET, "/nothing", &headers[..1], "").await;
        for answer in [preflight, error] {
            let marked = answer.headers.contains_key("access-control-allow-origin");
            assert_eq!(marked, allowed, "{origin}");
            assert_eq!(answer.headers["vary"], "Origin");
        }
    }
}

#[tokio::test]
async fn requests_are_measured_by_route() {
    let world = World::start().await;
    world.alert(&alert("A")).await;
    world.get("/made-up-by-a-caller").await;
    let name = "gateway_http_request_duration_seconds_count";
    for (series, count) in [
        (format!("{name}{{method=\"POST\",path=\"{PROMETHEUS}\",status=\"201\"}}"), "1"),
        (format!("{name}{{method=\"GET\",path=\"unmatched\",status=\"404\"}}"), "1"),
        ("gateway_signals_received_total{source=\"prometheus\"}".to_owned(), "1"),
        ("gateway_crds_created_total".to_owned(), "1"),
    ] {
        assert_eq!(world.metric(&series).await, count, "{series}");
    }
}
