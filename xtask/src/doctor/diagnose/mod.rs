//! Deciding: from facts to findings. Pure; one function a check.
//!
//! A fault keeps a run from its end, or may. What only a person's own commands would trip over, or
//! what only costs, is a note.

mod around;
mod room;
mod versions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::containers_conf::Trouble;
use super::images::{self, canonical};
use super::machine::{Machine, Os, Proof, Version};
use super::mend::{Fetch, Mend, Order, Step, install, install_steps};
use super::packages::{PODMAN, RECIPES};
use super::versions::OLD_CRUN;
use super::{Finding, Needs, State};
use crate::process::Tool;

/// kind before 0.30 does not know podman's networks well enough, nor Kubernetes 1.34.
const KIND: Version = (0, 30, 0);
/// The kind that is installed.
const KIND_MODULE: &str = "sigs.k8s.io/kind@v0.33.0";
const HELM_MODULE: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
/// The longest a registry may take to say anything.
const REGISTRY_ANSWERS: Duration = Duration::from_secs(20);
const PULL: Duration = Duration::from_mins(20);
/// A node image without any of Go's build cache takes eight minutes on two cores.
const RECIPE: Duration = Duration::from_hours(1);

/// All findings, in the order a person would want to read them.
pub(super) fn diagnose(machine: &Machine, needs: &Needs) -> Vec<Finding> {
    let mut findings = vec![engine(machine)];
    findings.extend(packages(machine));
    findings.extend(versions::versions(machine));
    findings.extend(containers(machine));
    if needs.kind {
        findings.extend([kind(machine), kubectl(machine, needs), lib_modules(machine)]);
    }
    findings.extend(needs.helm.then(|| helm(machine)));
    findings.extend(needs.bases.iter().map(|name| image("base-image", machine, name)));
    findings.extend(needs.node_images.iter().map(|name| image("node-image", machine, name)));
    findings.extend(room::room(machine, needs));
    findings.extend(around::around(machine, needs));
    findings
}

fn finding(check: &'static str, state: State) -> Finding {
    Finding { check, state }
}

fn fine(detail: impl Into<String>) -> State {
    State::Fine { detail: detail.into() }
}

fn fault(what: impl Into<String>, why: &str, mend: Mend) -> State {
    State::Fault { what: what.into(), why: why.to_owned(), mend }
}

fn cannot(what: impl Into<String>, why: &str, how: impl Into<String>) -> State {
    State::CannotMend { what: what.into(), why: why.to_owned(), how: how.into() }
}

fn note(what: impl Into<String>, why: &str) -> State {
    State::Note { what: what.into(), why: why.to_owned(), how: None }
}

/// A note with what a person could do about it.
fn advice(what: impl Into<String>, why: &str, how: impl Into<String>) -> State {
    State::Note { what: what.into(), why: why.to_owned(), how: Some(how.into()) }
}

fn engine(machine: &Machine) -> Finding {
    const WHY: &str = "images are built and clusters run by a container engine";
    let engine = &machine.engine;
    let name = engine.kind.name();
    let state = match (&engine.silent, engine.version) {
        _ if !engine.installed => not_installed(machine),
        (Some(words), _) => {
            cannot(format!("{name} does not answer: {words}"), WHY, engine.kind.start(machine.os))
        }
        (None, Some(version)) => match engine.kind.oldest() {
            Some((oldest, why)) if version < oldest => cannot(
                format!("{name} {} is too old", shown(version)),
                why,
                format!("install {name} {} or later", shown(oldest)),
            ),
            _ => fine(format!("{name} {}", shown(version))),
        },
        (None, None) => fine(name),
    };
    finding("engine", state)
}

fn not_installed(machine: &Machine) -> State {
    const WHY: &str = "images are built and clusters run by a container engine";
    let name = machine.engine.kind.name();
    let what = format!("{name} is not installed");
    let engine = machine.engine.kind;
    if machine.os == Os::Linux && machine.apt && engine.runs_containers() {
        return fault(what, WHY, install(&missing(machine), machine.root));
    }
    cannot(what, WHY, engine.install(machine.os))
}

/// Debian packages podman wants and this machine lacks.
fn missing(machine: &Machine) -> Vec<&'static str> {
    let needed =
        PODMAN.iter().filter(|package| package.is_needed(machine.cgroup, machine.conf.crun));
    needed.map(|package| package.name).filter(|name| !machine.packages.contains(name)).collect()
}

