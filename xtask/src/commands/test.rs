//! `cargo xtask test`: the project's own tests, as CI runs them.
//!
//! | step | counts |
//! | --- | --- |
//! | `cargo fmt --check` | as one |
//! | `cargo clippy`, warnings are errors | as one |
//! | `cargo test`, all but the suites | every test |
//! | the tests that it ignores: those that need an engine, and those that make a cluster | every test |
//! | `lint` of this repository | as one |
//! | the justfile: each recipe is a command we understand, and one is run | every recipe |
//! | the workflows: each command is a recipe, with arguments it takes | every command |
//! | pytest over what is written in Python | every test |
//! | `e2e` of every suite of the configuration, one after the other | every test |
//!
//! Every step runs, whatever became of those before it; only the suites want a machine that was
//! mended. A step that fails without a failed test (it did not compile) counts as one failure, and
//! so does one of the kind "every test" in which no test ran. The last line on stdout is `N passed,
//! N failed`, with `, N skipped` where there are any.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use crate::chores::steps::{self, Kind, LIMIT, Outcome, one, timed};
use crate::chores::{justfile, python};
use crate::cli;
use crate::commands::e2e;
use crate::error::Exit;
use crate::event::Summary;
use crate::paths::Paths;
use crate::process::stop;
use crate::run::execute::RunSummary;
use crate::session::Session;
use crate::suite::Counts;
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Test) -> Result<Exit> {
    let root = session.config()?.root.clone();
    let paths = Paths::of(&root);
    let mended = if args.bootstrap {
        crate::commands::doctor::mend_for_tests(session)
    } else {
        Ok(Exit::Done)
    };
    let mut counts = own_tests(session, &root, &paths, args.bootstrap)?;
    let mended = mended.and_then(|exit| {
        ensure!(exit == Exit::Done, "failed to make this machine ready for the suites");
        Ok(())
    });
    match mended {
        Ok(()) => suites(session, &mut counts)?,
        Err(error) => counts += one("suites", Kind::Tests, Err(error)),
    }
    ui::data(steps::closing_line(counts).as_bytes())?;
    Ok(if counts.failed == 0 { Exit::Done } else { Exit::Failed })
}

/// Each suite has a run of its own.
fn suites(session: &Session, counts: &mut Counts) -> Result<()> {
    for name in session.config()?.suites.keys() {
        stop::check()?;
        *counts += one(&format!("e2e {name}"), Kind::Tests, suite(session, name));
    }
    Ok(())
}

/// All but the suites.
fn own_tests(session: &Session, root: &Path, paths: &Paths, bootstrap: bool) -> Result<Counts> {
    let run = session.begin(paths)?;
    let mut counts = Counts::default();
    if bootstrap {
        steps::install_called(&run.paths.log("packages"));
    }
    for (name, kind, tool) in steps::commands()? {
        stop::check()?;
        let tool = tool.folder(root).limit(LIMIT).log(run.paths.log(name));
        let added = timed(&run, name, kind, || Ok(steps::counted(&tool)));
        if kind == Kind::Ignored {
            // The step `tests` skipped them.
            counts.skipped = counts.skipped.saturating_sub(added.ran());
        }
        counts += added;
    }
    counts += timed(&run, "lint", Kind::Check, || steps::lint(session.config()?));
    counts += timed(&run, "pytest", Kind::Tests, || python::tests(root, paths, &run, bootstrap));
    let recipes = || justfile::check(root, paths, &run, bootstrap);
    counts += timed(&run, "justfile", Kind::Tests, recipes);
    Ok(counts)
}

fn suite(session: &Session, name: &str) -> Result<Outcome> {
    let RunSummary { exit, summary } = e2e::whole(session, &cli::E2e::of(name))?;
    let end = if exit == Exit::Done { Ok(()) } else { Err(anyhow!("see above")) };
    let Summary { passed, failed, skipped_tests: skipped, .. } = summary;
    Ok((Counts { passed, failed, skipped }, end))
}
