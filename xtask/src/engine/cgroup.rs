//! A control group of its own for every build: to measure it, and to end all of it.
//!
//! ```text
//! …/xtask-RUN-IMAGE-PID/        made and removed by us; counters live as long as the build
//! …/xtask-RUN-IMAGE-PID/run     given to the engine as --cgroup-parent; it makes and removes it for every RUN
//! ```
//!
//! A group is left over if its run is known here to be over: the run's lock is there and nobody
//! holds it, which is so in every namespace of processes. Of a run that this machine's folder does
//! not have, nothing is known, and nothing touched.
//!
//! | we run in | the group is made | a limit on our own group |
//! | --- | --- | --- |
//! | version 1 | below our own | holds for builds too |
//! | version 2 | beside our own, in the slice around it: a group that has processes hands no controller down | is in the budget; the kernel holds builds to those of the slices above |
//! | version 2, a container's own namespace | at the root of the mount, which counts no memory there | holds for builds too |
//! | nowhere it may be (no root; no slice that systemd has delegated to us) | not at all | holds for builds too |
//!
//! Where no group is, or it counts no memory, the build's process tree is measured. Where none is,
//! what is ended are those of the tree that are in a namespace of their own: what RUN has started
//! (see `watch`).
//!
//! docker's daemon puts RUN below the group it is told only from version 23 on. Otherwise it goes
//! to a group of the daemon's own (`docker/buildkit/ID`, with systemd `system.slice:docker:ID`),
//! and nothing says for which build.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{paths, process};

/// Names of all our groups start with this.
const PREFIX: &str = "xtask-";
/// Below the root.
const MOUNT: &str = "sys/fs/cgroup";
/// How long killed processes may take to be gone.
const END: Duration = Duration::from_secs(5);

/// The control group of one build. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    tree: Tree,
    /// As the engine is told it: absolute below the mount.
    path: String,
}

/// The control groups of a machine. Its files are below a root, so that tests bring their own.
#[derive(Clone, Debug)]
struct Tree {
    root: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Cgroup {
    /// Makes a group for this build, if this process may.
    pub(super) fn make(run: &str, image: &str) -> Option<Self> {
        let name = format!("{PREFIX}{run}-{image}-{}", std::process::id());
        let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        Tree::here()?.make(&name)
    }

    /// What the engine is to be told: `--cgroup-parent`.
    pub(super) fn parent(&self) -> String {
        format!("{}/run", self.path)
    }

    /// The last part of its path, which no other group has.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn folder(&self) -> PathBuf {
        self.tree.folder(&self.path)
    }

    /// Bytes of memory in use that are nobody's page cache.
    pub(super) fn anonymous(&self) -> Option<u64> {
        anonymous(&self.folder())
    }

    /// How often the kernel has killed for memory in here, as far as its files still say.
    pub(super) fn kills(&self) -> u64 {
        kills(&self.folder())
    }

    /// Has what is put below it use these CPUs alone (`0-2,5`), for an engine that has no option
    /// for that.
    pub(super) fn confine(&self, cpus: &str) {
        let (folder, effective) = match self.tree.version {
            Version::One => (self.tree.controller("cpuset", &self.path), "cpuset.effective_mems"),
            Version::Two => (self.folder(), "cpuset.mems.effective"),
        };
        let Some(above) = folder.parent() else { return };
        // A build with all CPUs is slower for others, not wrong: what cannot be set is left.
        if self.tree.version == Version::Two {
            fs_err::write(above.join("cgroup.subtree_control"), "+cpuset").ok();
        } else {
            fs_err::create_dir_all(&folder).ok();
            let nodes = fs_err::read_to_string(above.join(effective)).unwrap_or_default();
            fs_err::write(folder.join("cpuset.mems"), nodes.trim()).ok();
        }
        fs_err::write(folder.join("cpuset.cpus"), cpus).ok();
    }

    pub(super) fn processes(&self) -> Vec<i32> {
        processes(&self.folder())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        empty(&self.folder());
        self.tree.remove(&self.path);
    }
}

/// A group that an earlier run has left: that run is over.
#[derive(Debug)]
pub(super) struct Orphan(Cgroup);

impl Orphan {
    pub(super) fn processes(&self) -> usize {
        self.0.processes().len()
    }
}

/// The groups of runs that are over. Dropping one ends and removes it.
pub(super) fn orphans() -> Vec<Orphan> {
    Tree::here().map(|tree| tree.orphans()).unwrap_or_default()
}

/// A group that docker's daemon has made for a RUN.
#[derive(Debug)]
pub(super) struct Daemons(PathBuf);

impl Daemons {
    /// The last part of its path, which no other group has.
    pub(super) fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn anonymous(&self) -> Option<u64> {
        anonymous(&self.0)
    }

    pub(super) fn kills(&self) -> u64 {
        kills(&self.0)
    }
}

/// The groups of RUNs that docker's daemon is at, of whatever build.
pub(super) fn daemons() -> Vec<Daemons> {
    Tree::here().map(|tree| tree.daemons()).unwrap_or_default()
}

