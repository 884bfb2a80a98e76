//! What the machine that builds has of memory: `/proc` and the control groups above us and above the engine.
//!
//! | where | limit | none is written |
//! | --- | --- | --- |
//! | version 1 | `memory.limit_in_bytes` | `9223372036854771712`, the largest page count |
//! | version 2 | `memory.max`, and `memory.high`, above which everything crawls | `max` |
//!
//! In a container `/proc/self/cgroup` may name a path of the host's while the mount shows our group as its root
//! (version 1), or name `/` or `/../..` (a namespace of its own). So every ancestor that is there is read, the
//! mount's root always. A file that is missing bounds nothing. All paths are below a root, so that tests bring their own.

use std::path::Path;

use super::{Facts, Kind};
use crate::schedule::budget::{Group, Machine, Term};

/// Above this a limit is none: no machine has an EiB.
const NO_LIMIT: u64 = 1 << 60;

/// The memory of the machine that builds, its files below `root`.
pub fn read(root: &Path, kind: Kind, facts: &Facts) -> Machine {
    let machine = Machine {
        engine: kind.name(),
        remote: facts.remote,
        total: facts.memory_total,
        ..Machine::default()
    };
    if facts.remote {
        return machine;
    }
    let mut groups = groups(root, "self");
    if kind == Kind::Docker
        && let Some(daemon) = text(root, "run/docker.pid")
    {
        groups.extend(self::groups(root, daemon.trim()));
    }
    groups.sort_by(|a, b| a.file.cmp(&b.file));
    groups.dedup();
    Machine { available: available(root), groups, ..machine }
}

/// The command that raises the bound `term` so that `wanted` bytes are there.
pub fn mend(machine: &Machine, term: &Term, wanted: u64) -> String {
    let mib = wanted.div_ceil(256 << 20) * 256;
    match (machine.remote, machine.engine, &term.file) {
        (true, "podman", _) => {
            let set = format!("podman machine set --memory {mib}");
            format!("podman machine stop && {set} && podman machine start")
        }
        (true, _, _) => {
            let gib = mib.div_ceil(1024);
            format!(
                "Docker Desktop → Settings → Resources → Memory limit: {gib} GB, then restart it"
            )
        }
        (false, _, Some(file)) => format!("echo {} > {file}", mib << 20),
        (false, _, None) => {
            format!("build where {mib} MiB are free: close programs, or take a larger machine")
        }
    }
}

