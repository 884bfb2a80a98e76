//! What the nodes of a run do, and what they share.
//!
//! A failed step ends the run at once, with diagnostics written before anything is taken down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use crate::cli;
use crate::cluster::{self, Cluster, Lease};
use crate::config::{self, Suite};
use crate::deploy::{self, Kept, Rendered, Snapshots, Workload};
use crate::event::{Event, PlannedRun, Summary, first_line, seconds};
use crate::exit::{Exit, WithExit as _};
use crate::plan::Action;
use crate::process::stop;
use crate::run::build::{self, BuildOutcome, BuiltImages, ImageHandle, Origin, RunContext};
use crate::run::cache::Cache;
use crate::run::estimate::{self, EstimateInput, Estimates};
use crate::run::evaluate::Evaluation;
use crate::run::graph::{self, ImageDelivery, RunGraph, Task};
use crate::run::lease::{lease as lease_of, take_down};
use crate::run::memory::{self, Memory};
use crate::run::suite::render::{self, render_all};
use crate::run::suite::shared_cluster::SharedRun;
use crate::run::suite::warm_probe::WarmProbe;
use crate::schedule::{self, ExecOptions, NodeId, Outcome, Permit, State};
use crate::session::{Run, Workspace, lock};
use crate::suite;
use crate::ui;

/// Everything the nodes of the run share.
pub(crate) struct E2e<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) run: &'a Run,
    pub(crate) evaluation: &'a Evaluation,
    memory: &'a Memory,
    cache: Option<&'a Cache>,
    /// On a cluster that others run, with the run's names.
    pub(crate) suite: Suite,
    args: &'a cli::E2e,
    wanted: &'a config::Cluster,
    /// None on a cluster of our own.
    pub(crate) guest: Option<SharedRun<'a>>,
    run_graph: RunGraph,
    /// By step, with the planned tags.
    pub(crate) rendered: Vec<Option<Rendered>>,
    pub(crate) built_images: BuiltImages,
    ahead: Mutex<WarmProbe>,
    up: OnceLock<Up>,
    pub(crate) tally: Mutex<RunCounters>,
    /// Held while a step is applied again for what its pods read.
    pub(crate) following: Mutex<()>,
}

/// A cluster that is up, and what it is known to hold.
pub(crate) struct Up {
    pub(crate) cluster: Cluster,
    pub(crate) kept: Kept,
    pub(crate) looks: Snapshots,
}

#[derive(Default)]
pub(crate) struct RunCounters {
    loaded: usize,
    passed: u64,
    failed: u64,
    skipped_tests: u64,
    /// Steps that changed something on the cluster.
    pub(crate) changed: BTreeSet<String>,
    /// By step: what it applied that makes pods.
    pub(crate) workloads: BTreeMap<String, Vec<Workload>>,
    /// Steps that have ended well.
    pub(crate) ended: BTreeSet<String>,
    exit: Option<Exit>,
}

