//! `cargo xtask plan`: what would be done and why, changing nothing but the stat index.

use anyhow::Result;

use super::memory::Memory;
use super::{Format, Session, survey};
use crate::cli;
use crate::exit::Exit;
use crate::plan::{Action, Plan, Planned};
use crate::ui::text::{BOLD, DIM, GREEN, OFF, YELLOW, bytes, seconds, some};
use crate::ui::{self, Verbosity};

/// Reasons a line names before it counts.
const REASONS: usize = 3;

pub(super) fn run(session: &Session, args: &cli::Plan) -> Result<Exit> {
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
        Format::Json => {
            let mut json = serde_json::to_vec(&plan)?;
            json.push(b'\n');
            ui::data(&json)?;
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