fn packages(machine: &Machine) -> Option<Finding> {
    if machine.os != Os::Linux
        || !machine.engine.kind.runs_containers()
        || !machine.engine.installed
    {
        return None;
    }
    let missing = missing(machine);
    let of = |name: &str| PODMAN.iter().find(|package| package.name == name);
    let Some(first) = missing.first() else {
        return Some(finding("packages", fine("what podman needs beside itself is there")));
    };
    let what = format!("not installed: {}", missing.join(", "));
    let why = match of(first) {
        Some(package) => format!("{}: {}", package.name, package.why),
        None => String::new(),
    };
    let state = if machine.apt {
        fault(what, &why, install(&missing, machine.root))
    } else {
        let how =
            format!("install by your package manager what Debian calls {}", missing.join(", "));
        cannot(what, &why, how)
    };
    Some(finding("packages", state))
}

/// Whether a container starts: seen, or foreseen while there is nothing to see it with.
fn containers(machine: &Machine) -> Option<Finding> {
    const WHY: &str = "no build and no cluster node starts otherwise";
    if machine.os != Os::Linux || !machine.engine.kind.runs_containers() {
        return None;
    }
    let old_crun = OLD_CRUN.is_here(|name| machine.version(name));
    let troubles = machine.conf.troubles(machine.limits, machine.cgroup, old_crun);
    let cure = machine.conf.cure(&troubles, machine.limits);
    let words = match &machine.proof {
        Proof::Works => return Some(finding("containers", fine("one was started"))),
        Proof::Untried if troubles.is_empty() => return None,
        Proof::Untried => None,
        Proof::Fails(words) => Some(words.clone()),
    };
    let what = troubles.iter().map(|trouble| trouble.sentence(machine)).chain(words.clone());
    let what = what.collect::<Vec<_>>().join("; ");
    let person = troubles.iter().find_map(|trouble| machine.conf.said_by_a_person(*trouble));
    let cured = machine.conf.drop_in_text.as_ref() == Some(&cure);
    let state = if troubles.is_empty() || cured {
        cannot(what, WHY, "podman --log-level debug run --rm IMAGE true")
    } else if let Some(file) = machine.conf.only.as_deref().or(person) {
        let how = format!("say in `{}`:\n{}", file.display(), settings(&cure));
        cannot(what, WHY, how)
    } else {
        fault(what, WHY, write_settings(machine, cure))
    };
    Some(finding("containers", state))
}

impl Trouble {
    fn sentence(self, machine: &Machine) -> String {
        match self {
            Trouble::Limits => format!(
                "podman asks for higher limits than this machine lets us set \
                 ({} open files, {} processes)",
                machine.limits.open_files, machine.limits.processes
            ),
            Trouble::Runtime => "crun refuses the hybrid cgroups of this machine".to_owned(),
            Trouble::OldRuntime => "crun is too old for this podman".to_owned(),
        }
    }
}

/// Without the comment line: what a person would add.
fn settings(cure: &str) -> &str {
    cure.split_once('\n').map_or(cure, |(_, rest)| rest.trim_end())
}

fn write_settings(machine: &Machine, text: String) -> Mend {
    let file = machine.conf.drop_in.clone();
    let folder = file.parent().unwrap_or(Path::new("/"));
    let lines: Vec<_> = text.lines().map(|line| format!("'{line}'")).collect();
    let command = format!(
        "mkdir -p {} && printf '%s\\n' {} > {}",
        folder.display(),
        lines.join(" "),
        file.display()
    );
    Mend { command, steps: vec![Step::Write { file, text }], order: Order::Settings }
}

fn kind(machine: &Machine) -> Finding {
    const WHY: &str = "suites run on kind clusters";
    let what = match machine.tools.kind {
        Some(version) if version >= KIND => {
            return finding("kind", fine(format!("kind {}", shown(version))));
        }
        Some(version) => format!("kind {} is older than {}", shown(version), shown(KIND)),
        None => "kind is not installed".to_owned(),
    };
    finding("kind", by_go(machine, what, WHY, (KIND_MODULE, Order::Kind)))
}

/// Named only where a step asks for it.
fn helm(machine: &Machine) -> Finding {
    const WHY: &str = "a step is a chart";
    let state = match &machine.tools.helm {
        Some(file) => fine(file.display().to_string()),
        None => by_go(machine, "helm is not installed".to_owned(), WHY, (HELM_MODULE, Order::Kind)),
    };
    finding("helm", state)
}

