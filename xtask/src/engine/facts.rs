//! What is asked of an engine once and then kept: `podman info` takes 0.3 to 1.2 s.
//!
//! The kept answer counts for as long as everything that could change it looks the same: the
//! program (time, size), the engine's configuration files, the user, the environment that points at
//! another engine, the host's memory. An engine in a virtual machine can be resized behind all of
//! these, so its answer counts for a minute only. A lost or corrupt file means asking again, and so
//! does one that was changed, or whose store is another folder by now: where images are looked for
//! is not to be told by a file that was swapped.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{ErrorExt as _, Exit};

use crate::figure;
use crate::identity;
use crate::private::PrivatePath;
use crate::process::Ending;

use super::away::SIGN_OF_LIFE;
use super::{ANSWER, Engine};

/// What an engine says of itself and of the machine it builds on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub version: String,
    /// What it builds for when not told otherwise: `linux/amd64`.
    pub platform: String,
    /// Bytes of memory of the machine that builds (a virtual machine's own, where there is one).
    #[serde(deserialize_with = "figure::bytes")]
    pub memory_total: u64,
    /// Bytes free there when asked, if the engine says; of use only for a remote engine.
    #[serde(default, deserialize_with = "figure::bytes_if_known")]
    pub memory_free: Option<u64>,
    pub cpus: usize,
    /// Bytes free where its images lie, when asked; podman says it.
    #[serde(default, deserialize_with = "figure::bytes_if_known")]
    pub disk_free: Option<u64>,
    /// Where podman's images lie, if that is here and can be read; none: they must be asked for.
    pub graph_root: Option<PathBuf>,
    pub store_driver: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    pub cgroup_manager: String,
    pub rootless: bool,
    /// Builds in another kernel than ours: a virtual machine or another host.
    pub remote: bool,
    pub runtime: String,
    /// The runtime's own version, where the engine says it.
    pub runtime_version: Option<String>,
    /// The version of what watches over podman's containers.
    pub conmon_version: Option<String>,
    /// Where images lie, and where volumes do (a kind node's disk is one), as the engine names
    /// them.
    pub places: Vec<PathBuf>,
    /// docker keeps images in containerd's store, not in its own.
    pub containerd_store: bool,
}

/// The largest answer that is kept, in bytes.
const LARGEST: u64 = 1 << 20;

/// How long the answer of an engine elsewhere counts.
const REMOTE_LIFE: Duration = Duration::from_mins(1);

/// The environment that decides which engine answers.
pub(crate) const POINTERS: [&str; 8] = [
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "STORAGE_DRIVER",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
];

#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    asked: SystemTime,
    facts: Facts,
    /// Which folder the store's was: where images are looked for decides what is skipped.
    store: Option<String>,
    /// Digest of all the others: one that was changed by hand counts as lost.
    seal: String,
}

impl Kept {
    fn new(key: String, facts: &Facts) -> Self {
        let (store, asked) = (store_of(facts), SystemTime::now());
        let kept = Self { key, asked, facts: facts.clone(), store, seal: String::new() };
        Self { seal: kept.sealed(), ..kept }
    }

    fn sealed(&self) -> String {
        let parts = (&self.key, self.asked, &self.facts, &self.store);
        // What cannot be written as JSON is nobody's answer.
        hex::encode(Sha256::digest(serde_json::to_vec(&parts).unwrap_or_default()))
    }

    /// Whether it still says what the engine would.
    fn holds(&self, key: &str) -> bool {
        let fresh = !self.facts.remote || self.asked.elapsed().is_ok_and(|age| age < REMOTE_LIFE);
        self.key == key
            && fresh
            && self.seal == self.sealed()
            && self.store == store_of(&self.facts)
    }
}

/// The identity of the folder that podman's images lie in, if that is here.
fn store_of(facts: &Facts) -> Option<String> {
    identity::of_folder(facts.graph_root.as_ref()?).ok()
}

