//! `cargo xtask e2e SUITE`: the whole run as one graph.
//!
//! ```text
//! build(image) ──► load(image) ──► step ──► step ──► test
//! cluster ─────────┘  images already there are loaded in one stream
//! ```
//!
//! Builds and the cluster start together. An image is loaded as soon as it and the cluster are there; a
//! step is applied when what it needs is done and the images its manifests name are loaded. A failed
//! step ends the run at once, with diagnostics written before anything is taken down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use super::builds::{self, Common, Made, Origin, Ready, Shelf};
use super::cache::Cache;
use super::memory::{self, Memory};
use super::survey::{self, Survey};
use super::{Run, Session, Workspace};
use crate::cli;
use crate::cluster::{self, Cluster};
use crate::config::{self, Action as StepAction, Config, Step, Suite};
use crate::deploy::{self, Kept, Looks, Rendered};
use crate::event::{Event, Summary, seconds};
use crate::exit::{Exit, WithExit as _};
use crate::plan::{self, Action};
use crate::process::{Tool, stop};
use crate::schedule::{self, Graph, Habit, Node, NodeId, Outcome, Permit, State};
use crate::suite;
use crate::ui;

/// Seconds a node is taken to need before one was seen.
const CLUSTER_SECONDS: f64 = 25.0;
const LOAD_SECONDS: f64 = 3.0;
const STEP_SECONDS: f64 = 6.0;

pub(super) fn run(session: &Session, args: &cli::E2e) -> Result<Exit> {
    if args.bootstrap {
        let exit = super::doctor::run(session, true)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    whole(session, args).map(|(exit, _)| exit)
}

/// The run, and what it came to.
pub(super) fn whole(session: &Session, args: &cli::E2e) -> Result<(Exit, Summary)> {
    let started = Instant::now();
    let workspace = session.workspace()?;
    let suite = suite(&workspace.config, &args.suite)?.clone();
    let again = || survey::survey(&workspace, &suite.images, args.build.force);
    let survey = again()?;
    if args.require_prebuilt {
        require_prebuilt(&survey)?;
    }
    let wanted = workspace.config.clusters.get(&suite.cluster);
    let memory = Memory::look(&workspace, args.build.jobs, wanted)?;
    let cache = Cache::of(&workspace, args.build);
    if cache.is_none() {
        memory.refuse_all(&survey)?;
    }
    let run = session.begin(&workspace.paths)?;
    let survey = builds::fetch_bases(&workspace, &run, survey, args.build.pull, again)?;
    super::opening::open(&workspace, &run, &survey)?;
    let cache = cache.as_ref();
    let (workspace, run, survey, memory) = (&workspace, &run, &survey, &memory);
    let common = Common { workspace, run, survey, memory, cache };
    let e2e = E2e::new(common, &suite, args)?;
    let summary = e2e.run(started)?;
    let exit = if summary.ok { Exit::Done } else { e2e.exit() };
    run.events.emit(Event::Summary(summary.clone()));
    Ok((exit, summary))
}

/// The suite called `name`.
pub(super) fn suite<'a>(config: &'a Config, name: &str) -> Result<&'a Suite> {
    config.suites.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.suites.keys().map(String::as_str).collect();
        let message = format!("there is no suite `{name}` in `{}`", config.file.display());
        anyhow!("{message}\nhint: it has {}", known.join(", ")).exit(Exit::Usage)
    })
}

/// The steps of a suite as a plan shows them.
pub(super) fn planned_steps(suite: &Suite) -> Vec<plan::Step> {
    let step = |step: &Step| plan::Step {
        name: step.name.clone(),
        needs: step.needs.clone(),
        seconds: None,
    };
    suite.steps.iter().map(step).collect()
}

fn require_prebuilt(survey: &Survey) -> Result<()> {
    let stale = survey.images.iter().filter(|one| one.planned.action == Action::Build);
    let lines: Vec<String> = stale
        .map(|one| format!("  {}: {}", one.planned.name, ui::text::some(&one.planned.reasons, 20)))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = format!("failed to find every image prebuilt; to be built:\n{}", lines.join("\n"));
    Err(anyhow!("{what}\nhint: cargo xtask images --prebuild")).exit(Exit::Failed)
}

/// One piece of work of the run.
enum Work {
    /// Index into the survey's images.
    Build(usize),
    Push(usize),
    Cluster,
    /// Indices into the survey's images, sent in one stream.
    Load(Vec<usize>),
    /// Index into the suite's steps.
    Step(usize),
    Test,
}

