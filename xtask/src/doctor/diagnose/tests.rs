//! A healthy machine, and what each departure from it is called.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::EngineName;
use crate::doctor::containers_conf::ContainersConf;
use crate::doctor::images::Held;
use crate::doctor::kind_clusters::KindCluster;
use crate::doctor::machine::{Cgroup, Engine, Limits, Memory, Tools};

const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";
const NODE: &str = "docker.io/kindest/node:v1.34.4";

fn healthy() -> Machine {
    Machine {
        os: Os::Linux,
        root: true,
        apt: true,
        engine: Engine {
            kind: EngineKind::Podman,
            installed: true,
            silent: None,
            version: Some((4, 3)),
            other: false,
        },
        packages: PODMAN.iter().chain(&RECIPES).map(|package| package.name).collect(),
        cgroup: Cgroup::V2,
        limits: Limits { open_files: 20_000, processes: 30_000, may_raise: true },
        conf: ContainersConf { drop_in: "/etc/d/xtask.conf".into(), ..Default::default() },
        proof: Proof::Works,
        images: [DEBIAN, NODE].map(|name| (name.to_owned(), Held::default())).into(),
        recipes: BTreeMap::from([
            (DEBIAN.to_owned(), "/w/images/bases/debian".into()),
            (NODE.to_owned(), "/w/images/kind-node/build".into()),
        ]),
        tools: Tools {
            kind: Some((0, 33)),
            kubectl: Some("/usr/bin/kubectl".into()),
            helm: Some("/usr/local/bin/helm".into()),
            go: Some("/usr/local/go/bin/go".into()),
            folder: "/usr/local/bin".into(),
        },
        clusters: Vec::new(),
        ports_taken: Vec::new(),
        lib_modules: true,
        memory: Memory { available: Some(8 << 30), engine: None },
        disks: vec![("/w".into(), 50 << 30)],
        kubeconfig: None,
        inotify_instances: Some(128),
    }
}

/// Findings of the healthy machine after `change`, but for those that are fine.
fn troubled(change: impl FnOnce(&mut Machine)) -> Vec<Finding> {
    let mut machine = healthy();
    change(&mut machine);
    let text = |text: &str| [text.to_owned()];
    let needs = Needs {
        engine: EngineName::Auto,
        bases: &text("debian:bookworm-slim"),
        node_images: &text(NODE),
        clusters: &text("ours"),
        ports: &[30080],
        kind: true,
        helm: true,
        root: Path::new("/w"),
        state: Path::new("/s"),
    };
    let mut findings = diagnose(&machine, &needs);
    findings.retain(|finding| !matches!(finding.state, State::Fine { .. }));
    findings
}

/// A finding in one line: `check fault: what => command`.
fn line(finding: &Finding) -> String {
    let (kind, what, end) = match &finding.state {
        State::Fine { detail } => ("fine", detail, ""),
        State::Note { what, .. } => ("note", what, ""),
        State::Fault { what, mend, .. } => ("fault", what, mend.command.as_str()),
        State::CannotMend { what, how, .. } => ("cannot", what, how.as_str()),
    };
    format!("{} {kind}: {what} => {end}", finding.check)
}

fn cluster(name: &str, running: bool, ports: &[u16]) -> KindCluster {
    KindCluster { name: name.into(), running, ports: ports.to_vec() }
}

