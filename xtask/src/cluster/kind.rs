//! Making, starting and taking down with kind.
//!
//! `kind create cluster` is called with `--wait 0`: its own wait is for Ready nodes, while objects
//! can be applied as soon as the API answers, which it does when kind returns. Creation is tried a
//! second time only for faults known to pass (`PASSING`); anything else would fail again, half a
//! minute later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};

use super::decide::{Decision, Found, decide, owner};
use super::nodes::{self, Node};
use super::record::{self, Fingerprint, Made, Mark, Record};
use super::{Cluster, Status, port, ready, settings};
use crate::config;
use crate::event::Events;
use crate::exit::{Exit, WithExit as _};
use crate::paths::Paths;
use crate::process::{Failure, Stream, Tool, stop};

/// How long a question to engine or kind may take; they are answered in 0.1 s on an idle machine.
pub(super) const QUESTION: Duration = Duration::from_secs(30);

/// How long taking down may take.
const DELETION: Duration = Duration::from_mins(2);

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

/// One cluster that is wanted, and everything to compare it with what is there.
pub(super) struct Site<'a> {
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
    pub(super) fn of(
        wanted: &'a config::Cluster,
        ports: &[&config::Port],
        provider: &'a str,
        paths: &'a Paths,
        log: &'a Path,
    ) -> anyhow::Result<Self> {
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
        let record = record::read(paths, &wanted.name);
        Ok(Self { wanted, provider, paths, log, config, fingerprint, nodes: nodes??, record })
    }

    pub(super) fn up(mut self, events: &Events) -> anyhow::Result<Cluster> {
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

    pub(super) fn status(&self) -> Status {
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
        let mark = || record::read_mark(self.provider, &self.nodes);
        decide(&found, mark, &self.fingerprint, self.wanted.reuse)
    }

    fn name(&self) -> &str {
        &self.wanted.name
    }

    fn kubeconfig(&self) -> PathBuf {
        self.paths.kubeconfig(self.name())
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
    fn reuse(&self, started: Option<SystemTime>, events: &Events) -> anyhow::Result<Cluster> {
        if !self.has_kubeconfig() {
            self.export_kubeconfig()?;
            self.write_record()?;
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
    pub(super) fn standing(&self) -> Option<Cluster> {
        let stands = self.decision() == Decision::Reuse && self.has_kubeconfig();
        stands.then(|| self.cluster(false))
    }

    fn start(&mut self, events: &Events) -> anyhow::Result<Cluster> {
        events.note(format!("cluster `{}` is stopped: starting it again", self.name()));
        let started = SystemTime::now();
        Tool::new(self.provider)
            .arg("start")
            .args(self.nodes.iter().map(|node| node.name.as_str()))
            .log(self.log)
            .limit(QUESTION)
            .run()?;
        self.nodes = nodes::list(self.provider, self.name())?;
        self.reuse(Some(started), events)
    }

    fn remake(&mut self, why: &str, events: &Events) -> anyhow::Result<Cluster> {
        stop::check()?;
        events.note(format!("cluster `{}` is made anew: {why}", self.name()));
        delete(self.name(), self.provider, self.paths, self.log)?;
        self.create(events)
    }

    fn create(&mut self, events: &Events) -> anyhow::Result<Cluster> {
        port::check(&settings::host_ports(&self.config), self.provider)?;
        record::forget(self.paths, self.name())?;
        let mark =
            Mark { home: self.paths.home().to_owned(), fingerprint: self.fingerprint.clone() };
        record::write(self.paths, self.name(), &Record { mark, made: None })?;
        if let Err(failure) = self.create_once(events) {
            let Some(passing) = passing(&failure) else { return Err(self.give_up(failure)) };
            events.warn(format!("kind failed with `{passing}`, which passes: trying again"), None);
            kind_delete(self.name(), self.provider, self.paths, self.log)?;
            self.create_once(events).map_err(|failure| self.give_up(failure))?;
        }
        self.nodes = nodes::list(self.provider, self.name())?;
        if self.fingerprint.image_id.is_none() {
            self.fingerprint.image_id = image_id(self.provider, &self.wanted.node_image)?;
        }
        let record = self.write_record()?;
        let folder = self.paths.cluster(self.name());
        record::put_mark(self.provider, &self.nodes, &record.mark, &folder)?;
        Ok(self.cluster(true))
    }

    fn create_once(&self, events: &Events) -> Result<(), Failure> {
        let file = self.paths.cluster(self.name()).join("kind.json");
        let tool = kind(self.provider)
            .args(["create", "cluster", "--name", self.name(), "--wait", "0s"])
            .arg("--config")
            .arg(&file)
            .args(["--image", &self.wanted.node_image])
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .log(self.log)
            .limit(self.wanted.timeout);
        if let Err(error) = fs_err::write(&file, &self.config) {
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

    /// Clears away what a failed creation left, and says why it failed.
    fn give_up(&self, failure: Failure) -> anyhow::Error {
        let raced = failure.tail.iter().any(|line| line.contains("already exist"));
        let cleared = if raced {
            // Made by somebody else between our look and kind's: not ours to delete.
            record::forget(self.paths, self.name())
        } else {
            delete(self.name(), self.provider, self.paths, self.log)
        };
        let error = anyhow::Error::new(failure);
        let error = match cleared {
            Ok(()) => error,
            Err(left) => error.context(format!("its remains could not be deleted ({left:#})")),
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

    fn write_record(&self) -> anyhow::Result<Record> {
        let kubeconfig = record::sha256(fs_err::read(self.kubeconfig())?);
        let containers = self.nodes.iter().map(|node| node.id.clone()).collect();
        let mark =
            Mark { home: self.paths.home().to_owned(), fingerprint: self.fingerprint.clone() };
        let record = Record { mark, made: Some(Made { containers, kubeconfig }) };
        record::write(self.paths, self.name(), &record)?;
        Ok(record)
    }
}

pub(super) fn down(name: &str, provider: &str, paths: &Paths, log: &Path) -> anyhow::Result<()> {
    let nodes = nodes::list(provider, name)?;
    if nodes.is_empty() {
        return record::forget(paths, name);
    }
    let record = record::read(paths, name);
    let found = Found { nodes: &nodes, record: record.as_ref(), home: paths.home() };
    match owner(&found, || record::read_mark(provider, &nodes)) {
        Ok(_) => delete(name, provider, paths, log),
        Err(why) => Err(refusal(name, provider, &why)),
    }
}

fn delete(name: &str, provider: &str, paths: &Paths, log: &Path) -> anyhow::Result<()> {
    kind_delete(name, provider, paths, log)?;
    record::forget(paths, name)
}

fn kind_delete(name: &str, provider: &str, paths: &Paths, log: &Path) -> anyhow::Result<()> {
    kind(provider)
        .args(["delete", "cluster", "--name", name, "--kubeconfig"])
        .arg(paths.kubeconfig(name))
        .log(log)
        .limit(DELETION)
        .despite_stop()
        .run()
        .with_context(|| format!("failed to delete cluster `{name}`"))
        .exit(Exit::Environment)?;
    Ok(())
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
    anyhow!(
        "failed to take cluster `{name}`: {why}\n\
         hint: delete it with `KIND_EXPERIMENTAL_PROVIDER={provider} kind delete cluster --name \
         {name}`, or give ours another `name` in xtask.toml"
    )
    .exit(Exit::Environment)
}

fn passing(failure: &Failure) -> Option<&'static str> {
    PASSING.into_iter().find(|text| failure.tail.iter().any(|line| line.contains(text)))
}

fn not_written(tool: &Tool, error: &std::io::Error) -> Failure {
    Failure {
        command: tool.to_string(),
        ending: crate::process::Ending::NotStarted(error.to_string()),
        tail: Vec::new(),
        log: None,
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
        };
        let boot = "ERROR: failed to create cluster: could not find a log line that matches \"x\"";
        assert!(passing(&failure(boot)).is_some());
        assert!(passing(&failure("ERROR: failed to create cluster: no space left")).is_none());
    }
}
