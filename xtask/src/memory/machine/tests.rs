use super::*;
use crate::engine::client::{DOCKER, PODMAN};
use crate::engine::local_facts as local;
use crate::fixture;

const NONE: &str = "9223372036854771712\n";

fn machine(files: &[(&str, &str)], client: &dyn Client, remote: bool) -> Machine {
    let root = fixture::folder(files);
    let facts = Facts { memory_total: 16 << 30, remote, ..local(Path::new("/")) };
    read(root.path(), client, &facts)
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
    let one = machine(&one, PODMAN, false);
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
    assert_eq!(limits(&machine(&two, PODMAN, false)), [("/user.slice", 7000, 205)]);
}

#[test]
fn in_a_container_the_root_of_the_mount_is_our_group() {
    let one = [
        ("proc/self/cgroup", "4:memory:/docker/outer/docker/inner\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000\n"),
    ];
    assert_eq!(limits(&machine(&one, PODMAN, false)), [("/", 4000, 0)]);
    for path in ["/", "/../..", "/../../x"] {
        let line = format!("0::{path}\n");
        let two = [("proc/self/cgroup", line.as_str()), ("sys/fs/cgroup/memory.max", "6000")];
        assert_eq!(limits(&machine(&two, PODMAN, false)), [("/", 6000, 0)], "{path}");
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
    let both = machine(&files, DOCKER, false);
    assert_eq!(
        limits(&both),
        [("/system.slice/docker.service", 5000, 0), ("/user.slice", 8000, 0)]
    );
    assert_eq!(limits(&machine(&files, PODMAN, false)), [("/user.slice", 8000, 0)]);
}

#[test]
fn missing_and_broken_files_bound_nothing() {
    let bare = machine(&[], DOCKER, false);
    assert_eq!((bare.available, bare.groups.len(), bare.total), (None, 0, 16 << 30));
    let broken = [
        ("proc/meminfo", "MemAvailable: many\n"),
        ("proc/self/cgroup", "0::/a\nnonsense\n4:memory\n"),
        ("sys/fs/cgroup/a/memory.max", "lots\n"),
    ];
    let broken = machine(&broken, PODMAN, false);
    assert_eq!((broken.available, broken.groups.len()), (None, 0));
}

#[test]
fn an_engine_elsewhere_has_nothing_of_our_files() {
    let files = [
        ("proc/meminfo", "MemAvailable: 2048 kB\n"),
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/memory.max", "6000"),
    ];
    let machine = machine(&files, PODMAN, true);
    assert_eq!((machine.available, machine.groups.len(), machine.remote), (None, 0, true));
}

const POD: &str = "3f1c";

/// Trees as the kernel and systemd lay them out with version 2, no limit anywhere but where one is
/// written.
fn unified<'a>(own: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut files = vec![
        ("proc/meminfo", "MemTotal: 16314596 kB\nMemAvailable: 12582912 kB\n"),
        ("proc/self/cgroup", own),
        ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
        ("sys/fs/cgroup/memory.stat", "anon 4000\nfile 9000\nshmem 10\n"),
    ];
    files.extend(more);
    files
}

#[test]
fn a_session_is_bound_by_its_users_slice_and_not_by_a_limit_that_is_none() {
    let scope = "sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope";
    let files = unified(
        "0::/user.slice/user-1000.slice/session-3.scope\n",
        &[
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/user-1000.slice/memory.max", "8589934592\n"),
            ("sys/fs/cgroup/user.slice/user-1000.slice/memory.high", "max\n"),
            (
                "sys/fs/cgroup/user.slice/user-1000.slice/memory.stat",
                "anon 700\nshmem 50\nfile 9\n",
            ),
            ("sys/fs/cgroup/user.slice/user-1000.slice/memory.peak", "8000000000\n"),
        ],
    );
    let mut files = files;
    let max = format!("{scope}/memory.max");
    files.push((&max, "max\n"));
    let found = machine(&files, PODMAN, false);
    assert_eq!(limits(&found), [("/user.slice/user-1000.slice", 8 << 30, 750)]);
    assert_eq!(found.available, Some(12 << 30));
}

#[test]
fn rootless_below_a_delegated_slice_every_level_counts() {
    let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope\n";
    let service = "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service";
    let (of_service, of_slice) =
        (format!("{service}/memory.max"), format!("{service}/app.slice/memory.high"));
    let files = unified(own, &[(&of_service, "6442450944\n"), (&of_slice, "4294967296\n")]);
    let found = machine(&files, PODMAN, false);
    let service = "/user.slice/user-1000.slice/user@1000.service";
    let slice = format!("{service}/app.slice");
    assert_eq!(limits(&found), [(&*slice, 4 << 30, 0), (service, 6 << 30, 0)]);
}

#[test]
fn a_container_of_systemds_manager_is_bound_by_its_scope_however_much_it_sees() {
    let scope = format!("/machine.slice/libpod-{POD}.scope");
    let limit = format!("sys/fs/cgroup{scope}/memory.max");
    let slice = "sys/fs/cgroup/machine.slice/memory.max";
    // With the host's namespace, crun's inner group has no limit of its own.
    let own = format!("0::{scope}/container\n");
    let host = unified(&own, &[(&limit, "2147483648\n"), (slice, "max\n")]);
    assert_eq!(limits(&machine(&host, PODMAN, false)), [(&*scope, 2 << 30, 0)]);
    // With a namespace of its own it is the root; nested in another, the root of that is out of
    // sight.
    let own = unified("0::/\n", &[("sys/fs/cgroup/memory.max", "2147483648\n")]);
    assert_eq!(limits(&machine(&own, PODMAN, false)), [("/", 2 << 30, 4010)]);
    // With version 1 and the same manager, by the host's path over our own mount.
    let line = format!("9:memory:{scope}\n1:name=systemd:{scope}\n0::/\n");
    let one = [
        ("proc/self/cgroup", line.as_str()),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
        ("sys/fs/cgroup/memory/memory.stat", "cache 9\nrss 4\ntotal_rss 4\ntotal_shmem 1\n"),
    ];
    assert_eq!(limits(&machine(&one, PODMAN, false)), [("/", 2 << 30, 5)]);
}

#[test]
fn without_a_limit_anywhere_nothing_but_the_machine_bounds() {
    let hybrid =
        "9:memory:/user.slice\n1:name=systemd:/user.slice/session-3.scope\n0::/user.slice\n";
    for own in ["0::/\n", "0::/user.slice/user-0.slice/session-1.scope\n", hybrid] {
        let found = machine(&unified(own, &[]), PODMAN, false);
        assert_eq!((found.groups.len(), found.available), (0, Some(12 << 30)), "{own}");
    }
}
