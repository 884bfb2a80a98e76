//! One past run, read back from the events it left.
//!
//! A record is read whole or not at all: one line that is not JSON (a disk that was full, a file
//! cut short) and nothing in it is believed. Kinds of events this version does not know are passed
//! over. A run that was killed has no summary; what it had finished counts all the same.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::event::{Kind, Machine, PlannedNode};
use crate::figure;

/// A run. Times are seconds since its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The name of its folder.
    pub id: String,
    pub began: SystemTime,
    pub suite: Option<String>,
    /// None in records of before it was noted.
    pub machine: Option<Machine>,
    /// What builds might hold together, in bytes.
    pub budget: Option<u64>,
    pub images: Vec<Image>,
    /// In the order they ended.
    pub steps: Vec<Step>,
    /// What the builds held together, in bytes, at each change.
    pub memory: Vec<(f64, u64)>,
    /// None if the run was killed.
    pub outcome: Option<Outcome>,
    pub seconds: f64,
}

/// What was decided about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Image {
    pub name: String,
    pub key: String,
    /// `build` or `skip`.
    pub action: String,
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// A piece of work that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// As the node of the graph is called.
    pub name: String,
    pub kind: Kind,
    /// How it was done; figures of different ways are not compared.
    pub action: String,
    pub needs: Vec<String>,
    pub start: f64,
    pub end: f64,
    pub ok: bool,
    /// Bytes it held of the budget.
    pub reserved: Option<u64>,
    /// Bytes it was seen to take.
    pub peak: Option<u64>,
    pub error: Option<String>,
    /// What it waited for, before and while it ran.
    pub waits: Vec<Wait>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    pub at: f64,
    pub what: String,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub ok: bool,
    pub built: usize,
    pub skipped: usize,
    pub fetched: usize,
    pub pushed: usize,
    pub loaded: usize,
    #[serde(deserialize_with = "figure::bytes")]
    pub passed: u64,
    #[serde(deserialize_with = "figure::bytes")]
    pub failed: u64,
    #[serde(deserialize_with = "figure::seconds")]
    pub seconds: f64,
}

impl Step {
    pub fn seconds(&self) -> f64 {
        self.end - self.start
    }
}

impl Record {
    /// Reads the events of the run `id`; none if they are not of a run that had a plan.
    pub fn read(id: &str, text: &str) -> Result<Option<Self>> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line: Stamped =
                serde_json::from_str(line).with_context(|| format!("line {}", at + 1))?;
            let at = humantime::parse_rfc3339(&line.at)?;
            lines.push((at, line.event));
        }
        Ok(Reader::default().read(id, lines))
    }

    /// The node a need names, as it ended last.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.name == name)
    }
}

#[derive(Deserialize)]
struct Stamped {
    #[serde(flatten)]
    event: Line,
    at: String,
}

/// The events a record is made of.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Plan(Plan),
    BuildStarted {
        image: String,
        #[serde(deserialize_with = "figure::bytes")]
        memory: u64,
    },
    BuildMemory {
        image: String,
        #[serde(deserialize_with = "figure::bytes")]
        bytes: u64,
    },
    BuildFinished {
        image: String,
        #[serde(default)]
        action: String,
        ok: bool,
        #[serde(deserialize_with = "figure::seconds")]
        seconds: f64,
        #[serde(default, deserialize_with = "figure::bytes_if_known")]
        peak_memory: Option<u64>,
        error: Option<String>,
    },
    FetchFinished {
        image: String,
        ok: bool,
        #[serde(deserialize_with = "figure::seconds")]
        seconds: f64,
    },
    PushFinished {
        image: String,
        ok: bool,
        #[serde(deserialize_with = "figure::seconds")]
        seconds: f64,
    },
    LoadFinished {
        images: Vec<String>,
        loaded: usize,
        ok: bool,
        #[serde(deserialize_with = "figure::seconds")]
        seconds: f64,
    },
    StepWaiting {
        step: String,
        waiting_for: String,
    },
    StepFinished {
        step: String,
        #[serde(default)]
        action: Option<String>,
        ok: bool,
        #[serde(deserialize_with = "figure::seconds")]
        seconds: f64,
        error: Option<String>,
    },
    TestStarted {
        command: String,
    },
    TestFinished {
        ok: bool,
        #[serde(deserialize_with = "figure::seconds")]
        seconds: f64,
    },
    Summary(Outcome),
    #[serde(other)]
    Other,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Plan {
    images: Vec<Image>,
    suite: Option<String>,
    machine: Option<Machine>,
    #[serde(deserialize_with = "figure::bytes_if_known")]
    budget_bytes: Option<u64>,
    nodes: Vec<PlannedNode>,
}

