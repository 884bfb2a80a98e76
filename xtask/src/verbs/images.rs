//! `cargo xtask images`: bring images up to date.

use std::time::Instant;

use anyhow::Result;

use super::builds::{self, Common, Made, Origin, Shelf};
use super::cache::Cache;
use super::memory::{self, Memory};
use super::survey::{self, Surveyed};
use super::{Session, Workspace};
use crate::cli;
use crate::event::{Event, Summary, seconds};
use crate::exit::{self, Exit};
use crate::plan::Action;
use crate::process::stop;
use crate::schedule::{self, Graph, Habit, Node, NodeId, Outcome, Permit, State};
use crate::ui;

pub(super) fn run(session: &Session, args: &cli::Images) -> Result<Exit> {
    let started = Instant::now();
    let workspace = session.workspace()?;
    let names = names(&workspace, args);
    let again = || survey::survey(&workspace, &names, args.build.force);
    let survey = again()?;
    if args.check {
        return Ok(check(&survey));
    }
    let memory = Memory::look(&workspace, args.build.jobs, None)?;
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
    let (summary, exit) = build_all(common, args.build, started)?;
    run.events.emit(Event::Summary(summary));
    Ok(exit)
}

/// The images asked for; with `--prebuild` those that suites name.
fn names(workspace: &Workspace, args: &cli::Images) -> Vec<String> {
    if !args.prebuild {
        return args.names.clone();
    }
    let suites = workspace.config.suites.values().flat_map(|suite| suite.images.clone());
    suites.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// `--check`: nothing is built; what would be is named.
fn check(survey: &survey::Survey) -> Exit {
    let stale: Vec<_> =
        survey.images.iter().filter(|one| one.planned.action == Action::Build).collect();
    for one in &stale {
        ui::say(&format!(
            "{} would be built: {}",
            one.planned.name,
            ui::text::some(&one.planned.reasons, 20)
        ));
    }
    if stale.is_empty() { Exit::Done } else { Exit::Failed }
}

fn build_all(common: Common, habit: cli::Build, started: Instant) -> Result<(Summary, Exit)> {
    let Common { run, survey, memory, .. } = common;
    let images = survey.images.iter().map(|one| builds::told(&one.planned)).collect();
    let budget = Some(memory.budget.to_string());
    run.events.emit(Event::Plan { images, steps: Vec::new(), budget });
    memory.begin(common.workspace, run, survey);
    let (graph, work) = lay_out(common);
    let shelf = Shelf::default();
    let take = |name: &str, bytes| memory.take(name, bytes);
    let habit = Habit { fail_fast: habit.fail_fast, stopped: &stop::requested, take: &take };
    let work = |node: NodeId, permit: &Permit| do_one(common, &work[node], permit, &shelf);
    let waiting = memory::tell_waiting(run, &graph);
    let ended = schedule::run(&graph, memory.limits, &habit, work, waiting)?;
    for (_, error) in &ended.errors {
        ui::error(error);
    }
    let ok = ended.states.iter().all(|state| *state == State::Done);
    let first = ended.errors.first().map_or(Exit::Failed, |(_, error)| exit::code(error));
    let to_build = survey.images.iter().filter(|one| one.planned.action == Action::Build);
    let summary = Summary {
        ok,
        built: shelf.count(Origin::Built),
        skipped: survey.images.len() - to_build.count(),
        fetched: shelf.count(Origin::Fetched),
        pushed: common.cache.map_or(0, Cache::pushed),
        seconds: seconds(started.elapsed()),
        ..Summary::default()
    };
    Ok((summary, if ok { Exit::Done } else { first }))
}

/// One piece of work of the run, for one image.
enum Work<'a> {
    Build(&'a Surveyed),
    Push(&'a Surveyed),
}

fn lay_out(common: Common<'_>) -> (Graph, Vec<Work<'_>>) {
    let (mut graph, mut work) = (Graph::default(), Vec::new());
    for one in common.survey.images.iter().filter(|one| one.planned.action == Action::Build) {
        let build = graph.add(builds::node(one, common.cache));
        work.push(Work::Build(one));
        if let Some(push) = common.cache.and_then(|cache| cache.push_node(&one.image.name)) {
            graph.add(Node { needs: vec![build], ..push });
            work.push(Work::Push(one));
        }
    }
    (graph, work)
}

fn do_one(common: Common, work: &Work, permit: &Permit, shelf: &Shelf) -> Outcome<anyhow::Error> {
    let done = match work {
        Work::Build(one) => match builds::make(common, one, permit) {
            Ok(Made::Again(memory)) => return Outcome::Again(memory),
            Ok(Made::Missed) => return Outcome::GoOn,
            Ok(Made::Ready(ready)) => {
                shelf.put(&one.image.name, ready);
                Ok(())
            }
            Err(error) => Err(error),
        },
        Work::Push(one) => shelf.get(&one.image.name).map(|ready| {
            common.cache.inspect(|cache| cache.push(common, &one.image.name, &ready));
        }),
    };
    done.map_or_else(Outcome::Failed, |()| Outcome::Done)
}
