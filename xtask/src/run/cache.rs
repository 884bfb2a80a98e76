//! The registry of `[cache]` in a run: an image is looked for there before it is built, and what
//! was built is put there.
//!
//! The plan does not ask: it needs no network, and says "build" of an image that is not here. The
//! run looks in the cache as the prelude of each build, so that a miss costs what asking takes and
//! a build never waits for another image's answer. A registry that fails once is left alone for the
//! rest of the run: one warning, and everything is built. Nothing waits for a push.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

use crate::cli;
use crate::cluster::{Pulls, is_reachable};
use crate::config::{self, CacheMode};
use crate::context::record;
use crate::engine::Published;
use crate::engine::registry::{CARRIER, Fetched, Wanted, reference};
use crate::error::{self, ErrorExt as _, Exit};
use crate::plan::Reason;
use crate::process::Failure;
use crate::run::build::{self, ImageHandle, Origin, RunContext};
use crate::run::evaluate::{Evaluation, ImageState};
use crate::run::graph::RunGraph;
use crate::session::Workspace;

/// The cache as this run may use it.
pub(crate) struct Cache {
    settings: config::Cache,
    /// It has failed once.
    left_alone: AtomicBool,
    /// A node could not pull.
    nodes_cannot: AtomicBool,
    pushed: AtomicUsize,
}

impl Cache {
    /// The configured cache, unless the run is to do without.
    pub(crate) fn of(workspace: &Workspace, options: cli::Build) -> Option<Self> {
        let mut settings = workspace.config.cache.clone()?;
        match options.cache {
            Some(cli::CacheMode::Off) => return None,
            Some(cli::CacheMode::ReadOnly) => settings.mode = CacheMode::ReadOnly,
            Some(cli::CacheMode::ReadWrite) => settings.mode = CacheMode::ReadWrite,
            None => {}
        }
        let (left_alone, nodes_cannot) = (AtomicBool::new(false), AtomicBool::new(false));
        Some(Self { settings, left_alone, nodes_cannot, pushed: AtomicUsize::new(0) })
    }

    /// Images put there by this run.
    pub(crate) fn pushed(&self) -> usize {
        self.pushed.load(Ordering::Relaxed)
    }

    /// The image, if the cache has it and it is the one that is wanted.
    pub(crate) fn fetch(
        &self,
        common: RunContext,
        one: &ImageState,
    ) -> Result<Option<ImageHandle>> {
        if self.left_alone.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let RunContext { workspace, run, .. } = common;
        let name = &one.image.name;
        let facts = workspace.engine.facts(&workspace.paths.engine_facts())?;
        let wanted = Wanted {
            image: name,
            tag: &one.planned.tag,
            labels: &build::proof(name, one.planned.key),
            platform: one.image.platform.as_deref().unwrap_or(&facts.platform),
        };
        let log = run.paths.log(&format!("fetch-{name}"));
        let fetched = workspace.engine.fetch(&self.settings, &wanted, &log, &run.events);
        match fetched.unwrap_or_else(|error| Fetched::Refused(error::told(&error))) {
            Fetched::Ready(held) => {
                let record = one.context.record_of(&one.parts, one.planned.seconds);
                record::write(&workspace.paths.record(name), &record)?;
                let (tag, id) = (one.planned.tag.clone(), held.id);
                Ok(Some(ImageHandle { tag, id, origin: Origin::Fetched }))
            }
            Fetched::Absent => Ok(None),
            Fetched::Refused(why) => {
                let text = format!("{name} is built: the cache's image was refused, {why}");
                run.events.warn(text, None);
                Ok(None)
            }
            Fetched::Failed(failure) if failure.stopped() => Err(anyhow!(*failure)),
            Fetched::Failed(failure) => {
                self.leave_alone(common, &failure);
                Ok(None)
            }
        }
    }

    /// Puts what was built into the cache, if it may. Never a failure of the run.
    pub(crate) fn push(&self, common: RunContext, name: &str, ready: &ImageHandle) {
        if ready.origin != Origin::Built || self.left_alone.load(Ordering::Relaxed) {
            return;
        }
        let RunContext { workspace, run, .. } = common;
        let log = run.paths.log(&format!("push-{name}"));
        let pushed = workspace.engine.push(&self.settings, name, &ready.tag, &log, &run.events);
        match pushed {
            Ok(()) => drop(self.pushed.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                if let Some(failure) = error::find::<Failure>(&error) {
                    self.leave_alone(common, failure);
                }
            }
        }
    }

    /// Sees to it that the registry has the image, and gives back the name by which nodes pull it.
    /// Here what the registry does not do is a failure of the run.
    pub(crate) fn publish(
        &self,
        common: RunContext,
        name: &str,
        ready: &ImageHandle,
    ) -> Result<String> {
        let RunContext { workspace, run, .. } = common;
        let log = run.paths.log(&format!("push-{name}"));
        let image = (name, &*ready.tag, &*ready.id);
        let published = workspace.engine.publish(&self.settings, image, &log, &run.events);
        let Published { reference, pushed } = published.exit(Exit::Environment)?;
        self.pushed.fetch_add(usize::from(pushed), Ordering::Relaxed);
        Ok(reference)
    }

    /// Where builds may take layers from.
    pub(crate) fn layers(&self) -> Option<&config::Cache> {
        let asked = self.settings.layers && !self.left_alone.load(Ordering::Relaxed);
        asked.then_some(&self.settings)
    }

    /// What nodes of a cluster of ours may pull: all that the run did not build. None if they
    /// cannot mean the registry.
    pub(crate) fn pulls<'r>(
        &self,
        images: impl Iterator<Item = &'r ImageHandle>,
    ) -> Option<Pulls<'_>> {
        let (cache, failed) = (&self.settings, &self.nodes_cannot);
        if !is_reachable(&cache.registry) || self.left_alone.load(Ordering::Relaxed) {
            return None;
        }
        let there = images.filter(|ready| ready.origin != Origin::Built);
        let references = there.map(|one| (one.tag.clone(), reference(cache, &one.tag))).collect();
        Some(Pulls { cache, references, failed })
    }

    /// Has the run look here before it builds, and push what it built if it may. What is built by
    /// force is not looked for, nor what holds more than its key tells.
    pub(crate) fn join(&self, run_graph: &mut RunGraph, evaluation: &Evaluation) {
        let anew = |name: &str| {
            let image = evaluation.image(name);
            image.planned.reasons == [Reason::Forced] || image.context.fetched().is_some()
        };
        run_graph.look_first(|name| (!anew(name)).then_some(CARRIER));
        if self.settings.mode == CacheMode::ReadWrite {
            run_graph.push_builds();
        }
    }

    /// Says once that the registry is not asked again.
    fn leave_alone(&self, common: RunContext, failure: &Failure) {
        if failure.stopped() || self.left_alone.swap(true, Ordering::Relaxed) {
            return;
        }
        let why = failure.last_line().map_or_else(
            || failure.ending.to_string(),
            |line| format!("{}: {line}", failure.ending),
        );
        let registry = &self.settings.registry;
        let text = format!("the cache at {registry} is left alone for the rest of this run: {why}");
        common.run.events.warn(text, None);
    }
}
