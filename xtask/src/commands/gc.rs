//! `cargo xtask gc`: frees what earlier builds have left, and says first what that is.

use anyhow::Result;

use crate::cli;
use crate::error::Exit;
use crate::print;
use crate::run::garbage::Garbage;
use crate::run::startup_cleanup;
use crate::session::Session;
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Gc) -> Result<Exit> {
    let workspace = session.workspace()?;
    if !args.dry_run {
        crate::session::own(&workspace.paths)?;
    }
    let garbage = Garbage::find(&workspace, args.keep)?;
    ui::data(print::garbage::text(&workspace, &garbage).as_bytes())?;
    if args.dry_run {
        return Ok(Exit::Done);
    }
    startup_cleanup::sweep_stages(&workspace);
    Ok(garbage.free(&workspace))
}
