//! `cargo xtask images`: bring images up to date.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;

use super::builds::{self, Common, Made, Origin, Shelf};
use super::cache::Cache;
use super::forecast::Forecast;
use super::layout::{self, Layout, Work};
use super::memory::{self, Memory};
use super::{Session, Workspace, bundle, survey, why};
use crate::cli;
use crate::config::Suite;
use crate::event::{Event, PlannedRun, Summary, seconds};
use crate::exit::{self, Exit};
use crate::plan::Action;
use crate::process::stop;
use crate::schedule::{self, Habit, NodeId, Outcome, Permit, State};
use crate::ui;

pub(super) fn run(session: &Session, args: &cli::Images) -> Result<Exit> {
    let started = Instant::now();
    let workspace = session.workspace()?;
    let names = names(&workspace, args)?;
    if let Some(file) = &args.from_bundle {
        return bundle::load(session, &workspace, &names, args, file);
    }
    let again = || survey::survey(&workspace, &names, args.build.force);
    let survey = again()?;
    if args.check {
        return Ok(check(&survey));
    }
    let mut memory = Memory::look(&workspace, args.build.jobs, None)?;
    memory.call(&workspace, args.build.jobs, &survey);
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
        let named = args.suite.iter().map(|name| super::e2e::suite(config, name));
        named.collect::<Result<_>>()?
    };
    if !args.prebuild && suites.is_empty() {
        return Ok(survey::or_all(config, &args.names));
    }
    let images = suites.into_iter().flat_map(|suite| suite.images.clone());
    Ok(images.collect::<BTreeSet<_>>().into_iter().collect())
}

/// `--check`: nothing is built; what would be is named.
pub(super) fn check(survey: &survey::Survey) -> Exit {
    let stale: Vec<_> =
        survey.images.iter().filter(|one| one.planned.action == Action::Build).collect();
    stale.iter().flat_map(|one| why::decision(&one.planned)).for_each(|line| ui::say(&line));
    if stale.is_empty() { Exit::Done } else { Exit::Failed }
}

fn build_all(common: Common, habit: cli::Build, started: Instant) -> Result<(Summary, Exit)> {
    let Common { run, survey, memory, .. } = common;
    memory.begin(common.workspace, run, survey);
    let images = survey.images.iter().map(|one| builds::told(&one.planned)).collect();
    let mut layout = Layout::of_builds(&layout::pieces(survey));
    memory.join(&mut layout, common.workspace, survey);
    common.cache.inspect(|cache| cache.join(&mut layout, survey));
    Forecast::read(common.workspace, &memory.machine()).of_builds(&mut layout, survey);
    let nodes = layout.told();
    run.events.emit(Event::Plan(PlannedRun { images, nodes, ..memory.told() }));
    let shelf = Shelf::default();
    let take = |place, name: &str, bytes| memory.take(place, name, bytes);
    let habit = Habit { fail_fast: habit.fail_fast, stopped: &stop::requested, take: &take };
    let work = |node: NodeId, permit: &Permit| do_one(common, &layout.work[node], permit, &shelf);
    let waiting = memory::tell_waiting(run, &layout.graph);
    let places = memory.places(common.workspace);
    let ended = schedule::run(&layout.graph, &places, &habit, work, waiting)?;
    memory.learn(common.workspace, run, &ended.paces);
    for (_, error) in &ended.errors {
        ui::error(error);
    }
    let stranded = layout.stranded(&ended.states, survey);
    for one in &stranded {
        ui::error(&memory::stranded(one));
    }
    let ok = ended.states.iter().all(|state| *state == State::Done);
    let without = if stranded.is_empty() { Exit::Failed } else { Exit::Environment };
    let first = ended.errors.first().map_or(without, |(_, error)| exit::code(error));
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

fn do_one(common: Common, work: &Work, permit: &Permit, shelf: &Shelf) -> Outcome<anyhow::Error> {
    let done = match work {
        Work::Build(at) => {
            let one = &common.survey.images[*at];
            match builds::make(common, one, permit) {
                Ok(Made::Again(memory)) => return Outcome::Again(memory),
                Ok(Made::Missed) => return Outcome::GoOn,
                Ok(Made::Lost) => return Outcome::Lost,
                Ok(Made::Ready(ready)) => {
                    shelf.put(&one.image.name, ready);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
        Work::Push(at) => {
            let name = &common.survey.images[*at].image.name;
            let push = |ready| common.cache.map(|cache| cache.push(common, name, &ready));
            shelf.get(name).map(push).map(drop)
        }
        // Only a suite has other work.
        _ => Ok(()),
    };
    done.map_or_else(Outcome::Failed, |()| Outcome::Done)
}
