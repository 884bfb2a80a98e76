//! The text of an `xtask.toml`, each guess with its reason.

use std::fmt::Write as _;

use super::context::{Choice, choose};
use super::deploy::{Port, Suite, ports, suite};
use super::dockerfile::{self, Package};
use super::{Dockerfile, Facts, plain};

/// What is drafted, and what of it is worth telling.
#[derive(Debug)]
pub struct Draft {
    pub text: String,
    /// Names of the images, and the Dockerfiles that could not be read.
    pub images: Vec<String>,
    pub unread: Vec<String>,
}

/// Writes the whole file.
pub fn draft(facts: &Facts) -> Draft {
    let names = dockerfile::names(facts);
    let mut text = String::from(
        "# Written by `cargo xtask init`: guesses, each with its reason. Every key with its default is\n\
         # explained in xtask/src/config/defaults.toml of xtask; `cargo xtask plan` shows what this comes to.\n",
    );
    let mut images = Vec::new();
    let mut unread = Vec::new();
    for (dockerfile, name) in facts.dockerfiles.iter().zip(&names) {
        if let Err(fault) = &dockerfile.sources {
            text.push_str(&commented(dockerfile, name, fault));
            unread.push(dockerfile.path.clone());
        } else {
            text.push_str(&image(facts, dockerfile, name));
            images.push(name.clone());
        }
    }
    let suite = suite(facts, &images);
    deployment(facts, &suite, &mut text);
    Draft { text, images, unread }
}

/// An image whose Dockerfile is at fault, or wants an argument nobody can guess.
fn commented(dockerfile: &Dockerfile, name: &str, fault: &str) -> String {
    let fault = fault.lines().next().unwrap_or_default();
    let path = &dockerfile.path;
    format!(
        "\n# {path} cannot be read as it is: {fault}\n# [images.{}]\n# dockerfile = {}\n\
         # args = {{ NAME = \"VALUE\" }}\n",
        key(name),
        string(path)
    )
}

fn image(facts: &Facts, dockerfile: &Dockerfile, name: &str) -> String {
    let choice = choose(facts, dockerfile);
    let mut text = format!("\n# {}\n[images.{}]\n", reason(&choice), key(name));
    // Writing to a string does not fail.
    writeln!(text, "dockerfile = {}", string(&dockerfile.path)).ok();
    if !choice.context.is_empty() {
        writeln!(text, "context = {}", string(&choice.context)).ok();
    }
    if !dockerfile.unset.is_empty() {
        let args: Vec<String> =
            dockerfile.unset.iter().map(|name| format!("{name} = \"VALUE\"")).collect();
        writeln!(
            text,
            "# Without these it cannot be told what is copied, and all of the context counts.\n\
             # args = {{ {} }}",
            args.join(", ")
        )
        .ok();
    }
    if let Some(target) = dockerfile::target(&dockerfile.text) {
        writeln!(text, "target = {}", string(&target)).ok();
    }
    if let Some(package) = narrowing(facts, dockerfile, name, &choice) {
        let (kind, package) = match &package {
            Package::Cargo(package) => ("cargo", package),
            Package::Go(path) => ("go", path),
        };
        writeln!(
            text,
            "# All of the context is copied and one package compiled.\ninputs = {{ {kind} = {} }}",
            string(package)
        )
        .ok();
    }
    text
}

/// The package the image is narrowed to, if one is evident and its manifest is where it must be.
fn narrowing(
    facts: &Facts,
    dockerfile: &Dockerfile,
    name: &str,
    choice: &Choice,
) -> Option<Package> {
    if !choice.whole || facts.not_narrowed.iter().any(|other| other == name) {
        return None;
    }
    let package = dockerfile::package(&dockerfile.text)?;
    let manifest = match package {
        Package::Cargo(_) => "Cargo.toml",
        Package::Go(_) => "go.mod",
    };
    let file = if choice.context.is_empty() {
        manifest.to_owned()
    } else {
        format!("{}/{manifest}", choice.context)
    };
    facts.files.binary_search(&file).is_ok().then_some(package)
}

