//! Bringing images up to date: fetching bases, and one build from its stage to its record.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::builders::Builder;
use super::cache::Cache;
use super::enough::enough;
use super::memory::Memory;
use super::survey::{self, Survey, Surveyed};
use super::{Run, Workspace, failing, lock, missing, once, project};
use crate::context::dockerfile::Role;
use crate::context::record::{self, Record};
use crate::context::{self, Context, Key, Staged};
use crate::engine::learn::{self, Figured};
use crate::engine::registry::Wanted;
use crate::engine::{BuildError, Built, Order};
use crate::event::{Event, Place, PlannedImage, seconds};
use crate::exit::{Exit, WithExit as _};
use crate::plan::{Action, IMAGE_LABEL, KEY_LABEL, PROJECT_LABEL, Planned};
use crate::private::PrivatePath;
use crate::process::Ending;
use crate::schedule::Permit;
use crate::ui::text::bytes;

/// How long a registry may take over one base image.
const FETCH: Duration = Duration::from_mins(10);

/// An image that is there, under the tag that says what is in it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) tag: String,
    pub(super) id: String,
    pub(super) origin: Origin,
}

/// Where an image has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was here before the run, or another run has made it meanwhile.
    Kept,
    /// From the shared cache.
    Fetched,
    Built,
}

/// What the plan event says of an image.
pub(super) fn told(planned: &Planned) -> PlannedImage {
    PlannedImage {
        name: planned.name.clone(),
        key: planned.key.to_string(),
        tag: planned.tag.clone(),
        action: match planned.action {
            Action::Build => "build",
            Action::Skip => "skip",
        },
        reasons: planned.reasons.iter().map(ToString::to_string).collect(),
    }
}

/// Fetches the bases of images that are to be built and that the engine does not hold (with `newer`: all of
/// them). If any came, the keys are taken again.
pub(super) fn fetch_bases(
    workspace: &Workspace,
    run: &Run,
    survey: Survey,
    newer: bool,
    again: impl Fn() -> Result<Survey>,
) -> Result<Survey> {
    let to_build = survey.images.iter().filter(|one| one.planned.action == Action::Build || newer);
    let mut wanted: Vec<&str> = to_build
        .flat_map(|one| one.context.bases())
        .filter(|base| newer || !survey.bases.contains_key(*base))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    for base in &wanted {
        let started = Instant::now();
        let step = format!("fetch {base}");
        run.events.emit(Event::StepStarted { step: step.clone() });
        let pull = workspace.engine.tool().args(["pull", "--quiet", base]);
        let pulled = pull.limit(FETCH).log(run.paths.log("fetch")).run();
        run.events.emit(Event::StepFinished {
            step,
            action: None,
            ok: pulled.is_ok(),
            seconds: seconds(started.elapsed()),
            error: pulled.as_ref().err().map(|failure| failure.ending.to_string()),
        });
        if let Err(failure) = pulled {
            return Err(not_fetched(&survey, base, failure)).exit(Exit::Environment);
        }
    }
    if wanted.is_empty() { Ok(survey) } else { again() }
}

/// Why a base did not come, with the line that names it.
fn not_fetched(survey: &Survey, base: &str, failure: crate::process::Failure) -> anyhow::Error {
    let named = survey.images.iter().find_map(|one| {
        let bases = &one.context.reading.as_ref()?.bases;
        let found = bases.iter().find(|found| found.name == base)?;
        let file = one.image.dockerfile.display();
        Some((format!("{file}:{}: ", found.line), found.role))
    });
    let (place, role) = named.unwrap_or((String::new(), Role::From));
    let why = anyhow!(failure).context(format!("{place}failed to fetch the base image `{base}`"));
    let is_plain = !base.contains(['/', ':', '@', '.']);
    why.context(if role != Role::From && is_plain {
        format!("hint: no stage of that Dockerfile is called `{base}`, and neither is an image")
    } else {
        "hint: cargo xtask doctor --fix".to_owned()
    })
}