/// Whether a group, by its path, is one that docker's daemon makes for a RUN.
pub(super) fn is_daemons(path: &str) -> bool {
    path.contains("/buildkit/") || path.contains(".slice:docker:")
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether a path that an engine wrote down is of a build whose run is over.
pub(super) fn of_dead_build(path: &str) -> bool {
    path.strip_suffix("/run").and_then(|path| path.rsplit('/').next()).is_some_and(is_orphaned)
}

fn is_orphaned(name: &str) -> bool {
    run_of(name).is_some_and(|run| paths::is_alive(run) == Some(false))
}

/// The run that a group is named after: `xtask-DAY-TIME-ID-…`.
fn run_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX)?;
    let (end, _) = rest.match_indices('-').nth(2)?;
    Some(&rest[..end]).filter(|run| paths::is_run(run))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

impl Tree {
    fn here() -> Option<Self> {
        Self::at(Path::new("/"))
    }

    /// That of the machine whose files are below `root`.
    fn at(root: &Path) -> Option<Self> {
        let mount = root.join(MOUNT);
        let version =
            match (mount.join("memory").is_dir(), mount.join("cgroup.controllers").is_file()) {
                (true, _) => Version::One,
                (false, true) => Version::Two,
                (false, false) => return None,
            };
        Some(Self { root: root.to_owned(), version })
    }

    /// Where the memory of the group `path` is accounted for.
    fn folder(&self, path: &str) -> PathBuf {
        match self.version {
            Version::One => self.controller("memory", path),
            Version::Two => self.controller("", path),
        }
    }

    fn controller(&self, name: &str, path: &str) -> PathBuf {
        self.root.join(MOUNT).join(name).join(path.trim_start_matches('/'))
    }

    fn make(&self, name: &str) -> Option<Cgroup> {
        self.homes().into_iter().find_map(|home| {
            let path = format!("{}/{name}", home.trim_end_matches('/'));
            let cgroup = Cgroup { tree: self.clone(), path };
            let folder = cgroup.folder();
            fs_err::create_dir(&folder).ok()?;
            let measures = folder.join("memory.stat").exists() || home == "/";
            // Dropped, and so removed, if another place would measure and this one does not.
            measures.then_some(cgroup)
        })
    }

    /// Where a group of ours can be, the best place first.
    fn homes(&self) -> Vec<String> {
        let own = fs_err::read_to_string(self.root.join("proc/self/cgroup")).unwrap_or_default();
        let mut homes = Vec::new();
        if let Some(own) = own_path(&own, self.version).filter(|own| self.folder(own).is_dir()) {
            let parent = own.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
            homes.push(own);
            homes.push(if parent.is_empty() { "/".to_owned() } else { parent });
        }
        homes.push("/".to_owned());
        homes.dedup();
        homes
    }

    fn orphans(&self) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for home in self.homes() {
            for folder in folders(&self.folder(&home)) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                if is_orphaned(&name) {
                    let path = format!("{}/{name}", home.trim_end_matches('/'));
                    orphans.push(Orphan(Cgroup { tree: self.clone(), path }));
                }
            }
        }
        orphans
    }

    fn daemons(&self) -> Vec<Daemons> {
        let mut found = Vec::new();
        for group in folders(&self.folder("/")) {
            if is_daemons(&group.to_string_lossy()) {
                found.push(group);
            } else {
                found.extend(folders(&group.join("buildkit")));
            }
        }
        found.into_iter().map(Daemons).collect()
    }

    /// Removes a group: in version 1 from every controller, where the runtime has made it too.
    fn remove(&self, path: &str) {
        let mount = self.root.join(MOUNT);
        let mounts = match self.version {
            Version::Two => vec![mount],
            Version::One => folders(&mount),
        };
        for mount in mounts {
            remove_folder(&mount.join(path.trim_start_matches('/')));
        }
    }
}

/// Our own group, from `/proc/self/cgroup`: `4:memory:/a/b` or `0::/a/b`.
fn own_path(text: &str, version: Version) -> Option<String> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            Version::One => controllers.split(',').any(|name| name == "memory"),
            Version::Two => id == "0",
        };
        (ours && !path.contains("..")).then(|| path.to_owned())
    })
}

fn anonymous(folder: &Path) -> Option<u64> {
    let stat = fs_err::read_to_string(folder.join("memory.stat")).ok()?;
    counter(&stat, "total_rss").or_else(|| counter(&stat, "anon"))
}

/// A group of version 1 counts its own kills alone, one of version 2 those below it too.
fn kills(folder: &Path) -> u64 {
    let own = ["memory.oom_control", "memory.events"]
        .iter()
        .find_map(|file| counter(&fs_err::read_to_string(folder.join(file)).ok()?, "oom_kill"));
    let below = folders(folder).iter().map(|folder| kills(folder)).max();
    own.max(below).unwrap_or(0)
}

/// The figure of a line `NAME FIGURE`.
pub(crate) fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes of a group and of those below it.
fn processes(folder: &Path) -> Vec<i32> {
    let own = fs_err::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    found.extend(folders(folder).iter().flat_map(|folder| processes(folder)));
    found
}

/// Kills until nobody is left; a process may fork between the reading and the killing.
fn empty(folder: &Path) {
    let until = Instant::now() + END;
    loop {
        let left = processes(folder);
        if left.is_empty() || Instant::now() > until {
            return;
        }
        process::kill_listed(&left, || processes(folder));
        // A version 1 group cannot be waited on. Not `stop::pause`: this is what a stopped run must
        // still do.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A group with those below it. Most controllers do not have it.
fn remove_folder(folder: &Path) {
    for below in folders(folder) {
        remove_folder(&below);
    }
    fs_err::remove_dir(folder).ok();
}

#[cfg(test)]
mod tests;
