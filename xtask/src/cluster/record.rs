//! What we made: how a cluster is known to be ours, and to be what is wanted.
//!
//! A cluster is ours if the record beside its kubeconfig names its very containers (ids are never
//! given twice), or if its nodes carry our mark, `/kind/xtask`, with this workspace's name in it.
//! The first costs nothing to check; the second survives `cargo clean`. A cluster with neither is
//! somebody else's: it is refused, never touched. The record is written as `making` before kind is
//! started, so that a cluster left half-made by a kill is known for what it is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::nodes::Node;
use crate::event::Events;
use crate::paths::Paths;
use crate::process::{self, Tool, stop};

/// Where a node carries our mark.
const MARK: &str = "/kind/xtask";

/// What is known of a cluster we made, or began to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) mark: Mark,
    /// None while it is being made.
    pub(super) made: Option<Made>,
}

/// What every node of ours carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The workspace's own folder: two checkouts do not take each other's cluster.
    pub(super) home: PathBuf,
    pub(super) fingerprint: Fingerprint,
}

/// What there is once a cluster has been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Ids of the node containers.
    pub(super) containers: Vec<String>,
    /// SHA-256 of the kubeconfig: one that was changed since is written anew.
    pub(super) kubeconfig: String,
}

/// What decides whether a kept cluster may be used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// SHA-256 of kind's configuration.
    pub(super) config: String,
    /// The reference of the node image.
    pub(super) node_image: String,
    /// Its id; none where the engine does not hold it.
    pub(super) image_id: Option<String>,
    /// `kind version`.
    pub(super) kind: String,
}

impl Fingerprint {
    /// What is not as it was, if anything.
    pub(super) fn change(&self, wanted: &Self) -> Option<&'static str> {
        // An image that was removed meanwhile says nothing new about the cluster made from it.
        let other_id = wanted.image_id.is_some() && wanted.image_id != self.image_id;
        if self.node_image != wanted.node_image || other_id {
            Some("the node image changed")
        } else if self.config != wanted.config {
            Some("its configuration changed (ports, or the kind configuration)")
        } else if self.kind != wanted.kind {
            Some("kind is another version")
        } else {
            None
        }
    }
}

pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The record; one that cannot be read counts as none.
pub(super) fn read(paths: &Paths, cluster: &str) -> Option<Record> {
    serde_json::from_slice(&fs_err::read(paths.cluster_record(cluster)).ok()?).ok()
}

/// Whether we made the cluster, wholly.
pub fn is_made(name: &str, paths: &Paths) -> bool {
    read(paths, name).is_some_and(|record| record.made.is_some())
}

pub(super) fn write(paths: &Paths, cluster: &str, record: &Record) -> anyhow::Result<()> {
    let file = paths.cluster_record(cluster);
    fs_err::create_dir_all(paths.cluster(cluster))?;
    let fresh = file.with_extension("new");
    fs_err::write(&fresh, serde_json::to_vec_pretty(record)?)?;
    fs_err::rename(fresh, file)?;
    Ok(())
}

/// Writes a file that only its owner may read.
pub(super) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;

    use fs_err::os::unix::fs::OpenOptionsExt as _;
    let fresh = file.with_extension("new");
    let mut open = fs_err::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    open.open(&fresh)?.write_all(text.as_bytes())?;
    fs_err::rename(fresh, file)?;
    Ok(())
}

