//! `cargo xtask images`: bring images up to date.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use super::builds::{self, Shelf};
use super::{Run, Session, Workspace, survey};
use crate::cli;
use crate::event::{Event, Summary, seconds};
use crate::exit::Exit;
use crate::plan::Action;
use crate::schedule::{self, Graph, Habit, State};
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
    let run = session.begin(&workspace.paths)?;
    let survey = builds::fetch_bases(&workspace, &run, survey, args.build.pull, again)?;
    super::opening::open(&workspace, &run, &survey)?;
    let summary = build_all(&workspace, &run, &survey, args.build, started)?;
    let exit = if summary.ok { Exit::Done } else { Exit::Failed };
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

fn build_all(
    workspace: &Workspace,
    run: &Run,
    survey: &survey::Survey,
    habit: cli::Build,
    started: Instant,
) -> Result<Summary> {
    let images = survey.images.iter().map(|one| builds::told(&one.planned)).collect();
    run.events.emit(Event::Plan { images, steps: Vec::new(), budget: None });
    let mut graph = Graph::default();
    let mut builds = BTreeMap::new();
    for (at, one) in survey.images.iter().enumerate() {
        if one.planned.action == Action::Build {
            builds.insert(graph.add(builds::node(one)), at);
        }
    }
    let shelf = Shelf::default();
    let limits = builds::limits(workspace, habit, 0)?;
    let stopped = || crate::process::stop::requested();
    let habit = Habit { fail_fast: habit.fail_fast, stopped: &stopped };
    let work = |node| {
        let one = &survey.images[builds[&node]];
        builds::build(workspace, run, survey, one).map(|ready| shelf.put(&one.image.name, ready))
    };
    let ended = schedule::run(&graph, limits, &habit, work, |_| {})?;
    for (_, error) in &ended.errors {
        ui::error(error);
    }
    let built = ended.states.iter().filter(|state| **state == State::Done).count();
    Ok(Summary {
        ok: built == graph.nodes.len(),
        built,
        skipped: survey.images.len() - graph.nodes.len(),
        seconds: seconds(started.elapsed()),
        ..Summary::default()
    })
}
