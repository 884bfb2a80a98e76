//! From images to contexts: reads rules and Dockerfiles, walks each context once for all images
//! that share it, chooses what each is sent, and hashes what the stat index does not vouch for.
//!
//! A Dockerfile is read twice if the engine holds a base of it: first by itself, to know the bases;
//! then, once the walk is over and the engine has answered, with what those bases bring along (ENV,
//! ONBUILD).

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow};
use dockerignore::{RuleError, Rules};

use super::contents::{self, Contents, Narrowing, Widening};
use super::digest::Digest;
use dockerfile::{BaseConfig, Platform, Reading, Selection, Sources};

use super::moved::until_at_rest;
use super::tree::{MAX_VIEWS, Tree, Viewed};
use super::walk::{ViewRules, walk};
use super::{Context, cargo, golang, index, mapped};
use crate::config;
use crate::error::{self, ErrorExt as _, Exit};
use crate::plain_file;
use crate::private::PrivatePath;

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
    /// Ids of the secrets a build is given.
    pub secrets: Vec<String>,
    pub inputs: config::Inputs,
    pub exclude: config::Exclude,
}

impl Spec {
    /// A folder, whole, but for what its ignore file leaves out.
    pub fn of_folder(name: &str, root: &Path) -> Self {
        Self {
            name: name.to_owned(),
            root: root.to_owned(),
            dockerfile: None,
            target: None,
            platform: None,
            args: BTreeMap::new(),
            volatile_args: Vec::new(),
            secrets: Vec::new(),
            inputs: config::Inputs::Dockerfile,
            exclude: config::Exclude::default(),
        }
    }
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
            secrets: image.secrets.keys().cloned().collect(),
            inputs: image.inputs.clone(),
            exclude: image.exclude.clone(),
        }
    }
}

/// What is known of base images, by their references.
pub type Bases = BTreeMap<String, BaseConfig>;

/// A spec with the texts it names read and understood; no folder walked yet.
pub struct Opened {
    spec: Spec,
    root: PathBuf,
    /// The Dockerfile's bytes; empty without one.
    dockerfile: Vec<u8>,
    reading: Option<Reading>,
    rules: ViewRules,
    /// What tells this view from others.
    rules_text: RulesText,
    /// Where the ignore file is, if there is one.
    ignore_file: PathBuf,
}

/// The texts that a view's rules are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RulesText {
    ignore_file: Vec<u8>,
    exclude: Vec<String>,
    /// Those that do not hold for what git tracks.
    defaults: Vec<String>,
}

impl Opened {
    /// What was understood of the Dockerfile, if there is one.
    pub fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// References of the external images the target is built on; more may come to light once
    /// these are known.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        super::bases_of(self.reading.as_ref())
    }

    /// The context's folder without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Files and folders of the context that hold all that can be sent; none if that may be
    /// anything. Only the texts need be there: Dockerfile, ignore files, manifests of a Cargo
    /// workspace.
    pub fn readable(&self, known: &Bases) -> Option<Vec<String>> {
        match &self.spec.inputs {
            config::Inputs::Cargo { package, also } if also.is_empty() => {
                super::package_folders(&self.root, package).ok()
            }
            config::Inputs::Cargo { .. } | config::Inputs::Go { .. } => None,
            config::Inputs::Dockerfile | config::Inputs::Globs(_) => {
                match self.reading_on(known).ok()??.sources {
                    Sources::Whole { .. } => None,
                    Sources::Paths(sources) => {
                        Some(sources.iter().map(|source| literal(&source.pattern)).collect())
                    }
                }
            }
        }
    }

    /// The reading, if its bases are as `known`.
    fn reading_on(&self, known: &Bases) -> Result<Option<Reading>> {
        if self.bases().any(|base| known.contains_key(base)) {
            return read(&self.spec, &self.dockerfile, known).exit(Exit::Usage);
        }
        Ok(self.reading.clone())
    }
}

/// The folders that a pattern begins with, up to the first with a wildcard.
pub(super) fn literal(pattern: &str) -> String {
    let parts = pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '\\']));
    parts.collect::<Vec<_>>().join("/")
}

