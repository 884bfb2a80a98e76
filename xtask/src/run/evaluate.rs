//! The common beginning of every command that is about images: contexts and keys on one side, what
//! the engine holds on the other, the plan out of both.
//!
//! The engine is asked while the walk runs: for the bases the Dockerfiles name and for the tags
//! the last builds left. Only if a key turns out to be another one is it asked again.

use std::collections::BTreeMap;
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use crate::config::{Config, Image};
use crate::context::record::{self, Record};
use crate::context::{self, Context, Opened, Parts, Spec};
use crate::engine::{self, ImageInfo, Inherited, LocalImages};
use crate::error::{ErrorExt as _, Exit};
use crate::memory::learned;
use crate::paths::Paths;
use crate::plan::{self, KEY_LABEL, Known, Now, Planned};
use crate::session::{Session, Workspace};
use dockerfile::BaseConfig;

/// What is known of some images, and what would be done about them.
pub(crate) struct Evaluation {
    pub(crate) images: Vec<ImageState>,
    /// The base images the engine holds, by reference.
    pub(crate) bases: BTreeMap<String, ImageInfo>,
}

impl Evaluation {
    /// The image called `name`, which was evaluated.
    pub(crate) fn image(&self, name: &str) -> &ImageState {
        let mut images = self.images.iter();
        images
            .find(|image| image.image.name == name)
            .unwrap_or_else(|| unreachable!("image `{name}` was not evaluated"))
    }

    /// Ids of the base images the engine holds, by reference.
    pub(crate) fn base_ids(&self) -> BTreeMap<String, String> {
        ids(&self.bases)
    }

    /// An image's context as it is now.
    pub(crate) fn again(&self, workspace: &Workspace, image: &Image) -> Result<Context> {
        let opened = context::open(&[Spec::from(image)])?;
        let bases = || inherited(&self.bases);
        let mut contexts = context::gather(opened, Some(&workspace.paths.indices()), bases)?;
        contexts.pop().ok_or_else(|| anyhow!("failed to gather the context of `{}`", image.name))
    }
}

/// One image of an evaluation.
pub(crate) struct ImageState {
    pub(crate) image: Image,
    pub(crate) context: Context,
    pub(crate) parts: Parts,
    /// The image under the key's tag, if the engine holds one.
    pub(crate) held: Option<ImageInfo>,
    pub(crate) planned: Planned,
}

/// Evaluates the images called `names`.
pub(crate) fn evaluate(
    workspace: &Workspace,
    names: &[String],
    forced: bool,
) -> Result<Evaluation> {
    let images = named(&workspace.config, names)?;
    let specs: Vec<Spec> = images.iter().map(Spec::from).collect();
    let opened = context::open(&specs)?;
    let bases = base_names(&opened);
    let records: Vec<Option<Record>> =
        images.iter().map(|image| record::read(&workspace.paths.record(&image.name))).collect();
    let tags: Vec<String> = images
        .iter()
        .zip(&records)
        .filter_map(|(image, record)| last_tag(image, record.as_ref()?))
        .collect();
    let (contexts, mut holdings) = look(workspace, opened, &tags, &bases)?;
    let triggered = contexts.iter().flat_map(Context::bases).map(str::to_owned);
    let triggered: Vec<String> = triggered.filter(|base| !bases.contains(base)).collect();
    if !triggered.is_empty() {
        holdings.bases.extend(ask(workspace, &[], &triggered)?.bases);
    }
    let ids = ids(&holdings.bases);
    let parts = contexts.iter().zip(&records);
    let parts: Vec<Parts> =
        parts.map(|(one, last)| parts_of(one, last.as_ref(), &ids, &holdings.tags)).collect();
    let keyed = images.iter().zip(&parts).map(|(image, parts)| parts.key().tag(&image.name));
    let others: Vec<String> = keyed.filter(|tag| !tags.contains(tag)).collect();
    if !others.is_empty() {
        holdings.tags.extend(ask(workspace, &others, &[])?.tags);
    }
    let images = images.into_iter().zip(contexts).zip(parts).zip(records);
    let images = images.map(|(((image, context), parts), record)| {
        let held = holdings.tags.get(&parts.key().tag(&image.name)).cloned();
        let learned = learned(workspace, &image, &parts);
        let planned =
            decide(&image, &context, &parts, record.as_ref(), held.as_ref(), learned, forced);
        ImageState { image, context, parts, held, planned }
    });
    Ok(Evaluation { images: images.collect(), bases: holdings.bases })
}

/// Walks while the engine is asked; what it says of the bases is needed when the walk is over.
fn look(
    workspace: &Workspace,
    opened: Vec<Opened>,
    tags: &[String],
    bases: &[String],
) -> Result<(Vec<Context>, LocalImages)> {
    if opened.is_empty() {
        return Ok((Vec::new(), LocalImages::default()));
    }
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(workspace, tags, bases));
        let mut answer = None;
        let contexts = context::gather(opened, Some(&workspace.paths.indices()), || {
            match answer.insert(asked.join()) {
                Ok(Ok(holdings)) => inherited(&holdings.bases),
                // The survey fails in a moment; what is chosen until then is of no use.
                _ => context::Bases::new(),
            }
        })?;
        let answer = answer.context("failed to wait for the engine's answer")?;
        Ok((contexts, answer.map_err(|_| anyhow!("the engine's thread panicked"))??))
    })
}

fn ids(bases: &BTreeMap<String, ImageInfo>) -> BTreeMap<String, String> {
    bases.iter().map(|(name, held)| (name.clone(), held.id.clone())).collect()
}

