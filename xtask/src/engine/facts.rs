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
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::exit::{Exit, WithExit as _};

use crate::figure;
use crate::identity;
use crate::private::PrivatePath;
use crate::process::Ending;

use super::away::SIGN_OF_LIFE;
use super::{ANSWER, Engine, Kind};

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
        let format = match self.kind {
            Kind::Podman => "json",
            Kind::Docker => "{{json .}}",
        };
        let answer = self
            .tool()
            .args(["info", "--format", format])
            .limit(if self.is_away() { SIGN_OF_LIFE } else { ANSWER })
            .run()
            .map_err(|failure| {
                let hint = match failure.ending {
                    Ending::TimedOut(_) => {
                        format!("start it, or see why it hangs: {} info", self.name())
                    }
                    _ => "cargo xtask doctor --fix".to_owned(),
                };
                let what = format!("failed to ask `{}` for its facts\nhint: {hint}", self.name());
                anyhow::Error::new(failure).context(what)
            })
            .exit(Exit::Environment)?;
        let info = serde_json::from_slice(&answer.stdout)
            .with_context(|| format!("failed to read the answer of `{} info`", self.name()))
            .exit(Exit::Environment)?;
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let facts = match self.kind {
            Kind::Podman => podman(&info, &kernel),
            Kind::Docker => docker(&info, &kernel),
        };
        let facts = facts
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

fn podman(info: &Value, kernel: &str) -> anyhow::Result<Facts> {
    let (host, store) = (&info["host"], &info["store"]);
    let remote =
        host["serviceIsRemote"].as_bool() == Some(true) || differs(text(&host["kernel"]), kernel);
    let driver = text(&store["graphDriverName"]);
    Ok(Facts {
        version: text(&info["version"]["Version"]).to_owned(),
        platform: format!("{}/{}", text(&host["os"]), text(&host["arch"])),
        memory_total: host["memTotal"].as_u64().context("it does not say `memTotal`")?,
        memory_free: host["memFree"].as_u64(),
        cpus: count(&host["cpus"])?,
        disk_free: store["graphRootAllocated"]
            .as_u64()
            .zip(store["graphRootUsed"].as_u64())
            .map(|(all, used)| all.saturating_sub(used)),
        graph_root: readable_store(store).filter(|_| !remote),
        store_driver: driver.to_owned(),
        cgroup_version: if text(&host["cgroupVersion"]) == "v2" { 2 } else { 1 },
        cgroup_manager: text(&host["cgroupManager"]).to_owned(),
        rootless: host["security"]["rootless"].as_bool() == Some(true),
        remote,
        runtime: text(&host["ociRuntime"]["name"]).to_owned(),
        runtime_version: version_in(text(&host["ociRuntime"]["version"])),
        conmon_version: version_in(text(&host["conmon"]["version"])),
        places: ["graphRoot", "volumePath"]
            .iter()
            .filter_map(|key| Some(PathBuf::from(store[key].as_str()?)))
            .collect(),
        containerd_store: false,
    })
}

/// The first word of `crun version 1.14.1` that begins with a digit.
fn version_in(words: &str) -> Option<String> {
    let version =
        words.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.map(|word| word.trim_end_matches(',').to_owned())
}

/// The store's folder, unless images may lie in further stores too.
fn readable_store(store: &Value) -> Option<PathBuf> {
    let elsewhere = store["graphOptions"]
        .as_object()
        .is_some_and(|options| options.keys().any(|key| key.to_lowercase().contains("imagestore")));
    let root = PathBuf::from(store["graphRoot"].as_str()?);
    (!elsewhere && root.is_absolute()).then_some(root)
}

fn docker(info: &Value, kernel: &str) -> anyhow::Result<Facts> {
    let arch = match text(&info["Architecture"]) {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let rootless = info["SecurityOptions"]
        .as_array()
        .is_some_and(|options| options.iter().any(|option| text(option).contains("rootless")));
    Ok(Facts {
        version: text(&info["ServerVersion"]).to_owned(),
        platform: format!("{}/{arch}", text(&info["OSType"])),
        memory_total: info["MemTotal"]
            .as_u64()
            .filter(|&m| m > 0)
            .context("it does not say `MemTotal`")?,
        memory_free: None,
        cpus: count(&info["NCPU"])?,
        disk_free: None,
        graph_root: None,
        store_driver: text(&info["Driver"]).to_owned(),
        cgroup_version: if text(&info["CgroupVersion"]) == "2" { 2 } else { 1 },
        cgroup_manager: text(&info["CgroupDriver"]).to_owned(),
        rootless,
        remote: text(&info["OperatingSystem"]) == "Docker Desktop"
            || differs(text(&info["KernelVersion"]), kernel),
        runtime: text(&info["DefaultRuntime"]).to_owned(),
        runtime_version: None,
        conmon_version: None,
        places: info["DockerRootDir"].as_str().map(PathBuf::from).into_iter().collect(),
        containerd_store: info["DriverStatus"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| text(&row[1]).contains("containerd"))),
    })
}

