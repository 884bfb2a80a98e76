//! How long runs and their steps took, as text and as JSON.

use anyhow::{Result, anyhow};
use serde::Serialize;

use crate::error::{ErrorExt as _, Exit};
use crate::report::{Past, Record, Regression, Trend, Words, page};
use crate::text::{BOLD, DIM, OFF, RED, bytes, count, plural, seconds};
use crate::ui;

/// Runs and steps that are shown; JSON has all.
const SHOWN: usize = 12;

/// Columns of the bars.
const BAR: usize = 20;

/// What `--format json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    version: u32,
    suites: &'a [Trend],
    unreadable: &'a [String],
}

pub(crate) fn lines(trend: &Trend) -> Vec<String> {
    let machine = trend.machine.as_ref().map(|machine| {
        format!(" on {}, {} CPUs, {}", machine.engine, machine.cpus, bytes(machine.memory))
    });
    let runs = plural(trend.runs.len() as u64, "run");
    let mut lines =
        vec![format!("{BOLD}{}{OFF}: {runs}{}", trend.suite, machine.unwrap_or_default())];
    let shown = &trend.runs[trend.runs.len().saturating_sub(SHOWN)..];
    let most = shown.iter().map(|run| run.seconds).fold(0.1, f64::max);
    for run in shown {
        let at = run.at.replace('T', " ");
        let bar = bar(run.seconds / most);
        let what = if run.ok {
            format!("{} built, {} passed", run.built, count(run.passed))
        } else {
            format!("{RED}failed{OFF}")
        };
        let time = seconds(run.seconds);
        lines.push(format!("  {} {time:>11} {bar} {DIM}{what}{OFF}", at.get(..16).unwrap_or(&at)));
    }
    if !trend.steps.is_empty() {
        let (step, way) = ("slowest", "way");
        lines.push(format!(
            "  {DIM}{step:<26} {way:<10} {:>11} {:>11} {:>5}{OFF}",
            "last", "median", "times"
        ));
    }
    for step in trend.steps.iter().take(SHOWN) {
        let (last, median) = (seconds(step.last), seconds(step.median));
        // The way of the tests is their whole command.
        let way = if step.action.contains(' ') { "" } else { &step.action };
        lines.push(format!(
            "  {:<26} {way:<10} {last:>11} {median:>11} {:>5}",
            step.name, step.count
        ));
    }
    lines.push(String::new());
    lines
}

fn bar(part: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "columns"
    )]
    let full = ((part * BAR as f64).round() as usize).clamp(1, BAR);
    format!("{:<BAR$}", if ui::rich() { "█" } else { "#" }.repeat(full))
}

pub(crate) fn slower(one: &Regression) -> String {
    let Regression { name, before, now, limit, at_once, .. } = one;
    let part = (now / before - 1.0) * 100.0;
    let lately = if *at_once { "in the last run" } else { "in the last runs" };
    let (now, before, limit) = (seconds(*now), seconds(*before), seconds(*limit));
    format!(
        "{RED}slower{OFF}: {name} took {now} {lately}, {part:.0} % more than {before}; up to {limit} would be noise"
    )
}

/// For `--format json`.
pub(crate) fn json<'a>(suites: &'a [Trend], unreadable: &'a [String]) -> impl Serialize + 'a {
    Printed { version: 1, suites, unreadable }
}

/// The page of the last run, of `suite` if one is named.
pub(crate) fn page_of_last(past: &Past, suite: Option<&str>) -> Result<String> {
    let is_wanted = |record: &&Record| {
        suite.map_or(record.suite.is_some(), |_| record.suite.as_deref() == suite)
    };
    let Some(last) = past.records.iter().rfind(is_wanted) else {
        let what = "failed to find a run to make a page of";
        return Err(anyhow!(what))
            .hint(format!("cargo xtask e2e {}", suite.unwrap_or("SUITE")))
            .exit(Exit::Failed);
    };
    let mut earlier = past.clone().of(last.suite.as_deref().unwrap_or_default());
    if let Some(machine) = &last.machine {
        earlier = earlier.on(machine);
    }
    earlier.records.retain(|record| record.id < last.id);
    Ok(page(last, &earlier, &Words { seconds, bytes }))
}
