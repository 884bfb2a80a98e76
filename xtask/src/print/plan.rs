//! A plan as text and as JSON.

use serde::Serialize;

use crate::memory::budget::Budget;
use crate::plan::{Action, Plan, Planned};
use crate::run::plan::Timetable;
use crate::text::{BOLD, DIM, GREEN, OFF, YELLOW, bytes, plural, seconds, some};
use crate::ui::{self, gantt};

/// Reasons a line names before it counts.
pub(crate) const REASONS: usize = 3;

pub(crate) fn images(plan: &Plan, detailed: bool) -> Vec<String> {
    let mut lines: Vec<String> = plan.images.iter().map(|image| line(image, detailed)).collect();
    let (build, skip) = (plan.to_build().count(), plan.images.len() - plan.to_build().count());
    lines.push(format!("{BOLD}{build} to build, {skip} up to date{OFF}"));
    lines
}

/// The graph over time, and what it comes to.
pub(crate) fn timetable(timetable: &Timetable) -> Vec<String> {
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

/// The plan for `--format json`.
pub(crate) fn json<'a>(plan: &'a Plan, budget: &Budget) -> impl Serialize + 'a {
    let budget = PrintedBudget { bytes: budget.bytes, arithmetic: budget.to_string() };
    Printed { plan, budget }
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