impl<'a> E2e<'a> {
    pub(crate) fn new(
        common: RunContext<'a>,
        suite: &Suite,
        args: &'a cli::E2e,
        ahead: WarmProbe,
    ) -> Result<Self> {
        let RunContext { workspace, run, evaluation, memory, cache } = common;
        let wanted = workspace.config.clusters.get(&suite.cluster);
        let wanted = wanted.with_context(|| format!("there is no cluster `{}`", suite.cluster))?;
        let built_images = build::built_images(evaluation);
        let manifests = run.paths.folder().join("manifests");
        let root = &workspace.config.root;
        let mut rendered = render_all(suite, root, &built_images.tags(), None, &manifests)?;
        let guest = SharedRun::of(common, wanted, suite, &rendered)?;
        let suite = guest.as_ref().map_or_else(|| suite.clone(), |guest| guest.own.adapt(suite));
        if let Some(guest) = &guest {
            rendered =
                render_all(&suite, root, &built_images.tags(), Some(&guest.own), &manifests)?;
        }
        for twice in render::applied_twice(&rendered) {
            run.events.warn(twice, None);
        }
        let tests = suite.test.is_some() && !args.no_test;
        let (named, how) = (render::named(&rendered), (ImageDelivery::to(Some(wanted)), tests));
        let mut run_graph = RunGraph::of_suite(&suite, &graph::pieces(evaluation), &named, how);
        if args.phases {
            run_graph = run_graph.in_phases();
        }
        memory.join(&mut run_graph, workspace, evaluation);
        cache.inspect(|cache| cache.join(&mut run_graph, evaluation));
        let (shard, rest) = (args.shard, &args.args);
        let coming =
            EstimateInput { suite: &suite, evaluation, rendered: &rendered, shard, args: rest };
        Estimates::read(workspace, &memory.machine()).of_suite(&mut run_graph, workspace, coming);
        Ok(Self {
            workspace,
            run,
            evaluation,
            memory,
            cache,
            suite,
            args,
            wanted,
            guest,
            run_graph,
            rendered,
            built_images,
            ahead: Mutex::new(ahead),
            up: OnceLock::new(),
            tally: Mutex::default(),
            following: Mutex::default(),
        })
    }

    pub(crate) fn run(&self, started: Instant) -> Result<Summary> {
        self.announce();
        let lease = lock(&self.ahead).lease.take();
        let lease = lease.map_or_else(|| lease_of(self.wanted, self.workspace, self.run), Ok)?;
        self.memory.begin(self.workspace, self.run, self.evaluation);
        let take = |place, name: &str, bytes| self.memory.take(place, name, bytes);
        let fail_fast = self.args.build.fail_fast;
        let options = ExecOptions { fail_fast, stopped: &stop::requested, take: &take };
        let work = |node, permit: &Permit| self.do_one(node, permit);
        let waiting = memory::tell_waiting(self.run, &self.run_graph.graph);
        let places = self.memory.places(self.workspace);
        let ended = schedule::run(&self.run_graph.graph, &places, &options, work, waiting)?;
        self.memory.learn(self.workspace, self.run, &ended.paces);
        let ok = ended.states.iter().all(|state| *state == State::Done);
        let tests = self.run_graph.work.iter().any(|work| matches!(work, Task::Test));
        if ok && !tests {
            self.settle()?;
        }
        for one in self.run_graph.stranded(&ended.states, self.evaluation) {
            ui::error(&memory::stranded(one));
            self.count(|tally| {
                tally.exit.get_or_insert(Exit::Environment);
            });
        }
        let left = if self.take_down(ok, &lease) { None } else { Some("cluster") };
        let tally = lock(&self.tally);
        let to_build =
            self.evaluation.images.iter().filter(|one| one.planned.action == Action::Build);
        Ok(Summary {
            ok,
            built: self.built_images.count(Origin::Built),
            skipped: self.evaluation.images.len() - to_build.count(),
            fetched: self.built_images.count(Origin::Fetched),
            pushed: self.cache.map_or(0, Cache::pushed),
            loaded: tally.loaded,
            passed: tally.passed,
            failed: tally.failed,
            skipped_tests: tally.skipped_tests,
            left,
            seconds: seconds(started.elapsed()),
        })
    }

    fn announce(&self) {
        let images = self.evaluation.images.iter().map(|one| build::told(&one.planned)).collect();
        let steps = self.suite.steps.iter().map(|step| step.name.clone()).collect();
        self.run.events.emit(Event::Plan(PlannedRun {
            images,
            steps,
            suite: Some(self.suite.name.clone()),
            nodes: self.run_graph.told(),
            ..self.memory.told()
        }));
    }

    /// What the first failure leads to.
    pub(crate) fn exit(&self) -> Exit {
        let tally = lock(&self.tally);
        tally.exit.unwrap_or(Exit::Failed)
    }

