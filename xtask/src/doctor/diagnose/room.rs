//! Is there enough of everything: memory, disk, processes, open files, what watches files.

use std::fmt::Write as _;

use super::super::machine::{Cgroup, Disk, Machine, Os};
use super::super::mend::{Mend, Order, Step};
use super::versions::kubelet_refuses;
use super::{Finding, Needs, cannot, fault, finding, fine};
use crate::process::Tool;
use crate::text;

/// Less free disk than this and an image or a cluster node fills it up.
const DISK: u64 = 5 << 30;
/// Fewer files that can still be made, and an image's layers do not find room for theirs.
const FILES: u64 = 100_000;
/// Less memory than this and not one build fits beside a cluster.
const MEMORY: u64 = 2 << 30;
/// The gateway suite's cluster, of one node, was seen to hold 27 inotify instances, and 338
/// processes and threads; builds come on top of those.
const CLUSTER_INSTANCES: u64 = 40;
const CLUSTER_PROCESSES: u64 = 1_024;
/// What Linux gave before 5.11; kubelet, containerd and every pod that follows a file share it.
const WATCHES: u64 = 8_193;
/// Fewer open files, and containerd or a database in a pod runs out of them.
const OPEN_FILES: u64 = 4_096;

pub(super) fn room(machine: &Machine, needs: &Needs) -> Vec<Finding> {
    let mut findings: Vec<Finding> = memory(machine).into_iter().collect();
    findings.extend(machine.disks.iter().map(disk));
    if machine.os == Os::Linux {
        findings.extend(limits(machine));
        if needs.kind {
            findings.extend(cgroup(machine, needs));
            findings.extend(inotify(machine, needs));
        }
    }
    findings
}

fn memory(machine: &Machine) -> Option<Finding> {
    const WHY: &str =
        "a build and a cluster node need about 2 GiB together; short of it, builds are killed";
    let remote = machine.facts().filter(|facts| facts.remote).map(|facts| facts.memory_total);
    let (bytes, how) = match remote {
        Some(bytes) => (bytes, machine.engine.kind.more_memory()),
        None => (machine.available?, "end what takes the memory: ps aux --sort=-rss | head"),
    };
    let size = text::bytes(bytes);
    let whose = if remote.is_some() { "the engine has" } else { "free:" };
    let state = if bytes < MEMORY {
        cannot(format!("{whose} {size} of memory"), WHY, how)
    } else {
        fine(format!("{whose} {size}"))
    };
    Some(finding("memory", state))
}

fn disk(disk: &Disk) -> Finding {
    let lies = |wanted: &str| disk.uses.iter().any(|(what, _)| *what == wanted);
    let uses: Vec<_> =
        disk.uses.iter().map(|(what, place)| format!("{what} ({})", place.display())).collect();
    let free = text::bytes(disk.free);
    let scarce = disk.files.filter(|files| *files < FILES);
    let what = match scarce {
        Some(files) => format!("room for {files} more files, of {}", uses.join(", ")),
        None => format!("{free} free for {}", uses.join(", ")),
    };
    if disk.free >= DISK && scarce.is_none() {
        return finding("disk", fine(what));
    }
    let how = if lies("images") {
        "cargo xtask gc, then what `podman system df` or `docker system df` shows as reclaimable"
    } else if lies("target") {
        "cargo clean"
    } else {
        "remove what is not needed there: du --max-depth=1 --human-readable"
    };
    let why = "a full disk fails builds and evicts pods, late and with other words";
    finding("disk", cannot(what, why, how))
}

/// Hard limits of this shell; root with all its rights may raise them for what it starts.
fn limits(machine: &Machine) -> Option<Finding> {
    let limits = machine.limits;
    let bound = machine.engine.kind.runs_containers() && (!machine.root || !limits.may_raise);
    if !bound || limits.open_files >= OPEN_FILES && limits.processes >= CLUSTER_PROCESSES {
        return None;
    }
    let what =
        format!("at most {} open files and {} processes", limits.open_files, limits.processes);
    let why =
        "containers get no more than the shell that starts them, and a node's programs run out";
    let how = "as root, for the next login: printf '* hard nofile 65536\\n* hard nproc 65536\\n' \
               > /etc/security/limits.d/xtask.conf";
    Some(finding("limits", cannot(what, why, how)))
}

fn cgroup(machine: &Machine, needs: &Needs) -> Vec<Finding> {
    const BOOT: &str = "or boot with systemd.unified_cgroup_hierarchy=1";
    let version = machine.cgroup.name();
    let mut states = Vec::new();
    let rootless = machine.facts().is_some_and(|facts| facts.rootless);
    if rootless && machine.cgroup == Cgroup::V1 {
        states.push(cannot(
            "a rootless engine on cgroup v1",
            "kind's nodes need limits that only cgroup v2 lets a user set \
             (https://kind.sigs.k8s.io/docs/user/rootless/)",
            format!("run as root, {BOOT}"),
        ));
    }
    let refused = needs.node_images.iter().filter(|name| kubelet_refuses(machine.cgroup, name));
    states.extend(refused.map(|name| {
        cannot(
            format!("{name} does not start on cgroup v1"),
            "from Kubernetes 1.35 on its kubelet refuses to (kubernetes/kubernetes#134298)",
            format!("name a `node-image` of 1.34 in xtask.toml, {BOOT}"),
        )
    }));
    if let Some(most) = machine.limits.group_processes.filter(|most| *most < CLUSTER_PROCESSES) {
        states.push(cannot(
            format!("our control group allows {most} processes"),
            "a cluster and its builds have more, and the first one too many fails with other words",
            "give the container or service we run in more: `--pids-limit=-1`, or `TasksMax=infinity`",
        ));
    }
    if states.is_empty() {
        states.push(fine(version));
    }
    states.into_iter().map(|state| finding("cgroup", state)).collect()
}

fn inotify(machine: &Machine, needs: &Needs) -> Option<Finding> {
    let inotify = machine.inotify;
    let (instances, watches) = (inotify.instances?, inotify.watches?);
    let missing = needs
        .clusters
        .iter()
        .filter(|name| !machine.clusters.iter().any(|one| one.running && one.name == **name));
    // Suites run one after the other, unless a person keeps all their clusters.
    let wanted = CLUSTER_INSTANCES * missing.take(1).count() as u64;
    let mut what = format!("{} of {instances} instances in use, {watches} watches", inotify.in_use);
    if inotify.in_use + wanted <= instances && watches >= WATCHES {
        return Some(finding("inotify", fine(what)));
    }
    // Writing to a string does not fail.
    write!(what, "; a cluster takes up to {CLUSTER_INSTANCES} instances").ok();
    let why = "pods that follow files fail with `too many open files` \
               (https://kind.sigs.k8s.io/docs/user/known-issues/)";
    Some(finding("inotify", fault(what, why, raise_inotify(machine.root))))
}

fn raise_inotify(root: bool) -> Mend {
    let settings = ["fs.inotify.max_user_instances=512", "fs.inotify.max_user_watches=524288"];
    let set = Tool::new("sysctl").arg("-w").args(settings);
    let command = format!("{}{set}", if root { "" } else { "sudo " });
    let steps = if root { vec![Step::Run(set)] } else { Vec::new() };
    Mend { command, steps, order: Order::Host }
}
