//! What is to be built, and the command lines that say so to podman and docker.
//!
//! The staged directory holds exactly the hashed files, so the engine must leave out none of them.
//! podman is given an ignore file of its own with one pattern that matches nothing: an empty one it
//! takes for none and then reads the staged `.dockerignore` after all (seen, 4.3.1). `BuildKit`
//! reads `<Dockerfile>.dockerignore` first, so docker gets a copy of the Dockerfile outside the
//! context with that beside it.
//!
//! podman's cache compares texts before variables are expanded, and takes what is stale. It is
//! given the Dockerfile with marks (`context/dockerfile/marks.rs`) that tell steps apart; where
//! none can be put, the build takes nothing from the cache. `BuildKit` compares what steps come to
//! and needs none of this.
//!
//! A build's share of the CPUs is a cpuset. Without root podman cannot make one and fails (seen,
//! 4.3.1 with cgroups of version 1: "cannot set cpuset limit"); there it is started on those CPUs,
//! and RUN inherits that.
//!
//! The host's CA certificates are mounted into every RUN: by podman's `--volume`; docker has no
//! such option, so there each RUN of the copied Dockerfile gets a mount of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::config::Cache;
use crate::process::Tool;
use crate::secret_name;

use super::Engine;
use super::watch::PATIENCE;

/// One image to build. All paths are absolute.
#[derive(Clone, Debug)]
pub struct BuildRequest<'a> {
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
    /// Lines that tell podman's cache what the text does not, each with the number of the line it
    /// goes in front of; none: the cache is of no use.
    pub marks: Option<&'a [(usize, String)]>,
    /// Show the host's CA certificates to RUN (not where podman builds on another machine).
    pub trust_host_ca: bool,
    /// None: as long as it works.
    pub timeout: Option<Duration>,
    /// The longest it may neither print nor work, where that can be seen.
    pub silence: Duration,
    /// So many CPUs for its RUN processes; none: all.
    pub cpus: Option<usize>,
    /// Gets the whole output.
    pub log: &'a Path,
    /// The run's id, unique on this machine.
    pub run: &'a str,
}

/// Matches nothing, but is a pattern.
pub(super) const NOTHING: &str = "xtask-leaves-out-nothing/of/what/it/has/staged\n";
pub(super) const HOST_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
pub(super) const BUNDLE_SECRET: &str = "xtask-host-ca";
/// `BuildKit` takes no larger one.
const LARGEST_SECRET: u64 = 500 * 1024;
/// How much longer than its limits a build may take to end.
const CARE: Duration = PATIENCE.saturating_add(Duration::from_secs(15));

/// Where an order is carried out.
pub(crate) struct Site<'a> {
    pub engine: &'a Engine,
    /// The engine builds in another kernel than ours.
    pub remote: bool,
    /// A folder outside the context for the files the engine is to be given besides.
    pub aside: &'a Path,
    /// The group RUN processes are to be put below.
    pub cgroup: Option<&'a str>,
    /// The engine works without root.
    pub rootless: bool,
    /// The build is ended from outside with care (see `watch`); the command's own limits are for
    /// when that fails.
    pub with_care: bool,
}

/// The command for `order`.
pub(super) fn build(order: &BuildRequest, site: &Site) -> anyhow::Result<Tool> {
    let text = fs_err::read(order.dockerfile).context("failed to read the Dockerfile")?;
    let client = site.engine.client;
    let mut tool = client.build(order, site, &text)?.arg("--iidfile").arg(id_file(site.aside));
    if let Some(cgroup) = site.cgroup {
        tool = tool.args(["--cgroup-parent", cgroup]);
    }
    for (name, value) in order.labels {
        tool = tool.arg("--label").arg(format!("{name}={value}"));
    }
    for (name, value) in order.args {
        tool = tool.arg("--build-arg");
        tool = if secret_name::is_secret(name) {
            // The engine takes its value from its environment, which no other user sees.
            tool.arg(name).secret_env(name, value)
        } else {
            tool.arg(format!("{name}={value}"))
        };
    }
    for (id, file) in order.secrets {
        tool = tool.arg("--secret").arg(secret(id, file, site.aside)?);
    }
    if let Some(target) = order.target {
        tool = tool.args(["--target", target]);
    }
    if let Some(platform) = order.platform {
        tool = tool.args(["--platform", platform]);
    }
    let unusable = client.needs_marks() && order.marks.is_none();
    if order.no_cache || unusable {
        tool = tool.arg("--no-cache");
    }
    let tool = tool.arg(order.stage).log(order.log);
    Ok(match order.timeout {
        _ if site.with_care => {
            let tool = tool.despite_stop();
            order.timeout.map_or(tool.clone(), |timeout| tool.limit(timeout + CARE))
        }
        Some(timeout) => tool.limit(timeout),
        None => tool,
    })
}

