//! BR-AIANALYSIS-004: a fault that may pass is tried again, later each time, and every attempt
//! counts.

use aianalysis_e2e::analysis::{Request, uid};
use aianalysis_e2e::env::Env;
use anyhow::{Context as _, Result};
use harness::audit::{self, AuditEvent};
use harness::namespace::Namespace;
use harness::spec::Spec;

#[test]
fn br_aianalysis_004_retry_with_backoff() -> Spec {
    let env = Env::from_run()?;
    let namespace = Namespace::create("retry")?;
    let resource = undisturbed(&namespace)?;
    let status = &resource["status"];
    assert_eq!(status["attempts"], 3, "the case answers the third question: {status}");
    assert_eq!(status["analysis"]["caseId"], "flaky");

    let completed = "aianalysis.analysis.completed";
    let events = audit::events_of(&env.datastorage_url, &uid(&resource)?, &[completed])?;
    let retried: Vec<_> =
        events.iter().filter(|event| event.event_type.ends_with(".retried")).collect();
    assert_eq!(retried.len(), 2, "{events:?}");
    // Half of 500 ms at least before the second question, half of 1 s before the third; an event is
    // recorded once the status is written, which takes some of it.
    let (first, second) = (at(retried[0])?, at(retried[1])?);
    let last = at(events.last().context("there are no events")?)?;
    assert!(second - first >= 0.1, "the second attempt came {:.3} s after", second - first);
    assert!(last - second >= 0.3, "the third attempt came {:.3} s after", last - second);
    Ok(())
}

/// An analysis whose answers were all recorded: one that is lost before, on a busy machine, the
/// case has counted and the controller has not.
fn undisturbed(namespace: &Namespace) -> Result<serde_json::Value> {
    for _ in 0..5 {
        let analysis = Request::about("FlakyModel").create_in(namespace.name())?;
        let resource = analysis.await_phase("Completed")?;
        if resource["status"]["setbacks"].as_u64().unwrap_or(0) == 2 {
            return Ok(resource);
        }
    }
    anyhow::bail!("each of five analyses lost an answer before it was recorded")
}

/// Seconds.
fn at(event: &AuditEvent) -> Result<f64> {
    let time = humantime::parse_rfc3339(&event.occurred_at)?;
    Ok(time.duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
}
