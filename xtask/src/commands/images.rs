//! `cargo xtask images`: bring images up to date.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;

use crate::cli;
use crate::config::Suite;
use crate::event::{Event, PlannedRun, Summary, seconds};
use crate::exit::{self, Exit};
use crate::plan::Action;
use crate::process::stop;
use crate::run::build::{self, BuildOutcome, BuiltImages, Origin, RunContext};
use crate::run::cache::Cache;
use crate::run::decision::check;
use crate::run::estimate::Estimates;
use crate::run::graph::{self, RunGraph, Task};
use crate::run::memory::{self, Memory};
use crate::run::{bundle, evaluate};
use crate::schedule::{self, ExecOptions, NodeId, Outcome, Permit, State};
use crate::session::{Session, Workspace};
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Images) -> Result<Exit> {
    let started = Instant::now();
    let workspace = session.workspace()?;
    let names = names(&workspace, args)?;
    if let Some(file) = &args.from_bundle {
        return bundle::load(session, &workspace, &names, args, file);
    }
    let again = || evaluate::evaluate(&workspace, &names, args.build.force);
    let evaluation = again()?;
    if args.check {
        return Ok(check(&evaluation));
    }
    let mut memory = Memory::look(&workspace, args.build.jobs, None)?;
    memory.call(&workspace, args.build.jobs, &evaluation);
    let cache = Cache::of(&workspace, args.build);
    if cache.is_none() {
        memory.refuse_all(&evaluation)?;
    }
    let run = session.begin(&workspace.paths)?;
    let evaluation = build::fetch_bases(&workspace, &run, evaluation, args.build.pull, again)?;
    crate::run::startup_cleanup::open(&workspace, &run, &evaluation)?;
    let cache = cache.as_ref();
    let (workspace, run, evaluation, memory) = (&workspace, &run, &evaluation, &memory);
    let common = RunContext { workspace, run, evaluation, memory, cache };
    let (mut summary, exit) = build_all(common, args.build, started)?;
    if let Some(file) = args.bundle.as_ref().filter(|_| summary.ok) {
        bundle::write(common, &names, file)?;
        summary.seconds = seconds(started.elapsed());
    }
    run.events.emit(Event::Summary(summary));
    Ok(exit)
}

/// The images asked for; with `--prebuild` those that suites name.
fn names(workspace: &Workspace, args: &cli::Images) -> Result<Vec<String>> {
    let config = &workspace.config;
    let suites: Vec<&Suite> = if args.prebuild {
        config.suites.values().collect()
    } else {
        let named = args.suite.iter().map(|name| config.suite(name));
        named.collect::<Result<_>>()?
    };
    if !args.prebuild && suites.is_empty() {
        return Ok(evaluate::or_all(config, &args.names));
    }
    let images = suites.into_iter().flat_map(|suite| suite.images.clone());
    Ok(images.collect::<BTreeSet<_>>().into_iter().collect())
}

fn build_all(common: RunContext, options: cli::Build, started: Instant) -> Result<(Summary, Exit)> {
    let RunContext { run, evaluation, memory, .. } = common;
    memory.begin(common.workspace, run, evaluation);
    let images = evaluation.images.iter().map(|one| build::told(&one.planned)).collect();
    let mut run_graph = RunGraph::of_builds(&graph::pieces(evaluation));
    memory.join(&mut run_graph, common.workspace, evaluation);
    common.cache.inspect(|cache| cache.join(&mut run_graph, evaluation));
    Estimates::read(common.workspace, &memory.machine()).of_builds(&mut run_graph, evaluation);
    let nodes = run_graph.told();
    run.events.emit(Event::Plan(PlannedRun { images, nodes, ..memory.told() }));
    let built_images = BuiltImages::default();
    let take = |place, name: &str, bytes| memory.take(place, name, bytes);
    let options =
        ExecOptions { fail_fast: options.fail_fast, stopped: &stop::requested, take: &take };
    let work = |node: NodeId, permit: &Permit| {
        do_one(common, &run_graph.work[node], permit, &built_images)
    };
    let waiting = memory::tell_waiting(run, &run_graph.graph);
    let places = memory.places(common.workspace);
    let ended = schedule::run(&run_graph.graph, &places, &options, work, waiting)?;
    memory.learn(common.workspace, run, &ended.paces);
    for (_, error) in &ended.errors {
        ui::error(error);
    }
    let stranded = run_graph.stranded(&ended.states, evaluation);
    for one in &stranded {
        ui::error(&memory::stranded(one));
    }
    let ok = ended.states.iter().all(|state| *state == State::Done);
    let without = if stranded.is_empty() { Exit::Failed } else { Exit::Environment };
    let first = ended.errors.first().map_or(without, |(_, error)| exit::code(error));
    let to_build = evaluation.images.iter().filter(|one| one.planned.action == Action::Build);
    let summary = Summary {
        ok,
        built: built_images.count(Origin::Built),
        skipped: evaluation.images.len() - to_build.count(),
        fetched: built_images.count(Origin::Fetched),
        pushed: common.cache.map_or(0, Cache::pushed),
        seconds: seconds(started.elapsed()),
        ..Summary::default()
    };
    Ok((summary, if ok { Exit::Done } else { first }))
}

fn do_one(
    common: RunContext,
    work: &Task,
    permit: &Permit,
    built_images: &BuiltImages,
) -> Outcome<anyhow::Error> {
    let done = match work {
        Task::Build(at) => {
            let one = &common.evaluation.images[*at];
            match build::make(common, one, permit) {
                Ok(BuildOutcome::Again(memory)) => return Outcome::Again(memory),
                Ok(BuildOutcome::Missed) => return Outcome::GoOn,
                Ok(BuildOutcome::Lost) => return Outcome::Lost,
                Ok(BuildOutcome::ImageHandle(ready)) => {
                    built_images.put(&one.image.name, ready);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
        Task::Push(at) => {
            let name = &common.evaluation.images[*at].image.name;
            let push = |ready| common.cache.map(|cache| cache.push(common, name, &ready));
            built_images.get(name).map(push).map(drop)
        }
        // Only a suite has other work.
        _ => Ok(()),
    };
    done.map_or_else(Outcome::Failed, |()| Outcome::Done)
}
