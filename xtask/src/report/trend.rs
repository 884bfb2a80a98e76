//! How the runs of one suite went over time: every run in a line, every kind of step in a line.

use std::collections::BTreeSet;

use serde::Serialize;

use super::gate::{self, Regression};
use super::past::{Past, median};
use super::record::Record;
use crate::event::{Kind, Machine};

/// The runs of a suite on one machine. Its JSON form is relied on by scripts.
#[derive(Clone, Debug, Serialize)]
pub struct Trend {
    pub suite: String,
    pub machine: Option<Machine>,
    /// The oldest first.
    pub runs: Vec<Run>,
    /// The slowest first.
    pub steps: Vec<Steps>,
    pub regressions: Vec<Regression>,
    /// Whether there are runs enough for that to mean something.
    pub judged: bool,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub id: String,
    /// When it began, in RFC 3339.
    pub at: String,
    pub ok: bool,
    pub seconds: f64,
    pub built: usize,
    pub skipped: usize,
    pub passed: u64,
    pub failed: u64,
}

/// One step, done in one way.
#[derive(Clone, Debug, Serialize)]
pub struct Steps {
    pub name: String,
    pub kind: Kind,
    pub action: String,
    /// How often it was done well.
    pub count: usize,
    /// Seconds it took last.
    pub last: f64,
    pub median: f64,
}

impl Trend {
    /// Of the runs of `suite` among `past`, on the machine of the last one.
    pub fn of(suite: &str, past: &Past) -> Self {
        let past = past.clone().of(suite);
        let machine = past.records.last().and_then(|record| record.machine.clone());
        let past = match &machine {
            Some(machine) => past.on(machine),
            None => past,
        };
        Self {
            suite: suite.to_owned(),
            machine,
            runs: past.records.iter().map(run).collect(),
            steps: steps(&past),
            regressions: gate::regressions(&past),
            judged: gate::can_judge(&past),
        }
    }

    /// The median of its good runs that had nothing to build.
    pub fn seconds_prebuilt(&self) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.ok && run.built == 0);
        median(&runs.map(|run| run.seconds).collect::<Vec<_>>())
    }
}

fn run(record: &Record) -> Run {
    let outcome = record.outcome.clone().unwrap_or_default();
    Run {
        id: record.id.clone(),
        at: humantime::format_rfc3339_seconds(record.began).to_string(),
        ok: outcome.ok,
        seconds: rounded(record.seconds),
        built: outcome.built,
        skipped: outcome.skipped,
        passed: outcome.passed,
        failed: outcome.failed,
    }
}

fn steps(past: &Past) -> Vec<Steps> {
    let all = past.records.iter().flat_map(|record| &record.steps).filter(|step| step.ok);
    let ways: BTreeSet<(Kind, &str, &str)> =
        all.map(|step| (step.kind, &*step.name, &*step.action)).collect();
    let line = |(kind, name, action): (Kind, &str, &str)| {
        let times = past.times(kind, name, action);
        let (last, median) = (rounded(*times.last()?), rounded(median(&times)?));
        let (name, action) = (name.to_owned(), action.to_owned());
        Some(Steps { name, kind, action, count: times.len(), last, median })
    };
    let mut steps: Vec<Steps> = ways.into_iter().filter_map(line).collect();
    steps.sort_by(|a, b| b.median.total_cmp(&a.median));
    steps
}

/// Three decimals, as all figures have them.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
