//! BR-AIANALYSIS-005: a fault that does not pass fails the analysis after its last attempt.

use aianalysis_e2e::analysis::{Request, condition};
use harness::namespace::Namespace;
use harness::spec::Spec;

#[test]
fn br_aianalysis_005_attempts_exhausted() -> Spec {
    let namespace = Namespace::create("exhausted")?;
    let analysis = Request::about("BrokenModel").create_in(namespace.name())?;
    let resource = analysis.await_phase("Failed")?;
    let complete = condition(&resource, "Complete")?;
    assert_eq!(complete["reason"], "AttemptsExhausted", "{complete}");
    let message = complete["message"].as_str().unwrap_or_default();
    assert!(message.contains("3 attempts") && message.contains("answered 500"), "{message}");
    assert_eq!(resource["status"]["attempts"], 3);
    assert!(resource["status"]["nextAttemptTime"].is_null());
    Ok(())
}
