//! What a plan knows that nobody asked for: said on standard error, a line each, before the plan
//! itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::plan::REASONS;
use crate::config::{Action, Config, Suite};
use crate::context::{Context, Lost, lost};
use crate::deploy::Rendered;
use crate::plan;
use crate::repository::manifest;
use crate::repository::mention::Mention;
use crate::run::evaluate::Evaluation;
use crate::run::memory::Memory;
use crate::secret_name;
use crate::text::{plural, some};
use crate::ui;
use crate::yaml;

/// Of the images, and of the machine that is to build them.
pub(crate) fn of_images(evaluation: &Evaluation, memory: &Memory) {
    for one in &evaluation.images {
        let name = &one.image.name;
        for (line, path) in &one.context.missing {
            let file = one.image.dockerfile.display();
            ui::say(&format!("warning: {name}: nothing matches `{path}` ({file}:{line})"));
        }
        if one.context.sends_git() {
            let what = "`.git` is sent, so that every commit and every fetch makes another key";
            ui::warn(&format!("{name}: {what}"), ["add `.git` to its ignore file"]);
        }
    }
    lost_files(evaluation);
    for (image, name) in suspicious(evaluation) {
        let what = "looks like a secret, and stays in the image";
        let text = format!("{image}: build argument `{name}` {what}");
        ui::warn(&text, ["give it as one of `secrets`"]);
    }
    let absent = absent_bases(evaluation);
    if !absent.is_empty() {
        ui::say(&format!("note: not here, and fetched before a build: {}", some(&absent, REASONS)));
    }
    memory.silent().iter().for_each(|silent| ui::say(&format!("warning: {silent}")));
    for (text, hint) in memory.alone(evaluation) {
        ui::warn(&text, hint);
    }
}

fn lost_files(evaluation: &Evaluation) {
    let contexts: Vec<&Context> = evaluation.images.iter().map(|one| &one.context).collect();
    for Lost { images, files, example } in lost(&contexts) {
        let (images, files) = (some(&images, REASONS), plural(files, "file"));
        ui::say(&format!(
            "note: {images}: `exclude` leaves out {files} that git tracks, such as `{example}`"
        ));
    }
}

/// Build arguments that stay in their image's history although they look like secrets: image and
/// name.
fn suspicious(evaluation: &Evaluation) -> impl Iterator<Item = (&str, &str)> {
    let images = evaluation.images.iter().map(|one| &one.image);
    let args = images.flat_map(|image| image.args.keys().map(move |name| (&*image.name, &**name)));
    args.filter(|(_, name)| secret_name::is_secret(name))
}

/// Bases of images that are to be built and that the engine does not hold.
fn absent_bases(evaluation: &Evaluation) -> Vec<&str> {
    let built = evaluation.images.iter().filter(|one| one.planned.action == plan::Action::Build);
    let bases = built.flat_map(|one| one.context.bases());
    let absent = bases.filter(|base| !evaluation.bases.contains_key(*base));
    absent.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Of a suite: images that its manifests name where no run sets them, and what it has and its
/// manifests do not use. Of that nothing is said where not all of them are known.
pub(crate) fn of_suite(config: &Config, suite: &Suite, rendered: &BTreeMap<String, Rendered>) {
    unset_images(config, suite, rendered);
    let is_known = |step: &crate::config::Step| {
        rendered.contains_key(&step.name) && !matches!(step.action, Action::Run(_))
    };
    if !suite.steps.iter().all(is_known) {
        return;
    }
    let named: BTreeSet<&String> = rendered.values().flat_map(|one| &one.images).collect();
    for image in suite.images.iter().filter(|image| !named.contains(image)) {
        ui::say(&format!("note: no step names `{image}`: it is loaded for the tests alone"));
    }
    let opened: BTreeSet<u64> = rendered.values().flat_map(node_ports).collect();
    for port in config.suite_ports(suite) {
        // One of every cluster may be another suite's.
        let is_its_own = port.cluster.is_some() || config.suites.len() == 1;
        if is_its_own && !opened.contains(&u64::from(port.node)) {
            let (name, node) = (&port.name, port.node);
            ui::say(&format!("warning: no Service opens node port {node} of [ports] `{name}`"));
        }
    }
}

fn unset_images(config: &Config, suite: &Suite, rendered: &BTreeMap<String, Rendered>) {
    let names: Vec<String> = config.images.keys().cloned().collect();
    for step in &suite.steps {
        let documents = rendered.get(&step.name).map(|one| &one.documents[..]).unwrap_or_default();
        for document in documents {
            // What was rendered is YAML; if it were not, it would not have been read before.
            for mention in manifest::read(&document.text).unwrap_or_default().mentions {
                let Some(name) = mention.meant(&names, &step.images_in) else { continue };
                let (object, mend) = (&document.object, mention.mend(name));
                let Mention { field, image, .. } = &mention;
                let text = format!(
                    "step `{}`: `{field}` of {object} names image `{image}`, and no run sets it there",
                    step.name
                );
                ui::warn(&text, [mend]);
            }
        }
    }
}

/// The node ports that a step's Services ask for.
fn node_ports(rendered: &Rendered) -> Vec<u64> {
    let services = rendered.documents.iter().filter(|one| one.object.kind == "Service");
    let read = services.filter_map(|one| yaml::read::<Value>(&one.text).ok());
    let ports = read.filter_map(|one| Some(one["spec"]["ports"].as_array()?.clone())).flatten();
    ports.filter_map(|port| port["nodePort"].as_u64()).collect()
}
