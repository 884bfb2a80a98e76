//! What the status says at each turn. Each function takes the status as it was and gives the one to
//! write; the conditions are:
//!
//! | type | status | reasons |
//! | --- | --- | --- |
//! | `Complete` | True | `AnalysisRecorded` |
//! | | False | `Pending`, `Investigating`, `Retrying`, and why it failed: `UnknownCase`, `RequestRefused`, `AttemptsExhausted`, `DeadlineExceeded` |
//! | `HolmesReachable` | Unknown | `NotAsked` |
//! | | True | `Answered`, whatever the answer |
//! | | False | `Unreachable`, also where somebody else answers in its place |
//!
//! A question that found nobody there does not count as an attempt: a holmesgpt-api that is being
//! replaced for minutes fails no analysis, a case that it cannot answer does after
//! [`Limits::attempts`].

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::holmes::{Answer, Refusal};
use crate::resource::{Analysis, Condition, Phase, Status};
use crate::step::Limits;

const COMPLETE: &str = "Complete";
const REACHABLE: &str = "HolmesReachable";

/// The moment and the generation a status is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: DateTime<Utc>,
    pub(crate) generation: i64,
}

pub(crate) fn accepted(moment: Moment) -> Status {
    let mut status = Status {
        phase: Some(Phase::Pending),
        observed_generation: Some(moment.generation),
        ..Status::default()
    };
    set(&mut status, moment, (COMPLETE, "False"), "Pending", "it was seen");
    set(&mut status, moment, (REACHABLE, "Unknown"), "NotAsked", "nobody was asked");
    status
}

pub(crate) fn begun(mut status: Status, moment: Moment) -> Status {
    status.phase = Some(Phase::Investigating);
    status.start_time = Some(moment.now.trunc_subsecs(0));
    set(&mut status, moment, (COMPLETE, "False"), "Investigating", "holmesgpt-api is asked");
    status
}

/// After a question; `chance` in 0..1 spreads the wait for the next.
pub(crate) fn answered(
    mut status: Status,
    moment: Moment,
    answer: &Answer,
    limits: &Limits,
    chance: f64,
) -> Status {
    if let Answer::Unreachable(what) = answer {
        set(&mut status, moment, (REACHABLE, "False"), "Unreachable", what);
        return retrying(status, moment, what, limits, chance);
    }
    status.attempts += 1;
    set(&mut status, moment, (REACHABLE, "True"), "Answered", "it answered the last question");
    match answer {
        Answer::Analysis(analysis) => completed(status, moment, analysis),
        Answer::Refused(Refusal::UnknownCase, what) => failed(status, moment, "UnknownCase", what),
        Answer::Refused(Refusal::Request, what) => failed(status, moment, "RequestRefused", what),
        Answer::Faulty(what) if status.attempts >= limits.attempts => {
            let what = format!("{} attempts, the last: {what}", status.attempts);
            failed(status, moment, "AttemptsExhausted", &what)
        }
        Answer::Faulty(what) | Answer::Unreachable(what) => {
            retrying(status, moment, what, limits, chance)
        }
    }
}

pub(crate) fn given_up(status: Status, moment: Moment, limits: &Limits) -> Status {
    let what = format!("no analysis within {:?}", limits.deadline);
    failed(status, moment, "DeadlineExceeded", &what)
}

fn retrying(
    mut status: Status,
    moment: Moment,
    what: &str,
    limits: &Limits,
    chance: f64,
) -> Status {
    let wait = limits.backoff.delay(status.setbacks, None, chance);
    status.setbacks = status.setbacks.saturating_add(1);
    let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
    status.next_attempt_time = moment.now.checked_add_signed(wait).map(|at| at.trunc_subsecs(3));
    set(&mut status, moment, (COMPLETE, "False"), "Retrying", what);
    status
}

fn completed(mut status: Status, moment: Moment, analysis: &Analysis) -> Status {
    status.analysis = Some(analysis.clone());
    let what = format!("case `{}`", analysis.case_id);
    set(&mut status, moment, (COMPLETE, "True"), "AnalysisRecorded", &what);
    over(status, moment, Phase::Completed)
}

fn failed(mut status: Status, moment: Moment, reason: &str, what: &str) -> Status {
    set(&mut status, moment, (COMPLETE, "False"), reason, what);
    over(status, moment, Phase::Failed)
}

fn over(mut status: Status, moment: Moment, phase: Phase) -> Status {
    status.phase = Some(phase);
    status.next_attempt_time = None;
    status.completion_time = Some(moment.now.trunc_subsecs(0));
    status
}

/// The reason of the condition `Complete`.
pub(crate) fn reason(status: &Status) -> &str {
    let complete = status.conditions.iter().find(|condition| condition.kind == COMPLETE);
    complete.map_or("", |condition| &condition.reason)
}

