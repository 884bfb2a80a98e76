//! The cures: what one fault takes to go away, and the running of many in order.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::{Finding, State};
use crate::error::{ErrorExt as _, Exit};
use crate::event::{Event, Events, seconds};
use crate::process::{Tool, stop};

/// How a fault is mended.
#[derive(Clone, Debug, Serialize)]
pub struct Mend {
    /// What a person would type.
    pub command: String,
    /// What `--fix` does; nothing where only root could.
    #[serde(skip)]
    pub steps: Vec<Step>,
    #[serde(skip)]
    pub order: Order,
}

/// What has to be there before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    Packages,
    Host,
    Settings,
    Kind,
    Bases,
    /// An image made from one of the bases.
    Builders,
    Node,
    /// kubectl comes out of the node image.
    Kubectl,
}

#[derive(Clone, Debug)]
pub enum Step {
    Run(Tool),
    Folder(PathBuf),
    Write { file: PathBuf, text: String },
    Fetch(Box<Fetch>),
}

/// An image from its registry, or some other way where the registry does not answer.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub registry: String,
    /// Ends well, and soon, if the registry has the image.
    pub ask: Tool,
    pub pull: Tool,
    pub otherwise: Vec<Step>,
}

/// Runs the cures of `findings` in order; all output goes to `log`. Stops at the first that fails.
/// Errors lead to [`Exit::Environment`].
pub fn mend(findings: &[Finding], log: &Path, events: &Events) -> anyhow::Result<()> {
    let fault = |finding: &'_ Finding| match &finding.state {
        State::Fault { what, mend, .. } => Some((what.clone(), mend.clone())),
        _ => None,
    };
    let mut faults: Vec<_> = findings.iter().filter_map(fault).collect();
    faults.sort_by_key(|(_, mend)| mend.order);
    let mut done = BTreeSet::new();
    let mut hand = Hand { log, silent: BTreeSet::new() };
    for (what, mend) in &faults {
        if done.insert(&mend.command) {
            hand.announced(what, mend, events).exit(Exit::Environment)?;
        }
    }
    Ok(())
}

struct Hand<'a> {
    log: &'a Path,
    /// Registries that did not answer; they are not asked twice.
    silent: BTreeSet<String>,
}

impl Hand<'_> {
    fn announced(&mut self, what: &str, mend: &Mend, events: &Events) -> anyhow::Result<()> {
        if mend.steps.is_empty() {
            bail!("failed to mend what only root may: {what}\nhint: {}", mend.command);
        }
        let step = format!("mend: {what}");
        events.emit(Event::StepStarted { step: step.clone() });
        let started = Instant::now();
        let end = self.all(&mend.steps).with_context(|| format!("failed to mend: {what}"));
        let error = end.as_ref().err().map(one_line);
        let seconds = seconds(started.elapsed());
        events.emit(Event::StepFinished { step, action: None, ok: end.is_ok(), seconds, error });
        end
    }

    fn all(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        for step in steps {
            stop::check()?;
            match step {
                Step::Run(tool) => drop(tool.clone().log(self.log).run()?),
                Step::Folder(folder) => fs_err::create_dir_all(folder)?,
                Step::Write { file, text } => write(file, text)?,
                Step::Fetch(fetch) if self.answers(&fetch.registry, &fetch.ask) => {
                    drop(fetch.pull.clone().log(self.log).run()?);
                }
                Step::Fetch(fetch) => self.all(&fetch.otherwise)?,
            }
        }
        Ok(())
    }

    fn answers(&mut self, registry: &str, ask: &Tool) -> bool {
        let answers = !self.silent.contains(registry) && ask.clone().log(self.log).run().is_ok();
        if !answers {
            self.silent.insert(registry.to_owned());
        }
        answers
    }
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(fs_err::write(file, text)?)
}

/// Installs Debian packages now. Without root, the error's hint is the command.
pub fn install_packages(packages: &[&str], log: &Path) -> anyhow::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let mend = install(packages, root);
    Hand { log, silent: BTreeSet::new() }.announced(
        &format!("not installed: {}", packages.join(", ")),
        &mend,
        &Events::silent(),
    )
}

