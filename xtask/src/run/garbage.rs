//! What earlier runs have left and nobody needs: on the engine, on nodes, on clusters of others.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cluster::{self, Cluster, ClusterTarget as _, Shared};
use crate::deploy::{self, Leftover};
use crate::engine::{self, Old};
use crate::error::Exit;
use crate::event::Events;
use crate::run::{evaluate, project};
use crate::session::Workspace;
use crate::ui;

/// What may go.
pub(crate) struct Garbage {
    pub(crate) old: Vec<Old>,
    pub(crate) on_nodes: Vec<OnNode>,
    pub(crate) on_clusters: Vec<OnCluster>,
}

/// A node, and the names on it that may go.
pub(crate) type OnNode = (String, Vec<String>);

/// What may go from the nodes of the clusters that are ours and run.
fn on_nodes(
    workspace: &Workspace,
    names: &BTreeSet<String>,
    stay: &BTreeSet<String>,
) -> Result<Vec<OnNode>> {
    let (provider, tool) = (workspace.engine.name(), workspace.engine.tool());
    let mut found = Vec::new();
    for wanted in workspace.config.clusters.values() {
        if !cluster::is_kept(wanted, provider, &workspace.paths)? {
            continue;
        }
        for node in cluster::nodes_of(provider, &wanted.name)? {
            let names = cluster::garbage(&tool, &node, names, stay)?;
            found.extend((!names.is_empty()).then_some((node, names)));
        }
    }
    Ok(found)
}

/// A cluster that others run, and what runs have left there whose time is over.
pub(crate) type OnCluster = (Cluster, Vec<Leftover>);

/// What may go from clusters that others run, of those that runs of this checkout have used.
fn on_clusters(workspace: &Workspace) -> Vec<OnCluster> {
    let wanted = workspace.config.clusters.values();
    let shared = wanted.filter_map(|one| {
        Some(Shared { name: &one.name, existing: one.existing.as_ref()?, paths: &workspace.paths })
    });
    let used = shared.filter(Shared::was_used);
    let look = |shared: Shared| {
        let events = Events::silent();
        let _lease = shared.lease(&events)?;
        match shared.look(&events)? {
            Ok(cluster) => {
                let over = deploy::expired(&cluster.kubectl(), &shared.existing.owner)?;
                Ok(Some((cluster, over)))
            }
            Err(why) => {
                ui::say(&format!("note: cluster `{}` was not asked: {why}", shared.name));
                Ok(None)
            }
        }
    };
    let looked = used.map(look);
    let said = |found: Result<Option<OnCluster>>| found.inspect_err(ui::error).ok().flatten();
    looked.filter_map(said).collect()
}

impl Garbage {
    /// Looks for it everywhere; of each image the `keep` newest keys stay.
    pub(crate) fn find(workspace: &Workspace, keep: u16) -> Result<Self> {
        let evaluation =
            evaluate::evaluate(workspace, &evaluate::or_all(&workspace.config, &[]), false)?;
        let mut wanted = project::wanted(workspace.engine.name())?;
        wanted.extend(evaluation.images.iter().map(|one| one.planned.key.to_string()));
        let kept = engine::Kept {
            names: workspace.config.images.keys().cloned().collect(),
            projects: project::marks(&workspace.config.root)?,
            keys: wanted,
            ids: workspace.engine.in_use()?,
            newest: keep.into(),
        };
        let ours = workspace.engine.ours()?;
        let old = engine::garbage(ours.clone(), &kept);
        let freed: BTreeSet<&str> = old.iter().map(|old| old.id.as_str()).collect();
        let stay = ours.iter().filter(|one| !freed.contains(one.id.as_str()));
        let mut stay: BTreeSet<String> = stay.flat_map(|one| one.tags.clone()).collect();
        stay.extend(evaluation.images.iter().map(|one| one.planned.tag.clone()));
        let on_nodes = on_nodes(workspace, &kept.names, &stay)?;
        let on_clusters = on_clusters(workspace);
        Ok(Self { old, on_nodes, on_clusters })
    }

    /// Frees all it can; what cannot go is said, and is no reason to keep the rest.
    pub(crate) fn free(&self, workspace: &Workspace) -> Exit {
        let Self { old, on_nodes, on_clusters } = self;
        let (engine, tool) = (&workspace.engine, workspace.engine.tool());
        let images = old.iter().map(|old| engine.free(old));
        let nodes = on_nodes.iter().map(|(node, names)| cluster::free(&tool, node, names));
        let clusters = on_clusters.iter().flat_map(|(cluster, left)| {
            left.iter().map(|left| deploy::expire(&cluster.kubectl(), left))
        });
        let failed = images.chain(nodes).chain(clusters).filter_map(Result::err);
        let failed = failed.inspect(ui::error).count();
        if failed == 0 { Exit::Done } else { Exit::Failed }
    }
}
