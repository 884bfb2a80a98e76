//! The runs that are kept, and what work took in them.
//!
//! What a piece of work is expected to take is the median of its last [`LAST`] times on a machine
//! like this one: by name and by the way it was done, since a cluster made takes 25 s and one used
//! again 0.3.

use super::record::{Record, Step};
use crate::event::{Kind, Machine};
use crate::paths::is_run;
use crate::private::{Owner, PrivatePath};

/// Runs whose folders are kept; the oldest go first.
pub const KEPT: usize = 100;

/// The largest record that is read, in bytes: a long run with many builds has some MiB.
const LARGEST: u64 = 256 << 20;

/// Times a prediction is made of.
const LAST: usize = 5;

/// Past runs, the oldest first.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Past {
    pub records: Vec<Record>,
    /// Runs whose record cannot be read.
    pub unreadable: Vec<String>,
}

impl Past {
    /// The last `most` runs in the folder of runs.
    pub fn read(runs: &PrivatePath, most: usize) -> Self {
        let mut past = Self::default();
        for id in ids(runs).iter().rev().take(most).rev() {
            // Without the file it is the folder of a run that had no record.
            let Ok(text) = runs.join(id).join("events.jsonl").read(LARGEST) else { continue };
            let text = String::from_utf8_lossy(&text);
            match Record::read(id, &text) {
                Ok(record) => past.records.extend(record),
                Err(_) => past.unreadable.push(id.clone()),
            }
        }
        past
    }

    /// What a person should know of what was left out.
    pub fn note(&self) -> Option<String> {
        let ids = self.unreadable.join(", ");
        (!ids.is_empty()).then(|| format!("records that cannot be read are left out: {ids}"))
    }

    /// Without the runs on other machines: their times say nothing about this one.
    pub fn on(mut self, machine: &Machine) -> Self {
        self.records.retain(|record| record.machine.as_ref().is_some_and(|m| is_like(m, machine)));
        self
    }

