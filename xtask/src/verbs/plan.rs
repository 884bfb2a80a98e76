//! `cargo xtask plan`: what would be done and why, changing nothing but the stat index.

use anyhow::Result;

use super::forecast::Forecast;
use super::memory::Memory;
use super::outlook::Outlook;
use super::{Format, Session, survey};
use crate::cli;
use crate::exit::Exit;
use crate::plan::{Action, Plan, Planned};
use crate::ui::text::{BOLD, DIM, GREEN, OFF, YELLOW, bytes, plural, seconds, some};
use crate::ui::{self, Verbosity, gantt, mermaid};

/// Reasons a line names before it counts.
const REASONS: usize = 3;

pub(super) fn run(session: &Session, args: &cli::Plan) -> Result<Exit> {
    let workspace = session.workspace()?;
    let suite = args.suite.as_deref().map(|name| super::e2e::suite(&workspace.config, name));
    let suite = suite.transpose()?;
    let names = suite.map_or(&args.names, |suite| &suite.images);
    let survey = survey::survey(&workspace, names, false)?;
    let cluster = suite.and_then(|suite| workspace.config.clusters.get(&suite.cluster));
    let memory = Memory::look(&workspace, None, cluster)?;
    let outlook = suite.map(|suite| Outlook::of(&workspace, suite, &survey, &memory));
    let outlook = outlook.transpose()?;
    let forecast = Forecast::read(&workspace, &memory.machine());
    let configured: Vec<u64> = survey.images.iter().map(|one| one.image.memory).collect();
    let expected = |planned: Planned| Planned { seconds: forecast.build(&planned), ..planned };
    let images = survey.images.into_iter().map(|image| expected(image.planned)).collect();
    let steps = outlook.as_ref().map(Outlook::steps).unwrap_or_default();
    let seconds = outlook.as_ref().map(Outlook::seconds);
    let plan = Plan { seconds, ..Plan::new(images, steps) };
    match (session.format, &outlook) {
        (Format::Json, _) => {
            let mut json = serde_json::to_vec(&plan)?;
            json.push(b'\n');
            ui::data(&json)?;
        }
        (Format::Human, Some(outlook)) if session.mermaid => {
            ui::data(mermaid::chart(&outlook.bars()).as_bytes())?;
        }
        (Format::Human, _) => {
            let detailed = session.verbosity >= Verbosity::Verbose;
            let budget = if detailed { memory.budget.all() } else { memory.budget.to_string() };
            let mut lines = images_told(&plan, &configured);
            lines.extend(outlook.iter().flat_map(told));
            lines.push(format!("{DIM}{budget}{OFF}\n"));
            ui::data(lines.join("\n").as_bytes())?;
        }
    }
    Ok(Exit::Done)
}

fn images_told(plan: &Plan, configured: &[u64]) -> Vec<String> {
    let images = plan.images.iter().zip(configured);
    let mut lines: Vec<String> = images.map(|(image, memory)| line(image, *memory)).collect();
    let (build, skip) = (plan.to_build().count(), plan.images.len() - plan.to_build().count());
    lines.push(format!("{BOLD}{build} to build, {skip} up to date{OFF}"));
    lines
}

/// The graph over time, and what it comes to.
fn told(outlook: &Outlook) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(gantt::lines(&outlook.bars(), ui::rich()));
    let (path, time) = outlook.critical_path();
    let path = path.join(" → ");
    lines.push(String::new());
    lines.push(format!("{BOLD}{}{OFF} expected{}", seconds(outlook.seconds()), unknown(outlook)));
    lines.push(format!("critical path (*), {}: {path}", seconds(time)));
    lines
}

fn unknown(outlook: &Outlook) -> String {
    match outlook.unknown() {
        0 => String::new(),
        count => {
            format!(", guessing at {} not yet seen on this machine", plural(count as u64, "node"))
        }
    }
}

fn line(image: &Planned, configured: u64) -> String {
    let reasons = some(&image.reasons, REASONS);
    match image.action {
        Action::Skip => format!("{GREEN}skip {OFF} {}  {DIM}{reasons}{OFF}", image.name),
        Action::Build => {
            let last = image.seconds.map(|time| format!(", {} expected", seconds(time)));
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
