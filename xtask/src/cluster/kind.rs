//! Making, starting and taking down with kind.
//!
//! `kind create cluster` is called with `--wait 0`: its own wait is for Ready nodes, while objects
//! can be applied as soon as the API answers, which it does when kind returns. Creation is tried a
//! second time only for faults known to pass (`PASSING`); anything else would fail again, half a
//! minute later.
//!
//! kind knows clusters by their names alone. So nothing is ever deleted by `kind delete`, and
//! `--retain` keeps `kind create` from it: where two create one name, the loser's kind would delete
//! the winner's containers. What goes is the containers that carry our id ([`super::nodes`]), by
//! their own ids; kind keeps nothing else of a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::decide::{Ask, Decision, Found, decide, foreign};
use super::nodes::{self, Mounts, Node};
use super::record::{self, Fingerprint, Lease, Made, Mark, Record};
use super::{Cluster, ClusterTarget, Status, port, ready, settings};
use crate::config;
use crate::error::{self, ErrorExt as _, Exit};
use crate::event::Events;
use crate::identity;
use crate::paths::{self, Paths};
use crate::private::PrivatePath;
use crate::process::{Failure, Stream, Tool, stop};

/// How long a question to engine or kind may take; they are answered in 0.1 s on an idle machine.
pub(super) const QUESTION: Duration = Duration::from_secs(30);

/// How long started nodes get to be Ready again: measured at half a minute, with room for a busy
/// host.
const START: Duration = Duration::from_secs(90);

/// Faults of `kind create cluster` that pass, and why they do.
const PASSING: [&str; 4] = [
    // kind looks for systemd's boot message in a log that a loaded engine has not yet flushed.
    "could not find a log line that matches",
    // The API server's port is one kind picked and let go; ours have been bound beforehand.
    "address already in use",
    // Another container's network was being set up.
    "holding the xtables lock",
    // The first writes to etcd on a disk that is busy with builds.
    "etcdserver: request timed out",
];

/// A cluster of ours, as it is wanted.
pub(super) struct Kind<'a> {
    pub(super) wanted: &'a config::Cluster,
    pub(super) ports: Vec<&'a config::Port>,
    pub(super) provider: &'a str,
    pub(super) paths: &'a Paths,
}

impl ClusterTarget for Kind<'_> {
    fn name(&self) -> &str {
        &self.wanted.name
    }

    fn up(&self, log: &Path, events: &Events) -> anyhow::Result<Cluster> {
        Site::of(self, log)?.up(events)
    }

    fn standing(&self) -> Option<Cluster> {
        if !record::is_made(&self.wanted.name, self.provider, self.paths) {
            return None;
        }
        Site::of(self, &self.status_log()).ok()?.standing()
    }

    fn down(&self, log: &Path) -> anyhow::Result<()> {
        down(&self.wanted.name, self.provider, self.paths, log)
    }

    fn status(&self) -> anyhow::Result<Status> {
        Ok(Site::of(self, &self.status_log())?.status())
    }

    /// An engine has one kind cluster of a name, whoever wants it: its lock is the machine's.
    fn lock(&self) -> anyhow::Result<PrivatePath> {
        paths::kind_lock(self.provider, &self.wanted.name)
    }

    fn lease(&self, events: &Events) -> anyhow::Result<Lease> {
        record::hold(self, self.paths, events)
    }

    fn try_lease(&self) -> Option<Lease> {
        record::try_hold(self, self.paths).ok().flatten()
    }
}

impl Kind<'_> {
    fn status_log(&self) -> PathBuf {
        self.paths.cluster(&self.wanted.name).join("status.log").into()
    }
}

/// One cluster that is wanted, and everything to compare it with what is there.
struct Site<'a> {
    wanted: &'a config::Cluster,
    provider: &'a str,
    paths: &'a Paths,
    log: &'a Path,
    config: String,
    fingerprint: Fingerprint,
    nodes: Vec<Node>,
    record: Option<Record>,
}

