//! `cargo xtask timings`: how long each step took over past runs, from their records alone.

use std::path::Path;

use anyhow::Result;

use crate::cli;
use crate::error::Exit;
use crate::paths::Paths;
use crate::print;
use crate::report::{KEPT, NEEDED, Past, Regression, Trend};
use crate::session::{Format, Session};
use crate::text::plural;
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Timings) -> Result<Exit> {
    let config = session.config()?;
    if let Some(name) = &args.suite {
        config.suite(name)?;
    }
    let paths = Paths::of(&config.root);
    let past = Past::read(&paths.runs(), KEPT);
    let names = args.suite.clone().map_or_else(|| past.suites(), |name| vec![name]);
    let trends: Vec<Trend> = names.iter().map(|name| Trend::of(name, &past)).collect();
    match session.format {
        Format::Json => {
            ui::json_line(&print::timings::json(&trends, &past.unreadable))?;
        }
        Format::Human => {
            past.note().iter().for_each(|note| ui::say(&format!("note: {note}")));
            let lines: Vec<String> = trends.iter().flat_map(print::timings::lines).collect();
            ui::data(lines.join("\n").as_bytes())?;
        }
    }
    if let Some(file) = &args.html {
        let text = print::timings::page_of_last(&past, args.suite.as_deref())?;
        let own = paths.timings_page();
        match file {
            Some(file) => write_page(file, &text)?,
            None => own.write(text.as_bytes())?,
        }
        let file = file.as_deref().unwrap_or(&own);
        ui::say(&format!("wrote {}", file.display()));
    }
    Ok(args.gate.map_or(Exit::Done, |gate| judge(gate, &trends)))
}

/// Names what became slower, and what cannot be judged.
fn judge(gate: cli::Gate, trends: &[Trend]) -> Exit {
    let regressions: Vec<&Regression> =
        trends.iter().flat_map(|trend| &trend.regressions).collect();
    for one in &regressions {
        ui::say(&print::timings::slower(one));
    }
    let unjudged: Vec<&Trend> = trends.iter().filter(|trend| !trend.judged).collect();
    for trend in &unjudged {
        let runs = plural(trend.runs.len() as u64, "run");
        ui::say(&format!("not judged: {}: {runs}, {NEEDED} are needed", trend.suite));
    }
    if trends.is_empty() {
        ui::say(&format!("not judged: no runs, {NEEDED} are needed"));
    }
    let all_judged = !trends.is_empty() && unjudged.is_empty();
    match gate {
        _ if !regressions.is_empty() => Exit::Failed,
        cli::Gate::Strict if !all_judged => Exit::Environment,
        _ => Exit::Done,
    }
}

/// Writes it where the user wants it.
fn write_page(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder)?;
    }
    Ok(fs_err::write(file, text)?)
}
