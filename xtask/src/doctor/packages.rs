//! Debian packages a run needs, and the files that show they are there.
//!
//! Debian's podman recommends most of these rather than requiring them, and an engine without them
//! starts, answers, and fails at the first network or the first build.

use std::path::{Path, PathBuf};

use super::machine::Cgroup;
use crate::process;

/// A package: present if a program of one of these names is on PATH or one of these files exists.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    programs: &'static [&'static str],
    files: &'static [&'static str],
}

/// Podman and what it cannot do without.
pub(super) const PODMAN: [Package; 9] = [
    package("podman", "builds images and runs the cluster's nodes", &["podman"], &[]),
    package("runc", "starts containers, also on hosts with cgroup v1", &["runc"], &[]),
    package("conmon", "watches over containers", &["conmon"], &["/usr/libexec/podman/conmon"]),
    package("netavark", "container networks", &["netavark"], &HELPERS_NETAVARK),
    package("aardvark-dns", "names on container networks", &["aardvark-dns"], &HELPERS_AARDVARK),
    package("iptables", "ports of containers", &["iptables"], &[]),
    package("catatonit", "the first process of a container", &["catatonit"], &HELPERS_CATATONIT),
    package("fuse-overlayfs", "layers without root", &["fuse-overlayfs"], &[]),
    package("uidmap", "users of containers without root", &["newuidmap"], &[]),
];

const HELPERS_NETAVARK: [&str; 2] = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"];
const HELPERS_AARDVARK: [&str; 2] =
    ["/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"];
const HELPERS_CATATONIT: [&str; 2] = ["/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit"];

/// What the recipes of stand-ins need; installed only where one is about to be made.
pub(super) const RECIPES: [Package; 3] = [
    package("debootstrap", "lays out Debian from its packages", &["debootstrap"], &[]),
    package("gcc", "links what the recipes compile", &["cc"], &[]),
    package("libc6-dev", "headers for the compiler", &[], &["/usr/include/stdlib.h"]),
];

const fn package(
    name: &'static str,
    why: &'static str,
    programs: &'static [&'static str],
    files: &'static [&'static str],
) -> Package {
    Package { name, why, programs, files }
}

impl Package {
    pub(super) fn is_there(&self) -> bool {
        // Debian keeps iptables and debootstrap where only root's PATH leads.
        let sbin = |program: &&str| {
            ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).exists())
        };
        self.programs.iter().any(|program| process::find(program).is_some() || sbin(program))
            || self.files.iter().any(|file| PathBuf::from(file).exists())
    }

    /// Whether it is needed at all: crun will do for runc where cgroups are v2 alone.
    pub(super) fn is_needed(&self, cgroup: Cgroup, crun: bool) -> bool {
        !(self.name == "runc" && cgroup == Cgroup::V2 && crun)
    }
}
