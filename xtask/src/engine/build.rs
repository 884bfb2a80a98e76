//! One build, from the command to the proof.
//!
//! The engine builds without a tag. The image is read back by the id it says it has made, whatever
//! its exit code said: it must be there, and carry every ordered label. Only then it gets its tag.
//! So a tag of ours is never on an image that has not been proved, whenever this process is killed.
//!
//! Two faults are worth another try: a stale image (once more, without the engine's cache), and
//! another process that removed an image while podman was looking through its cache (once more as
//! it was).

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;

use crate::error::ErrorExt as _;
use crate::event::{Event, Events, seconds};
use crate::process::{Brief, Ending, Failure, Output, Tool};

use super::cgroup::{self, Cgroup};
use super::client::Client;
use super::command::Site;
use super::forget::Untrusted;
use super::kernel_log::{KernelLog, Kill};
use super::oom::{self, Evidence};
use super::watch::{Limits, Seen, Watched};
use super::{ANSWER, BuildRequest, Engine, Facts, ImageInfo, command, layers, leftovers, watch};

/// Last lines of a build's output that are searched for signs of a kill.
const SIGNS: usize = 400;

/// Builds that are begun again because others removed images from podman's store meanwhile, before
/// it is an error.
const RACES: usize = 5;

/// An image that was built and has proved itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    pub id: String,
    /// Bytes of anonymous memory at the worst moment; none if the engine is elsewhere.
    pub peak_memory: Option<u64>,
    /// Some of its steps came from the engine's cache: the whole build takes that much or more.
    pub partly_cached: bool,
    pub seconds: f64,
    /// The engine's cache served another image first.
    pub repeated_without_cache: bool,
}

/// Why there is no image.
#[derive(Debug)]
pub enum BuildError {
    /// Something of the build was killed for memory. `peak` is what it had by then and `asked` what
    /// it had asked the kernel for, in bytes. Without a `failure` the engine reported success all
    /// the same; its image is not tagged.
    OutOfMemory {
        peak: Option<u64>,
        asked: Option<u64>,
        evidence: String,
        failure: Option<Box<Failure>>,
    },
    /// The build itself failed.
    Failed { peak: Option<u64>, failure: Box<Failure> },
    /// A limit was reached: the whole time, or the time without output.
    TimedOut { failure: Box<Failure> },
    /// The run is being stopped.
    Stopped,
    /// The engine said "done" and there is no such image. `tail` holds its last words.
    Missing { tag: String, tail: Vec<String> },
    /// The engine served an image without our labels, even without its cache.
    Stale { tag: String, id: String, label: String },
    /// A base image became another one while the image was built on it.
    BaseMoved { base: String },
    /// Nothing could be built: files that could not be written, an engine that does not answer.
    Environment(anyhow::Error),
}