fn reason(choice: &Choice) -> String {
    let folder = if choice.context.is_empty() {
        "the repository's own folder".to_owned()
    } else {
        format!("`{}`", choice.context)
    };
    if !choice.missing.is_empty() {
        let missing = choice.missing.join("`, `");
        return format!("Nothing holds all it copies; {folder} lacks least: `{missing}`.");
    }
    match (choice.telling, choice.whole) {
        (0, false) => "It copies nothing.".to_owned(),
        (0, true) => format!("It copies all of its context; {folder} is the nearest with files."),
        (1, _) => format!("The path it copies is in {folder}."),
        (count, _) => format!("All {count} paths it copies are in {folder}."),
    }
}

fn deployment(facts: &Facts, suite: &Suite, text: &mut String) {
    if suite.steps.is_empty() && facts.kinds.is_empty() {
        return;
    }
    let name = match plain(&facts.name) {
        name if name.is_empty() => "e2e".to_owned(),
        name => name,
    };
    let cluster: String = format!("{name}-e2e").chars().rev().take(45).collect();
    let cluster: String = cluster.chars().rev().collect();
    let cluster = cluster.trim_start_matches(|c: char| !c.is_ascii_lowercase()).to_owned();
    cluster_table(facts, &name, &cluster, text);
    let taken = facts.kinds.first().filter(|kind| !kind.only_ports);
    let ports = ports(facts, suite);
    if !ports.is_empty() {
        port_table(&ports, taken.is_some(), text);
    }
    if !suite.steps.is_empty() {
        suite_table(suite, &name, text);
    }
    if !suite.left.is_empty() {
        let left = suite.left.join(", ");
        writeln!(text, "\n# Manifests that no step applies: {left}").ok();
    }
}

fn cluster_table(facts: &Facts, name: &str, cluster: &str, text: &mut String) {
    writeln!(text, "\n[clusters.{}]\nname = {}", key(name), string(cluster)).ok();
    let Some((kind, others)) = facts.kinds.split_first() else { return };
    if kind.only_ports {
        writeln!(text, "# {} opens ports and nothing else: they are below.", kind.path).ok();
    } else {
        writeln!(text, "config = {}", string(&kind.path)).ok();
    }
    for other in others {
        writeln!(text, "# Another kind configuration: {}", other.path).ok();
    }
}

/// `opened`: kind's configuration opens its ports itself, and a second time would be one too many.
fn port_table(ports: &[Port], opened: bool, text: &mut String) {
    text.push_str("\n[ports]\n");
    for port in ports {
        let Port { name, host, node, by_kind, why } = port;
        let by_kind = opened && *by_kind;
        let off = if by_kind { "# opened already: " } else { "" };
        writeln!(text, "{off}{name} = {{ host = {host}, node = {node} }}  # {why}").ok();
    }
}

fn suite_table(suite: &Suite, name: &str, text: &mut String) {
    let images: Vec<String> = suite.images.iter().map(|image| string(image)).collect();
    writeln!(
        text,
        "\n[suites.{}]\ncluster = {}\n# What the manifests name.\nimages = [{}]\n\
         # test = {{ run = [\"COMMAND\"], timeout = \"10m\" }}",
        key(name),
        string(name),
        images.join(", ")
    )
    .ok();
    if let Some((written, image)) = suite.elsewhere.first() {
        let others = match suite.elsewhere.len() {
            1 => String::new(),
            count => format!("; so do {} like it", count - 1),
        };
        writeln!(
            text,
            "# `{written}` stays what it is until the manifest says `image: {image}`{others}."
        )
        .ok();
    }
    for step in &suite.steps {
        writeln!(
            text,
            "\n[[suites.{}.steps]]\nname = {}\napply = {}",
            key(name),
            string(&step.name),
            string(&step.apply)
        )
        .ok();
        let waits: Vec<String> = step
            .rollouts
            .iter()
            .map(|one| format!("  {{ rollout = {} }},\n", string(one)))
            .collect();
        if !waits.is_empty() {
            writeln!(text, "wait = [\n{}]", waits.concat()).ok();
        }
    }
}

/// A name as a key: bare where TOML allows it.
fn key(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { string(name) }
}

fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
