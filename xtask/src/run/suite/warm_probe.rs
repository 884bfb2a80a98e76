//! A kept cluster, looked at while the plan is still being made.
//!
//! What it is, whether it answers, what of earlier runs is applied there and what its nodes hold:
//! nothing of that depends on the plan, and asking takes as long as planning. Only who holds its
//! lease may look, since another run would change what was seen; and a cluster is only taken as it
//! is. One that must be made, started or mended is left to the cluster's own node of the graph, and
//! so is every fault.

use std::thread;

use crate::cluster::{Cluster, ClusterTarget, Lease};
use crate::config::Suite;
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
        let Some(wanted) = workspace.config.clusters.get(&suite.cluster) else {
            return Self::default();
        };
        let target = workspace.target(wanted, Some(suite));
        let lease = target.try_lease();
        let standing = lease.as_ref().and_then(|_| standing(workspace, &*target));
        Self { lease, standing }
    }
}

fn standing(workspace: &Workspace, target: &dyn ClusterTarget) -> Option<(Cluster, Kept)> {
    let Workspace { paths, engine, .. } = workspace;
    let mut cluster = target.standing()?;
    let kubectl = cluster.kubectl();
    let kept = Kept::open(&paths.applied(target.name()), &paths.digest_key());
    let answers = thread::scope(|threads| {
        let seen = cluster.clone();
        let answers = threads.spawn(move || seen.answers());
        threads.spawn(|| kept.look(&kubectl));
        cluster.look_at_nodes(&engine.tool());
        answers.join().unwrap_or_default()
    });
    answers.then_some((cluster, kept))
}