/// `MemAvailable`, in bytes.
fn available(root: &Path) -> Option<u64> {
    let text = text(root, "proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The groups with a limit above a process.
fn groups(root: &Path, process: &str) -> Vec<Group> {
    let text = text(root, &format!("proc/{process}/cgroup")).unwrap_or_default();
    text.lines().flat_map(|line| groups_of(root, line)).collect()
}

/// The groups with a limit on the path that a line of `/proc/PID/cgroup` names: `4:memory:/a/b` or `0::/a/b`.
fn groups_of(root: &Path, line: &str) -> Vec<Group> {
    let mut parts = line.splitn(3, ':');
    let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let mount = match controllers {
        "" if id == "0" => "sys/fs/cgroup",
        names if names.split(',').any(|name| name == "memory") => "sys/fs/cgroup/memory",
        _ => return Vec::new(),
    };
    // Above our namespace nothing can be read, and the namespace's root is the mount's.
    let path = if path.contains("..") { "/" } else { path };
    Path::new(path)
        .ancestors()
        .filter_map(|group| group_at(root, mount, &group.to_string_lossy()))
        .collect()
}

fn group_at(root: &Path, mount: &str, path: &str) -> Option<Group> {
    let folder = format!("{mount}{}", path.trim_end_matches('/'));
    let limit = |file: &str| {
        let file = format!("{folder}/{file}");
        let limit: u64 = text(root, &file)?.trim().parse().ok()?;
        (limit < NO_LIMIT).then_some((limit, format!("/{file}")))
    };
    let limits = ["memory.limit_in_bytes", "memory.max", "memory.high"].into_iter();
    let (limit, file) = limits.filter_map(limit).min()?;
    let stat = text(root, &format!("{folder}/memory.stat")).unwrap_or_default();
    let names: &[&str] = if stat.contains("total_rss ") {
        &["total_rss", "total_shmem"]
    } else {
        &["anon", "shmem"]
    };
    let used = names.iter().filter_map(|name| counter(&stat, name)).sum();
    Some(Group { path: path.to_owned(), file, limit, used })
}

fn counter(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn text(root: &Path, file: &str) -> Option<String> {
    fs_err::read_to_string(root.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::facts::tests::local;

    const NONE: &str = "9223372036854771712\n";

    fn machine(files: &[(&str, &str)], kind: Kind, remote: bool) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
            fs_err::write(file, text).unwrap();
        }
        let facts = Facts { memory_total: 16 << 30, remote, ..local(Path::new("/")) };
        read(root.path(), kind, &facts)
    }

    fn limits(machine: &Machine) -> Vec<(&str, u64, u64)> {
        machine.groups.iter().map(|one| (one.path.as_str(), one.limit, one.used)).collect()
    }

    #[test]
    fn every_limit_above_us_counts_in_both_versions() {
        let one = [
            ("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   2048 kB\nSwapFree: 7 kB\n"),
            ("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/a/b\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", NONE),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/a/memory.stat", "rss 1\ntotal_rss 300\ntotal_shmem 40\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9000\n"),
        ];
        let one = machine(&one, Kind::Podman, false);
        assert_eq!(limits(&one), [("/a/b", 9000, 0), ("/a", 5000, 340)]);
        assert_eq!(one.available, Some(2 << 20));
        assert_eq!(one.groups[1].file, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
        let two = [
            ("proc/self/cgroup", "0::/user.slice/s\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/memory.high", "7000\n"),
            ("sys/fs/cgroup/user.slice/memory.stat", "anon 200\nfile 900\nshmem 5\n"),
            ("sys/fs/cgroup/user.slice/s/memory.max", "max\n"),
        ];
        assert_eq!(limits(&machine(&two, Kind::Podman, false)), [("/user.slice", 7000, 205)]);
    }

    #[test]
    fn in_a_container_the_root_of_the_mount_is_our_group() {
        let one = [
            ("proc/self/cgroup", "4:memory:/docker/outer/docker/inner\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000\n"),
        ];
        assert_eq!(limits(&machine(&one, Kind::Podman, false)), [("/", 4000, 0)]);
        for path in ["/", "/../..", "/../../x"] {
            let line = format!("0::{path}\n");
            let two = [("proc/self/cgroup", line.as_str()), ("sys/fs/cgroup/memory.max", "6000")];
            assert_eq!(limits(&machine(&two, Kind::Podman, false)), [("/", 6000, 0)], "{path}");
        }
    }

    #[test]
    fn the_groups_of_the_daemon_count_too() {
        let files = [
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("proc/77/cgroup", "0::/system.slice/docker.service\n"),
            ("run/docker.pid", "77"),
            ("sys/fs/cgroup/user.slice/memory.max", "8000\n"),
            ("sys/fs/cgroup/system.slice/docker.service/memory.max", "5000\n"),
        ];
        let both = machine(&files, Kind::Docker, false);
        assert_eq!(
            limits(&both),
            [("/system.slice/docker.service", 5000, 0), ("/user.slice", 8000, 0)]
        );
        assert_eq!(limits(&machine(&files, Kind::Podman, false)), [("/user.slice", 8000, 0)]);
    }

    #[test]
    fn missing_and_broken_files_bound_nothing() {
        let bare = machine(&[], Kind::Docker, false);
        assert_eq!((bare.available, bare.groups.len(), bare.total), (None, 0, 16 << 30));
        let broken = [
            ("proc/meminfo", "MemAvailable: many\n"),
            ("proc/self/cgroup", "0::/a\nnonsense\n4:memory\n"),
            ("sys/fs/cgroup/a/memory.max", "lots\n"),
        ];
        let broken = machine(&broken, Kind::Podman, false);
        assert_eq!((broken.available, broken.groups.len()), (None, 0));
    }

    #[test]
    fn an_engine_elsewhere_has_nothing_of_our_files() {
        let files = [
            ("proc/meminfo", "MemAvailable: 2048 kB\n"),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "6000"),
        ];
        let machine = machine(&files, Kind::Podman, true);
        assert_eq!((machine.available, machine.groups.len(), machine.remote), (None, 0, true));
    }

    #[test]
    fn each_bound_has_the_command_that_raises_it() {
        let term = |file: Option<&str>| Term {
            source: String::new(),
            bytes: 0,
            less: Vec::new(),
            file: file.map(str::to_owned),
        };
        let on = |engine, remote| Machine { engine, remote, ..Machine::default() };
        let want = 3_000 << 20;
        insta::assert_snapshot!(mend(&on("podman", true), &term(None), want), @"podman machine stop && podman machine set --memory 3072 && podman machine start");
        insta::assert_snapshot!(mend(&on("docker", true), &term(None), want), @"Docker Desktop → Settings → Resources → Memory limit: 3 GB, then restart it");
        insta::assert_snapshot!(mend(&on("podman", false), &term(Some("/sys/fs/cgroup/a/memory.max")), want), @"echo 3221225472 > /sys/fs/cgroup/a/memory.max");
        insta::assert_snapshot!(mend(&on("podman", false), &term(None), want), @"build where 3072 MiB are free: close programs, or take a larger machine");
    }
}
