//! What is to be built, and the command lines that say so to podman and docker.
//!
//! The staged directory holds exactly the hashed files, so the engine must leave out none of them. podman is given
//! an ignore file of its own with one pattern that matches nothing: an empty one it takes for
//! none and then reads the staged `.dockerignore` after all (seen, 4.3.1). `BuildKit` reads
//! `<Dockerfile>.dockerignore` first, so docker gets a copy of the Dockerfile outside the context with that beside it.
//!
//! podman 4.3 keys a RUN by its text and takes a stale layer when what a bind mount shows has changed (seen). A RUN
//! with one therefore gets an `ARG` in front whose value is the image's key: RUN layers are keyed by the args in
//! scope too. `BuildKit` looks at the content and needs none of this.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parse_dockerfile::{Flag, Instruction};

use crate::process::Tool;

use super::{Engine, Kind};

/// One image to build. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    pub image: &'a str,
    /// `localhost/NAME:…`
    pub tag: &'a str,
    /// What proves the image: it must carry all of them when it is built.
    pub labels: &'a [(String, String)],
    /// The staged context: nothing else is sent, nothing in it is left out.
    pub stage: &'a Path,
    pub dockerfile: &'a Path,
    pub target: Option<&'a str>,
    pub platform: Option<&'a str>,
    pub args: &'a BTreeMap<String, String>,
    /// What the key says the image is built on: reference → id. Checked again when it is built.
    pub bases: &'a BTreeMap<String, Option<String>>,
    /// Id → file.
    pub secrets: &'a BTreeMap<String, PathBuf>,
    /// Take no layer from an earlier build.
    pub no_cache: bool,
    /// Show the host's CA certificates to RUN (podman on this machine only).
    pub trust_host_ca: bool,
    pub timeout: Duration,
    /// The longest it may print nothing.
    pub silence: Duration,
    /// So many CPUs for its RUN processes; none: all.
    pub cpus: Option<usize>,
    /// Gets the whole output.
    pub log: &'a Path,
    /// The run's id, unique on this machine.
    pub run: &'a str,
}

/// Matches nothing, but is a pattern.
const NOTHING: &str = "xtask-leaves-out-nothing/of/what/it/has/staged\n";
const HOST_CERTIFICATES: &str = "/etc/ssl/certs";
/// How much longer than its limits a build may take to end.
const CARE: Duration = Duration::from_secs(15);
/// The build argument that keeps bind mounts honest.
const MOUNTED: &str = "XTASK_MOUNTED";

/// The command for `order`. `aside` is a folder outside the context for the files the engine is to be
/// given besides; `cgroup` is the group RUN processes are to be put below.
pub(super) fn build(
    engine: &Engine,
    order: &Order,
    aside: &Path,
    cgroup: Option<&str>,
    remote: bool,
) -> anyhow::Result<Tool> {
    let tool = match engine.kind {
        Kind::Podman => podman(engine, order, aside, cgroup, remote)?,
        Kind::Docker => docker(engine, order, aside)?,
    };
    let mut tool = tool.arg("--iidfile").arg(id_file(aside));
    for (name, value) in order.labels {
        tool = tool.arg("--label").arg(format!("{name}={value}"));
    }
    for (name, value) in order.args {
        tool = tool.arg("--build-arg").arg(format!("{name}={value}"));
    }
    for (id, file) in order.secrets {
        tool = tool.arg("--secret").arg(format!("id={id},src={}", file.display()));
    }
    if let Some(target) = order.target {
        tool = tool.args(["--target", target]);
    }
    if let Some(platform) = order.platform {
        tool = tool.args(["--platform", platform]);
    }
    if order.no_cache {
        tool = tool.arg("--no-cache");
    }
    let tool = tool.arg(order.stage).log(order.log);
    Ok(match cgroup {
        // Ended with care from outside (see `watch`); this is for when that fails.
        Some(_) => tool.despite_stop().limit(order.timeout + CARE).silence(order.silence + CARE),
        None => tool.limit(order.timeout).silence(order.silence),
    })
}

/// Where the engine is told to write the id of what it has built.
pub(super) fn id_file(aside: &Path) -> PathBuf {
    aside.join("id")
}

