//! Stage 1: text → checked [`Config`].
//!
//! Whatever is in a `Config` has been checked: names exist, paths lie where they should, timeouts
//! nest, no port is used twice. All faults of a file are reported at once, each with file, line and
//! suggestion ([`ConfigErrors`]), and the process ends with exit code 2 before anything was
//! touched.

mod action;
mod builder;
mod check;
mod cluster;
mod defaults;
mod document;
mod fault;
mod find;
mod image;
mod lint;
mod near;
mod port;
mod read;
mod remote;
mod shared;
mod suite;
mod table;
mod units;
mod wait;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use crate::error::{ErrorExt as _, Exit};
use crate::plain_file;

pub use check::is_field;
pub use fault::{ConfigError, ConfigErrors};
pub use lint::{Allow, Rule};
pub(crate) use near::nearest;

/// Reads the file named, else the nearest `xtask.toml` at or above the working directory.
///
/// Errors, [`ConfigErrors`] among them, lead to [`Exit::Usage`].
pub fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    let read = || {
        let file = find::file(file)?;
        let text = plain_file::read_to_string(&file).hint(format!("ls -l {}", file.display()))?;
        Ok::<_, anyhow::Error>(parse(&text, &file)?)
    };
    read().exit(Exit::Usage)
}

/// Reads and checks a text as if it were that file's: paths in it start at the file's folder and
/// are looked for there.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
    read::config(text, file)
}

/// A checked `xtask.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that was read.
    pub file: PathBuf,
    /// Its folder, absolute: every relative path in the file starts here.
    pub root: PathBuf,
    pub engine: Engine,
    pub images: BTreeMap<String, Image>,
    pub policy: Policy,
    /// `[[lint.allow]]`: what is known, and for which reason.
    pub allow: Vec<Allow>,
    pub clusters: BTreeMap<String, Cluster>,
    pub ports: Vec<Port>,
    pub suites: BTreeMap<String, Suite>,
    /// `[[builders]]`: engines elsewhere that build, too.
    pub builders: Vec<Builder>,
    /// None: images are built here or not at all.
    pub cache: Option<Cache>,
    /// Where traces of runs are sent; none: nowhere.
    pub telemetry: Option<Otlp>,
}

impl Config {
    /// The suite called `name`; exit 2 if there is none.
    pub fn suite(&self, name: &str) -> anyhow::Result<&Suite> {
        self.suites.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.suites.keys().map(String::as_str).collect();
            let message = format!("failed to find suite `{name}` in `{}`", self.file.display());
            anyhow!(message).hint(format!("it has {}", known.join(", "))).exit(Exit::Usage)
        })
    }

    /// The ports that are open while this suite runs: its cluster's, and those of every cluster.
    pub fn suite_ports(&self, suite: &Suite) -> Vec<&Port> {
        let open = |port: &&Port| port.cluster.as_ref().is_none_or(|name| *name == suite.cluster);
        self.ports.iter().filter(open).collect()
    }

    /// Where each of these ports is reached from here: `127.0.0.1:30080`.
    pub fn addresses(&self, suite: &Suite) -> BTreeMap<String, Address> {
        let existing = self.clusters.get(&suite.cluster).and_then(|one| one.existing.as_ref());
        let outside = existing.and_then(|existing| existing.address.as_ref());
        let address = |port: &Port| match outside {
            Some(host) => Address { host: host.clone(), port: port.node },
            None => Address { host: "127.0.0.1".to_owned(), port: port.host },
        };
        let ports = self.suite_ports(suite).into_iter();
        ports.map(|port| (port.name.clone(), address(port))).collect()
    }
}

/// Where a port is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `[engine]`: what builds.
#[derive(Clone, Debug)]
pub struct Engine {
    pub name: EngineName,
    /// Bytes left to everything that is not a build.
    pub reserve: Option<u64>,
    /// Mount the host's CA certificates into builds (networks that intercept TLS).
    pub trust_host_ca: bool,
    /// At most so many builds at once, whatever the memory allows.
    pub jobs: Option<usize>,
    /// It builds. Not without builders elsewhere.
    pub builds: bool,
}

/// `[[builders]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    pub name: String,
    pub at: BuilderAt,
    /// Bytes its builds may hold together; none: what it says it has, less the reserve.
    pub memory: Option<u64>,
    /// At most so many builds at once.
    pub jobs: Option<usize>,
}

