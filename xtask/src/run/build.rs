//! Bringing images up to date: fetching bases, and one build from its stage to its record.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;

use crate::context::record::{self, Record};
use crate::context::{self, Context, Key, Staged};
use crate::engine::registry::Wanted;
use crate::engine::{BuildError, BuildRequest, Built};
use crate::error::{self, ErrorExt as _, Exit};
use crate::event::{Event, Place, PlannedImage, first_line, seconds};
use crate::memory::learned::{self, PeakSample};
use crate::memory::required::enough;
use crate::plan::{Action, IMAGE_LABEL, KEY_LABEL, PROJECT_LABEL, Planned};
use crate::private::PrivatePath;
use crate::process::Ending;
use crate::run::builders::Builder;
use crate::run::cache::Cache;
use crate::run::evaluate::{self, Evaluation, ImageState};
use crate::run::memory::Memory;
use crate::run::{build_lock, failed_step, missing_input, project};
use crate::schedule::Permit;
use crate::session::{Run, Workspace};
use crate::text::bytes;
use dockerfile::Role;

/// How long a registry may take over one base image.
const FETCH: Duration = Duration::from_mins(10);

/// An image that is there, under the tag that says what is in it.
#[derive(Clone, Debug)]
pub(crate) struct ImageHandle {
    pub(crate) tag: String,
    pub(crate) id: String,
    pub(crate) origin: Origin,
}

/// Where an image has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was here before the run, or another run has made it meanwhile.
    Kept,
    /// From the shared cache.
    Fetched,
    Built,
}

/// What the plan event says of an image.
pub(crate) fn told(planned: &Planned) -> PlannedImage {
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

/// Fetches the bases of images that are to be built and that the engine does not hold (with
/// `newer`: all of them). If any came, the keys are taken again.
pub(crate) fn fetch_bases(
    workspace: &Workspace,
    run: &Run,
    evaluation: Evaluation,
    newer: bool,
    again: impl Fn() -> Result<Evaluation>,
) -> Result<Evaluation> {
    let to_build =
        evaluation.images.iter().filter(|one| one.planned.action == Action::Build || newer);
    let mut wanted: Vec<&str> = to_build
        .flat_map(|one| one.context.bases())
        .filter(|base| newer || !evaluation.bases.contains_key(*base))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    for base in &wanted {
        let pull = workspace.engine.tool().args(["pull", "--quiet", base]);
        let pull = pull.limit(FETCH).log(run.paths.log("fetch"));
        let fetch =
            || pull.run().map(drop).map_err(|failure| not_fetched(&evaluation, base, failure));
        run.step(&format!("fetch {base}"), |()| None, fetch).exit(Exit::Environment)?;
    }
    if wanted.is_empty() { Ok(evaluation) } else { again() }
}

/// Why a base did not come, with the line that names it.
fn not_fetched(
    evaluation: &Evaluation,
    base: &str,
    failure: crate::process::Failure,
) -> anyhow::Error {
    let named = evaluation.images.iter().find_map(|one| {
        let bases = &one.context.reading.as_ref()?.bases;
        let found = bases.iter().find(|found| found.name == base)?;
        let file = one.image.dockerfile.display();
        Some((format!("{file}:{}: ", found.line), found.role))
    });
    let (place, role) = named.unwrap_or((String::new(), Role::From));
    let why = anyhow!(failure).context(format!("{place}failed to fetch the base image `{base}`"));
    let is_plain = !base.contains(['/', ':', '@', '.']);
    why.hint(if role != Role::From && is_plain {
        format!("no stage of that Dockerfile is called `{base}`, and neither is an image")
    } else {
        "cargo xtask doctor --fix".to_owned()
    })
}

/// What became of a build.
pub(crate) enum BuildOutcome {
    Ready(ImageHandle),
    /// Killed for memory the first time: to be run once more, with so many bytes.
    Again(u64),
    /// Not in the shared cache: to be built.
    Missed,
    /// Its builder is gone: to be built by another.
    Lost,
}

/// What all tasks of a run share.
#[derive(Clone, Copy)]
pub(crate) struct RunContext<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) run: &'a Run,
    pub(crate) evaluation: &'a Evaluation,
    pub(crate) memory: &'a Memory,
    /// None: there is none to be asked.
    pub(crate) cache: Option<&'a Cache>,
    pub(crate) built_images: &'a BuiltImages,
}

