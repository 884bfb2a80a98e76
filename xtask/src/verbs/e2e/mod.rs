//! `cargo xtask e2e SUITE`: the whole run as one graph.
//!
//! The graph is in [`super::layout`]; [`run`] does it, [`step`] applies and waits, [`last`] looks at all
//! of it before and after the tests. [`ahead`] looks at a kept cluster
//! while the plan is made; [`guest`] is what else there is on a cluster that others run.

mod ahead;
pub(super) mod guest;
mod last;
pub(super) mod render;
mod run;
mod step;

use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use self::ahead::Ahead;
use self::run::E2e;
use super::builds::{self, Common};
use super::cache::Cache;
use super::memory::Memory;
use super::survey::{self, Survey};
use super::{Session, opening, why};
use crate::cli;
use crate::config::{Config, Suite};
use crate::event::{Event, Summary};
use crate::exit::{Exit, WithExit as _};
use crate::plan::Action;
use crate::process::stop;

pub(super) fn run(session: &Session, args: &cli::E2e) -> Result<Exit> {
    if args.bootstrap {
        let exit = super::doctor::run(session, true)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    whole(session, args).map(|(exit, _)| exit)
}

/// The run, and what it came to.
pub(super) fn whole(session: &Session, args: &cli::E2e) -> Result<(Exit, Summary)> {
    let started = Instant::now();
    let _scope = stop::scope();
    let workspace = session.workspace()?;
    let suite = suite(&workspace.config, &args.suite)?.clone();
    refuse_shard(&suite, args)?;
    let again = || survey::survey(&workspace, &suite.images, args.build.force);
    let wanted = workspace.config.clusters.get(&suite.cluster);
    let (survey, ahead) = thread::scope(|threads| {
        let ahead = threads.spawn(|| Ahead::look(&workspace, &suite, wanted));
        (again(), ahead.join().unwrap_or_default())
    });
    let survey = survey?;
    require_prebuilt(&survey, args)?;
    let mut memory = Memory::look(&workspace, args.build.jobs, wanted)?;
    memory.call(&workspace, args.build.jobs, &survey);
    let cache = Cache::of(&workspace, args.build);
    if cache.is_none() {
        memory.refuse_any(&survey)?;
    }
    let run = session.begin(&workspace.paths)?;
    let survey = builds::fetch_bases(&workspace, &run, survey, args.build.pull, again)?;
    // A base that moved makes images stale that were not.
    require_prebuilt(&survey, args)?;
    opening::open(&workspace, &run, &survey)?;
    let cache = cache.as_ref();
    let (workspace, run, survey, memory) = (&workspace, &run, &survey, &memory);
    let common = Common { workspace, run, survey, memory, cache };
    let e2e = E2e::new(common, &suite, args, ahead)?;
    let summary = e2e.run(started)?;
    let exit = if summary.ok { Exit::Done } else { e2e.exit() };
    run.events.emit(Event::Summary(summary.clone()));
    Ok((exit, summary))
}

/// The suite called `name`.
pub(super) fn suite<'a>(config: &'a Config, name: &str) -> Result<&'a Suite> {
    config.suites.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.suites.keys().map(String::as_str).collect();
        let message = format!("failed to find suite `{name}` in `{}`", config.file.display());
        anyhow!("{message}\nhint: it has {}", known.join(", ")).exit(Exit::Usage)
    })
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
fn require_prebuilt(survey: &Survey, args: &cli::E2e) -> Result<()> {
    if !args.require_prebuilt {
        return Ok(());
    }
    let stale = survey.images.iter().filter(|one| one.planned.action == Action::Build);
    let lines: Vec<String> = stale.flat_map(|one| why::decision(&one.planned)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = format!("failed to find every image prebuilt\n{}", lines.join("\n"));
    Err(anyhow!("{what}\nhint: cargo xtask images --prebuild")).exit(Exit::Failed)
}
