//! Looking: the only part that asks the machine. Everything slow is asked at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::containers_conf::ContainersConf;
use super::images::Held;
use super::kind_clusters::KindCluster;
use super::machine::{
    Cgroup, Engine, EngineKind, Limits, Machine, Memory, Os, Proof, Tools, Version,
};
use super::{Needs, images, kind_clusters, packages, proof};
use crate::config::EngineName;
use crate::process::{self, Tool};

const ANSWER: Duration = Duration::from_secs(30);

/// Looks at everything `diagnose` wants to know.
pub(super) fn probe(needs: &Needs) -> Machine {
    let os = os();
    let engine = choose(needs.engine);
    let root = rustix::process::geteuid().is_root();
    let limits = limits(root);
    let (conf, settings) = containers_conf(root);
    let wanted: Vec<_> = needs.bases.iter().chain(needs.node_images).cloned().collect();
    let answers =
        ask(needs, &engine, &wanted, root, || proof::prove(needs.state, &settings, limits));
    let silent = answers.held.as_ref().err().cloned().filter(|_| engine.installed);
    Machine {
        os,
        root,
        apt: process::find("apt-get").is_some(),
        disks: disks(&[storage(engine.kind, root), needs.root.to_owned()]),
        engine: Engine { silent, version: answers.version, ..engine },
        packages: packages::PODMAN
            .iter()
            .chain(&packages::RECIPES)
            .filter(|package| package.is_there())
            .map(|package| package.name)
            .collect(),
        cgroup: cgroup(Path::new("/sys/fs/cgroup")),
        limits,
        conf,
        proof: answers.proof,
        images: answers.held.unwrap_or_default(),
        recipes: recipes(needs.root, &wanted),
        tools: answers.tools,
        clusters: answers.clusters,
        ports_taken: needs.ports.iter().copied().filter(|port| is_taken(*port)).collect(),
        lib_modules: Path::new("/lib/modules").is_dir(),
        memory: answers.memory,
        kubeconfig: std::env::var("KUBECONFIG").ok().filter(|value| !value.is_empty()),
        inotify_instances: number("/proc/sys/fs/inotify/max_user_instances"),
    }
}

/// What programs had to be asked for.
struct Answers {
    held: Result<BTreeMap<String, Held>, String>,
    proof: Proof,
    clusters: Vec<KindCluster>,
    version: Option<Version>,
    tools: Tools,
    memory: Memory,
}

/// Asks all of them at the same time.
fn ask(
    needs: &Needs,
    engine: &Engine,
    wanted: &[String],
    root: bool,
    prove: impl FnOnce() -> Proof + Send,
) -> Answers {
    let installed = engine.installed;
    let podman = installed && engine.kind == EngineKind::Podman && os() == Os::Linux;
    std::thread::scope(|threads| {
        let held = threads.spawn(|| {
            let nobody = Err("it is not installed".to_owned());
            if installed { images::held(engine.kind, wanted) } else { nobody }
        });
        let proof = threads.spawn(|| if podman { prove() } else { Proof::Untried });
        let clusters = threads.spawn(|| {
            let asked = installed && needs.kind;
            if asked { kind_clusters::ask(engine.kind) } else { Vec::new() }
        });
        let version = threads.spawn(|| version(engine.kind.name(), "--version"));
        let memory = threads.spawn(|| memory(os(), engine.kind));
        Answers {
            tools: tools(root),
            held: joined(held, Err("xtask's own question failed".to_owned())),
            proof: joined(proof, Proof::Untried),
            clusters: joined(clusters, Vec::new()),
            version: joined(version, None),
            memory: joined(memory, Memory::default()),
        }
    })
}

/// A thread's answer; `instead` should it have died.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>, instead: T) -> T {
    thread.join().unwrap_or(instead)
}

fn os() -> Os {
    match std::env::consts::OS {
        "macos" => Os::Mac,
        "windows" => Os::Windows,
        _ => Os::Linux,
    }
}

/// The engine that would be used: the one named, else podman before docker, as in `engine::choose`.
pub(super) fn choose(name: EngineName) -> Engine {
    let podman = process::find("podman").is_some();
    let docker = process::find("docker").is_some();
    let kind = match name {
        EngineName::Docker => EngineKind::Docker,
        EngineName::Auto if !podman && docker && docker_listens() => EngineKind::Docker,
        EngineName::Podman | EngineName::Auto => EngineKind::Podman,
    };
    let (installed, other) = match kind {
        EngineKind::Podman => (podman, docker && docker_listens()),
        EngineKind::Docker => (docker, podman),
    };
    Engine { kind, installed, silent: None, version: None, other }
}

fn docker_listens() -> bool {
    std::env::var_os("DOCKER_HOST").is_some() || UnixStream::connect("/var/run/docker.sock").is_ok()
}

/// `CAP_SYS_RESOURCE` is bit 24 (capabilities(7)). Rootless podman stays within our limits by itself.
fn limits(root: bool) -> Limits {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let hard = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
    // podman lowers its own limit of processes to that of process ids before it starts anything
    // (seen, 4.3.1), and what it starts cannot go above that again.
    let ids = fs_err::read_to_string("/proc/sys/kernel/pid_max").ok();
    let ids = ids.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Limits {
        open_files: hard(Resource::Nofile),
        processes: hard(Resource::Nproc).min(ids),
        may_raise: !root || effective.is_none_or(|set| set & SYS_RESOURCE != 0),
    }
}

