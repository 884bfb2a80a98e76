//! What was decided about an image, in words.

use crate::error::Exit;
use crate::plan::{Action, Planned};
use crate::run::evaluate;
use crate::text::{BOLD, OFF, count};
use crate::ui;

/// Files named before they are counted.
const FILES: usize = 20;

/// The decision and its reasons, a line each: what a run says, too, that may build nothing.
pub(crate) fn decision(planned: &Planned) -> Vec<String> {
    let decision = match planned.action {
        Action::Build => "would be built",
        Action::Skip => "is up to date",
    };
    let mut lines = vec![format!("{BOLD}{}{OFF} {decision}", planned.name)];
    let (named, others) = planned.reasons.split_at(planned.reasons.len().min(FILES));
    lines.extend(named.iter().map(|reason| format!("  {reason}")));
    if !others.is_empty() {
        lines.push(format!("  and {} more", count(others.len() as u64)));
    }
    lines
}

/// `--check`: nothing is built; what would be is named.
pub(crate) fn check(evaluation: &evaluate::Evaluation) -> Exit {
    let stale: Vec<_> =
        evaluation.images.iter().filter(|one| one.planned.action == Action::Build).collect();
    stale.iter().flat_map(|one| decision(&one.planned)).for_each(|line| ui::say(&line));
    if stale.is_empty() { Exit::Done } else { Exit::Failed }
}
