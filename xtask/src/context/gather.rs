//! From images to contexts: reads rules and Dockerfiles, walks each context once for all images that share
//! it, chooses what each is sent, and hashes what the stat index does not vouch for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow};

use super::contents::{self, Contents, Narrowing};
use super::digest::Digest;
use super::dockerfile::{self, Platform, Reading, Selection, Sources};
use super::ignore::{self, Rules};
use super::tree::{MAX_VIEWS, Tree, Viewed};
use super::walk::{ViewRules, walk};
use super::{Context, cargo, golang, index};
use crate::config;
use crate::exit::{Exit, WithExit as _};

/// What a context is asked for. Made from a configured image, or from `--dir` and its flags.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    /// The context's folder.
    pub root: PathBuf,
    /// None: nothing narrows, and only the context's own ignore file applies.
    pub dockerfile: Option<PathBuf>,
    pub target: Option<String>,
    pub platform: Option<String>,
    pub args: BTreeMap<String, String>,
    pub volatile_args: Vec<String>,
    pub inputs: config::Inputs,
    pub exclude: Vec<String>,
}

impl From<&config::Image> for Spec {
    fn from(image: &config::Image) -> Self {
        Self {
            name: image.name.clone(),
            root: image.context.clone(),
            dockerfile: Some(image.dockerfile.clone()),
            target: image.target.clone(),
            platform: image.platform.clone(),
            args: image.args.clone(),
            volatile_args: image.volatile_args.clone(),
            inputs: image.inputs.clone(),
            exclude: image.exclude.clone(),
        }
    }
}

/// A spec with the texts it names read and understood; no folder walked yet.
pub struct Opened {
    spec: Spec,
    root: PathBuf,
    /// The Dockerfile's bytes; empty without one.
    dockerfile: Vec<u8>,
    reading: Option<Reading>,
    rules: ViewRules,
    /// What tells this view from others.
    rules_text: (Vec<u8>, Vec<String>),
}

impl Opened {
    /// References of the external images the target is built on.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        super::bases_of(self.reading.as_ref())
    }
}

