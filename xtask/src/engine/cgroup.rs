//! A control group of its own for every build: to measure it, and to end all of it.
//!
//! ```text
//! …/xtask-RUN-IMAGE-PID/        made and removed by us; counters live as long as the build
//! …/xtask-RUN-IMAGE-PID/run     given to the engine as --cgroup-parent; it makes and removes it for every RUN
//! ```
//!
//! The group is made below the control group we run in ourselves, so that a limit set above us holds for
//! the builds too. (Version 2 allows no controller below a group that has processes of its own; there the
//! parent's folder is next.) Where none can be made, as without root, builds run without one:
//! their process tree is measured and ended instead.
//!
//! docker's daemon puts RUN below the group it is told only from version 23 on. Otherwise it goes to a group of the
//! daemon's own (`docker/buildkit/ID`, with systemd `system.slice:docker:ID`), and nothing says for which build.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Names of all our groups start with this.
const PREFIX: &str = "xtask-";
const MOUNT: &str = "/sys/fs/cgroup";
/// How long killed processes may take to be gone.
const END: Duration = Duration::from_secs(5);

/// The control group of one build. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// As the engine is told it: absolute below the mount.
    path: String,
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
        let version = mounted()?;
        let name = format!("{PREFIX}{run}-{image}-{}", std::process::id());
        let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        homes(version).into_iter().find_map(|home| {
            let cgroup = Self { path: format!("{}/{name}", home.trim_end_matches('/')), version };
            let folder = cgroup.folder();
            fs_err::create_dir(&folder).ok()?;
            let measures = folder.join("memory.stat").exists() || home == "/";
            // Dropped, and so removed, if another place would measure and this one does not.
            measures.then_some(cgroup)
        })
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
        folder(&self.path, self.version)
    }

    /// Bytes of memory in use that are nobody's page cache.
    pub(super) fn anonymous(&self) -> Option<u64> {
        anonymous(&self.folder())
    }

    /// How often the kernel has killed for memory in here, as far as its files still say.
    pub(super) fn kills(&self) -> u64 {
        kills(&self.folder())
    }

    /// Has what is put below it use these CPUs alone (`0-2,5`), for an engine that has no option for that.
    pub(super) fn confine(&self, cpus: &str) {
        let (mount, effective) = match self.version {
            Version::One => (Path::new(MOUNT).join("cpuset"), "cpuset.effective_mems"),
            Version::Two => (PathBuf::from(MOUNT), "cpuset.mems.effective"),
        };
        let folder = mount.join(self.path.trim_start_matches('/'));
        let Some(above) = folder.parent() else { return };
        // A build with all CPUs is slower for others, not wrong: what cannot be set is left.
        if self.version == Version::Two {
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

    /// Kills everything that is in it now.
    pub(super) fn kill(&self) {
        kill_all(&self.processes());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        empty(&self.folder());
        remove(&self.path, self.version);
    }
}

/// A group that an earlier run has left: its owner is dead.
#[derive(Debug)]
pub(super) struct Orphan(Cgroup);

impl Orphan {
    pub(super) fn processes(&self) -> usize {
        self.0.processes().len()
    }
}

/// The groups of ours whose owner is no longer alive. Dropping one ends and removes it.
pub(super) fn orphans() -> Vec<Orphan> {
    let Some(version) = mounted() else { return Vec::new() };
    let mut orphans = Vec::new();
    for home in homes(version) {
        let Ok(entries) = fs_err::read_dir(folder(&home, version)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_orphaned(&name) {
                let path = format!("{}/{name}", home.trim_end_matches('/'));
                orphans.push(Orphan(Cgroup { path, version }));
            }
        }
    }
    orphans
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
    let Some(version) = mounted() else { return Vec::new() };
    let mut found = Vec::new();
    for group in folders(&folder("/", version)) {
        if is_daemons(&group.to_string_lossy()) {
            found.push(group);
        } else {
            found.extend(folders(&group.join("buildkit")));
        }
    }
    found.into_iter().map(Daemons).collect()
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

/// Whether a path that an engine wrote down is of a build whose owner is dead.
pub(super) fn of_dead_build(path: &str) -> bool {
    path.strip_suffix("/run").and_then(|path| path.rsplit('/').next()).is_some_and(is_orphaned)
}

fn is_orphaned(name: &str) -> bool {
    let owner =
        name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit('-').next()?.parse::<i32>().ok());
    owner.is_some_and(is_dead)
}

/// Gone, or a zombie: killed, and not yet looked after by its parent.
fn is_dead(pid: i32) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| "ZX".contains(state))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn mounted() -> Option<Version> {
    let mount = Path::new(MOUNT);
    match (mount.join("memory").is_dir(), mount.join("cgroup.controllers").is_file()) {
        (true, _) => Some(Version::One),
        (false, true) => Some(Version::Two),
        (false, false) => None,
    }
}

