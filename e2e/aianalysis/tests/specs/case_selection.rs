//! BR-AIANALYSIS-002: the case that knows most of the signal answers, and the same one each time.

use aianalysis_e2e::analysis::Request;
use harness::namespace::Namespace;
use harness::spec::Spec;

#[test]
fn br_aianalysis_002_case_selection() -> Spec {
    let namespace = Namespace::create("cases")?;
    for (signal, environment, case, confidence) in [
        ("OOMKilled", "production", "oom-killed-production", 97),
        ("OOMKilled", "staging", "oom-killed", 92),
        ("OOMKilled", "production", "oom-killed-production", 97),
        ("CrashLoopBackOff", "production", "crash-loop", 88),
    ] {
        let request = Request::about(signal).with_environment(environment);
        let resource = request.create_in(namespace.name())?.await_phase("Completed")?;
        let analysis = &resource["status"]["analysis"];
        assert_eq!(analysis["caseId"], case, "{signal} in {environment}");
        assert_eq!(analysis["confidence"], confidence, "{signal} in {environment}");
    }
    Ok(())
}
