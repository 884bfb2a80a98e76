//! The vocabulary the stages speak: what happens in a run, as values.
//!
//! Stages emit events and never print. The terminal, the JSON lines, the record of the run and the
//! HTML page are readers of the same stream. The JSON form (`event` in kebab case, `at` in RFC
//! 3339) is a contract with scripts outside the project; fields may be added, never renamed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{error, figure};

/// Something that happened in a run.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// What the run is going to do, before any of it is begun.
    Plan(PlannedRun),
    /// A build has its memory and its child has been started.
    BuildStarted {
        image: String,
        tag: String,
        reasons: Vec<String>,
        memory: u64,
        /// Where, if the configuration has builders: its name there, or `local`.
        #[serde(skip_serializing_if = "Option::is_none")]
        builder: Option<String>,
    },
    /// What a running build holds just now, in bytes of anonymous memory; every [`MEMORY_PACE`].
    BuildMemory { image: String, bytes: u64 },
    /// One line of a build's output.
    BuildLine { image: String, line: String },
    /// A build has ended; `error` holds the one-line reason of a failure.
    BuildFinished {
        image: String,
        /// `rebuild` where nothing but files had changed, else `build`.
        action: &'static str,
        ok: bool,
        seconds: f64,
        peak_memory: Option<u64>,
        error: Option<String>,
        /// Where a failed one stopped, if its log tells.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<Place>,
    },
    /// The shared cache has the image, and it is on its way here.
    FetchStarted { image: String, from: String },
    /// It is here and has proved itself; or it is not, and the image is built.
    FetchFinished { image: String, ok: bool, seconds: f64 },
    /// A built image is on its way to the shared cache.
    PushStarted { image: String, to: String },
    /// It is there; or it is not, which is no failure of the run.
    PushFinished { image: String, ok: bool, seconds: f64 },
    /// Images are being copied to a cluster's nodes.
    LoadStarted { images: Vec<String>, nodes: Vec<String>, bytes: Option<u64> },
    /// Bytes of the load stream so far.
    LoadProgress { images: Vec<String>, bytes: u64 },
    /// The images are on every node, seen there; `loaded` is how many had to be sent.
    LoadFinished { images: Vec<String>, loaded: usize, ok: bool, seconds: f64 },
    /// A step of the suite (or the cluster itself) has been started.
    StepStarted { step: String },
    /// What a running step, build or load is waiting for just now.
    StepWaiting { step: String, waiting_for: String },
    /// A step has ended.
    StepFinished {
        step: String,
        /// How it was done, where there is more than one way: `make` or `reuse` (a cluster),
        /// `apply` or `unchanged`, `run`.
        #[serde(skip_serializing_if = "Option::is_none")]
        action: Option<&'static str>,
        ok: bool,
        seconds: f64,
        error: Option<String>,
    },
    /// The suite's test command has been started.
    TestStarted { suite: String, command: String },
    /// One line of the test command's output.
    TestLine { line: String },
    /// The suite's test command has ended.
    TestFinished { suite: String, ok: bool, passed: u64, failed: u64, skipped: u64, seconds: f64 },
    /// Something a person should know; never a failure.
    Note { text: String },
    /// Something that is wrong but does not stop the run.
    Warning {
        text: String,
        /// How it is mended; a line each, where there is more than one way.
        hint: Option<String>,
    },
    /// The run is over; always last.
    Summary(Summary),
}

/// Between two [`Event::BuildMemory`] of a build.
pub const MEMORY_PACE: Duration = Duration::from_secs(2);

/// A place in a file of the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    /// Counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// What a run is going to do, with what, and where.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PlannedRun {
    pub images: Vec<PlannedImage>,
    pub steps: Vec<String>,
    /// The budget of memory with its arithmetic.
    pub budget: Option<String>,
    /// The same in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The graph; each node stands after all it needs.
    pub nodes: Vec<PlannedNode>,
}

/// What times depend on: figures of different machines are not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `podman`, `docker`.
    pub engine: String,
    /// Of the machine that builds.
    pub cpus: usize,
    /// Of the machine that builds, in bytes.
    #[serde(deserialize_with = "figure::bytes")]
    pub memory: u64,
}

/// A node of the run's graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// `build gateway`, `cluster`, `load gateway`, the name of a step, `test`.
    pub name: String,
    pub kind: Kind,
    /// Names of nodes.
    pub needs: Vec<String>,
    /// From past runs; none if there was none like it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "figure::seconds_if_known"
    )]
    pub seconds: Option<f64>,
}

