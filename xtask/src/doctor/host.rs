//! What files of this host tell: control groups, limits, memory, disks, inotify. Each is read below
//! a root, so that tests bring their own; a file that is missing tells nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::machine::{Cgroup, Disk, Inotify, Limits};
use crate::kernel;

pub(super) fn cgroup(root: &Path) -> Cgroup {
    if root.join("sys/fs/cgroup/cgroup.controllers").is_file() { Cgroup::V2 } else { Cgroup::V1 }
}

/// `CAP_SYS_RESOURCE` is bit 24 (capabilities(7)). Rootless podman stays within our limits by
/// itself.
pub(super) fn limits(root: &Path, is_root: bool) -> Limits {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = text(root, "proc/self/status");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let hard = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
    // podman lowers its own limit of processes to that of process ids before it starts anything
    // (seen, 4.3.1), and what it starts cannot go above that again.
    let ids = number(root, "proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
    Limits {
        open_files: hard(Resource::Nofile),
        processes: hard(Resource::Nproc).min(ids),
        may_raise: !is_root || effective.is_none_or(|set| set & SYS_RESOURCE != 0),
        group_processes: group_processes(root),
    }
}

/// The least `pids.max` above us.
fn group_processes(root: &Path) -> Option<u64> {
    let groups = kernel::groups(root, "self", "pids");
    groups.iter().filter_map(|group| number(root, &format!("{}/pids.max", group.folder))).min()
}

pub(super) fn inotify(root: &Path) -> Inotify {
    Inotify {
        instances: number(root, "proc/sys/fs/inotify/max_user_instances"),
        in_use: instances_in_use(root),
        watches: number(root, "proc/sys/fs/inotify/max_user_watches"),
    }
}

/// inotify instances of processes whose descriptors we may see: those of our user, all for root.
fn instances_in_use(root: &Path) -> u64 {
    let descriptors = kernel::processes(root)
        .filter_map(|(_, folder)| fs_err::read_dir(folder.join("fd")).ok())
        .flat_map(Iterator::flatten);
    let is_instance = |to: PathBuf| to == Path::new("anon_inode:inotify");
    descriptors.filter(|fd| fs_err::read_link(fd.path()).is_ok_and(is_instance)).count() as u64
}

/// The file systems of these places; of a place not made yet, that of the nearest folder above it.
pub(super) fn disks(places: &[(&'static str, PathBuf)]) -> Vec<Disk> {
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    let mut order = Vec::new();
    for (what, place) in places {
        let Some(there) = place.ancestors().find(|folder| folder.is_dir()) else { continue };
        let (Ok(meta), Ok(stat)) = (there.metadata(), rustix::fs::statvfs(there)) else { continue };
        let disk = disks.entry(meta.dev()).or_insert_with(|| {
            order.push(meta.dev());
            let files = (stat.f_files > 0).then_some(stat.f_favail);
            Disk { uses: Vec::new(), free: stat.f_bavail * stat.f_frsize, files }
        });
        disk.uses.push((what, place.clone()));
    }
    order.iter().filter_map(|device| disks.remove(device)).collect()
}

fn text(root: &Path, file: &str) -> String {
    fs_err::read_to_string(root.join(file)).unwrap_or_default()
}

fn number(root: &Path, file: &str) -> Option<u64> {
    text(root, file).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::folder as host;

    #[test]
    fn the_least_limit_of_processes_above_us_counts() {
        let one = [
            ("proc/self/cgroup", "9:name=systemd:/x\n6:pids:/a/b\n4:memory:/c\n0::/\n"),
            ("sys/fs/cgroup/pids/a/pids.max", "100\n"),
            ("sys/fs/cgroup/pids/a/b/pids.max", "max\n"),
            ("sys/fs/cgroup/memory/c/pids.max", "7\n"),
        ];
        let two = [
            ("proc/self/cgroup", "0::/user.slice/s\n"),
            ("sys/fs/cgroup/user.slice/pids.max", "900\n"),
            ("sys/fs/cgroup/user.slice/s/pids.max", "300\n"),
        ];
        let outside = [("proc/self/cgroup", "0::/../x\n"), ("sys/fs/cgroup/pids.max", "50\n")];
        for (files, expected) in
            [(&one[..], Some(100)), (&two[..], Some(300)), (&outside[..], Some(50)), (&[], None)]
        {
            assert_eq!(limits(host(files).path(), true).group_processes, expected);
        }
    }

    #[test]
    fn memory_and_inotify_are_read() {
        let root = host(&[
            ("proc/meminfo", "MemTotal:       24683116 kB\nMemAvailable:   21068800 kB\n"),
            ("proc/sys/fs/inotify/max_user_instances", "128\n"),
            ("proc/sys/fs/inotify/max_user_watches", "8192\n"),
            ("proc/7/comm", "init"),
        ]);
        let fd = root.path().join("proc/7/fd");
        fs_err::create_dir(&fd).unwrap();
        fs_err::os::unix::fs::symlink("anon_inode:inotify", fd.join("3")).unwrap();
        fs_err::os::unix::fs::symlink("/dev/null", fd.join("4")).unwrap();
        assert_eq!(kernel::available(root.path()), Some(21_068_800 * 1024));
        let expected = Inotify { instances: Some(128), in_use: 1, watches: Some(8192) };
        assert_eq!(inotify(root.path()), expected);
        let nothing = host(&[]);
        assert_eq!(
            (kernel::available(nothing.path()), inotify(nothing.path())),
            (None, Inotify::default())
        );
    }

    #[test]
    fn places_of_one_file_system_are_one_disk_and_one_not_made_yet_has_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let places = [("a", folder.path().to_owned()), ("b", folder.path().join("not/there"))];
        let found = disks(&places);
        assert!(found.len() == 1 && found[0].free > 0, "{found:?}");
        assert_eq!(found[0].uses, places);
    }
}
