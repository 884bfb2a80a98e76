//! `cargo xtask why IMAGE`: the decision about one image, down to the file.

use anyhow::Result;

use crate::cli;
use crate::error::Exit;
use crate::plan::Plan;
use crate::run::decision::decision;
use crate::run::evaluate;
use crate::session::{Format, Session};
use crate::text::{DIM, OFF, bytes, plural};
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Why) -> Result<Exit> {
    let workspace = session.workspace()?;
    let evaluation = evaluate::evaluate(&workspace, std::slice::from_ref(&args.image), false)?;
    for one in evaluation.images {
        if session.format == Format::Json {
            ui::json_line(&Plan::new(vec![one.planned], Vec::new()))?;
            continue;
        }
        ui::data(human(&one).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn human(one: &evaluate::ImageState) -> String {
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
    if one.context.sends_git() {
        lines.push(
            "      `.git`, so that every commit and every fetch makes another key".to_owned(),
        );
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
