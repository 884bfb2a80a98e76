//! What else is on this machine: holders of ports, clusters, images nobody needs, another engine, a
//! KUBECONFIG that leads nowhere.

use std::path::{Path, PathBuf};

use super::super::machine::Machine;
use super::super::mend::{Mend, Order, Step};
use super::{Finding, Needs, State, advice, cannot, fault, finding, fine, note};
use crate::port::Holder;
use crate::process::Tool;
use crate::text::{bytes, plural};

/// Old images that are fewer than this are not worth a word.
const OLD_IMAGES: u64 = 20;

pub(super) fn around(machine: &Machine, needs: &Needs) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        needs.ports.iter().map(|number| finding("port", port(*number, machine, needs))).collect();
    let of = |check, states: Vec<State>| states.into_iter().map(move |state| finding(check, state));
    findings.extend(of("cluster", clusters(machine, needs)));
    findings.extend(of("images", images(machine)));
    findings.extend(of("engines", engines(machine)));
    findings.extend(of("kubeconfig", kubeconfig(machine)));
    findings
}

fn port(number: u16, machine: &Machine, needs: &Needs) -> State {
    const WHY: &str = "the suite's services are reached there";
    let Some(holder) = machine.ports_taken.get(&number) else {
        return fine(format!("{number} is free"));
    };
    let engine = machine.engine.kind.name();
    let cluster = machine.clusters.iter().find(|cluster| cluster.ports.contains(&number));
    match (cluster, holder) {
        (Some(cluster), _) if needs.clusters.contains(&cluster.name) => {
            fine(format!("{number} is held by our cluster `{}`", cluster.name))
        }
        (Some(cluster), _) => cannot(
            format!("port {number} is held by the kind cluster `{}`", cluster.name),
            WHY,
            delete_cluster(machine, &cluster.name),
        ),
        (None, holder) => cannot(
            format!("port {number} is held by {holder}"),
            WHY,
            match holder {
                Holder::Container(name) => format!("{engine} stop {name}"),
                Holder::Process { pid, .. } => format!("kill {pid}"),
                Holder::OtherUser => format!("sudo ss -ltnp 'sport = :{number}'"),
            },
        ),
    }
}

fn delete_cluster(machine: &Machine, name: &str) -> String {
    let provider = machine.engine.kind.name();
    let delete = Tool::new("kind").args(["delete", "cluster", "--name", name]);
    delete.env("KIND_EXPERIMENTAL_PROVIDER", provider).to_string()
}

fn clusters(machine: &Machine, needs: &Needs) -> Vec<State> {
    const COSTS: &str = "it takes about a gigabyte of the memory builds could have";
    let told = machine.clusters.iter().filter_map(|cluster| {
        let name = &cluster.name;
        if needs.clusters.contains(name) {
            return (!cluster.running).then(|| {
                note(
                    format!("our cluster `{name}` is stopped"),
                    "the next run of its suite starts it again, or makes it anew",
                )
            });
        }
        let why = if cluster.running { COSTS } else { "it keeps its disk" };
        let state = if cluster.running { "runs" } else { "is stopped" };
        let home = machine.ours.makers.get(name).map(PathBuf::as_path);
        Some(match home.map(|home| (home, is_gone(home))) {
            Some((home, true)) => advice(
                format!(
                    "the cluster `{name}` {state}; its checkout is gone (`{}`)",
                    home.display()
                ),
                why,
                delete_cluster(machine, name),
            ),
            Some((home, false)) => note(
                format!("the cluster `{name}` of another checkout {state} (`{}`)", home.display()),
                why,
            ),
            None => note(format!("another kind cluster {state}: `{name}`"), why),
        })
    });
    told.collect()
}

/// Whether a checkout is gone, by its `target/xtask`, which `cargo clean` may have taken.
fn is_gone(home: &Path) -> bool {
    home.ancestors().take(3).all(|folder| !folder.exists())
}

fn images(machine: &Machine) -> Vec<State> {
    const WHY: &str = "every listing of images fails while such an image is there";
    let engine = machine.engine.kind.name();
    let remove = |ids: &[String]| Tool::new(engine).arg("rmi").args(ids);
    let (ours, others) = (&machine.ours.half_written, &machine.ours.half_written_by_others);
    let half = |ids: &[String]| {
        let short: Vec<_> = ids.iter().map(|id| id.get(..12).unwrap_or(id)).collect();
        format!("left half-written: {}", short.join(", "))
    };
    let mut states = Vec::new();
    if !ours.is_empty() {
        let (command, steps) = (remove(ours).to_string(), vec![Step::Run(remove(ours))]);
        states.push(fault(half(ours), WHY, Mend { command, steps, order: Order::Host }));
    }
    if !others.is_empty() {
        states.push(cannot(half(others), WHY, remove(others).to_string()));
    }
    let (count, size) = machine.ours.old_images;
    if count >= OLD_IMAGES {
        states.push(advice(
            format!("{} of earlier builds, up to {}", plural(count, "image"), bytes(size)),
            "they fill the disk and slow every listing of images down",
            "cargo xtask gc",
        ));
    }
    states
}

fn engines(machine: &Machine) -> Vec<State> {
    let used = machine.engine.kind.name();
    let mut states = Vec::new();
    if machine.engine.other {
        states.push(advice(
            format!("podman and docker are both here; {used} is used"),
            "images built by the one are not seen by the other",
            format!("say it in xtask.toml: [engine] name = \"{used}\""),
        ));
    }
    let provider = machine.pointers.get("KIND_EXPERIMENTAL_PROVIDER").map(String::as_str);
    // Left to itself, kind takes docker first.
    let by_hand = provider.or(machine.engine.other.then_some("docker"));
    if let Some(other) = by_hand.filter(|other| *other != used) {
        states.push(advice(
            format!("a `kind` typed by hand asks {other}, runs use {used}"),
            "it does not see the suites' clusters",
            format!("export KIND_EXPERIMENTAL_PROVIDER={used}"),
        ));
    }
    for name in machine.engine.kind.turned_by() {
        let Some(value) = machine.pointers.get(name) else { continue };
        states.push(advice(
            format!("{name} is `{value}`"),
            "builds and clusters are where it leads: memory, disk and ports of this host do not count there",
            format!("unset {name}"),
        ));
    }
    states
}

/// Runs use none of it; these are traps for what a person types meanwhile.
fn kubeconfig(machine: &Machine) -> Vec<State> {
    let kubeconfig = &machine.kubeconfig;
    let mut states = Vec::new();
    let missing = kubeconfig.files.iter().filter(|(_, there)| !there);
    for (file, _) in missing {
        states.push(advice(
            format!("KUBECONFIG names `{}`, which is not there", file.display()),
            "kubectl falls back to localhost:8080 and reports a refused connection; runs use files of their own",
            "unset KUBECONFIG",
        ));
    }
    if kubeconfig.files.len() > 1 {
        states.push(note(
            format!("KUBECONFIG names {} files", kubeconfig.files.len()),
            "kubectl merges them, and writes to the first that is there; runs use files of their own",
        ));
    }
    states
}