    fn do_one(&self, node: NodeId, permit: &Permit) -> Outcome<()> {
        let name = &self.run_graph.graph.nodes[node].name;
        let result = match &self.run_graph.work[node] {
            Task::Build(at) => match self.build(*at, permit) {
                Ok(BuildOutcome::Again(memory)) => return Outcome::Again(memory),
                Ok(BuildOutcome::Missed) => return Outcome::GoOn,
                Ok(BuildOutcome::Lost) => return Outcome::Lost,
                made => made.map(drop),
            },
            Task::Push(at) => self.push(*at),
            Task::Publish(at) => self.publish(*at),
            Task::Cluster => self.step_events(name, || self.cluster()),
            Task::Load(images) => self.load(images).map_err(|error| self.explained(error, &[])),
            Task::Step(at) => {
                let images = self.rendered[*at].as_ref().map_or(&[][..], |step| &step.images);
                let step = || self.step(*at).map_err(|error| self.explained(error, images));
                self.step_events(name, step)
            }
            Task::Test => self.test().map_err(|error| self.explained(error, &[])),
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => {
                self.failed(&self.run_graph.work[node], &error);
                Outcome::Failed(())
            }
        }
    }

    /// Says what went wrong while it is fresh. Siblings of a failed build go on, since what they make
    /// counts; after any other failure nothing else of the run does.
    fn failed(&self, work: &Task, error: &anyhow::Error) {
        if stop::requested() && is_echo(error) {
            return;
        }
        ui::error(error);
        {
            let mut tally = lock(&self.tally);
            tally.exit.get_or_insert(crate::exit::code(error));
        }
        if !matches!(work, Task::Build(_)) {
            stop::cancel();
        }
        self.diagnose();
    }

    /// The error, after what is wrong with the cluster itself: nobody seeks a stopped node behind a
    /// refused connection, or an image that was removed behind a registry that does not answer.
    fn explained(&self, error: anyhow::Error, images: &[String]) -> anyhow::Error {
        let Some(Up { cluster, .. }) = self.up.get().filter(|_| !is_echo(&error)) else {
            return error;
        };
        let engine = &self.workspace.engine;
        let ailments = cluster::ailments(cluster, &engine.tool(), engine.name());
        if !ailments.is_empty() {
            return error.context(ailments.join("; ")).exit(Exit::Environment);
        }
        let images = images.iter().filter_map(|name| {
            let ImageHandle { tag, id, .. } = self.built_images.get(name).ok()?;
            Some(cluster::Image { tag, id })
        });
        let lost = cluster::lost(cluster, &images.collect::<Vec<_>>(), &engine.tool());
        if lost.is_empty() { error } else { error.context(lost.join("; ")) }
    }

    fn diagnose(&self) {
        let Some(up) = self.up.get() else { return };
        let folder = self.run.paths.diagnostics();
        let engine = self.workspace.engine.tool();
        let only = self.guest.as_ref().map(|guest| guest.own.namespaces().into_values().collect());
        let only: Option<Vec<String>> = only;
        let of = (&*up.cluster.nodes, only.as_deref());
        deploy::diagnose(&up.looks, &engine, of, &folder);
        self.run.events.note(format!("diagnostics are in {}", folder.display()));
    }

    /// Runs a step with its events; `work` gives back how it was done.
    fn step_events(&self, step: &str, work: impl FnOnce() -> Result<&'static str>) -> Result<()> {
        let started = Instant::now();
        self.run.events.emit(Event::StepStarted { step: step.to_owned() });
        let result = work();
        self.run.events.emit(Event::StepFinished {
            step: step.to_owned(),
            action: result.as_ref().ok().copied(),
            ok: result.is_ok(),
            seconds: seconds(started.elapsed()),
            error: result.as_ref().err().map(first_line),
        });
        result.map(drop)
    }

