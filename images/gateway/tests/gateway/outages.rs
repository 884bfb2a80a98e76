//! What happens while something is away, and after.

use gateway::fingerprint::Fingerprint;
use gateway::signal::TargetResource;

use crate::harness::*;

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:9";

#[tokio::test]
async fn without_redis_it_goes_on_degraded_and_recovers() {
    let mut world = World::start().await;
    let before = expect(&world.alert(&alert("Before")).await, 201);
    world.redis.stop().await;
    let answer = world.alert(&alert("Before")).await;
    assert_eq!(answer.headers["x-gateway-degraded"], "redis");
    assert_eq!(name_in(&expect(&answer, 202)), name_in(&before));
    expect(&world.alert(&alert("During")).await, 201);

    let claims = &world.replicas[0].gateway.claims;
    eventually("Redis is gone", || !claims.is_connected()).await;
    assert_eq!(world.metric("gateway_degraded").await, "1");
    let ready = expect(&world.get("/readyz").await, 200);
    assert_eq!(ready["checks"]["redis"], "degraded");

    world.redis.start_again().await;
    eventually("Redis is back", || claims.is_connected()).await;
    assert_eq!(world.metric("gateway_degraded").await, "0");
    let answer = world.alert(&alert("During")).await;
    expect(&answer, 202);
    assert!(!answer.headers.contains_key("x-gateway-degraded"));
}

#[tokio::test]
async fn it_starts_without_redis() {
    let world = World::with(0, &[]).await;
    let url = format!("redis://{NOWHERE}");
    let kube = world.kube.server.url.clone();
    let replica = Replica::start(|name| match name {
        "REDIS_URL" => Some(url.clone()),
        "KUBE_API_URL" => Some(kube.clone()),
        "DATASTORAGE_URL" => Some(String::new()),
        _ => None,
    })
    .await;
    expect(&replica.post(PROMETHEUS, &[], &webhook(&[alert("A")])).await, 201);
}

#[tokio::test]
async fn a_limit_is_waited_out() {
    let world = World::start().await;
    world.kube.limit(3);
    expect(&world.alert(&alert("A")).await, 201);
    assert_eq!(world.metric("gateway_kube_api_retries_total").await, "3");
}

#[tokio::test]
async fn past_the_budget_the_sender_waits_and_nothing_stays_behind() {
    let world = World::with(1, &[("KUBE_RETRY_BUDGET", "300ms")]).await;
    world.kube.limit(usize::MAX);
    let answer = world.alert(&alert("A")).await;
    assert_eq!(expect(&answer, 429)["status"], 429);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(world.redis.values().is_empty(), "a claim stays behind");
    let several = world.post(PROMETHEUS, &webhook(&[alert("A"), alert("B")])).await;
    expect(&several, 429);
    assert_eq!(several.headers["retry-after"], "1");

    world.kube.limit(0);
    expect(&world.alert(&alert("A")).await, 201);
}

#[tokio::test]
async fn without_its_cluster_it_lives_but_is_not_ready() {
    let world = World::with(1, &[("KUBE_API_URL", &format!("http://{NOWHERE}"))]).await;
    let answer = world.alert(&alert("A")).await;
    let problem = expect(&answer, 503);
    assert!(!problem.to_string().contains("127.0.0.1"), "the inside shows: {problem}");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(expect(&world.get("/readyz").await, 503)["checks"]["kubernetes"], "unavailable");
    expect(&world.get("/healthz").await, 200);
}

#[tokio::test]
async fn a_stopping_gateway_is_not_ready_and_still_serves() {
    let world = World::start().await;
    world.replicas[0].gateway.stop();
    assert_eq!(expect(&world.get("/readyz").await, 503)["status"], "stopping");
    expect(&world.get("/healthz").await, 200);
    expect(&world.alert(&alert("A")).await, 201);
}

/// Whoever died holding a claim blocks its signal no longer than the budget.
#[tokio::test]
async fn a_claim_nobody_settles_is_not_waited_for_for_ever() {
    let world = World::with(1, &[("KUBE_RETRY_BUDGET", "200ms")]).await;
    let gateway = &world.replicas[0].gateway;
    let first = expect(&world.alert(&alert("A")).await, 201);
    let [kind, name, namespace] = ["Pod", "web-0", NAMESPACE].map(str::to_owned);
    let fingerprint = Fingerprint::of("A", &TargetResource { kind, name, namespace });
    let entry = gateway.claims.read(&fingerprint).await.unwrap();
    let claim = gateway.claims.claim(&fingerprint, NAMESPACE, &entry).await.unwrap().unwrap();

    let answer = world.alert(&alert("A")).await;
    expect(&answer, 503);
    gateway.claims.settle(&claim, NAMESPACE, name_in(&first)).await.unwrap();
    expect(&world.alert(&alert("A")).await, 202);
}