/// Everything the nodes of the run share.
struct E2e<'a> {
    workspace: &'a Workspace,
    run: &'a Run,
    survey: &'a Survey,
    memory: &'a Memory,
    cache: Option<&'a Cache>,
    suite: &'a Suite,
    args: &'a cli::E2e,
    wanted: &'a config::Cluster,
    work: Vec<Work>,
    graph: Graph,
    /// By step, with the planned tags.
    rendered: Vec<Option<Rendered>>,
    shelf: Shelf,
    up: OnceLock<Up>,
    tally: Mutex<Tally>,
}

/// A cluster that is up, and what it is known to hold.
struct Up {
    cluster: Cluster,
    kept: Kept,
    looks: Looks,
}

#[derive(Default)]
struct Tally {
    loaded: usize,
    passed: u64,
    failed: u64,
    /// Steps that changed something on the cluster.
    changed: BTreeSet<String>,
    /// Steps that have ended well.
    ended: BTreeSet<String>,
    exit: Option<Exit>,
}

impl<'a> E2e<'a> {
    fn new(common: Common<'a>, suite: &'a Suite, args: &'a cli::E2e) -> Result<Self> {
        let Common { workspace, run, survey, memory, cache } = common;
        let wanted = workspace.config.clusters.get(&suite.cluster);
        let wanted = wanted.with_context(|| format!("there is no cluster `{}`", suite.cluster))?;
        let shelf = Shelf::default();
        for one in &survey.images {
            let id = one.held.as_ref().map(|held| held.id.clone()).unwrap_or_default();
            shelf.put(
                &one.image.name,
                Ready { tag: one.planned.tag.clone(), id, origin: Origin::Kept },
            );
        }
        let rendered = render_all(suite, &shelf.tags(), &run.paths.folder().join("manifests"))?;
        let mut e2e = Self {
            workspace,
            run,
            survey,
            memory,
            cache,
            suite,
            args,
            wanted,
            work: Vec::new(),
            graph: Graph::default(),
            rendered,
            shelf,
            up: OnceLock::new(),
            tally: Mutex::default(),
        };
        e2e.lay_out();
        Ok(e2e)
    }

    /// Makes the graph: edges only where something is really needed.
    fn lay_out(&mut self) {
        let cluster = self.add(Work::Cluster, waits("cluster", CLUSTER_SECONDS));
        let mut loads: BTreeMap<String, NodeId> = BTreeMap::new();
        let mut there = Vec::new();
        for (at, one) in self.survey.images.iter().enumerate() {
            if one.planned.action == Action::Skip {
                there.push(at);
                continue;
            }
            let build = self.add(Work::Build(at), builds::node(one, self.cache));
            let push = self.cache.and_then(|cache| cache.push_node(&one.image.name, build));
            push.map(|push| self.add(Work::Push(at), push));
            let node = waits(&format!("load {}", one.image.name), LOAD_SECONDS);
            let load = self.add(Work::Load(vec![at]), Node { needs: vec![cluster, build], ..node });
            loads.insert(one.image.name.clone(), load);
        }
        if !there.is_empty() {
            let node = Node { needs: vec![cluster], ..waits("load", LOAD_SECONDS) };
            let names = there.iter().map(|at| self.survey.images[*at].image.name.clone());
            let names: Vec<String> = names.collect();
            let load = self.add(Work::Load(there), node);
            loads.extend(names.into_iter().map(|name| (name, load)));
        }
        let steps = self.lay_out_steps(cluster, &loads);
        if self.suite.test.is_some() && !self.args.no_test {
            let needs = steps.into_iter().chain([cluster]).collect();
            self.add(Work::Test, Node { needs, ..waits("test", 0.0) });
        }
    }

    fn lay_out_steps(&mut self, cluster: NodeId, loads: &BTreeMap<String, NodeId>) -> Vec<NodeId> {
        let mut nodes: BTreeMap<&str, NodeId> = BTreeMap::new();
        for at in in_order(&self.suite.steps) {
            let step = &self.suite.steps[at];
            let rendered = self.rendered[at].iter().flat_map(|rendered| &rendered.images);
            let images = rendered.chain(&step.images).filter_map(|image| loads.get(image));
            let before = step.needs.iter().filter_map(|need| nodes.get(&**need));
            let mut needs: Vec<NodeId> = images.chain(before).copied().chain([cluster]).collect();
            needs.sort_unstable();
            needs.dedup();
            let node = self.add(Work::Step(at), Node { needs, ..waits(&step.name, STEP_SECONDS) });
            nodes.insert(&step.name, node);
        }
        nodes.into_values().collect()
    }