/// A program that `go install` brings.
fn by_go(machine: &Machine, what: String, why: &str, (module, order): (&str, Order)) -> State {
    if machine.tools.go.is_none() {
        let how = format!("install Go (https://go.dev/doc/install), then: go install {module}");
        return cannot(what, why, how);
    }
    let folder = &machine.tools.folder;
    let install = Tool::new("go")
        .args(["install", module])
        .env("GOBIN", folder)
        .limit(Duration::from_mins(15));
    let command = install.to_string();
    let steps = vec![Step::Folder(folder.clone()), Step::Run(install)];
    fault(what, why, Mend { command, steps, order })
}

/// A node image holds the kubectl of its own version: nothing else needs to be fetched or built.
fn kubectl(machine: &Machine, needs: &Needs) -> Finding {
    const WHY: &str = "manifests are applied and waited for with it";
    if let Some(file) = &machine.tools.kubectl {
        return finding("kubectl", fine(file.display().to_string()));
    }
    let what = "kubectl is not installed";
    let Some(node) = needs.node_images.first() else {
        let how = "https://kubernetes.io/docs/tasks/tools/";
        return finding("kubectl", cannot(what, WHY, how));
    };
    let folder = &machine.tools.folder;
    let copy = Tool::new(machine.engine.kind.name())
        .args(["run", "--rm", "--network", "none", "--security-opt", "label=disable", "--volume"])
        .arg(format!("{}:/out", folder.display()))
        .args([
            "--entrypoint",
            "cp",
            &canonical(node),
            "--dereference",
            "/usr/bin/kubectl",
            "/out/",
        ])
        .limit(Duration::from_mins(2));
    let command = copy.to_string();
    let steps = vec![Step::Folder(folder.clone()), Step::Run(copy)];
    finding("kubectl", fault(what, WHY, Mend { command, steps, order: Order::Kubectl }))
}

fn lib_modules(machine: &Machine) -> Finding {
    let folder = PathBuf::from("/lib/modules");
    let state = match (machine.os, machine.lib_modules, machine.root) {
        (Os::Linux, false, root) => {
            let command =
                format!("{}mkdir -p {}", if root { "" } else { "sudo " }, folder.display());
            let steps = if root { vec![Step::Folder(folder)] } else { Vec::new() };
            let mend = Mend { command, steps, order: Order::Host };
            fault("there is no /lib/modules", "kind mounts it into every node", mend)
        }
        _ => fine("is there"),
    };
    finding("lib-modules", state)
}

fn image(check: &'static str, machine: &Machine, reference: &str) -> Finding {
    let name = canonical(reference);
    let why = match check {
        "node-image" => "the cluster's nodes are started from it",
        _ => "images are built on it",
    };
    let state = match (machine.images.get(&name), machine.os) {
        (Some(held), _) => match &held.stand_in {
            None => fine(name),
            Some(made) => note(
                format!("{name} is a stand-in: {made}"),
                "what is built on it may differ from what upstream's image would give",
            ),
        },
        (None, os) => fault(format!("{name} is not there"), why, fetch(machine, os, &name)),
    };
    finding(check, state)
}

/// From the registry, or by the workspace's recipe where there is one and the engine runs on this
/// host.
fn fetch(machine: &Machine, os: Os, name: &str) -> Mend {
    let engine = machine.engine.kind.name();
    let pull = Tool::new(engine).args(["pull", "--quiet", name]).limit(PULL);
    let by_hand = Tool::new(engine).args(["pull", name]).to_string();
    let recipe = machine.recipes.get(name).filter(|_| os == Os::Linux);
    let order = match recipe {
        Some(recipe) if recipe.ends_with("kind-node/build") => Order::Node,
        Some(recipe) if recipe.ends_with("debian") => Order::Bases,
        _ => Order::Builders,
    };
    let Some(recipe) = recipe else {
        return Mend { command: by_hand, steps: vec![Step::Run(pull)], order };
    };
    let make = Tool::new(recipe).args(["--engine", engine, name]).limit(RECIPE);
    let packages: Vec<_> = RECIPES
        .iter()
        .map(|package| package.name)
        .filter(|name| !machine.packages.contains(name))
        .collect();
    let installing = if machine.apt { install_steps(&packages) } else { Vec::new() };
    let command = format!("{by_hand} || {make}");
    let fetch = Fetch {
        registry: images::registry(name).to_owned(),
        ask: Tool::new(engine).args(["manifest", "inspect", name]).limit(REGISTRY_ANSWERS),
        pull,
        otherwise: installing.into_iter().chain([Step::Run(make)]).collect(),
    };
    Mend { command, steps: vec![Step::Fetch(Box::new(fetch))], order }
}

fn shown((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests;