/// Brings one image up to date: looks for it in the shared cache, or builds it.
pub(crate) fn make(common: RunContext, one: &ImageState, permit: &Permit) -> Result<BuildOutcome> {
    match common.cache {
        Some(cache) if permit.prelude => cache
            .fetch(common, one)
            .map(|ready| ready.map_or(BuildOutcome::Missed, BuildOutcome::Ready)),
        // Only what the cache did not have must fit.
        _ => common.memory.refuse(one).and_then(|()| build(common, one, permit)),
    }
}

/// Builds one image: stages what is sent, has it built, remembers from what.
fn build(common: RunContext, one: &ImageState, permit: &Permit) -> Result<BuildOutcome> {
    let RunContext { workspace, run, .. } = common;
    let turn = build_lock::turn(workspace, one, &run.events)?;
    if let Some(ready) = build_lock::made_meanwhile(workspace, one, &turn)? {
        run.events.note(format!("{}: another run has built it meanwhile", one.image.name));
        return Ok(BuildOutcome::Ready(ready));
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
        Ok((ready, _)) => Ok(BuildOutcome::Ready(ready)),
        Err(_) if lost => Ok(BuildOutcome::Lost),
        Err(error) => killed(common, one, permit, error),
    }
}

/// Where in its Dockerfile a failed build stopped.
fn stopped_at(common: RunContext, one: &ImageState) -> Place {
    let file = &one.image.dockerfile;
    let log = fs_err::read(common.run.paths.log(&format!("build-{}", one.image.name)));
    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
    let text = String::from_utf8_lossy(&one.context.dockerfile);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let shown = file.strip_prefix(&common.workspace.config.root).unwrap_or(file);
    Place { file: shown.display().to_string(), line: failed_step::line(&text, &name, &log) }
}

/// A build that was killed for memory is run once more, alone; a second kill is final.
fn killed(
    common: RunContext,
    one: &ImageState,
    permit: &Permit,
    error: anyhow::Error,
) -> Result<BuildOutcome> {
    let Some(Kill { peak, asked, evidence }) = kill(&error) else { return Err(error) };
    let name = &one.image.name;
    // What it had when it was killed is the least it needs.
    let seen = peak.unwrap_or(permit.memory);
    // Never so much that the next run would be refused: it may have been made to take less.
    let most = common.memory.budget.capacity;
    let need = seen.saturating_add(seen / 4).min(most).max(seen).max(one.planned.memory);
    let subject = evaluate::subject(common.workspace, &one.image, &one.parts);
    let figures = common.workspace.paths.memory();
    let well = learned::learned(&figures, &subject).and_then(|learned| learned.well);
    learned::record(&figures, &subject, need, PeakSample::Killed)?;
    if !permit.again {
        let text = format!("{name} was killed for memory: {evidence}");
        let then = format!("it is built once more, alone, with one CPU and {}", bytes(need));
        common.run.events.warn(format!("{text}; {then}"), None);
        return Ok(BuildOutcome::Again(need));
    }
    let had = format!("it had {} of {}", bytes(seen), common.memory.budget);
    let enough = enough(seen, asked, well);
    let hints = common.memory.hints(enough.bytes.max(need));
    let twice = format!("{name} was killed twice, the second time alone: {had}; {enough}");
    Err(anyhow!("{error:#}\n{twice}")).hints(hints).exit(Exit::Environment)
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
    match error::find(error)? {
        BuildError::OutOfMemory { peak, asked, evidence, .. } => {
            Some(Kill { peak: *peak, asked: *asked, evidence })
        }
        _ => None,
    }
}

fn staged_build(
    common: RunContext,
    one: &ImageState,
    permit: &Permit,
) -> Result<(ImageHandle, Built)> {
    let RunContext { workspace, run, memory, .. } = common;
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
    let order = BuildRequest {
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
        let subject = evaluate::subject(workspace, &one.image, &staged.parts);
        let of = if built.partly_cached {
            PeakSample::AtLeast { configured: one.image.memory }
        } else {
            PeakSample::Well
        };
        learned::record(&workspace.paths.memory(), &subject, peak, of)?;
    }
    let record = context.record(staged, built.seconds);
    let record = Record { builder: memory.name_of(permit.place), ..record };
    record::write(&workspace.paths.record(name), &record)?;
    Ok((ImageHandle { tag, id: built.id.clone(), origin: Origin::Built }, built))
}

