//! What we made: how a cluster is known to be ours, and to be what is wanted.
//!
//! A cluster is ours if its containers carry the random id that the record of this checkout has
//! (see [`super::nodes`]). A record is of this checkout by the identity of its folder, not by its
//! path: a copy of the record in another folder, or under the same path in another container, is
//! nobody's. The record names the containers of a cluster that was made wholly; their ids are never
//! given twice, so that whoever only uses it need not ask further. The record is written before
//! kind is started, so that a cluster left half-made by a kill is known for what it is; without
//! containers that carry its id it means nothing.
//!
//! The record lies beside the kubeconfig, and again in the machine's folder, where `cargo clean`
//! does not reach it. Each node also has a file, `/kind/xtask`, that says which checkout made it:
//! for people, it proves nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ClusterTarget;
use super::nodes::Node;
use crate::event::Events;
use crate::identity;
use crate::paths::{self, Paths};
use crate::private::{self, Owner, PrivatePath};
use crate::process::{self, Tool, stop};

/// Where a node has the file that says which checkout made it.
const MARK: &str = "/kind/xtask";

/// The largest record that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The longest such file that is read.
const LONGEST_MARK: u64 = 64 << 10;

/// What is known of a cluster we made, or began to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The random id that its containers carry.
    pub(super) id: String,
    /// The identity of the checkout's folder.
    pub(super) checkout: String,
    /// Which engine its containers are of.
    pub(super) provider: String,
    pub(super) fingerprint: Fingerprint,
    /// None while it is being made.
    pub(super) made: Option<Made>,
}

/// What a node says of who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The workspace's own folder.
    pub(super) home: PathBuf,
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

/// The record of a cluster that this checkout made on this engine; one that cannot be read counts
/// as none.
pub(super) fn read(paths: &Paths, provider: &str, cluster: &str) -> Option<Record> {
    let checkout = identity::of_folder(paths.root()).ok()?;
    let places = [Some(paths.cluster_record(cluster)), paths::cluster_note(provider, cluster).ok()];
    places.iter().flatten().find_map(|file| {
        let record: Record = serde_json::from_slice(&file.read(LARGEST).ok()?).ok()?;
        let is_ours = record.checkout == checkout && record.provider == provider;
        (is_ours && identity::is_random(&record.id)).then_some(record)
    })
}

/// Whether we made the cluster, wholly.
pub fn is_made(name: &str, provider: &str, paths: &Paths) -> bool {
    read(paths, provider, name).is_some_and(|record| record.made.is_some())
}

pub(super) fn write(paths: &Paths, cluster: &str, record: &Record) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(record)?;
    let note = paths::cluster_note(&record.provider, cluster)?;
    for file in [paths.cluster_record(cluster), note] {
        file.write(&text)?;
    }
    Ok(())
}

/// Forgets a cluster that is gone: everything kept for it goes too.
pub(super) fn forget(paths: &Paths, provider: &str, cluster: &str) -> anyhow::Result<()> {
    if read(paths, provider, cluster).is_some() {
        // What stays is a record without containers, which means nothing.
        paths::cluster_note(provider, cluster)?.remove().ok();
    }
    forget_folder(paths, cluster)
}

/// The same of a cluster that others run: only its folder was ever ours.
pub(super) fn forget_folder(paths: &Paths, cluster: &str) -> anyhow::Result<()> {
    Ok(paths.cluster(cluster).remove()?)
}

/// Writes on every node which checkout made it.
pub(super) fn put_mark(
    provider: &str,
    nodes: &[Node],
    mark: &Mark,
    folder: &PrivatePath,
) -> anyhow::Result<()> {
    let file = folder.join("mark.json");
    file.write(&serde_json::to_vec_pretty(mark)?)?;
    for node in nodes {
        Tool::new(provider)
            .arg("cp")
            .arg(&file)
            .arg(format!("{}:{MARK}", node.id))
            .limit(super::kind::QUESTION)
            .run()
            .with_context(|| format!("failed to mark node `{}`", node.name))?;
    }
    Ok(())
}

/// What the first node says of who made the cluster, running or not. It may be anybody's node: no
/// more is read than a mark is long.
pub(super) fn read_mark(provider: &str, nodes: &[Node]) -> Option<Mark> {
    let node = nodes.iter().find(|node| node.holds_images())?;
    Tool::new(provider)
        .args(["cp", &format!("{}:{MARK}", node.id), "-"])
        .limit(super::kind::QUESTION)
        .despite_stop()
        .read_by(|archive| {
            let mut archive = tar::Archive::new(archive.take(LONGEST_MARK));
            let file = archive.entries()?.next().context("an archive without a file")??;
            let mark = serde_json::from_reader(file)?;
            // Who is left writing fails, and what was read would not count.
            std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
            Ok(mark)
        })
        .ok()
}

/// Two runs on one cluster would spoil each other's tests: whoever holds this has it to itself. On
/// a cluster that others run, each has names of its own, and runs share it.
#[derive(Debug)]
pub struct Lease(File);

impl Lease {
    /// Whether no other run of this checkout uses the cluster; then none can begin to while this is
    /// held.
    pub fn is_last(&self) -> bool {
        self.0.try_lock().is_ok()
    }
}

/// Waits until no other run uses the cluster.
pub fn hold(target: &dyn ClusterTarget, paths: &Paths, events: &Events) -> anyhow::Result<Lease> {
    let mut told = false;
    loop {
        if let Some(lease) = try_hold(target, paths)? {
            return Ok(lease);
        }
        wait(target.name(), &open(target)?, events, &mut told)?;
    }
}

