//! Versions that do not go together, or with anything.

use super::super::machine::{Cgroup, Machine, Os};
use super::super::versions::{BROKEN, Broken};
use super::{Finding, advice, cannot, finding, fine, shown};

pub(super) fn versions(machine: &Machine) -> Vec<Finding> {
    let broken = BROKEN.iter().filter(|broken| broken.is_here(|name| machine.version(name)));
    let mut states: Vec<_> = broken.map(|broken| is_broken(machine, broken)).collect();
    let facts = machine.facts();
    if states.is_empty() && facts.is_some() {
        let runtime = facts.map(|facts| facts.runtime.as_str());
        let programs = [Some(machine.engine.kind.name()), runtime, Some("conmon"), Some("kind")];
        let known = programs.into_iter().flatten().filter_map(|name| {
            machine.version(name).map(|version| format!("{name} {}", shown(version)))
        });
        let known = known.collect::<Vec<_>>().join(", ");
        states.push(fine(format!("none known to be broken: {known}")));
    }
    states.extend(containerd_store(machine));
    states.into_iter().map(|state| finding("versions", state)).collect()
}

fn is_broken(machine: &Machine, broken: &Broken) -> super::State {
    let (program, fixed) = (broken.program, shown(broken.fixed));
    let here = machine.version(program).map(shown).unwrap_or_default();
    let beside = broken.beside.and_then(|(name, _)| Some((name, machine.version(name)?)));
    let beside = beside.map(|(name, version)| format!(" beside {name} {}", shown(version)));
    let what =
        format!("{program} {here}{} is known to be broken", beside.as_deref().unwrap_or_default());
    let why = format!("{} ({})", broken.harm, broken.reported);
    let how = if machine.apt {
        format!("apt-get install --only-upgrade {program}    # {fixed} or later")
    } else if machine.os == Os::Mac {
        format!("brew upgrade {program}    # {fixed} or later")
    } else {
        format!("install {program} {fixed} or later by your package manager")
    };
    cannot(what, &why, how)
}

/// Only kind's own command fails there: runs import without `--all-platforms`.
fn containerd_store(machine: &Machine) -> Option<super::State> {
    let facts = machine.facts().filter(|facts| facts.containerd_store)?;
    Some(advice(
        format!("docker {} keeps images in containerd's store", facts.version),
        "there `kind load docker-image` ends with `content digest … not found` \
         (kubernetes-sigs/kind#3795, kubernetes-sigs/kind#4066); runs load images another way",
        "cargo xtask e2e SUITE --no-test --keep",
    ))
}

/// From 1.35 on a kubelet ends at once on cgroup v1 (kubernetes/kubernetes#134298).
pub(super) fn kubelet_refuses(cgroup: Cgroup, node_image: &str) -> bool {
    let tag = node_image.rsplit(':').next().unwrap_or_default();
    let version = super::super::machine::read_version(tag);
    cgroup == Cgroup::V1 && version.is_some_and(|version| version >= (1, 35, 0))
}