/// Reads the ignore file and the Dockerfile of each spec; all faults at once, exit code 2.
pub fn open(specs: &[Spec]) -> Result<Vec<Opened>> {
    let mut opened = Vec::new();
    let mut faults = Vec::new();
    for spec in specs {
        match open_one(spec) {
            Ok(one) => opened.push(one),
            Err(error) => faults.push(error::told(&error)),
        }
    }
    if faults.is_empty() { Ok(opened) } else { Err(anyhow!(faults.join("\n"))).exit(Exit::Usage) }
}

fn open_one(spec: &Spec) -> Result<Opened> {
    let root = fs_err::canonicalize(&spec.root)
        .with_context(|| format!("failed to open the context of `{}`", spec.name))?;
    let found = dockerignore::find(&root, spec.dockerfile.as_deref())?;
    let listed = |errors: Vec<dockerignore::RuleError>, file: &Path| {
        let lines = errors.into_iter().map(|e| format!("{}:{}: {e}", file.display(), e.line));
        anyhow!(lines.collect::<Vec<_>>().join("\n"))
    };
    let (text, file) = found.map_or_else(Default::default, |found| (found.text, found.path));
    let ignored = Rules::parse(&text).map_err(|errors| listed(errors, &file))?;
    let exclude = spec.exclude.patterns.clone();
    let excluded = Rules::from_patterns(exclude.iter().map(String::as_str))
        .map_err(|errors| listed(errors, Path::new(&format!("exclude of `{}`", spec.name))))?;
    let dockerfile = spec.dockerfile.as_deref().map_or(Ok(Vec::new()), plain_file::read)?;
    let reading = read(spec, &dockerfile, &Bases::new())?;
    let defaults = default_excludes(spec, reading.as_ref());
    let by_default = Rules::from_patterns(defaults.iter().map(String::as_str))
        .map_err(|errors| listed(errors, Path::new("exclude")))?;
    let rules = [ignored, excluded, by_default].into_iter().filter(|rules| !rules.is_empty());
    let rules = ViewRules { rules: rules.collect(), last_spares_tracked: !defaults.is_empty() };
    let rules_text = RulesText { ignore_file: text, exclude, defaults };
    let ignore_file = file;
    Ok(Opened { spec: spec.clone(), root, dockerfile, reading, rules, rules_text, ignore_file })
}

/// The patterns that apply where nobody says otherwise, less what the Dockerfile names itself.
fn default_excludes(spec: &Spec, reading: Option<&Reading>) -> Vec<String> {
    if !spec.exclude.defaults {
        return Vec::new();
    }
    let mut patterns = config::Exclude::DEFAULTS.map(str::to_owned).to_vec();
    let Some(Sources::Paths(sources)) = reading.map(|reading| &reading.sources) else {
        return patterns;
    };
    let folders = config::Exclude::DEFAULTS.map(|pattern| pattern.trim_matches(['*', '/']));
    for source in sources {
        let path = source.whole_pattern();
        let exception = format!("!{path}");
        if path.split('/').any(|part| folders.contains(&part))
            && Rules::from_patterns([exception.as_str()]).is_ok()
        {
            patterns.push(exception);
        }
    }
    patterns
}

fn read(spec: &Spec, text: &[u8], bases: &Bases) -> Result<Option<Reading>> {
    let Some(file) = &spec.dockerfile else { return Ok(None) };
    let request = dockerfile::Request {
        target: spec.target.as_deref(),
        args: &spec.args,
        platform: platform(spec.platform.as_deref()),
        build_platform: platform(None),
        base: &|name| bases.get(name).cloned(),
    };
    let reading = dockerfile::read(text, &request).map_err(|faults| {
        let lines = faults.iter().map(|f| format!("{}:{}: {}", file.display(), f.line, f.message));
        anyhow!(lines.collect::<Vec<_>>().join("\n"))
    })?;
    Ok(Some(reading))
}

/// `os/arch[/variant]`; without one, that of this machine. Containers are Linux wherever they are
/// built.
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

