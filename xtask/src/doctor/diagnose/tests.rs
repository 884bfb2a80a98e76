//! A healthy machine, and what each departure from it is called.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::EngineName;
use crate::doctor::containers::KindCluster;
use crate::doctor::containers_conf::ContainersConf;
use crate::doctor::images::Held;
use crate::doctor::machine::{
    Cgroup, Disk, Engine, Inotify, Kubeconfig, Limits, Ours, Tools, read_version,
};
use crate::doctor::upkeep;
use crate::engine::Facts;
use crate::port::Holder;

static STATE: std::sync::LazyLock<crate::private::PrivatePath> =
    std::sync::LazyLock::new(|| crate::private::PrivatePath::below(Path::new("/"), "s"));

const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";
const NODE: &str = "docker.io/kindest/node:v1.34.4";

fn healthy() -> Machine {
    Machine {
        os: Os::Linux,
        root: true,
        apt: true,
        engine: Engine {
            kind: upkeep::PODMAN,
            installed: true,
            silent: None,
            version: Some((4, 3, 1)),
            other: false,
        },
        packages: PODMAN.iter().chain(&RECIPES).map(|package| package.name).collect(),
        cgroup: Cgroup::V2,
        limits: Limits {
            open_files: 20_000,
            processes: 30_000,
            may_raise: true,
            group_processes: None,
        },
        conf: ContainersConf { drop_in: "/etc/d/xtask.conf".into(), ..Default::default() },
        proof: Proof::Works,
        images: [DEBIAN, NODE].map(|name| (name.to_owned(), Held::default())).into(),
        recipes: BTreeMap::from([
            (DEBIAN.to_owned(), "/w/images/bases/debian".into()),
            (NODE.to_owned(), "/w/images/kind-node/build".into()),
        ]),
        tools: Tools {
            kind: Some((0, 33, 0)),
            kubectl: Some("/usr/bin/kubectl".into()),
            helm: Some("/usr/local/bin/helm".into()),
            go: Some("/usr/local/go/bin/go".into()),
            folder: "/usr/local/bin".into(),
        },
        clusters: Vec::new(),
        ports_taken: BTreeMap::new(),
        lib_modules: true,
        available: Some(8 << 30),
        disks: vec![disk("images", 50 << 30), disk("target", 50 << 30)],
        kubeconfig: Kubeconfig::default(),
        inotify: Inotify { instances: Some(128), in_use: 3, watches: Some(65_536) },
        ours: Ours { facts: Some(facts()), ..Ours::default() },
        pointers: BTreeMap::new(),
    }
}

fn disk(what: &'static str, free: u64) -> Disk {
    Disk { uses: vec![(what, Path::new("/").join(what))], free, files: Some(1 << 20) }
}

fn facts() -> Facts {
    Facts {
        version: "4.3.1".into(),
        platform: "linux/amd64".into(),
        memory_total: 16 << 30,
        memory_free: None,
        cpus: 2,
        disk_free: None,
        graph_root: Some("/store".into()),
        store_driver: "overlay".into(),
        cgroup_version: 2,
        cgroup_manager: "systemd".into(),
        rootless: false,
        remote: false,
        runtime: "runc".into(),
        runtime_version: Some("1.1.5".into()),
        conmon_version: Some("2.1.6".into()),
        places: vec!["/store".into(), "/store/volumes".into()],
        containerd_store: false,
    }
}

/// A machine whose engine says of itself what `change` makes of the usual.
fn with_facts(machine: &mut Machine, change: impl FnOnce(&mut Facts)) {
    let mut facts = facts();
    change(&mut facts);
    machine.ours.facts = Some(facts);
}

fn podman_version(machine: &mut Machine, version: &str) {
    machine.engine.version = read_version(version);
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
        state: &STATE,
    };
    let mut findings = diagnose(&machine, &needs);
    findings.retain(|finding| !matches!(finding.state, State::Fine { .. }));
    findings
}

