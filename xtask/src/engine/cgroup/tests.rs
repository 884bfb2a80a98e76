use super::*;
use crate::fixture::folder as machine;
use crate::process::{Ending, Tool};

fn tree(root: &tempfile::TempDir) -> Tree {
    Tree::at(root.path()).unwrap()
}

const UNIFIED: (&str, &str) = ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");

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

/// A run that goes on, as long as the lock lives, and the id of one that is over.
fn runs() -> (tempfile::TempDir, crate::paths::RunLock, String, String) {
    use crate::paths::{Paths, RunLock, RunPaths, dead_run};
    let folder = tempfile::tempdir().unwrap();
    let id = || format!("20261121-083544-{}", crate::identity::random().unwrap());
    let (alive, dead) = (id(), id());
    let lock = RunLock::hold(&RunPaths::new(&Paths::of(folder.path()), alive.clone())).unwrap();
    dead_run(&dead);
    (folder, lock, alive, dead)
}

#[test]
fn a_group_is_left_over_only_if_its_run_is_known_to_be_over() {
    let (_folder, lock, alive, dead) = runs();
    let of = |run: &str, rest: &str| of_dead_build(&format!("/a/xtask-{run}-{rest}/run"));
    assert!(of(&dead, "gateway-7") && of(&dead, "my-api-7"));
    assert!(!of(&alive, "gateway-7"), "it goes on");
    assert!(!of("20261121-083544-0123456789abcdef", "gateway-7"), "nothing is known of it");
    assert!(!of("20261121-083544-12345", "gateway-999999999"), "a number proves nothing");
    for path in ["/a/xtask-lab-9999/run", "/a/xtask-r1-gateway-999999999/run", "/a/xtask-/run"] {
        assert!(!of_dead_build(path), "{path}");
    }
    for path in ["/a/other-RUN-api-1/run", "/machine.slice/libpod-RUN", "/a/xtask-RUN-api-1"] {
        assert!(!of_dead_build(&path.replace("RUN", &dead)), "{path}");
    }
    drop(lock);
    crate::paths::forget_run(&dead);
}

#[test]
fn a_group_of_ours_is_looked_for_a_place_from_our_own_group_up() {
    let session = "user.slice/user-1000.slice/session-3.scope";
    let service = "user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope";
    let pod = "machine.slice/libpod-3f1c.scope/container";
    for (own, there, expected) in [
        // Version 2: a session, a delegated slice, systemd's manager with the host's namespace.
        (session, session, vec![session, "user.slice/user-1000.slice", ""]),
        (service, service, vec![service, service.strip_suffix("/run-7.scope").unwrap(), ""]),
        (pod, pod, vec![pod, "machine.slice/libpod-3f1c.scope", ""]),
        // A container's own namespace; one whose paths lie outside of it.
        ("", "", vec![""]),
        ("../../x", "", vec![""]),
        // The host's path, which our mount does not show.
        (pod, "", vec![""]),
    ] {
        let expected: Vec<String> = expected.iter().map(|path| format!("/{path}")).collect();
        let (line, there) = (format!("0::/{own}\n"), format!("sys/fs/cgroup/{there}/cgroup.procs"));
        let root = machine(&[UNIFIED, ("proc/self/cgroup", &line), (&there, "7\n")]);
        assert_eq!(tree(&root).homes(), expected, "{own}");
    }
    let own = ("proc/self/cgroup", "4:cpu,memory:/process/a\n0::/elsewhere\n");
    let one = machine(&[own, ("sys/fs/cgroup/memory/process/a/memory.stat", "")]);
    assert_eq!(tree(&one).homes(), ["/process/a", "/process", "/"]);
    assert!(Tree::at(machine(&[own]).path()).is_none(), "nothing is mounted");
}

#[test]
fn a_place_that_does_not_measure_is_left_for_one_that_does_and_the_root_is_taken_as_it_is() {
    let own = ("proc/self/cgroup", "0::/user.slice/session-3.scope\n");
    let scope = ("sys/fs/cgroup/user.slice/session-3.scope/cgroup.procs", "7\n");
    let root = machine(&[UNIFIED, own, scope]);
    let group = tree(&root).make("xtask-r1-gateway-7").unwrap();
    assert_eq!(group.parent(), "/xtask-r1-gateway-7/run");
    assert_eq!((group.anonymous(), group.kills()), (None, 0), "it counts no memory");
    let mount = root.path().join(MOUNT);
    assert!(mount.join("xtask-r1-gateway-7").is_dir());
    assert!(!mount.join("user.slice/xtask-r1-gateway-7").exists());
    assert!(!mount.join("user.slice/session-3.scope/xtask-r1-gateway-7").exists());
    drop(group);
    assert!(!mount.join("xtask-r1-gateway-7").exists());
}