/// Forgets a cluster that is gone: everything kept for it goes too.
pub(super) fn forget(paths: &Paths, cluster: &str) -> anyhow::Result<()> {
    match fs_err::remove_dir_all(paths.cluster(cluster)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Puts our mark on every node.
pub(super) fn put_mark(
    provider: &str,
    nodes: &[Node],
    mark: &Mark,
    folder: &Path,
) -> anyhow::Result<()> {
    let file = folder.join("mark.json");
    fs_err::write(&file, serde_json::to_vec_pretty(mark)?)?;
    for node in nodes {
        Tool::new(provider)
            .arg("cp")
            .arg(&file)
            .arg(format!("{}:{MARK}", node.name))
            .limit(super::kind::QUESTION)
            .run()
            .with_context(|| format!("failed to mark node `{}`", node.name))?;
    }
    Ok(())
}

/// The mark of a cluster: that of its first node, running or not.
pub(super) fn read_mark(provider: &str, nodes: &[Node]) -> Option<Mark> {
    let folder = tempfile::tempdir().ok()?;
    let file = folder.path().join("mark.json");
    let node = nodes.iter().find(|node| node.holds_images())?;
    Tool::new(provider)
        .arg("cp")
        .arg(format!("{}:{MARK}", node.name))
        .arg(&file)
        .limit(super::kind::QUESTION)
        .despite_stop()
        .run()
        .ok()?;
    serde_json::from_slice(&fs_err::read(&file).ok()?).ok()
}

/// Two runs on one cluster would spoil each other's tests: whoever holds this has it to itself. On a cluster that
/// others run, each has names of its own, and runs share it.
#[derive(Debug)]
pub struct Lease(File);

impl Lease {
    /// Whether no other run of this checkout uses the cluster; then none can begin to while this is held.
    pub fn is_last(&self) -> bool {
        self.0.try_lock().is_ok()
    }
}

/// Waits until no other run uses the cluster.
pub fn hold(name: &str, paths: &Paths, events: &Events) -> anyhow::Result<Lease> {
    loop {
        if let Some(lease) = try_hold(name, paths)? {
            return Ok(lease);
        }
        wait(name, events)?;
    }
}

/// The same without waiting; none while another run uses the cluster.
pub fn try_hold(name: &str, paths: &Paths) -> anyhow::Result<Option<Lease>> {
    let file = open(name, paths)?;
    if !is_taken(name, file.try_lock())? {
        return Ok(None);
    }
    end_proxies(&paths.kubeconfig(name));
    Ok(Some(Lease(file)))
}

/// Waits until nobody has the cluster to himself, for a run that does not mind others.
pub fn share(name: &str, paths: &Paths, events: &Events) -> anyhow::Result<Lease> {
    let file = open(name, paths)?;
    if is_taken(name, file.try_lock())? {
        end_proxies(&paths.kubeconfig(name));
    }
    while !is_taken(name, file.try_lock_shared())? {
        wait(name, events)?;
    }
    Ok(Lease(file))
}

fn open(name: &str, paths: &Paths) -> anyhow::Result<File> {
    fs_err::create_dir_all(paths.cluster(name))?;
    File::create(paths.cluster_lock(name))
        .with_context(|| format!("failed to open the lock of cluster `{name}`"))
}

fn is_taken(name: &str, tried: Result<(), std::fs::TryLockError>) -> anyhow::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("failed to lock cluster `{name}`"))
        }
    }
}

fn wait(name: &str, events: &Events) -> anyhow::Result<()> {
    events.waiting("cluster", format!("another run that uses `{name}`"));
    stop::pause(Duration::from_millis(500))?;
    Ok(())
}

/// Whether a run has the cluster just now.
pub fn is_held(name: &str, paths: &Paths) -> bool {
    let lock = File::open(paths.cluster_lock(name));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Whoever has the lease has no `kubectl proxy` yet: those there are, a killed run has left.
fn end_proxies(kubeconfig: &Path) {
    let kubeconfig = kubeconfig.to_string_lossy();
    process::end_strays(|words| {
        let named = |word: &str| words.contains(&word);
        named(&kubeconfig) && named("proxy") && named("--unix-socket")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_held_as_long_as_its_lease_lives() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::of(folder.path());
        assert!(!is_held("a", &paths));
        let lease = try_hold("a", &paths).unwrap();
        assert!(lease.is_some() && is_held("a", &paths) && !is_held("b", &paths));
        assert!(try_hold("a", &paths).unwrap().is_none());
        drop(lease);
        assert!(!is_held("a", &paths) && try_hold("a", &paths).unwrap().is_some());
    }
}
