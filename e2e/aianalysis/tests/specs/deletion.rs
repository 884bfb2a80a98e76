//! BR-AIANALYSIS-015: an analysis can be deleted at any time; its name is free for another at once.

use aianalysis_e2e::analysis::Request;
use aianalysis_e2e::analysis::uid;
use harness::namespace::Namespace;
use harness::spec::Spec;

#[test]
fn br_aianalysis_015_deletion() -> Spec {
    let namespace = Namespace::create("deletion")?;
    let asked = Request::about("SlowModel").named("twice");
    let first = asked.create_in(namespace.name())?;
    let resource = first.await_phase("Investigating")?;
    assert!(resource["metadata"]["finalizers"].is_null(), "nothing may hold it: {resource}");
    first.delete()?;
    assert!(first.get().is_err(), "it is still there");

    // The answer to the first is under way while the second of that name is asked about.
    let second = Request::about("OOMKilled").named("twice").create_in(namespace.name())?;
    let after = second.await_phase("Completed")?;
    assert_ne!(uid(&after)?, uid(&resource)?);
    assert_eq!(after["status"]["analysis"]["caseId"], "oom-killed", "it has its own answer");
    assert_eq!(after["status"]["attempts"], 1);
    Ok(())
}
