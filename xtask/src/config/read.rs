//! The file as a whole: its sections, in an order in which every name is known before it is used.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{At, Document};
use super::fault::Faults;
use super::table::Table;
use super::{Cluster, Config, Engine, EngineName, Policy, Reuse};
use super::{check, defaults, image, port, remote, shared, suite};

/// Reads and checks a whole text; `file` names it in messages, and its folder is where paths start.
pub(super) fn config(text: &str, file: &Path) -> Result<Config, Faults> {
    let document = Document::parse(text, file)?;
    let mut outermost = Table::outermost(&document);
    let engine = engine(&mut outermost);
    let images = image::images(&mut outermost);
    let policy = policy(&mut outermost);
    let clusters = clusters(&mut outermost);
    let ports = port::ports(&mut outermost, &keys(&clusters));
    let steps = shared::steps(&mut outermost, &keys(&images), &ports);
    let suites = suite::suites(
        &mut outermost,
        &suite::Known {
            images: &keys(&images),
            clusters: &keys(&clusters),
            ports: &ports,
            steps: &steps,
        },
    );
    let cache = remote::cache(&mut outermost);
    outermost.end();
    if !document.is_sound() {
        return Err(document.into_faults());
    }
    let root = document.root;
    Ok(Config {
        file: file.to_path_buf(),
        root,
        engine,
        images,
        policy,
        clusters,
        ports,
        suites,
        cache,
    })
}

fn keys<V>(map: &BTreeMap<String, V>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

fn engine(outermost: &mut Table<'_>) -> Engine {
    let default = defaults::ENGINE;
    let Some(mut table) = outermost.table("engine", "engine".to_owned()) else { return default };
    let names = [
        ("auto", EngineName::Auto),
        ("podman", EngineName::Podman),
        ("docker", EngineName::Docker),
    ];
    let engine = Engine {
        name: table.choice("name", &names).unwrap_or(default.name),
        reserve: table.size("reserve").unwrap_or(default.reserve),
        trust_host_ca: table.boolean("trust-host-ca").unwrap_or(default.trust_host_ca),
        jobs: table.number("jobs", 1..=1024).map(|jobs| jobs.value),
    };
    table.end();
    engine
}

fn policy(outermost: &mut Table<'_>) -> Policy {
    let Some(mut table) = outermost.table("policy", "policy".to_owned()) else {
        return Policy::default();
    };
    let registries = table
        .filled("registries", "leave the key out to allow all registries")
        .unwrap_or_default()
        .into_iter()
        .map(|prefix| prefix.value.to_owned())
        .collect();
    table.end();
    Policy { registries }
}

fn clusters(outermost: &mut Table<'_>) -> BTreeMap<String, Cluster> {
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
        memory: table.size("memory").unwrap_or(defaults::CLUSTER_MEMORY),
        timeout: table
            .duration("timeout")
            .map_or(defaults::CLUSTER_TIMEOUT, |timeout| timeout.value),
    }
}