/// What became of a build.
pub(super) enum Made {
    Ready(Ready),
    /// Killed for memory the first time: to be run once more, with so many bytes.
    Again(u64),
    /// Not in the shared cache: to be built.
    Missed,
    /// Its builder is gone: to be built by another.
    Lost,
}

/// What all builds of a run share.
#[derive(Clone, Copy)]
pub(super) struct Common<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) run: &'a Run,
    pub(super) survey: &'a Survey,
    pub(super) memory: &'a Memory,
    /// None: there is none to be asked.
    pub(super) cache: Option<&'a Cache>,
}

/// Brings one image up to date: looks for it in the shared cache, or builds it.
pub(super) fn make(common: Common, one: &Surveyed, permit: &Permit) -> Result<Made> {
    match common.cache {
        Some(cache) if permit.prelude => {
            cache.fetch(common, one).map(|ready| ready.map_or(Made::Missed, Made::Ready))
        }
        // Only what the cache did not have must fit.
        _ => common.memory.refuse(one).and_then(|()| build(common, one, permit)),
    }
}

/// Builds one image: stages what is sent, has it built, remembers from what.
fn build(common: Common, one: &Surveyed, permit: &Permit) -> Result<Made> {
    let Common { workspace, run, .. } = common;
    let turn = once::turn(workspace, one, &run.events)?;
    if let Some(ready) = once::made_meanwhile(workspace, one, &turn)? {
        run.events.note(format!("{}: another run has built it meanwhile", one.image.name));
        return Ok(Made::Ready(ready));
    }
    let started = Instant::now();
    run.events.emit(Event::BuildStarted {
        image: one.image.name.clone(),
        tag: one.planned.tag.clone(),
        reasons: one.planned.reasons.iter().map(ToString::to_string).collect(),
        memory: permit.memory,
        builder: common.memory.name_of(permit.place),
    });
    let built = staged_build(common, one, permit);
    let lost = built.is_err()
        && common.memory.builder(permit.place).is_some_and(|builder| builder.is_lost(run));
    run.events.emit(Event::BuildFinished {
        image: one.image.name.clone(),
        action: one.planned.how(),
        ok: built.is_ok(),
        seconds: seconds(started.elapsed()),
        peak_memory: match &built {
            Ok((_, built)) => built.peak_memory,
            Err(error) => kill(error).and_then(|kill| kill.peak),
        },
        error: built.as_ref().err().map(first_line),
        at: (built.is_err() && !lost).then(|| stopped_at(common, one)),
    });
    match built {
        Ok((ready, _)) => Ok(Made::Ready(ready)),
        Err(_) if lost => Ok(Made::Lost),
        Err(error) => killed(common, one, permit, error),
    }
}

/// Where in its Dockerfile a failed build stopped.
fn stopped_at(common: Common, one: &Surveyed) -> Place {
    let file = &one.image.dockerfile;
    let log = fs_err::read(common.run.paths.log(&format!("build-{}", one.image.name)));
    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
    let text = String::from_utf8_lossy(&one.context.dockerfile);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let shown = file.strip_prefix(&common.workspace.config.root).unwrap_or(file);
    Place { file: shown.display().to_string(), line: failing::line(&text, &name, &log) }
}

/// A build that was killed for memory is run once more, alone; a second kill is final.
fn killed(common: Common, one: &Surveyed, permit: &Permit, error: anyhow::Error) -> Result<Made> {
    let Some(Kill { peak, asked, evidence }) = kill(&error) else { return Err(error) };
    let name = &one.image.name;
    // What it had when it was killed is the least it needs.
    let seen = peak.unwrap_or(permit.memory);
    // Never so much that the next run would be refused: it may have been made to take less.
    let most = common.memory.budget.capacity;
    let need = seen.saturating_add(seen / 4).min(most).max(seen).max(one.planned.memory);
    let subject = survey::subject(common.workspace, &one.image, &one.parts);
    let figures = common.workspace.paths.memory();
    let well = learn::learned(&figures, &subject).and_then(|learned| learned.well);
    learn::record(&figures, &subject, need, Figured::Killed)?;
    if !permit.again {
        let text = format!("{name} was killed for memory: {evidence}");
        let then = format!("it is built once more, alone, with one CPU and {}", bytes(need));
        common.run.events.warn(format!("{text}; {then}"), None);
        return Ok(Made::Again(need));
    }
    let had = format!("it had {} of {}", bytes(seen), common.memory.budget);
    let enough = enough(seen, asked, well);
    let hints = common.memory.hints(enough.bytes.max(need));
    let twice = format!("{name} was killed twice, the second time alone: {had}; {enough}");
    let text = format!("{error:#}\n{twice}{hints}");
    Err(anyhow!(text)).exit(Exit::Environment)
}

