//! What is to be built, and the command lines that say so to podman and docker.
//!
//! The staged directory holds exactly the hashed files, so the engine must leave out none of them. podman is given
//! an ignore file of its own with one pattern that matches nothing: an empty one it takes for
//! none and then reads the staged `.dockerignore` after all (seen, 4.3.1). `BuildKit` reads
//! `<Dockerfile>.dockerignore` first, so docker gets a copy of the Dockerfile outside the context with that beside it.
//!
//! podman 4.3 keys a RUN by its text and takes a stale layer when what a bind mount shows has changed (seen). A RUN
//! with one therefore gets an `ARG` in front whose value is the image's key: RUN layers are keyed by the args in
//! scope too. Where none can be put there (the RUN is an ONBUILD of its base, or the text is not read here and may hold
//! one), the build takes nothing from the cache. `BuildKit` looks at the content and needs none of this.
//!
//! A build's share of the CPUs is a cpuset. Without root podman cannot make one and fails (seen, 4.3.1 with cgroups of
//! version 1: "cannot set cpuset limit"); there it is started on those CPUs, and RUN inherits that.
//!
//! The host's CA certificates are mounted into every RUN: by podman's `--volume`; docker has no such option, so there
//! each RUN of the copied Dockerfile gets a mount of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parse_dockerfile::{Flag, Instruction, RunInstruction};

use crate::config::Cache;
use crate::process::Tool;

use super::buildkit::Named;
use super::layers;
use super::watch::PATIENCE;
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
    /// Where layers of builds on other machines are.
    pub layers: Option<&'a Cache>,
    /// Some RUN with a mount is an ONBUILD of its base.
    pub mounts_in_triggers: bool,
    /// Show the host's CA certificates to RUN (not where podman builds on another machine).
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
const HOST_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const BUNDLE_SECRET: &str = "xtask-host-ca";
/// `BuildKit` takes no larger one.
const LARGEST_SECRET: u64 = 500 * 1024;
/// How much longer than its limits a build may take to end.
const CARE: Duration = PATIENCE.saturating_add(Duration::from_secs(15));
/// Where `buildctl` is told to write what it has made.
pub(super) const METADATA: &str = "metadata.json";
/// The build argument that keeps bind mounts honest.
const MOUNTED: &str = "XTASK_MOUNTED";

/// Where an order is carried out.
pub(super) struct Site<'a> {
    pub engine: &'a Engine,
    /// The engine builds in another kernel than ours.
    pub remote: bool,
    /// A folder outside the context for the files the engine is to be given besides.
    pub aside: &'a Path,
    /// The group RUN processes are to be put below.
    pub cgroup: Option<&'a str>,
    /// The engine works without root.
    pub rootless: bool,
    /// The build is ended from outside with care (see `watch`); the command's own limits are for when that fails.
    pub with_care: bool,
}

/// The command for `order`.
pub(super) fn build(order: &Order, site: &Site) -> anyhow::Result<Tool> {
    let text = fs_err::read_to_string(order.dockerfile).context("failed to read the Dockerfile")?;
    let tool = match site.engine.kind {
        Kind::Podman => podman(order, site, &text)?,
        Kind::Docker => docker(order, site, &text)?,
    };
    let mut tool = tool.arg("--iidfile").arg(id_file(site.aside));
    if let Some(cgroup) = site.cgroup {
        tool = tool.args(["--cgroup-parent", cgroup]);
    }
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
    let honest = site.engine.kind == Kind::Docker || is_cache_honest(order, &text);
    if order.no_cache || !honest {
        tool = tool.arg("--no-cache");
    }
    let tool = tool.arg(order.stage).log(order.log);
    Ok(if site.with_care {
        tool.despite_stop().limit(order.timeout + CARE).silence(order.silence + CARE)
    } else {
        tool.limit(order.timeout).silence(order.silence)
    })
}

/// Where the engine is told to write the id of what it has built.
pub(super) fn id_file(aside: &Path) -> PathBuf {
    aside.join("id")
}

