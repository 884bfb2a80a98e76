//! `cargo xtask cluster`: the cluster of a suite, alone.

use anyhow::{Context as _, Result};

use crate::cli::{self, ClusterAction};
use crate::cluster::{self, Cluster, Status};
use crate::config;
use crate::deploy;
use crate::error::Exit;
use crate::run::suite::shared_cluster;
use crate::session::{Session, Workspace};
use crate::ui;

pub(crate) fn run(session: &Session, args: &cli::Cluster) -> Result<Exit> {
    let workspace = session.workspace()?;
    let suite = workspace.config.suite(&args.suite)?;
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
    let target = workspace.target(wanted, Some(suite));
    let _lease = target.lease(&run.events)?;
    let cluster = target.up(&run.paths.log("cluster"), &run.events)?;
    let how = if cluster.made { "made" } else { "used again" };
    run.events.note(format!("cluster `{}` is up ({how})", cluster.name));
    ui::data(format!("export KUBECONFIG={}\n", cluster.kubeconfig.display()).as_bytes())?;
    Ok(Exit::Done)
}

fn down(session: &Session, workspace: &Workspace, wanted: &config::Cluster) -> Result<Exit> {
    let run = session.begin(&workspace.paths)?;
    let (target, log) = (workspace.target(wanted, None), run.paths.log("cluster"));
    let _lease = cluster::hold(&*target, &workspace.paths, &run.events)?;
    if let Some(existing) = &wanted.existing {
        clear(workspace, &target.up(&log, &run.events)?, existing)?;
    }
    target.down(&log)?;
    run.events.note(format!("cluster `{}` is down", wanted.name));
    Ok(Exit::Done)
}

/// Takes away all that runs of this checkout have left on a cluster that others run.
fn clear(workspace: &Workspace, cluster: &Cluster, existing: &config::Existing) -> Result<()> {
    let (kubectl, home) = (cluster.kubectl(), shared_cluster::home(workspace)?);
    let left = deploy::leftovers(&kubectl, &existing.owner)?;
    let mut ours = left.iter().filter(|left| left.home == home);
    ours.try_for_each(|left| deploy::free(&kubectl, left))
}

fn status(workspace: &Workspace, suite: &config::Suite, wanted: &config::Cluster) -> Result<Exit> {
    let status = workspace.target(wanted, Some(suite)).status()?;
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