/// What is known of a build that was killed for memory. Figures in bytes.
struct Kill<'a> {
    /// What it had by then.
    peak: Option<u64>,
    /// What it had asked the kernel for by then.
    asked: Option<u64>,
    /// How we know.
    evidence: &'a str,
}

/// Of an error that tells of a kill for memory.
fn kill(error: &anyhow::Error) -> Option<Kill<'_>> {
    error.chain().find_map(|cause| match cause.downcast_ref()? {
        BuildError::OutOfMemory { peak, asked, evidence, .. } => {
            Some(Kill { peak: *peak, asked: *asked, evidence })
        }
        _ => None,
    })
}

fn staged_build(common: Common, one: &Surveyed, permit: &Permit) -> Result<(Ready, Built)> {
    let Common { workspace, run, memory, .. } = common;
    let name = &one.image.name;
    let builder = memory.builder(permit.place);
    let stage = Stage(run.paths.stage(name));
    let (context, staged) = staged(common, one, &stage)?;
    let key = staged.parts.key();
    if key != one.planned.key {
        run.events.note(format!("{name}: files changed since the plan; its key is now {key}"));
    }
    let dockerfile = stage.0.with_extension("Dockerfile");
    dockerfile.write(&context.dockerfile)?;
    let (files, sent) = context.size();
    let [key_label, image_label] = proof(name, key);
    let inputs = format!("{files} files, {sent} bytes");
    let project = (PROJECT_LABEL.to_owned(), project::mark(&workspace.config.root)?);
    let labels = [key_label, image_label, ("dev.xtask.inputs".to_owned(), inputs), project];
    let tag = key.tag(name);
    let marks = context.marks(&staged.parts);
    let order = Order {
        image: name,
        tag: &tag,
        labels: &labels,
        stage: &stage.0,
        dockerfile: &dockerfile,
        target: one.image.target.as_deref(),
        platform: one.image.platform.as_deref(),
        args: &one.image.args,
        bases: &staged.parts.bases,
        secrets: &one.image.secrets,
        no_cache: false,
        layers: common.cache.and_then(Cache::layers),
        marks: marks.as_deref(),
        trust_host_ca: one.image.trust_host_ca.unwrap_or(workspace.config.engine.trust_host_ca),
        timeout: one.image.timeout,
        silence: one.image.silence,
        cpus: memory.cpus(permit),
        log: &run.paths.log(&format!("build-{name}")),
        run: &run.paths.id,
    };
    let built = match builder {
        Some(builder) => build_away(common, builder, &order),
        None => workspace.engine.build(&order, &run.events),
    };
    let built = built.map_err(|error| named(&context, &stage.0, error))?;
    if built.repeated_without_cache {
        run.events
            .note(format!("{name}: the engine's cache served an older image; built without it"));
    }
    if let Some(peak) = built.peak_memory {
        let subject = survey::subject(workspace, &one.image, &staged.parts);
        let of = if built.partly_cached {
            Figured::AtLeast { configured: one.image.memory }
        } else {
            Figured::Well
        };
        learn::record(&workspace.paths.memory(), &subject, peak, of)?;
    }
    let record = context.record(staged, built.seconds);
    let record = Record { builder: memory.name_of(permit.place), ..record };
    record::write(&workspace.paths.record(name), &record)?;
    Ok((Ready { tag, id: built.id.clone(), origin: Origin::Built }, built))
}

