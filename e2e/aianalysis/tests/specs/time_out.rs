//! BR-AIANALYSIS-006: an answer that does not come in time is a fault, one that is slow is none.

use aianalysis_e2e::analysis::{Request, condition};
use harness::namespace::Namespace;
use harness::spec::Spec;

#[test]
fn br_aianalysis_006_time_out() -> Spec {
    let namespace = Namespace::create("time-out")?;
    let slow = Request::about("SlowModel").create_in(namespace.name())?;
    let too_slow = Request::about("TooSlowModel").create_in(namespace.name())?;

    let resource = slow.await_phase("Completed")?;
    assert_eq!(resource["status"]["attempts"], 1, "{}", resource["status"]);

    let resource = too_slow.await_phase("Failed")?;
    let complete = condition(&resource, "Complete")?;
    assert_eq!(complete["reason"], "AttemptsExhausted", "{complete}");
    let message = complete["message"].as_str().unwrap_or_default();
    assert!(message.contains("no answer within 5s"), "{message}");
    Ok(())
}
