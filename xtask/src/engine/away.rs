//! An engine elsewhere, reached through the same client: `podman --url`, `podman --connection`,
//! `docker --host`, `docker --context`.
//!
//! It builds from what it is sent and on what it holds. The client sends the staged context; bases
//! go there before, images come back after, both as one docker-archive from `save` into `load`, in
//! which a layer that several images have in common is once. Images travel under their ids, without
//! a name: what has come is looked at as what comes from a registry is, and only then gets its tag.
//!
//! | seen (podman 4.3.1 over a Unix socket, 2 cores) | |
//! | --- | --- |
//! | `save` of a base of 76 MB into `load` | 4.3 s |
//! | the service is killed while it builds | the client exits 125: `server probably quit: unexpected EOF` |
//! | asked again | `unable to connect to Podman socket`, at once |
//!
//! Those words are also what a kill for memory may leave, and a build's own programs may say the
//! like. So a build that failed is the builder's fault if the builder does not answer afterwards,
//! and on no other evidence.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::config::BuilderAt;
use crate::error::{ErrorExt as _, Exit};
use crate::process::{self, Tool};

use super::client::{Client, DOCKER, PODMAN};
use super::registry::{Fetched, Wanted};
use super::{BuildKit, Engine, ImageInfo};

/// How long it may take to say that it is there.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// How long images may be under way.
pub(super) const STREAM: Duration = Duration::from_mins(10);

/// A builder elsewhere.
#[derive(Debug)]
pub enum Away {
    Engine(Engine),
    BuildKit(BuildKit),
}

/// What a builder elsewhere says of itself, as far as it does.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// `podman 4.3.1`
    pub program: String,
    /// What it builds for when not told otherwise: `linux/amd64`.
    pub platform: String,
    /// Bytes.
    pub memory: Option<u64>,
    pub cpus: Option<usize>,
    /// Bytes.
    pub disk_free: Option<u64>,
}

impl Away {
    /// The builder at that address; it is not asked whether it is there.
    pub fn at(at: &BuilderAt) -> anyhow::Result<Self> {
        let engine = |client, flag, to| Engine::away(client, flag, to).map(Self::Engine);
        match at {
            BuilderAt::PodmanUrl(url) => engine(PODMAN, "--url", url),
            BuilderAt::PodmanConnection(name) => engine(PODMAN, "--connection", name),
            BuilderAt::DockerUrl(url) => engine(DOCKER, "--host", url),
            BuilderAt::DockerContext(name) => engine(DOCKER, "--context", name),
            BuilderAt::BuildKit(address) => BuildKit::at(address).map(Self::BuildKit),
        }
    }

    /// Asks it what it is; an error says why it does not answer.
    pub fn abilities(&self) -> anyhow::Result<Abilities> {
        match self {
            Self::Engine(engine) => {
                let facts = engine.known_facts()?.clone();
                Ok(Abilities {
                    program: format!("{} {}", engine.name(), facts.version),
                    platform: facts.platform,
                    memory: Some(facts.memory_total),
                    cpus: Some(facts.cpus),
                    disk_free: facts.disk_free,
                })
            }
            Self::BuildKit(buildkit) => {
                let (version, platform) = buildkit.facts()?;
                let program = format!("BuildKit {version}");
                Ok(Abilities { program, platform, memory: None, cpus: None, disk_free: None })
            }
        }
    }

    /// Whether it can build on what `home` holds; an error says why not.
    pub fn suits(&self, home: &Engine) -> anyhow::Result<()> {
        let can = home.client.writes_layouts() || matches!(self, Self::Engine(_));
        ensure!(can, "only podman hands images to BuildKit, and `{}` holds them", home.name());
        Ok(())
    }

    /// Asks whether it is there; an error says why it is not.
    pub fn answers(&self) -> anyhow::Result<()> {
        match self {
            Self::Engine(engine) => engine.answers(),
            Self::BuildKit(buildkit) => buildkit.facts().map(drop),
        }
    }

    /// The command line that reaches it.
    pub fn tool(&self) -> Tool {
        match self {
            Self::Engine(engine) => engine.tool(),
            Self::BuildKit(buildkit) => buildkit.tool(),
        }
    }
}

impl Engine {
    fn away(client: &'static dyn Client, flag: &str, to: &str) -> anyhow::Result<Self> {
        let program = process::find(client.name())
            .with_context(|| format!("failed to find `{}` on PATH", client.name()))
            .exit(Exit::Environment)?;
        Ok(Self { address: vec![flag.to_owned(), to.to_owned()], ..Self::at(client, program) })
    }

    /// Whether its service is elsewhere, whatever machine that is on.
    pub(super) fn is_away(&self) -> bool {
        !self.address.is_empty()
    }

    /// Asks whether it is there; an error says why it is not.
    fn answers(&self) -> anyhow::Result<()> {
        let form = self.client.version_format();
        let asked = self.tool().args(["version", "--format", form]).limit(SIGN_OF_LIFE);
        asked.read().with_context(|| format!("failed to reach {}", self.address.join(" ")))?;
        Ok(())
    }

    /// Has another engine hold what this one calls `names`: references, which they keep, or ids.
    pub fn send(&self, names: &[String], to: &Engine, log: &Path) -> anyhow::Result<()> {
        let source = self.save(names).limit(STREAM).log(log);
        let sink = to.tool().arg("load").limit(STREAM).log(log);
        let what = || format!("failed to send {}", names.join(", "));
        source.pipe_into(&sink).map_err(|failure| anyhow!(failure)).with_context(what)?;
        Ok(())
    }

    /// Gives the image of that id, which has come from another engine, its tag if it is what was
    /// wanted.
    pub fn accept(&self, id: &str, wanted: &Wanted) -> anyhow::Result<ImageInfo> {
        match self.prove(id, wanted)? {
            Fetched::Ready(held) if held.id == id => Ok(held),
            Fetched::Refused(why) => bail!("failed to trust what was built elsewhere: {why}"),
            _ => bail!("failed to find image {id} that was sent"),
        }
    }
}
