//! `cargo xtask plan --since REV`: which images and suites a change touches.
//!
//! The change is what lies between the working tree and the commit where it left REV (their merge
//! base), as a review shows it. That commit is laid out aside, as far as its images can read it
//! (its files, its ignore files, its Dockerfiles, its xtask.toml), and surveyed like the working
//! tree is. So an image is touched if, and only if, a part of its key is another: base images are
//! compared by reference, since what an engine holds is no part of a change. What the bases hand
//! down (ENV, ONBUILD) narrows and widens both sides alike; an engine is asked for it where there
//! is one.
//!
//! | a suite is touched by | |
//! | --- | --- |
//! | its images | as above |
//! | its definition | itself, its cluster, its ports |
//! | a changed file that it reads | see `inputs` |
//! | a file that it reads outside the repository | no change can be seen there |
//!
//! Files that git ignores are in no change, nor are git's own, nor xtask's.

mod git;
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::git::{Git, Old};
use self::inputs::Inputs;
use crate::config::{self, Config, Image, Suite};
use crate::context::record::Record;
use crate::context::{self, Bases, Context, Opened, Spec};
use crate::paths::Paths;
use crate::plan::{self, Now, Reason};
use crate::private::{Claim, PrivatePath};
use crate::run::evaluate;
use crate::session::Session;

/// What a change touches, by name; what is not in it is as it was.
pub(crate) struct Touched {
    /// The commit it is compared with.
    pub(crate) commit: String,
    pub(crate) images: BTreeMap<String, Vec<Reason>>,
    /// With a sentence for each reason.
    pub(crate) suites: BTreeMap<String, Vec<String>>,
    /// Why everything is touched, if what there was cannot be read.
    pub(crate) note: Option<String>,
}

/// What the change since `rev` touches of the images called `names`, all if there are none.
pub(crate) fn touched(session: &Session, rev: &str, names: &[String]) -> Result<Touched> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let git = Git::of(&config.root)?;
    let commit = git.fork_point(rev)?;
    let aside = Aside::make(&paths)?;
    let old = Old::new(&git, &commit, &aside.folder)?;
    let before = Before::of(config, &git, &old)?;
    let now = open(&evaluate::named(config, &evaluate::or_all(config, names))?)?;
    let old_images = before.open();
    let bases = evaluate::handed_down(session, old_images.iter().chain(&now));
    let readable = readable(&old, &old_images, &bases)?;
    old.check_out(&|path| readable.iter().any(|one| path.starts_with(one)))?;
    let records = records(old_images, &aside.folder.join("index"), bases.clone());
    let unseen = Unseen::of(&git, &paths)?;
    let mut images = BTreeMap::new();
    for context in context::gather(now, Some(&paths.indices()), || bases)? {
        let record = records.get(&context.spec.name).cloned().unwrap_or_default();
        let reasons = plan::diff(&record, &unseen.without(&context));
        if !reasons.is_empty() {
            images.insert(context.spec.name.clone(), reasons);
        }
    }
    let mut changed = git.changed(&commit)?;
    changed.retain(|path| !path.starts_with(&unseen.home));
    let suites = config.suites.values().filter_map(|suite| {
        let reasons = suite_reasons(config, suite, &images, &before, &git.top, &changed);
        (!reasons.is_empty()).then(|| (suite.name.clone(), reasons))
    });
    Ok(Touched { suites: suites.collect(), note: before.note, commit, images })
}

fn suite_reasons(
    config: &Config,
    suite: &Suite,
    images: &BTreeMap<String, Vec<Reason>>,
    before: &Before,
    top: &Path,
    changed: &BTreeSet<PathBuf>,
) -> Vec<String> {
    let touched = suite.images.iter().filter(|image| images.contains_key(*image));
    let mut reasons: Vec<String> = touched.map(|image| format!("image {image}")).collect();
    let old = before.config.as_ref();
    let old = old.and_then(|old| Some(definition(old, old.suites.get(&suite.name)?)));
    if old != Some(definition(config, suite)) {
        reasons.push("its definition".to_owned());
    }
    let inputs = Inputs::of(config, suite);
    let outside = inputs.outside(top).filter(|path| path.exists());
    let outside = outside.map(|path| format!("reads {}, outside the repository", path.display()));
    reasons.extend(outside);
    let read = changed.iter().filter(|path| inputs.read(&top.join(path)));
    reasons.extend(read.map(|path| format!("changed {}", path.display())));
    reasons
}

/// The suite with its cluster and ports as text, the same wherever the checkout lies.
fn definition(config: &Config, suite: &Suite) -> String {
    let cluster = config.clusters.get(&suite.cluster);
    let text = format!("{suite:?} {cluster:?} {:?}", config.suite_ports(suite));
    text.replace(&config.root.display().to_string(), "")
}

/// The configuration as it was.
struct Before {
    config: Option<Config>,
    /// Why there is none.
    note: Option<String>,
}

/// Names of files that say what else is read.
const TEXTS: [&str; 7] = [
    ".dockerignore",
    ".containerignore",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "go.sum",
    "go.work",
];