fn podman(order: &Order, site: &Site, text: &str) -> anyhow::Result<Tool> {
    let ignore = site.aside.join("ignore");
    fs_err::write(&ignore, NOTHING)?;
    let cpus = order.cpus.filter(|_| !site.remote).and_then(some_cpus);
    let mut tool = match &cpus {
        Some(cpus) if site.rootless => {
            Tool::new("taskset").args(["--cpu-list", cpus]).arg(site.engine.name())
        }
        _ => site.engine.tool(),
    };
    if site.cgroup.is_some() {
        // systemd's manager wants a slice where this one takes a path.
        tool = tool.arg("--cgroup-manager=cgroupfs");
    }
    // Bases have been fetched: a build that fetched one itself would use another than its key says.
    tool = tool.args(["build", "--layers", "--pull=never", "--format=docker"]);
    if let Some(cpus) = cpus.filter(|_| !site.rootless) {
        tool = tool.args(["--cpuset-cpus", &cpus]);
    }
    if order.trust_host_ca && !site.remote && Path::new(HOST_CERTIFICATES).is_dir() {
        tool = tool.arg("--volume").arg(format!("{HOST_CERTIFICATES}:{HOST_CERTIFICATES}:ro"));
    }
    if let Some(cache) = order.layers.filter(|_| !order.no_cache) {
        tool = tool.args(layers::flags(cache));
    }
    tool = tool.arg("--ignorefile").arg(ignore);
    match at_runs(text, honest_mount) {
        Cow::Borrowed(_) => Ok(tool.arg("--file").arg(order.dockerfile)),
        Cow::Owned(text) => {
            let copy = site.aside.join("Dockerfile");
            fs_err::write(&copy, text)?;
            let key: Vec<&str> = order.labels.iter().map(|(_, value)| value.as_str()).collect();
            let key = format!("{MOUNTED}={}", key.join("."));
            Ok(tool.arg("--file").arg(copy).arg("--build-arg").arg(key))
        }
    }
}

/// The command for `order` to `BuildKit`, whose client is `buildctl`; it writes the image to `archive`.
pub(super) fn buildkit(
    order: &Order,
    buildctl: Tool,
    bases: &[Named],
    aside: &Path,
    archive: &Path,
) -> anyhow::Result<Tool> {
    let text = fs_err::read_to_string(order.dockerfile).context("failed to read the Dockerfile")?;
    let (_, trusted) = dockerfile(order, aside, &text)?;
    let mut tool = buildctl.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
    let local = |name: &str, folder: &Path| format!("{name}={}", folder.display());
    tool = tool.arg("--local").arg(local("context", order.stage));
    tool = tool.arg("--local").arg(local("dockerfile", aside));
    let mut options = vec![("filename".to_owned(), "Dockerfile")];
    options.extend(order.labels.iter().map(|(name, value)| (format!("label:{name}"), &**value)));
    options.extend(order.args.iter().map(|(name, value)| (format!("build-arg:{name}"), &**value)));
    options.extend(order.target.map(|target| ("target".to_owned(), target)));
    options.extend(order.platform.map(|platform| ("platform".to_owned(), platform)));
    for (name, value) in options {
        tool = tool.arg("--opt").arg(format!("{name}={value}"));
    }
    for (at, base) in bases.iter().enumerate() {
        let (name, digest) = (familiar(&base.reference), &base.digest);
        tool = tool.arg("--oci-layout").arg(local(&format!("base{at}"), &base.folder));
        tool = tool.arg("--opt").arg(format!("context:{name}=oci-layout://base{at}@{digest}"));
    }
    if trusted {
        tool = tool.arg("--secret").arg(format!("id={BUNDLE_SECRET},src={HOST_BUNDLE}"));
    }
    for (id, file) in order.secrets {
        tool = tool.arg("--secret").arg(format!("id={id},src={}", file.display()));
    }
    if order.no_cache {
        tool = tool.arg("--no-cache");
    }
    tool = tool.arg("--output").arg(format!("type=docker,dest={}", archive.display()));
    tool = tool.arg("--metadata-file").arg(aside.join(METADATA)).log(order.log);
    Ok(tool.limit(order.timeout).silence(order.silence))
}

/// A reference as `BuildKit` looks for it: without what docker takes for granted.
fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").filter(|_| name != reference).unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

fn docker(order: &Order, site: &Site, text: &str) -> anyhow::Result<Tool> {
    let (copy, trusted) = dockerfile(order, site.aside, text)?;
    let tool = site.engine.tool().env("DOCKER_BUILDKIT", "1");
    let tool = tool.args(["build", "--progress=plain", "--file"]).arg(copy);
    Ok(if trusted {
        tool.arg("--secret").arg(format!("id={BUNDLE_SECRET},src={HOST_BUNDLE}"))
    } else {
        tool
    })
}

