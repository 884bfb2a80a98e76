//! `cargo xtask e2e SUITE`: the whole run as one graph.
//!
//! The graph is in [`crate::run::graph`]; [`run`] does it, [`step`] applies and waits, [`last`] looks at all
//! of it before and after the tests. [`ahead`] looks at a kept cluster
//! while the plan is made; [`guest`] is what else there is on a cluster that others run.

use crate::run::decision::decision;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::cli;
use crate::config::Suite;
use crate::event::{Event, Summary};
use crate::exit::{Exit, WithExit as _};
use crate::plan::Action;
use crate::process::stop;
use crate::run::build::{self, RunContext};
use crate::run::cache::Cache;
use crate::run::evaluate::{self, Evaluation};
use crate::run::memory::Memory;
use crate::run::startup_cleanup;
use crate::run::suite::execute::E2e;
use crate::run::suite::warm_probe::WarmProbe;
use crate::session::Session;

pub(crate) fn run(session: &Session, args: &cli::E2e) -> Result<Exit> {
    if args.bootstrap {
        let exit = crate::commands::doctor::run(session, true)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    whole(session, args).map(|(exit, _)| exit)
}

/// The run, and what it came to.
pub(crate) fn whole(session: &Session, args: &cli::E2e) -> Result<(Exit, Summary)> {
    let started = Instant::now();
    let _scope = stop::scope();
    let workspace = session.workspace()?;
    let suite = workspace.config.suite(&args.suite)?.clone();
    refuse_shard(&suite, args)?;
    let again = || evaluate::evaluate(&workspace, &suite.images, args.build.force);
    let wanted = workspace.config.clusters.get(&suite.cluster);
    let (evaluation, ahead) = thread::scope(|threads| {
        let ahead = threads.spawn(|| WarmProbe::look(&workspace, &suite, wanted));
        (again(), ahead.join().unwrap_or_default())
    });
    let evaluation = evaluation?;
    require_prebuilt(&evaluation, args)?;
    let mut memory = Memory::look(&workspace, args.build.jobs, wanted)?;
    memory.call(&workspace, args.build.jobs, &evaluation);
    let cache = Cache::of(&workspace, args.build);
    if cache.is_none() {
        memory.refuse_any(&evaluation)?;
    }
    let run = session.begin(&workspace.paths)?;
    let evaluation = build::fetch_bases(&workspace, &run, evaluation, args.build.pull, again)?;
    // A base that moved makes images stale that were not.
    require_prebuilt(&evaluation, args)?;
    startup_cleanup::open(&workspace, &run, &evaluation)?;
    let cache = cache.as_ref();
    let (workspace, run, evaluation, memory) = (&workspace, &run, &evaluation, &memory);
    let common = RunContext { workspace, run, evaluation, memory, cache };
    let e2e = E2e::new(common, &suite, args, ahead)?;
    let summary = e2e.run(started)?;
    let exit = if summary.ok { Exit::Done } else { e2e.exit() };
    run.events.emit(Event::Summary(summary.clone()));
    Ok((exit, summary))
}

/// A command that knows nothing of shards would run all tests in each.
fn refuse_shard(suite: &Suite, args: &cli::E2e) -> Result<()> {
    let can = suite.test.as_ref().is_some_and(|test| test.shard.is_some());
    if args.shard.is_none() || can {
        return Ok(());
    }
    let what = format!("failed to shard suite `{}`: it does not say how", suite.name);
    let hint = "its `test` needs a `shard`, like [\"--partition\", \"count:{index}/{total}\"]";
    Err(anyhow!("{what}\nhint: {hint}")).exit(Exit::Usage)
}

/// Nothing is to be built with `--require-prebuilt`, whatever else was asked for.
fn require_prebuilt(evaluation: &Evaluation, args: &cli::E2e) -> Result<()> {
    if !args.require_prebuilt {
        return Ok(());
    }
    let stale = evaluation.images.iter().filter(|one| one.planned.action == Action::Build);
    let lines: Vec<String> = stale.flat_map(|one| decision(&one.planned)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = format!("failed to find every image prebuilt\n{}", lines.join("\n"));
    Err(anyhow!("{what}\nhint: cargo xtask images --prebuild")).exit(Exit::Failed)
}
