//! `cargo xtask why IMAGE`: the decision about one image, down to the file.

use anyhow::Result;

use super::{Format, Session, survey};
use crate::cli;
use crate::exit::Exit;
use crate::plan::{Action, Plan, Planned};
use crate::ui;
use crate::ui::text::{BOLD, DIM, OFF, bytes, count, plural};

/// Files named before they are counted.
const FILES: usize = 20;

pub(super) fn run(session: &Session, args: &cli::Why) -> Result<Exit> {
    let workspace = session.workspace()?;
    let survey = survey::survey(&workspace, std::slice::from_ref(&args.image), false)?;
    for one in survey.images {
        if session.format == Format::Json {
            let mut json = serde_json::to_vec(&Plan::new(vec![one.planned], Vec::new()))?;
            json.push(b'\n');
            ui::json(&json)?;
            continue;
        }
        ui::data(human(&one).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// The decision and its reasons, a line each: what a run says, too, that may build nothing.
pub(super) fn decision(planned: &Planned) -> Vec<String> {
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

fn human(one: &survey::Surveyed) -> String {
    let planned = &one.planned;
    let (files, size) = one.context.size();
    let mut lines = decision(planned);
    lines.push(format!("{DIM}key   {}", planned.key));
    lines.push(format!("tag   {}", planned.tag));
    lines.extend(planned.builder.as_ref().map(|builder| format!("built on {builder}")));
    lines.push(format!("sent  {}, {}", plural(files, "file"), bytes(size)));
    if let Some((reason, line)) = one.context.whole() {
        lines.push(format!("      the whole context: {reason} (line {line} of the Dockerfile)"));
    }
    for (line, path) in &one.context.missing {
        lines.push(format!("      nothing matches `{path}` (line {line} of the Dockerfile)"));
    }
    if let Some((reason, line)) = one.context.without_cache() {
        let text =
            format!("cache podman builds it without: {reason} (line {line} of the Dockerfile)");
        lines.push(text);
    }
    lines.extend(one.context.widened().iter().map(|one| format!("      {}", one.reason)));
    for (base, id) in &one.parts.bases {
        let id = id.as_deref().map_or("not fetched yet", |id| id.get(..12).unwrap_or(id));
        lines.push(format!("base  {base} ({id})"));
    }
    lines.push(OFF.to_owned());
    lines.join("\n")
}
