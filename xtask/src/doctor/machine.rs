//! [`Machine`]: what was seen of this machine, as plain facts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::containers::KindCluster;
use super::containers_conf::ContainersConf;
use super::images::Held;
use super::upkeep::Upkeep;
use crate::engine::Facts;
use crate::port::Holder;

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
    pub(super) ports_taken: BTreeMap<u16, Holder>,
    pub(super) lib_modules: bool,
    /// `MemAvailable` of this host.
    pub(super) available: Option<u64>,
    pub(super) disks: Vec<Disk>,
    pub(super) kubeconfig: Kubeconfig,
    pub(super) inotify: Inotify,
    pub(super) ours: Ours,
    /// Those variables that turn an engine or kind to another place, as they are set.
    pub(super) pointers: BTreeMap<&'static str, String>,
}

impl Machine {
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.ours.facts.as_ref()
    }

    /// The version of a program that a run uses.
    pub(super) fn version(&self, program: &str) -> Option<Version> {
        let of_engine = |facts: &Facts| match program {
            "conmon" => read_version(facts.conmon_version.as_deref()?),
            name if name == facts.runtime => read_version(facts.runtime_version.as_deref()?),
            _ => None,
        };
        match program {
            "kind" => self.tools.kind,
            name if name == self.engine.kind.name() => self.engine.version,
            _ => self.facts().and_then(of_engine),
        }
    }
}

/// What stages know of what lies about, as far as they could be asked.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// What the engine says of itself.
    pub facts: Option<Facts>,
    /// Folders of the workspaces that made clusters not named here, by cluster.
    pub makers: BTreeMap<String, PathBuf>,
    /// Ids of images of ours that were begun and given up.
    pub half_written: Vec<String>,
    /// The same, not known to be ours.
    pub half_written_by_others: Vec<String>,
    /// How many images of earlier builds `gc` would free, and their bytes.
    pub old_images: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Os {
    Linux,
    Mac,
    Windows,
}

/// The engine that would be used, there or not.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) kind: &'static dyn Upkeep,
    pub(super) installed: bool,
    /// What it said instead of answering.
    pub(super) silent: Option<String>,
    pub(super) version: Option<Version>,
    /// Whether the other engine would answer too.
    pub(super) other: bool,
}

/// Major, minor and patch.
pub(super) type Version = (u32, u32, u32);

/// The version a program tells of itself: the first word that looks like one.
pub(super) fn read_version(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.').map(leading_number);
        Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
    })
}

/// `24` of `24+dfsg1,`.
fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cgroup {
    V2,
    /// v1 controllers beside a v2 tree, or v1 alone.
    V1,
}

impl Cgroup {
    pub(super) fn name(self) -> &'static str {
        match self {
            Cgroup::V1 => "v1",
            Cgroup::V2 => "v2",
        }
    }
}

/// What a process started by us may be given at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) open_files: u64,
    pub(super) processes: u64,
    /// `CAP_SYS_RESOURCE`: hard limits are no limit.
    pub(super) may_raise: bool,
    /// The least `pids.max` of the control groups above us.
    pub(super) group_processes: Option<u64>,
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

/// A file system, what of a run lies on it and what is free there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// What lies there, and where.
    pub(super) uses: Vec<(&'static str, PathBuf)>,
    pub(super) free: u64,
    /// Files that can still be made; none where the file system does not count them.
    pub(super) files: Option<u64>,
}

/// What a kubectl typed by hand would use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kubeconfig {
    /// The files of `KUBECONFIG`, and whether each is there.
    pub(super) files: Vec<(PathBuf, bool)>,
}

/// `fs.inotify` of this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inotify {
    /// `max_user_instances`, and how many we see in use by our user.
    pub(super) instances: Option<u64>,
    pub(super) in_use: u64,
    /// `max_user_watches`.
    pub(super) watches: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        for (text, version) in [
            ("podman version 4.3.1", Some((4, 3, 1))),
            ("kind v0.33.0 go1.26.8 linux/amd64", Some((0, 33, 0))),
            ("Docker version 20.10.24+dfsg1, build 297e128", Some((20, 10, 24))),
            ("podman version 5.0.0-rc1", Some((5, 0, 0))),
            ("1.1.5+ds1", Some((1, 1, 5))),
            ("kind version", None),
        ] {
            assert_eq!(read_version(text), version, "{text}");
        }
    }
}
