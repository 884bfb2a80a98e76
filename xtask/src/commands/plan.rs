//! `cargo xtask plan`: what would be done and why, changing nothing but the stat index.

mod notes;

use anyhow::Result;
use serde::Serialize;

use crate::cli;
use crate::commands::matrix;
use crate::context::record;
use crate::error::Exit;
use crate::paths::Paths;
use crate::plan::{Action, Plan, Planned, Reason};
use crate::report::{KEPT, Past};
use crate::run::estimate::Estimates;
use crate::run::evaluate;
use crate::run::memory::Memory;
use crate::run::plan::{self, SuitePlan, Timetable};
use crate::run::since::{self, Touched};
use crate::session::{Format, Session};
use crate::text::{BOLD, DIM, GREEN, OFF, YELLOW, bytes, plural, seconds, some};
use crate::ui::{self, Verbosity, gantt, mermaid};

/// Reasons a line names before it counts.
const REASONS: usize = 3;

pub(crate) fn run(session: &Session, args: &cli::Plan, form: cli::Format) -> Result<Exit> {
    if let Some(rev) = &args.since {
        return since(session, rev, &args.names, form);
    }
    let workspace = session.workspace()?;
    let suite = args.suite.as_deref().map(|name| workspace.config.suite(name));
    let suite = suite.transpose()?;
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
        (Format::Json, ..) => {
            let budget = &memory.budget;
            let budget = PrintedBudget { bytes: budget.bytes, arithmetic: budget.to_string() };
            print_json(&Printed { plan: &plan, budget })?;
        }
        (Format::Human, cli::Format::Mermaid, Some(timetable)) => {
            ui::data(mermaid::chart(&timetable.bars()).as_bytes())?;
        }
        (Format::Human, cli::Format::Github, _) => {
            let suites = workspace.config.suites.keys().map(String::as_str);
            let suites = suites.filter(|name| args.suite.as_deref().is_none_or(|one| one == *name));
            let to_build = plan.to_build().map(|image| (image.name.clone(), image.seconds));
            let (to_build, suites) = (to_build.collect::<Vec<_>>(), suites.collect());
            let past = Past::read(&workspace.paths.runs(), KEPT);
            let lines = matrix::lines(&workspace.config, &to_build, &suites, &past)?;
            ui::exact(lines.as_bytes())?;
        }
        (Format::Human, ..) => {
            let detailed = session.verbosity >= Verbosity::Verbose;
            let budget = if detailed { memory.budget.all() } else { memory.budget.to_string() };
            let mut lines = images_told(&plan, detailed);
            lines.extend(timetable.iter().flat_map(told));
            lines.push(format!("{DIM}{budget}{OFF}\n"));
            ui::data(lines.join("\n").as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec(value)?;
    json.push(b'\n');
    ui::json(&json)
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    budget: PrintedBudget,
}

#[derive(Serialize)]
struct PrintedBudget {
    bytes: u64,
    /// `budget 5.4 GiB = podman VM 8.0 − cluster 1.6 − reserve 1.0`
    arithmetic: String,
}

/// What `--since --format json` prints.
#[derive(Serialize)]
struct Change<'a> {
    version: u32,
    since: &'a str,
    images: Vec<TouchedImage<'a>>,
    suites: Vec<TouchedSuite<'a>>,
}

#[derive(Serialize)]
struct TouchedImage<'a> {
    name: &'a str,
    reasons: &'a [Reason],
}

#[derive(Serialize)]
struct TouchedSuite<'a> {
    name: &'a str,
    reasons: &'a [String],
}

/// What the change since `rev` touches.
fn since(session: &Session, rev: &str, names: &[String], form: cli::Format) -> Result<Exit> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let Touched { commit, images, suites, note } = since::touched(session, rev, names)?;
    if let Some(note) = note {
        ui::say(&format!("note: {note}"));
    }
    match session.format {
        Format::Json => {
            let images = images.iter().map(|(name, reasons)| TouchedImage { name, reasons });
            let suites = suites.iter().map(|(name, reasons)| TouchedSuite { name, reasons });
            let (images, suites) = (images.collect(), suites.collect());
            print_json(&Change { version: 1, since: &commit, images, suites })?;
        }
        Format::Human if form == cli::Format::Github => {
            let last = |name: &str| record::read(&paths.record(name)).and_then(|last| last.seconds);
            let to_build = images.keys().map(|name| (name.clone(), last(name)));
            let suites = suites.keys().map(String::as_str).collect();
            let past = Past::read(&paths.runs(), KEPT);
            let lines = matrix::lines(config, &to_build.collect::<Vec<_>>(), &suites, &past)?;
            ui::exact(lines.as_bytes())?;
        }
        Format::Human => {
            let mut lines =
                vec![format!("{DIM}since {}{OFF}", commit.get(..12).unwrap_or(&commit))];
            let line = |kind: &str, name: &str, reasons: String| {
                format!("{YELLOW}{kind}{OFF} {name}  {DIM}{reasons}{OFF}")
            };
            lines.extend(images.iter().map(|(name, why)| line("image", name, some(why, REASONS))));
            lines.extend(suites.iter().map(|(name, why)| line("suite", name, some(why, REASONS))));
            let (images, suites) = (images.len() as u64, suites.len() as u64);
            let (images, suites) = (plural(images, "image"), plural(suites, "suite"));
            lines.push(format!("{BOLD}{images} and {suites} touched{OFF}\n"));
            ui::data(lines.join("\n").as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

fn images_told(plan: &Plan, detailed: bool) -> Vec<String> {
    let mut lines: Vec<String> = plan.images.iter().map(|image| line(image, detailed)).collect();
    let (build, skip) = (plan.to_build().count(), plan.images.len() - plan.to_build().count());
    lines.push(format!("{BOLD}{build} to build, {skip} up to date{OFF}"));
    lines
}

/// The graph over time, and what it comes to.
fn told(timetable: &Timetable) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(gantt::lines(&timetable.bars(), ui::rich()));
    let (path, time) = timetable.critical_path();
    let path = path.join(" → ");
    lines.push(String::new());
    lines.push(format!(
        "{BOLD}{}{OFF} expected{}",
        seconds(timetable.seconds()),
        unknown(timetable)
    ));
    lines.push(format!("critical path (*), {}: {path}", seconds(time)));
    lines
}

fn unknown(timetable: &Timetable) -> String {
    match timetable.unknown() {
        0 => String::new(),
        count => {
            format!(", guessing at {} not yet seen on this machine", plural(count as u64, "node"))
        }
    }
}

fn line(image: &Planned, detailed: bool) -> String {
    let reasons = some(&image.reasons, REASONS);
    match image.action {
        Action::Skip => {
            let memory = if detailed { format!("  {}", reserved(image)) } else { String::new() };
            format!("{GREEN}skip {OFF} {}  {DIM}{reasons}{memory}{OFF}", image.name)
        }
        Action::Build => {
            let last = image.seconds.map(|time| format!(", {} expected", seconds(time)));
            let on = image.builder.as_ref().map(|builder| format!(" on {builder}"));
            let on = on.unwrap_or_default();
            let figures = format!("{}{on}{}", reserved(image), last.unwrap_or_default());
            format!("{YELLOW}build{OFF} {}  {reasons}  {DIM}{figures}{OFF}", image.name)
        }
    }
}

/// What is used and, where that was learned, what is configured.
fn reserved(image: &Planned) -> String {
    let (used, configured) = (bytes(image.memory), bytes(image.memory_configured));
    match image.memory_learned {
        None => format!("{used} reserved as configured"),
        Some(_) => format!("{used} reserved as learned, {configured} configured"),
    }
}
