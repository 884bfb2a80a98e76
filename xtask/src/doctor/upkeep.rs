//! How each engine is installed, started and given more, by system.

use std::fmt::Debug;

use super::machine::{Os, Version};

pub(super) static PODMAN: &dyn Upkeep = &Podman;
pub(super) static DOCKER: &dyn Upkeep = &Docker;

/// The care that an engine wants.
pub(super) trait Upkeep: Debug + Sync {
    fn name(&self) -> &'static str;

    /// Whether its program runs containers itself: then what it needs beside it, and its settings,
    /// are looked at as well.
    fn runs_containers(&self) -> bool;

    /// The oldest version that does, and why.
    fn oldest(&self) -> Option<(Version, &'static str)>;

    /// What a person types to install it, where Debian's packages are not used.
    fn install(&self, os: Os) -> &'static str;

    /// What a person types when it does not answer.
    fn start(&self, os: Os) -> &'static str;

    /// What a person types to give its virtual machine more memory.
    fn more_memory(&self) -> &'static str;

    /// Variables that turn it to another place.
    fn turned_by(&self) -> &'static [&'static str];

    /// What `ps --format` is given for lines of `cluster|status|name|ports`.
    fn container_lines(&self) -> &'static str;
}

#[derive(Debug)]
struct Podman;

impl Upkeep for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn runs_containers(&self) -> bool {
        true
    }

    fn oldest(&self) -> Option<(Version, &'static str)> {
        Some(((4, 0, 0), "before 4.0, its networks and build caches work otherwise"))
    }

    fn install(&self, os: Os) -> &'static str {
        match os {
            Os::Linux => "install podman by your package manager",
            Os::Mac => {
                "brew install podman && podman machine init --memory 8192 && podman machine start"
            }
            Os::Windows => "winget install RedHat.Podman && podman machine init --memory 8192",
        }
    }

    fn start(&self, os: Os) -> &'static str {
        match os {
            Os::Linux => "podman info",
            _ => "podman machine init --memory 8192 && podman machine start",
        }
    }

    fn more_memory(&self) -> &'static str {
        "podman machine stop && podman machine set --memory 8192 && podman machine start"
    }

    fn turned_by(&self) -> &'static [&'static str] {
        &["CONTAINER_HOST", "CONTAINER_CONNECTION"]
    }

    fn container_lines(&self) -> &'static str {
        r#"{{index .Labels "io.x-k8s.kind.cluster"}}|{{.Status}}|{{.Names}}|{{.Ports}}"#
    }
}

#[derive(Debug)]
struct Docker;

impl Upkeep for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn runs_containers(&self) -> bool {
        false
    }

    fn oldest(&self) -> Option<(Version, &'static str)> {
        None
    }

    fn install(&self, os: Os) -> &'static str {
        match os {
            Os::Linux => "install docker by your package manager",
            _ => "install Docker Desktop, or name podman as the engine in xtask.toml",
        }
    }

    fn start(&self, os: Os) -> &'static str {
        match os {
            Os::Linux => "sudo systemctl start docker",
            _ => "start Docker Desktop",
        }
    }

    fn more_memory(&self) -> &'static str {
        "Docker Desktop: Settings, Resources, Memory"
    }

    fn turned_by(&self) -> &'static [&'static str] {
        &["DOCKER_HOST", "DOCKER_CONTEXT"]
    }

    fn container_lines(&self) -> &'static str {
        r#"{{.Label "io.x-k8s.kind.cluster"}}|{{.Status}}|{{.Names}}|{{.Ports}}"#
    }
}
