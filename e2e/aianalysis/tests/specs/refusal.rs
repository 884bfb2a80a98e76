//! BR-AIANALYSIS-003: what holmesgpt-api refuses (4xx) fails at once, with the reason.

use aianalysis_e2e::analysis::{Request, condition};
use harness::namespace::Namespace;
use harness::spec::Spec;

#[test]
fn br_aianalysis_003_refusal() -> Spec {
    let namespace = Namespace::create("refusal")?;
    for (signal, reason, words) in [
        ("NobodyRecordedThis", "UnknownCase", "no case fits `NobodyRecordedThis`"),
        ("RejectedByModel", "RequestRefused", "answered 400"),
    ] {
        let analysis = Request::about(signal).create_in(namespace.name())?;
        let resource = analysis.await_phase("Failed")?;
        let complete = condition(&resource, "Complete")?;
        assert_eq!((&complete["status"], &complete["reason"]), (&"False".into(), &reason.into()));
        let message = complete["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message}");
        let status = &resource["status"];
        assert_eq!(status["attempts"], 1, "a refusal is final: {status}");
        assert!(status["analysis"].is_null(), "{status}");
        assert!(status["completionTime"].is_string(), "{status}");
    }
    Ok(())
}