/// Reads the ignore file and the Dockerfile of each spec; all faults at once, exit code 2.
pub fn open(specs: &[Spec]) -> Result<Vec<Opened>> {
    let mut opened = Vec::new();
    let mut faults = Vec::new();
    for spec in specs {
        match open_one(spec) {
            Ok(one) => opened.push(one),
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    if faults.is_empty() { Ok(opened) } else { Err(anyhow!(faults.join("\n"))).exit(Exit::Usage) }
}

fn open_one(spec: &Spec) -> Result<Opened> {
    let root = fs_err::canonicalize(&spec.root)
        .with_context(|| format!("failed to open the context of `{}`", spec.name))?;
    let found = ignore::find(&root, spec.dockerfile.as_deref())?;
    let listed = |errors: Vec<ignore::RuleError>, file: &Path| {
        let lines = errors.into_iter().map(|e| format!("{}:{}: {e}", file.display(), e.line));
        anyhow!(lines.collect::<Vec<_>>().join("\n"))
    };
    let (text, file) = found.map_or_else(Default::default, |found| (found.text, found.path));
    let ignored = Rules::parse(&text).map_err(|errors| listed(errors, &file))?;
    let excluded = Rules::from_patterns(spec.exclude.iter().map(String::as_str))
        .map_err(|errors| listed(errors, Path::new(&format!("exclude of `{}`", spec.name))))?;
    let rules = [ignored, excluded].into_iter().filter(|rules| !rules.is_empty()).collect();
    let (dockerfile, reading) = read_dockerfile(spec)?;
    let rules_text = (text, spec.exclude.clone());
    Ok(Opened { spec: spec.clone(), root, dockerfile, reading, rules, rules_text })
}

fn read_dockerfile(spec: &Spec) -> Result<(Vec<u8>, Option<Reading>)> {
    let Some(file) = &spec.dockerfile else { return Ok((Vec::new(), None)) };
    let text = fs_err::read(file)?;
    let request = dockerfile::Request {
        target: spec.target.as_deref(),
        args: &spec.args,
        platform: platform(spec.platform.as_deref()),
        build_platform: platform(None),
        // What an engine holds is only known later; the id of every base is in the key.
        base: &|_| None,
    };
    let reading = dockerfile::read(&text, &request).map_err(|faults| {
        let lines = faults.iter().map(|f| format!("{}:{}: {}", file.display(), f.line, f.message));
        anyhow!(lines.collect::<Vec<_>>().join("\n"))
    })?;
    Ok((text, Some(reading)))
}

/// `os/arch[/variant]`; without one, that of this machine. Containers are Linux wherever they are built.
fn platform(text: Option<&str>) -> Platform {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = text.unwrap_or_default().splitn(3, '/').filter(|part| !part.is_empty());
    Platform {
        os: parts.next().unwrap_or("linux").to_owned(),
        arch: parts.next().unwrap_or(arch).to_owned(),
        variant: parts.next().unwrap_or_default().to_owned(),
    }
}

/// Walks, chooses and, with a folder for stat indices, hashes.
pub fn gather(opened: Vec<Opened>, indices: Option<&Path>) -> Result<Vec<Context>> {
    let mut groups: BTreeMap<PathBuf, Vec<(usize, Opened)>> = BTreeMap::new();
    for (at, one) in opened.into_iter().enumerate() {
        groups.entry(one.root.clone()).or_default().push((at, one));
    }
    let mut contexts = Vec::new();
    for (root, group) in groups {
        for part in by_views(group) {
            contexts.extend(gather_one(&root, part, indices)?);
        }
    }
    contexts.sort_by_key(|(at, _)| *at);
    Ok(contexts.into_iter().map(|(_, context)| context).collect())
}

/// Images of one context, in parts whose views fit one walk.
fn by_views(group: Vec<(usize, Opened)>) -> Vec<Vec<(usize, Opened)>> {
    let mut parts: Vec<Vec<(usize, Opened)>> = Vec::new();
    for one in group {
        let fits = |part: &Vec<(usize, Opened)>| {
            let views = views(part.iter().map(|(_, opened)| opened));
            views.len() < MAX_VIEWS || views.contains(&&one.1.rules_text)
        };
        match parts.last_mut().filter(|part| fits(part)) {
            Some(part) => part.push(one),
            None => parts.push(vec![one]),
        }
    }
    parts
}

fn views<'a>(opened: impl Iterator<Item = &'a Opened>) -> Vec<&'a (Vec<u8>, Vec<String>)> {
    let mut views = Vec::new();
    for one in opened {
        if !views.contains(&&one.rules_text) {
            views.push(&one.rules_text);
        }
    }
    views
}

fn gather_one(
    root: &Path,
    group: Vec<(usize, Opened)>,
    indices: Option<&Path>,
) -> Result<Vec<(usize, Context)>> {
    let scan = SystemTime::now();
    let views = views(group.iter().map(|(_, opened)| opened));
    let view_of = |one: &Opened| views.iter().position(|view| **view == one.rules_text);
    let rules: Vec<&ViewRules> = views
        .iter()
        .filter_map(|view| group.iter().find(|(_, one)| one.rules_text == **view))
        .map(|(_, one)| &one.rules)
        .collect();
    let index_file = indices.map(|folder| index::file(folder, root));
    let (tree, known) = rayon::join(
        || walk(root, &rules),
        || index_file.as_ref().map(|file| index::read(file, root)).unwrap_or_default(),
    );
    let mut tree = tree?;
    let workspace = read_workspace(root, group.iter().map(|(_, one)| &one.spec))?;
    let mut sources = golang::Sources::of(&tree);
    let (mut chosen, mut widened) = (Vec::new(), Vec::new());
    for (_, one) in &group {
        let view = view_of(one).unwrap_or_default();
        let selection = select(one, &Viewed { tree: &tree, view });
        let narrowing = narrowing(&one.spec, workspace.as_ref(), &mut sources)?;
        chosen.push(contents::choose(&tree, view, selection.as_ref(), &narrowing)?);
        widened.push(narrowing.widened().to_vec());
    }
    let digests = match &index_file {
        Some(file) => hashed(&mut tree, &chosen, &known, file, scan)?,
        None => Vec::new(),
    };
    let (tree, digests) = (Arc::new(tree), Arc::new(digests));
    let inputs = inputs_digests(&tree, &digests, &chosen, index_file.is_some());
    let contexts = group.into_iter().zip(chosen).zip(widened).zip(inputs);
    let contexts = contexts.map(|((((at, one), contents), widened), inputs)| {
        let rules = ignore_digest(&one.rules_text);
        let Opened { spec, dockerfile, reading, .. } = one;
        let (tree, digests) = (Arc::clone(&tree), Arc::clone(&digests));
        (at, Context { spec, dockerfile, reading, tree, digests, contents, widened, inputs, rules })
    });
    Ok(contexts.collect())
}

