//! Whose turn it is on a cluster, and taking it down.

use std::path::Path;

use anyhow::Result;

use crate::cluster::{self, Lease};
use crate::config;
use crate::session::{Run, Workspace};

/// Takes the cluster down if it is ours; one that others run is forgotten.
pub(crate) fn take_down(workspace: &Workspace, wanted: &config::Cluster, log: &Path) -> Result<()> {
    cluster::down(wanted, workspace.engine.name(), &workspace.paths, log)
}

/// A cluster of ours is held; one that others run is shared with other runs.
pub(crate) fn lease(wanted: &config::Cluster, workspace: &Workspace, run: &Run) -> Result<Lease> {
    let take = if wanted.existing.is_some() { cluster::share } else { cluster::hold };
    take(wanted, workspace.engine.name(), &workspace.paths, &run.events)
}