/// A finding in one line: `check fault: what => command`.
fn line(finding: &Finding) -> String {
    let (kind, what, end) = match &finding.state {
        State::Fine { detail } => ("fine", detail, ""),
        State::Note { what, how, .. } => ("note", what, how.as_deref().unwrap_or("")),
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
    let table: [(Change, &str); 9] = [
        (
            |machine| machine.tools.kind = Some((0, 20, 0)),
            "kind fault: kind 0.20.0 is older than 0.30.0 => \
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
            |machine| podman_version(machine, "3.4.4"),
            "engine cannot: podman 3.4.4 is too old => install podman 4.0.0 or later",
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
            machine.ports_taken =
                [(30080, Holder::Container(format!("{name}-control-plane")))].into();
            machine.clusters = vec![cluster(name, true, &[30080])];
        })
    };
    assert!(held("ours").is_empty());
    let theirs: Vec<_> = held("theirs").iter().map(line).collect();
    assert_eq!(
        theirs,
        [
            "port cannot: port 30080 is held by the kind cluster `theirs` => \
             KIND_EXPERIMENTAL_PROVIDER=podman kind delete cluster --name theirs",
            "cluster note: another kind cluster runs: `theirs` => ",
        ]
    );
    let stopped = troubled(|machine| machine.clusters = vec![cluster("ours", false, &[])]);
    assert_eq!(line(&stopped[0]), "cluster note: our cluster `ours` is stopped => ");
}

