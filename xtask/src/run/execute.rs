//! The one run: evaluate, plan, execute, summary. `images` is a request without a suite.
//!
//! A failed build lets its siblings go on, since what they make counts. After any other failure
//! nothing of the run goes on; diagnostics are written before anything is taken down.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use parking_lot::Mutex;

use crate::cli;
use crate::config::Suite;
use crate::engine::BuildError;
use crate::error::{self, ErrorExt as _, Exit};
use crate::event::{Event, PlannedRun, Summary, seconds};
use crate::plan::Action;
use crate::process::{Failure, stop};
use crate::run::build::{self, BuildOutcome, BuiltImages, Origin, RunContext};
use crate::run::cache::Cache;
use crate::run::decision::decision;
use crate::run::evaluate::{self, Evaluation};
use crate::run::graph::{RunGraph, Task};
use crate::run::memory::{self, Memory};
use crate::run::suite::SuiteRun;
use crate::run::suite::warm_probe::WarmProbe;
use crate::run::{bundle, plan, startup_cleanup};
use crate::schedule::{self, ExecOptions, NodeId, Outcome, Permit, State};
use crate::session::{Session, Workspace};
use crate::ui;

/// What a run is to do.
pub(crate) struct RunRequest<'a> {
    /// Names of the images to bring up to date.
    pub(crate) images: &'a [String],
    pub(crate) build: cli::Build,
    /// The suite to deploy and test, with its command line.
    pub(crate) suite: Option<(&'a Suite, &'a cli::E2e)>,
    /// The file to write the images to.
    pub(crate) bundle: Option<&'a Path>,
}

/// What a run came to.
pub(crate) struct RunSummary {
    pub(crate) exit: Exit,
    pub(crate) summary: Summary,
}

/// Does the run; its events tell everything on the way.
pub(crate) fn execute(
    session: &Session,
    workspace: &Workspace,
    request: &RunRequest,
) -> Result<RunSummary> {
    let started = Instant::now();
    let _scope = stop::scope();
    let again = || evaluate::evaluate(workspace, request.images, request.build.force);
    let (evaluation, probe) = thread::scope(|threads| {
        let look = |(suite, _): (&Suite, _)| WarmProbe::look(workspace, suite);
        let probe = request.suite.map(|suite| threads.spawn(move || look(suite)));
        (again(), probe.and_then(|probe| probe.join().ok()).unwrap_or_default())
    });
    let evaluation = evaluation?;
    request.require_prebuilt(&evaluation)?;
    let cluster =
        request.suite.and_then(|(suite, _)| workspace.config.clusters.get(&suite.cluster));
    let mut memory = Memory::look(workspace, request.build.jobs, cluster)?;
    memory.call(workspace, request.build.jobs, &evaluation);
    let cache = Cache::of(workspace, request.build);
    match (&cache, request.suite) {
        (Some(_), _) => {}
        (None, Some(_)) => memory.refuse_any(&evaluation)?,
        (None, None) => memory.refuse_all(&evaluation)?,
    }
    let run = session.begin(&workspace.paths)?;
    let evaluation = build::fetch_bases(workspace, &run, evaluation, request.build.pull, again)?;
    // A base that moved makes images stale that were not.
    request.require_prebuilt(&evaluation)?;
    startup_cleanup::open(workspace, &run, &evaluation)?;
    let built_images = BuiltImages::of(&evaluation);
    let context = RunContext {
        workspace,
        run: &run,
        evaluation: &evaluation,
        memory: &memory,
        cache: cache.as_ref(),
        built_images: &built_images,
    };
    let suite = request.suite.map(|(suite, args)| SuiteRun::of(context, suite, args, probe));
    let suite = suite.transpose()?;
    let suite_plan = suite.as_ref().map(SuiteRun::plan);
    let run_graph = plan::plan(workspace, &evaluation, &memory, cache.as_ref(), suite_plan);
    let execution = Execution { context, run_graph, suite, failure: Mutex::new(None) };
    let (ok, left) = execution.run(request.build.fail_fast)?;
    if let Some(file) = request.bundle.filter(|_| ok) {
        bundle::write(context, request.images, file)?;
    }
    let summary = Summary { ok, left, seconds: seconds(started.elapsed()), ..execution.counts() };
    run.events.emit(Event::Summary(summary.clone()));
    let failure = *execution.failure.lock();
    let exit = if ok { Exit::Done } else { failure.unwrap_or(Exit::Failed) };
    Ok(RunSummary { exit, summary })
}

impl RunRequest<'_> {
    /// Nothing is to be built with `--require-prebuilt`, whatever else was asked for.
    fn require_prebuilt(&self, evaluation: &Evaluation) -> Result<()> {
        if !self.suite.is_some_and(|(_, args)| args.require_prebuilt) {
            return Ok(());
        }
        let stale = evaluation.images.iter().filter(|one| one.planned.action == Action::Build);
        let lines: Vec<String> = stale.flat_map(|one| decision(&one.planned)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let what = format!("failed to find every image prebuilt\n{}", lines.join("\n"));
        Err(anyhow!(what)).hint("cargo xtask images --prebuild").exit(Exit::Failed)
    }
}

