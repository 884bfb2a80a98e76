//! BR-AIANALYSIS-011: while holmesgpt-api is away an analysis waits, says so, and loses no attempt.

use std::time::Duration;

use aianalysis_e2e::analysis::condition;
use aianalysis_e2e::stack;
use anyhow::ensure;
use harness::eventually::{SOON, eventually, throughout};
use harness::kubectl;
use harness::spec::Spec;

#[test]
fn br_aianalysis_011_holmes_outage() -> Spec {
    let mut stack = stack::start("outage", &[])?;
    let namespace = stack.namespace().name().to_owned();
    stack.scale("holmesgpt-api", 0)?;
    // A pod that is going away still answers.
    eventually("nobody is there", SOON, || {
        let left = kubectl::run(&["get", "pods", "--namespace", &namespace, "--output", "name"])?;
        ensure!(left.lines().count() == 1, "only the controller should be left: {left}");
        Ok(())
    })?;
    let analysis = stack::request(&stack, "OOMKilled").create_in(&namespace)?;

    let resource = analysis.await_condition("HolmesReachable", "False", "Unreachable")?;
    let since = condition(&resource, "HolmesReachable")?["lastTransitionTime"].clone();
    throughout("it waits", Duration::from_secs(4), || {
        let resource = analysis.get()?;
        let status = &resource["status"];
        ensure!(status["phase"] == "Investigating" && status["attempts"] == 0, "{status}");
        let reachable = condition(&resource, "HolmesReachable")?;
        ensure!(reachable["lastTransitionTime"] == since, "it was away all along: {reachable}");
        Ok(())
    })?;
    assert_eq!(condition(&analysis.get()?, "Complete")?["reason"], "Retrying");
    stack.await_ok("/readyz")?;

    stack.scale("holmesgpt-api", 1)?;
    let resource = analysis.await_phase("Completed")?;
    assert_eq!(resource["status"]["attempts"], 1, "{}", resource["status"]);
    assert_eq!(condition(&resource, "HolmesReachable")?["status"], "True");
    Ok(())
}
