//! The cluster that a suite names, whoever runs it: kind's here, or one that others run.

use std::path::Path;

use super::record::{self, Lease};
use super::shared::Shared;
use super::{Cluster, Status, kind};
use crate::config;
use crate::event::Events;
use crate::paths::Paths;
use crate::private::PrivatePath;

/// What can be done with a cluster that the configuration names.
pub trait ClusterTarget {
    /// Its name.
    fn name(&self) -> &str;

    /// Brings it up: used again if it is the one that is wanted, else started, made or made anew.
    /// Returns as soon as its API answers; pods wait for the rest by themselves.
    fn up(&self, log: &Path, events: &Events) -> anyhow::Result<Cluster>;

    /// The cluster as it is, if `up` would have nothing to do but ask whether it answers. Starts,
    /// makes and mends nothing; whatever cannot be asked is left to `up`, which says why.
    fn standing(&self) -> Option<Cluster>;

    /// Takes it down, if we made it; one that is not there is down already, and one that others run
    /// is only forgotten, its kubeconfig with it.
    fn down(&self, log: &Path) -> anyhow::Result<()>;

    /// What `up` would find.
    fn status(&self) -> anyhow::Result<Status>;

    /// The lock that runs hold while they use it.
    fn lock(&self) -> anyhow::Result<PrivatePath>;

    /// Waits for its turn: alone on a cluster of ours, side by side with others on one of theirs.
    fn lease(&self, events: &Events) -> anyhow::Result<Lease>;

    /// Its lease without waiting; none while another run uses it, or if it is not ours to hold.
    fn try_lease(&self) -> Option<Lease>;

    /// Whether a run has it just now.
    fn is_held(&self) -> bool {
        self.lock().is_ok_and(|lock| record::is_held(&lock))
    }
}

/// The cluster `wanted`, whose `ports` are opened by the engine `provider`.
pub fn target<'a>(
    wanted: &'a config::Cluster,
    ports: Vec<&'a config::Port>,
    provider: &'a str,
    paths: &'a Paths,
) -> Box<dyn ClusterTarget + 'a> {
    match &wanted.existing {
        Some(existing) => Box::new(Shared { name: &wanted.name, existing, paths }),
        None => Box::new(kind::Kind { wanted, ports, provider, paths }),
    }
}
