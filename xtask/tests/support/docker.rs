//! docker's own programs from Debian's packages, unpacked into a folder: nothing is installed, so
//! no daemon starts by itself, no rule of the machine's firewall changes, and nothing of it is
//! left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use xtask::process::{Background, Tool};

use super::machine::Group;

const PACKAGES: [&str; 3] = ["docker.io", "containerd", "libdevmapper1.02.1"];
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const PROGRAMS: [&str; 2] = ["usr/sbin", "usr/bin"];

/// docker's daemon with its builder, and all it runs, inside a control group.
pub(crate) struct Docker {
    folder: PathBuf,
    bridge: String,
    _daemon: Background,
}

impl Docker {
    /// Unpacks and starts it; an error says why that cannot be done here.
    pub(crate) fn start(folder: &Path, group: &Group) -> anyhow::Result<Self> {
        unpack(folder)?;
        let process = std::process::id();
        let bridge = format!("xtask{process}");
        let address = format!("10.213.{}.1/24", process % 256);
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        let docker = Self {
            folder: folder.to_owned(),
            _daemon: daemon(folder, group, &bridge).serve()?,
            bridge,
        };
        run("ip", &["address", "add", &address, "dev", &docker.bridge])?;
        run("ip", &["link", "set", &docker.bridge, "up"])?;
        Ok(docker)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// A script that is its own client, with contexts of its own.
    pub(crate) fn client(&self) -> String {
        let folder = self.folder.display();
        format!("#!/bin/sh\nDOCKER_CONFIG={folder}/config exec {folder}/usr/bin/docker \"$@\"\n")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        run("ip", &["link", "delete", &self.bridge]).ok();
    }
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    Tool::new(program).args(args).limit(Duration::from_mins(2)).run()?;
    Ok(())
}

fn unpack(folder: &Path) -> anyhow::Result<()> {
    let download = || {
        let tool = Tool::new("apt-get").arg("download").args(PACKAGES).folder(folder);
        tool.limit(Duration::from_mins(3)).run()
    };
    if download().is_err() {
        run("apt-get", &["update"])?;
        download()?;
    }
    for package in super::machine::children(folder) {
        run("dpkg", &["-x", &package.to_string_lossy(), &folder.to_string_lossy()])?;
    }
    Ok(())
}

fn daemon(folder: &Path, group: &Group, bridge: &str) -> Tool {
    let all = |parts: &[&str]| {
        let parts = parts.iter().map(|part| folder.join(part).display().to_string());
        parts.collect::<Vec<_>>().join(":")
    };
    let path = format!("{}:{}", all(&PROGRAMS), std::env::var("PATH").unwrap_or_default());
    let daemon = group.tool(folder.join("usr/sbin/dockerd"));
    let daemon = daemon.env("PATH", path).env("LD_LIBRARY_PATH", all(&LIBRARIES));
    let daemon = daemon
        .arg(format!("--host=unix://{}", folder.join("docker.sock").display()))
        .arg(format!("--data-root={}", folder.join("data").display()))
        .arg(format!("--exec-root={}", folder.join("exec").display()))
        .arg(format!("--pidfile={}", folder.join("pid").display()))
        .arg(format!("--bridge={bridge}"))
        .arg(format!("--cgroup-parent={}", group.path));
    let daemon = daemon.args(["--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
    // What is above the caller's limits cannot be set everywhere.
    daemon.args(["--default-ulimit=nofile=20000:20000", "--default-ulimit=nproc=30000:30000"])
}
