//! Stage 5: what builds, holds and hands out images: podman or docker, through their command lines.
//!
//! Three rules, each from something seen to go wrong:
//!
//! 1. **An exit code proves nothing.** podman 4.3 ended by SIGTERM exits 0 and leaves no image. A
//!    build has succeeded when the image is there under its tag and carries the labels it was
//!    ordered with.
//! 2. **Ending the engine's program ends nothing else.** The RUN process survives it, in a session
//!    and a control group of its own; a working container and a temporary folder stay behind. So
//!    every build gets a control group by name, and all three are found by that name
//!    ([`leftovers`]).
//! 3. **Asking is dear.** `podman images` takes 14 s with 300 images, `podman info` up to a second.
//!    Facts are cached, and what is held is read from the store's own index, each image proving
//!    itself by its hash ([`store`]).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use client::{Client, DOCKER, PODMAN};

use crate::config::{self, EngineName};
use crate::error::{ErrorExt as _, Exit};
use crate::process::{self, Tool};

mod activity;
mod away;
mod build;
mod buildkit;
mod bundle;
mod cgroup;
pub(crate) mod client;
mod command;
mod content;
mod facts;
mod forget;
mod garbage;
mod history;
mod holdings;
mod inspect;
mod kernel_log;
mod layers;
mod leftovers;
pub mod oom;
pub mod pace;
mod publish;
pub mod registry;
mod store;
mod watch;

pub use away::{Abilities, Away};
pub use build::{BuildError, Built};
pub use buildkit::BuildKit;
pub use bundle::{Bundle, List, Packed};
pub(crate) use cgroup::counter;
#[cfg(test)]
pub(crate) use client::tests::local as local_facts;
pub use command::BuildRequest;
pub use facts::Facts;
pub(crate) use facts::POINTERS;
pub use garbage::{Kept, Old, garbage};
pub use holdings::{ImageInfo, Inherited, LocalImages};
pub use leftovers::Swept;
pub use publish::Published;

/// The longest an engine may take over a question: one in a virtual machine that is just starting,
/// or on a machine that has too much to do, takes minutes.
const ANSWER: Duration = Duration::from_mins(5);

/// An engine that was found on this machine. Cheap to clone; clones share what was learned of it.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) client: &'static dyn Client,
    program: PathBuf,
    /// What comes first on every command line of one that is elsewhere.
    address: Vec<String>,
    facts: Arc<OnceLock<Facts>>,
}

/// podman, if the settings allow it and it is installed. Starts no process.
pub fn podman(settings: &config::Engine) -> Option<Engine> {
    let program = process::find(PODMAN.name())?;
    (settings.name != EngineName::Docker).then(|| Engine::at(PODMAN, program))
}

/// The engine the settings ask for. `auto` takes podman where it is installed, else docker if its
/// daemon answers. Starts no process for podman.
pub fn choose(settings: &config::Engine) -> anyhow::Result<Engine> {
    let found = |client: &'static dyn Client| {
        process::find(client.name()).map(|program| Engine::at(client, program))
    };
    let missing = |what: &str| {
        anyhow!("failed to find {what}").hint("cargo xtask doctor --fix").exit(Exit::Environment)
    };
    match settings.name {
        EngineName::Podman => found(PODMAN).ok_or_else(|| missing("`podman` on PATH")),
        EngineName::Docker => {
            found(DOCKER).ok_or_else(|| missing("`docker` on PATH")).and_then(Engine::with_daemon)
        }
        EngineName::Auto => match (found(PODMAN), found(DOCKER)) {
            (Some(podman), _) => Ok(podman),
            (None, Some(docker)) => docker.with_daemon(),
            (None, None) => {
                Err(missing("a container engine: neither `podman` nor `docker` is on PATH"))
            }
        },
    }
}

impl Engine {
    fn at(client: &'static dyn Client, program: PathBuf) -> Self {
        Self { client, program, address: Vec::new(), facts: Arc::default() }
    }

    /// This engine, if its daemon answers.
    fn with_daemon(self) -> anyhow::Result<Self> {
        self.tool()
            .args(["version", "--format", "{{.Server.Version}}"])
            .limit(Duration::from_secs(10))
            .read()
            .context("failed to reach docker's daemon")
            .hint("cargo xtask doctor --fix")
            .exit(Exit::Environment)?;
        Ok(self)
    }

    pub fn name(&self) -> &'static str {
        self.client.name()
    }

    /// The hint where the engine did not answer, or not in a way that is understood.
    fn is_it_there(&self) -> String {
        format!("see whether it answers at all: {} info", self.name())
    }

    /// The file that is run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The engine's program, ready for a command.
    pub fn tool(&self) -> Tool {
        Tool::new(self.name()).args(&self.address)
    }

    /// Writes all of `tags` as one docker-archive to standard output: layers in common are in it
    /// once.
    pub fn save(&self, tags: &[String]) -> Tool {
        self.client.save(self.tool().arg("save")).args(tags)
    }

    /// Takes a tag off an image. The image goes with its last tag.
    pub fn remove_tag(&self, tag: &str) -> anyhow::Result<()> {
        let tool = self.client.remove_tag(self.tool(), tag);
        tool.limit(ANSWER).run().with_context(|| format!("failed to remove tag `{tag}`"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_answers() {
        let store = tempfile::tempdir().unwrap();
        crate::fuzz::run("answers", |input| {
            facts::tests::fuzz(input);
            holdings::tests::fuzz(input);
            garbage::tests::fuzz(input);
            forget::tests::fuzz(input);
            content::tests::fuzz(input);
            buildkit::tests::fuzz(input);
            store::tests::fuzz(input, store.path());
        });
    }
}