/// What the bases hand to the stages built on them, as far as the engine says.
fn inherited(bases: &BTreeMap<String, ImageInfo>) -> context::Bases {
    let config = |held: &ImageInfo| {
        let Inherited { env, onbuild } = held.inherited.clone()?;
        Some(BaseConfig { env, onbuild })
    };
    bases.iter().filter_map(|(name, held)| Some((name.clone(), config(held)?))).collect()
}

/// What was asked for by name; all images if nothing was.
pub(crate) fn or_all(config: &Config, names: &[String]) -> Vec<String> {
    if names.is_empty() { config.images.keys().cloned().collect() } else { names.to_vec() }
}

/// The images called `names`; an unknown name is a fault of usage.
pub(crate) fn named(config: &Config, names: &[String]) -> Result<Vec<Image>> {
    let images = &config.images;
    if let Some(name) = names.iter().find(|name| !images.contains_key(*name)) {
        let known: Vec<&str> = images.keys().map(String::as_str).collect();
        let file = config.file.display();
        return Err(anyhow!("failed to find image `{name}` in `{file}`"))
            .hint(format!("it has {}", known.join(", ")))
            .exit(Exit::Usage);
    }
    Ok(names.iter().filter_map(|name| images.get(name)).cloned().collect())
}

/// The parts of an image's key. A base that the engine does not hold (the image came in a bundle,
/// or the base was removed) is taken for that of the last build, if that makes the very key that
/// the image under its tag carries: then nothing it was built from is known to be another.
fn parts_of(
    context: &Context,
    record: Option<&Record>,
    bases: &BTreeMap<String, String>,
    tags: &BTreeMap<String, ImageInfo>,
) -> Parts {
    let parts = context.parts(bases);
    let Some(record) = record.filter(|_| parts.bases.values().any(Option::is_none)) else {
        return parts;
    };
    let as_last = context.parts(&with_bases(bases, record));
    let key = as_last.key();
    let held = tags.get(&key.tag(&context.spec.name));
    let carried = held.and_then(|held| held.labels.get(KEY_LABEL));
    if carried == Some(&key.to_string()) { as_last } else { parts }
}

/// The ids of bases: those the engine holds, then those of an earlier build.
pub(crate) fn with_bases(
    held: &BTreeMap<String, String>,
    record: &Record,
) -> BTreeMap<String, String> {
    let recorded = record.parts.bases.iter();
    let recorded = recorded.filter_map(|(base, id)| Some((base.clone(), id.clone()?)));
    let mut bases: BTreeMap<String, String> = recorded.collect();
    bases.extend(held.clone());
    bases
}

fn last_tag(image: &Image, record: &Record) -> Option<String> {
    Some(format!("localhost/{}:{}", image.name, record.key.get(..16)?))
}

fn ask(workspace: &Workspace, tags: &[String], bases: &[String]) -> Result<LocalImages> {
    let facts = workspace.engine.facts(&workspace.paths.engine_facts())?;
    workspace.engine.look_up(Some(&facts), tags, bases)
}

/// What the bases of `opened` hand down, for a command that does without an engine where there is
/// none: to it they are then unknown, as they are to a key taken before they are fetched.
pub(crate) fn handed_down<'a>(
    session: &Session,
    opened: impl IntoIterator<Item = &'a Opened>,
) -> context::Bases {
    let bases = base_names(opened);
    if bases.is_empty() {
        return context::Bases::new();
    }
    let asked = session.workspace().and_then(|workspace| ask(&workspace, &[], &bases));
    inherited(&asked.unwrap_or_default().bases)
}

/// As [`handed_down`], without starting a process: as far as podman's store says it to whoever
/// reads it.
pub(crate) fn handed_down_silently(session: &Session, opened: &[Opened]) -> Result<context::Bases> {
    let podman = engine::podman(&session.engine_settings()?);
    let cache = Paths::of(&session.config()?.root).engine_facts();
    let held = podman.map(|podman| podman.look_up_silently(&cache, &base_names(opened)));
    Ok(inherited(&held.unwrap_or_default()))
}

fn base_names<'a>(opened: impl IntoIterator<Item = &'a Opened>) -> Vec<String> {
    let mut names: Vec<String> =
        opened.into_iter().flat_map(Opened::bases).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// Bytes that builds of an image were seen to take.
fn learned(workspace: &Workspace, image: &Image, parts: &Parts) -> Option<u64> {
    let learned = learned::learned(&workspace.paths.memory(), &subject(workspace, image, parts));
    learned.map(|learned| learned.bytes)
}

/// What a measured peak is filed under.
pub(crate) fn subject<'a>(
    workspace: &Workspace,
    image: &'a Image,
    parts: &'a Parts,
) -> learned::ProfileKey<'a> {
    learned::ProfileKey {
        image: &image.name,
        engine: workspace.engine.name(),
        platform: image.platform.as_deref().unwrap_or_default(),
        dockerfile: &parts.dockerfile,
    }
}

fn decide(
    image: &Image,
    context: &Context,
    parts: &Parts,
    record: Option<&Record>,
    held: Option<&ImageInfo>,
    memory_learned: Option<u64>,
    forced: bool,
) -> Planned {
    let now = || Now { parts: parts.clone(), ignore: context.ignore(), files: context.files() };
    plan::decide(&Known {
        name: &image.name,
        key: parts.key(),
        held: held.map(|held| &held.labels),
        record,
        now: &now,
        memory_configured: image.memory,
        memory_learned,
        forced,
        fetched: context.fetched(),
    })
}
