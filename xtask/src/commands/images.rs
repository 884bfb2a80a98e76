//! `cargo xtask images`: bring images up to date.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cli;
use crate::config::Suite;
use crate::error::Exit;
use crate::run::execute::{RunRequest, execute};
use crate::run::{bundle, decision, evaluate};
use crate::session::{Session, Workspace};

pub(crate) fn run(session: &Session, args: &cli::Images) -> Result<Exit> {
    let workspace = session.workspace()?;
    let names = names(&workspace, args)?;
    if let Some(file) = &args.from_bundle {
        return bundle::load(session, &workspace, &names, args, file);
    }
    if args.check {
        return Ok(decision::check(&evaluate::evaluate(&workspace, &names, args.build.force)?));
    }
    let (build, bundle) = (args.build, args.bundle.as_deref());
    let request = RunRequest { images: &names, build, suite: None, bundle };
    Ok(execute(session, &workspace, &request)?.exit)
}

/// The images asked for; with `--prebuild` those that suites name.
fn names(workspace: &Workspace, args: &cli::Images) -> Result<Vec<String>> {
    let config = &workspace.config;
    let suites: Vec<&Suite> = if args.prebuild {
        config.suites.values().collect()
    } else {
        args.suite.iter().map(|name| config.suite(name)).collect::<Result<_>>()?
    };
    if !args.prebuild && suites.is_empty() {
        return Ok(evaluate::or_all(config, &args.names));
    }
    let images = suites.into_iter().flat_map(|suite| suite.images.clone());
    Ok(images.collect::<BTreeSet<_>>().into_iter().collect())
}