impl Before {
    /// Reads it; with it, the texts are laid out that say what images are built from.
    fn of(config: &Config, git: &Git, old: &Old) -> Result<Self> {
        let folder = relative(&config.root, &git.top);
        // The configuration lies in its root, however its path was written.
        let file = folder.join(config.file.file_name().unwrap_or_default());
        let is_text = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_ignore = name.ends_with(".dockerignore") || name.ends_with(".containerignore");
            path == file || is_ignore || name.contains("Dockerfile") || TEXTS.contains(&&*name)
        };
        let links = old.links()?;
        old.check_out(&|path| is_text(path) || links.iter().any(|link| link == path))?;
        let there = old.tree.join(&file);
        if !there.exists() {
            let note = format!("there was no `{}` then: everything is touched", file.display());
            return Ok(Self { config: None, note: Some(note) });
        }
        // What a configuration names must be there for it to be read.
        let named = named(&there, &old.tree.join(&folder));
        old.check_out(&|path| named.contains(&old.tree.join(path)))?;
        old.make_folders(named.iter().map(PathBuf::as_path))?;
        match config::load(Some(&there)) {
            Ok(config) => {
                old.make_folders(config.images.values().map(|image| image.context.as_path()))?;
                Ok(Self { config: Some(config), note: None })
            }
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                let note = format!("`{}` of then: {why}; suites are touched", file.display());
                Ok(Self { config: None, note: Some(note) })
            }
        }
    }

    /// Its images, but for those whose Dockerfile has faults.
    fn open(&self) -> Vec<Opened> {
        let images = self.config.iter().flat_map(|config| config.images.values());
        images.filter_map(|image| open(std::slice::from_ref(image)).ok()?.pop()).collect()
    }
}

/// What the texts of a configuration would be as paths.
fn named(file: &Path, folder: &Path) -> BTreeSet<PathBuf> {
    fn texts(value: &toml::Value, found: &mut impl FnMut(&str)) {
        match value {
            toml::Value::String(text) => found(text),
            toml::Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            toml::Value::Table(table) => table.values().for_each(|value| texts(value, found)),
            _ => {}
        }
    }
    let mut named = BTreeSet::new();
    let table = fs_err::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    if let Some(table) = table {
        let mut add = |text: &str| {
            named.insert(inputs::plain(&folder.join(text)));
        };
        texts(&toml::Value::Table(table), &mut add);
    }
    named
}

/// What old images can read, relative to the top.
fn readable(old: &Old, images: &[Opened], bases: &Bases) -> Result<Vec<PathBuf>> {
    let links = old.links()?;
    let mut paths = Vec::new();
    for image in images {
        let context = relative(image.root(), &old.tree);
        let named: Option<Vec<PathBuf>> = image
            .readable(bases)
            .map(|named| named.iter().map(|path| context.join(path)).collect());
        // What lies behind a link may be read as well, wherever that is.
        let is_linked = |path: &PathBuf| {
            links.iter().any(|link| link.starts_with(path) || path.starts_with(link))
        };
        match named.filter(|named| !named.iter().any(is_linked)) {
            Some(named) => paths.extend(named),
            None => paths.push(context),
        }
    }
    Ok(paths)
}

fn open(images: &[Image]) -> Result<Vec<Opened>> {
    let specs: Vec<Spec> = images.iter().map(Spec::from).collect();
    context::open(&specs)
}

/// What images would have been built from, by name; none if that cannot be said of all.
fn records(opened: Vec<Opened>, indices: &PrivatePath, bases: Bases) -> BTreeMap<String, Record> {
    let contexts = context::gather(opened, Some(indices), || bases).unwrap_or_default();
    let records = contexts.into_iter().map(|context| {
        let (parts, ignore) = (context.parts(&BTreeMap::new()), context.ignore());
        let record = Record { parts, ignore, files: seen(&context), ..Record::default() };
        (context.spec.name, record)
    });
    records.collect()
}

/// The files of a context as git could have them: neither its own, nor folders, nor modes, of which
/// it knows only whether a file may be executed.
fn seen(context: &Context) -> BTreeMap<String, String> {
    let is_seen = |(path, what): &(String, String)| {
        !what.starts_with('d') && !path.split('/').any(|part| part == ".git")
    };
    let without_mode = |(path, what): (String, String)| {
        let (kind, content) = what.split_once(' ').unwrap_or((&what, ""));
        let what = format!("{} {content}", kind.get(..1).unwrap_or(kind));
        (path, what)
    };
    context.files().into_iter().filter(is_seen).map(without_mode).collect()
}

/// What is in no change.
struct Unseen {
    top: PathBuf,
    /// xtask's own folder.
    home: PathBuf,
    ignored: Vec<PathBuf>,
}

impl Unseen {
    fn of(git: &Git, paths: &Paths) -> Result<Self> {
        let (top, home) = (git.top.clone(), relative(paths.home(), &git.top));
        Ok(Self { top, home, ignored: git.ignored()? })
    }

    /// What an image would be built from now, but for that.
    fn without(&self, context: &Context) -> Now {
        let mut files = seen(context);
        let root = relative(&context.spec.root, &self.top);
        files.retain(|path, _| !self.has(&root.join(path)));
        Now { parts: context.parts(&BTreeMap::new()), ignore: context.ignore(), files }
    }

    fn has(&self, path: &Path) -> bool {
        path.starts_with(&self.home) || self.ignored.iter().any(|ignored| path.starts_with(ignored))
    }
}

/// A path from the top of a work tree; one outside is as it is.
fn relative(path: &Path, top: &Path) -> PathBuf {
    let path = fs_err::canonicalize(path).unwrap_or_else(|_| inputs::plain(path));
    path.strip_prefix(top).map(Path::to_owned).unwrap_or(path)
}

/// A checkout that goes when it is no longer needed; after a kill, the next run sweeps it.
struct Aside {
    folder: PrivatePath,
    _claim: Claim,
}

impl Aside {
    fn make(paths: &Paths) -> Result<Self> {
        let folder = paths.stages().join(crate::session::run_id()?);
        let claim = folder.claim()?;
        Ok(Self { folder, _claim: claim })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What cannot be removed now is swept by a later run.
        self.folder.remove().ok();
    }
}
