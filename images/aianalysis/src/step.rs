//! What is to be done next with an `AIAnalysis`: a pure function of what its status says.
//!
//! ```text
//! (none) ──► Pending ──► Investigating ──► Completed
//!                          │   ▲   │
//!                   faults └───┘   └─────► Failed: refused, out of attempts, past the deadline
//! ```
//!
//! Nothing is remembered outside the status, so a controller that was killed at any point goes on
//! where the last write left it; at worst a question is asked a second time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use service::backoff::Backoff;

use crate::resource::{AiAnalysis, Phase};

/// When to stop trying, and how long to wait before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Questions that reached holmesgpt-api.
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    /// From the start of the investigation.
    pub(crate) deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is over, or being deleted.
    Rest,
    /// Seen for the first time.
    Accept,
    Begin,
    /// The next attempt is not due.
    Wait(Duration),
    Ask,
    GiveUp,
}

pub(crate) fn next(analysis: &AiAnalysis, limits: &Limits, now: DateTime<Utc>) -> Step {
    if analysis.metadata.deletion_timestamp.is_some() {
        return Step::Rest;
    }
    let status = &analysis.status;
    match status.phase {
        None => Step::Accept,
        Some(Phase::Pending) => Step::Begin,
        Some(Phase::Completed | Phase::Failed) => Step::Rest,
        Some(Phase::Investigating) => {
            let begun = status.start_time.unwrap_or(now);
            let left = TimeDelta::from_std(limits.deadline)
                .map_or(TimeDelta::MAX, |deadline| deadline - (now - begun));
            let due = status.next_attempt_time.map_or(TimeDelta::zero(), |due| due - now);
            match (left.to_std(), due.to_std()) {
                (Err(_) | Ok(Duration::ZERO), _) => Step::GiveUp,
                (Ok(_), Err(_) | Ok(Duration::ZERO)) => Step::Ask,
                (Ok(left), Ok(due)) => Step::Wait(due.min(left)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { attempts: 3, backoff: Backoff::BRIEF, deadline: Duration::from_mins(1) };

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn of(phase: Option<Phase>, next_attempt: Option<i64>) -> AiAnalysis {
        let mut analysis = AiAnalysis::default();
        analysis.status.phase = phase;
        analysis.status.start_time = Some(at(0));
        analysis.status.next_attempt_time = next_attempt.map(at);
        analysis
    }

    #[test]
    fn each_phase_has_its_step() {
        let investigating = Some(Phase::Investigating);
        let wait = |seconds| Step::Wait(Duration::from_secs(seconds));
        for (analysis, now, step) in [
            (of(None, None), 0, Step::Accept),
            (of(Some(Phase::Pending), None), 0, Step::Begin),
            (of(investigating, None), 0, Step::Ask),
            (of(investigating, Some(5)), 4, wait(1)),
            (of(investigating, Some(5)), 5, Step::Ask),
            (of(investigating, Some(5)), 9, Step::Ask),
            (of(investigating, Some(90)), 50, wait(10)),
            (of(investigating, Some(5)), 60, Step::GiveUp),
            (of(investigating, None), 61, Step::GiveUp),
            (of(Some(Phase::Completed), None), 99, Step::Rest),
            (of(Some(Phase::Failed), None), 99, Step::Rest),
        ] {
            assert_eq!(next(&analysis, &LIMITS, at(now)), step, "{:?} at {now}", analysis.status);
        }
    }

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        let mut analysis = of(Some(Phase::Investigating), None);
        let text = r#"{"deletionTimestamp":"2026-11-21T09:00:00Z"}"#;
        analysis.metadata = serde_json::from_str(text).unwrap();
        assert_eq!(next(&analysis, &LIMITS, at(0)), Step::Rest);
    }
}