    fn build(&self, at: usize, permit: &Permit) -> Result<BuildOutcome> {
        let one = &self.evaluation.images[at];
        let made = build::make(self.common(), one, permit)?;
        if let BuildOutcome::ImageHandle(ready) = &made {
            self.built_images.put(&one.image.name, ready.clone());
        }
        Ok(made)
    }

    fn push(&self, at: usize) -> Result<()> {
        let name = &self.evaluation.images[at].image.name;
        let ready = self.built_images.get(name)?;
        if let Some(cache) = self.cache {
            cache.push(self.common(), name, &ready);
        }
        Ok(())
    }

    fn publish(&self, at: usize) -> Result<()> {
        let name = &self.evaluation.images[at].image.name;
        let ready = self.built_images.get(name)?;
        let guest = self.guest.as_ref().context("the cluster is ours")?;
        guest.publish(self.common(), name, &ready)
    }

    fn common(&self) -> RunContext<'a> {
        let Self { workspace, run, evaluation, memory, cache, .. } = *self;
        RunContext { workspace, run, evaluation, memory, cache }
    }

    fn cluster(&self) -> Result<&'static str> {
        let log = self.run.paths.log("cluster");
        let standing = lock(&self.ahead).standing.take();
        let (cluster, kept) = standing.map_or_else(|| self.bring_up(&log), Ok)?;
        let rendered: Vec<&Rendered> = self.rendered.iter().flatten().collect();
        kept.expect(&rendered)?;
        if !cluster.is_fresh() {
            kept.reset(&rendered, &cluster.kubectl(), &log)?;
        }
        let looks = Snapshots::new(cluster.kubectl(), &self.run.paths.diagnostics());
        let how = if cluster.is_fresh() { estimate::MAKE } else { estimate::REUSE };
        // Only this node sets it, once.
        let set = self.up.set(Up { cluster, kept, looks });
        set.map(|()| how).map_err(|_| anyhow!("the cluster came up twice"))
    }

    fn bring_up(&self, log: &Path) -> Result<(Cluster, Kept)> {
        let Workspace { config, paths, engine } = self.workspace;
        let ports = config.suite_ports(&self.suite);
        let events = &self.run.events;
        let cluster = cluster::up(self.wanted, &ports, engine.name(), paths, log, events)?;
        if let Some(existing) = &self.wanted.existing {
            if let Some(guest) = &self.guest {
                guest.begin(existing, &cluster.kubectl(), events);
            }
            return Ok((cluster, Kept::open(&self.run.paths.applied(), &paths.digest_key())));
        }
        let kept = Kept::open(&paths.applied(&self.wanted.name), &paths.digest_key());
        if !cluster.is_fresh() {
            kept.look(&cluster.kubectl());
        }
        Ok((cluster, kept))
    }

    pub(crate) fn up(&self) -> Result<&Up> {
        self.up.get().context("the cluster is not up")
    }

    fn load(&self, images: &[usize]) -> Result<()> {
        let ready =
            images.iter().map(|at| self.built_images.get(&self.evaluation.images[*at].image.name));
        let ready: Vec<ImageHandle> = ready.collect::<Result<_>>()?;
        let pulls = self.cache.and_then(|cache| cache.pulls(ready.iter()));
        let wanted =
            ready.into_iter().map(|ImageHandle { tag, id, .. }| cluster::Image { tag, id });
        let wanted: Vec<cluster::Image> = wanted.collect();
        let engine = &self.workspace.engine;
        let save = |tags: &[String]| engine.save(tags);
        let log = self.run.paths.log("load");
        let cluster = &self.up()?.cluster;
        let (ways, events) = ((save, pulls.as_ref()), &self.run.events);
        let loaded = cluster::load(cluster, &wanted, &engine.tool(), ways, &log, events)?;
        self.count(|tally| tally.loaded += loaded.sent.len());
        Ok(())
    }

    fn test(&self) -> Result<()> {
        let Some(test) = &self.suite.test else { return Ok(()) };
        self.settle()?;
        let log = self.run.paths.log("test");
        let args = &self.args.args;
        let shard = self.args.shard;
        let before = self.last_look()?;
        let outcome = self.with_environment(|&environment| {
            let given = suite::Given { test, environment, shard, args, log: &log };
            suite::run(&given, &self.run.events)
        })?;
        self.count(|tally| {
            tally.passed = outcome.counts.passed;
            tally.failed = outcome.counts.failed;
            tally.skipped_tests = outcome.counts.skipped;
        });
        let restarts = self.restarts(&before);
        let failed = || format!("suite `{}` failed", self.suite.name);
        match (outcome.failure, outcome.fault) {
            (None, None) => restarts,
            (Some(failure), _) => Err(failure).with_context(failed),
            (None, Some(fault)) => Err(anyhow!(fault)).with_context(failed),
        }
    }

    /// What there is now is what the next run on this cluster finds unchanged, or not.
    fn settle(&self) -> Result<()> {
        let Up { cluster, kept, .. } = self.up()?;
        if !self.args.keep && !self.args.keep_on_failure || self.guest.is_some() {
            return Ok(());
        }
        let mut steps = self.suite.steps.iter();
        let by_hooks = steps.any(|step| matches!(step.action, config::Action::Run(_)));
        kept.settle(&cluster.kubectl(), by_hooks)
    }

    /// Takes down what the run made, unless it is to be kept; then it is said how to go on from there. False if
    /// something is left that should not be.
    fn take_down(&self, ok: bool, lease: &Lease) -> bool {
        let failed = !ok && stop::signal().is_none();
        let keep = self.args.keep || (self.args.keep_on_failure && failed);
        if let Some(guest) = &self.guest {
            return self.leave(guest, keep, lease);
        }
        if keep {
            if failed && let Some(up) = self.up.get() {
                self.tell_kept(&up.cluster);
            }
            return true;
        }
        let log = self.run.paths.log("cluster");
        self.warned(take_down(self.workspace, self.wanted, &log))
    }

    /// Whether it went well; if not, that is said, and the run is what it was.
    fn warned(&self, result: Result<()>) -> bool {
        result.inspect_err(|error| self.run.events.warn(format!("{error:#}"), None)).is_ok()
    }

    /// Leaves a cluster that others run as it was, or says what of ours stays.
    fn leave(&self, guest: &SharedRun, keep: bool, lease: &Lease) -> bool {
        guest.end();
        let Some(Up { cluster, .. }) = self.up.get() else { return true };
        if keep {
            let names: Vec<String> = guest.own.namespaces().into_values().collect();
            let (suite, names) = (&self.suite.name, names.join(", "));
            self.run.events.note(format!(
                "kept on `{}`: {names}; `cargo xtask cluster down {suite}` deletes them, and so do later \
                 runs once their time is over",
                cluster.name
            ));
            return true;
        }
        let removed = deploy::remove(&guest.own, &cluster.kubectl().despite_stop());
        self.warned(match removed {
            Ok(()) if lease.is_last() => cluster::forget(self.wanted, &self.workspace.paths),
            removed => removed,
        })
    }

    fn tell_kept(&self, cluster: &Cluster) {
        let (suite, kubeconfig) = (&self.suite.name, cluster.kubeconfig.display());
        self.run.events.note(format!(
            "cluster `{}` is kept: KUBECONFIG={kubeconfig} kubectl …; the next run uses it again, \
             `cargo xtask cluster down {suite}` deletes it",
            cluster.name
        ));
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut RunCounters)) {
        change(&mut lock(&self.tally));
    }
}

/// Whether an error only says that the run was being stopped.
fn is_echo(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<stop::Stopped>()
            || cause
                .downcast_ref::<crate::process::Failure>()
                .is_some_and(crate::process::Failure::stopped)
            || matches!(
                cause.downcast_ref::<crate::engine::BuildError>(),
                Some(crate::engine::BuildError::Stopped)
            )
    })
}