/// Walks, chooses and, with a folder for stat indices, hashes. What is known of the bases is asked
/// for when the first walk is over.
pub fn gather(
    opened: Vec<Opened>,
    indices: Option<&PrivatePath>,
    bases: impl FnOnce() -> Bases,
) -> Result<Vec<Context>> {
    let bases = LazyCell::new(bases);
    let mut groups: BTreeMap<PathBuf, Vec<(usize, Opened)>> = BTreeMap::new();
    for (at, one) in opened.into_iter().enumerate() {
        groups.entry(one.root.clone()).or_default().push((at, one));
    }
    let mut contexts = Vec::new();
    for (root, group) in groups {
        for part in by_views(group) {
            contexts.extend(gather_one(&root, part, indices, &bases)?);
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

fn views<'a>(opened: impl Iterator<Item = &'a Opened>) -> Vec<&'a RulesText> {
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
    indices: Option<&PrivatePath>,
    bases: &impl Deref<Target = Bases>,
) -> Result<Vec<(usize, Context)>> {
    let opened: Vec<&Opened> = group.iter().map(|(_, one)| one).collect();
    let looked = until_at_rest(|| look(root, &opened, indices, bases))?;
    let Looked { tree, digests, chosen } = looked;
    let contents: Vec<&Contents> = chosen.iter().map(|chosen| &chosen.contents).collect();
    let inputs = inputs_digests(&tree, &digests, &contents, indices.is_some());
    let (tree, digests) = (Arc::new(tree), Arc::new(digests));
    let contexts = group.into_iter().zip(chosen).zip(inputs);
    let contexts = contexts.map(|(((at, one), chosen), inputs)| {
        let rules = ignore_digest(&one.rules_text);
        let Opened { spec, dockerfile, .. } = one;
        let Chosen { reading, contents, missing, widened } = chosen;
        let (tree, digests) = (Arc::clone(&tree), Arc::clone(&digests));
        let context = Context {
            spec,
            dockerfile,
            reading,
            tree,
            digests,
            contents,
            missing,
            widened,
            inputs,
            rules,
        };
        (at, context)
    });
    Ok(contexts.collect())
}

/// A context as it was at one look, and what each image is sent of it.
struct Looked {
    tree: Tree,
    digests: Vec<Option<Digest>>,
    chosen: Vec<Chosen>,
}

struct Chosen {
    reading: Option<Reading>,
    contents: Contents,
    missing: Vec<(usize, String)>,
    widened: Vec<Widening>,
}

fn look(
    root: &Path,
    group: &[&Opened],
    indices: Option<&PrivatePath>,
    bases: &impl Deref<Target = Bases>,
) -> Result<Looked> {
    let scan = SystemTime::now();
    let views = views(group.iter().copied());
    let view_of = |one: &Opened| views.iter().position(|view| **view == one.rules_text);
    let rules: Vec<&ViewRules> = views
        .iter()
        .filter_map(|view| group.iter().find(|one| one.rules_text == **view))
        .map(|one| &one.rules)
        .collect();
    let index_file = indices.map(|folder| index::file(folder, root));
    let own = group.iter().find_map(|one| one.spec.exclude.own.as_deref());
    let (tree, known) = rayon::join(
        || walk(root, &rules, own),
        || index_file.as_ref().map(|file| index::read(file, root)).unwrap_or_default(),
    );
    let mut tree = tree.map_err(|error| placed(error, group))?;
    let workspace = read_workspace(root, group.iter().map(|one| &one.spec))?;
    let mut sources = golang::Sources::of(&tree);
    let mut chosen = Vec::new();
    for one in group {
        let view = view_of(one).unwrap_or_default();
        let reading = one.reading_on(bases)?;
        let selection = select(reading.as_ref(), &Viewed { tree: &tree, view });
        let narrowing = narrowing(&one.spec, workspace.as_ref(), &mut sources)?;
        let contents = contents::choose(&tree, view, selection.as_ref(), &narrowing)?;
        let widened = narrowing.widened().to_vec();
        let missing = selection.map(|selection| selection.missing).unwrap_or_default();
        chosen.push(Chosen { reading, contents, missing, widened });
    }
    let digests = match &index_file {
        Some(file) => hashed(&mut tree, &chosen, &known, file, scan)?,
        None => Vec::new(),
    };
    Ok(Looked { tree, digests, chosen })
}

/// The error of a walk; that of a pattern that means nothing says in which file it is.
fn placed(error: anyhow::Error, group: &[&Opened]) -> anyhow::Error {
    let Some(rule) = error.downcast_ref::<RuleError>() else { return error };
    let is_of = |rules: Result<Rules, _>| rules.is_ok_and(|rules: Rules| rules.is_of(rule));
    let place = group.iter().find_map(|one| {
        let RulesText { ignore_file, exclude, .. } = &one.rules_text;
        if is_of(Rules::parse(ignore_file)) {
            return Some(format!("{}:{}", one.ignore_file.display(), rule.line));
        }
        let exclude = Rules::from_patterns(exclude.iter().map(String::as_str));
        is_of(exclude).then(|| format!("exclude of `{}`", one.spec.name))
    });
    let place = place.unwrap_or_else(|| "an ignore rule".to_owned());
    anyhow!("{place}: `{}`: {}", rule.pattern, rule.message).exit(Exit::Usage)
}

fn select(reading: Option<&Reading>, viewed: &Viewed) -> Option<Selection> {
    match reading.map(|reading| &reading.sources) {
        None | Some(Sources::Whole { .. }) => None,
        Some(Sources::Paths(sources)) => Some(dockerfile::select(sources, viewed)),
    }
}

fn read_workspace<'a>(
    root: &Path,
    mut specs: impl Iterator<Item = &'a Spec>,
) -> Result<Option<cargo::Workspace>> {
    let wanted = specs.any(|spec| matches!(spec.inputs, config::Inputs::Cargo { .. }));
    wanted.then(|| cargo::read(root)).transpose()
}