    fn add(&mut self, work: Work, node: Node) -> NodeId {
        self.work.push(work);
        self.graph.add(node)
    }

    fn run(&self, started: Instant) -> Result<Summary> {
        self.announce();
        let _lease = cluster::hold(&self.wanted.name, &self.workspace.paths, &self.run.events)?;
        self.memory.begin(self.workspace, self.run, self.survey);
        let take = |name: &str, bytes| self.memory.take(name, bytes);
        let fail_fast = self.args.build.fail_fast;
        let habit = Habit { fail_fast, stopped: &stop::requested, take: &take };
        let work = |node, permit: &Permit| self.do_one(node, permit);
        let waiting = memory::tell_waiting(self.run, &self.graph);
        let ended = schedule::run(&self.graph, self.memory.limits, &habit, work, waiting)?;
        let ok = ended.states.iter().all(|state| *state == State::Done);
        self.take_down();
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let to_build = self.survey.images.iter().filter(|one| one.planned.action == Action::Build);
        Ok(Summary {
            ok,
            built: self.shelf.count(Origin::Built),
            skipped: self.survey.images.len() - to_build.count(),
            fetched: self.shelf.count(Origin::Fetched),
            pushed: self.cache.map_or(0, Cache::pushed),
            loaded: tally.loaded,
            passed: tally.passed,
            failed: tally.failed,
            seconds: seconds(started.elapsed()),
        })
    }

    fn announce(&self) {
        let images = self.survey.images.iter().map(|one| builds::told(&one.planned)).collect();
        let steps = self.suite.steps.iter().map(|step| step.name.clone()).collect();
        self.run.events.emit(Event::Plan {
            images,
            steps,
            budget: Some(self.memory.budget.to_string()),
        });
    }

    /// What the first failure leads to.
    fn exit(&self) -> Exit {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.exit.unwrap_or(Exit::Failed)
    }

    fn do_one(&self, node: NodeId, permit: &Permit) -> Outcome<()> {
        let name = &self.graph.nodes[node].name;
        let result = match &self.work[node] {
            Work::Build(at) => match self.build(*at, permit) {
                Ok(Made::Again(memory)) => return Outcome::Again(memory),
                Ok(Made::Missed) => return Outcome::GoOn,
                made => made.map(drop),
            },
            Work::Push(at) => self.push(*at),
            Work::Cluster => self.step_events(name, || self.cluster()),
            Work::Load(images) => self.load(images),
            Work::Step(at) => self.step_events(name, || self.step(*at)),
            Work::Test => self.test(),
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => {
                self.failed(&self.work[node], &error);
                Outcome::Failed(())
            }
        }
    }

    /// Says what went wrong while it is fresh. Siblings of a failed build go on, since what they make
    /// counts; after any other failure nothing else of the run does.
    fn failed(&self, work: &Work, error: &anyhow::Error) {
        if stop::requested() && is_echo(error) {
            return;
        }
        ui::error(error);
        {
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.exit.get_or_insert(crate::exit::code(error));
        }
        if !matches!(work, Work::Build(_)) {
            stop::cancel();
        }
        self.diagnose();
    }

    fn diagnose(&self) {
        let Some(up) = self.up.get() else { return };
        let folder = self.run.paths.diagnostics();
        let engine = self.workspace.engine.tool();
        deploy::diagnose(&up.looks, &engine, &up.cluster.nodes, &folder);
        self.run.events.note(format!("diagnostics are in {}", folder.display()));
    }

    fn step_events(&self, step: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        self.run.events.emit(Event::StepStarted { step: step.to_owned() });
        let result = work();
        self.run.events.emit(Event::StepFinished {
            step: step.to_owned(),
            ok: result.is_ok(),
            seconds: seconds(started.elapsed()),
            error: result.as_ref().err().map(builds::first_line),
        });
        result
    }

