//! BR-AIANALYSIS-013: what operators alert on. A controller of its own, so that every count is
//! exact.

use aianalysis_e2e::stack;
use anyhow::{Result, ensure};
use harness::http;
use harness::metrics::Scrape;
use harness::spec::Spec;
use harness::stack::Stack;

const PHASES: &str = "aianalysis_phase_transitions_total";
const QUESTIONS: &str = "aianalysis_holmesgpt_requests_total";

#[test]
fn br_aianalysis_013_metrics() -> Spec {
    let stack = stack::start("metrics", &[])?;
    let namespace = stack.namespace().name();
    // Once its own holmesgpt-api answers, every count is exact.
    stack::request(&stack, "OOMKilled").create_in(namespace)?.await_phase("Completed")?;
    let before = scrape(&stack)?;
    for outcome in ["analysis", "refused", "faulty", "unreachable"] {
        let series = before.matching(QUESTIONS, &[("outcome", outcome)]).count();
        assert_eq!(series, 1, "{outcome} is not there from the start");
    }
    for (signal, phase) in
        [("OOMKilled", "Completed"), ("FlakyModel", "Completed"), ("NobodyRecordedThis", "Failed")]
    {
        stack::request(&stack, signal).create_in(namespace)?.await_phase(phase)?;
    }

    let after = scrape(&stack)?;
    let count = "aianalysis_holmesgpt_request_duration_seconds_count";
    for (rise, name, labels) in [
        (3, PHASES, &[("phase", "Pending")][..]),
        (3, PHASES, &[("phase", "Investigating")]),
        (2, PHASES, &[("phase", "Completed")]),
        (1, PHASES, &[("phase", "Failed")]),
        (2, QUESTIONS, &[("outcome", "analysis")]),
        (1, QUESTIONS, &[("outcome", "refused")]),
        (2, QUESTIONS, &[("outcome", "faulty")]),
        (0, QUESTIONS, &[("outcome", "unreachable")]),
        (5, count, &[]),
        (0, "aianalysis_audit_events_dropped_total", &[]),
    ] {
        let risen = after.count(name, labels) - before.count(name, labels);
        assert_eq!(risen, rise, "{name}{labels:?} rose by {risen}");
    }
    Ok(())
}

fn scrape(stack: &Stack) -> Result<Scrape> {
    let answer = http::get(&format!("{}/metrics", stack.url()))?;
    ensure!(answer.status == 200, "/metrics says {answer:?}");
    ensure!(answer.header("Content-Type").starts_with("text/plain"), "{:?}", answer.headers);
    Ok(Scrape::parse(&answer.body))
}
