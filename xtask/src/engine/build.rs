//! One build, from the command to the proof.
//!
//! The image is read back after the build, whatever the exit code said: there under its tag, every ordered label on
//! it. An engine that says "done" and serves something else gets one more try without its cache.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::Context as _;

use crate::event::{Event, Events, seconds};
use crate::process::{Ending, Failure, Output};

use super::cgroup::Cgroup;
use super::oom::{self, Evidence};
use super::sampler::{self, Seen};
use super::{Engine, Facts, Held, Kind, Order, command, leftovers};

/// Last lines of a build's output that are searched for signs of a kill.
const SIGNS: usize = 400;

/// An image that was built and has proved itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    pub id: String,
    /// Bytes of anonymous memory at the worst moment; none if the engine is elsewhere.
    pub peak_memory: Option<u64>,
    pub seconds: f64,
    /// The engine's cache served another image first.
    pub repeated_without_cache: bool,
}

/// Why there is no image.
#[derive(Debug)]
pub enum BuildError {
    /// Something of the build was killed for memory. `peak` is what it had by then, in bytes.
    OutOfMemory { peak: Option<u64>, evidence: String, failure: Failure },
    /// The build itself failed.
    Failed { peak: Option<u64>, failure: Failure },
    /// A limit was reached: the whole time, or the time without output.
    TimedOut { failure: Failure },
    /// The run is being stopped.
    Stopped,
    /// The engine said "done" and there is no such image. `tail` holds its last words.
    Missing { tag: String, tail: Vec<String> },
    /// The engine served an image without our labels, even without its cache.
    Stale { tag: String, id: String, label: String },
    /// Nothing could be built: files that could not be written, an engine that does not answer.
    Environment(anyhow::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { evidence, failure, .. } => {
                write!(f, "failed to build: out of memory ({evidence})\n{failure}")
            }
            Self::Failed { failure, .. } | Self::TimedOut { failure } => write!(f, "{failure}"),
            Self::Stopped => f.write_str("stopped with the run"),
            Self::Missing { tag, tail } => {
                write!(
                    f,
                    "failed to build `{tag}`: the engine reports success, but there is no image"
                )?;
                tail.iter().try_for_each(|line| write!(f, "\n  | {line}"))
            }
            Self::Stale { tag, id, label } => write!(
                f,
                "failed to build `{tag}`: the engine serves image {} without label `{label}`, \
                 even without its cache",
                &id[..id.len().min(12)]
            ),
            Self::Environment(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// How one start of the engine's build command went.
struct Attempt {
    end: Result<Output, Failure>,
    seen: Seen,
    lines: VecDeque<String>,
    /// Kernel kills on this machine meanwhile; none where they cannot be seen.
    machine_kills: Option<u64>,
}

impl Engine {
    /// Builds `order` and proves the image; its output goes to `events` and to its log.
    pub fn build(&self, order: &Order, events: &Events) -> Result<Built, BuildError> {
        let started = Instant::now();
        let facts = self.known_facts().map_err(BuildError::Environment)?;
        let mut peak = None;
        let mut repeated = false;
        loop {
            let order = Order { no_cache: order.no_cache || repeated, ..order.clone() };
            let attempt = self.attempt(&order, facts, events).map_err(BuildError::Environment)?;
            peak = peak.max(attempt.seen.peak);
            let output = attempt.judge()?;
            let held = self.read_back(&order, facts).map_err(BuildError::Environment)?;
            let Some(held) = held else {
                return Err(BuildError::Missing { tag: order.tag.to_owned(), tail: output.tail });
            };
            match missing_label(&order, &held) {
                None => {
                    return Ok(Built {
                        id: held.id,
                        peak_memory: peak,
                        seconds: seconds(started.elapsed()),
                        repeated_without_cache: repeated,
                    });
                }
                Some(_) if !order.no_cache => repeated = true,
                Some(label) => {
                    let tag = order.tag.to_owned();
                    return Err(BuildError::Stale { tag, id: held.id, label });
                }
            }
        }
    }

    /// Runs the command once. Whatever the end, nothing of it is left.
    fn attempt(&self, order: &Order, facts: &Facts, events: &Events) -> anyhow::Result<Attempt> {
        let aside = tempfile::tempdir().context("failed to make a folder for the build's files")?;
        let local = self.kind == Kind::Podman && !facts.remote;
        let cgroup = local.then(|| Cgroup::make(order.run, order.image)).flatten();
        let parent = cgroup.as_ref().map(Cgroup::parent);
        let tool = command::build(self, order, aside.path(), parent.as_deref(), facts.remote)?;
        let kills_before = oom::machine_kills();
        let mut lines = VecDeque::new();
        let (end, seen) = match tool.start() {
            Err(failure) => (Err(failure), Seen::default()),
            Ok(mut child) => std::thread::scope(|scope| {
                let (running, done) = channel();
                let (id, cgroup) = (child.id(), cgroup.as_ref().filter(|_| local));
                let sampler = scope.spawn(move || {
                    if local { sampler::watch(id, cgroup, &done) } else { Seen::default() }
                });
                let end = child.wait(|_, line| keep(line, order.image, &mut lines, events));
                drop(running);
                (end, sampler.join().unwrap_or_default())
            }),
        };
        let kills_after = oom::machine_kills().filter(|_| !facts.remote);
        let machine_kills = kills_after.zip(kills_before).map(|(after, before)| after - before);
        if cgroup.is_none() {
            leftovers::kill_survivors(&seen);
        }
        drop(cgroup);
        // Even if all went well: a podman that was ended by someone else says so too.
        if let Some(parent) = parent {
            self.remove_remains(facts, |path| path == parent);
        }
        Ok(Attempt { end, seen, lines, machine_kills })
    }

    fn read_back(&self, order: &Order, facts: &Facts) -> anyhow::Result<Option<Held>> {
        let tags = [order.tag.to_owned()];
        Ok(self.look_up(Some(facts), &tags, &[])?.tags.remove(order.tag))
    }
}

impl Attempt {
    /// What came of it, as far as the engine's program can say.
    fn judge(self) -> Result<Output, BuildError> {
        let failure = match self.end {
            Ok(output) => return Ok(output),
            Err(failure) => failure,
        };
        let lines: Vec<String> = self.lines.into();
        let evidence = Evidence {
            machine_kills: self.machine_kills,
            group_kills: self.seen.kills,
            lines: &lines,
            ending: &failure.ending,
        };
        let peak = self.seen.peak;
        Err(match (oom::judge(&evidence), &failure.ending) {
            (_, Ending::Stopped) => BuildError::Stopped,
            (Some(evidence), _) => BuildError::OutOfMemory { peak, evidence, failure },
            (None, Ending::TimedOut(_) | Ending::Silent(_)) => BuildError::TimedOut { failure },
            (None, _) => BuildError::Failed { peak, failure },
        })
    }
}

fn keep(line: &[u8], image: &str, lines: &mut VecDeque<String>, events: &Events) {
    let text = String::from_utf8_lossy(line);
    // A progress bar rewrites its line: the last state is the one that counts.
    let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned();
    if lines.len() == SIGNS {
        lines.pop_front();
    }
    lines.push_back(text.clone());
    events.emit(Event::BuildLine { image: image.to_owned(), line: text });
}

/// The first ordered label the image does not carry.
fn missing_label(order: &Order, held: &Held) -> Option<String> {
    let carries = |name: &str, value: &str| held.labels.get(name).is_some_and(|is| is == value);
    order.labels.iter().find(|(name, value)| !carries(name, value)).map(|(name, _)| name.clone())
}