/// The same without waiting; none while another run uses the cluster.
pub(super) fn try_hold(target: &dyn ClusterTarget, paths: &Paths) -> anyhow::Result<Option<Lease>> {
    let file = open(target)?;
    if !is_taken(target.name(), file.try_lock())? {
        return Ok(None);
    }
    end_proxies(&paths.kubeconfig(target.name()));
    Ok(Some(Lease(file)))
}

/// Waits until nobody has the cluster to himself, for a run that does not mind others.
pub(super) fn share(
    target: &dyn ClusterTarget,
    paths: &Paths,
    events: &Events,
) -> anyhow::Result<Lease> {
    let (name, file) = (target.name(), open(target)?);
    if is_taken(name, file.try_lock())? {
        end_proxies(&paths.kubeconfig(name));
    }
    let mut told = false;
    while !is_taken(name, file.try_lock_shared())? {
        wait(name, &file, events, &mut told)?;
    }
    Ok(Lease(file))
}

fn open(target: &dyn ClusterTarget) -> anyhow::Result<File> {
    let opened = target.lock()?.lock_file();
    opened.with_context(|| format!("failed to open the lock of cluster `{}`", target.name()))
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

/// Says once for whom the run waits, and waits a moment.
fn wait(name: &str, lock: &File, events: &Events, told: &mut bool) -> anyhow::Result<()> {
    if !std::mem::replace(told, true) {
        let holder = private::holder_in_words(lock);
        events.note(format!("waiting for another run that uses cluster `{name}`{holder}"));
    }
    events.waiting("cluster", format!("another run that uses `{name}`"));
    stop::pause(Duration::from_millis(500))?;
    Ok(())
}

/// Whether a run has that lock just now.
pub(super) fn is_held(lock: &PrivatePath) -> bool {
    lock.holder() == Owner::Alive
}

/// Whoever has the lease has no `kubectl proxy` yet: those there are, a killed run has left.
fn end_proxies(kubeconfig: &Path) {
    let kubeconfig = kubeconfig.to_string_lossy();
    process::end_strays("kubectl", Signal::TERM, |words| {
        let named = |word: &str| words.contains(&word);
        named(&kubeconfig) && named("proxy") && named("--unix-socket")
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::target;
    use crate::config;

    fn wanted(name: &str) -> config::Cluster {
        config::Cluster {
            name: name.to_owned(),
            node_image: String::new(),
            reuse: config::Reuse::IfUnchanged,
            config: None,
            nodes: None,
            existing: None,
            memory: 0,
            timeout: Duration::ZERO,
        }
    }

    /// A name that no other test, and no cluster of this machine, has.
    fn name() -> String {
        format!("unit-{}", identity::random().unwrap())
    }

    #[test]
    fn a_cluster_is_held_in_all_checkouts_as_long_as_its_lease_lives() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [here, there] = folders.each_ref().map(|folder| Paths::of(folder.path()));
        let [a, b] = [name(), name()].map(|name| wanted(&name));
        let at = |wanted, provider, paths| target(wanted, Vec::new(), provider, paths);
        assert!(!at(&a, "podman", &here).is_held());
        let lease = at(&a, "podman", &here).try_lease();
        assert!(lease.is_some() && at(&a, "podman", &there).is_held());
        assert!(!at(&b, "podman", &there).is_held() && !at(&a, "docker", &there).is_held());
        assert!(at(&a, "podman", &there).try_lease().is_none());
        drop(lease);
        assert!(at(&a, "podman", &there).try_lease().is_some());
        for one in [&a, &b] {
            paths::kind_lock("podman", &one.name).unwrap().remove().unwrap();
        }
    }

    fn record(paths: &Paths) -> Record {
        let text = String::new;
        Record {
            id: identity::random().unwrap(),
            checkout: identity::of_folder(paths.root()).unwrap(),
            provider: "podman".to_owned(),
            fingerprint: Fingerprint {
                config: text(),
                node_image: text(),
                image_id: None,
                kind: text(),
            },
            made: None,
        }
    }

    #[test]
    fn a_record_is_of_the_checkout_that_wrote_it_and_of_no_copy() {
        let (folder, name) = (tempfile::tempdir().unwrap(), name());
        let paths = Paths::of(folder.path());
        let record = record(&paths);
        write(&paths, &name, &record).unwrap();
        assert_eq!(read(&paths, "podman", &name), Some(record.clone()));
        assert_eq!(read(&paths, "docker", &name), None, "another engine's");
        let copy = tempfile::tempdir().unwrap();
        let copied = Paths::of(copy.path());
        copied.cluster(&name).make().unwrap();
        fs_err::copy(paths.cluster_record(&name), copied.cluster_record(&name)).unwrap();
        assert_eq!(read(&copied, "podman", &name), None, "a copy's");
        // `cargo clean` leaves the machine's, which is no other checkout's either.
        fs_err::remove_dir_all(paths.home()).unwrap();
        assert_eq!(read(&paths, "podman", &name), Some(record));
        assert_eq!(read(&Paths::of(copy.path()), "podman", &name), None);
        forget(&copied, "podman", &name).unwrap();
        assert!(read(&paths, "podman", &name).is_some(), "another checkout forgets its own only");
        forget(&paths, "podman", &name).unwrap();
        assert_eq!(read(&paths, "podman", &name), None);
    }
}
