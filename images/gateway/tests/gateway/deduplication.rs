//! One signal, one request: repeated, at the same moment, by several gateways, with Redis and
//! without.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::*;

#[tokio::test]
async fn a_repetition_is_counted() {
    let world = World::start().await;
    let first = expect(&world.alert(&alert("A")).await, 201);
    for occurrences in [2, 3] {
        let again = expect(&world.alert(&alert("A")).await, 202);
        assert_eq!(again["status"], "deduplicated");
        assert_eq!(again["occurrences"], occurrences);
        assert_eq!(name_in(&again), name_in(&first));
    }
    assert_eq!(occurrences(&world), [3]);
    assert_eq!(world.metric("gateway_signals_deduplicated_total").await, "2");
}

#[tokio::test]
async fn a_finished_or_deleted_request_makes_room() {
    let world = World::start().await;
    for phase in ["Completed", "Failed"] {
        let answer = expect(&world.alert(&alert("A")).await, 201);
        world.kube.set_phase(NAMESPACE, name_in(&answer), phase);
    }
    let answer = expect(&world.alert(&alert("A")).await, 201);
    world.kube.delete(NAMESPACE, name_in(&answer));
    let last = expect(&world.alert(&alert("A")).await, 201);
    assert_ne!(name_in(&last), name_in(&answer));
}

#[tokio::test]
async fn after_the_ttl_only_a_request_in_process_counts() {
    let world = World::start().await;
    let first = expect(&world.alert(&alert("A")).await, 201);
    world.redis.forget();
    expect(&world.alert(&alert("A")).await, 202);
    world.kube.age(NAMESPACE, 301);
    let second = expect(&world.alert(&alert("A")).await, 201);
    assert_ne!(name_in(&second), name_in(&first));
    world.kube.set_phase(NAMESPACE, name_in(&second), "Processing");
    world.redis.forget();
    world.kube.age(NAMESPACE, 301);
    let repetition = expect(&world.alert(&alert("A")).await, 202);
    assert_eq!(name_in(&repetition), name_in(&second));
}

#[tokio::test]
async fn of_many_at_once_one_creates() {
    let world = World::with(2, &[]).await;
    all_at_once(&world, 20).await;
    assert_eq!(occurrences(&world), [20]);
    let value = &world.redis.values()[..];
    assert!(matches!(value, [name] if name.starts_with("prod/rr-")), "{value:?}");
}

#[tokio::test]
async fn of_many_at_once_one_creates_without_redis() {
    let mut world = World::with(2, &[]).await;
    world.redis.stop().await;
    for replica in &world.replicas {
        eventually("Redis is gone", || !replica.gateway.claims.is_connected()).await;
    }
    all_at_once(&world, 20).await;
    assert_eq!(occurrences(&world), [20]);
}

/// One alert, so many times, over all replicas; exactly one of them must create.
async fn all_at_once(world: &World, count: usize) {
    let mut sending = JoinSet::new();
    for at in 0..count {
        let replica = Arc::clone(&world.replicas[at % world.replicas.len()]);
        let body = webhook(&[alert("A")]);
        sending.spawn(async move { replica.post(PROMETHEUS, &[], &body).await });
    }
    let answers = sending.join_all().await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201, "{statuses:?}");
    assert!(statuses[1..].iter().all(|status| *status == 202), "{statuses:?}");
}

fn occurrences(world: &World) -> Vec<u64> {
    let count = |request: &Value| request["status"]["deduplication"]["occurrenceCount"].as_u64();
    world.kube.requests(NAMESPACE).iter().filter_map(count).collect()
}