/// The Dockerfile as `BuildKit` is to have it, outside the context with an ignore file beside it; and whether its
/// RUNs are shown the host's CA certificates.
fn dockerfile(order: &Order, aside: &Path, text: &str) -> anyhow::Result<(PathBuf, bool)> {
    let copy = aside.join("Dockerfile");
    let bundle = Path::new(HOST_BUNDLE);
    let trusted = order.trust_host_ca
        && bundle.metadata().is_ok_and(|file| file.is_file() && file.len() <= LARGEST_SECRET);
    let text =
        if trusted { at_runs(text, |run| Some(host_bundle(run))) } else { Cow::Borrowed(text) };
    fs_err::write(&copy, text.as_bytes())?;
    fs_err::write(aside.join("Dockerfile.dockerignore"), NOTHING)?;
    Ok((copy, trusted))
}

/// The Dockerfile with what `insert` puts at a place of a RUN; unchanged if that is nothing, or if it cannot be
/// read (then the engine will say why).
fn at_runs(
    text: &str,
    insert: impl Fn(&RunInstruction) -> Option<(usize, String)>,
) -> Cow<'_, str> {
    let Ok(dockerfile) = parse_dockerfile::parse(text) else { return Cow::Borrowed(text) };
    let insertions = dockerfile.instructions.iter().filter_map(|instruction| match instruction {
        Instruction::Run(run) => insert(run),
        _ => None,
    });
    let mut changed = String::new();
    let mut done = 0;
    for (at, what) in insertions {
        let Some(part) = text.get(done..at) else { return Cow::Borrowed(text) };
        changed.push_str(part);
        changed.push_str(&what);
        done = at;
    }
    if changed.is_empty() {
        return Cow::Borrowed(text);
    }
    changed.push_str(&text[done..]);
    Cow::Owned(changed)
}

/// Whether each RUN with a bind mount can be given an `ARG`.
fn is_cache_honest(order: &Order, text: &str) -> bool {
    let is_read = || parse_dockerfile::parse(text).is_ok();
    !order.mounts_in_triggers && (!text.contains("--mount") || is_read())
}

/// An `ARG` before a RUN that has a bind mount.
fn honest_mount(run: &RunInstruction) -> Option<(usize, String)> {
    let has_one = run.options.iter().any(is_bind_mount);
    has_one.then(|| (run.run.span.start, format!("ARG {MOUNTED}\n")))
}

/// The host's CA certificates for a RUN, as the secret they need not be: no layer and no cache key has them.
fn host_bundle(run: &RunInstruction) -> (usize, String) {
    let mount = format!(" --mount=type=secret,id={BUNDLE_SECRET},target={HOST_BUNDLE},mode=0444");
    (run.run.span.end, mount)
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
pub(super) fn some_cpus(count: usize) -> Option<String> {
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
            assert_eq!(at_runs(text, honest_mount), expected.unwrap_or(text), "{text}");
        }
    }

    #[test]
    fn a_base_is_found_by_the_name_buildkit_gives_it() {
        for (reference, name) in [
            ("docker.io/library/debian:bookworm-slim", "debian:bookworm-slim"),
            ("docker.io/kindest/node:latest", "kindest/node"),
            ("localhost/library/base:1", "localhost/library/base:1"),
            ("debian", "debian"),
        ] {
            assert_eq!(familiar(reference), name);
        }
    }

    #[test]
    fn every_run_gets_the_hosts_certificates_before_its_other_options() {
        let mount = "--mount=type=secret,id=xtask-host-ca,\
                     target=/etc/ssl/certs/ca-certificates.crt,mode=0444";
        let text = "FROM a\nRUN x \\\n  && y\nrun --network=none [\"z\"]\nENV RUN=1\n";
        let expected = text
            .replace("RUN x", &format!("RUN {mount} x"))
            .replace("run -", &format!("run {mount} -"));
        assert_eq!(at_runs(text, |run| Some(host_bundle(run))), expected);
        assert_eq!(at_runs("FROM scratch\n", |run| Some(host_bundle(run))), "FROM scratch\n");
    }

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list("3"), Some(vec![3]));
        assert_eq!(cpu_list(""), None);
    }
}
