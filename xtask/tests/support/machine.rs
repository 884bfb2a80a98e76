//! The machine under tests against a real engine: which engine, a control group with a limit, what
//! runs.

use std::ops::Range;
use std::path::{Path, PathBuf};

use xtask::config::{self, EngineName};
use xtask::process::Tool;

pub(crate) const BASE: &str = "docker.io/library/debian:bookworm-slim";
pub(crate) const MIB: u64 = 1 << 20;
const MOUNT: &str = "/sys/fs/cgroup";

/// The engine the tests are to be made with: podman, if `XTASK_ENGINE` does not say `docker`.
pub(crate) fn engine() -> &'static str {
    match std::env::var("XTASK_ENGINE").as_deref() {
        Ok("docker") => "docker",
        _ => "podman",
    }
}

/// That engine's program.
pub(crate) fn engine_tool() -> Tool {
    Tool::new(engine()).env("DOCKER_BUILDKIT", "1")
}

pub(crate) fn engine_settings() -> config::Engine {
    let name = if engine() == "docker" { EngineName::Docker } else { EngineName::Podman };
    config::Engine { name, reserve: Some(0), trust_host_ca: false, jobs: None, builds: true }
}

/// Which trials of a test that makes many to make: `usual` of them, or what `XTASK_TRIALS` says (`150`, or `50..100`
/// for a part of them).
pub(crate) fn trials(usual: u64) -> Range<u64> {
    let Ok(said) = std::env::var("XTASK_TRIALS") else { return 0..usual };
    let (first, end) = said.split_once("..").unwrap_or(("0", &said));
    first.parse().unwrap()..end.parse().unwrap()
}

/// Removes every image whose label says it is of `image`, those too that have no name: a build
/// leaves one for each of its steps.
pub(crate) fn remove_images(image: &str) {
    let filter = format!("label=dev.xtask.image={image}");
    let list =
        engine_tool().args(["images", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    // podman gives up where another test removes an image meanwhile.
    let Some(ids) = (0..5).find_map(|_| list.clone().read().ok()) else { return };
    let ids: std::collections::BTreeSet<&str> = ids.lines().collect();
    if !ids.is_empty() {
        engine_tool().args(["rmi", "--force"]).args(ids).run().ok();
    }
}

/// A memory control group below our own, with a limit; removed when dropped. Making it needs root.
///
/// docker before version 23 puts what it builds into a group of its own: that gets the limit too.
pub(crate) struct Group {
    /// As engines are told it.
    pub(crate) path: String,
    folder: PathBuf,
    /// Where processes are put: in version 2 a leaf.
    leaf: PathBuf,
    /// The file of docker's limit, with what was in it.
    dockers: Option<(PathBuf, String)>,
}

impl Group {
    pub(crate) fn new(limit: u64) -> Self {
        Self::named("limit", limit)
    }

    /// One of several.
    pub(crate) fn named(name: &str, limit: u64) -> Self {
        let own = fs_err::read_to_string("/proc/self/cgroup").unwrap();
        let name = format!("xtask-{name}-{}", std::process::id());
        let one = own.lines().find_map(|line| line.split_once(":memory:"));
        let (mount, home, file) = if let Some((_, own)) = one {
            (Path::new(MOUNT).join("memory"), own.to_owned(), "memory.limit_in_bytes")
        } else {
            // Beside ours: version 2 allows no controllers below a group with processes.
            let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
            let above = own.rsplit_once('/').map_or("", |(above, _)| above);
            (PathBuf::from(MOUNT), above.to_owned(), "memory.max")
        };
        let path = format!("{}/{name}", home.trim_end_matches('/'));
        let folder = mount.join(path.trim_start_matches('/'));
        let leaf = if one.is_some() { folder.clone() } else { folder.join("leaf") };
        fs_err::create_dir_all(&leaf).unwrap();
        fs_err::write(folder.join(file), limit.to_string()).unwrap();
        if one.is_none() {
            fs_err::write(folder.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let dockers = (engine() == "docker").then(|| {
            let group = mount.join("docker/buildkit");
            fs_err::create_dir_all(&group).unwrap();
            let old = fs_err::read_to_string(group.join(file)).unwrap();
            fs_err::write(group.join(file), limit.to_string()).unwrap();
            (group.join(file), old)
        });
        Self { path, folder, leaf, dockers }
    }

    /// `program`, to be run inside.
    pub(crate) fn tool(&self, program: impl AsRef<Path>) -> Tool {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", self.leaf.display());
        Tool::new("sh").arg("-c").arg(enter).arg(program.as_ref())
    }
}

impl Group {
    /// What runs inside and in groups below, by number.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let lists = tree(&self.folder).into_iter().map(|group| group.join("cgroup.procs"));
        let text: String = lists.flat_map(fs_err::read_to_string).collect();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kernel kills for memory inside and below. Version 1 counts each in the group it was in,
    /// which is gone with its build; the kernel's log names that one.
    pub(crate) fn kills(&self) -> usize {
        if let Ok(text) = fs_err::read_to_string(self.folder.join("memory.events")) {
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            return count.unwrap().parse().unwrap();
        }
        let log = Tool::new("dmesg").read().unwrap();
        let name = self.path.rsplit('/').next().unwrap();
        log.lines().filter(|line| line.contains("oom-kill:") && line.contains(name)).count()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some((file, old)) = &self.dockers {
            fs_err::write(file, old.trim()).ok();
        }
        // Of an engine that was killed groups of its own are left, in version 1 under other
        // controllers too.
        let below = self.path.trim_start_matches('/');
        let others = children(Path::new(MOUNT)).into_iter().map(|mount| mount.join(below));
        for group in others.chain([self.folder.clone()]).flat_map(|group| tree(&group)) {
            fs_err::remove_dir(group).ok();
        }
    }
}

/// A group and all below it, those that are deepest first.
fn tree(group: &Path) -> Vec<PathBuf> {
    let below = children(group).into_iter().filter(|path| path.is_dir());
    below.flat_map(|group| tree(&group)).chain([group.to_owned()]).collect()
}

pub(crate) fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Processes with `word` in their command line.
pub(crate) fn running(word: &str) -> Vec<String> {
    children(Path::new("/proc"))
        .into_iter()
        .filter_map(|process| fs_err::read_to_string(process.join("cmdline")).ok())
        .filter(|line| line.contains(word))
        .map(|line| line.replace('\0', " "))
        .collect()
}

/// The most bytes a live process ever had resident.
pub(crate) fn high_water_mark(process: u32) -> Option<u64> {
    let text = fs_err::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}