/// Podman's settings, and every file they may come from (containers.conf(5)).
fn containers_conf(root: bool) -> (ContainersConf, Vec<PathBuf>) {
    let mut folder = PathBuf::from("/etc/containers");
    let mut files = vec![
        PathBuf::from("/usr/share/containers/containers.conf"),
        folder.join("containers.conf"),
    ];
    files.extend(drop_ins(&folder));
    if !root {
        folder = config_home().join("containers");
        files.push(folder.join("containers.conf"));
        files.extend(drop_ins(&folder));
    }
    let only = std::env::var_os("CONTAINERS_CONF").map(PathBuf::from);
    if let Some(only) = &only {
        files = vec![only.clone()];
    }
    let drop_in = folder.join("containers.conf.d/xtask.conf");
    let drop_in_text = fs_err::read_to_string(&drop_in).ok();
    let crun = process::find("crun").is_some();
    let mut conf =
        ContainersConf { drop_in, drop_in_text, only, crun, ..ContainersConf::default() };
    for file in &files {
        if let Ok(text) = fs_err::read_to_string(file) {
            conf.read(&text, file);
        }
    }
    (conf, files)
}

fn drop_ins(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder.join("containers.conf.d")) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort();
    files
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

fn config_home() -> PathBuf {
    std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from)
}

fn cgroup(folder: &Path) -> Cgroup {
    if folder.join("cgroup.controllers").is_file() { Cgroup::V2 } else { Cgroup::V1 }
}

/// Major and minor of what a program says of itself: the first word that looks like a version.
fn version(program: &str, argument: &str) -> Option<Version> {
    process::find(program)?;
    read_version(&Tool::new(program).arg(argument).limit(ANSWER).read().ok()?)
}

fn read_version(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

fn tools(root: bool) -> Tools {
    Tools {
        kind: version("kind", "version"),
        kubectl: process::find("kubectl"),
        helm: process::find("helm"),
        go: process::find("go"),
        folder: if root { PathBuf::from("/usr/local/bin") } else { home().join("go/bin") },
    }
}

fn memory(os: Os, engine: EngineKind) -> Memory {
    if os == Os::Linux {
        let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
        return Memory { available: available(&text), engine: None };
    }
    let form = match engine {
        EngineKind::Podman => "{{.Host.MemTotal}}",
        EngineKind::Docker => "{{.MemTotal}}",
    };
    let info = Tool::new(engine.name()).args(["info", "--format", form]).limit(ANSWER).read();
    Memory { available: None, engine: info.ok().and_then(|text| text.parse().ok()) }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Where the engine keeps images.
fn storage(engine: EngineKind, root: bool) -> PathBuf {
    if engine == EngineKind::Docker {
        return PathBuf::from("/var/lib/docker");
    }
    let named = std::env::var_os("CONTAINERS_STORAGE_CONF").map(PathBuf::from);
    let system = ["/usr/share/containers/storage.conf", "/etc/containers/storage.conf"];
    let user = config_home().join("containers/storage.conf");
    let files: Vec<_> = match (named, root) {
        (Some(file), _) => vec![file],
        (None, true) => system.map(PathBuf::from).into(),
        (None, false) => vec![user],
    };
    let configured = files.iter().rev().find_map(|file| {
        let table: toml::Table = fs_err::read_to_string(file).ok()?.parse().ok()?;
        Some(PathBuf::from(table.get("storage")?.get("graphroot")?.as_str()?))
    });
    let usual = || {
        if root {
            PathBuf::from("/var/lib/containers/storage")
        } else {
            home().join(".local/share/containers/storage")
        }
    };
    configured.unwrap_or_else(usual)
}

/// Free bytes at each place, or at the nearest folder above it that is there.
fn disks(places: &[PathBuf]) -> Vec<(PathBuf, u64)> {
    let free = |place: &PathBuf| {
        let there = place.ancestors().find(|folder| folder.is_dir())?;
        let stat = rustix::fs::statvfs(there).ok()?;
        Some((place.clone(), stat.f_bavail * stat.f_frsize))
    };
    places.iter().filter_map(free).collect()
}

fn recipes(root: &Path, references: &[String]) -> BTreeMap<String, PathBuf> {
    let names: BTreeSet<_> = references.iter().map(|name| images::canonical(name)).collect();
    names
        .into_iter()
        .filter_map(|name| Some((images::recipe(root, &name)?, name)))
        .map(|(recipe, name)| (name, recipe))
        .collect()
}

/// Whether somebody listens there: on any address, since kind may bind to one and others to all.
fn is_taken(port: u16) -> bool {
    let in_use = |result: std::io::Result<TcpListener>| {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    in_use(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

fn number(file: &str) -> Option<u64> {
    fs_err::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        for (text, version) in [
            ("podman version 4.3.1", Some((4, 3))),
            ("kind v0.33.0 go1.26.8 linux/amd64", Some((0, 33))),
            ("Docker version 20.10.24+dfsg1, build 297e128", Some((20, 10))),
            ("kind version", None),
        ] {
            assert_eq!(read_version(text), version, "{text}");
        }
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       24683116 kB\nMemAvailable:   21068800 kB\n";
        assert_eq!(available(text), Some(21_068_800 * 1024));
        assert_eq!(available(""), None);
    }

    #[test]
    fn a_port_somebody_listens_on_is_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(is_taken(listener.local_addr().unwrap().port()));
    }

    #[test]
    fn a_place_not_made_yet_has_the_room_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let found = disks(&[folder.path().join("not/there")]);
        assert!(found.len() == 1 && found[0].1 > 0);
    }
}
