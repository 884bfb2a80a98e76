//! Reads what the rules look at, and applies them: the one part of `lint` that is not pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use dockerfile::{Reading, Sources};

use super::facts::{
    AppliedManifest, Base, Deployed, Image, JunkAt, Kind, Script, Suspect, Unreadable,
};
use super::{Facts, Finding, scripts, secret};
use crate::config::{Action, Config, Suite};
use crate::context::{self, Context, Spec, junk};
use crate::plain_file;
use crate::repository::{self, kind, kustomize, manifest, relative};

/// Steps whose manifests only a program could tell.
pub(crate) fn unseen(config: &Config) -> Vec<String> {
    let steps = config.suites.values().flat_map(|suite| {
        let charts = suite.steps.iter().filter(|step| matches!(step.action, Action::Helm(_)));
        charts.map(move |step| format!("step `{}` of suite `{}` (a chart)", step.name, suite.name))
    });
    steps.collect()
}

/// What there is to be said of the workspace.
pub(crate) fn findings(config: &Config) -> Result<Vec<Finding>> {
    let specs: Vec<Spec> = config.images.values().map(Spec::from).collect();
    let contexts = context::gather(context::open(&specs)?, None, context::Bases::new)?;
    let mut manifests = Manifests { root: &config.root, ..Manifests::default() };
    let suites: Vec<Deployed> =
        config.suites.values().map(|suite| manifests.deployed(suite)).collect();
    let facts = Facts {
        config,
        images: contexts.iter().map(|context| image(config, context)).collect::<Result<_>>()?,
        suites,
        kinds: kinds(config)?,
        scripts: scripts(&config.root),
        unreadable: manifests.unreadable,
    };
    Ok(super::lint(&facts))
}

fn image(config: &Config, context: &Context) -> Result<Image> {
    let root = &config.root;
    let spec = &context.spec;
    let dockerfile = spec.dockerfile.as_deref().unwrap_or(Path::new(""));
    let named = |path: &str| relative(&clean(&spec.root.join(path)), root);
    // What git tracks is the repository's own.
    let tracked = context.tracked();
    let mut suspects = Vec::new();
    let mut sizes = Vec::new();
    for entry in context.entries() {
        // A name that is no text is no name anybody looks for.
        let Ok(path) = str::from_utf8(entry.path()) else { continue };
        if entry.kind() != "file" {
            continue;
        }
        let is_tracked = tracked.contains(entry.path());
        if !is_tracked {
            sizes.push((path, entry.size()));
        }
        let is_made_up = is_tracked && secret::is_of_tests(path);
        if secret::is_suspect(path) && !is_made_up {
            let head = head(&spec.root.join(path))?;
            let reading = context.reading.as_ref();
            let taken_by = reading.and_then(|reading| taker(reading, path));
            suspects.push(Suspect { file: named(path), path: path.to_owned(), head, taken_by });
        }
    }
    let junk = junk::junk(sizes.iter().copied()).into_iter();
    let junk = junk.map(|junk| JunkAt { file: named(&junk.example), junk }).collect();
    let ignore_file = dockerignore::find(&spec.root, spec.dockerfile.as_deref())?
        .map_or_else(|| spec.root.join(".dockerignore"), |found| found.path);
    let bases = context.reading.iter().flat_map(|reading| &reading.bases);
    let base = |base: &dockerfile::Base| Base {
        reference: base.name.clone(),
        line: base.line,
        role: base.role,
    };
    Ok(Image {
        name: spec.name.clone(),
        dockerfile: relative(dockerfile, root),
        ignore_file: relative(&clean(&ignore_file), root),
        bases: bases.map(base).collect(),
        fetched: context.reading.as_ref().map(|one| one.fetched.clone()).unwrap_or_default(),
        runs: runs(dockerfile)?,
        suspects,
        junk,
        container_ignores: container_ignores(config, spec)?,
    })
}

/// The RUN instructions of a Dockerfile: line and text. What is no Dockerfile was told before.
fn runs(dockerfile: &Path) -> Result<Vec<(usize, String)>> {
    let spans = dockerfile::instructions(&plain_file::read(dockerfile)?).unwrap_or_default();
    let runs = spans.into_iter().filter(|span| span.keyword() == "RUN");
    Ok(runs.map(|span| (span.line, span.text)).collect())
}