/// What happens in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Build,
    Cluster,
    Load,
    Step,
    Test,
    Push,
}

/// One image of [`Event::Plan`].
#[derive(Clone, Debug, Serialize)]
pub struct PlannedImage {
    pub name: String,
    pub key: String,
    pub tag: String,
    pub action: &'static str,
    pub reasons: Vec<String>,
}

/// What a run came to. Counts of images, of tests, and the time from start to end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub ok: bool,
    pub built: usize,
    pub skipped: usize,
    /// Taken from the shared cache instead of being built.
    pub fetched: usize,
    /// Put into the shared cache.
    pub pushed: usize,
    pub loaded: usize,
    pub passed: u64,
    pub failed: u64,
    /// Tests; `skipped` counts images.
    pub skipped_tests: u64,
    pub seconds: f64,
    /// What the run made and could not take away: `cluster`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<&'static str>,
}

/// An event with the moment it happened.
#[derive(Clone, Debug, Serialize)]
pub struct Stamped {
    #[serde(flatten)]
    pub event: Event,
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
}

/// A reader of the stream. Called from many threads; must not block for long.
pub trait Sink: Send + Sync {
    fn receive(&self, event: &Stamped);
}

/// The stream's writing end: cheap to clone, shared by all threads of a run.
#[derive(Clone)]
pub struct Events {
    sinks: Arc<[Box<dyn Sink>]>,
}

impl Events {
    pub fn to(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { sinks: sinks.into() }
    }

    /// A stream nobody reads.
    pub fn silent() -> Self {
        Self::to(Vec::new())
    }

    pub fn emit(&self, event: Event) {
        let stamped = Stamped { event, at: SystemTime::now() };
        for sink in self.sinks.iter() {
            sink.receive(&stamped);
        }
    }

    pub fn note(&self, text: impl Into<String>) {
        self.emit(Event::Note { text: text.into() });
    }

    pub fn warn(&self, text: impl Into<String>, hint: Option<String>) {
        self.emit(Event::Warning { text: text.into(), hint });
    }

    /// Warns of what went wrong and does not stop the run.
    pub fn warn_of(&self, error: &anyhow::Error) {
        let hints = error::hints(error).join("\n");
        self.warn(format!("{error:#}"), Some(hints).filter(|hints| !hints.is_empty()));
    }

    pub fn waiting(&self, step: impl Into<String>, waiting_for: impl Into<String>) {
        self.emit(Event::StepWaiting { step: step.into(), waiting_for: waiting_for.into() });
    }
}

/// Seconds with three decimals, as every figure in records and JSON has them.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn rfc3339<S: serde::Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_millis(*at))
}

/// The first line of an error with its causes: what fits on a line of progress.
pub fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorExt as _;

    #[test]
    fn an_event_is_one_flat_object_with_its_kind_and_time() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let event = Event::BuildLine { image: "gateway".into(), line: "STEP 1".into() };
        let json = serde_json::to_string(&Stamped { event, at }).unwrap();
        assert_eq!(
            json,
            r#"{"event":"build-line","image":"gateway","line":"STEP 1","at":"1970-01-01T00:00:01.500Z"}"#
        );
    }

    #[test]
    fn the_summary_is_flat_too() {
        let event = Event::Summary(Summary { built: 2, ..Summary::default() });
        let json = serde_json::to_value(Stamped { event, at: SystemTime::UNIX_EPOCH }).unwrap();
        assert_eq!(json["event"], "summary");
        assert_eq!(json["built"], 2);
    }

    #[test]
    fn a_warning_of_an_error_has_its_hints_beside_it() {
        struct Seen(Arc<parking_lot::Mutex<Vec<Event>>>);
        impl Sink for Seen {
            fn receive(&self, event: &Stamped) {
                self.0.lock().push(event.event.clone());
            }
        }
        let seen = Arc::default();
        let events = Events::to(vec![Box::new(Seen(Arc::clone(&seen)))]);
        let error =
            anyhow::anyhow!("it hangs").hint("wait").context("failed to ask").hint("end it");
        events.warn_of(&error);
        events.warn_of(&anyhow::anyhow!("no more"));
        let told = seen
            .lock()
            .iter()
            .map(|event| serde_json::to_value(event).unwrap())
            .collect::<Vec<_>>();
        let (event, text) = ("warning", "failed to ask: it hangs");
        assert_eq!(
            told[0],
            serde_json::json!({"event": event, "text": text, "hint": "end it\nwait"})
        );
        assert_eq!(told[1], serde_json::json!({"event": event, "text": "no more", "hint": null}));
    }
}
