//! The half of a run that only a suite has: a cluster, its steps, its tests.
//!
//! [`step`] applies and waits, [`last_look`] looks at all of it before and after the tests.
//! [`warm_probe`] looks at a kept cluster while the plan is made; [`shared_cluster`] is for one
//! that others run.

pub(crate) mod last_look;
pub(crate) mod render;
pub(crate) mod shared_cluster;
pub(crate) mod step;
pub(crate) mod warm_probe;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;

use crate::cli;
use crate::cluster::{self, Cluster, Lease};
use crate::config::{self, Suite};
use crate::deploy::{self, Kept, Rendered, Snapshots, Workload};
use crate::error::{ErrorExt as _, Exit};
use crate::process::stop;
use crate::run::build::{ImageHandle, RunContext};
use crate::run::estimate;
use crate::run::execute::is_echo;
use crate::run::graph::Task;
use crate::run::plan::SuitePlan;
use crate::run::suite::shared_cluster::SharedRun;
use crate::run::suite::warm_probe::WarmProbe;
use crate::session::Workspace;
use crate::suite;

/// A suite on its cluster.
pub(crate) struct SuiteRun<'a> {
    pub(crate) context: RunContext<'a>,
    /// On a shared cluster, with the run's own names.
    pub(crate) suite: Suite,
    pub(crate) rendered: BTreeMap<String, Rendered>,
    /// None on a cluster of our own.
    pub(crate) shared: Option<SharedRun<'a>>,
    args: &'a cli::E2e,
    wanted: &'a config::Cluster,
    probe: Mutex<WarmProbe>,
    lease: OnceLock<Lease>,
    up: OnceLock<Up>,
    is_diagnosed: AtomicBool,
    pub(crate) progress: Mutex<Progress>,
    /// Held while a step is applied again for what its pods read.
    pub(crate) following: Mutex<()>,
}

/// A cluster that is up, and what it is known to hold.
pub(crate) struct Up {
    pub(crate) cluster: Cluster,
    pub(crate) kept: Kept,
    pub(crate) looks: Snapshots,
}

/// How far the suite has come.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) loaded: usize,
    pub(crate) tests: suite::Counts,
    /// Steps that changed something on the cluster.
    pub(crate) changed: BTreeSet<String>,
    /// By step: the workloads it applied.
    pub(crate) workloads: BTreeMap<String, Vec<Workload>>,
    /// Steps that have ended well.
    pub(crate) ended: BTreeSet<String>,
}

impl<'a> SuiteRun<'a> {
    pub(crate) fn of(
        context: RunContext<'a>,
        suite: &Suite,
        args: &'a cli::E2e,
        probe: WarmProbe,
    ) -> Result<Self> {
        let RunContext { workspace, run, built_images, .. } = context;
        let wanted = workspace.config.clusters.get(&suite.cluster);
        let wanted = wanted.with_context(|| format!("there is no cluster `{}`", suite.cluster))?;
        let (root, tags) = (&workspace.config.root, built_images.tags());
        let manifests = run.paths.folder().join("manifests");
        let mut rendered = render::render_all(suite, root, &tags, None, &manifests)?;
        let shared = SharedRun::of(context, wanted, suite, &rendered)?;
        let suite = shared.as_ref().map_or_else(|| suite.clone(), |shared| shared.own.adapt(suite));
        if let Some(shared) = &shared {
            rendered = render::render_all(&suite, root, &tags, Some(&shared.own), &manifests)?;
        }
        for twice in render::applied_twice(&suite, &rendered) {
            run.events.warn(twice, None);
        }
        let (probe, progress, following) = (Mutex::new(probe), Mutex::default(), Mutex::default());
        let (lease, up) = (OnceLock::new(), OnceLock::new());
        Ok(Self {
            context,
            suite,
            rendered,
            shared,
            args,
            wanted,
            probe,
            lease,
            up,
            is_diagnosed: AtomicBool::new(false),
            progress,
            following,
        })
    }

