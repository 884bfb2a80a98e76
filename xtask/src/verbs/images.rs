//! `cargo xtask images`: bring images up to date.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;

use super::builds::{self, Common, Made, Shelf};
use super::forecast::Forecast;
use super::layout::{self, Layout, Work};
use super::memory::{self, Memory};
use super::{Session, Workspace, bundle, survey};
use crate::cli;
use crate::config::Suite;
use crate::event::{Event, PlannedRun, Summary, seconds};
use crate::exit::{self, Exit};
use crate::plan::Action;
use crate::process::stop;
use crate::schedule::{self, Habit, Outcome, Permit, State};
use crate::ui;

pub(super) fn run(session: &Session, args: &cli::Images) -> Result<Exit> {
    let started = Instant::now();
    let workspace = session.workspace()?;
    let names = names(&workspace, args)?;
    if let Some(file) = &args.from_bundle {
        return bundle::load(session, &workspace, &names, file, args.check);
    }
    let again = || survey::survey(&workspace, &names, args.build.force);
    let survey = again()?;
    if args.check {
        return Ok(check(&survey));
    }
    let memory = Memory::look(&workspace, args.build.jobs, None)?;
    memory.refuse(&survey)?;
    let run = session.begin(&workspace.paths)?;
    let survey = builds::fetch_bases(&workspace, &run, survey, args.build.pull, again)?;
    super::opening::open(&workspace, &run, &survey)?;
    let common = Common { workspace: &workspace, run: &run, survey: &survey, memory: &memory };
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
        return Ok(args.names.clone());
    }
    let images = suites.into_iter().flat_map(|suite| suite.images.clone());
    Ok(images.collect::<BTreeSet<_>>().into_iter().collect())
}

/// `--check`: nothing is built; what would be is named.
pub(super) fn check(survey: &survey::Survey) -> Exit {
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
    memory.begin(common.workspace, run, survey);
    let images = survey.images.iter().map(|one| builds::told(&one.planned)).collect();
    let mut layout = Layout::of_builds(&layout::pieces(survey));
    Forecast::read(common.workspace, &memory.machine()).of_builds(&mut layout, survey);
    let nodes = layout.told();
    run.events.emit(Event::Plan(PlannedRun { images, nodes, ..memory.told() }));
    let shelf = Shelf::default();
    let take = |name: &str, bytes| memory.take(name, bytes);
    let habit = Habit { fail_fast: habit.fail_fast, stopped: &stop::requested, take: &take };
    let work = |node, permit: &Permit| {
        let Work::Build(at) = layout.work[node] else { return Outcome::Done };
        let one = &survey.images[at];
        match builds::build(common, one, permit) {
            Ok(Made::Ready(ready) | Made::Found(ready)) => {
                shelf.put(&one.image.name, ready);
                Outcome::Done
            }
            Ok(Made::Again(memory)) => Outcome::Again(memory),
            Err(error) => Outcome::Failed(error),
        }
    };
    let waiting = memory::tell_waiting(run, &layout.graph);
    let ended = schedule::run(&layout.graph, memory.limits, &habit, work, waiting)?;
    for (_, error) in &ended.errors {
        ui::error(error);
    }
    let built = ended.states.iter().filter(|state| **state == State::Done).count();
    let ok = built == layout.graph.nodes.len();
    let first = ended.errors.first().map_or(Exit::Failed, |(_, error)| exit::code(error));
    let summary = Summary {
        ok,
        built,
        skipped: survey.images.len() - layout.graph.nodes.len(),
        seconds: seconds(started.elapsed()),
        ..Summary::default()
    };
    Ok((summary, if ok { Exit::Done } else { first }))
}
