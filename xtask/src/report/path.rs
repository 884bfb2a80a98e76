//! The path a run really went: from what ended last back to the start, each time to what had to end
//! before.
//!
//! What a step waited for is what it needs, or memory: where it began well after its last need had
//! ended, it was the end of a build that gave it room.

use super::record::{Record, Step};

/// Seconds between an end and what it lets begin.
const SLACK: f64 = 1.0;

/// Places in [`Record::steps`], the first step first.
pub(super) fn critical(record: &Record) -> Vec<usize> {
    let steps = &record.steps;
    let by_end = |a: &usize, b: &usize| steps[*a].end.total_cmp(&steps[*b].end);
    let mut at = (0..steps.len()).max_by(by_end);
    let mut path = Vec::new();
    while let Some(last) = at {
        path.push(last);
        let step = &steps[last];
        let is_before = |other: &usize| *other != last && steps[*other].end <= step.start + 1e-3;
        let needs = (0..steps.len()).filter(|other| step.needs.contains(&steps[*other].name));
        let need = needs.filter(is_before).max_by(by_end);
        let ready = need.map_or(0.0, |need| steps[need].end);
        let room = (0..steps.len())
            .filter(|other| is_before(other) && steps[*other].reserved.is_some())
            .max_by(by_end);
        let waited = step.reserved.is_some() && step.start - ready > SLACK;
        at = if waited { room.filter(|room| steps[*room].end > ready) } else { None }.or(need);
    }
    path.reverse();
    path
}

/// When a step had all it needs, in seconds since the start of the run. What holds no memory waits
/// for nothing else.
pub(super) fn ready(record: &Record, step: &Step) -> f64 {
    if step.reserved.is_none() {
        return step.start;
    }
    let needs = step.needs.iter().filter_map(|need| record.step(need));
    needs.map(|need| need.end).fold(0.0, f64::max).min(step.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::report::record::tests::empty;

    fn step(name: &str, needs: &[&str], start: f64, end: f64, reserved: Option<u64>) -> Step {
        Step {
            name: name.into(),
            kind: Kind::Step,
            action: String::new(),
            needs: needs.iter().map(|&need| need.into()).collect(),
            start,
            end,
            ok: true,
            reserved,
            peak: None,
            error: None,
            waits: Vec::new(),
        }
    }

    fn names(steps: Vec<Step>) -> String {
        let record = Record { steps, ..empty() };
        let path = critical(&record);
        path.iter().map(|at| record.steps[*at].name.as_str()).collect::<Vec<_>>().join(" → ")
    }

    #[test]
    fn the_path_leads_through_what_ended_last_before() {
        let steps = vec![
            step("cluster", &[], 0.0, 20.0, None),
            step("build", &[], 0.0, 30.0, Some(5)),
            step("load", &["cluster", "build"], 30.2, 32.0, None),
            step("db", &["cluster"], 20.0, 25.0, None),
            step("test", &["load", "db"], 32.0, 60.0, None),
        ];
        assert_eq!(names(steps), "build → load → test");
    }

    #[test]
    fn a_build_that_waited_for_room_comes_after_the_one_that_gave_it() {
        let steps = vec![
            step("first", &[], 0.0, 30.0, Some(5)),
            step("second", &[], 30.1, 50.0, Some(5)),
            step("load", &["second"], 50.0, 55.0, None),
        ];
        assert_eq!(names(steps), "first → second → load");
    }

    #[test]
    fn of_nothing_there_is_no_path() {
        assert_eq!(names(Vec::new()), "");
    }
}