/// How a builder is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuilderAt {
    /// `unix:///…`, `ssh://…`, `tcp://…`
    PodmanUrl(String),
    /// As `podman system connection list` names it.
    PodmanConnection(String),
    /// `unix:///…`, `ssh://…`, `tcp://…`
    DockerUrl(String),
    /// As `docker context ls` names it.
    DockerContext(String),
    /// An address as `buildctl` takes it.
    BuildKit(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineName {
    Auto,
    Podman,
    Docker,
}

/// `[cache]`: the registry in which images are shared.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `HOST[:PORT][/PATH]`, which images' names are put below.
    pub registry: String,
    pub mode: CacheMode,
    /// It speaks plain HTTP, or TLS that nothing vouches for.
    pub insecure: bool,
    /// podman's builds take layers from it, and put them there where the mode allows it.
    pub layers: bool,
    /// How long it may take to say whether it has an image.
    pub answer: Duration,
    /// How long one image may take to come or go.
    pub transfer: Duration,
}

/// `[telemetry] otlp`: the collector that traces are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Otlp {
    /// `http://HOST:PORT[/PATH]`
    Endpoint(String),
    /// What the standard's own variable names, if it is set.
    Environment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    ReadOnly,
    /// What was built is put there.
    ReadWrite,
}

/// `[images.NAME]`, with `[images.defaults]` worked in.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: String,
    /// Absolute; may lie outside the context.
    pub dockerfile: PathBuf,
    /// Absolute.
    pub context: PathBuf,
    pub target: Option<String>,
    /// `os/arch[/variant]`; none: the engine's own.
    pub platform: Option<String>,
    pub args: BTreeMap<String, String>,
    /// Names of build args that change with every commit and are kept out of the key.
    pub volatile_args: Vec<String>,
    /// Ids of secrets and where their values come from; only the ids are in the key.
    pub secrets: BTreeMap<String, PathBuf>,
    pub inputs: Inputs,
    /// Whether its builds see the host's CA certificates, where not as the engine's settings say:
    /// an image that installs certificates of its own cannot have them mounted over.
    pub trust_host_ca: Option<bool>,
    pub exclude: Exclude,
    /// Bytes a build is taken to need before one was measured.
    pub memory: u64,
    pub timeout: Option<Duration>,
    /// How long a build may print nothing.
    pub silence: Duration,
    pub budget: Option<ContextBudget>,
}

/// What is left out of a context on top of its ignore file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclude {
    /// Docker ignore patterns, for all files.
    pub patterns: Vec<String>,
    /// Whether [`Exclude::DEFAULTS`] are left out, of what git does not track and the Dockerfile
    /// does not name.
    pub defaults: bool,
    /// xtask's own folder, which is never part of a context.
    pub own: Option<PathBuf>,
}

impl Exclude {
    /// Where machines put what they made.
    pub const DEFAULTS: [&str; 2] = defaults::IMAGE_EXCLUDE;
}

/// What narrows an image's context further than its Dockerfile does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Just what the Dockerfile's target can read.
    Dockerfile,
    /// Paths that match one of these globs.
    Globs(Vec<String>),
    /// A Cargo package and the workspace members it is built from; and what these globs match.
    Cargo { package: String, also: Vec<String> },
    /// A Go package (`./cmd/gateway`) and what it imports of its module; and what these globs
    /// match.
    Go { package: String, also: Vec<String> },
}

/// The most a context may hold (`context --check`).
#[derive(Clone, Copy, Debug)]
pub struct ContextBudget {
    pub files: Option<u64>,
    pub bytes: Option<u64>,
}

/// `[policy]`: what `lint` holds a repository to.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Prefixes of image references that may be built upon; empty allows all.
    pub registries: Vec<String>,
}

/// `[clusters.NAME]`.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// kind's name for it.
    pub name: String,
    pub node_image: String,
    pub reuse: Reuse,
    /// The user's own kind configuration that ours is merged into.
    pub config: Option<PathBuf>,
    /// How many nodes; the first is the control plane. None: as `config` says, else one.
    pub nodes: Option<u16>,
    /// One that others run: used, never made, loaded or deleted.
    pub existing: Option<Existing>,
    /// Bytes the nodes and what runs on them take.
    pub memory: u64,
    /// How long making it may take.
    pub timeout: Duration,
}

/// `[clusters.NAME]` with `kubeconfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Absolute.
    pub kubeconfig: PathBuf,
    /// Named, so that whoever moves the file's current context does not move us.
    pub context: String,
    /// The URL of its API server, which the context must lead to.
    pub server: String,
    /// Where its node ports are reached; none: at 127.0.0.1, on the ports' own `host`.
    pub address: Option<String>,
    /// Whose what runs leave there is; the value of a label.
    pub owner: String,
    /// How long what a run made there may stay.
    pub ttl: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// A kept cluster is used again if its configuration, node image and kind are what they were.
    IfUnchanged,
    Never,
}

