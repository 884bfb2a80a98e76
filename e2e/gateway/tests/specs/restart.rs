//! BR-GATEWAY-010: what was taken before a restart is known after it.
//!
//! Stopped as Kubernetes stops a pod, the gateway leaves with exit code 0; killed without a word,
//! it is no worse off: everything it must remember is in Redis and the cluster.

use anyhow::{Context as _, Result, ensure};
use gateway_e2e::alert::Alert;
use gateway_e2e::eventually::{SOON, eventually};
use gateway_e2e::gateway::Gateway;
use gateway_e2e::kubectl;
use gateway_e2e::remediation;
use gateway_e2e::spec::Spec;
use gateway_e2e::stack;
use harness::stack::Stack;
use serde_json::Value;

#[test]
fn br_gateway_010_gateway_restart_recovery() -> Spec {
    let mut stack = stack::start("restart", &[])?;
    let namespace = stack.namespace().name().to_owned();
    let alert = Alert::firing("Remembered", &namespace);
    let first = Gateway::of(&stack).creates(&alert)?;

    for (restart, stop) in [stop_politely, kill_without_a_word].into_iter().enumerate() {
        stop(&stack)?;
        stack.reconnect()?;
        stack.await_check("redis", "ok")?;
        let repetition = Gateway::of(&stack).deduplicates(&alert)?;
        assert_eq!(repetition.fingerprint, first.fingerprint);
        assert_eq!(repetition.remediation_request, first.remediation_request);
        assert_eq!(repetition.occurrences, Some(restart as u64 + 2), "it lost count");
        let fresh = Alert::firing(&format!("AfterRestart{restart}"), &namespace);
        Gateway::of(&stack).creates(&fresh)?;
    }
    assert_eq!(remediation::names(&namespace)?.len(), 3);
    Ok(())
}

/// SIGTERM inside the container: unlike a deleted pod, this one stays to show its exit code.
fn stop_politely(stack: &Stack) -> Result<()> {
    let namespace = stack.namespace().name();
    kubectl::run(&[
        "exec",
        "deployment/gateway",
        "--namespace",
        namespace,
        "--",
        "sh",
        "-c",
        "kill -TERM 1",
    ])?;
    let ended = eventually("the stopped gateway has been started again", SOON, || {
        let status = only_pod(stack)?["status"]["containerStatuses"][0].take();
        ensure!(status["restartCount"] == 1, "it has not ended yet: {status}");
        ensure!(status["ready"] == true, "it is not ready yet: {status}");
        // The kubelet counts the restart before it tells how the last run ended.
        let ended = &status["lastState"]["terminated"];
        ensure!(ended.is_object(), "it does not say how the last run ended: {status}");
        Ok(ended.clone())
    })?;
    assert_eq!(ended["exitCode"], 0, "SIGTERM must end it in order: {ended}");
    Ok(())
}

/// The pod is gone at once, as if its node had died.
fn kill_without_a_word(stack: &Stack) -> Result<()> {
    let pod = only_pod(stack)?;
    let name = pod["metadata"]["name"].as_str().context("the pod has no name")?;
    let namespace = stack.namespace().name();
    kubectl::run(&[
        "delete",
        "pod",
        name,
        "--namespace",
        namespace,
        "--grace-period=0",
        "--force",
    ])?;
    eventually("another pod takes the gateway's place", SOON, || {
        let pod = only_pod(stack)?;
        ensure!(pod["metadata"]["name"] != name, "the old pod is still there");
        ensure!(pod["status"]["containerStatuses"][0]["ready"] == true, "it is not ready yet");
        Ok(())
    })
}

fn only_pod(stack: &Stack) -> Result<Value> {
    let mut pods = stack.pods("gateway")?;
    ensure!(pods.len() == 1, "the gateway has {} pods", pods.len());
    pods.pop().context("the gateway has no pod")
}