    /// What the plan of the run depends on.
    pub(crate) fn plan(&self) -> SuitePlan<'_> {
        SuitePlan {
            suite: &self.suite,
            rendered: &self.rendered,
            tests: self.suite.test.is_some() && !self.args.no_test,
            shard: self.args.shard,
            args: &self.args.args,
        }
    }

    /// Waits for the cluster to be ours, or shares it.
    pub(crate) fn begin(&self) -> Result<()> {
        let RunContext { workspace, run, .. } = self.context;
        let lease = self.probe.lock().lease.take();
        let lease = match lease {
            Some(lease) => lease,
            None => workspace.target(self.wanted, None).lease(&run.events)?,
        };
        // Only this sets it, once.
        self.lease.set(lease).map_err(|_| anyhow!("the run began twice"))
    }

    /// Does a task that is none of an image's alone.
    pub(crate) fn execute(&self, task: &Task) -> Result<()> {
        let run = self.context.run;
        match task {
            Task::Publish(image) => self.publish(image),
            Task::Cluster => run.step("cluster", |how| Some(*how), || self.cluster()).map(drop),
            Task::Load(images) => self.load(images).map_err(|error| self.explained(error, &[])),
            Task::Step(name) => {
                let images = self.rendered.get(name).map_or(&[][..], |step| &step.images);
                let step = || self.step(name).map_err(|error| self.explained(error, images));
                run.step(name, |how| Some(*how), step).map(drop)
            }
            Task::Test => self.test().map_err(|error| self.explained(error, &[])),
            Task::Build(_) | Task::Push(_) => Ok(()),
        }
    }

    /// Ends well what has no tests.
    pub(crate) fn end_untested(&self) -> Result<()> {
        if self.plan().tests { Ok(()) } else { self.settle() }
    }

    /// The error, after what is wrong with the cluster itself: nobody seeks a stopped node behind a
    /// refused connection, or an image that was removed behind a registry that does not answer.
    fn explained(&self, error: anyhow::Error, images: &[String]) -> anyhow::Error {
        let Some(Up { cluster, .. }) = self.up.get().filter(|_| !is_echo(&error)) else {
            return error;
        };
        let engine = &self.context.workspace.engine;
        let ailments = cluster::ailments(cluster, &engine.tool(), engine.name());
        if !ailments.is_empty() {
            return error.context(ailments.join("; ")).exit(Exit::Environment);
        }
        let images = images.iter().filter_map(|name| {
            let ImageHandle { tag, id, .. } = self.context.built_images.get(name).ok()?;
            Some(cluster::Image { tag, id })
        });
        let lost = cluster::lost(cluster, &images.collect::<Vec<_>>(), &engine.tool());
        if lost.is_empty() { error } else { error.context(lost.join("; ")) }
    }

    /// Writes down how the cluster is, for whoever looks into a failure; once, at the first.
    pub(crate) fn diagnose(&self) {
        let Some(up) = self.up.get() else { return };
        if self.is_diagnosed.swap(true, Ordering::AcqRel) {
            return;
        }
        let folder = self.context.run.paths.diagnostics();
        let engine = self.context.workspace.engine.tool();
        let only =
            self.shared.as_ref().map(|shared| shared.own.namespaces().into_values().collect());
        let only: Option<Vec<String>> = only;
        let of = (&*up.cluster.nodes, only.as_deref());
        deploy::diagnose(&up.looks, &engine, of, &folder);
        self.context.run.events.note(format!("diagnostics are in {}", folder.display()));
    }

    fn publish(&self, image: &str) -> Result<()> {
        let handle = self.context.built_images.get(image)?;
        let shared = self.shared.as_ref().context("the cluster is ours")?;
        shared.publish(self.context, image, &handle)
    }

    fn cluster(&self) -> Result<&'static str> {
        let log = self.context.run.paths.log("cluster");
        let standing = self.probe.lock().standing.take();
        let (cluster, kept) = standing.map_or_else(|| self.bring_up(&log), Ok)?;
        let rendered: Vec<&Rendered> = self.rendered.values().collect();
        kept.expect(&rendered)?;
        if !cluster.is_fresh() {
            kept.reset(&rendered, &cluster.kubectl(), &log)?;
        }
        let looks = Snapshots::new(cluster.kubectl(), &self.context.run.paths.diagnostics());
        let how = if cluster.is_fresh() { estimate::MAKE } else { estimate::REUSE };
        // Only this node sets it, once.
        let set = self.up.set(Up { cluster, kept, looks });
        set.map(|()| how).map_err(|_| anyhow!("the cluster came up twice"))
    }

    fn bring_up(&self, log: &Path) -> Result<(Cluster, Kept)> {
        let Workspace { paths, .. } = self.context.workspace;
        let events = &self.context.run.events;
        let target = self.context.workspace.target(self.wanted, Some(&self.suite));
        let cluster = target.up(log, events)?;
        if let Some(existing) = &self.wanted.existing {
            if let Some(shared) = &self.shared {
                shared.begin(existing, &cluster.kubectl(), events);
            }
            return Ok((
                cluster,
                Kept::open(&self.context.run.paths.applied(), &paths.digest_key()),
            ));
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

    fn load(&self, images: &[String]) -> Result<()> {
        let RunContext { cache, built_images, .. } = self.context;
        let ready: Vec<ImageHandle> =
            images.iter().map(|name| built_images.get(name)).collect::<Result<_>>()?;
        let pulls = cache.and_then(|cache| cache.pulls(ready.iter()));
        let wanted =
            ready.into_iter().map(|ImageHandle { tag, id, .. }| cluster::Image { tag, id });
        let wanted: Vec<cluster::Image> = wanted.collect();
        let engine = &self.context.workspace.engine;
        let save = |tags: &[String]| engine.save(tags);
        let log = self.context.run.paths.log("load");
        let cluster = &self.up()?.cluster;
        let (ways, events) = ((save, pulls.as_ref()), &self.context.run.events);
        let loaded = cluster::load(cluster, &wanted, &engine.tool(), ways, &log, events)?;
        self.progress.lock().loaded += loaded.sent.len();
        Ok(())
    }

    fn test(&self) -> Result<()> {
        let Some(test) = &self.suite.test else { return Ok(()) };
        let log = self.context.run.paths.log("test");
        let args = &self.args.args;
        let shard = self.args.shard;
        let (settled, before) = thread::scope(|threads| {
            let settled = threads.spawn(|| self.settle());
            let before = self.last_look();
            (settled.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))), before)
        });
        settled?;
        let before = before?;
        let outcome = self.with_environment(|&environment| {
            let given = suite::Given { test, environment, shard, args, log: &log };
            suite::run(&given, &self.context.run.events)
        })?;
        self.progress.lock().tests = outcome.counts;
        let restarts = self.restarts(&before);
        let failed = || format!("suite `{}` failed", self.suite.name);
        match (outcome.failure, outcome.fault) {
            (None, None) => restarts,
            (Some(failure), _) => Err(failure).with_context(failed),
            (None, Some(fault)) => Err(fault).with_context(failed),
        }
    }

    /// What there is now is what the next run on this cluster finds unchanged, or not.
    fn settle(&self) -> Result<()> {
        let Up { cluster, kept, .. } = self.up()?;
        if !self.args.keep && !self.args.keep_on_failure || self.shared.is_some() {
            return Ok(());
        }
        let mut steps = self.suite.steps.iter();
        let by_hooks = steps.any(|step| matches!(step.action, config::Action::Run(_)));
        kept.settle(&cluster.kubectl(), by_hooks)
    }

    /// Takes down what the run made, unless it is to be kept; then it is said how to go on from
    /// there. False if something is left that should not be.
    pub(crate) fn take_down(&self, ok: bool) -> bool {
        let failed = !ok && stop::signal().is_none();
        let keep = self.args.keep || (self.args.keep_on_failure && failed);
        if let Some(shared) = &self.shared {
            return self.leave(shared, keep);
        }
        if keep {
            if failed && let Some(up) = self.up.get() {
                self.tell_kept(&up.cluster);
            }
            return true;
        }
        let log = self.context.run.paths.log("cluster");
        self.warned(self.context.workspace.target(self.wanted, None).down(&log))
    }

    /// Whether it went well; if not, that is said, and the run is what it was.
    fn warned(&self, result: Result<()>) -> bool {
        result.inspect_err(|error| self.context.run.events.warn_of(error)).is_ok()
    }

    /// Leaves a cluster that others run as it was, or says what of ours stays.
    fn leave(&self, shared: &SharedRun, keep: bool) -> bool {
        shared.end();
        let Some(Up { cluster, .. }) = self.up.get() else { return true };
        if keep {
            let names: Vec<String> = shared.own.namespaces().into_values().collect();
            let (suite, names) = (&self.suite.name, names.join(", "));
            self.context.run.events.note(format!(
                "kept on `{}`: {names}; `cargo xtask cluster down {suite}` deletes them, and so do later \
                 runs once their time is over",
                cluster.name
            ));
            return true;
        }
        let log = self.context.run.paths.log("cluster");
        let removed = deploy::remove(&shared.own, &cluster.kubectl().despite_stop());
        self.warned(match removed {
            Ok(()) if self.lease.get().is_some_and(Lease::is_last) => {
                self.context.workspace.target(self.wanted, None).down(&log)
            }
            removed => removed,
        })
    }

    fn tell_kept(&self, cluster: &Cluster) {
        let (suite, kubeconfig) = (&self.suite.name, cluster.kubeconfig.display());
        self.context.run.events.note(format!(
            "cluster `{}` is kept: KUBECONFIG={kubeconfig} kubectl …; the next run uses it again, \
             `cargo xtask cluster down {suite}` deletes it",
            cluster.name
        ));
    }
}
