//! BR-AIANALYSIS-012: every investigation can be followed in `DataStorage`, under the resource's
//! uid.

use aianalysis_e2e::analysis::{Request, uid};
use aianalysis_e2e::env::Env;
use harness::audit;
use harness::namespace::Namespace;
use harness::spec::Spec;

const STARTED: &str = "aianalysis.investigation.started";
const RETRIED: &str = "aianalysis.investigation.retried";
const COMPLETED: &str = "aianalysis.analysis.completed";
const FAILED: &str = "aianalysis.analysis.failed";

#[test]
fn br_aianalysis_012_audit_trail() -> Spec {
    let env = Env::from_run()?;
    let namespace = Namespace::create("audit")?;
    for (signal, phase, expected) in [
        ("OOMKilled", "Completed", &[STARTED, COMPLETED][..]),
        ("NobodyRecordedThis", "Failed", &[STARTED, FAILED]),
        ("BrokenModel", "Failed", &[STARTED, RETRIED, RETRIED, FAILED]),
    ] {
        let analysis = Request::about(signal).create_in(namespace.name())?;
        let resource = analysis.await_phase(phase)?;
        let id = uid(&resource)?;
        let events = audit::events_of(&env.datastorage_url, &id, expected)?;
        let types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
        assert_eq!(types, expected, "{signal}");
        for event in &events {
            assert_eq!((event.service.as_str(), &event.correlation_id), ("aianalysis", &id));
            assert_eq!(event.namespace.as_deref(), Some(namespace.name()));
            let asked = resource["spec"]["signalFingerprint"].as_str();
            assert_eq!(event.fingerprint.as_deref(), asked);
            assert_eq!(event.detail["remediation_request"], "rr-made-by-a-spec");
            let good = [STARTED, COMPLETED].contains(&event.event_type.as_str());
            assert_eq!(event.outcome == "success", good, "{event:?}");
        }
    }
    Ok(())
}
