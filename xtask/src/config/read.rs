//! The file as a whole: its sections, in an order in which every name is known before it is used.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::Document;
use super::fault::ConfigErrors;
use super::table::Table;
use super::{Config, Engine, EngineName, Policy};
use super::{builder, cluster, defaults, image, lint, port, remote, shared, suite};

/// Reads and checks a whole text; `file` names it in messages, and its folder is where paths start.
pub(super) fn config(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
    let document = Document::parse(text, file)?;
    let mut outermost = Table::outermost(&document);
    let builders = builder::builders(&mut outermost);
    let engine = engine(&mut outermost, builders.is_empty());
    let images = image::images(&mut outermost);
    let policy = policy(&mut outermost);
    let allow = lint::allow(&mut outermost);
    let clusters = cluster::clusters(&mut outermost);
    let ports = port::ports(&mut outermost, &keys(&clusters));
    let steps = shared::steps(&mut outermost, &keys(&images), &ports);
    let cache = remote::cache(&mut outermost);
    let known = suite::Known {
        images: &keys(&images),
        clusters: &clusters,
        ports: &ports,
        steps: &steps,
        has_cache: cache.is_some(),
    };
    let suites = suite::suites(&mut outermost, &known);
    let telemetry = remote::telemetry(&mut outermost);
    outermost.end();
    if !document.is_sound() {
        return Err(document.into_faults());
    }
    let root = document.root;
    let file = file.to_path_buf();
    Ok(Config {
        file,
        root,
        engine,
        images,
        policy,
        allow,
        clusters,
        ports,
        suites,
        builders,
        cache,
        telemetry,
    })
}

fn keys<V>(map: &BTreeMap<String, V>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

fn engine(outermost: &mut Table<'_>, is_only_one: bool) -> Engine {
    let default = defaults::ENGINE;
    let Some(mut table) = outermost.table("engine", "engine".to_owned()) else { return default };
    let names = [
        ("auto", EngineName::Auto),
        ("podman", EngineName::Podman),
        ("docker", EngineName::Docker),
    ];
    let engine = Engine {
        name: table.choice("name", &names).unwrap_or(default.name),
        reserve: table.size("reserve").or(default.reserve),
        trust_host_ca: table.boolean("trust-host-ca").unwrap_or(default.trust_host_ca),
        jobs: table.number("jobs", 1..=1024).map(|jobs| jobs.value),
        builds: table.boolean("builds").unwrap_or(default.builds),
    };
    if is_only_one && !engine.builds {
        table.missing("builds nothing, and there are no [[builders]]", None);
    }
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
