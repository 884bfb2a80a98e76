//! BR-GATEWAY-018: `/healthz` says whether to restart the gateway, `/readyz` whether to send to it.

use anyhow::{Context as _, Result, ensure};
use gateway_e2e::env::Env;
use gateway_e2e::eventually::{SOON, eventually};
use gateway_e2e::gateway::Gateway;
use gateway_e2e::spec::Spec;
use gateway_e2e::stack;
use harness::stack::Stack;
use serde_json::Value;

#[test]
fn br_gateway_018_health_and_readiness() -> Spec {
    let gateway = Gateway::at(&Env::from_run()?.gateway_url);
    assert_eq!(gateway.get("/healthz")?.status, 200);
    // A replica that a rollout has just replaced may be asked while it drains, and says so.
    let body = eventually("the gateway is ready", SOON, || {
        let answer = gateway.get("/readyz")?;
        ensure!(answer.status == 200, "it says {answer:?}");
        answer.json()
    })?;
    assert_eq!(body["status"], "ready");
    assert_eq!(body["checks"]["kubernetes"], "ok");
    assert_eq!(body["checks"]["redis"], "ok");

    without_its_cluster_it_lives_but_is_not_ready()?;
    Ok(())
}

/// Restarting would not bring the Kubernetes API back, so only readiness may fail; and the kubelet
/// must see both as the spec does.
fn without_its_cluster_it_lives_but_is_not_ready() -> Result<()> {
    let stack = stack::start_cut_off("health")?;
    let answer = Gateway::of(&stack).get("/readyz")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    let body = answer.json()?;
    assert_ne!(body["status"], "ready");
    assert_ne!(body["checks"]["kubernetes"], "ok");

    // The kubelet has probed by now when it has said why the pod is not ready.
    let pod = eventually("the kubelet's readiness probe has failed", SOON, || {
        let pod = only_pod(&stack)?;
        let ready = pod["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready")
            .context("the pod has no condition `Ready` yet")?;
        ensure!(ready["status"] == "False", "the pod counts as ready: {ready}");
        ensure!(ready["reason"] == "ContainersNotReady", "no probe has failed yet: {ready}");
        Ok(pod)
    })?;
    let container = &pod["status"]["containerStatuses"][0];
    assert_eq!(container["restartCount"], 0, "an outage elsewhere restarted the gateway");
    assert!(!container["state"]["running"].is_null(), "{container}");
    assert_eq!(Gateway::of(&stack).get("/healthz")?.status, 200);
    Ok(())
}

fn only_pod(stack: &Stack) -> Result<Value> {
    let mut pods = stack.pods("gateway")?;
    ensure!(pods.len() == 1, "the gateway has {} pods", pods.len());
    pods.pop().context("the gateway has no pod")
}
