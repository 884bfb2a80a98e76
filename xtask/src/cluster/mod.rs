//! Stage 6: the cluster a suite runs on, and the images on its nodes.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `settings` | kind's configuration: ours merged into the user's |
//! | `nodes` | the containers that are the nodes: whose they are, and removing ours |
//! | `record` | what we made: its random id, fingerprint, containers |
//! | `target` | the cluster that a suite names, whoever runs it |
//! | `decide` | reuse, start, make, remake or refuse; pure |
//! | `kind` | a cluster of ours: making, starting, taking down |
//! | `shared` | a cluster that others run: reached, never made or deleted |
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
mod shared;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::kubernetes;
use crate::process::Tool;

pub use ailing::{ailments, lost};
pub use garbage::{free, garbage, is_kept, nodes_of};
use held::Held;
pub use held::{Image, digest, is_image};
pub use load::{Loaded, load};
pub use makers::makers;
pub use pull::{Pulls, is_reachable};
pub use record::{Lease, hold, is_made};
pub use shared::Shared;
pub use target::{ClusterTarget, target};

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