fn build_away(
    common: RunContext,
    builder: &Builder,
    order: &BuildRequest,
) -> Result<Built, BuildError> {
    let RunContext { workspace, run, .. } = common;
    let facts = workspace.engine.facts(&workspace.paths.engine_facts());
    let facts = facts.map_err(BuildError::Environment)?;
    let platform = order.platform.unwrap_or(&facts.platform);
    let wanted = Wanted { image: order.image, tag: order.tag, labels: order.labels, platform };
    builder.build(&workspace.engine, order, &wanted, &run.events)
}

/// The labels by which an image proves that it is the one of that key.
pub(crate) fn proof(name: &str, key: Key) -> [(String, String); 2] {
    [(KEY_LABEL.to_owned(), key.to_string()), (IMAGE_LABEL.to_owned(), name.to_owned())]
}

/// Stages what the plan saw; where a file of that is there no longer, what is there now.
fn staged<'a>(
    common: RunContext<'a>,
    one: &'a ImageState,
    stage: &Stage,
) -> Result<(Cow<'a, Context>, Staged)> {
    let RunContext { workspace, evaluation, .. } = common;
    let ids = evaluation.base_ids();
    let mut context = Cow::Borrowed(&one.context);
    let staged = context::until_at_rest(|| {
        let staged = context.stage(&stage.0, &ids);
        if staged.as_ref().is_err_and(context::is_moved) {
            stage.0.remove()?;
            context = Cow::Owned(evaluation.again(workspace, &one.image)?);
        }
        staged
    });
    Ok((context, staged.exit(Exit::Environment)?))
}

fn named(context: &Context, stage: &Path, error: BuildError) -> anyhow::Error {
    let exit =
        if matches!(error, BuildError::Environment(_)) { Exit::Environment } else { Exit::Failed };
    let hint = match &error {
        BuildError::Failed { failure, .. } => missing_input::hint(context, stage, &failure.tail),
        BuildError::TimedOut { failure } => overdue(&context.spec.name, &failure.ending),
        other => other.hint().map(str::to_owned),
    };
    anyhow!(error)
        .context(format!("failed to build image `{}`", context.spec.name))
        .hints(hint)
        .exit(exit)
}

/// Which key has ended a build.
fn overdue(image: &str, ending: &Ending) -> Option<String> {
    let (what, key) = match ending {
        Ending::Silent(_) => ("it used neither CPU nor disk; ", "silence"),
        Ending::TimedOut(_) => ("", "timeout"),
        _ => return None,
    };
    Some(format!(
        "{what}if it needs longer, raise `{key}` of [images.{image}] or [images.defaults]"
    ))
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

/// Images by name as they become ready, shared by the steps of a run.
#[derive(Default)]
pub(crate) struct BuiltImages(Mutex<std::collections::BTreeMap<String, ImageHandle>>);

impl BuiltImages {
    /// The images of an evaluation, under the tags they have or are going to have.
    pub(crate) fn of(evaluation: &Evaluation) -> Self {
        let built_images = Self::default();
        for image in &evaluation.images {
            let (tag, origin) = (image.planned.tag.clone(), Origin::Kept);
            let id = image.held.as_ref().map(|held| held.id.clone()).unwrap_or_default();
            built_images.put(&image.image.name, ImageHandle { tag, id, origin });
        }
        built_images
    }

    pub(crate) fn put(&self, name: &str, ready: ImageHandle) {
        self.0.lock().insert(name.to_owned(), ready);
    }

    pub(crate) fn get(&self, name: &str) -> Result<ImageHandle> {
        self.0.lock().get(name).cloned().with_context(|| format!("image `{name}` is not ready"))
    }

    /// Name → tag of everything that is ready.
    pub(crate) fn tags(&self) -> std::collections::BTreeMap<String, String> {
        self.0.lock().iter().map(|(name, ready)| (name.clone(), ready.tag.clone())).collect()
    }

    /// Images that have come from there.
    pub(crate) fn count(&self, origin: Origin) -> usize {
        self.0.lock().values().filter(|ready| ready.origin == origin).count()
    }
}