fn narrowing(
    spec: &Spec,
    workspace: Option<&cargo::Workspace>,
    sources: &mut golang::Sources,
) -> Result<Narrowing> {
    let narrowing = match (&spec.inputs, workspace) {
        (config::Inputs::Globs(list), _) => globs(list).map(Narrowing::Globs),
        (config::Inputs::Cargo { package, also }, Some(workspace)) => {
            let closure = workspace.closure(package);
            closure.and_then(|closure| Ok(Narrowing::Cargo(closure, globs(also)?)))
        }
        (config::Inputs::Go { package, also }, _) => {
            let closure = sources.closure(package);
            closure.and_then(|closure| Ok(Narrowing::Go(closure, globs(also)?)))
        }
        _ => Ok(Narrowing::None),
    };
    let failed = || format!("failed to narrow the inputs of `{}`", spec.name);
    narrowing.with_context(failed).exit(Exit::Usage)
}

fn globs(list: &[String]) -> Result<Rules> {
    Rules::from_patterns(list.iter().map(String::as_str)).map_err(|errors| {
        let errors = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        anyhow!(errors.join("; "))
    })
}

/// The digests of all chosen files: from the index as far as it vouches for them, else read.
fn hashed(
    tree: &mut Tree,
    chosen: &[Chosen],
    known: &index::Index,
    file: &PrivatePath,
    scan: SystemTime,
) -> Result<Vec<Option<Digest>>> {
    let mut digests = known.digests(tree);
    let mut wanted = vec![false; tree.nodes.len()];
    for at in chosen.iter().flat_map(|chosen| &chosen.contents.nodes) {
        wanted[*at as usize] = true;
    }
    if index::lacks(tree, &digests, &wanted) {
        // Before anything is read: what is mapped later leaves a trace.
        let mapped = mapped::inodes();
        index::complete(tree, &mut digests, &wanted)?;
        // A state folder that cannot be written costs the time of hashing again, no more.
        index::store(file, tree, &digests, scan, &mapped).ok();
    }
    Ok(digests)
}

/// The digest of each image's inputs; images that are sent the same share the work.
fn inputs_digests(
    tree: &Tree,
    digests: &[Option<Digest>],
    chosen: &[&Contents],
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

fn ignore_digest(text: &RulesText) -> Digest {
    let mut records = super::digest::Records::new("ignore");
    records.add(&[&text.ignore_file]);
    for pattern in text.exclude.iter().chain(&text.defaults) {
        records.add(&[pattern.as_bytes()]);
    }
    records.finish()
}