/// What is known while the lines of a record are read.
#[derive(Default)]
struct Reader {
    plan: Option<Plan>,
    nodes: BTreeMap<String, PlannedNode>,
    reserved: BTreeMap<String, u64>,
    held: BTreeMap<String, u64>,
    waits: BTreeMap<String, Vec<Wait>>,
    command: String,
    steps: Vec<Step>,
    memory: Vec<(f64, u64)>,
    outcome: Option<Outcome>,
}

/// How a piece of work ended, whatever it was.
struct End {
    name: String,
    kind: Kind,
    action: String,
    ok: bool,
    seconds: f64,
    error: Option<String>,
}

impl Reader {
    fn read(mut self, id: &str, lines: Vec<(SystemTime, Line)>) -> Option<Record> {
        let began = began(&lines)?;
        let mut last = 0.0;
        for (at, line) in lines {
            last = at.duration_since(began).unwrap_or_default().as_secs_f64();
            self.take(last, line);
        }
        let plan = self.plan?;
        Some(Record {
            id: id.to_owned(),
            began,
            suite: plan.suite,
            machine: plan.machine,
            budget: plan.budget_bytes,
            images: plan.images,
            steps: self.steps,
            memory: self.memory,
            seconds: self.outcome.as_ref().map_or(last, |outcome| outcome.seconds),
            outcome: self.outcome,
        })
    }

    fn take(&mut self, at: f64, line: Line) {
        match line {
            Line::Plan(mut plan) => {
                let nodes = std::mem::take(&mut plan.nodes);
                self.nodes.extend(nodes.into_iter().map(|node| (node.name.clone(), node)));
                self.plan = Some(plan);
            }
            Line::BuildStarted { image, memory } => {
                self.reserved.insert(format!("build {image}"), memory);
            }
            Line::BuildMemory { image, bytes } => self.holds(at, image, bytes),
            Line::BuildFinished { image, action, ok, seconds, peak_memory, error } => {
                let (name, kind) = (format!("build {image}"), Kind::Build);
                self.holds(at, image, 0);
                self.end(at, End { name, kind, action, ok, seconds, error }, peak_memory);
            }
            // What came from the shared cache stands for the build. What did not is built after
            // all.
            Line::FetchFinished { image, ok: true, seconds } => {
                let (name, kind, action) =
                    (format!("build {image}"), Kind::Build, "fetch".to_owned());
                self.end(at, End { name, kind, action, ok: true, seconds, error: None }, None);
            }
            Line::PushFinished { image, ok, seconds } => {
                let (name, kind, action) = (format!("push {image}"), Kind::Push, String::new());
                self.end(at, End { name, kind, action, ok, seconds, error: None }, None);
            }
            Line::LoadFinished { images, loaded, ok, seconds } => {
                let action = if loaded > 0 { "send" } else { "check" }.to_owned();
                let (name, kind) = (load_name(&images), Kind::Load);
                self.end(at, End { name, kind, action, ok, seconds, error: None }, None);
            }
            Line::StepWaiting { step, waiting_for } => {
                self.waits.entry(step).or_default().push(Wait { at, what: waiting_for });
            }
            Line::StepFinished { step, action, ok, seconds, error } => {
                let kind = self.nodes.get(&step).map_or(Kind::Step, |node| node.kind);
                let action = action.unwrap_or_default();
                self.end(at, End { name: step, kind, action, ok, seconds, error }, None);
            }
            Line::TestStarted { command } => self.command = command,
            Line::TestFinished { ok, seconds } => {
                let (name, action) = ("test".to_owned(), std::mem::take(&mut self.command));
                self.end(
                    at,
                    End { name, kind: Kind::Test, action, ok, seconds, error: None },
                    None,
                );
            }
            Line::Summary(outcome) => self.outcome = Some(outcome),
            Line::FetchFinished { ok: false, .. } | Line::Other => {}
        }
    }

