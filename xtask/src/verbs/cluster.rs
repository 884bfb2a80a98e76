//! `cargo xtask cluster`: the cluster of a suite, alone.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::e2e::{self, guest};
use super::{Run, Session, Workspace};
use crate::cli::{self, ClusterAction};
use crate::cluster::{self, Lease, Status};
use crate::config;
use crate::deploy;
use crate::exit::Exit;
use crate::ui;

pub(super) fn run(session: &Session, args: &cli::Cluster) -> Result<Exit> {
    let workspace = session.workspace()?;
    let suite = e2e::suite(&workspace.config, &args.suite)?;
    let wanted = workspace.config.clusters.get(&suite.cluster);
    let wanted = wanted.with_context(|| format!("there is no cluster `{}`", suite.cluster))?;
    match args.action {
        ClusterAction::Up => up(session, &workspace, suite, wanted),
        ClusterAction::Down => down(session, &workspace, wanted),
        ClusterAction::Status => status(&workspace, suite, wanted),
    }
}

fn up(
    session: &Session,
    workspace: &Workspace,
    suite: &config::Suite,
    wanted: &config::Cluster,
) -> Result<Exit> {
    let run = session.begin(&workspace.paths)?;
    let ports = workspace.config.suite_ports(suite);
    let (provider, log) = (workspace.engine.name(), run.paths.log("cluster"));
    let _lease = lease(wanted, workspace, &run)?;
    let cluster = cluster::up(wanted, &ports, provider, &workspace.paths, &log, &run.events)?;
    let how = if cluster.made { "made" } else { "used again" };
    run.events.note(format!("cluster `{}` is up ({how})", cluster.name));
    ui::data(format!("export KUBECONFIG={}\n", cluster.kubeconfig.display()).as_bytes())?;
    Ok(Exit::Done)
}

fn down(session: &Session, workspace: &Workspace, wanted: &config::Cluster) -> Result<Exit> {
    let run = session.begin(&workspace.paths)?;
    let (provider, paths) = (workspace.engine.name(), &workspace.paths);
    let _lease = cluster::hold(wanted, provider, paths, &run.events)?;
    let log = run.paths.log("cluster");
    if let Some(existing) = &wanted.existing {
        clear(workspace, wanted, existing, &run)?;
    }
    take_down(workspace, wanted, &log)?;
    run.events.note(format!("cluster `{}` is down", wanted.name));
    Ok(Exit::Done)
}

/// Takes the cluster down if it is ours; one that others run is forgotten.
pub(super) fn take_down(workspace: &Workspace, wanted: &config::Cluster, log: &Path) -> Result<()> {
    cluster::down(wanted, workspace.engine.name(), &workspace.paths, log)
}

/// A cluster of ours is held; one that others run is shared with other runs.
pub(super) fn lease(wanted: &config::Cluster, workspace: &Workspace, run: &Run) -> Result<Lease> {
    let take = if wanted.existing.is_some() { cluster::share } else { cluster::hold };
    take(wanted, workspace.engine.name(), &workspace.paths, &run.events)
}

/// Takes away all that runs of this checkout have left on a cluster that others run.
fn clear(
    workspace: &Workspace,
    wanted: &config::Cluster,
    existing: &config::Existing,
    run: &Run,
) -> Result<()> {
    let cluster = cluster::reach(&wanted.name, existing, &workspace.paths, &run.events)?;
    let (kubectl, home) = (cluster.kubectl(), guest::home(workspace)?);
    let left = deploy::leftovers(&kubectl, &existing.owner)?;
    let mut ours = left.iter().filter(|left| left.home == home);
    ours.try_for_each(|left| deploy::free(&kubectl, left))
}

fn status(workspace: &Workspace, suite: &config::Suite, wanted: &config::Cluster) -> Result<Exit> {
    let ports = workspace.config.suite_ports(suite);
    let status = cluster::status(wanted, &ports, workspace.engine.name(), &workspace.paths)?;
    let words = match &status {
        Status::Absent => "not there".to_owned(),
        Status::Running => "running, and what the configuration asks for".to_owned(),
        Status::Stopped => "stopped; the next run starts it again".to_owned(),
        Status::Outdated(why) => format!("outdated ({why}); the next run makes it anew"),
        Status::Foreign(why) => format!("not ours ({why}); it will not be touched"),
        Status::Unasked(why) => format!("not asked: {why}"),
    };
    ui::data(format!("{}: {words}\n", wanted.name).as_bytes())?;
    Ok(if status == Status::Running { Exit::Done } else { Exit::Failed })
}
