//! The cures: what one fault takes to go away, and the running of many: in order where one needs
//! another, else side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::{Finding, State};
use crate::error::{ErrorExt as _, Exit};
use crate::event::{Event, Events, first_line, seconds};
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

/// What has to be there before what; [`Lane`] says what goes side by side.
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

/// Cures that go one after the other. All but the first are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Before all others.
    Machine,
    Programs,
    Bases,
    Node,
}

impl Order {
    fn lane(self) -> Lane {
        match self {
            Self::Packages | Self::Host | Self::Settings => Lane::Machine,
            Self::Kind => Lane::Programs,
            Self::Bases | Self::Builders => Lane::Bases,
            Self::Node | Self::Kubectl => Lane::Node,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    Run(Tool),
    /// By the package manager, which serves one at a time.
    Install(Tool),
    Folder(PathBuf),
    Write {
        file: PathBuf,
        text: String,
    },
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

/// Runs the cures of `findings`; all output goes to `log`. After the first that fails none is
/// begun. Errors lead to [`Exit::Environment`].
pub fn mend(findings: &[Finding], log: &Path, events: &Events) -> anyhow::Result<()> {
    let fault = |finding: &'_ Finding| match &finding.state {
        State::Fault { what, mend, .. } => Some((what.clone(), mend.clone())),
        _ => None,
    };
    let mut faults: Vec<_> = findings.iter().filter_map(fault).collect();
    faults.sort_by_key(|(_, mend)| mend.order);
    let mut seen = BTreeSet::new();
    faults.retain(|(_, mend)| seen.insert(mend.command.clone()));
    let hand = Hand::new(log, events);
    hand.lane(&faults, Lane::Machine).exit(Exit::Environment)?;
    std::thread::scope(|threads| {
        let lanes = [Lane::Programs, Lane::Bases, Lane::Node];
        let (hand, faults) = (&hand, &faults);
        let lanes = lanes.map(|lane| threads.spawn(move || hand.lane(faults, lane)));
        let ends =
            lanes.map(|lane| lane.join().unwrap_or_else(|_| Err(anyhow!("a cure panicked"))));
        ends.into_iter().collect::<anyhow::Result<()>>()
    })
    .exit(Exit::Environment)
}

struct Hand<'a> {
    log: &'a Path,
    events: &'a Events,
    has_failed: AtomicBool,
    /// Registries that did not answer; they are not asked twice.
    silent: Mutex<BTreeSet<String>>,
    /// Held while packages are installed.
    packages: Mutex<()>,
}

impl<'a> Hand<'a> {
    fn new(log: &'a Path, events: &'a Events) -> Self {
        let (silent, packages) = (Mutex::default(), Mutex::default());
        Self { log, events, has_failed: AtomicBool::new(false), silent, packages }
    }

    fn lane(&self, faults: &[(String, Mend)], lane: Lane) -> anyhow::Result<()> {
        for (what, mend) in faults.iter().filter(|(_, mend)| mend.order.lane() == lane) {
            if self.has_failed.load(Ordering::Acquire) {
                break;
            }
            let end = self.announced(what, mend);
            self.has_failed.fetch_or(end.is_err(), Ordering::AcqRel);
            end?;
        }
        Ok(())
    }

    fn announced(&self, what: &str, mend: &Mend) -> anyhow::Result<()> {
        if mend.steps.is_empty() {
            return Err(anyhow!("failed to mend what only root may: {what}")).hint(&*mend.command);
        }
        let step = format!("mend: {what}");
        self.events.emit(Event::StepStarted { step: step.clone() });
        let started = Instant::now();
        let end = self.all(&mend.steps).with_context(|| format!("failed to mend: {what}"));
        let error = end.as_ref().err().map(first_line);
        let seconds = seconds(started.elapsed());
        let ok = end.is_ok();
        self.events.emit(Event::StepFinished { step, action: None, ok, seconds, error });
        end
    }

    fn all(&self, steps: &[Step]) -> anyhow::Result<()> {
        for step in steps {
            stop::check()?;
            match step {
                Step::Run(tool) => drop(tool.clone().log(self.log).run()?),
                Step::Install(tool) => {
                    let _alone = self.packages.lock().unwrap_or_else(PoisonError::into_inner);
                    tool.clone().log(self.log).run()?;
                }
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

    fn answers(&self, registry: &str, ask: &Tool) -> bool {
        // Whoever else wants it waits for this answer.
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = !silent.contains(registry) && ask.clone().log(self.log).run().is_ok();
        if !answers {
            silent.insert(registry.to_owned());
        }
        answers
    }
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
    Hand::new(log, &Events::silent())
        .announced(&format!("not installed: {}", packages.join(", ")), &mend)
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
    vec![Step::Install(update), Step::Install(install)]
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
            fault(Order::Builders, "never", vec![append("never", &file)]),
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

    /// Each of three cures ends only once the others have begun.
    #[test]
    fn cures_that_need_nothing_of_each_other_go_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("out"), folder.path().join("log"));
        let meeting = |name: &str| {
            let place = folder.path().display();
            let script = format!(
                "touch {place}/{name}.here; until [ -e {place}/kind.here -a -e {place}/base.here \
                 -a -e {place}/node.here ]; do sleep 0.01; done; echo met >> {}",
                file.display()
            );
            Step::Run(Tool::new("sh").arg("-c").arg(script).limit(Duration::from_mins(5)))
        };
        let findings = [
            fault(Order::Kubectl, "kubectl", vec![append("met", &file)]),
            fault(Order::Node, "node", vec![meeting("node")]),
            fault(Order::Builders, "builder", vec![append("met", &file)]),
            fault(Order::Bases, "base", vec![meeting("base")]),
            fault(Order::Kind, "kind", vec![meeting("kind")]),
            fault(Order::Settings, "settings", vec![append("settings", &file)]),
        ];
        mend(&findings, &log, &Events::silent()).unwrap();
        let expected = "settings\nmet\nmet\nmet\nmet\nmet\n";
        assert_eq!(fs_err::read_to_string(&file).unwrap(), expected);
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
        assert!(crate::error::told(&error).ends_with(hint), "{error}");
    }
}