fn differs(theirs: &str, ours: &str) -> bool {
    !theirs.is_empty() && theirs != ours
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn count(value: &Value) -> anyhow::Result<usize> {
    let count = value.as_u64().context("it does not say how many CPUs it has")?;
    Ok(usize::try_from(count)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// Facts of a podman whose store lies in `root`.
    pub(crate) fn local(root: &Path) -> Facts {
        podman(&podman_info(root), "6.1").unwrap()
    }

    fn podman_info(root: &Path) -> Value {
        json!({
            "host": {
                "arch": "amd64", "os": "linux", "kernel": "6.1", "cpus": 2, "cgroupVersion": "v1",
                "cgroupManager": "cgroupfs", "memTotal": 25_276_510_208_u64, "memFree": 1024,
                "ociRuntime": {
                    "name": "runc", "path": "/usr/bin/runc",
                    "version": "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1",
                },
                "conmon": {"version": "conmon version 2.1.6, commit: unknown"},
                "security": {"rootless": false},
                "serviceIsRemote": false,
            },
            "store": {
                "graphDriverName": "overlay", "graphRoot": root, "graphOptions": {},
                "volumePath": root.join("volumes"),
                "graphRootAllocated": 900, "graphRootUsed": 300,
            },
            "version": {"Version": "4.3.1"},
        })
    }

    #[test]
    fn a_local_podman_says_where_its_store_is() {
        let facts = local(Path::new("/store"));
        assert_eq!(facts.graph_root.as_deref(), Some(Path::new("/store")));
        assert_eq!((facts.memory_total, facts.cpus), (25_276_510_208, 2));
        assert_eq!(facts.disk_free, Some(600));
        assert_eq!((facts.platform.as_str(), facts.cgroup_version), ("linux/amd64", 1));
        assert!(!facts.remote);
        assert_eq!(facts.runtime_version.as_deref(), Some("1.1.5+ds1"));
        assert_eq!(facts.conmon_version.as_deref(), Some("2.1.6"));
        assert_eq!(facts.places, [Path::new("/store"), Path::new("/store/volumes")]);
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

    #[test]
    fn another_kernel_a_remote_service_or_a_second_store_means_asking() {
        let info = podman_info(Path::new("/store"));
        assert!(podman(&info, "6.2").unwrap().remote, "a virtual machine's kernel");
        for (place, value) in [
            ("/host/serviceIsRemote", json!(true)),
            ("/store/graphOptions", json!({"overlay.additionalImageStores": "/x"})),
        ] {
            let mut info = info.clone();
            *info.pointer_mut(place).unwrap() = value;
            assert_eq!(podman(&info, "6.1").unwrap().graph_root, None, "{place}");
        }
    }

    #[test]
    fn docker_names_its_machine_in_its_own_words() {
        let mut info = json!({
            "ServerVersion": "20.10.24", "OSType": "linux", "Architecture": "x86_64",
            "MemTotal": 2_085_208_064_u64, "NCPU": 2, "Driver": "overlay2", "CgroupVersion": "2",
            "CgroupDriver": "systemd", "KernelVersion": "6.1", "OperatingSystem": "Debian",
            "DefaultRuntime": "runc", "SecurityOptions": ["name=seccomp", "name=rootless"],
            "DockerRootDir": "/var/lib/docker", "DriverStatus": [["Backing Filesystem", "extfs"]],
        });
        let facts = docker(&info, "6.1").unwrap();
        assert_eq!((facts.platform.as_str(), facts.cgroup_version), ("linux/amd64", 2));
        assert!(facts.rootless && !facts.remote && facts.graph_root.is_none());
        assert!(!facts.containerd_store && facts.places == [Path::new("/var/lib/docker")]);
        info["DriverStatus"] = json!([["driver-type", "io.containerd.snapshotter.v1"]]);
        assert!(docker(&info, "6.1").unwrap().containerd_store);
        info["OperatingSystem"] = json!("Docker Desktop");
        assert!(docker(&info, "6.1").unwrap().remote);
        // A client without a daemon prints zeros.
        info["MemTotal"] = json!(0);
        assert!(docker(&info, "6.1").is_err());
    }

    #[test]
    fn on_a_mac_every_engine_builds_in_a_virtual_machine_of_its_own_size() {
        let ours = "24.6.0";
        let mut info = podman_info(Path::new("/var/lib/containers/storage"));
        info["host"]["kernel"] = json!("6.12.13-200.fc41.aarch64");
        info["host"]["arch"] = json!("arm64");
        info["host"]["serviceIsRemote"] = json!(true);
        info["host"]["memTotal"] = json!(2_045_513_728_u64);
        let facts = podman(&info, ours).unwrap();
        assert!(facts.remote && facts.graph_root.is_none());
        assert_eq!((facts.platform.as_str(), facts.memory_total), ("linux/arm64", 2_045_513_728));
        for (system, kernel) in [
            ("Docker Desktop", "6.10.14-linuxkit"),
            ("Alpine Linux v3.20", "6.6.41-0-virt"),
            ("Ubuntu 24.04 LTS", "6.8.0-44-generic"),
        ] {
            let info = json!({
                "ServerVersion": "28.0.1", "OSType": "linux", "Architecture": "aarch64",
                "MemTotal": 8_217_182_208_u64, "NCPU": 8, "Driver": "overlayfs",
                "CgroupVersion": "2", "CgroupDriver": "cgroupfs", "DefaultRuntime": "runc",
                "KernelVersion": kernel, "OperatingSystem": system,
            });
            let facts = docker(&info, ours).unwrap();
            assert!(facts.remote, "{system}");
            assert_eq!(facts.memory_total, 8_217_182_208);
        }
    }
}