fn select(one: &Opened, viewed: &Viewed) -> Option<Selection> {
    match one.reading.as_ref().map(|reading| &reading.sources) {
        None | Some(Sources::Whole { .. }) => None,
        Some(Sources::Paths(sources)) => Some(dockerfile::select(sources, viewed)),
    }
}

fn read_workspace<'a>(
    root: &Path,
    mut specs: impl Iterator<Item = &'a Spec>,
) -> Result<Option<cargo::Workspace>> {
    let wanted = specs.any(|spec| matches!(spec.inputs, config::Inputs::Cargo(_)));
    wanted.then(|| cargo::read(root)).transpose()
}

fn narrowing(
    spec: &Spec,
    workspace: Option<&cargo::Workspace>,
    sources: &mut golang::Sources,
) -> Result<Narrowing> {
    let failed = || format!("failed to narrow the inputs of `{}`", spec.name);
    match (&spec.inputs, workspace) {
        (config::Inputs::Globs(globs), _) => {
            let rules = Rules::from_patterns(globs.iter().map(String::as_str));
            let rules = rules.map_err(|errors| {
                let errors = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
                anyhow!(errors.join("; "))
            });
            Ok(Narrowing::Globs(rules.with_context(failed).exit(Exit::Usage)?))
        }
        (config::Inputs::Cargo(package), Some(workspace)) => {
            let closure = workspace.closure(package).with_context(failed).exit(Exit::Usage)?;
            Ok(Narrowing::Cargo(closure))
        }
        (config::Inputs::Go(package), _) => {
            Ok(Narrowing::Go(sources.closure(package).with_context(failed).exit(Exit::Usage)?))
        }
        _ => Ok(Narrowing::None),
    }
}

/// The digests of all chosen files: from the index as far as it vouches for them, else read.
fn hashed(
    tree: &mut Tree,
    chosen: &[Contents],
    known: &index::Index,
    file: &Path,
    scan: SystemTime,
) -> Result<Vec<Option<Digest>>> {
    let mut digests = known.digests(tree);
    let mut wanted = vec![false; tree.nodes.len()];
    for at in chosen.iter().flat_map(|contents| &contents.nodes) {
        wanted[*at as usize] = true;
    }
    if index::complete(tree, &mut digests, &wanted)? > 0 {
        // A state folder that cannot be written costs the time of hashing again, no more.
        index::store(file, tree, &digests, scan).ok();
    }
    Ok(digests)
}

/// The digest of each image's inputs; images that are sent the same share the work.
fn inputs_digests(
    tree: &Tree,
    digests: &[Option<Digest>],
    chosen: &[Contents],
    hashed: bool,
) -> Vec<Option<Digest>> {
    use rayon::prelude::*;
    let firsts: Vec<usize> = chosen
        .iter()
        .enumerate()
        .map(|(at, one)| chosen.iter().position(|other| other == one).unwrap_or(at))
        .collect();
    let unique: Vec<Option<Digest>> = (0..chosen.len())
        .into_par_iter()
        .map(|at| (hashed && firsts[at] == at).then(|| chosen[at].digest(tree, digests)))
        .collect();
    firsts.into_iter().map(|first| unique[first]).collect()
}

fn ignore_digest((text, exclude): &(Vec<u8>, Vec<String>)) -> Digest {
    let mut records = super::digest::Records::new("ignore");
    records.add(&[text]);
    for pattern in exclude {
        records.add(&[pattern.as_bytes()]);
    }
    records.finish()
}
