//! [`Machine`]: what was seen of this machine, as plain facts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::containers_conf::ContainersConf;
use super::images::Held;
use super::kind_clusters::KindCluster;

/// Everything `diagnose` decides by. Sizes in bytes.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) os: Os,
    /// Whether we may do what only root may.
    pub(super) root: bool,
    pub(super) apt: bool,
    pub(super) engine: Engine,
    /// Those of [`super::packages`] whose files are there.
    pub(super) packages: BTreeSet<&'static str>,
    pub(super) cgroup: Cgroup,
    pub(super) limits: Limits,
    pub(super) conf: ContainersConf,
    pub(super) proof: Proof,
    pub(super) images: BTreeMap<String, Held>,
    /// Recipes of stand-ins, by canonical reference.
    pub(super) recipes: BTreeMap<String, PathBuf>,
    pub(super) tools: Tools,
    pub(super) clusters: Vec<KindCluster>,
    pub(super) ports_taken: Vec<u16>,
    pub(super) lib_modules: bool,
    pub(super) memory: Memory,
    /// Free bytes where images and where the workspace lie.
    pub(super) disks: Vec<(PathBuf, u64)>,
    pub(super) kubeconfig: Option<String>,
    /// `fs.inotify.max_user_instances`.
    pub(super) inotify_instances: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Os {
    Linux,
    Mac,
    Windows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineKind {
    Podman,
    Docker,
}

impl EngineKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            EngineKind::Podman => "podman",
            EngineKind::Docker => "docker",
        }
    }
}

/// The engine that would be used, there or not.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) kind: EngineKind,
    pub(super) installed: bool,
    /// What it said instead of answering.
    pub(super) silent: Option<String>,
    pub(super) version: Option<Version>,
    /// Whether the other engine would answer too.
    pub(super) other: bool,
}

/// Major and minor.
pub(super) type Version = (u32, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cgroup {
    V2,
    /// v1 controllers beside a v2 tree, or v1 alone.
    V1,
}

/// What a process started by us may be given at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) open_files: u64,
    pub(super) processes: u64,
    /// `CAP_SYS_RESOURCE`: hard limits are no limit.
    pub(super) may_raise: bool,
}

/// Whether a container has been seen to run on this machine as it is set up now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Works,
    Fails(String),
    /// No engine, or nothing to run.
    Untried,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tools {
    pub(super) kind: Option<Version>,
    pub(super) kubectl: Option<PathBuf>,
    pub(super) helm: Option<PathBuf>,
    pub(super) go: Option<PathBuf>,
    /// Where programs we install go: a folder that is searched.
    pub(super) folder: PathBuf,
}

/// `engine` is there where the engine lives in a virtual machine of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) available: Option<u64>,
    pub(super) engine: Option<u64>,
}