    fn end(&mut self, at: f64, end: End, peak: Option<u64>) {
        let End { name, kind, action, ok, seconds, error } = end;
        self.steps.push(Step {
            needs: self.nodes.get(&name).map(|node| node.needs.clone()).unwrap_or_default(),
            reserved: self.reserved.remove(&name),
            waits: self.waits.remove(&name).unwrap_or_default(),
            start: (at - seconds).max(0.0),
            end: at,
            name,
            kind,
            action,
            ok,
            peak,
            error,
        });
    }

    fn holds(&mut self, at: f64, image: String, bytes: u64) {
        self.held.insert(image, bytes);
        self.memory.push((at, figure::sum(self.held.values().copied())));
    }
}

/// When the run began: before its first event, as its summary knows.
fn began(lines: &[(SystemTime, Line)]) -> Option<SystemTime> {
    let (first, _) = lines.first()?;
    let summed = lines.iter().rev().find_map(|(at, line)| match line {
        Line::Summary(outcome) => {
            at.checked_sub(Duration::try_from_secs_f64(outcome.seconds).ok()?)
        }
        _ => None,
    });
    Some(summed.unwrap_or(*first).min(*first))
}

/// As the graph calls it: several images go in one `load`.
fn load_name(images: &[String]) -> String {
    match images {
        [tag] => {
            let name = tag.rsplit('/').next().unwrap_or(tag);
            format!("load {}", name.split(':').next().unwrap_or(name))
        }
        _ => "load".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) const RUN: &str = r#"{"event":"note","text":"hello","at":"2026-11-21T12:00:00.200Z"}
{"event":"plan","images":[{"name":"api","key":"12","tag":"t","action":"build","reasons":["no image"]}],"steps":["db"],"budget":"b","budget_bytes":4000,"suite":"shop","machine":{"engine":"podman","cpus":2,"memory":8000},"nodes":[{"name":"cluster","kind":"cluster","needs":[]},{"name":"build api","kind":"build","needs":[],"seconds":9.5},{"name":"load api","kind":"load","needs":["cluster","build api"]},{"name":"db","kind":"step","needs":["cluster"]},{"name":"test","kind":"test","needs":["db","load api"]}],"at":"2026-11-21T12:00:00.300Z"}
{"event":"step-waiting","step":"build api","waiting_for":"memory","at":"2026-11-21T12:00:00.300Z"}
{"event":"build-started","image":"api","tag":"t","reasons":[],"memory":900,"at":"2026-11-21T12:00:01.000Z"}
{"event":"build-memory","image":"api","bytes":500,"at":"2026-11-21T12:00:03.000Z"}
{"event":"from-the-future","with":["more"],"at":"2026-11-21T12:00:03.000Z"}
{"event":"build-finished","image":"api","action":"rebuild","ok":true,"seconds":10.0,"peak_memory":700,"error":null,"at":"2026-11-21T12:00:11.000Z"}
{"event":"load-finished","images":["localhost/api:12"],"loaded":1,"ok":true,"seconds":2.0,"at":"2026-11-21T12:00:13.000Z"}
{"event":"step-finished","step":"db","action":"apply","ok":false,"seconds":1.0,"error":"no <b>","at":"2026-11-21T12:00:14.000Z"}
{"event":"test-started","suite":"shop","command":"cargo test","at":"2026-11-21T12:00:14.000Z"}
{"event":"test-finished","suite":"shop","ok":true,"passed":3,"failed":0,"seconds":5.0,"at":"2026-11-21T12:00:19.000Z"}
{"event":"summary","ok":true,"built":1,"skipped":0,"loaded":1,"passed":3,"failed":0,"seconds":19.5,"at":"2026-11-21T12:00:19.500Z"}
"#;

    pub(in crate::report) fn empty() -> Record {
        let plan = RUN.split_inclusive('\n').nth(1).unwrap();
        Record::read("r1", plan).unwrap().unwrap()
    }

    #[test]
    fn a_run_is_read_back_from_its_events() {
        let record = Record::read("r1", RUN).unwrap().unwrap();
        assert_eq!((record.suite.as_deref(), record.budget), (Some("shop"), Some(4000)));
        assert_eq!(humantime::format_rfc3339(record.began).to_string(), "2026-11-21T12:00:00Z");
        assert_eq!(record.images[0].reasons, ["no image"]);
        assert_eq!(record.memory, [(3.0, 500), (11.0, 0)]);
        assert_eq!(record.outcome.as_ref().map(|outcome| outcome.passed), Some(3));
        let told: Vec<String> = record
            .steps
            .iter()
            .map(|step| {
                let Step { name, kind, action, start, end, .. } = step;
                format!("{kind:?} {name} ({action}) {start}–{end} after {:?}", step.needs)
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        Build build api (rebuild) 1–11 after []
        Load load api (send) 11–13 after ["cluster", "build api"]
        Step db (apply) 13–14 after ["cluster"]
        Test test (cargo test) 14–19 after ["db", "load api"]
        "#);
        let build = &record.steps[0];
        assert_eq!((build.reserved, build.peak), (Some(900), Some(700)));
        assert_eq!(build.waits, [Wait { at: 0.3, what: "memory".into() }]);
        assert_eq!(record.steps[2].error.as_deref(), Some("no <b>"));
    }

    #[test]
    fn a_run_that_was_killed_counts_as_far_as_it_came() {
        let cut: String = RUN.split_inclusive('\n').take(7).collect();
        let record = Record::read("r1", &cut).unwrap().unwrap();
        assert_eq!((record.outcome, record.steps.len()), (None, 1));
        assert!((record.seconds - 10.8).abs() < 1e-9, "since its first event");
    }

    #[test]
    fn a_record_cut_within_a_line_or_overwritten_is_none() {
        for end in [RUN.len() - 20, 700] {
            assert!(Record::read("r1", &RUN[..end]).is_err(), "{end}");
        }
        assert!(Record::read("r1", &RUN.replacen("\"ok\":true", "\"ok\":\0", 1)).is_err());
        for (figure, nonsense) in
            [("10.0", "1e300"), ("700", "18446744073709551615"), ("19.5", "-1")]
        {
            assert!(Record::read("r1", &RUN.replacen(figure, nonsense, 1)).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_run_without_a_plan_has_no_record() {
        assert_eq!(Record::read("r1", "").unwrap(), None);
        let note = RUN.lines().next().unwrap();
        assert_eq!(Record::read("r1", note).unwrap(), None);
    }

    #[test]
    fn an_old_record_has_what_it_has() {
        let old = r#"{"event":"plan","images":[],"steps":[],"budget":null,"at":"2026-11-21T12:00:00Z"}
{"event":"build-finished","image":"api","ok":true,"seconds":1.0,"peak_memory":null,"error":null,"at":"2026-11-21T12:00:02Z"}"#;
        let record = Record::read("r1", old).unwrap().unwrap();
        assert_eq!((record.machine, record.steps[0].action.as_str()), (None, ""));
    }
}
