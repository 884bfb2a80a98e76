//! What `DataStorage` is told.

use axum::http::StatusCode;
use serde_json::json;

use crate::harness::*;

#[tokio::test]
async fn every_turn_of_a_signal_is_recorded() {
    let (datastorage, stored) = datastorage(StatusCode::CREATED).await;
    let world = World::with(1, &[("DATASTORAGE_URL", &datastorage.url)]).await;
    let created = expect(&world.alert(&alert("A")).await, 201);
    world.alert(&alert("A")).await;
    world.alert(&json!({"status": "firing"})).await;
    eventually("five events are stored", || stored.lock().unwrap().len() == 5).await;

    let events = stored.lock().unwrap().clone();
    let types: Vec<&str> =
        events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "gateway.signal.received",
            "gateway.crd.created",
            "gateway.signal.received",
            "gateway.signal.deduplicated",
            "gateway.signal.rejected",
        ]
    );
    assert_eq!(events[1]["correlation_id"], created["request_id"]);
    assert_eq!(events[1]["fingerprint"], created["fingerprint"]);
    assert_eq!(events[1]["resource"], "Pod/web-0");
    assert_eq!(events[4]["outcome"], "failure");
    assert_eq!(world.metric("gateway_audit_events_dropped_total").await, "0");
}

#[tokio::test]
async fn refused_events_are_counted_and_hold_nothing_up() {
    let (datastorage, stored) = datastorage(StatusCode::BAD_REQUEST).await;
    let world = World::with(1, &[("DATASTORAGE_URL", &datastorage.url)]).await;
    expect(&world.alert(&alert("A")).await, 201);
    eventually("both events were sent", || stored.lock().unwrap().len() == 2).await;
    let dropped = &world.replicas[0].gateway.metrics.audit_events_dropped;
    eventually("both are counted", || dropped.get() == 2).await;
}
