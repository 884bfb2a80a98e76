//! `cargo xtask e2e SUITE`: the whole run as one graph.

use anyhow::{Result, anyhow};

use crate::cli;
use crate::commands::doctor;
use crate::config::Suite;
use crate::error::{ErrorExt as _, Exit};
use crate::run::execute::{RunRequest, RunSummary, execute};
use crate::session::Session;

pub(crate) fn run(session: &Session, args: &cli::E2e) -> Result<Exit> {
    if args.bootstrap {
        let exit = doctor::run(session, true)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    Ok(whole(session, args)?.exit)
}

/// The run without its bootstrap.
pub(crate) fn whole(session: &Session, args: &cli::E2e) -> Result<RunSummary> {
    let workspace = session.workspace()?;
    let suite = workspace.config.suite(&args.suite)?;
    refuse_shard(suite, args)?;
    let (images, build) = (&suite.images[..], args.build);
    let request = RunRequest { images, build, suite: Some((suite, args)), bundle: None };
    execute(session, &workspace, &request)
}

/// A command that knows nothing of shards would run all tests in each.
fn refuse_shard(suite: &Suite, args: &cli::E2e) -> Result<()> {
    let can = suite.test.as_ref().is_some_and(|test| test.shard.is_some());
    if args.shard.is_none() || can {
        return Ok(());
    }
    let what = format!("failed to shard suite `{}`: it does not say how", suite.name);
    let hint = "its `test` needs a `shard`, like [\"--partition\", \"count:{index}/{total}\"]";
    Err(anyhow!(what)).hint(hint).exit(Exit::Usage)
}
