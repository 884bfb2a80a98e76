//! Stage 6: the cluster a suite runs on, and the images on its nodes.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `settings` | kind's configuration: ours merged into the user's |
//! | `nodes` | the containers that are the nodes: whose they are, and removing ours |
//! | `record` | what we made: its random id, fingerprint, containers |
//! | `existing` | a cluster that others run: reached, never made or deleted |
//! | `decide` | reuse, start, make, remake or refuse; pure |
//! | `kind` | making, starting, taking down |
//! | `port` | host ports, bound beforehand |
//! | `ready` | waiting for the API and for nodes that were started again |
//! | `ailing` | what is wrong with it, once something has failed |
//! | `load`, `held` | images onto the nodes, and what a node holds |
//! | `pull` | what a node pulls itself |
//! | `garbage` | what may go from the nodes of a kept cluster |
//! | `makers` | which checkout made a cluster |
//!
//! kind gets its provider by `KIND_EXPERIMENTAL_PROVIDER` at *every* call: a single call without it
//! asks another engine. The kubeconfig is our own file; the user's is neither read nor written, and
//! KUBECONFIG is taken out of every child's environment.

mod ailing;
mod decide;
mod existing;
mod garbage;
mod held;
mod kind;
mod load;
mod makers;
mod nodes;
mod port;
mod pull;
mod ready;
mod record;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config;
use crate::event::Events;
use crate::kubernetes;
use crate::paths::Paths;
use crate::process::Tool;

pub use ailing::{ailments, lost};
pub use existing::{look, reach, was_used};
pub use garbage::{free, garbage, is_kept, nodes_of};
use held::Held;
pub use held::{Image, digest, is_image};
pub use load::{Loaded, load};
pub use makers::makers;
pub use pull::{Pulls, is_reachable};
pub use record::{Lease, hold, is_held, is_made, share, try_hold};

/// A cluster that answers.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// kind's name for it.
    pub name: String,
    /// Private; the user's own is never touched.
    pub kubeconfig: PathBuf,
    /// Names of the node containers that run pods or the control plane.
    pub nodes: Vec<String>,
    /// Made by this run, not kept from another.
    pub made: bool,
    /// Run by others: nothing of it but what we apply is ours.
    pub shared: bool,
    /// SHA-256 of the kubeconfig.
    digest: String,
    /// What nodes held when they were looked at beforehand.
    seen: BTreeMap<String, Held>,
}

/// What is there under a cluster's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Absent,
    /// Ours and running, and what this configuration asks for.
    Running,
    /// Ours, but some node container is stopped.
    Stopped,
    /// Ours, but `up` would make it anew, for this reason.
    Outdated(String),
    /// Not made by this workspace, for this reason: we leave it alone.
    Foreign(String),
    /// Run by others, and not asked, for this reason.
    Unasked(String),
}

impl Cluster {
    /// Whether nothing of an earlier run is there under the names of this one.
    pub fn is_fresh(&self) -> bool {
        self.made || self.shared
    }

    /// Whether its API says just now that it is ready.
    pub fn answers(&self) -> bool {
        ready::is_ready(&self.kubectl())
    }

    /// Asks its nodes what they hold, for a load that follows at once. A node that does not answer
    /// is asked again by the load, whose failure it is then.
    pub fn look_at_nodes(&mut self, engine: &Tool) {
        let look = |node: &String| Some((node.clone(), Held::on(engine, node).ok()?));
        self.seen = self.nodes.iter().filter_map(look).collect();
    }

    /// kubectl for this cluster, with a discovery cache of its own.
    pub fn kubectl(&self) -> Tool {
        kubernetes::kubectl(&self.kubeconfig)
    }
}

/// Brings the cluster up: reused if it is the one that is wanted, else started, made or made anew.
/// Returns as soon as its API answers; pods wait for the rest by themselves.
pub fn up(
    wanted: &config::Cluster,
    ports: &[&config::Port],
    provider: &str,
    paths: &Paths,
    log: &Path,
    events: &Events,
) -> anyhow::Result<Cluster> {
    match &wanted.existing {
        Some(existing) => reach(&wanted.name, existing, paths, events),
        None => kind::Site::of(wanted, ports, provider, paths, log)?.up(events),
    }
}

/// The cluster as it is, if `up` would have nothing to do but ask whether it answers. Starts, makes
/// and mends nothing; whatever cannot be asked is left to `up`, which says why.
pub fn standing(
    wanted: &config::Cluster,
    ports: &[&config::Port],
    provider: &str,
    paths: &Paths,
) -> Option<Cluster> {
    if wanted.existing.is_some() || !is_made(&wanted.name, provider, paths) {
        return None;
    }
    let log = paths.cluster(&wanted.name).join("status.log");
    kind::Site::of(wanted, ports, provider, paths, &log).ok()?.standing()
}

/// Takes the cluster down, if we made it; a cluster that is not there is down already, and one that
/// others run is only forgotten.
pub fn down(
    wanted: &config::Cluster,
    provider: &str,
    paths: &Paths,
    log: &Path,
) -> anyhow::Result<()> {
    match wanted.existing {
        Some(_) => forget(wanted, paths),
        None => kind::down(&wanted.name, provider, paths, log),
    }
}

/// Takes away what is kept here of a cluster that others run, its kubeconfig with it.
pub fn forget(wanted: &config::Cluster, paths: &Paths) -> anyhow::Result<()> {
    record::forget_folder(paths, &wanted.name)
}

/// What `up` would find.
pub fn status(
    wanted: &config::Cluster,
    ports: &[&config::Port],
    provider: &str,
    paths: &Paths,
) -> anyhow::Result<Status> {
    if let Some(existing) = &wanted.existing {
        let looked = look(&wanted.name, existing, paths, &Events::silent())?;
        return Ok(looked.map_or_else(Status::Unasked, |_| Status::Running));
    }
    let log = paths.cluster(&wanted.name).join("status.log");
    Ok(kind::Site::of(wanted, ports, provider, paths, &log)?.status())
}
