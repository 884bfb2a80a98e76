//! `cargo xtask doctor`: what a run needs of this machine, each fault with the command that mends
//! it.

use anyhow::Result;

use crate::doctor::{self, Finding, Needs};
use crate::error::Exit;
use crate::paths::Paths;
use crate::print;
use crate::run::needs::{self, Wants};
use crate::session::{Format, Session};
use crate::ui;

pub(crate) fn run(session: &Session, fix: bool) -> Result<Exit> {
    examined(session, fix, |needs| needs)
}

/// Mends what is needed, and brings what the project's own tests want besides: one renders a chart.
pub(crate) fn mend_for_tests(session: &Session) -> Result<Exit> {
    examined(session, true, |needs| Needs { helm: true, ..needs })
}

fn examined(
    session: &Session,
    fix: bool,
    besides: impl FnOnce(Needs<'_>) -> Needs<'_>,
) -> Result<Exit> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let wants = Wants::of(config)?;
    let engine = session.engine.unwrap_or(config.engine.name);
    let needs = besides(wants.needs(engine, config, &paths));
    let look = |strange: &[String]| needs::look(needs.engine, config, strange);
    let mut findings =
        if fix { mended(session, &needs, &look, &paths)? } else { doctor::examine(&needs, &look) };
    findings.extend(config.builders.iter().map(|one| needs::builder(one, config.engine.reserve)));
    match session.format {
        Format::Json => {
            ui::json_line(&findings)?;
        }
        Format::Human => {
            for finding in &findings {
                ui::say(&print::findings::line(finding));
            }
        }
    }
    let faults = findings.iter().any(Finding::is_fault);
    Ok(if faults { Exit::Environment } else { Exit::Done })
}

/// Mends what can be mended; on a healthy machine nothing is even logged.
fn mended(
    session: &Session,
    needs: &Needs,
    look: &doctor::Look,
    paths: &Paths,
) -> Result<Vec<Finding>> {
    let findings = doctor::examine(needs, look);
    if !findings.iter().any(Finding::is_fault) {
        return Ok(findings);
    }
    let run = session.begin(paths)?;
    doctor::fix(needs, look, &run.paths.log("doctor"), &run.events)
}
