//! `cargo xtask plan`: what would be done and why, changing nothing but the stat index.

use anyhow::Result;

use crate::cli;
use crate::context::record;
use crate::error::Exit;
use crate::paths::Paths;
use crate::plan::{Plan, Planned};
use crate::print::{self, notes};
use crate::run::estimate::Estimates;
use crate::run::evaluate;
use crate::run::memory::Memory;
use crate::run::plan::{self, SuitePlan, Timetable};
use crate::run::since;
use crate::session::{Format, Session};
use crate::text::{DIM, OFF};
use crate::ui::{self, Verbosity, mermaid};

pub(crate) fn run(session: &Session, args: &cli::Plan, form: cli::Format) -> Result<Exit> {
    if let Some(rev) = &args.since {
        return since(session, rev, &args.names, form);
    }
    let workspace = session.workspace()?;
    let suite = args.suite.as_deref().map(|name| workspace.config.suite(name)).transpose()?;
    let names = match suite {
        Some(suite) => suite.images.clone(),
        None => evaluate::or_all(&workspace.config, &args.names),
    };
    let evaluation = evaluate::evaluate(&workspace, &names, false)?;
    let cluster = suite.and_then(|suite| workspace.config.clusters.get(&suite.cluster));
    let mut memory = Memory::look(&workspace, None, cluster)?;
    memory.call(&workspace, None, &evaluation);
    notes::of_images(&evaluation, &memory);
    let estimates = Estimates::read(&workspace, &memory.machine());
    let rendered = suite.map(|suite| plan::rendered(&workspace, suite, &evaluation)).transpose()?;
    if let Some((suite, rendered)) = suite.zip(rendered.as_ref()) {
        notes::of_suite(&workspace.config, suite, rendered);
    }
    let suite_plan = suite.zip(rendered.as_ref()).map(|(suite, rendered)| {
        let tests = suite.test.is_some();
        SuitePlan { suite, rendered, tests, shard: None, args: &[] }
    });
    let run_graph = plan::plan(&workspace, &evaluation, &memory, None, suite_plan);
    let timetable = Timetable::of(&run_graph, &workspace, &memory);
    let builders = timetable.builders(&memory);
    let timetable = suite.map(|_| timetable);
    let expected = |planned: Planned| Planned {
        seconds: estimates.build(&planned),
        builder: builders.get(&planned.name).cloned().or(planned.builder),
        ..planned
    };
    let images = evaluation.images.into_iter().map(|image| expected(image.planned)).collect();
    let steps = timetable.as_ref().map(Timetable::steps).unwrap_or_default();
    let seconds = timetable.as_ref().map(Timetable::seconds);
    let plan = Plan { seconds, ..Plan::new(images, steps) };
    match (session.format, form, &timetable) {
        (Format::Json, ..) => ui::json_line(&print::plan::json(&plan, &memory.budget))?,
        (Format::Human, cli::Format::Mermaid, Some(timetable)) => {
            ui::data(mermaid::chart(&timetable.bars()).as_bytes())?;
        }
        (Format::Human, cli::Format::Github, _) => {
            let suites = workspace.config.suites.keys();
            let suites = suites.filter(|name| args.suite.as_ref().is_none_or(|one| one == *name));
            let to_build = plan.to_build().map(|image| (image.name.clone(), image.seconds));
            let (config, paths) = (&workspace.config, &workspace.paths);
            ui::exact(print::matrix::lines(config, paths, to_build, suites)?.as_bytes())?;
        }
        (Format::Human, ..) => {
            let detailed = session.verbosity >= Verbosity::Verbose;
            let budget = if detailed { memory.budget.all() } else { memory.budget.to_string() };
            let mut lines = print::plan::images(&plan, detailed);
            lines.extend(timetable.iter().flat_map(print::plan::timetable));
            lines.push(format!("{DIM}{budget}{OFF}\n"));
            ui::data(lines.join("\n").as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

/// What the change since `rev` touches.
fn since(session: &Session, rev: &str, names: &[String], form: cli::Format) -> Result<Exit> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let touched = since::touched(session, rev, names)?;
    if let Some(note) = &touched.note {
        ui::say(&format!("note: {note}"));
    }
    match session.format {
        Format::Json => ui::json_line(&print::touched::json(&touched))?,
        Format::Human if form == cli::Format::Github => {
            let last = |name: &str| record::read(&paths.record(name)).and_then(|last| last.seconds);
            let to_build = touched.images.keys().map(|name| (name.clone(), last(name)));
            let lines = print::matrix::lines(config, &paths, to_build, touched.suites.keys())?;
            ui::exact(lines.as_bytes())?;
        }
        Format::Human => ui::data(print::touched::text(&touched).as_bytes())?,
    }
    Ok(Exit::Done)
}