impl BuildError {
    /// How it is mended, where that is known without the image's configuration.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("see whether it has room: cargo xtask doctor"),
            Self::BaseMoved { .. } => Some("run it again"),
            _ => None,
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { evidence, failure, .. } => {
                write!(f, "out of memory: {evidence}")?;
                failure.iter().try_for_each(|failure| write!(f, "\n{}", Brief(failure)))
            }
            Self::Failed { failure, .. } | Self::TimedOut { failure } => {
                write!(f, "{}", Brief(failure))
            }
            Self::Stopped => f.write_str("stopped with the run"),
            Self::Missing { tag, tail } => {
                write!(f, "the engine reports success, but there is no image `{tag}`")?;
                tail.iter().try_for_each(|line| write!(f, "\n  | {line}"))
            }
            Self::Stale { tag, id, label } => write!(
                f,
                "the engine serves image {} for `{tag}` without label `{label}`, even without \
                 its cache",
                &id[..id.len().min(12)]
            ),
            Self::BaseMoved { base } => {
                write!(f, "its base image `{base}` became another one meanwhile")
            }
            Self::Environment(_) => f.write_str("the engine could not be asked to build"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its exit code is looked for among the causes.
            Self::Environment(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// How one start of a build command went.
pub(super) struct Attempt {
    pub(super) end: Result<Output, Failure>,
    /// What the engine says it has made.
    pub(super) id: Option<String>,
    /// Names of layers that came from a registry.
    pub(super) layers: Vec<String>,
    /// Bytes.
    pub(super) peak: Option<u64>,
    /// Bytes.
    pub(super) asked: Option<u64>,
    /// Some steps came from the engine's cache.
    pub(super) cached: bool,
    /// It was killed for memory, and how we know.
    pub(super) killed: Option<String>,
}

impl Engine {
    /// Builds `order` and proves the image; its output goes to `events` and to its log.
    pub fn build(&self, order: &BuildRequest, events: &Events) -> Result<Built, BuildError> {
        let started = Instant::now();
        let facts = self.known_facts().map_err(BuildError::Environment)?;
        let mut peak = None;
        let (mut without_cache, mut races) = (false, 0);
        let mut layers = order.layers.filter(|_| self.client.shares_layers());
        loop {
            let no_cache = order.no_cache || without_cache;
            let order = BuildRequest { no_cache, layers, ..order.clone() };
            let attempt = self.attempt(&order, facts, events).map_err(BuildError::Environment)?;
            self.take_names_off(&attempt.layers);
            if let (false, true, Err(failure)) =
                (self.client.has_daemon(), facts.remote, &attempt.end)
            {
                tell_what_goes_on(order.image, failure, events);
            }
            peak = peak.max(attempt.peak);
            if races < RACES && attempt.end.as_ref().is_err_and(store_changed) {
                races += 1;
                let image = order.image;
                events.note(format!("podman's store changed under the build of `{image}`: again"));
                continue;
            }
            if layers.is_some() && attempt.end.as_ref().is_err_and(layers::has_failed) {
                layers = None;
                events.warn(layers::without(order.image), None);
                continue;
            }
            let attempt_cached = attempt.cached;
            let held = self.read_back(&order, attempt.judge()?, facts)?;
            match missing_label(&order, &held) {
                None => {
                    self.check_bases(&order, facts)?;
                    self.tag(&held.id, order.tag).map_err(BuildError::Environment)?;
                    return Ok(Built {
                        id: held.id,
                        peak_memory: peak,
                        partly_cached: attempt_cached,
                        seconds: seconds(started.elapsed()),
                        repeated_without_cache: without_cache,
                    });
                }
                Some(_) if !order.no_cache => without_cache = true,
                Some(label) => {
                    let tag = order.tag.to_owned();
                    return Err(BuildError::Stale { tag, id: held.id, label });
                }
            }
        }
    }

    /// A base that was moved under the build would have the image carry a key that names another.
    fn check_bases(&self, order: &BuildRequest, facts: &Facts) -> Result<(), BuildError> {
        let references: Vec<String> = order.bases.keys().cloned().collect();
        let now = self.look_up(Some(facts), &[], &references).map_err(BuildError::Environment)?;
        let moved = |(base, id): &(&String, &Option<String>)| {
            now.bases.get(*base).map(|held| &held.id) != id.as_ref()
        };
        match order.bases.iter().find(moved) {
            Some((base, _)) => Err(BuildError::BaseMoved { base: base.clone() }),
            None => Ok(()),
        }
    }

    /// Runs the command once. Whatever the end, nothing of it is left.
    fn attempt(
        &self,
        order: &BuildRequest,
        facts: &Facts,
        events: &Events,
    ) -> anyhow::Result<Attempt> {
        let aside = beside(order.stage)?;
        let local = !facts.remote;
        let cgroup = local.then(|| Cgroup::make(order.run, order.image)).flatten();
        let parent = cgroup.as_ref().map(Cgroup::parent);
        let tool = command::build(
            order,
            &Site {
                engine: self,
                remote: facts.remote,
                aside: aside.path(),
                cgroup: parent.as_deref(),
                with_care: !self.client.has_daemon() && local,
                rootless: facts.rootless,
            },
        )?;
        if self.client.has_daemon() {
            confine(cgroup.as_ref(), order.cpus);
        }
        let kernel = Kernel::from_now(self.client, facts.remote);
        let begun = SystemTime::now();
        let mut said = Said::default();
        let limits = Limits::from_now(order.timeout, order.silence);
        let tell = |bytes| {
            events.emit(Event::BuildMemory { image: order.image.to_owned(), bytes });
        };
        let watched =
            local.then_some(Watched { client: self.client, cgroup: cgroup.as_ref(), tell: &tell });
        let (end, seen) = run(&tool, watched, &limits, |line| {
            limits.lives();
            let line = said.hear(line);
            events.emit(Event::BuildLine { image: order.image.to_owned(), line });
        });
        leftovers::kill_survivors(&seen);
        let name = cgroup.as_ref().map(|cgroup| cgroup.name().to_owned());
        drop(cgroup);
        // Even if all went well: a podman that was ended by someone else says so too.
        if let Some(parent) = parent {
            self.remove_remains(facts, |path| path == parent);
        }
        if seen.ousted.is_some() {
            self.remove_half_written(facts);
        }
        let kills = kernel.kills(name.as_deref(), &seen);
        let id = id_in(&command::id_file(aside.path()));
        let killed = oom::judge(&Evidence {
            own_kills: kills.own.max(seen.kills),
            victim: kills.victim.as_deref(),
            open_kills: kills.open,
            lines: said.lines.make_contiguous(),
            ending: end.as_ref().err().map(|failure| &failure.ending),
        });
        if killed.is_some() {
            self.forget(&Untrusted { image: id.as_deref(), layers: &said.suspects, begun }, events);
        }
        Ok(Attempt {
            end,
            id,
            layers: said.layers,
            peak: seen.peak.max(kills.had),
            asked: seen.asked,
            cached: said.cached,
            killed,
        })
    }

    /// The image that was built, as the engine holds it.
    fn read_back(
        &self,
        order: &BuildRequest,
        (id, tail): (Option<String>, Vec<String>),
        facts: &Facts,
    ) -> Result<ImageInfo, BuildError> {
        let missing = || BuildError::Missing { tag: order.tag.to_owned(), tail };
        let Some(id) = id else { return Err(missing()) };
        let held = self.look_up(Some(facts), std::slice::from_ref(&id), &[]);
        held.map_err(BuildError::Environment)?.tags.remove(&id).ok_or_else(missing)
    }

    pub(super) fn tag(&self, id: &str, tag: &str) -> anyhow::Result<()> {
        let told = self.tool().args(["tag", id, tag]).limit(ANSWER).run();
        told.with_context(|| format!("failed to tag image {id} as `{tag}`"))
            .hint(self.is_it_there())?;
        Ok(())
    }
}

/// podman's service stops no step for a client that is gone.
fn tell_what_goes_on(image: &str, failure: &Failure, events: &Events) {
    if let Ending::Stopped | Ending::TimedOut(_) | Ending::Silent(_) = failure.ending {
        let text = format!(
            "{image}: the step it was at goes on where podman is until it ends, and no ledger has its memory"
        );
        events.warn(text, Some("podman ps --all --external".to_owned()));
    }
}

impl Attempt {
    /// The image's id and the last words, if the build has gone well as far as the engine can say.
    pub(super) fn judge(self) -> Result<(Option<String>, Vec<String>), BuildError> {
        let peak = self.peak;
        match (self.killed, self.end) {
            (_, Err(failure)) if failure.stopped() => Err(BuildError::Stopped),
            (Some(evidence), end) => {
                let (asked, failure) = (self.asked, end.err().map(Box::new));
                Err(BuildError::OutOfMemory { peak, asked, evidence, failure })
            }
            (None, Ok(output)) => Ok((self.id, output.tail)),
            (None, Err(failure)) => Err(match failure.ending {
                Ending::TimedOut(_) | Ending::Silent(_) => {
                    BuildError::TimedOut { failure: Box::new(failure) }
                }
                Ending::NotStarted(_) => BuildError::Environment(failure.into()),
                _ => BuildError::Failed { peak, failure: Box::new(failure) },
            }),
        }
    }
}

/// A folder for the files the engine is given besides the context: next to it, so that it goes with
/// the run's stages even if this process is killed; elsewhere if an engine would stumble over the
/// path.
pub(super) fn beside(stage: &Path) -> anyhow::Result<tempfile::TempDir> {
    let place = stage.parent().context("the staged context has no folder around it")?;
    let temporary = std::env::temp_dir();
    let places = [place, &temporary, Path::new("/tmp")];
    let place = places.into_iter().find(|place| command::is_plain(place)).unwrap_or(place);
    tempfile::Builder::new()
        .prefix(".engine-")
        .tempdir_in(place)
        .with_context(|| format!("failed to make a folder in `{}`", place.display()))
}

/// Leaves what is put into the group so many CPUs.
fn confine(cgroup: Option<&Cgroup>, cpus: Option<usize>) {
    if let Some((cgroup, cpus)) = cgroup.zip(cpus.and_then(command::some_cpus)) {
        cgroup.confine(&cpus);
    }
}

/// The kernel's own witnesses, from before the build on.
struct Kernel {
    client: &'static dyn Client,
    remote: bool,
    count: Option<u64>,
    log: Option<KernelLog>,
}

/// What the kernel has killed for memory while a build ran.
#[derive(Debug, Default)]
struct Kills {
    own: u64,
    victim: Option<String>,
    /// Bytes the largest victim had.
    had: Option<u64>,
    /// Not known to be of someone else; none: cannot be seen.
    open: Option<u64>,
}

impl Kernel {
    fn from_now(client: &'static dyn Client, remote: bool) -> Self {
        Self { client, remote, count: oom::machine_kills(), log: KernelLog::from_now() }
    }

    /// The kills since, told apart by the build's control group and process tree.
    fn kills(self, group: Option<&str>, seen: &Seen) -> Kills {
        if self.remote {
            return Kills::default();
        }
        let counted = oom::machine_kills()
            .zip(self.count)
            .map(|(after, before)| after.saturating_sub(before));
        let logged = self.log.map(KernelLog::kills).unwrap_or_default();
        // By the last part of the name: where control groups have a namespace, the kernel's paths
        // are others than ours.
        let in_group = |kill: &Kill| {
            kill.group.split('/').any(|part| Some(part) == group || seen.groups.contains(part))
        };
        // The log has the numbers of the first namespace: in another, ours are others' there.
        let numbers = oom::is_first_namespace();
        let in_tree = |kill: &Kill| {
            numbers && seen.processes.iter().any(|(process, _)| *process == kill.process)
        };
        let (own, others): (Vec<Kill>, Vec<Kill>) =
            logged.into_iter().partition(|kill| in_group(kill) || in_tree(kill));
        // One that docker's daemon has put somewhere may be ours as well.
        let elsewhere =
            |kill: &&Kill| !self.client.has_daemon() || !cgroup::is_daemons(&kill.group);
        let others = others.iter().filter(elsewhere).count();
        let worst = own.iter().max_by_key(|kill| kill.had);
        Kills {
            victim: worst.map(describe),
            had: worst.and_then(|kill| kill.had),
            open: counted.map(|counted| counted.saturating_sub((own.len() + others) as u64)),
            own: own.len() as u64,
        }
    }
}

fn describe(kill: &Kill) -> String {
    match kill.had {
        Some(had) => format!("`{}`, which had {} MiB", kill.program, had >> 20),
        None => format!("`{}`", kill.program),
    }
}

/// podman looks at every image while it looks for cached layers, and fails if one goes meanwhile
/// (seen, 4.3.1).
fn store_changed(failure: &Failure) -> bool {
    let gone = |line: &String| line.contains("layer not known") || line.contains("image not known");
    failure.code() == Some(125) && failure.tail.iter().any(gone)
}

/// The id in the file the engine was told to write it to.
fn id_in(file: &Path) -> Option<String> {
    let text = fs_err::read_to_string(file).ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// Runs the command, measuring it where it runs on this machine.
fn run(
    tool: &Tool,
    watched: Option<Watched>,
    limits: &Limits,
    mut on_line: impl FnMut(&[u8]),
) -> (Result<Output, Failure>, Seen) {
    let mut child = match tool.start() {
        Ok(child) => child,
        Err(failure) => return (Err(failure), Seen::default()),
    };
    std::thread::scope(|scope| {
        let (running, done) = channel();
        let id = child.id();
        let watcher = scope.spawn(move || {
            watched.map(|watched| watch::watch(id, watched, limits, &done)).unwrap_or_default()
        });
        let end = child.wait(|_, line| on_line(line));
        drop(running);
        let seen = watcher.join().unwrap_or_default();
        match &seen.ousted {
            Some(ending) => (Err(ousted(tool, ending.clone(), end)), seen),
            None => (end, seen),
        }
    })
}

/// The failure of a build that was ended from here, whatever its program made of that.
fn ousted(tool: &Tool, ending: Ending, end: Result<Output, Failure>) -> Failure {
    match end {
        Err(failure) => Failure { ending, ..failure },
        Ok(output) => Failure {
            command: tool.to_string(),
            ending,
            tail: output.tail,
            log: None,
            unlogged: None,
        },
    }
}

/// What a build has said.
#[derive(Debug, Default)]
struct Said {
    /// The last lines.
    lines: VecDeque<String>,
    /// Kernel kills on the machine when the current step began.
    kills: Option<u64>,
    /// Layers of steps during which the kernel killed something.
    suspects: Vec<String>,
    /// Names of layers that came from a registry.
    layers: Vec<String>,
    /// Some steps came from the engine's cache.
    cached: bool,
}

impl Said {
    fn hear(&mut self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        // A progress bar rewrites its line: the last state is the one that counts.
        let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned();
        self.layers.extend(layers::pulled(&text));
        self.cached |= is_cached(&text);
        if text.contains("STEP ") {
            self.kills = oom::machine_kills();
        } else if let Some(layer) = text.strip_prefix("--> ")
            && !layer.contains(' ')
            && oom::machine_kills() > self.kills
        {
            self.suspects.push(layer.to_owned());
        }
        if self.lines.len() == SIGNS {
            self.lines.pop_front();
        }
        self.lines.push_back(text.clone());
        text
    }
}

/// Whether a line says that a step came from the engine's cache: podman's `--> Using cache 1f2e…`,
/// `BuildKit`'s `#7 CACHED`.
fn is_cached(line: &str) -> bool {
    line.starts_with("--> Using cache ")
        || line.starts_with("--> Cache pulled ")
        || (line.starts_with('#') && line.ends_with(" CACHED"))
}

/// The first ordered label the image does not carry.
fn missing_label(order: &BuildRequest, held: &ImageInfo) -> Option<String> {
    let carries = |name: &str, value: &str| held.labels.get(name).is_some_and(|is| is == value);
    order.labels.iter().find(|(name, value)| !carries(name, value)).map(|(name, _)| name.clone())
}