fn build_away(common: Common, builder: &Builder, order: &Order) -> Result<Built, BuildError> {
    let Common { workspace, run, .. } = common;
    let facts = workspace.engine.facts(&workspace.paths.engine_facts());
    let facts = facts.map_err(BuildError::Environment)?;
    let platform = order.platform.unwrap_or(&facts.platform);
    let wanted = Wanted { image: order.image, tag: order.tag, labels: order.labels, platform };
    builder.build(&workspace.engine, order, &wanted, &run.events)
}

/// The labels by which an image proves that it is the one of that key.
pub(super) fn proof(name: &str, key: Key) -> [(String, String); 2] {
    [(KEY_LABEL.to_owned(), key.to_string()), (IMAGE_LABEL.to_owned(), name.to_owned())]
}

/// Stages what the plan saw; where a file of that is there no longer, what is there now.
fn staged<'a>(
    common: Common<'a>,
    one: &'a Surveyed,
    stage: &Stage,
) -> Result<(Cow<'a, Context>, Staged)> {
    let Common { workspace, survey, .. } = common;
    let ids = survey.base_ids();
    let mut context = Cow::Borrowed(&one.context);
    let staged = context::until_at_rest(|| {
        let staged = context.stage(&stage.0, &ids);
        if staged.as_ref().is_err_and(context::is_moved) {
            stage.0.remove()?;
            context = Cow::Owned(survey.again(workspace, &one.image)?);
        }
        staged
    });
    Ok((context, staged.exit(Exit::Environment)?))
}

fn named(context: &Context, stage: &Path, error: BuildError) -> anyhow::Error {
    let exit =
        if matches!(error, BuildError::Environment(_)) { Exit::Environment } else { Exit::Failed };
    let hint = match &error {
        BuildError::Failed { failure, .. } => missing::hint(context, stage, &failure.tail),
        BuildError::TimedOut { failure } => overdue(&context.spec.name, &failure.ending),
        _ => None,
    };
    let error = match hint {
        Some(hint) => anyhow!("{error}\n{hint}"),
        None => anyhow!(error),
    };
    error.context(format!("failed to build image `{}`", context.spec.name)).exit(exit)
}

/// Which key has ended a build.
fn overdue(image: &str, ending: &Ending) -> Option<String> {
    let (what, key) = match ending {
        Ending::Silent(_) => ("it used neither CPU nor disk; ", "silence"),
        Ending::TimedOut(_) => ("", "timeout"),
        _ => return None,
    };
    Some(format!(
        "hint: {what}if it needs longer, raise `{key}` of [images.{image}] or [images.defaults]"
    ))
}

/// The first line of an error with its causes: what fits on a line of progress.
pub(super) fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// A staged context, removed with its Dockerfile when the build is over.
struct Stage(PrivatePath);

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed now is swept by a later run.
        self.0.remove().ok();
        self.0.with_extension("Dockerfile").remove().ok();
    }
}

/// The images of a survey under the tags they have or are going to have.
pub(super) fn shelf(survey: &Survey) -> Shelf {
    let shelf = Shelf::default();
    for one in &survey.images {
        let id = one.held.as_ref().map(|held| held.id.clone()).unwrap_or_default();
        shelf
            .put(&one.image.name, Ready { tag: one.planned.tag.clone(), id, origin: Origin::Kept });
    }
    shelf
}

/// Images by name as they become ready, shared by the steps of a run.
#[derive(Default)]
pub(super) struct Shelf(Mutex<std::collections::BTreeMap<String, Ready>>);

impl Shelf {
    pub(super) fn put(&self, name: &str, ready: Ready) {
        lock(&self.0).insert(name.to_owned(), ready);
    }

    pub(super) fn get(&self, name: &str) -> Result<Ready> {
        lock(&self.0).get(name).cloned().with_context(|| format!("image `{name}` is not ready"))
    }

    /// Name → tag of everything that is ready.
    pub(super) fn tags(&self) -> std::collections::BTreeMap<String, String> {
        lock(&self.0).iter().map(|(name, ready)| (name.clone(), ready.tag.clone())).collect()
    }

    /// Images that have come from there.
    pub(super) fn count(&self, origin: Origin) -> usize {
        lock(&self.0).values().filter(|ready| ready.origin == origin).count()
    }
}
