//! BR-AIANALYSIS-008: what was asked cannot be changed, so an answer is always that question's.

use aianalysis_e2e::analysis::Request;
use harness::namespace::Namespace;
use harness::spec::Spec;
use serde_json::json;

#[test]
fn br_aianalysis_008_immutable_spec() -> Spec {
    let namespace = Namespace::create("immutable")?;
    let analysis = Request::about("OOMKilled").create_in(namespace.name())?;
    let before = analysis.await_phase("Completed")?;

    let Err(error) = analysis.patch(&json!({ "spec": { "signalName": "CrashLoopBackOff" } }))
    else {
        panic!("the spec was changed");
    };
    assert!(format!("{error:#}").contains("the spec cannot be changed"), "{error:#}");

    analysis.patch(&json!({ "metadata": { "labels": { "team": "web" } } }))?;
    let after = analysis.get()?;
    assert_eq!(after["metadata"]["labels"]["team"], "web");
    assert_eq!(after["status"], before["status"], "a label is no question");
    // A status is the controller's: whoever may write the resource does not write it.
    analysis.patch(&json!({ "status": { "phase": "Pending" } }))?;
    assert_eq!(analysis.get()?["status"], before["status"]);
    Ok(())
}
