//! podman: no daemon, so the program that is started builds, and RUN is its child.
//!
//! Its layer cache compares the texts of steps before variables are expanded, and takes what is
//! stale. It is given the Dockerfile with marks (`crates/dockerfile/src/marks.rs`) that tell steps
//! apart; where none can be put, the build takes nothing from the cache.
//!
//! It takes an empty ignore file for none and then reads the staged `.dockerignore` after all
//! (seen, 4.3.1), so it gets one with a pattern that matches nothing.
//!
//! A build's share of the CPUs is a cpuset. Without root podman cannot make one and fails (seen,
//! 4.3.1 with cgroups of version 1: "cannot set cpuset limit"); there it is started on those CPUs,
//! and RUN inherits that.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::{Client, count, differs, text};
use crate::config::Cache;
use crate::engine::cgroup::Cgroup;
use crate::engine::command::{NOTHING, Site, some_cpus};
use crate::engine::watch::{Seen, sample};
use crate::engine::{ANSWER, BuildRequest, Engine, Facts, layers};
use crate::process::{Output, Tool};
use crate::reference::Reference;

const HOST_CERTIFICATES: &str = "/etc/ssl/certs";

#[derive(Debug)]
pub(super) struct Podman;

impl Client for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn has_daemon(&self) -> bool {
        false
    }

    fn info_format(&self) -> &'static str {
        "json"
    }

    fn version_format(&self) -> &'static str {
        "{{.Server.APIVersion}}"
    }

    fn facts(&self, info: &Value, kernel: &str) -> anyhow::Result<Facts> {
        facts(info, kernel)
    }

    fn names(&self, reference: &Reference) -> Vec<String> {
        reference.candidates()
    }

    fn save(&self, tool: Tool) -> Tool {
        tool.args(["--quiet", "--multi-image-archive", "--format", "docker-archive"])
    }

    fn remove_tag(&self, tool: Tool, tag: &str) -> Tool {
        tool.args(["untag", tag, tag])
    }

    fn images_in_use(&self, engine: &Engine) -> anyhow::Result<String> {
        let ps = engine.tool().args(["ps", "--all", "--no-trunc", "--format", "{{.ImageID}}"]);
        Ok(ps.limit(ANSWER).read()?)
    }

    fn carry(&self, tool: Tool, cache: &Cache) -> Tool {
        tool.args(cache.insecure.then_some("--tls-verify=false"))
    }

    fn push(&self, _: &Engine, push: Tool, tag: &str, to: &str) -> anyhow::Result<Output> {
        Ok(push.args([tag, to]).run()?)
    }

    fn digest_file<'f>(&self, file: &'f Path) -> Option<&'f Path> {
        Some(file)
    }

    fn needs_marks(&self) -> bool {
        true
    }

    fn shares_layers(&self) -> bool {
        true
    }

    fn writes_layouts(&self) -> bool {
        true
    }

    fn build(&self, request: &BuildRequest, site: &Site, text: &[u8]) -> anyhow::Result<Tool> {
        build(request, site, text)
    }

    fn sample(&self, program: u32, cgroup: Option<&Cgroup>, seen: &mut Seen) -> Option<u64> {
        sample(program, cgroup, seen)
    }
}

fn build(order: &BuildRequest, site: &Site, text: &[u8]) -> anyhow::Result<Tool> {
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
    // Marked or not, a copy: podman takes the path apart at commas and quotes.
    let (label, marks) = match order.labels.last() {
        Some((label, _)) => (label.as_str(), order.marks.unwrap_or_default()),
        None => ("", &[][..]),
    };
    let copy = site.aside.join("Dockerfile");
    fs_err::write(&copy, marked(text, label, marks))?;
    Ok(tool.arg("--file").arg(copy))
}

/// The Dockerfile with the marks as lines of their own: values of a label that the build itself
/// sets last.
fn marked(text: &[u8], label: &str, marks: &[(usize, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + marks.len() * 64);
    let mut marks = marks.iter().peekable();
    let mut put = |out: &mut Vec<u8>, line: usize| {
        while let Some((_, value)) = marks.next_if(|(at, _)| *at <= line) {
            out.extend_from_slice(format!("LABEL {label}={value}\n").as_bytes());
        }
    };
    for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        put(&mut out, at + 1);
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    put(&mut out, usize::MAX);
    out
}

fn facts(info: &Value, kernel: &str) -> anyhow::Result<Facts> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_in_front_of_their_lines_and_no_byte_is_changed() {
        let mark = |line| (line, "m".to_owned());
        let text = b"FROM a\n# \xfc\nARG V\nCOPY x \\\n  /$V";
        let marks = [mark(3), mark(4), mark(6)];
        let expected =
            b"FROM a\n# \xfc\nLABEL l=m\nARG V\nLABEL l=m\nCOPY x \\\n  /$V\nLABEL l=m\n";
        assert_eq!(marked(text, "l", &marks), expected);
        assert_eq!(marked(text, "l", &[]), [&text[..], b"\n"].concat());
    }
}