fn without(packages: &BTreeSet<&'static str>, gone: &str) -> BTreeSet<&'static str> {
    packages.iter().copied().filter(|name| *name != gone).collect()
}

type Change = fn(&mut Machine);

#[test]
fn a_healthy_machine_has_nothing_to_say() {
    assert_eq!(troubled(|_| {}).iter().map(line).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_fault_has_its_words_and_its_one_command() {
    let table: [(Change, &str); 13] = [
        (
            |machine| machine.tools.kind = Some((0, 20)),
            "kind fault: kind 0.20 is older than 0.30 => \
             GOBIN=/usr/local/bin go install sigs.k8s.io/kind@v0.33.0",
        ),
        (
            |machine| (machine.tools.kind, machine.tools.go) = (None, None),
            "kind cannot: kind is not installed => install Go (https://go.dev/doc/install), then: \
             go install sigs.k8s.io/kind@v0.33.0",
        ),
        (
            |machine| machine.tools.helm = None,
            "helm fault: helm is not installed => GOBIN=/usr/local/bin \
             go install helm.sh/helm/v3/cmd/helm@v3.22.0",
        ),
        (
            |machine| machine.tools.kubectl = None,
            "kubectl fault: kubectl is not installed => podman run --rm --network none \
             --security-opt label=disable --volume /usr/local/bin:/out --entrypoint cp \
             docker.io/kindest/node:v1.34.4 --dereference /usr/bin/kubectl /out/",
        ),
        (
            |machine| (machine.lib_modules, machine.root) = (false, false),
            "lib-modules fault: there is no /lib/modules => sudo mkdir -p /lib/modules",
        ),
        (
            |machine| drop(machine.images.remove(DEBIAN)),
            "base-image fault: docker.io/library/debian:bookworm-slim is not there => podman pull \
             docker.io/library/debian:bookworm-slim || /w/images/bases/debian --engine podman \
             docker.io/library/debian:bookworm-slim",
        ),
        (
            |machine| drop((machine.images.remove(NODE), machine.recipes.remove(NODE))),
            "node-image fault: docker.io/kindest/node:v1.34.4 is not there => podman pull \
             docker.io/kindest/node:v1.34.4",
        ),
        (
            |machine| machine.packages = without(&machine.packages, "netavark"),
            "packages fault: not installed: netavark => apt-get update && apt-get install --yes \
             --no-install-recommends netavark",
        ),
        (
            |machine| machine.engine.version = Some((3, 4)),
            "engine cannot: podman 3.4 is too old => install podman 4.3 or later",
        ),
        (
            |machine| machine.ports_taken = vec![30080],
            "port cannot: port 30080 is in use => end what listens there: ss -ltnp 'sport = :30080'",
        ),
        (
            |machine| machine.memory.available = Some(1 << 30),
            "memory cannot: 1.0 GiB of memory => \
             end what takes the memory: ps aux --sort=-rss | head",
        ),
        (
            |machine| machine.disks = vec![("/w".into(), 1 << 30)],
            "disk cannot: 1.0 GiB free at /w => \
             cargo clean, or what `podman system df` shows as reclaimable",
        ),
        (
            |machine| machine.kubeconfig = Some("/home/me/.kube/config".into()),
            "kubeconfig note: KUBECONFIG is `/home/me/.kube/config` => ",
        ),
    ];
    for (change, expected) in table {
        assert_eq!(troubled(change).iter().map(line).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn a_bare_machine_is_told_everything_at_once_and_packages_come_first() {
    let found = troubled(|machine| {
        machine.engine = Engine { installed: false, version: None, ..machine.engine.clone() };
        machine.packages.clear();
        machine.images.clear();
        machine.tools.kind = None;
        machine.tools.kubectl = None;
        machine.lib_modules = false;
        machine.proof = Proof::Untried;
        machine.limits.may_raise = false;
    });
    let mut mends: Vec<_> =
        found.iter().map(|finding| (finding.mend().unwrap(), finding)).collect();
    mends.sort_by_key(|(mend, _)| mend.order);
    let checks: Vec<_> = mends.iter().map(|(_, finding)| finding.check).collect();
    let expected =
        ["engine", "lib-modules", "containers", "kind", "base-image", "node-image", "kubectl"];
    assert_eq!(checks, expected);
}

#[test]
fn what_keeps_containers_from_starting_is_cured_where_it_can_be() {
    let fails: Change = |machine| machine.proof = Proof::Fails("no such thing".into());
    let bound: Change = |machine| {
        machine.proof = Proof::Fails("rlimits".into());
        machine.limits.may_raise = false;
    };
    let found = troubled(fails);
    assert!(line(&found[0]).starts_with("containers cannot: no such thing => "), "{found:?}");

    let found = troubled(bound);
    let Some(mend) = found[0].mend() else { panic!("{found:?}") };
    let [Step::Write { file, text }] = &mend.steps[..] else { panic!("{mend:?}") };
    assert_eq!(file, Path::new("/etc/d/xtask.conf"));
    assert!(text.contains(r#"default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]"#));

    // The cure is in place already and did not help: it is not tried for ever.
    let text = text.clone();
    let found = troubled(|machine| {
        bound(machine);
        let file = machine.conf.drop_in.clone();
        machine.conf.read(&text, &file);
        machine.conf.drop_in_text = Some(text);
    });
    assert!(line(&found[0]).starts_with("containers cannot: rlimits => "), "{found:?}");

    // A person's own setting is theirs to change.
    let found = troubled(|machine| {
        bound(machine);
        let theirs = "[containers]\ndefault_ulimits = [\"nofile=99999\"]";
        machine.conf.read(theirs, Path::new("/etc/containers/containers.conf"));
    });
    let how = "say in `/etc/containers/containers.conf`:\n[containers]\ndefault_ulimits =";
    assert!(line(&found[0]).contains(how), "{found:?}");
}

#[test]
fn ports_and_clusters_are_told_apart_by_whose_they_are() {
    let held = |name: &'static str| {
        troubled(move |machine| {
            machine.ports_taken = vec![30080];
            machine.clusters = vec![cluster(name, true, &[30080])];
        })
    };
    assert!(held("ours").is_empty());
    let theirs: Vec<_> = held("theirs").iter().map(line).collect();
    assert_eq!(
        theirs,
        [
            "port cannot: port 30080 is held by the kind cluster `theirs` => \
             kind delete cluster --name theirs",
            "cluster note: another kind cluster runs: `theirs` => ",
        ]
    );
    let stopped = troubled(|machine| machine.clusters = vec![cluster("ours", false, &[])]);
    assert_eq!(line(&stopped[0]), "cluster note: our cluster `ours` is stopped => ");
}

#[test]
fn elsewhere_than_on_linux_only_advice_is_given() {
    for (os, kind) in [
        (Os::Mac, EngineKind::Podman),
        (Os::Mac, EngineKind::Docker),
        (Os::Windows, EngineKind::Podman),
        (Os::Windows, EngineKind::Docker),
    ] {
        let found = troubled(|machine| {
            machine.os = os;
            machine.engine.kind = kind;
            machine.engine.installed = false;
            machine.memory = Memory { available: None, engine: Some(1 << 30) };
        });
        let checks: Vec<_> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["engine", "memory"]);
        assert!(found.iter().all(|finding| matches!(finding.state, State::CannotMend { .. })));
    }
}

#[test]
fn a_stand_in_is_mentioned() {
    let found = troubled(|machine| {
        let held = Held { stand_in: Some("debian bookworm by debootstrap".into()) };
        machine.images.insert(DEBIAN.into(), held);
    });
    let expected =
        format!("base-image note: {DEBIAN} is a stand-in: debian bookworm by debootstrap => ");
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), [expected]);
}