/// A run on its way through its graph.
struct Execution<'a> {
    context: RunContext<'a>,
    run_graph: RunGraph,
    suite: Option<SuiteRun<'a>>,
    /// What the first failure leads to.
    failure: Mutex<Option<Exit>>,
}

impl Execution<'_> {
    /// Whether all went well, and what could not be taken down.
    fn run(&self, fail_fast: bool) -> Result<(bool, Option<&'static str>)> {
        let RunContext { workspace, run, evaluation, memory, .. } = self.context;
        self.announce();
        if let Some(suite) = &self.suite {
            suite.begin()?;
        }
        memory.begin(workspace, run, evaluation);
        let take = |place, name: &str, bytes| memory.take(place, name, bytes);
        let options = ExecOptions { fail_fast, stopped: &stop::requested, take: &take };
        let work = |node: NodeId, permit: &Permit| self.execute(node, permit);
        let waiting = memory::tell_waiting(run, &self.run_graph.graph);
        let places = memory.places(workspace);
        let ended = schedule::run(&self.run_graph.graph, &places, &options, work, waiting)?;
        memory.learn(workspace, run, &ended.paces);
        for image in self.run_graph.stranded(&ended.states) {
            ui::error(&memory::stranded(evaluation.image(image)));
            self.failure.lock().get_or_insert(Exit::Environment);
        }
        let ok = ended.states.iter().all(|state| *state == State::Done);
        let Some(suite) = &self.suite else { return Ok((ok, None)) };
        if ok {
            suite.end_untested()?;
        }
        let left = if suite.take_down(ok) { None } else { Some("cluster") };
        Ok((ok, left))
    }

    fn announce(&self) {
        let RunContext { run, evaluation, memory, .. } = self.context;
        let suite = self.suite.as_ref().map(|suite| &suite.suite);
        let steps = suite.into_iter().flat_map(|suite| &suite.steps);
        run.events.emit(Event::Plan(PlannedRun {
            images: evaluation.images.iter().map(|one| build::told(&one.planned)).collect(),
            steps: steps.map(|step| step.name.clone()).collect(),
            suite: suite.map(|suite| suite.name.clone()),
            nodes: self.run_graph.planned_nodes(),
            ..memory.planned_run()
        }));
    }

    fn execute(&self, node: NodeId, permit: &Permit) -> Outcome<()> {
        let RunContext { evaluation, cache, built_images, .. } = self.context;
        let task = &self.run_graph.tasks[node].task;
        let result = match task {
            Task::Build(image) => {
                match build::make(self.context, evaluation.image(image), permit) {
                    Ok(BuildOutcome::Again(memory)) => return Outcome::Again(memory),
                    Ok(BuildOutcome::Missed) => return Outcome::GoOn,
                    Ok(BuildOutcome::Lost) => return Outcome::Lost,
                    Ok(BuildOutcome::Ready(handle)) => {
                        built_images.put(image, handle);
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Task::Push(image) => built_images.get(image).map(|handle| {
                cache.inspect(|cache| cache.push(self.context, image, &handle));
            }),
            task => self.suite.as_ref().map_or(Ok(()), |suite| suite.execute(task)),
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => {
                self.failed(task, &error);
                Outcome::Failed(())
            }
        }
    }

    /// Says what went wrong while it is fresh.
    fn failed(&self, task: &Task, error: &anyhow::Error) {
        if stop::requested() && is_echo(error) {
            return;
        }
        ui::error(error);
        self.failure.lock().get_or_insert(error::code(error));
        if !matches!(task, Task::Build(_) | Task::Push(_)) {
            stop::cancel();
            // What a build fails of is in its log, and not in the cluster.
            self.suite.iter().for_each(SuiteRun::diagnose);
        }
    }

    /// Figures of the summary.
    fn counts(&self) -> Summary {
        let RunContext { evaluation, cache, built_images, .. } = self.context;
        let up_to_date = evaluation.images.iter().filter(|one| one.planned.action == Action::Skip);
        let counts = Summary {
            built: built_images.count(Origin::Built),
            skipped: up_to_date.count(),
            fetched: built_images.count(Origin::Fetched),
            pushed: cache.map_or(0, Cache::pushed),
            ..Summary::default()
        };
        let Some(suite) = &self.suite else { return counts };
        let progress = suite.progress.lock();
        Summary {
            loaded: progress.loaded,
            passed: progress.tests.passed,
            failed: progress.tests.failed,
            skipped_tests: progress.tests.skipped,
            ..counts
        }
    }
}

/// Whether an error only says that the run was being stopped.
pub(crate) fn is_echo(error: &anyhow::Error) -> bool {
    error::causes(error).into_iter().any(|cause| {
        cause.is::<stop::Stopped>()
            || cause.downcast_ref::<Failure>().is_some_and(Failure::stopped)
            || matches!(cause.downcast_ref::<BuildError>(), Some(BuildError::Stopped))
    })
}
