//! `[clusters.NAME]`: one that is made with kind, or, with `kubeconfig`, one that others run.

use std::collections::BTreeMap;

use super::document::At;
use super::table::Table;
use super::{Cluster, Existing, Reuse, check, defaults};

/// More would be no test on one machine.
const NODES: u16 = 9;

/// What says how a cluster is made, and so nothing about one that is there.
const MAKING: [&str; 5] = ["node-image", "reuse", "config", "nodes", "timeout"];

/// What says something of one that is there, and means nothing without `kubeconfig`.
const USING: [&str; 5] = ["context", "server", "address", "owner", "ttl"];

pub(super) fn clusters(outermost: &mut Table<'_>) -> BTreeMap<String, Cluster> {
    let mut clusters = BTreeMap::new();
    let mut names: Vec<(At<String>, String)> = Vec::new();
    for (key, mut table) in outermost.named("clusters", "cluster") {
        let name = table
            .string("name")
            .map_or_else(|| key.clone().map(str::to_owned), |name| name.map(str::to_owned));
        check::cluster_name(&table, &name);
        if let Some((_, other)) = names.iter().find(|(taken, _)| taken.value == name.value) {
            let message = format!("`{}` is what cluster `{other}` is called too", name.value);
            table.fault(&name.place, message, None);
        }
        names.push((name.clone(), key.value.to_owned()));
        clusters.insert(key.value.to_owned(), cluster(&mut table, name.value));
        table.end();
    }
    clusters
}

fn cluster(table: &mut Table<'_>, name: String) -> Cluster {
    let existing = existing(table);
    let reuse = [("if-unchanged", Reuse::IfUnchanged), ("never", Reuse::Never)];
    let node_image = table.string("node-image").map_or(defaults::NODE_IMAGE, |image| image.value);
    Cluster {
        name,
        node_image: node_image.to_owned(),
        reuse: table.choice("reuse", &reuse).unwrap_or(defaults::CLUSTER_REUSE),
        config: table
            .path("config")
            .inspect(|config| check::is_file(table, "config", config))
            .map(|config| config.value),
        nodes: table.number("nodes", 1..=NODES).map(|nodes| nodes.value),
        // What others run takes none of this machine's memory that we know of.
        memory: table.size("memory").unwrap_or(if existing.is_some() {
            0
        } else {
            defaults::CLUSTER_MEMORY
        }),
        existing,
        timeout: table
            .duration("timeout")
            .map_or(defaults::CLUSTER_TIMEOUT, |timeout| timeout.value),
    }
}

fn existing(table: &mut Table<'_>) -> Option<Existing> {
    let kubeconfig = table.path("kubeconfig");
    let mut text = |key| table.string(key).map(|text| text.map(str::to_owned));
    let [context, server, address, owner] =
        ["context", "server", "address", "owner"].map(&mut text);
    let ttl = table.duration("ttl").map_or(defaults::CLUSTER_TTL, |ttl| ttl.value);
    if !table.has("kubeconfig") {
        if let Some(key) = USING.into_iter().find(|key| table.has(key)) {
            table.missing(&format!("`{key}` belongs to `kubeconfig`"), None);
        }
        return None;
    }
    for (key, hint) in [
        ("context", "`kubectl config get-contexts` lists them"),
        ("server", "`kubectl config view --minify --context NAME` shows it"),
        (
            "owner",
            "a name for who runs these suites there, as a label's value: `owner = \"team-a\"`",
        ),
    ] {
        if !table.has(key) {
            let message = format!("a cluster that is there needs its `{key}` named");
            table.missing(&message, Some(hint.to_owned()));
        }
    }
    for key in MAKING.into_iter().filter(|key| table.has(key)) {
        table.missing(
            &format!("`{key}` belongs to a cluster that is made, not to one that is there"),
            None,
        );
    }
    if let Some(owner) = &owner {
        check::label(table, "owner", owner);
    }
    let kubeconfig = kubeconfig?;
    check::is_file(table, "kubeconfig", &kubeconfig);
    let value = |text: Option<At<String>>| text.map(|text| text.value);
    Some(Existing {
        kubeconfig: kubeconfig.value,
        context: value(context).unwrap_or_default(),
        server: value(server).unwrap_or_default(),
        address: value(address),
        owner: value(owner).unwrap_or_default(),
        ttl,
    })
}
