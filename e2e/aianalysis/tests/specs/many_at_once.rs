//! BR-AIANALYSIS-014: twenty questions at once are all answered, each with its own answer.

use aianalysis_e2e::analysis::{Request, list};
use anyhow::ensure;
use harness::eventually::{SOON, eventually};
use harness::namespace::Namespace;
use harness::spec::Spec;

const MANY: usize = 20;

#[test]
fn br_aianalysis_014_many_at_once() -> Spec {
    let namespace = Namespace::create("many")?;
    let signals = [
        ("OOMKilled", "oom-killed"),
        ("CrashLoopBackOff", "crash-loop"),
        ("FlakyModel", "flaky"),
        ("SlowModel", "slow"),
    ];
    for (signal, _) in signals.iter().cycle().take(MANY) {
        Request::about(signal).create_in(namespace.name())?;
    }
    let all = eventually("all are completed", SOON, || {
        let all = list(namespace.name())?;
        let phase = |phase: &str| all.iter().filter(|one| one["status"]["phase"] == phase).count();
        ensure!(
            phase("Completed") == MANY,
            "{} are, {} failed",
            phase("Completed"),
            phase("Failed")
        );
        Ok(all)
    })?;
    for one in &all {
        let signal = one["spec"]["signalName"].as_str();
        let case = signals.iter().find(|(name, _)| Some(*name) == signal).map(|(_, case)| *case);
        assert_eq!(one["status"]["analysis"]["caseId"].as_str(), case, "{one}");
    }
    Ok(())
}
