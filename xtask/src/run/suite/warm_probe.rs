//! A kept cluster, looked at while the plan is still being made.
//!
//! What it is, whether it answers, what of earlier runs is applied there and what its nodes hold:
//! nothing of that depends on the plan, and asking takes as long as planning. Only who holds its
//! lease may look, since another run would change what was seen; and a cluster is only taken as it
//! is. One that must be made, started or mended is left to the cluster's own node of the graph, and
//! so is every fault.

use std::thread;

use crate::cluster::{self, Cluster, Lease};
use crate::config::{self, Suite};
use crate::deploy::Kept;
use crate::session::Workspace;

/// What is known of the cluster before the run begins.
#[derive(Default)]
pub(crate) struct WarmProbe {
    /// None while another run uses the cluster.
    pub(crate) lease: Option<Lease>,
    /// The cluster, if nothing has to be done to it.
    pub(crate) standing: Option<(Cluster, Kept)>,
}

impl WarmProbe {
    pub(crate) fn look(workspace: &Workspace, suite: &Suite) -> Self {
        let wanted = workspace.config.clusters.get(&suite.cluster);
        // One that others run is neither held nor kept.
        let Some(wanted) = wanted.filter(|one| one.existing.is_none()) else {
            return Self::default();
        };
        let lease = cluster::try_hold(wanted, workspace.engine.name(), &workspace.paths);
        let lease = lease.ok().flatten();
        let standing = lease.as_ref().and_then(|_| standing(workspace, suite, wanted));
        Self { lease, standing }
    }
}

fn standing(
    workspace: &Workspace,
    suite: &Suite,
    wanted: &config::Cluster,
) -> Option<(Cluster, Kept)> {
    let Workspace { config, paths, engine } = workspace;
    let ports = config.suite_ports(suite);
    let mut cluster = cluster::standing(wanted, &ports, engine.name(), paths)?;
    let kubectl = cluster.kubectl();
    let kept = Kept::open(&paths.applied(&wanted.name), &paths.digest_key());
    let answers = thread::scope(|threads| {
        let seen = cluster.clone();
        let answers = threads.spawn(move || seen.answers());
        threads.spawn(|| kept.look(&kubectl));
        cluster.look_at_nodes(&engine.tool());
        answers.join().unwrap_or_default()
    });
    answers.then_some((cluster, kept))
}