impl<'a> Site<'a> {
    /// Asks kind and the engine, all at once.
    fn of(target: &'a Kind<'a>, log: &'a Path) -> anyhow::Result<Self> {
        let Kind { wanted, ports, provider, paths } = target;
        let users = wanted.config.as_ref().map(fs_err::read_to_string).transpose();
        let users = users.exit(Exit::Usage)?;
        let config = settings::text(users.as_deref(), ports, wanted)
            .with_context(|| format!("failed to configure cluster `{}`", wanted.name))
            .exit(Exit::Usage)?;
        let (nodes, image_id, kind) = thread::scope(|scope| {
            let nodes = scope.spawn(|| nodes::list(provider, &wanted.name));
            let image_id = scope.spawn(|| image_id(provider, &wanted.node_image));
            let kind = kind(provider).arg("version").limit(QUESTION).read();
            (join(nodes), join(image_id), kind)
        });
        let kind = kind.context("failed to ask kind for its version").exit(Exit::Environment)?;
        let fingerprint = Fingerprint {
            config: record::sha256(&config),
            node_image: wanted.node_image.clone(),
            image_id: image_id??,
            kind,
        };
        let record = record::read(paths, provider, &wanted.name);
        Ok(Self { wanted, provider, paths, log, config, fingerprint, nodes: nodes??, record })
    }

    fn up(mut self, events: &Events) -> anyhow::Result<Cluster> {
        match self.decision() {
            Decision::Create => self.create(events),
            Decision::Refuse(why) => Err(refusal(&self.wanted.name, self.provider, &why)),
            Decision::Reuse => match self.reuse(None, events) {
                Ok(cluster) => Ok(cluster),
                Err(error) => self.remake(&format!("{error:#}"), events),
            },
            Decision::Start => match self.start(events) {
                Ok(cluster) => Ok(cluster),
                Err(error) => self.remake(&format!("{error:#}"), events),
            },
            Decision::Remake(why) => self.remake(&why, events),
        }
    }

    fn status(&self) -> Status {
        match self.decision() {
            Decision::Create => Status::Absent,
            Decision::Reuse => Status::Running,
            Decision::Start => Status::Stopped,
            Decision::Remake(why) => Status::Outdated(why),
            Decision::Refuse(why) => Status::Foreign(why),
        }
    }

    fn decision(&self) -> Decision {
        let found =
            Found { nodes: &self.nodes, record: self.record.as_ref(), home: self.paths.home() };
        let ask = Containers { provider: self.provider, nodes: &self.nodes };
        decide(&found, &ask, &self.fingerprint, self.wanted.reuse)
    }

    fn name(&self) -> &str {
        &self.wanted.name
    }

    fn kubeconfig(&self) -> PathBuf {
        self.paths.kubeconfig(self.name()).into()
    }

    fn cluster(&self, made: bool) -> Cluster {
        let nodes = self.nodes.iter().filter(|node| node.holds_images());
        Cluster {
            name: self.name().to_owned(),
            kubeconfig: self.kubeconfig(),
            nodes: nodes.map(|node| node.name.clone()).collect(),
            made,
            shared: false,
            digest: record::sha256(fs_err::read(self.kubeconfig()).unwrap_or_default()),
            seen: BTreeMap::new(),
        }
    }

    /// Takes a running cluster as it is, once its API has answered. `started`: when its nodes were
    /// started again, if they were.
    fn reuse(&self, started: Option<ready::Started>, events: &Events) -> anyhow::Result<Cluster> {
        if !self.has_kubeconfig()
            && let Some(record) = &self.record
        {
            self.export_kubeconfig()?;
            self.write_made(record.clone())?;
        }
        let cluster = self.cluster(false);
        match started {
            None => ready::answers(&cluster.kubectl(), events)?,
            Some(started) => ready::again(&cluster.kubectl(), started, START, events)?,
        }
        Ok(cluster)
    }

    /// Whether the kubeconfig is the one that was written for it.
    fn has_kubeconfig(&self) -> bool {
        let kept = self.record.as_ref().and_then(|record| record.made.as_ref());
        let text = fs_err::read(self.kubeconfig()).unwrap_or_default();
        kept.is_some_and(|made| made.kubeconfig == record::sha256(text))
    }

    /// The cluster, if nothing has to be done to it; whether it answers was not asked.
    fn standing(&self) -> Option<Cluster> {
        let stands = self.decision() == Decision::Reuse && self.has_kubeconfig();
        stands.then(|| self.cluster(false))
    }