impl Engine {
    /// What the engine says of itself, from the file `cache` if that is still true, else asked and
    /// kept there.
    pub fn facts(&self, cache: &PrivatePath) -> anyhow::Result<Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts.clone());
        }
        let key = self.cache_key();
        let facts = if let Some(facts) = kept(cache, &key) {
            facts
        } else {
            let facts = self.ask()?;
            // A state folder that cannot be written costs the time of asking again, no more.
            keep(cache, &Kept::new(key, &facts)).ok();
            facts
        };
        Ok(self.facts.get_or_init(|| facts).clone())
    }

    /// What the file `cache` says, if that is still true.
    pub(super) fn kept_facts(&self, cache: &PrivatePath) -> Option<Facts> {
        kept(cache, &self.cache_key())
    }

    /// What the engine says now, whatever was kept: a runtime may have been replaced unseen.
    pub fn fresh_facts(&self) -> anyhow::Result<Facts> {
        self.ask()
    }

    /// As [`Engine::facts`], asked if they were not: of an engine elsewhere, for builds that were
    /// started without them.
    pub fn known_facts(&self) -> anyhow::Result<&Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let facts = self.ask()?;
        Ok(self.facts.get_or_init(|| facts))
    }

    fn ask(&self) -> anyhow::Result<Facts> {
        let answer = self
            .tool()
            .args(["info", "--format", self.client.info_format()])
            .limit(if self.is_away() { SIGN_OF_LIFE } else { ANSWER })
            .run()
            .map_err(|failure| {
                let hint = match failure.ending {
                    Ending::TimedOut(_) => {
                        format!("start it, or see why it hangs: {} info", self.name())
                    }
                    _ => "cargo xtask doctor --fix".to_owned(),
                };
                let what = format!("failed to ask `{}` for its facts", self.name());
                anyhow::Error::new(failure).context(what).hint(hint)
            })
            .exit(Exit::Environment)?;
        let info = serde_json::from_slice(&answer.stdout)
            .with_context(|| format!("failed to read the answer of `{} info`", self.name()))
            .exit(Exit::Environment)?;
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let facts = self
            .client
            .facts(&info, &kernel)
            .with_context(|| format!("failed to understand the answer of `{} info`", self.name()))
            .exit(Exit::Environment)?;
        // On this machine or not: its store and its control groups are no affair of ours.
        Ok(Facts { remote: facts.remote || self.is_away(), ..facts })
    }

    /// One line for everything that could change the answer.
    fn cache_key(&self) -> String {
        let user = rustix::process::geteuid().as_raw();
        let mut lines = vec![format!("2 {} uid={user}", self.name()), seen(&self.program)];
        lines.extend(configuration_files().iter().map(|file| seen(file)));
        lines.extend(POINTERS.iter().map(|name| {
            format!("{name}={}", std::env::var_os(name).unwrap_or_default().to_string_lossy())
        }));
        lines.extend(host_memory());
        lines.join("\n")
    }
}

/// What a file looks like from outside.
fn seen(file: &Path) -> String {
    match file.metadata() {
        Ok(meta) => {
            let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
            format!("{} {seconds}.{nanoseconds} {}", file.display(), meta.size())
        }
        Err(_) => format!("{} -", file.display()),
    }
}

fn configuration_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["/usr/share/containers", "/etc/containers"]
        .iter()
        .flat_map(|folder| {
            ["storage.conf", "containers.conf"].map(|file| Path::new(folder).join(file))
        })
        .collect();
    if let Some(home) = std::env::home_dir() {
        files.push(home.join(".config/containers/storage.conf"));
        files.push(home.join(".config/containers/containers.conf"));
        files.push(home.join(".config/containers/podman-connections.json"));
        files.push(home.join(".docker/config.json"));
    }
    files
}

/// The line of `/proc/meminfo` that holds the total.
fn host_memory() -> Option<String> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    text.lines().find(|line| line.starts_with("MemTotal")).map(str::to_owned)
}

fn kept(cache: &PrivatePath, key: &str) -> Option<Facts> {
    let kept: Kept = serde_json::from_slice(&cache.read(LARGEST).ok()?).ok()?;
    kept.holds(key).then_some(kept.facts)
}

fn keep(cache: &PrivatePath, kept: &Kept) -> anyhow::Result<()> {
    cache.write(&serde_json::to_vec(kept)?)?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::client::tests::local;
    use crate::engine::client::{DOCKER, PODMAN};

    /// Answers to `info`, and what is kept of them.
    pub(in crate::engine) fn fuzz(answer: &[u8]) {
        if let Ok(info) = serde_json::from_slice(answer) {
            PODMAN.facts(&info, "6.1").ok();
            DOCKER.facts(&info, "6.1").ok();
        }
        if let Ok(kept) = serde_json::from_slice::<Kept>(answer) {
            kept.holds("key");
        }
    }

    #[test]
    fn an_answer_that_was_changed_or_names_another_store_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let [store, copy] = ["store", "copy"].map(|name| folder.path().join(name));
        fs_err::create_dir(&store).unwrap();
        fs_err::create_dir(&copy).unwrap();
        let cache = PrivatePath::below(folder.path(), "engine.json");
        let facts = local(&store);
        let answer = Kept::new("key".into(), &facts);
        keep(&cache, &answer).unwrap();
        assert_eq!(kept(&cache, "key"), Some(facts.clone()));
        assert_eq!(kept(&cache, "other"), None);
        let text = String::from_utf8(cache.read(LARGEST).unwrap()).unwrap();
        let elsewhere = text.replace(&store.display().to_string(), &copy.display().to_string());
        for changed in [
            elsewhere,
            text.replace("\"cpus\":2", "\"cpus\":64"),
            text.replace("\"store_driver\":\"overlay\"", "\"store_driver\":\"vfs\""),
        ] {
            assert_ne!(changed, text);
            cache.write(changed.as_bytes()).unwrap();
            assert_eq!(kept(&cache, "key"), None, "{changed}");
        }
        // Sealed by whoever can, and still of another folder.
        let moved = Kept { facts: local(&copy), ..answer };
        keep(&cache, &Kept { seal: moved.sealed(), ..moved }).unwrap();
        assert_eq!(kept(&cache, "key"), None);
        keep(&cache, &Kept::new("key".into(), &facts)).unwrap();
        fs_err::rename(&store, folder.path().join("aside")).unwrap();
        fs_err::create_dir(&store).unwrap();
        assert_eq!(kept(&cache, "key"), None, "a new store in its place");
    }
}
