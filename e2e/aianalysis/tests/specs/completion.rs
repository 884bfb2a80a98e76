//! BR-AIANALYSIS-001: a signal with a recorded case is analysed, and the analysis is on the
//! resource.

use aianalysis_e2e::analysis::Request;
use harness::namespace::Namespace;
use harness::spec::Spec;
use serde_json::json;

#[test]
fn br_aianalysis_001_completion() -> Spec {
    let namespace = Namespace::create("completion")?;
    let analysis = Request::about("OOMKilled").create_in(namespace.name())?;
    let resource = analysis.await_phase("Completed")?;

    let status = &resource["status"];
    let recorded = json!({
        "caseId": "oom-killed",
        "rootCause": "The container's memory limit of 256Mi is below its working set of 410Mi.",
        "confidence": 92,
        "recommendations": [
            "Raise the memory limit to 512Mi",
            "Look for a leak in the report cache",
        ],
    });
    assert_eq!(status["analysis"], recorded);
    assert_eq!(status["attempts"], 1, "{status}");
    assert!(status["nextAttemptTime"].is_null(), "{status}");
    let time = |field: &str| status[field].as_str().map(humantime::parse_rfc3339);
    let (begun, over) = (time("startTime"), time("completionTime"));
    assert!(
        matches!((&begun, &over), (Some(Ok(begun)), Some(Ok(over))) if begun <= over),
        "{status}"
    );
    Ok(())
}