#[test]
fn kills_and_memory_are_read_from_the_files_of_both_versions() {
    let group = "user.slice/xtask-r1-gateway-7";
    let file = |version: &str, name: &str| format!("sys/fs/cgroup/{version}{group}/{name}");
    let events = "low 0\nhigh 0\nmax 412\noom 3\noom_kill 2\noom_group_kill 1\n";
    let stat = "anon 209715200\nfile 800000000\nkernel 5000\nshmem 7\nanon_thp 0\n";
    let unified = [
        (file("", "memory.events"), events),
        (file("", "memory.stat"), stat),
        // With the page cache, and so of no use.
        (file("", "memory.peak"), "1009715200\n"),
        (file("", "run/memory.events"), "max 412\noom 3\noom_kill 2\noom_group_kill 1\n"),
    ];
    // Mounted with `memory_localevents`: every group counts its own alone.
    let local = [
        (file("", "memory.events"), "oom 0\noom_kill 0\noom_group_kill 0\n"),
        (file("", "run/memory.events"), "oom 1\noom_kill 1\noom_group_kill 0\n"),
        (file("", "memory.stat"), stat),
    ];
    let one = [
        (file("memory/", "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
        (file("memory/", "run/memory.oom_control"), "under_oom 0\noom_kill 3\n"),
        (file("memory/", "memory.max_usage_in_bytes"), "1009715200\n"),
        (file("memory/", "memory.stat"), "rss 0\ntotal_cache 800000000\ntotal_rss 209715200\n"),
    ];
    for (files, expected) in [(&unified[..], 2), (&local[..], 1), (&one[..], 3)] {
        let files = files.iter().map(|(path, text)| (path.as_str(), *text));
        let root = machine(&files.chain([UNIFIED]).collect::<Vec<_>>());
        let tree = tree(&root);
        let group = Cgroup { path: format!("/{group}"), tree };
        assert_eq!((group.kills(), group.anonymous()), (expected, Some(200 << 20)));
    }
}

#[test]
fn cpus_are_set_where_each_version_has_them() {
    let effective = ("sys/fs/cgroup/a/cpuset.mems.effective", "0-1\n");
    let two = machine(&[UNIFIED, effective, ("sys/fs/cgroup/a/x/cpuset.cpus.effective", "0-7\n")]);
    let of = |root: &tempfile::TempDir| Cgroup { path: "/a/x".to_owned(), tree: tree(root) };
    let read = |root: &tempfile::TempDir, file: &str| {
        fs_err::read_to_string(root.path().join(MOUNT).join(file)).unwrap()
    };
    let group = of(&two);
    group.confine("0-2,5");
    assert_eq!(read(&two, "a/cgroup.subtree_control"), "+cpuset");
    assert_eq!(read(&two, "a/x/cpuset.cpus"), "0-2,5");
    let files = [("memory/a/x/memory.stat", ""), ("cpuset/a/cpuset.effective_mems", "0-1\n")];
    let files = files.map(|(path, text)| (format!("sys/fs/cgroup/{path}"), text));
    let one = machine(&files.each_ref().map(|(path, text)| (path.as_str(), *text)));
    let group = of(&one);
    group.confine("0-2,5");
    let set = [read(&one, "cpuset/a/x/cpuset.mems"), read(&one, "cpuset/a/x/cpuset.cpus")];
    assert_eq!(set, ["0-1", "0-2,5"]);
}

#[test]
fn the_daemons_groups_are_found_with_either_manager() {
    let procs = |path: &str| (format!("sys/fs/cgroup/{path}/cgroup.procs"), "7\n");
    for (path, name) in
        [("system.slice:docker:l8vq", "system.slice:docker:l8vq"), ("docker/buildkit/l8vq", "l8vq")]
    {
        let (of_run, other) = (procs(path), procs("system.slice/docker.service"));
        let root = machine(&[UNIFIED, (&of_run.0, of_run.1), (&other.0, other.1)]);
        let found: Vec<String> = tree(&root).daemons().iter().map(Daemons::name).collect();
        assert_eq!(found, [name]);
    }
}

#[test]
fn groups_of_dead_runs_are_found_wherever_one_could_have_been_made() {
    let own = ("proc/self/cgroup", "0::/user.slice/session-3.scope\n");
    let (_folder, _lock, alive, dead) = runs();
    let alive = format!("user.slice/xtask-{alive}-redis-7");
    let files = [
        "user.slice/session-3.scope",
        &format!("user.slice/xtask-{dead}-gateway-7/run"),
        &format!("xtask-{dead}-redis-7"),
        "xtask-lab-9999",
        &alive,
    ];
    let files = files.map(|path| format!("sys/fs/cgroup/{path}/cgroup.procs"));
    let mut all = vec![UNIFIED, own];
    all.extend(files.iter().map(|path| (path.as_str(), "")));
    let root = machine(&all);
    let orphans = tree(&root).orphans();
    let found: Vec<&str> = orphans.iter().map(|one| one.0.path.as_str()).collect();
    let expected = ["user.slice/xtask-DEAD-gateway-7", "xtask-DEAD-redis-7"];
    assert_eq!(found, expected.map(|path| format!("/{}", path.replace("DEAD", &dead))));
    crate::paths::forget_run(&dead);
}

/// On the kernel's own version 2, where it is mounted, be it beside version 1 and without memory.
#[test]
fn dropping_a_real_group_of_version_two_ends_what_is_in_it() {
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let mount = mounts.into_iter().find(|mount| mount.join("cgroup.controllers").exists());
    let Some(mount) = mount.filter(|_| rustix::process::geteuid().is_root()) else { return };
    let root = machine(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/any", "")]);
    std::os::unix::fs::symlink(mount, root.path().join(MOUNT)).unwrap();
    let Some(group) = tree(&root).make(&format!("xtask-test-two-{}", std::process::id())) else {
        // Mounted, but not for us to write to, as in a container.
        return;
    };
    let folder = group.folder();
    fs_err::create_dir(folder.join("run")).unwrap();
    let mut child = Tool::new("sleep").arg("63").start().unwrap();
    fs_err::write(folder.join("run/cgroup.procs"), child.id().to_string()).unwrap();
    assert_eq!(group.processes(), [i32::try_from(child.id()).unwrap()]);
    drop(group);
    assert_eq!(child.wait(|_, _| {}).unwrap_err().ending, Ending::Signal(9));
    assert!(!folder.exists());
}