fn folder(path: &str, version: Version) -> PathBuf {
    let mount = if version == Version::One { format!("{MOUNT}/memory") } else { MOUNT.to_owned() };
    Path::new(&mount).join(path.trim_start_matches('/'))
}

/// Where a group of ours can be, the best place first.
fn homes(version: Version) -> Vec<String> {
    let text = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut homes = Vec::new();
    if let Some(own) = own_path(&text, version).filter(|own| folder(own, version).is_dir()) {
        let parent = own.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        homes.push(own);
        homes.push(if parent.is_empty() { "/".to_owned() } else { parent });
    }
    homes.push("/".to_owned());
    homes.dedup();
    homes
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

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes of a group and of those below it.
fn processes(folder: &Path) -> Vec<i32> {
    let own = fs_err::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    found.extend(folders(folder).iter().flat_map(|folder| processes(folder)));
    found
}

pub(super) fn kill_all(processes: &[i32]) {
    for pid in processes.iter().copied().filter_map(Pid::from_raw) {
        // Gone already is as good.
        kill_process(pid, Signal::KILL).ok();
    }
}

/// Kills until nobody is left; a process may fork between the reading and the killing.
fn empty(folder: &Path) {
    let until = Instant::now() + END;
    loop {
        let left = processes(folder);
        if left.is_empty() || Instant::now() > until {
            return;
        }
        kill_all(&left);
        // A version 1 group cannot be waited on. Not `stop::pause`: this is what a stopped run must still do.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes the group: in version 1 from every controller, where the runtime has made it too.
fn remove(path: &str, version: Version) {
    let path = path.trim_start_matches('/');
    let mounts: Vec<PathBuf> = match version {
        Version::Two => vec![PathBuf::from(MOUNT)],
        Version::One => folders(Path::new(MOUNT)),
    };
    for mount in mounts {
        remove_folder(&mount.join(path));
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
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found_in_both_versions() {
        let one = "9:name=systemd:/\n4:cpu,memory:/process/a\n0::/\n";
        assert_eq!(own_path(one, Version::One).as_deref(), Some("/process/a"));
        assert_eq!(own_path("0::/user.slice/s\n", Version::Two).as_deref(), Some("/user.slice/s"));
        assert_eq!(own_path("0::/../../x\n", Version::Two), None, "outside our namespace");
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let stat = "rss 1\ntotal_rss_huge 3\ntotal_rss 2\n";
        assert_eq!(counter(stat, "total_rss"), Some(2));
        assert_eq!(counter("oom 4\noom_kill 5\n", "oom_kill"), Some(5));
        assert_eq!(counter("", "anon"), None);
    }

    #[test]
    fn a_group_belongs_to_the_process_its_name_ends_in() {
        let own = format!("/a/xtask-r1-gateway-{}/run", std::process::id());
        assert!(!of_dead_build(&own));
        assert!(of_dead_build("/a/xtask-r1-gateway-999999999/run"));
        assert!(!of_dead_build("/a/other-1-999999999/run"));
        assert!(!of_dead_build("/machine.slice/libpod-999999999"));
    }
}