/// The cure for missing Debian packages; without root the command is only said.
pub(super) fn install(packages: &[&str], root: bool) -> Mend {
    let sudo = if root { "" } else { "sudo " };
    let mut command =
        format!("{sudo}apt-get update && {sudo}apt-get install --yes --no-install-recommends");
    for package in packages {
        // Writing to a string does not fail.
        write!(command, " {package}").ok();
    }
    let steps = if root { install_steps(packages) } else { Vec::new() };
    Mend { command, steps, order: Order::Packages }
}

pub(super) fn install_steps(packages: &[&str]) -> Vec<Step> {
    if packages.is_empty() {
        return Vec::new();
    }
    let apt = || Tool::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    let install = apt()
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages.iter().copied())
        .limit(Duration::from_mins(15));
    let update = apt().arg("update").limit(Duration::from_mins(5));
    vec![Step::Run(update), Step::Run(install)]
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::Arc;

    use super::*;
    use crate::event::{Sink, Stamped};

    fn fault(order: Order, command: &str, steps: Vec<Step>) -> Finding {
        let mend = Mend { command: command.into(), steps, order };
        let state = State::Fault { what: command.into(), why: String::new(), mend };
        Finding { check: "test", state }
    }

    fn append(word: &str, file: &Path) -> Step {
        Step::Run(Tool::new("sh").arg("-c").arg(format!("echo {word} >> {}", file.display())))
    }

    struct Steps(Arc<Mutex<Vec<String>>>);

    impl Sink for Steps {
        fn receive(&self, event: &Stamped) {
            let line = match &event.event {
                Event::StepStarted { step } => step.clone(),
                Event::StepFinished { ok, .. } => ok.to_string(),
                other => format!("{other:?}"),
            };
            self.0.lock().push(line);
        }
    }

    #[test]
    fn cures_run_in_order_each_once_up_to_the_first_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("out"), folder.path().join("log"));
        let findings = [
            fault(Order::Node, "never", vec![append("never", &file)]),
            fault(Order::Bases, "fails", vec![Step::Run(Tool::new("false"))]),
            fault(Order::Host, "b", vec![append("b", &file)]),
            fault(Order::Packages, "a", vec![append("a", &file)]),
            fault(Order::Packages, "a", vec![append("a", &file)]),
        ];
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = Events::to(vec![Box::new(Steps(Arc::clone(&seen)))]);
        let error = mend(&findings, &log, &events).unwrap_err();
        assert_eq!(crate::error::code(&error), Exit::Environment);
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "a\nb\n");
        assert!(fs_err::read_to_string(&log).unwrap().contains("$ false"));
        let seen = seen.lock().clone();
        assert_eq!(seen, ["mend: a", "true", "mend: b", "true", "mend: fails", "false"]);
    }

    #[test]
    fn a_silent_registry_is_asked_once_and_the_recipes_take_over() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("out"), folder.path().join("log"));
        let fetch = |registry: &str, ask: &str, word: &str| {
            let ask = format!("echo ask >> {}; {ask}", file.display());
            let Step::Run(pull) = append("pull", &file) else { unreachable!() };
            let otherwise = vec![append(word, &file)];
            let ask = Tool::new("sh").arg("-c").arg(ask);
            let fetch = Fetch { registry: registry.into(), ask, pull, otherwise };
            fault(Order::Bases, word, vec![Step::Fetch(Box::new(fetch))])
        };
        let findings = [
            fetch("silent", "false", "one"),
            fetch("silent", "false", "two"),
            fetch("there", "true", "three"),
        ];
        mend(&findings, &log, &Events::silent()).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "ask\none\ntwo\nask\npull\n");
    }

    #[test]
    fn without_root_packages_are_only_named() {
        let findings = [Finding {
            check: "engine",
            state: State::Fault {
                what: String::new(),
                why: String::new(),
                mend: install(&["podman"], false),
            },
        }];
        let error = mend(&findings, Path::new("/nowhere/log"), &Events::silent()).unwrap_err();
        let hint = "hint: sudo apt-get update && sudo apt-get install --yes --no-install-recommends podman";
        assert!(error.to_string().ends_with(hint), "{error}");
    }
}
