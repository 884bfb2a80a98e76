//! The programs that can be the engine of this machine: what podman and docker do differently, one
//! file each. Everything else about them is alike.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::cgroup::Cgroup;
use super::command::Site;
use super::watch::Seen;
use super::{BuildRequest, Engine, Facts};
use crate::config::Cache;
use crate::process::{Output, Tool};
use crate::reference::Reference;

mod docker;
mod podman;

pub(crate) static PODMAN: &dyn Client = &podman::Podman;
pub(crate) static DOCKER: &dyn Client = &docker::Docker;

/// How an engine's program is spoken to.
pub(crate) trait Client: fmt::Debug + Sync {
    /// The program's name.
    fn name(&self) -> &'static str;

    /// Whether a daemon runs the steps of a build. Else they are children of the program that was
    /// started, and end with it.
    fn has_daemon(&self) -> bool;

    /// What `info --format` is given to answer in JSON.
    fn info_format(&self) -> &'static str;

    /// What `version --format` is given to say the server's version.
    fn version_format(&self) -> &'static str;

    /// Reads the answer of `info`; `kernel` is the release of the one that this process runs on.
    fn facts(&self, info: &Value, kernel: &str) -> anyhow::Result<Facts>;

    /// Names under which the engine may hold a reference.
    fn names(&self, reference: &Reference) -> Vec<String>;

    /// Has `save` write one docker-archive of several images.
    fn save(&self, tool: Tool) -> Tool;

    /// Takes one tag off an image.
    fn remove_tag(&self, tool: Tool, tag: &str) -> Tool;

    /// Ids of the images that containers were made from, one a line.
    fn images_in_use(&self, engine: &Engine) -> anyhow::Result<String>;

    /// Options of `pull` and `push` for that registry.
    fn carry(&self, tool: Tool, cache: &Cache) -> Tool;

    /// Pushes an image under the name `to`, which the engine does not keep.
    fn push(&self, engine: &Engine, push: Tool, tag: &str, to: &str) -> anyhow::Result<Output>;

    /// The file that `push` writes the digest to; none if it says it in its last line.
    fn digest_file<'f>(&self, file: &'f Path) -> Option<&'f Path>;

    /// Whether its layer cache compares the texts of steps, so that marks must tell them apart.
    fn needs_marks(&self) -> bool;

    /// Whether it takes layers from a registry and puts them there while it builds.
    fn shares_layers(&self) -> bool;

    /// Whether it can lay out an image as OCI does.
    fn writes_layouts(&self) -> bool;

    /// The command for a build, without the options that all engines have in common.
    fn build(&self, request: &BuildRequest, site: &Site, text: &[u8]) -> anyhow::Result<Tool>;

    /// Bytes that a build takes now, where they can be measured; `program` is the process that was
    /// started.
    fn sample(&self, program: u32, cgroup: Option<&Cgroup>, seen: &mut Seen) -> Option<u64>;
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
        PODMAN.facts(&podman_info(root), "6.1").unwrap()
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
    fn another_kernel_a_remote_service_or_a_second_store_means_asking() {
        let info = podman_info(Path::new("/store"));
        assert!(PODMAN.facts(&info, "6.2").unwrap().remote, "a virtual machine's kernel");
        for (place, value) in [
            ("/host/serviceIsRemote", json!(true)),
            ("/store/graphOptions", json!({"overlay.additionalImageStores": "/x"})),
        ] {
            let mut info = info.clone();
            *info.pointer_mut(place).unwrap() = value;
            assert_eq!(PODMAN.facts(&info, "6.1").unwrap().graph_root, None, "{place}");
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
        let facts = DOCKER.facts(&info, "6.1").unwrap();
        assert_eq!((facts.platform.as_str(), facts.cgroup_version), ("linux/amd64", 2));
        assert!(facts.rootless && !facts.remote && facts.graph_root.is_none());
        assert!(!facts.containerd_store && facts.places == [Path::new("/var/lib/docker")]);
        info["DriverStatus"] = json!([["driver-type", "io.containerd.snapshotter.v1"]]);
        assert!(DOCKER.facts(&info, "6.1").unwrap().containerd_store);
        info["OperatingSystem"] = json!("Docker Desktop");
        assert!(DOCKER.facts(&info, "6.1").unwrap().remote);
        // A client without a daemon prints zeros.
        info["MemTotal"] = json!(0);
        assert!(DOCKER.facts(&info, "6.1").is_err());
    }

    #[test]
    fn on_a_mac_every_engine_builds_in_a_virtual_machine_of_its_own_size() {
        let ours = "24.6.0";
        let mut info = podman_info(Path::new("/var/lib/containers/storage"));
        info["host"]["kernel"] = json!("6.12.13-200.fc41.aarch64");
        info["host"]["arch"] = json!("arm64");
        info["host"]["serviceIsRemote"] = json!(true);
        info["host"]["memTotal"] = json!(2_045_513_728_u64);
        let facts = PODMAN.facts(&info, ours).unwrap();
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
            let facts = DOCKER.facts(&info, ours).unwrap();
            assert!(facts.remote, "{system}");
            assert_eq!(facts.memory_total, 8_217_182_208);
        }
    }
}
