//! `cargo xtask lint`: what the rules find in this repository.

use anyhow::Result;

use crate::cli;
use crate::error::Exit;
use crate::lint::{self, report};
use crate::session::Session;
use crate::ui;

pub(crate) fn run(session: &Session, format: cli::Format) -> Result<Exit> {
    let config = session.config()?;
    for step in lint::read::unseen(config) {
        ui::say(&format!("note: not looked at: {step}"));
    }
    let findings = lint::read::findings(config)?;
    match format {
        cli::Format::Human | cli::Format::Mermaid => {
            let lines: String = findings.iter().map(|one| report::text(one) + "\n").collect();
            ui::data(lines.as_bytes())?;
        }
        cli::Format::Json => ui::json(&report::json(&findings)?)?,
        cli::Format::Sarif => {
            let mut log = serde_json::to_vec_pretty(&report::sarif(&findings))?;
            log.push(b'\n');
            ui::json(&log)?;
        }
        cli::Format::Github => ui::exact(report::github(&findings).as_bytes())?,
    }
    Ok(if lint::is_passed(&findings) { Exit::Done } else { Exit::Failed })
}
