//! `cargo xtask plan`: what would be done and why, changing nothing but the stat index.

use anyhow::Result;
use serde::Serialize;

use super::memory::Memory;
use super::since::{self, Touched};
use super::{Format, Session, matrix, survey};
use crate::cli;
use crate::context::record;
use crate::exit::Exit;
use crate::paths::Paths;
use crate::plan::{Action, Plan, Planned, Reason};
use crate::ui::text::{BOLD, DIM, GREEN, OFF, YELLOW, bytes, plural, seconds, some};
use crate::ui::{self, Verbosity};

/// Reasons a line names before it counts.
const REASONS: usize = 3;

pub(super) fn run(session: &Session, args: &cli::Plan) -> Result<Exit> {
    if let Some(rev) = &args.since {
        return since(session, rev, &args.names);
    }
    let workspace = session.workspace()?;
    let (names, steps, cluster) = match &args.suite {
        Some(name) => {
            let suite = super::e2e::suite(&workspace.config, name)?;
            let cluster = workspace.config.clusters.get(&suite.cluster);
            (suite.images.clone(), super::e2e::planned_steps(suite), cluster)
        }
        None => (args.names.clone(), Vec::new(), None),
    };
    let survey = survey::survey(&workspace, &names, false)?;
    let configured: Vec<u64> = survey.images.iter().map(|one| one.image.memory).collect();
    let plan = Plan::new(survey.images.into_iter().map(|image| image.planned).collect(), steps);
    match session.format {
        Format::Json => print_json(&plan)?,
        Format::Human if session.github => {
            let suites = workspace.config.suites.keys().map(String::as_str);
            let suites = suites.filter(|name| args.suite.as_deref().is_none_or(|one| one == *name));
            let to_build = plan.to_build().map(|image| (image.name.clone(), image.seconds));
            let (to_build, suites) = (to_build.collect::<Vec<_>>(), suites.collect());
            ui::data(matrix::lines(&workspace.config, &to_build, &suites)?.as_bytes())?;
        }
        Format::Human => {
            let budget = Memory::look(&workspace, None, cluster)?.budget;
            let detailed = session.verbosity >= Verbosity::Verbose;
            let budget = if detailed { budget.all() } else { budget.to_string() };
            ui::data(human(&plan, &configured, &budget).as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec(value)?;
    json.push(b'\n');
    ui::data(&json)
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
fn since(session: &Session, rev: &str, names: &[String]) -> Result<Exit> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let Touched { commit, images, suites } = since::touched(config, &paths, rev, names)?;
    match session.format {
        Format::Json => {
            let images = images.iter().map(|(name, reasons)| TouchedImage { name, reasons });
            let suites = suites.iter().map(|(name, reasons)| TouchedSuite { name, reasons });
            let (images, suites) = (images.collect(), suites.collect());
            print_json(&Change { version: 1, since: &commit, images, suites })?;
        }
        Format::Human if session.github => {
            let last = |name: &str| record::read(&paths.record(name)).and_then(|last| last.seconds);
            let to_build = images.keys().map(|name| (name.clone(), last(name)));
            let suites = suites.keys().map(String::as_str).collect();
            let lines = matrix::lines(config, &to_build.collect::<Vec<_>>(), &suites)?;
            ui::data(lines.as_bytes())?;
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

fn human(plan: &Plan, configured: &[u64], budget: &str) -> String {
    let images = plan.images.iter().zip(configured);
    let mut lines: Vec<String> = images.map(|(image, memory)| line(image, *memory)).collect();
    let (build, skip) = (plan.to_build().count(), plan.images.len() - plan.to_build().count());
    lines.push(format!("{BOLD}{build} to build, {skip} up to date{OFF}"));
    for step in &plan.steps {
        let after = if step.needs.is_empty() {
            String::new()
        } else {
            format!(" after {}", step.needs.join(", "))
        };
        lines.push(format!("step  {}{DIM}{after}{OFF}", step.name));
    }
    lines.push(format!("{DIM}{budget}{OFF}"));
    lines.push(String::new());
    lines.join("\n")
}

fn line(image: &Planned, configured: u64) -> String {
    let reasons = some(&image.reasons, REASONS);
    match image.action {
        Action::Skip => format!("{GREEN}skip {OFF} {}  {DIM}{reasons}{OFF}", image.name),
        Action::Build => {
            let last = image.seconds.map(|time| format!(", took {} last time", seconds(time)));
            let memory = reserved(image.memory, configured);
            let figures = format!("{memory}{}", last.unwrap_or_default());
            format!("{YELLOW}build{OFF} {}  {reasons}  {DIM}{figures}{OFF}", image.name)
        }
    }
}

/// What is used and, where that was learned, what is configured.
fn reserved(used: u64, configured: u64) -> String {
    let used_text = bytes(used);
    if used == configured {
        format!("{used_text} reserved as configured")
    } else {
        format!("{used_text} reserved as learned, {} configured", bytes(configured))
    }
}
