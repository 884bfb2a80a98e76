//! Looking: the only part that asks the machine. Everything slow is asked at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::containers::{self, Containers};
use super::containers_conf::ContainersConf;
use super::images::Held;
use super::machine::{Engine, Kubeconfig, Machine, Os, Ours, Proof, Tools, Version, read_version};
use super::{Look, Needs, host, images, packages, proof, upkeep};
use crate::config::EngineName;
use crate::kernel;
use crate::port;
use crate::process::{self, Tool};

const ANSWER: Duration = Duration::from_secs(30);

/// Variables that turn an engine, or kind, to another place.
const POINTERS: [&str; 5] = [
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "KIND_EXPERIMENTAL_PROVIDER",
];

/// Looks at everything `diagnose` wants to know.
pub(super) fn probe(needs: &Needs, look: &Look) -> Machine {
    let engine = choose(needs.engine);
    let root = rustix::process::geteuid().is_root();
    let limits = host::limits(Path::new("/"), root);
    let (conf, settings) = containers_conf(root);
    let wanted: Vec<_> = needs.bases.iter().chain(needs.node_images).cloned().collect();
    let prove = || proof::prove(needs.state, &settings, limits);
    let answers = ask(needs, look, &engine, &wanted, root, prove);
    let silent = answers.held.as_ref().err().cloned().filter(|_| engine.installed);
    let publishers = &answers.containers.publishers;
    let taken = needs.ports.iter().copied().filter(|port| is_taken(*port));
    Machine {
        os: os(),
        root,
        apt: process::find("apt-get").is_some(),
        disks: host::disks(&places(needs, &answers.ours)),
        engine: Engine { silent, version: answers.version, ..engine },
        packages: packages::PODMAN
            .iter()
            .chain(&packages::RECIPES)
            .filter(|package| package.is_there())
            .map(|package| package.name)
            .collect(),
        cgroup: host::cgroup(Path::new("/")),
        limits,
        conf,
        proof: answers.proof,
        images: answers.held.unwrap_or_default(),
        recipes: recipes(needs.root, &wanted),
        tools: answers.tools,
        ports_taken: taken.map(|number| (number, port::holder(number, publishers))).collect(),
        clusters: answers.containers.clusters,
        lib_modules: Path::new("/lib/modules").is_dir(),
        available: kernel::available(Path::new("/")),
        kubeconfig: answers.kubeconfig,
        inotify: host::inotify(Path::new("/")),
        ours: answers.ours,
        pointers: pointers(),
    }
}

/// What programs had to be asked for.
struct Answers {
    held: Result<BTreeMap<String, Held>, String>,
    proof: Proof,
    containers: Containers,
    version: Option<Version>,
    tools: Tools,
    kubeconfig: Kubeconfig,
    ours: Ours,
}

/// Asks all of them at the same time.
fn ask(
    needs: &Needs,
    look: &Look,
    engine: &Engine,
    wanted: &[String],
    root: bool,
    prove: impl FnOnce() -> Proof + Send,
) -> Answers {
    let installed = engine.installed;
    let podman = installed && engine.kind.runs_containers() && os() == Os::Linux;
    std::thread::scope(|threads| {
        let held = threads.spawn(|| {
            let nobody = Err("it is not installed".to_owned());
            if installed { images::held(engine.kind, wanted) } else { nobody }
        });
        let proof = threads.spawn(|| if podman { prove() } else { Proof::Untried });
        let rest = threads.spawn(|| {
            if !installed {
                return (Containers::default(), Ours::default());
            }
            let containers = containers::ask(engine.kind);
            let names = containers.clusters.iter().map(|cluster| cluster.name.clone());
            let strange: Vec<_> = names.filter(|name| !needs.clusters.contains(name)).collect();
            let ours = look(&strange);
            (containers, ours)
        });
        let version = threads.spawn(|| version(engine.kind.name(), "--version"));
        let kubeconfig = threads.spawn(kubeconfig);
        let tools = tools(root);
        let (containers, ours) = joined(rest, Default::default());
        Answers {
            tools,
            held: joined(held, Err("xtask's own question failed".to_owned())),
            proof: joined(proof, Proof::Untried),
            version: joined(version, None),
            kubeconfig: joined(kubeconfig, Kubeconfig::default()),
            containers,
            ours,
        }
    })
}

/// Where a run writes, and what it writes there.
fn places(needs: &Needs, ours: &Ours) -> Vec<(&'static str, PathBuf)> {
    let mut places = Vec::new();
    if let Some(facts) = ours.facts.as_ref().filter(|facts| !facts.remote) {
        places.extend(["images", "nodes"].into_iter().zip(facts.places.iter().cloned()));
        let temporary = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        places.push(("builds", temporary));
    }
    places.push(("stage", needs.state.join("stage").into()));
    places.push(("target", needs.state.parent().unwrap_or(needs.root).to_owned()));
    places
}

fn pointers() -> BTreeMap<&'static str, String> {
    let set = |name: &&'static str| {
        let value = std::env::var_os(name)?.to_string_lossy().into_owned();
        (!value.is_empty()).then_some((*name, value))
    };
    POINTERS.iter().filter_map(set).collect()
}

/// The files that `KUBECONFIG` names. They are a person's, and are not opened.
fn kubeconfig() -> Kubeconfig {
    let files = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let files = std::env::split_paths(&files).filter(|file| !file.as_os_str().is_empty());
    Kubeconfig { files: files.map(|file| (file.clone(), file.is_file())).collect() }
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
    let by_docker = match name {
        EngineName::Docker => true,
        EngineName::Auto => !podman && docker && docker_listens(),
        EngineName::Podman => false,
    };
    let (kind, installed, other) = if by_docker {
        (upkeep::DOCKER, docker, podman)
    } else {
        (upkeep::PODMAN, podman, docker && docker_listens())
    };
    Engine { kind, installed, silent: None, version: None, other }
}

fn docker_listens() -> bool {
    std::env::var_os("DOCKER_HOST").is_some() || UnixStream::connect("/var/run/docker.sock").is_ok()
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
    let runc = process::find("runc").is_some();
    let mut conf =
        ContainersConf { drop_in, drop_in_text, only, crun, runc, ..ContainersConf::default() };
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

/// What a program says of its own version.
fn version(program: &str, argument: &str) -> Option<Version> {
    process::find(program)?;
    read_version(&Tool::new(program).arg(argument).limit(ANSWER).read().ok()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_somebody_listens_on_is_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(is_taken(listener.local_addr().unwrap().port()));
    }
}
