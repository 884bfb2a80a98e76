//! `cargo xtask plan`: what would be done and why, changing nothing but the stat index.

use anyhow::Result;

use super::{Format, Session, survey};
use crate::cli;
use crate::exit::Exit;
use crate::plan::{Action, Plan, Planned};
use crate::ui;
use crate::ui::text::{BOLD, DIM, GREEN, OFF, YELLOW, bytes, seconds, some};

/// Reasons a line names before it counts.
const REASONS: usize = 3;

pub(super) fn run(session: &Session, args: &cli::Plan) -> Result<Exit> {
    let workspace = session.workspace()?;
    let (names, steps) = match &args.suite {
        Some(name) => {
            let suite = super::e2e::suite(&workspace.config, name)?;
            (suite.images.clone(), super::e2e::planned_steps(suite))
        }
        None => (args.names.clone(), Vec::new()),
    };
    let survey = survey::survey(&workspace, &names, false)?;
    let plan = Plan::new(survey.images.into_iter().map(|image| image.planned).collect(), steps);
    match session.format {
        Format::Json => {
            let mut json = serde_json::to_vec(&plan)?;
            json.push(b'\n');
            ui::data(&json)?;
        }
        Format::Human => ui::data(human(&plan).as_bytes())?,
    }
    Ok(Exit::Done)
}

fn human(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.images.iter().map(line).collect();
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
    lines.push(String::new());
    lines.join("\n")
}

fn line(image: &Planned) -> String {
    let reasons = some(&image.reasons, REASONS);
    match image.action {
        Action::Skip => format!("{GREEN}skip {OFF} {}  {DIM}{reasons}{OFF}", image.name),
        Action::Build => {
            let last = image.seconds.map(|time| format!(", took {} last time", seconds(time)));
            let figures = format!("{} reserved{}", bytes(image.memory), last.unwrap_or_default());
            format!("{YELLOW}build{OFF} {}  {reasons}  {DIM}{figures}{OFF}", image.name)
        }
    }
}
