//! docker: its client sends the build to a daemon, which runs the steps.
//!
//! `BuildKit` reads `<Dockerfile>.dockerignore` first, so docker gets a copy of the Dockerfile
//! outside the context with that beside it. It compares what steps come to, so its cache needs no
//! marks.
//!
//! docker has no option that mounts the host's CA certificates into every RUN, so each RUN of the
//! copied Dockerfile gets a mount of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::{Client, count, differs, text};
use crate::config::Cache;
use crate::engine::cgroup::Cgroup;
use crate::engine::command::{BUNDLE_SECRET, HOST_BUNDLE, Site, dockerfile};
use crate::engine::watch::{Seen, sample_docker};
use crate::engine::{ANSWER, BuildRequest, Engine, Facts};
use crate::process::{Output, Tool};
use crate::reference::Reference;

#[derive(Debug)]
pub(super) struct Docker;

impl Client for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn has_daemon(&self) -> bool {
        true
    }

    fn info_format(&self) -> &'static str {
        "{{json .}}"
    }

    fn version_format(&self) -> &'static str {
        "{{.Server.Version}}"
    }

    fn facts(&self, info: &Value, kernel: &str) -> anyhow::Result<Facts> {
        facts(info, kernel)
    }

    /// docker knows no `localhost/` beside `docker.io/`: a name without a host is Docker Hub's.
    fn names(&self, reference: &Reference) -> Vec<String> {
        reference.candidates().pop().into_iter().collect()
    }

    fn save(&self, tool: Tool) -> Tool {
        tool
    }

    fn remove_tag(&self, tool: Tool, tag: &str) -> Tool {
        tool.args(["image", "rm", tag])
    }

    /// docker's `ps` shows names only. A container that has gone since is a reason to run again.
    fn images_in_use(&self, engine: &Engine) -> anyhow::Result<String> {
        let ps = engine.tool().args(["ps", "--all", "--no-trunc", "--format", "{{.ID}}"]);
        let containers = ps.limit(ANSWER).read()?;
        if containers.is_empty() {
            return Ok(containers);
        }
        let asked = engine.tool().args(["inspect", "--format", "{{.Image}}"]).limit(ANSWER);
        Ok(asked.args(containers.lines()).read()?)
    }

    /// docker's daemon has its own list of insecure registries.
    fn carry(&self, tool: Tool, _: &Cache) -> Tool {
        tool
    }

    fn push(&self, engine: &Engine, push: Tool, tag: &str, to: &str) -> anyhow::Result<Output> {
        let end = engine.tag(tag, to).and_then(|()| Ok(push.arg(to).run()?));
        engine.drop_reference(to);
        end
    }

    fn digest_file<'f>(&self, _: &'f Path) -> Option<&'f Path> {
        None
    }

    fn needs_marks(&self) -> bool {
        false
    }

    fn shares_layers(&self) -> bool {
        false
    }

    fn writes_layouts(&self) -> bool {
        false
    }

    fn build(&self, request: &BuildRequest, site: &Site, text: &[u8]) -> anyhow::Result<Tool> {
        build(request, site, text)
    }

    fn sample(&self, _: u32, cgroup: Option<&Cgroup>, seen: &mut Seen) -> Option<u64> {
        sample_docker(cgroup, seen)
    }
}

fn build(order: &BuildRequest, site: &Site, text: &[u8]) -> anyhow::Result<Tool> {
    let (copy, trusted) = dockerfile(order, site.aside, text)?;
    let tool = site.engine.tool().env("DOCKER_BUILDKIT", "1");
    let tool = tool.args(["build", "--progress=plain", "--file"]).arg(copy);
    Ok(if trusted {
        tool.arg("--secret").arg(format!("id={BUNDLE_SECRET},src={HOST_BUNDLE}"))
    } else {
        tool
    })
}

fn facts(info: &Value, kernel: &str) -> anyhow::Result<Facts> {
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
