//! The program against a real `PostgreSQL`: a private server of each test's own, from Debian's
//! package, on a socket in a temporary folder. Without the package the tests are ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod database;
mod service;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use database::{Database, Migration};
use service::Service;

const EVENTS: &str = "/api/v1/audit/events";

fn event(number: usize) -> Value {
    let event_type =
        if number.is_multiple_of(2) { "gateway.signal.received" } else { "gateway.crd.created" };
    json!({
        "event_id": format!("00000000-0000-4000-8000-{number:012}"),
        "event_type": event_type,
        "service": "gateway",
        "correlation_id": format!("req-{}", number / 2),
        "namespace": if number < 6 { "first" } else { "second" },
        "outcome": "success",
        "occurred_at": format!("2026-11-21T09:{:02}:{:02}Z", number / 60, number % 60),
        "detail": {"number": number, "text": "ü \"quoted\""},
    })
}

fn batch(numbers: std::ops::Range<usize>) -> Value {
    json!({"events": numbers.map(event).collect::<Vec<_>>()})
}

/// The numbers of the events a query answers with, in order.
fn numbers(service: &Service, query: &str) -> Vec<u64> {
    let (status, body) = service.get(&format!("{EVENTS}?{query}"));
    assert_eq!(status, 200, "{body}");
    let events = body["events"].as_array().unwrap();
    assert_eq!(body["count"], events.len());
    events.iter().map(|event| event["detail"]["number"].as_u64().unwrap()).collect()
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn a_query_finds_what_a_batch_wrote() {
    let database = Database::start();
    database.migrate();
    let service = Service::start(&database);

    assert_eq!(service.post(EVENTS, &batch(0..8)), (201, json!({"accepted": 8})));
    assert_eq!(numbers(&service, "limit=3"), [7, 6, 5]);
    assert_eq!(numbers(&service, "correlation_id=req-1"), [3, 2]);
    assert_eq!(numbers(&service, "event_type=gateway.crd.created&namespace=first"), [5, 3, 1]);
    assert_eq!(numbers(&service, "since=2026-11-21T10:00:06%2B01:00"), [7, 6]);
    assert_eq!(numbers(&service, "namespace=none"), [] as [u64; 0]);

    let (_, body) = service.get(&format!("{EVENTS}?limit=1"));
    assert_eq!(body["events"][0], event(7), "an event comes back as it went in");
    let (status, body) = service.get(&format!("{EVENTS}?limit=0"));
    assert_eq!((status, &body["errors"][0]["field"]), (400, &json!("limit")));
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn an_event_is_written_once() {
    let database = Database::start();
    database.migrate();
    let service = Service::start(&database);

    assert_eq!(service.post(EVENTS, &batch(0..500)).0, 201, "the largest batch there is");
    assert_eq!(service.post(EVENTS, &batch(499..502)), (201, json!({"accepted": 3})));
    let twice = json!({"events": [event(600), event(600)]});
    assert_eq!(service.post(EVENTS, &twice), (201, json!({"accepted": 2})));
    assert_eq!(numbers(&service, "limit=1000").len(), 503);

    let metrics = service.get_text("/metrics").1;
    assert!(metrics.contains("\ndatastorage_events_stored_total 503\n"), "{metrics}");
    assert!(metrics.contains("\ndatastorage_events_repeated_total 2\n"), "{metrics}");
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn an_invalid_event_keeps_its_batch_out() {
    let database = Database::start();
    database.migrate();
    let service = Service::start(&database);

    let mut events = batch(0..3);
    events["events"][1]["outcome"] = json!("maybe");
    let (status, body) = service.post(EVENTS, &events);
    assert_eq!((status, &body["errors"][0]["field"]), (400, &json!("events[1]")));
    assert_eq!(numbers(&service, ""), [] as [u64; 0]);
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn the_service_is_ready_once_the_schema_is_there() {
    let database = Database::start();
    let service = Service::start(&database);
    assert_eq!(service.get("/healthz").0, 200);
    assert_eq!(service.get("/readyz").0, 503);
    assert_eq!(service.post(EVENTS, &batch(0..1)).0, 503);

    database.migrate();
    assert_eq!(service.get("/readyz").0, 200);
    assert_eq!(service.post(EVENTS, &batch(0..1)).0, 201);
    assert_eq!(service.stop(), Some(0), "SIGTERM ends it in order");
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn the_service_outlives_the_database() {
    let database = Database::start();
    database.migrate();
    let service = Service::start(&database);
    assert_eq!(service.post(EVENTS, &batch(0..4)).0, 201);

    database.stop();
    let (status, body) = service.get(EVENTS);
    assert_eq!((status, &body["title"]), (503, &json!("Service Unavailable")));
    assert_eq!(service.get("/readyz").0, 503);
    assert_eq!(service.get("/healthz").0, 200);

    database.go_on();
    eventually("ready again", || service.get("/readyz").0 == 200);
    assert_eq!(numbers(&service, ""), [3, 2, 1, 0]);
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn migrations_wait_for_the_database_and_for_each_other() {
    let database = Database::start();
    database.stop();
    let waiting: Vec<_> = (0..3).map(|_| Migration::start(&database)).collect();
    for migration in &waiting {
        assert_eq!(migration.first_words, "waiting for the database");
    }
    database.go_on();
    let mut applied: Vec<_> = waiting.into_iter().map(Migration::finish).collect();
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, 2], "one of them did the work");
    assert_eq!(database.migrate(), 0, "once more changes nothing");
}

#[test]
#[cfg_attr(not(postgresql_server), ignore = "needs Debian's package `postgresql`")]
fn a_migration_does_not_wait_for_what_will_not_come() {
    let database = Database::start();
    let refused = database.program("migrate").env("PGDATABASE", "nowhere").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let log = String::from_utf8(refused.stdout).unwrap();
    assert!(log.contains(r#"database \"nowhere\" does not exist"#), "{log}");
}
