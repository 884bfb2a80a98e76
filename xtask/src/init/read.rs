//! Reads a repository for a draft: the one part of `init` that is not pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use dockerfile::{Source, SourceKind, Sources};
use rayon::prelude::*;

use super::{Dockerfile, Facts, Kind, Kustomization, ManifestFile};
use crate::config::{self, Config};
use crate::context::{self, Opened, Spec};
use crate::error::{ErrorExt as _, Exit};
use crate::plain_file;
use crate::repository::kustomize::{self, Applied};
use crate::repository::{self, kind, manifest, relative};
use crate::text::plural;
use crate::ui;

/// From so many files on, reading them is said: it takes a moment.
const MANY: usize = 500;

/// Everything that a draft is made from.
pub(crate) fn facts(root: &Path) -> Facts {
    let files = repository::files(root);
    let dockerfiles = files.iter().filter(|file| super::is_dockerfile(file));
    let dockerfiles = dockerfiles.filter_map(|file| read_dockerfile(root, file)).collect();
    let mut facts = Facts {
        name: root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        dockerfiles,
        manifests: Vec::new(),
        kustomizations: Vec::new(),
        kinds: Vec::new(),
        not_narrowed: Vec::new(),
        files: Vec::new(),
    };
    let charts: BTreeSet<&str> =
        files.iter().filter_map(|file| file.strip_suffix("Chart.yaml")).collect();
    let is_read = |path: &&String| {
        let is_yaml = matches!(path.rsplit('.').next(), Some("yaml" | "yml"));
        // Templates of a chart are no manifests.
        is_yaml && !charts.iter().any(|chart| path.starts_with(chart))
    };
    let read: Vec<&String> = files.iter().filter(is_read).collect();
    if read.len() >= MANY {
        ui::say(&format!("reading {} …", plural(read.len() as u64, "YAML file")));
    }
    let found: Vec<Found> = read.into_par_iter().filter_map(|path| look_into(root, path)).collect();
    for found in found {
        match found {
            Found::Kustomization(one) => facts.kustomizations.push(one),
            Found::Kind(one) => facts.kinds.push(one),
            Found::Manifest(one) => facts.manifests.push(one),
        }
    }
    facts.files = files;
    facts
}

/// What a file of YAML is.
enum Found {
    Kustomization(Kustomization),
    Kind(Kind),
    Manifest(ManifestFile),
}

fn look_into(root: &Path, path: &str) -> Option<Found> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    // An object by its form, and none of a cluster's.
    if name.starts_with("skaffold") {
        return None;
    }
    let text = plain_file::read_to_string(&root.join(path)).ok()?;
    if name.starts_with("kustomization.") {
        // One that cannot be followed takes nothing.
        let applied = kustomize::applied(&root.join(folder), root).unwrap_or_default();
        let top = fs_err::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let file = |one: &Applied| {
            let file = fs_err::canonicalize(&one.file).unwrap_or_else(|_| one.file.clone());
            relative(&file, &top)
        };
        let files = applied.iter().map(file).collect();
        return Some(Found::Kustomization(Kustomization { folder: folder.to_owned(), files }));
    }
    if let Some(mappings) = kind::mappings(&text) {
        let only_ports = kind::opens_ports_only(&text);
        return Some(Found::Kind(Kind { path: path.to_owned(), mappings, only_ports }));
    }
    let manifest = manifest::scan(&text)?;
    Some(Found::Manifest(ManifestFile { path: path.to_owned(), manifest }))
}

fn read_dockerfile(root: &Path, path: &str) -> Option<Dockerfile> {
    let text = plain_file::read(&root.join(path)).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let read = |args: BTreeMap<String, String>| {
        let spec = Spec {
            name: path.to_owned(),
            root: root.to_owned(),
            dockerfile: Some(root.join(path)),
            target: None,
            platform: None,
            args,
            volatile_args: Vec::new(),
            secrets: Vec::new(),
            inputs: config::Inputs::Dockerfile,
            exclude: config::Exclude::default(),
        };
        let opened = context::open(&[spec])?;
        let reading =
            opened.first().and_then(Opened::reading).map(|reading| reading.sources.clone());
        reading.context("failed to read a Dockerfile")
    };
    let mut unset = super::unset(&text);
    let found = match read(BTreeMap::new()) {
        // With any value at all, an address is an address and no path.
        Ok(Sources::Whole { .. }) if !unset.is_empty() => {
            read(unset.iter().map(|name| (name.clone(), "0".to_owned())).collect())
        }
        found => {
            unset.clear();
            found
        }
    };
    let shorter =
        |error: anyhow::Error| format!("{error:#}").replace(&format!("{}/", root.display()), "");
    let sources = found.map(|found| sources(&found)).map_err(shorter);
    Some(Dockerfile { path: path.to_owned(), text, sources, unset })
}

/// What the Dockerfile names of its context; the root, where it may read anything.
fn sources(sources: &Sources) -> Vec<Source> {
    match sources {
        Sources::Paths(sources) => sources.clone(),
        Sources::Whole { line, .. } => {
            vec![Source { pattern: String::new(), line: *line, kind: SourceKind::Bind }]
        }
    }
}

/// Images whose narrowing the walk refuses.
pub(crate) fn too_narrow(text: &str, file: &Path) -> Result<Vec<String>> {
    let config: Config = config::parse(text, file)
        .context("failed to draft a configuration that can be read")
        .exit(Exit::Internal)?;
    let narrowed =
        config.images.values().filter(|image| image.inputs != config::Inputs::Dockerfile);
    let fails = |image: &&config::Image| {
        let gathered = context::open(&[Spec::from(*image)]);
        gathered.and_then(|opened| context::gather(opened, None, context::Bases::new)).is_err()
    };
    Ok(narrowed.filter(fails).map(|image| image.name.clone()).collect())
}