/// `[ports] NAME = { host, node }`: host port → `NodePort`, on 127.0.0.1. One name has several of
/// these where its host port depends on the cluster.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub host: u16,
    pub node: u16,
    /// The cluster it belongs to; none: every cluster (allowed while only one suite runs at a
    /// time).
    pub cluster: Option<String>,
    /// The line of the configuration that says so.
    pub line: usize,
}

/// `[suites.NAME]`.
#[derive(Clone, Debug)]
pub struct Suite {
    pub name: String,
    /// Key of [`Config::clusters`].
    pub cluster: String,
    /// Keys of [`Config::images`].
    pub images: Vec<String>,
    pub steps: Vec<Step>,
    pub test: Option<Test>,
    /// What becomes of a run whose containers were started again while the tests ran.
    pub restarts: Restarts,
    /// The whole run, from the first step to the last test.
    pub timeout: Duration,
}

/// `restarts` of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    /// They are named.
    Warn,
    /// They are named, and the run has failed.
    Fail,
}

/// `[[suites.NAME.steps]]`.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: String,
    pub action: Action,
    /// Names of steps that must have ended well before.
    pub needs: Vec<String>,
    /// How long the workloads it applies may take to roll out; none: they are not waited for.
    pub rollouts: Option<Duration>,
    /// What is waited for once they have.
    pub waits: Vec<Wait>,
    /// Images the manifests name, beyond those found by reading them.
    pub images: Vec<String>,
    /// Fields of its manifests that hold an image, besides those of containers.
    pub images_in: Vec<String>,
    /// The namespace of what is waited for, where the manifests do not say.
    pub namespace: Option<String>,
    /// Whether its manifests may hold no object.
    pub empty: bool,
    /// For the action itself, its waits not counted.
    pub timeout: Duration,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Server-side apply of a folder (with or without a kustomization) or a file; absolute.
    Apply(PathBuf),
    /// The same, of what a Helm chart renders to.
    Helm(Chart),
    /// A Secret or `ConfigMap` made of files.
    FromFiles(FromFiles),
    /// A command, with KUBECONFIG, image references and URLs in its environment.
    Run(Vec<String>),
}

impl Action {
    /// The key it is written under.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Helm(_) => "helm",
            Self::FromFiles(made) if made.kind == FilesKind::ConfigMap => "configmap",
            Self::FromFiles(_) => "secret",
            Self::Run(_) => "run",
        }
    }
}

/// `helm = { chart, release, namespace, values }`.
#[derive(Clone, Debug)]
pub struct Chart {
    /// A chart's folder or archive; absolute.
    pub path: PathBuf,
    pub release: String,
    pub namespace: String,
    /// Files with values; absolute, later ones win.
    pub values: Vec<PathBuf>,
}

/// `secret = { … }` or `configmap = { … }`.
#[derive(Clone, Debug)]
pub struct FromFiles {
    pub kind: FilesKind,
    pub name: String,
    pub namespace: String,
    /// Key → file, absolute; it may be made by a step before this one.
    pub files: BTreeMap<String, PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesKind {
    /// Of this type; none: `Opaque`.
    Secret {
        kind: Option<String>,
    },
    ConfigMap,
}

/// What must be true before a step counts as done.
#[derive(Clone, Debug)]
pub struct Wait {
    pub on: WaitFor,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// `deployment/NAME`, `statefulset/NAME`, `daemonset/NAME`: the new revision is complete.
    Rollout(String),
    /// `NAME`: the Job that was applied has completed.
    Job(String),
    /// `NAME`: the Service has a ready endpoint of the newest revision.
    Endpoint(String),
    /// A URL answers with this status; `{gateway}` stands for that port's address.
    Http { url: String, status: u16, trust: Option<Trust> },
    /// `HOST:PORT` accepts a connection and keeps it.
    Tcp(String),
    /// `KIND/NAME` has this condition with this status (`True`).
    Condition { object: String, condition: String, status: String },
}

/// Whose certificate an https wait accepts; there is no default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One that these certificates (PEM) vouch for. The file may be made by a step before.
    Ca(PathBuf),
    /// Any at all.
    Any,
}

/// `test = { run, shard, junit, counts, inputs, timeout }`.
#[derive(Clone, Debug)]
pub struct Test {
    pub run: Vec<String>,
    /// Arguments that pick a shard, with `{index}` and `{total}` in them; none: it cannot be
    /// sharded.
    pub shard: Option<Vec<String>>,
    /// Where the command leaves its `JUnit` report, with wildcards if it leaves several; absolute.
    pub junit: Option<PathBuf>,
    /// Whether its tests must be known to have run; else its exit code is enough.
    pub counted: bool,
    /// What it reads; none: nothing says so.
    pub inputs: Option<Inputs>,
    pub timeout: Duration,
}