/// Where the engine is told to write the id of what it has built.
pub(super) fn id_file(aside: &Path) -> PathBuf {
    aside.join("id")
}

/// Whether engines take a path in an option with several parts for what it is.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    path.to_str().is_some_and(|path| path.chars().all(plain))
}

/// The option for a secret. Engines take it apart at commas and quotes, each in its own way, so a
/// file with other letters in its path is named by a link among the files beside the context.
pub(super) fn secret(id: &str, file: &Path, aside: &Path) -> anyhow::Result<String> {
    if is_plain(file) {
        return Ok(format!("id={id},src={}", file.display()));
    }
    let link = aside.join(format!("secret-{id}"));
    match fs_err::os::unix::fs::symlink(file, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    Ok(format!("id={id},src={}", link.display()))
}

/// The Dockerfile as `BuildKit` is to have it, outside the context with an ignore file beside it;
/// and whether its RUNs are shown the host's CA certificates.
pub(super) fn dockerfile(
    order: &BuildRequest,
    aside: &Path,
    text: &[u8],
) -> anyhow::Result<(PathBuf, bool)> {
    let copy = aside.join("Dockerfile");
    let bundle = Path::new(HOST_BUNDLE);
    let trusted = order.trust_host_ca
        && bundle.metadata().is_ok_and(|file| file.is_file() && file.len() <= LARGEST_SECRET);
    let trusting = if trusted { trusting(text) } else { None };
    let trusted = trusting.is_some();
    fs_err::write(&copy, trusting.as_deref().unwrap_or(text))?;
    fs_err::write(aside.join("Dockerfile.dockerignore"), NOTHING)?;
    Ok((copy, trusted))
}

/// The Dockerfile with the host's CA certificates for each RUN, as the secret they need not be: no
/// layer and no cache key has them. None if the text is another frontend's, or a RUN's keyword is
/// broken over lines.
fn trusting(text: &[u8]) -> Option<Vec<u8>> {
    let mount = format!(" --mount=type=secret,id={BUNDLE_SECRET},target={HOST_BUNDLE},mode=0444");
    let mut changed = Vec::new();
    let mut done = 0;
    for run in dockerfile::instructions(text).ok()?.iter().filter(|span| span.keyword() == "RUN") {
        let at = run.keyword_end?;
        changed.extend_from_slice(&text[done..at]);
        changed.extend_from_slice(mount.as_bytes());
        done = at;
    }
    changed.extend_from_slice(&text[done..]);
    Some(changed)
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
    fn a_secret_is_named_by_a_path_no_engine_takes_apart() {
        let folder = tempfile::tempdir().unwrap();
        let aside = folder.path();
        let plain = Path::new("/home/me/token");
        assert_eq!(secret("t", plain, aside).unwrap(), "id=t,src=/home/me/token");
        for odd in ["a,b", "a\"b", "a b", "a:b", "a$b", "a[b]", "a\\b", "é", "a=b", "a'b", "a\nb"]
        {
            let file = aside.join(odd);
            fs_err::write(&file, odd).unwrap();
            let id = format!("id{}", odd.len());
            fs_err::remove_file(aside.join(format!("secret-{id}"))).ok();
            let option = secret(&id, &file, aside).unwrap();
            let link = option.strip_prefix(&format!("id={id},src=")).unwrap();
            assert!(is_plain(Path::new(link)), "{link}");
            assert_eq!(fs_err::read_to_string(link).unwrap(), odd);
            assert_eq!(secret(&id, &file, aside).unwrap(), option, "asked twice");
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
        assert_eq!(trusting(text.as_bytes()).unwrap(), expected.as_bytes());
        assert_eq!(trusting(b"FROM scratch\n").unwrap(), b"FROM scratch\n");
        let odd = b"FROM a\n# \xfc\nRUN x\n";
        let expected = [b"FROM a\n# \xfc\nRUN ", mount.as_bytes(), b" x\n"].concat();
        assert_eq!(trusting(odd).unwrap(), expected);
    }

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list("3"), Some(vec![3]));
        assert_eq!(cpu_list(""), None);
    }
}
