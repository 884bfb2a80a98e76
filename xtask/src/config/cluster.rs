//! `[clusters.NAME]`: one that is made with kind, or, with `kubeconfig`, one that others run.

use std::collections::BTreeMap;

use super::document::At;
use super::table::Table;
use super::{Cluster, Existing, Reuse, check, defaults};

/// More would be no test on one machine.
const NODES: u16 = 9;

/// What says how a cluster is made, and so nothing about one that is there.
const MAKING: [&str; 5] = ["node-image", "reuse", "config", "nodes", "timeout"];

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
    let context = table.string("context").map(|context| context.value.to_owned());
    let address = table.string("address").map(|address| address.value.to_owned());
    if !table.has("kubeconfig") {
        if table.has("context") || table.has("address") {
            table.missing("`context` and `address` belong to `kubeconfig`", None);
        }
        return None;
    }
    if !table.has("context") {
        let hint = "`kubectl config get-contexts` lists them".to_owned();
        table.missing("a cluster that is there needs its `context` named", Some(hint));
    }
    for key in MAKING.into_iter().filter(|key| table.has(key)) {
        table.missing(
            &format!("`{key}` belongs to a cluster that is made, not to one that is there"),
            None,
        );
    }
    let kubeconfig = kubeconfig?;
    check::is_file(table, "kubeconfig", &kubeconfig);
    Some(Existing { kubeconfig: kubeconfig.value, context: context.unwrap_or_default(), address })
}