fn podman(
    engine: &Engine,
    order: &Order,
    aside: &Path,
    cgroup: Option<&str>,
    remote: bool,
) -> anyhow::Result<Tool> {
    let ignore = aside.join("ignore");
    fs_err::write(&ignore, NOTHING)?;
    let text = fs_err::read_to_string(order.dockerfile)?;
    let mut tool = engine.tool();
    if cgroup.is_some() {
        // systemd's manager wants a slice where this one takes a path.
        tool = tool.arg("--cgroup-manager=cgroupfs");
    }
    // Bases have been fetched: a build that fetched one itself would use another than its key says.
    tool = tool.args(["build", "--layers", "--pull=never", "--format=docker"]);
    if let Some(cgroup) = cgroup {
        tool = tool.args(["--cgroup-parent", cgroup]);
    }
    if let Some(cpus) = order.cpus.filter(|_| !remote).and_then(some_cpus) {
        tool = tool.args(["--cpuset-cpus", &cpus]);
    }
    if order.trust_host_ca && !remote && Path::new(HOST_CERTIFICATES).is_dir() {
        tool = tool.arg("--volume").arg(format!("{HOST_CERTIFICATES}:{HOST_CERTIFICATES}:ro"));
    }
    tool = tool.arg("--ignorefile").arg(ignore);
    match honest_mounts(&text) {
        Cow::Borrowed(_) => Ok(tool.arg("--file").arg(order.dockerfile)),
        Cow::Owned(text) => {
            let copy = aside.join("Dockerfile");
            fs_err::write(&copy, text)?;
            let key: Vec<&str> = order.labels.iter().map(|(_, value)| value.as_str()).collect();
            let key = format!("{MOUNTED}={}", key.join("."));
            Ok(tool.arg("--file").arg(copy).arg("--build-arg").arg(key))
        }
    }
}

fn docker(engine: &Engine, order: &Order, aside: &Path) -> anyhow::Result<Tool> {
    let copy = aside.join("Dockerfile");
    fs_err::copy(order.dockerfile, &copy).context("failed to copy the Dockerfile")?;
    fs_err::write(aside.join("Dockerfile.dockerignore"), NOTHING)?;
    let tool = engine.tool().env("DOCKER_BUILDKIT", "1");
    Ok(tool.args(["build", "--progress=plain", "--file"]).arg(copy))
}

/// The Dockerfile with an `ARG` before every RUN that has a bind mount; unchanged if there is none, or if it
/// cannot be read (then the engine will say why).
fn honest_mounts(text: &str) -> Cow<'_, str> {
    let Ok(dockerfile) = parse_dockerfile::parse(text) else { return Cow::Borrowed(text) };
    let starts = dockerfile.instructions.iter().filter_map(|instruction| match instruction {
        Instruction::Run(run) if run.options.iter().any(is_bind_mount) => Some(run.run.span.start),
        _ => None,
    });
    let mut changed = String::new();
    let mut done = 0;
    for start in starts {
        let Some(part) = text.get(done..start) else { return Cow::Borrowed(text) };
        changed.push_str(part);
        changed.extend(["ARG ", MOUNTED, "\n"]);
        done = start;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    changed.push_str(&text[done..]);
    Cow::Owned(changed)
}

/// `bind` is what a mount is when it does not say.
fn is_bind_mount(flag: &Flag) -> bool {
    let Some(value) = flag.value.as_ref().filter(|_| flag.name.value == "mount") else {
        return false;
    };
    value
        .value
        .split(',')
        .find_map(|part| part.strip_prefix("type="))
        .is_none_or(|kind| kind == "bind")
}

/// `count` of the CPUs we may use, others each time, so that builds side by side do not share one.
fn some_cpus(count: usize) -> Option<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let allowed = cpu_list(list.trim())?;
    if count == 0 || count >= allowed.len() {
        return None;
    }
    let first = NEXT.fetch_add(count, Ordering::Relaxed);
    let chosen = allowed.iter().cycle().skip(first % allowed.len()).take(count);
    Some(chosen.map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// `0-2,5` → 0, 1, 2, 5.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_mount_gets_an_argument_in_front_and_nothing_else_does() {
        for (text, expected) in [
            ("FROM a\nRUN x\n", None),
            ("FROM a\nRUN --mount=type=cache,target=/c x\n", None),
            ("FROM a\nCOPY --from=b /x /y\nRUN echo --mount=type=bind\n", None),
            (
                "FROM a\nRUN --mount=type=bind,target=/s x\n",
                Some("FROM a\nARG XTASK_MOUNTED\nRUN --mount=type=bind,target=/s x\n"),
            ),
            (
                "FROM a\nRUN --mount=source=f,target=/s \\\n  x\nRUN y\n",
                Some("FROM a\nARG XTASK_MOUNTED\nRUN --mount=source=f,target=/s \\\n  x\nRUN y\n"),
            ),
            (
                "FROM a\nRUN --mount=type=cache,target=/c \\\n  --mount=from=b,target=/s x\n",
                Some(
                    "FROM a\nARG XTASK_MOUNTED\nRUN --mount=type=cache,target=/c \\\n  \
                     --mount=from=b,target=/s x\n",
                ),
            ),
        ] {
            assert_eq!(honest_mounts(text), expected.unwrap_or(text), "{text}");
        }
    }

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list("3"), Some(vec![3]));
        assert_eq!(cpu_list(""), None);
    }
}
