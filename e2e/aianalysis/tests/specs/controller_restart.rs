//! BR-AIANALYSIS-010: a controller that dies in the middle of an investigation goes on after it.

use aianalysis_e2e::stack;
use anyhow::{Context as _, ensure};
use harness::eventually::{SOON, eventually};
use harness::kubectl;
use harness::spec::Spec;

#[test]
fn br_aianalysis_010_controller_restart() -> Spec {
    // Long enough for the answer of 8 s that the others give up on.
    let stack = stack::start("restart", &[("HOLMESGPT_TIMEOUT", "30s")])?;
    let namespace = stack.namespace().name();
    let analysis = stack::request(&stack, "TooSlowModel").create_in(namespace)?;
    let before = analysis.await_phase("Investigating")?;
    let old = only_pod(&stack)?;

    kubectl::run(&[
        "delete",
        "pod",
        &old,
        "--namespace",
        namespace,
        "--grace-period=0",
        "--force",
    ])?;
    let resource = analysis.get()?;
    assert_eq!(resource["status"]["phase"], "Investigating", "it was killed in the middle");
    eventually("another pod takes the controller's place", SOON, || {
        let pod = only_pod(&stack)?;
        ensure!(pod != old, "the old pod is still there");
        Ok(())
    })?;

    let after = analysis.await_phase("Completed")?;
    let status = &after["status"];
    assert_eq!(status["startTime"], before["status"]["startTime"], "it began anew");
    assert_eq!(status["analysis"]["caseId"], "too-slow");
    assert_eq!(status["attempts"], 1, "the question that died with it has no answer: {status}");
    Ok(())
}

fn only_pod(stack: &harness::stack::Stack) -> anyhow::Result<String> {
    let pods = stack.pods("aianalysis")?;
    ensure!(pods.len() == 1, "the controller has {} pods", pods.len());
    let name = pods[0]["metadata"]["name"].as_str();
    name.map(str::to_owned).context("the pod has no name")
}