/// The `.containerignore` files of a context that say something else than what goes first.
fn container_ignores(config: &Config, spec: &Spec) -> Result<Vec<(String, String)>> {
    let named = |path: &Path| relative(&clean(path), &config.root);
    let first = dockerignore::find(&spec.root, spec.dockerfile.as_deref())?;
    let mut found = Vec::new();
    for other in dockerignore::container_files(&spec.root, spec.dockerfile.as_deref())? {
        let name = other.path.file_name().unwrap_or_default().to_string_lossy();
        let first = first.as_ref().filter(|first| first.path != other.path);
        let why = match first {
            None => format!("`{name}` is not read by docker itself, only by podman and xtask"),
            Some(first) if first.text == other.text => continue,
            Some(first) => {
                let first = named(&first.path);
                format!("`{name}` is not read: `{first}` goes first; podman itself may read this")
            }
        };
        found.push((named(&other.path), why));
    }
    Ok(found)
}

/// `context = "."` leaves a `.` in paths.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

fn head(file: &Path) -> Result<Vec<u8>> {
    Ok(plain_file::head(file, secret::HEAD)?)
}

/// The line that takes a path: the source that names it most closely, up to its first wildcard.
fn taker(reading: &Reading, path: &str) -> Option<usize> {
    let sources = match &reading.sources {
        Sources::Whole { line, .. } => return Some(*line),
        Sources::Paths(sources) => sources,
    };
    let holds = |pattern: &str| {
        if let Some(wild) = pattern.find(['*', '?', '[']) {
            return path.starts_with(&pattern[..wild]);
        }
        let rest = path.strip_prefix(pattern);
        rest.is_some_and(|rest| pattern.is_empty() || rest.is_empty() || rest.starts_with('/'))
    };
    let takers = sources.iter().filter(|source| holds(&source.pattern));
    takers.max_by_key(|source| source.pattern.len()).map(|source| source.line)
}

fn kinds(config: &Config) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for (cluster, settings) in &config.clusters {
        let Some(file) = &settings.config else { continue };
        let mappings = kind::mappings(&plain_file::read_to_string(file)?).unwrap_or_default();
        let file = relative(file, &config.root);
        kinds.push(Kind { cluster: cluster.clone(), file, mappings });
    }
    Ok(kinds)
}

fn scripts(root: &Path) -> Vec<Script> {
    let files = repository::files(root).into_iter();
    let files = files.filter(|file| scripts::may_hold_commands(file));
    let read = |file: String| {
        // What is no text holds no commands.
        let text = plain_file::read_to_string(&root.join(&file)).ok()?;
        scripts::is_script(&file, &text).then_some(Script { file, text })
    };
    files.filter_map(read).collect()
}

/// Manifests, each read once for all suites.
struct Manifests<'a> {
    root: &'a Path,
    read: BTreeMap<PathBuf, Option<manifest::Manifest>>,
    unreadable: Vec<Unreadable>,
}

impl Default for Manifests<'_> {
    fn default() -> Self {
        Self { root: Path::new(""), read: BTreeMap::new(), unreadable: Vec::new() }
    }
}

impl Manifests<'_> {
    fn deployed<'s>(&mut self, suite: &'s Suite) -> Deployed<'s> {
        let mut manifests = Vec::new();
        let mut seen = BTreeSet::new();
        for step in &suite.steps {
            let Action::Apply(path) = &step.action else { continue };
            let applied =
                kustomize::applied(path, self.root).unwrap_or_else(|(file, line, message)| {
                    self.cannot_read(&file, line, message);
                    Vec::new()
                });
            for applied in applied {
                if !seen.insert(applied.file.clone()) {
                    continue;
                }
                if let Some(manifest) = self.manifest(&applied.file) {
                    let file = relative(&applied.file, self.root);
                    let images_in = step.images_in.clone();
                    manifests.push(AppliedManifest { file, applied, images_in, manifest });
                }
            }
        }
        Deployed { suite, manifests }
    }

    fn manifest(&mut self, file: &Path) -> Option<manifest::Manifest> {
        if let Some(read) = self.read.get(file) {
            return read.clone();
        }
        let text = plain_file::read_to_string(file).map_err(|error| (1, error.to_string()));
        let read = match text.and_then(|text| manifest::read(&text)) {
            Ok(manifest) => Some(manifest),
            Err((line, message)) => {
                self.cannot_read(file, line, message);
                None
            }
        };
        self.read.insert(file.to_owned(), read.clone());
        read
    }

    fn cannot_read(&mut self, file: &Path, line: usize, message: String) {
        let file = relative(file, self.root);
        self.unreadable.push(Unreadable { file, line, message });
    }
}