/// Sets a condition; its time moves only when its status does.
fn set(
    status: &mut Status,
    moment: Moment,
    (kind, value): (&str, &str),
    reason: &str,
    message: &str,
) {
    let before = status.conditions.iter().position(|condition| condition.kind == kind);
    let since = before
        .map(|at| &status.conditions[at])
        .filter(|condition| condition.status == value)
        .map_or(moment.now.trunc_subsecs(0), |condition| condition.last_transition_time);
    let condition = Condition {
        kind: kind.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: moment.generation,
        last_transition_time: since,
    };
    match before {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use service::backoff::Backoff;

    use super::*;

    const LIMITS: Limits =
        Limits { attempts: 3, backoff: Backoff::BRIEF, deadline: Duration::from_mins(1) };

    fn moment(second: i64) -> Moment {
        let now = DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap();
        Moment { now, generation: 1 }
    }

    fn investigating() -> Status {
        begun(accepted(moment(0)), moment(1))
    }

    fn condition<'s>(status: &'s Status, kind: &str) -> &'s Condition {
        status.conditions.iter().find(|condition| condition.kind == kind).unwrap()
    }

    fn analysis() -> Answer {
        Answer::Analysis(Analysis {
            case_id: "c".into(),
            root_cause: "r".into(),
            confidence: 90,
            recommendations: vec![],
        })
    }

    #[test]
    fn an_analysis_completes_it() {
        let status = answered(investigating(), moment(2), &analysis(), &LIMITS, 0.5);
        assert_eq!((status.phase, status.attempts), (Some(Phase::Completed), 1));
        assert_eq!(status.completion_time, Some(moment(2).now));
        assert_eq!(condition(&status, COMPLETE).status, "True");
        assert_eq!(condition(&status, REACHABLE).status, "True");
        assert_eq!(reason(&status), "AnalysisRecorded");
    }

    #[test]
    fn a_refusal_fails_it_at_once() {
        for (refusal, reason_is) in
            [(Refusal::UnknownCase, "UnknownCase"), (Refusal::Request, "RequestRefused")]
        {
            let answer = Answer::Refused(refusal, "no".into());
            let status = answered(investigating(), moment(2), &answer, &LIMITS, 0.5);
            assert_eq!(status.phase, Some(Phase::Failed));
            assert_eq!(reason(&status), reason_is);
        }
    }

    #[test]
    fn faults_are_counted_and_waited_for_longer_each_time() {
        let answer = Answer::Faulty("500".into());
        let first = answered(investigating(), moment(2), &answer, &LIMITS, 1.0);
        assert_eq!((first.phase, first.attempts), (Some(Phase::Investigating), 1));
        let wait = |status: &Status| status.next_attempt_time.unwrap() - moment(2).now;
        let second = answered(first.clone(), moment(2), &answer, &LIMITS, 1.0);
        assert_eq!(wait(&first) * 2, wait(&second));
        let third = answered(second, moment(2), &answer, &LIMITS, 1.0);
        assert_eq!((third.phase, reason(&third)), (Some(Phase::Failed), "AttemptsExhausted"));
        assert_eq!(third.next_attempt_time, None);
    }

    #[test]
    fn nobody_there_is_no_attempt_and_shows() {
        let mut status = investigating();
        for second in 2..20 {
            let answer = Answer::Unreachable("refused".into());
            status = answered(status, moment(second), &answer, &LIMITS, 0.0);
        }
        assert_eq!((status.phase, status.attempts), (Some(Phase::Investigating), 0));
        let reachable = condition(&status, REACHABLE);
        assert_eq!(reachable.status, "False");
        assert_eq!(reachable.last_transition_time, moment(2).now, "its status moved once");
        let status = answered(status, moment(30), &analysis(), &LIMITS, 0.0);
        assert_eq!(condition(&status, REACHABLE).last_transition_time, moment(30).now);
        assert_eq!((status.phase, status.attempts), (Some(Phase::Completed), 1));
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(analysis()),
            Just(Answer::Refused(Refusal::Request, String::new())),
            Just(Answer::Faulty(String::new())),
            Just(Answer::Unreachable(String::new())),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_answered_it_ends_with_a_reason_or_has_a_next_attempt(
            answers in prop::collection::vec(any_answer(), 1..20),
        ) {
            let mut status = investigating();
            for answer in &answers {
                status = answered(status, moment(5), answer, &LIMITS, 0.5);
                let over = status.phase != Some(Phase::Investigating);
                prop_assert_eq!(over, status.completion_time.is_some());
                prop_assert_eq!(!over, status.next_attempt_time.is_some());
                prop_assert!(status.attempts <= LIMITS.attempts);
                if over {
                    break;
                }
            }
        }
    }
}