    fn start(&mut self, events: &Events) -> anyhow::Result<Cluster> {
        events.note(format!("cluster `{}` is stopped: starting it again", self.name()));
        let started = ready::Started::now();
        Tool::new(self.provider)
            .arg("start")
            .args(self.nodes.iter().map(|node| node.id.as_str()))
            .log(self.log)
            .limit(QUESTION)
            .run()?;
        self.nodes = nodes::list(self.provider, self.name())?;
        self.reuse(Some(started), events)
    }

    fn remake(&mut self, why: &str, events: &Events) -> anyhow::Result<Cluster> {
        stop::check()?;
        events.note(format!("cluster `{}` is made anew: {why}", self.name()));
        self.down()?;
        self.create(events)
    }

    /// Takes down what is ours; an error if something of that name is not.
    fn down(&self) -> anyhow::Result<()> {
        down(self.name(), self.provider, self.paths, self.log)
    }

    fn create(&mut self, events: &Events) -> anyhow::Result<Cluster> {
        port::check(&settings::host_ports(&self.config), self.provider)?;
        record::forget(self.paths, self.provider, self.name())?;
        let record = Record {
            id: identity::random()?,
            checkout: identity::of_folder(self.paths.root())?,
            provider: self.provider.to_owned(),
            fingerprint: self.fingerprint.clone(),
            made: None,
        };
        record::write(self.paths, self.name(), &record)?;
        if let Err(failure) = self.create_once(&record.id, events) {
            let Some(passing) = passing(&failure) else { return Err(self.give_up(failure)) };
            events.warn(format!("kind failed with `{passing}`, which passes: trying again"), None);
            nodes::remove(self.provider, self.name(), &record.id, self.log)?;
            let again = self.create_once(&record.id, events);
            again.map_err(|failure| self.give_up(failure))?;
        }
        self.nodes = nodes::list(self.provider, self.name())?;
        if self.fingerprint.image_id.is_none() {
            self.fingerprint.image_id = image_id(self.provider, &self.wanted.node_image)?;
        }
        let mark = Mark { home: self.paths.home().to_path_buf() };
        let folder = self.paths.cluster(self.name());
        record::put_mark(self.provider, &self.nodes, &mark, &folder)?;
        self.write_made(Record { fingerprint: self.fingerprint.clone(), ..record })?;
        Ok(self.cluster(true))
    }

    fn create_once(&self, id: &str, events: &Events) -> Result<(), Failure> {
        let file = self.paths.cluster(self.name()).join("kind.json");
        let tool = kind(self.provider)
            .args(["create", "cluster", "--name", self.name(), "--wait", "0s", "--retain"])
            .arg("--config")
            .arg(&file)
            .args(["--image", &self.wanted.node_image])
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .log(self.log)
            .limit(self.wanted.timeout);
        let config = settings::with_id(&self.config, id);
        let written = config.and_then(|config| Ok(file.write(config.as_ref())?));
        if let Err(error) = written {
            return Err(not_written(&tool, &error));
        }
        tool.stream(|stream, line| {
            if stream == Stream::Stderr
                && let Some(what) = phase(&String::from_utf8_lossy(line))
            {
                events.waiting("cluster", what);
            }
        })?;
        Ok(())
    }

    /// Clears away what a failed creation left, and says why it failed. Somebody else may have made a cluster of that
    /// name between our look and kind's: that one stays.
    fn give_up(&self, failure: Failure) -> anyhow::Error {
        let cleared = self.down();
        let error = anyhow::Error::new(failure);
        let error = match cleared {
            Ok(()) => error,
            Err(left) => error.context(format!("{left:#}")).hints(error::hints(&left)),
        };
        error.context(format!("failed to make cluster `{}`", self.name())).exit(Exit::Environment)
    }

    fn export_kubeconfig(&self) -> anyhow::Result<()> {
        fs_err::create_dir_all(self.paths.cluster(self.name()))?;
        kind(self.provider)
            .args(["export", "kubeconfig", "--name", self.name(), "--kubeconfig"])
            .arg(self.kubeconfig())
            .log(self.log)
            .limit(QUESTION)
            .run()
            .with_context(|| format!("failed to get the kubeconfig of `{}`", self.name()))?;
        Ok(())
    }