    /// All suites on record, in the order they were first run.
    pub fn suites(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.records.iter().filter_map(|record| record.suite.as_ref()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Without the runs of other suites.
    pub fn of(mut self, suite: &str) -> Self {
        self.records.retain(|record| record.suite.as_deref() == Some(suite));
        self
    }

    /// Every time a piece of work was done well in one way, the oldest first, in seconds.
    pub fn times(&self, kind: Kind, name: &str, action: &str) -> Vec<f64> {
        let steps = self.records.iter().flat_map(|record| &record.steps);
        let same = |step: &&Step| {
            step.ok && step.kind == kind && step.name == name && step.action == action
        };
        steps.filter(same).map(Step::seconds).collect()
    }

    /// What a piece of work is expected to take, in seconds; none if it was never done this way.
    pub fn seconds(&self, kind: Kind, name: &str, action: &str) -> Option<f64> {
        let times = self.times(kind, name, action);
        let seconds = median(&times[times.len().saturating_sub(LAST)..])?;
        Some((seconds * 1000.0).round() / 1000.0)
    }
}

/// The middle of some figures; of an even number the mean of the two there.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// What a virtual machine says of its memory differs by some pages from start to start.
fn is_like(one: &Machine, other: &Machine) -> bool {
    let gib = |machine: &Machine| (machine.memory + (1 << 29)) >> 30;
    one.engine == other.engine && one.cpus == other.cpus && gib(one) == gib(other)
}

/// Removes the folders of the oldest runs, as far as there are more than `keep`; none of a run that
/// is still going on.
pub fn prune(runs: &PrivatePath, keep: usize) {
    for id in ids(runs).iter().rev().skip(keep) {
        let run = runs.join(id);
        // Runs of before were not marked, but have a record.
        let is_over = match run.owner() {
            Owner::Alive => false,
            Owner::Gone => true,
            Owner::Nobody => run.join("events.jsonl").is_file(),
        };
        if is_over {
            // What cannot be removed now is found again by the next run.
            run.remove().ok();
        }
    }
}

/// Names of run folders, the oldest first.
fn ids(runs: &PrivatePath) -> Vec<String> {
    let mut ids: Vec<String> = runs.names().into_iter().filter(|name| is_run(name)).collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Events, PlannedRun, Summary};
    use crate::report::Recorder;

    fn machine(memory: u64) -> Machine {
        Machine { engine: "podman".into(), cpus: 2, memory }
    }

    /// A run of one build that took so many seconds.
    fn write(runs: &PrivatePath, at: usize, machine: Machine, seconds: f64, ok: bool) {
        let file = runs.join(format!("20260101-{at:06}-999999999/events.jsonl"));
        let events = Events::to(vec![Box::new(Recorder::new(&file).unwrap())]);
        let suite = Some("shop".to_owned());
        events.emit(Event::Plan(PlannedRun {
            machine: Some(machine),
            suite,
            ..PlannedRun::default()
        }));
        events.emit(Event::BuildFinished {
            image: "api".into(),
            action: "build",
            ok,
            seconds,
            peak_memory: None,
            error: None,
            at: None,
        });
        events.emit(Event::Summary(Summary { seconds: seconds + 1.0, ok, ..Summary::default() }));
    }

    #[test]
    fn what_work_takes_is_the_median_of_its_last_times_on_such_a_machine() {
        let folder = tempfile::tempdir().unwrap();
        let runs = &PrivatePath::below(folder.path(), "runs");
        for (at, seconds) in [90.0, 80.0, 10.0, 13.0, 11.0, 300.0, 12.0].into_iter().enumerate() {
            write(runs, at, machine((8 << 30) + at as u64), seconds, true);
        }
        write(runs, 20, machine(16 << 30), 1.0, true);
        write(runs, 21, machine(8 << 30), 2.0, false);
        let past = Past::read(runs, KEPT).on(&machine(8 << 30));
        let times = past.times(Kind::Build, "build api", "build");
        assert_eq!(times.len(), 7, "neither failed nor of another machine: {times:?}");
        let seconds = |kind, name, action| past.seconds(kind, name, action);
        let built = seconds(Kind::Build, "build api", "build").unwrap();
        assert!((built - 12.0).abs() < 0.01, "{built}");
        assert_eq!(seconds(Kind::Build, "build api", "rebuild"), None);
        assert_eq!(seconds(Kind::Step, "build api", "build"), None);
        assert_eq!(past.clone().of("shop").records.len(), 8);
        assert_eq!(past.of("other").records.len(), 0);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_left_out_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let runs = &PrivatePath::below(folder.path(), "runs");
        for at in 0..3 {
            write(runs, at, machine(8 << 30), 10.0, true);
        }
        let broken = runs.join("20260101-000001-999999999/events.jsonl");
        let text = fs_err::read_to_string(&broken).unwrap();
        fs_err::write(&broken, &text[..text.len() - 9]).unwrap();
        fs_err::create_dir(runs.join("20260101-000009-1")).unwrap();
        fs_err::create_dir(runs.join("something-else")).unwrap();
        let past = Past::read(runs, KEPT);
        assert_eq!(past.records.len(), 2);
        let note = "records that cannot be read are left out: 20260101-000001-999999999";
        assert_eq!(past.note().as_deref(), Some(note));
    }

    #[test]
    fn only_so_many_runs_are_kept_and_none_that_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let runs = &PrivatePath::below(folder.path(), "runs");
        let own = "20250101-000000-1";
        let _claim = runs.join(own).claim().unwrap();
        for at in 0..5 {
            write(runs, at, machine(1), 1.0, true);
        }
        fs_err::create_dir(runs.join("notes")).unwrap();
        prune(runs, 2);
        let mut left: Vec<String> = fs_err::read_dir(runs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let kept = ["20260101-000003-999999999", "20260101-000004-999999999", "notes"];
        assert_eq!(left, [&[own], &kept[..]].concat());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 9.0, 4.0]), Some(3.5));
    }
}