#[test]
fn elsewhere_than_on_linux_only_advice_is_given() {
    for (os, kind) in [
        (Os::Mac, upkeep::PODMAN),
        (Os::Mac, upkeep::DOCKER),
        (Os::Windows, upkeep::PODMAN),
        (Os::Windows, upkeep::DOCKER),
    ] {
        let found = troubled(|machine| {
            machine.os = os;
            machine.engine.kind = kind;
            machine.engine.installed = false;
            machine.available = None;
            with_facts(machine, |facts| (facts.remote, facts.memory_total) = (true, 1 << 30));
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

/// Each trap of the machine, a line each.
fn found(table: &[(Change, &str)]) {
    for (change, expected) in table {
        let lines: Vec<_> = troubled(change).iter().map(line).collect();
        assert_eq!(lines, [*expected]);
    }
}

#[test]
fn a_version_known_to_be_broken_is_named_with_the_one_that_is_not() {
    let apt = "apt-get install --only-upgrade";
    for (version, expected) in [
        ("4.7.2", None),
        ("4.8.0", Some(("podman 4.8.0", "podman    # 4.8.1 or later"))),
        ("4.8.1", None),
        ("5.5.0", Some(("podman 5.5.0", "podman    # 5.5.1 or later"))),
        ("5.6.1", Some(("podman 5.6.1", "podman    # 5.6.2 or later"))),
        ("5.6.2", None),
    ] {
        let expected = expected.map(|(what, how)| {
            format!("versions cannot: {what} is known to be broken => {apt} {how}")
        });
        let lines: Vec<_> =
            troubled(|machine| podman_version(machine, version)).iter().map(line).collect();
        assert_eq!(lines, Vec::from_iter(expected), "{version}");
    }
    let conmon = troubled(|machine| {
        with_facts(machine, |facts| facts.conmon_version = Some("2.1.9".into()));
    });
    let State::CannotMend { why, .. } = &conmon[0].state else { panic!("{conmon:?}") };
    assert!(why.contains("(containers/conmon#475)"), "{why}");
}

#[test]
fn an_old_crun_is_broken_only_beside_a_new_podman_and_runc_takes_its_place() {
    let crun = |podman: &'static str, runc: bool, proof: Proof| {
        troubled(move |machine| {
            podman_version(machine, podman);
            with_facts(machine, |facts| {
                (facts.runtime, facts.runtime_version) = ("crun".into(), Some("1.14.1".into()));
            });
            machine.conf.runc = runc;
            machine.proof = proof;
        })
    };
    assert!(crun("4.9.3", true, Proof::Works).is_empty());
    let fails = || Proof::Fails("crun: unknown version specified".into());
    let found = crun("5.8.4", true, fails());
    let lines: Vec<_> = found.iter().map(line).collect();
    assert!(
        lines[0].starts_with("versions cannot: crun 1.14.1 beside podman 5.8.4 is"),
        "{lines:?}"
    );
    let Some(mend) = found[1].mend() else { panic!("{lines:?}") };
    assert!(mend.command.contains("'runtime = \"runc\"'"), "{}", mend.command);
    assert!(crun("5.8.4", false, fails())[1].mend().is_none(), "nothing to take instead");
}

#[test]
fn dockers_other_store_is_told_of() {
    let found = troubled(|machine| {
        machine.engine.kind = upkeep::DOCKER;
        with_facts(machine, |facts| {
            (facts.version, facts.containerd_store) = ("29.1.3".into(), true);
        });
    });
    let expected = "versions note: docker 29.1.3 keeps images in containerd's store => \
                    cargo xtask e2e SUITE --no-test --keep";
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), [expected]);
}

#[test]
fn room_is_looked_for_wherever_a_run_needs_it() {
    found(&[
        (
            |machine| machine.available = Some(1 << 30),
            "memory cannot: free: 1.0 GiB of memory => \
             end what takes the memory: ps aux --sort=-rss | head",
        ),
        (
            |machine| {
                with_facts(machine, |facts| (facts.remote, facts.memory_total) = (true, 1 << 30));
            },
            "memory cannot: the engine has 1.0 GiB of memory => \
             podman machine stop && podman machine set --memory 8192 && podman machine start",
        ),
        (
            |machine| machine.disks = vec![disk("target", 1 << 30)],
            "disk cannot: 1.0 GiB free for target (/target) => cargo clean",
        ),
        (
            |machine| machine.disks = vec![Disk { files: Some(900), ..disk("images", 50 << 30) }],
            "disk cannot: room for 900 more files, of images (/images) => cargo xtask gc, then what \
             `podman system df` or `docker system df` shows as reclaimable",
        ),
        (
            |machine| (machine.limits.may_raise, machine.limits.open_files) = (false, 1024),
            "limits cannot: at most 1024 open files and 30000 processes => as root, for the next \
             login: printf '* hard nofile 65536\\n* hard nproc 65536\\n' > \
             /etc/security/limits.d/xtask.conf",
        ),
        (
            |machine| machine.limits.group_processes = Some(512),
            "cgroup cannot: our control group allows 512 processes => give the container or service \
             we run in more: `--pids-limit=-1`, or `TasksMax=infinity`",
        ),
        (
            |machine| machine.inotify.in_use = 100,
            "inotify fault: 100 of 128 instances in use, 65536 watches; a cluster takes up to 40 \
             instances => sysctl -w fs.inotify.max_user_instances=512 \
             fs.inotify.max_user_watches=524288",
        ),
        (
            |machine| (machine.inotify.watches, machine.root) = (Some(8192), false),
            "inotify fault: 3 of 128 instances in use, 8192 watches; a cluster takes up to 40 \
             instances => sudo sysctl -w fs.inotify.max_user_instances=512 \
             fs.inotify.max_user_watches=524288",
        ),
        (
            |machine| {
                machine.cgroup = Cgroup::V1;
                with_facts(machine, |facts| facts.rootless = true);
            },
            "cgroup cannot: a rootless engine on cgroup v1 => run as root, or boot with \
             systemd.unified_cgroup_hierarchy=1",
        ),
    ]);
}

#[test]
fn a_new_kubelet_refuses_old_cgroups() {
    use super::versions::kubelet_refuses;
    for (cgroup, image, refuses) in [
        (Cgroup::V1, "docker.io/kindest/node:v1.35.0", true),
        (Cgroup::V1, "docker.io/kindest/node:v1.34.4", false),
        (Cgroup::V2, "docker.io/kindest/node:v1.35.0", false),
        (Cgroup::V1, "localhost/node:mine", false),
    ] {
        assert_eq!(kubelet_refuses(cgroup, image), refuses, "{image}");
    }
}

#[test]
fn a_taken_port_names_its_holder_and_how_to_have_it_back() {
    found(&[
        (
            |machine| {
                let holder = Holder::Process { pid: 812, name: "nginx".into() };
                machine.ports_taken = [(30080, holder)].into();
            },
            "port cannot: port 30080 is held by `nginx` (process 812) => kill 812",
        ),
        (
            |machine| machine.ports_taken = [(30080, Holder::Container("web".into()))].into(),
            "port cannot: port 30080 is held by container `web` => podman stop web",
        ),
        (
            |machine| machine.ports_taken = [(30080, Holder::OtherUser)].into(),
            "port cannot: port 30080 is held by a process of another user => \
             sudo ss -ltnp 'sport = :30080'",
        ),
    ]);
}

#[test]
fn what_lies_about_is_told_and_only_what_is_ours_is_mended() {
    found(&[
        (
            |machine| {
                machine.clusters = vec![cluster("stray", true, &[])];
                machine.ours.makers = [("stray".into(), "/no/such/target/xtask".into())].into();
            },
            "cluster note: the cluster `stray` runs; its checkout is gone (`/no/such/target/xtask`) => \
             KIND_EXPERIMENTAL_PROVIDER=podman kind delete cluster --name stray",
        ),
        (
            |machine| {
                machine.clusters = vec![cluster("other", false, &[])];
                machine.ours.makers = [("other".into(), "/tmp/target/xtask".into())].into();
            },
            "cluster note: the cluster `other` of another checkout is stopped \
             (`/tmp/target/xtask`) => ",
        ),
        (
            |machine| machine.ours.half_written = vec!["0123456789abcdef".into()],
            "images fault: left half-written: 0123456789ab => podman rmi 0123456789abcdef",
        ),
        (
            |machine| machine.ours.half_written_by_others = vec!["0123456789abcdef".into()],
            "images cannot: left half-written: 0123456789ab => podman rmi 0123456789abcdef",
        ),
        (
            |machine| machine.ours.old_images = (30, 3 << 30),
            "images note: 30 images of earlier builds, up to 3.0 GiB => cargo xtask gc",
        ),
    ]);
}

#[test]
fn two_engines_and_a_foreign_kubeconfig_are_traps_for_what_is_typed_by_hand() {
    found(&[
        (
            |machine| machine.pointers = [("KIND_EXPERIMENTAL_PROVIDER", "docker".into())].into(),
            "engines note: a `kind` typed by hand asks docker, runs use podman => \
             export KIND_EXPERIMENTAL_PROVIDER=podman",
        ),
        (
            |machine| machine.pointers = [("CONTAINER_HOST", "ssh://build".into())].into(),
            "engines note: CONTAINER_HOST is `ssh://build` => unset CONTAINER_HOST",
        ),
        (
            |machine| machine.kubeconfig.files = vec![("/gone".into(), false)],
            "kubeconfig note: KUBECONFIG names `/gone`, which is not there => unset KUBECONFIG",
        ),
        (
            |machine| machine.kubeconfig.files = vec![("/a".into(), true), ("/b".into(), true)],
            "kubeconfig note: KUBECONFIG names 2 files => ",
        ),
    ]);
    let both = troubled(|machine| machine.engine.other = true);
    let lines: Vec<_> = both.iter().map(line).collect();
    assert!(lines[0].starts_with("engines note: podman and docker are both here"), "{lines:?}");
    assert!(lines[1].starts_with("engines note: a `kind` typed by hand asks docker"), "{lines:?}");
    let harmless = troubled(|machine| {
        machine.kubeconfig.files = vec![("/a".into(), true)];
        machine.pointers = [("DOCKER_HOST", "unix:///run/podman.sock".into())].into();
    });
    assert!(harmless.is_empty(), "{harmless:?}");
}
