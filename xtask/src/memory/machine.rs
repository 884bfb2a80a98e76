//! What the machine that builds has of memory: `/proc` and the control groups above us and above
//! the engine.
//!
//! | where | limit | none is written |
//! | --- | --- | --- |
//! | version 1 | `memory.limit_in_bytes` | `9223372036854771712`, the largest page count |
//! | version 2 | `memory.max`, and `memory.high`, above which everything crawls | `max` |
//!
//! In a container `/proc/self/cgroup` may name a path of the host's while the mount shows our group
//! as its root (version 1), or name `/` or `/../..` (a namespace of its own). So every ancestor
//! that is there is read, the mount's root always. A file that is missing bounds nothing. All paths
//! are below a root, so that tests bring their own.

use std::path::Path;

use crate::engine::client::Client;
use crate::engine::{Facts, counter};
use crate::kernel;
use crate::memory::budget::{Group, Machine};

/// Above this a limit is none: no machine has an EiB.
const NO_LIMIT: u64 = 1 << 60;

/// The memory of the machine that builds, its files below `root`.
pub(crate) fn read(root: &Path, client: &dyn Client, facts: &Facts) -> Machine {
    let machine = Machine {
        engine: client.name(),
        remote: facts.remote,
        total: facts.memory_total,
        ..Machine::default()
    };
    if facts.remote {
        return machine;
    }
    let mut groups = groups(root, "self");
    if client.has_daemon()
        && let Some(daemon) = text(root, "run/docker.pid")
    {
        groups.extend(self::groups(root, daemon.trim()));
    }
    groups.sort_by(|a, b| a.file.cmp(&b.file));
    groups.dedup();
    Machine { available: kernel::available(root), groups, ..machine }
}

/// The groups with a limit above a process.
fn groups(root: &Path, process: &str) -> Vec<Group> {
    let above = kernel::groups(root, process, "memory");
    above.into_iter().filter_map(|group| group_at(root, group)).collect()
}

fn group_at(root: &Path, kernel::Group { path, folder }: kernel::Group) -> Option<Group> {
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
    Some(Group { path, file, limit, used })
}

fn text(root: &Path, file: &str) -> Option<String> {
    fs_err::read_to_string(root.join(file)).ok()
}

#[cfg(test)]
mod tests;
