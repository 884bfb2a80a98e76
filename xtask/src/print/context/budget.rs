//! `--check`: contexts against their budgets, those furthest over first.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::summary::{largest, suggestions};
use crate::config::{Config, ContextBudget};
use crate::context::{Context, record};
use crate::error::{Exit, with_hints};
use crate::paths::Paths;
use crate::session::Format;
use crate::text::{DIM, OFF, RED, bytes, plural};
use crate::ui;

/// A context beside its budget, as scripts read it.
#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    files: u64,
    bytes: u64,
    budget: Option<Budget>,
    over: bool,
    #[serde(skip)]
    context: &'a Context,
}

#[derive(Clone, Copy, Serialize)]
struct Budget {
    files: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    images: Vec<Checked<'a>>,
}

/// Says which contexts are over their budgets; without any budget there is nothing to hold.
pub(crate) fn check(config: &Config, format: Format, contexts: &[Context]) -> Result<Exit> {
    let budget = |name: &str| config.images.get(name).and_then(|image| image.budget);
    let mut images: Vec<Checked> =
        contexts.iter().map(|context| checked(context, budget(&context.spec.name))).collect();
    images.sort_by(|one, other| share(other).total_cmp(&share(one)));
    let report = Report { ok: images.iter().all(|image| !image.over), images };
    match format {
        Format::Json => ui::json_line(&report)?,
        Format::Human => {
            let over = report.images.iter().filter(|image| image.over);
            over.for_each(|image| ui::say(&offence(config, image)));
        }
    }
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}

fn checked(context: &Context, budget: Option<ContextBudget>) -> Checked<'_> {
    let (files, bytes) = context.size();
    let budget = budget.map(|budget| Budget { files: budget.files, bytes: budget.bytes });
    let name = &context.spec.name;
    let mut checked = Checked { name, files, bytes, budget, over: false, context };
    checked.over = share(&checked) > 1.0;
    checked
}

/// The larger share of its budget that a context uses; 1 is all of it.
#[expect(clippy::cast_precision_loss, reason = "rounding keeps the order, and what is equal equal")]
fn share(image: &Checked) -> f64 {
    let share = |used: u64, most: Option<u64>| most.map_or(0.0, |most| used as f64 / most as f64);
    let Some(budget) = image.budget else { return 0.0 };
    share(image.files, budget.files).max(share(image.bytes, budget.bytes))
}

/// By how much, and the paths that did it: those the last build did not have, else the largest.
fn offence(config: &Config, image: &Checked) -> String {
    let mut parts = Vec::new();
    let budget = image.budget.unwrap_or(Budget { files: None, bytes: None });
    if let Some(most) = budget.files.filter(|most| image.files > *most) {
        parts.push(format!("{}, {} allowed", plural(image.files, "file"), plural(most, "file")));
    }
    if let Some(most) = budget.bytes.filter(|most| image.bytes > *most) {
        parts.push(format!("{}, {} allowed", bytes(image.bytes), bytes(most)));
    }
    let record = record::read(&Paths::of(&config.root).record(image.name));
    let before: Option<BTreeMap<_, _>> = record.map(|record| record.files);
    let is_new = |path: &[u8]| {
        before.as_ref().is_some_and(|files| !files.contains_key(&*String::from_utf8_lossy(path)))
    };
    let new = largest(image.context.entries().filter(|entry| is_new(entry.path())));
    let (title, paths) = if new.is_empty() {
        ("largest paths", largest(image.context.entries()))
    } else {
        ("new since the last build", new)
    };
    let mut lines = vec![format!("{RED}over budget{OFF}: {}: {}", image.name, parts.join("; "))];
    lines.push(format!("  {DIM}{title}{OFF}"));
    lines.extend(paths.iter().map(|line| format!("  {line}")));
    let mut hints = suggestions(image.context);
    hints.push(format!("cargo xtask context {} --list", image.name));
    with_hints(&lines.join("\n"), hints)
}