    fn common(&self) -> Common<'a> {
        let Self { workspace, run, survey, memory, cache, .. } = *self;
        Common { workspace, run, survey, memory, cache }
    }

    fn build(&self, at: usize, permit: &Permit) -> Result<Made> {
        let one = &self.survey.images[at];
        let made = builds::make(self.common(), one, permit)?;
        if let Made::Ready(ready) = &made {
            self.shelf.put(&one.image.name, ready.clone());
        }
        Ok(made)
    }

    fn push(&self, at: usize) -> Result<()> {
        let name = &self.survey.images[at].image.name;
        let ready = self.shelf.get(name)?;
        if let Some(cache) = self.cache {
            cache.push(self.common(), name, &ready);
        }
        Ok(())
    }

    fn cluster(&self) -> Result<()> {
        let ports = self.workspace.config.suite_ports(self.suite);
        let log = self.run.paths.log("cluster");
        let provider = self.workspace.engine.name();
        let paths = &self.workspace.paths;
        let cluster = cluster::up(self.wanted, &ports, provider, paths, &log, &self.run.events)?;
        let mut kept = Kept::open(&paths.applied(&self.wanted.name));
        if !cluster.made {
            kept.look(&cluster.kubectl());
            let rendered: Vec<&Rendered> = self.rendered.iter().flatten().collect();
            kept.reset(&rendered, &cluster.kubectl(), &log)?;
        }
        let looks = Looks::new(cluster.kubectl(), &self.run.paths.diagnostics());
        // Only this node sets it, once.
        self.up.set(Up { cluster, kept, looks }).map_err(|_| anyhow!("the cluster came up twice"))
    }

    fn up(&self) -> Result<&Up> {
        self.up.get().context("the cluster is not up")
    }

    fn load(&self, images: &[usize]) -> Result<()> {
        let mut wanted = Vec::new();
        for at in images {
            let Ready { tag, id, .. } = self.shelf.get(&self.survey.images[*at].image.name)?;
            wanted.push(cluster::Image { tag, id });
        }
        let engine = &self.workspace.engine;
        let save = |tags: &[String]| engine.save(tags);
        let log = self.run.paths.log("load");
        let cluster = &self.up()?.cluster;
        let loaded = cluster::load(cluster, &wanted, &engine.tool(), save, &log, &self.run.events)?;
        self.count(|tally| tally.loaded += loaded.sent.len());
        Ok(())
    }

    fn step(&self, at: usize) -> Result<()> {
        let step = &self.suite.steps[at];
        match &step.action {
            StepAction::Apply(manifests) => self.apply(at, step, manifests),
            StepAction::Run(command) => self.run_command(step, command),
        }?;
        self.count(|tally| {
            tally.ended.insert(step.name.clone());
        });
        Ok(())
    }

    /// Whether a step that does not itself wait for this one has yet to end.
    fn others_coming(&self, step: &Step) -> bool {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after: BTreeSet<&str> = BTreeSet::from([step.name.as_str()]);
        for at in in_order(&self.suite.steps) {
            let other = &self.suite.steps[at];
            if other.needs.iter().any(|need| after.contains(need.as_str())) {
                after.insert(&other.name);
            }
        }
        let mut steps = self.suite.steps.iter().map(|step| step.name.as_str());
        steps.any(|name| !after.contains(name) && !tally.ended.contains(name))
    }

    fn apply(&self, at: usize, step: &Step, manifests: &Path) -> Result<()> {
        let Up { cluster, kept, looks } = self.up()?;
        let rendered = self.rendered_now(at, step, manifests)?;
        let log = self.run.paths.log(&format!("step-{}", step.name));
        let unchanged = kept.is_applied(&rendered) && !self.changed_before(step);
        if !unchanged {
            // A Job of a cluster just made has not run yet.
            let rerun = !cluster.made && self.changed_before(step);
            let applied = deploy::apply(&rendered, rerun, &cluster.kubectl(), step.timeout, &log)?;
            kept.remember(&rendered, &applied)?;
            self.count(|tally| {
                tally.changed.insert(step.name.clone());
            });
        }
        let addresses = self.addresses();
        for wait in &step.waits {
            let namespace = namespace(step, &rendered, &wait.on);
            if unchanged && kept.is_ready(&wait.on, namespace) {
                continue;
            }
            let workloads = &rendered.workloads();
            let target = deploy::Target {
                step: &step.name,
                wait,
                namespace,
                workloads,
                addresses: &addresses,
                others_coming: &|| self.others_coming(step),
            };
            deploy::wait(&target, looks, &self.run.events)?;
        }
        Ok(())
    }

    /// The step's manifests with the tags of the images as they are now: a build whose files changed
    /// since the plan has made another key.
    fn rendered_now(&self, at: usize, step: &Step, manifests: &Path) -> Result<Rendered> {
        let tags = self.shelf.tags();
        let moved = |one: &&survey::Surveyed| tags.get(&one.image.name) != Some(&one.planned.tag);
        match &self.rendered[at] {
            Some(rendered) if !self.survey.images.iter().any(|one| moved(&one)) => {
                Ok(rendered.clone())
            }
            _ => render(step, manifests, &tags, &self.run.paths.folder().join("manifests")),
        }
    }

    fn changed_before(&self, step: &Step) -> bool {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        step.needs.iter().any(|need| tally.changed.contains(need))
    }

    fn run_command(&self, step: &Step, command: &[String]) -> Result<()> {
        let (program, args) = command.split_first().context("the command is empty")?;
        let mut tool = Tool::new(program)
            .args(args)
            .folder(&self.workspace.config.root)
            .env("KUBECONFIG", &self.up()?.cluster.kubeconfig)
            .log(self.run.paths.log(&format!("step-{}", step.name)))
            .limit(step.timeout);
        for (name, tag) in self.shelf.tags() {
            tool = tool.env(format!("{}_IMAGE", name.to_uppercase().replace('-', "_")), tag);
        }
        tool.run().with_context(|| format!("failed to run step `{}`", step.name))?;
        Ok(())
    }

    fn addresses(&self) -> BTreeMap<String, String> {
        let ports = self.workspace.config.suite_ports(self.suite);
        ports.iter().map(|port| (port.name.clone(), format!("127.0.0.1:{}", port.host))).collect()
    }

    fn test(&self) -> Result<()> {
        let Some(test) = &self.suite.test else { return Ok(()) };
        let ports = self.workspace.config.suite_ports(self.suite);
        let log = self.run.paths.log("test");
        let given = suite::Given {
            suite: &self.suite.name,
            test,
            root: &self.workspace.config.root,
            kubeconfig: &self.up()?.cluster.kubeconfig,
            artifacts: &self.run.paths.artifacts(),
            ports: &ports,
            args: &self.args.args,
            log: &log,
        };
        let outcome = suite::run(&given, &self.run.events)?;
        self.count(|tally| {
            tally.passed = outcome.counts.passed;
            tally.failed = outcome.counts.failed;
        });
        match outcome.failure {
            None => Ok(()),
            Some(failure) => {
                Err(failure).with_context(|| format!("suite `{}` failed", self.suite.name))
            }
        }
    }

    /// Takes the cluster down unless it is to be kept: only ever one that is ours.
    fn take_down(&self) {
        if self.args.keep {
            return;
        }
        let log = self.run.paths.log("cluster");
        let provider = self.workspace.engine.name();
        let down = cluster::down(&self.wanted.name, provider, &self.workspace.paths, &log);
        if let Err(error) = down {
            self.run.events.warn(format!("{error:#}"), None);
        }
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A node that waits rather than computes.
fn waits(name: &str, seconds: f64) -> Node {
    Node { name: name.to_owned(), seconds, ..Node::default() }
}

/// The steps so that each stands after what it needs (the configuration has no cycles).
fn in_order(steps: &[Step]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < steps.len() {
        let placed: BTreeSet<&str> = order.iter().map(|at| &*steps[*at].name).collect();
        let free = |at: &usize| {
            !order.contains(at) && steps[*at].needs.iter().all(|need| placed.contains(&**need))
        };
        match (0..steps.len()).find(free) {
            Some(at) => order.push(at),
            None => break,
        }
    }
    order
}

fn render_all(
    suite: &Suite,
    tags: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Vec<Option<Rendered>>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = suite
            .steps
            .iter()
            .map(|step| {
                scope.spawn(move || match &step.action {
                    StepAction::Apply(manifests) => render(step, manifests, tags, folder).map(Some),
                    StepAction::Run(_) => Ok(None),
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a rendering thread panicked"))?);
        joined.collect()
    })
}

fn render(
    step: &Step,
    manifests: &Path,
    tags: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<Rendered> {
    deploy::render(&step.name, manifests, tags, &Tool::new("kubectl"), folder)
}

/// Where what is waited for lives: as the step says, else as its manifests do.
fn namespace<'a>(step: &'a Step, rendered: &'a Rendered, wait: &config::WaitFor) -> &'a str {
    let object = match wait {
        config::WaitFor::Rollout(object) | config::WaitFor::Condition { object, .. } => object,
        config::WaitFor::Job(name) | config::WaitFor::Endpoint(name) => name,
        config::WaitFor::Http { .. } | config::WaitFor::Tcp(_) => "",
    };
    step.namespace.as_deref().or_else(|| rendered.namespace_of(object)).unwrap_or("default")
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
