//! BR-GATEWAY-073: without Redis the gateway goes on by what the cluster knows, and finds back.

use anyhow::{Context as _, Result};
use gateway_e2e::alert::Alert;
use gateway_e2e::gateway::{Gateway, created, deduplicated};
use gateway_e2e::http::Answer;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;
use gateway_e2e::stack;
use harness::stack::Stack;

#[test]
fn br_gateway_073_redis_failure_and_recovery() -> Spec {
    let mut stack = stack::start("redis-failure", &[])?;
    let pod = gateway_pod(&stack)?;
    let namespace = stack.namespace().name().to_owned();
    let [before, during, after] =
        ["Before", "During", "After"].map(|name| Alert::firing(name, &namespace));
    let answer = Gateway::of(&stack).alert(&before)?;
    let known = created(&answer)?;
    assert!(!is_degraded(&answer), "{answer:?}");

    stack.scale("redis", 0)?;
    stack.await_check("redis", "degraded")?;
    let gateway = Gateway::of(&stack);
    assert_eq!(gateway.get("/readyz")?.status, 200, "without Redis it must stay in service");
    assert_eq!(gateway.metrics()?.count("gateway_degraded", &[]), 1);
    let answer = gateway.alert(&before)?;
    let repetition = deduplicated(&answer).context("known before Redis went")?;
    assert_eq!(repetition.remediation_request, known.remediation_request);
    assert!(is_degraded(&answer), "{answer:?}");
    let answer = gateway.alert(&during)?;
    let new = created(&answer).context("new while Redis is gone")?;
    assert!(is_degraded(&answer), "{answer:?}");
    let repetition = gateway.deduplicates(&during)?;
    assert_eq!(repetition.remediation_request, new.remediation_request);

    stack.scale("redis", 1)?;
    stack.await_check("redis", "ok")?;
    let gateway = Gateway::of(&stack);
    assert_eq!(gateway.metrics()?.count("gateway_degraded", &[]), 0);
    let answer = gateway.alert(&after)?;
    created(&answer)?;
    assert!(!is_degraded(&answer), "{answer:?}");
    gateway.deduplicates(&after)?;
    // This Redis has never heard of it: only the cluster has.
    let repetition = gateway.deduplicates(&during).context("known from the time without Redis")?;
    assert_eq!(repetition.remediation_request, new.remediation_request);
    assert_eq!(remediation::names(&namespace)?.len(), 3);
    assert_eq!(gateway_pod(&stack)?, pod, "recovery took a restart");
    Ok(())
}

fn is_degraded(answer: &Answer) -> bool {
    answer.header("X-Gateway-Degraded") == "redis"
}

/// The gateway's only pod by name, and how often its container was started again.
fn gateway_pod(stack: &Stack) -> Result<(String, u64)> {
    let pods = stack.pods("gateway")?;
    assert_eq!(pods.len(), 1, "the gateway has one pod");
    let name = pods[0]["metadata"]["name"].as_str().context("the pod has no name")?;
    let restarts = pods[0]["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .context("the pod has no restart count")?;
    Ok((name.to_owned(), restarts))
}