    fn write_made(&self, record: Record) -> anyhow::Result<()> {
        let kubeconfig = record::sha256(fs_err::read(self.kubeconfig())?);
        let containers = self.nodes.iter().map(|node| node.id.clone()).collect();
        let record = Record { made: Some(Made { containers, kubeconfig }), ..record };
        record::write(self.paths, self.name(), &record)
    }
}

/// What the engine says of containers.
struct Containers<'a> {
    provider: &'a str,
    nodes: &'a [Node],
}

impl Ask for Containers<'_> {
    fn mounts(&self) -> Vec<Mounts> {
        nodes::mounts(self.provider, self.nodes).unwrap_or_default()
    }

    fn maker(&self) -> Option<PathBuf> {
        record::read_mark(self.provider, self.nodes).map(|mark| mark.home)
    }
}

/// Takes down what this checkout has made under a name; an error if there is something that it has
/// not.
pub(super) fn down(name: &str, provider: &str, paths: &Paths, log: &Path) -> anyhow::Result<()> {
    let others = match record::read(paths, provider, name) {
        Some(record) => nodes::remove(provider, name, &record.id, log)?,
        None => nodes::list(provider, name)?,
    };
    record::forget(paths, provider, name)?;
    if others.is_empty() {
        return Ok(());
    }
    let maker = Containers { provider, nodes: &others }.maker();
    Err(refusal(name, provider, &foreign(maker.as_deref(), paths.home())))
}

fn kind(provider: &str) -> Tool {
    Tool::new("kind").env("KIND_EXPERIMENTAL_PROVIDER", provider).without_env("KUBECONFIG")
}

/// The id of an image the engine holds; none where it does not.
fn image_id(provider: &str, reference: &str) -> anyhow::Result<Option<String>> {
    let asked = Tool::new(provider)
        .args(["image", "inspect", "--format", "{{.Id}}", reference])
        .limit(QUESTION)
        .read();
    match asked {
        Ok(id) => Ok(Some(id)),
        Err(failure) if failure.code().is_some() => Ok(None),
        Err(failure) => Err(failure).exit(Exit::Environment),
    }
}

fn refusal(name: &str, provider: &str, why: &str) -> anyhow::Error {
    anyhow!("failed to take cluster `{name}`: {why}")
        .hint(format!(
            "delete it with `KIND_EXPERIMENTAL_PROVIDER={provider} kind delete cluster --name \
             {name}`, or give ours another `name` in xtask.toml"
        ))
        .exit(Exit::Environment)
}

fn passing(failure: &Failure) -> Option<&'static str> {
    PASSING.into_iter().find(|text| failure.tail.iter().any(|line| line.contains(text)))
}

fn not_written(tool: &Tool, error: &anyhow::Error) -> Failure {
    Failure {
        command: tool.to_string(),
        ending: crate::process::Ending::NotStarted(error::told(error)),
        tail: Vec::new(),
        log: None,
        unlogged: None,
    }
}

/// What kind says it is doing: ` • Preparing nodes 📦   ...`.
fn phase(line: &str) -> Option<String> {
    let what = line.trim_start().strip_prefix('•')?;
    let what: String = what.chars().filter(char::is_ascii).collect();
    Some(what.trim_end_matches('.').trim().to_owned())
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> anyhow::Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("a thread of the cluster stage panicked").exit(Exit::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_phases_are_read_without_their_decoration() {
        assert_eq!(phase(" • Preparing nodes 📦   ...").as_deref(), Some("Preparing nodes"));
        let image = " • Ensuring node image (docker.io/kindest/node:v1.34.4) 🖼️  ...";
        assert_eq!(
            phase(image).as_deref(),
            Some("Ensuring node image (docker.io/kindest/node:v1.34.4)")
        );
        assert_eq!(phase(" ✓ Preparing nodes 📦 "), None);
    }

    #[test]
    fn only_faults_that_pass_are_tried_again() {
        let failure = |line: &str| Failure {
            command: String::new(),
            ending: crate::process::Ending::Code(1),
            tail: vec![line.to_owned()],
            log: None,
            unlogged: None,
        };
        let boot = "ERROR: failed to create cluster: could not find a log line that matches \"x\"";
        assert!(passing(&failure(boot)).is_some());
        assert!(passing(&failure("ERROR: failed to create cluster: no space left")).is_none());
    }
}
