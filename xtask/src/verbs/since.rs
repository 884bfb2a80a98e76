//! `cargo xtask plan --since REV`: which images and suites a change touches.
//!
//! The change is what lies between the working tree and the commit where it left REV (their merge base), as
//! a review shows it. That commit is checked out aside (its files, its ignore files, its Dockerfiles, its
//! xtask.toml; through an index of its own, so that nothing in `.git` changes) and surveyed like the working
//! tree is. So an image is touched if, and only if, a part of its key is another: base images are compared by
//! reference, since what an engine holds is no part of a change. What the bases hand down (ENV, ONBUILD) narrows and
//! widens both sides alike; an engine is asked for it where there is one.
//!
//! | a suite is touched by | |
//! | --- | --- |
//! | its images | as above |
//! | its definition | itself, its cluster, its ports |
//! | a changed file of its manifests | the folders its steps apply, and what their kustomizations lead to |
//! | a changed file of its test | the package's closure for `cargo test --package`, any file for another command |
//!
//! Files that git ignores are in no change.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Session, survey};
use crate::config::{self, Action, Config, Image, Suite};
use crate::context::record::Record;
use crate::context::{self, Bases, Context, Opened, Spec};
use crate::exit::{Exit, WithExit as _};
use crate::paths::Paths;
use crate::plan::{self, Now, Reason};
use crate::private::{Claim, PrivatePath};
use crate::process::Tool;

/// How long git may take: a large checkout on a slow disk.
const GIT: Duration = Duration::from_mins(5);

/// What a change touches, by name; what is not in it is as it was.
pub(super) struct Touched {
    /// The commit it is compared with.
    pub(super) commit: String,
    pub(super) images: BTreeMap<String, Vec<Reason>>,
    /// With a sentence for each reason.
    pub(super) suites: BTreeMap<String, Vec<String>>,
}

/// What the change since `rev` touches of the images called `names`, all if there are none.
pub(super) fn touched(session: &Session, rev: &str, names: &[String]) -> Result<Touched> {
    let config = session.config()?;
    let paths = Paths::of(&config.root);
    let git = Git::of(config)?;
    let commit = git.fork_point(rev)?;
    let aside = Aside::make(&paths)?;
    let old_root = git.check_out(&commit, &aside.folder)?;
    let file = config.file.strip_prefix(&config.root).unwrap_or(&config.file);
    let old = config::load(Some(&old_root.join(file))).ok();
    // What images would have been built from cannot be said if a Dockerfile of then has faults.
    let before = old.as_ref().and_then(|old| open(old.images.values()).ok()).unwrap_or_default();
    let now = open(&survey::named(config, names)?)?;
    let bases = survey::handed_down(session, before.iter().chain(&now));
    let before = records(before, &aside.folder.join("index"), bases.clone());
    let ignored = git.ignored()?;
    let mut touched = BTreeMap::new();
    for context in context::gather(now, Some(&paths.indices()), || bases)? {
        let record = before.get(&context.spec.name).cloned().unwrap_or_default();
        let reasons = plan::diff(&record, &without(&ignored, config, &context));
        if !reasons.is_empty() {
            touched.insert(context.spec.name.clone(), reasons);
        }
    }
    let changed = git.changed(&commit)?;
    let suites = config.suites.values().filter_map(|suite| {
        let same = old.as_ref().is_some_and(|old| {
            old.suites.get(&suite.name).map(|was| definition(old, was))
                == Some(definition(config, suite))
        });
        let reasons = suite_reasons(config, suite, &touched, same, &changed);
        (!reasons.is_empty()).then(|| (suite.name.clone(), reasons))
    });
    Ok(Touched { commit, suites: suites.collect(), images: touched })
}

fn open<'a>(images: impl IntoIterator<Item = &'a Image>) -> Result<Vec<Opened>> {
    let specs: Vec<Spec> = images.into_iter().map(Spec::from).collect();
    context::open(&specs)
}

/// What images would have been built from, by name; none if that cannot be said of all.
fn records(opened: Vec<Opened>, indices: &PrivatePath, bases: Bases) -> BTreeMap<String, Record> {
    let contexts = context::gather(opened, Some(indices), || bases).unwrap_or_default();
    let records = contexts.into_iter().map(|context| {
        let (parts, ignore) = (context.parts(&BTreeMap::new()), context.ignore());
        let record = Record { parts, ignore, files: context.files(), ..Record::default() };
        (context.spec.name, record)
    });
    records.collect()
}

/// What an image would be built from now, but for what git ignores.
fn without(ignored: &[PathBuf], config: &Config, context: &Context) -> Now {
    let mut files = context.files();
    let root = context.spec.root.strip_prefix(&config.root).unwrap_or(Path::new(""));
    files.retain(|path, _| {
        let path = root.join(path);
        !ignored.iter().any(|ignored| path.starts_with(ignored))
    });
    Now { parts: context.parts(&BTreeMap::new()), ignore: context.ignore(), files }
}

fn suite_reasons(
    config: &Config,
    suite: &Suite,
    images: &BTreeMap<String, Vec<Reason>>,
    same: bool,
    changed: &[PathBuf],
) -> Vec<String> {
    let touched = suite.images.iter().filter(|image| images.contains_key(*image));
    let mut reasons: Vec<String> = touched.map(|image| format!("image {image}")).collect();
    if !same {
        reasons.push("its definition".to_owned());
    }
    let inputs = suite_inputs(config, suite);
    let reads = |path: &&PathBuf| inputs.iter().any(|input| path.starts_with(input));
    reasons.extend(changed.iter().filter(reads).map(|path| format!("changed {}", path.display())));
    reasons
}

/// The suite with its cluster and ports as text, the same wherever the checkout lies.
fn definition(config: &Config, suite: &Suite) -> String {
    let cluster = config.clusters.get(&suite.cluster);
    let text = format!("{suite:?} {cluster:?} {:?}", config.suite_ports(suite));
    text.replace(&config.root.display().to_string(), "")
}

/// Files and folders, relative to the configuration's, that a suite reads besides its images.
fn suite_inputs(config: &Config, suite: &Suite) -> Vec<PathBuf> {
    let mut inputs = Vec::new();
    for step in &suite.steps {
        match &step.action {
            Action::Apply(manifests) => manifests_below(manifests, &mut inputs),
            Action::Helm(chart) => {
                inputs.push(chart.path.clone());
                inputs.extend(chart.values.iter().cloned());
            }
            Action::FromFiles(made) => inputs.extend(made.files.values().cloned()),
            // Nothing says what a command reads.
            Action::Run(_) => inputs.push(config.root.clone()),
        }
    }
    let relative = |path: &PathBuf| path.strip_prefix(&config.root).map(Path::to_owned).ok();
    let mut inputs: Vec<PathBuf> = inputs.iter().filter_map(relative).collect();
    if let Some(test) = &suite.test {
        let folders = package(&test.run)
            .and_then(|package| context::package_folders(&config.root, package).ok());
        match folders {
            Some(folders) => inputs.extend(folders.into_iter().map(PathBuf::from)),
            None => inputs.push(PathBuf::new()),
        }
    }
    inputs
}

/// The package of `cargo test --package NAME`.
fn package(command: &[String]) -> Option<&str> {
    let is_cargo = command.first().is_some_and(|program| program == "cargo");
    let mut words = command.iter().take_while(|word| *word != "--").map(String::as_str);
    let flag = words.position(|word| matches!(word, "--package" | "-p"));
    let mut after = command.iter().skip(flag? + 1);
    after.next().map(String::as_str).filter(|_| is_cargo)
}

/// A file or folder of manifests, and what its kustomization leads to.
fn manifests_below(path: &Path, found: &mut Vec<PathBuf>) {
    if found.iter().any(|known| path.starts_with(known)) {
        return;
    }
    found.push(path.to_owned());
    for name in ["kustomization.yaml", "kustomization.yml", "Kustomization"] {
        let text = fs_err::read_to_string(path.join(name)).unwrap_or_default();
        let words = text.split(|c: char| c.is_whitespace() || "\"',[]{}:".contains(c));
        for word in words.filter(|word| word.starts_with("../")) {
            manifests_below(&plain(&path.join(word)), found);
        }
    }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// The repository the configuration lies in.
struct Git {
    root: PathBuf,
    /// Where the configuration's folder lies in the repository; empty at its top.
    prefix: String,
}

impl Git {
    fn of(config: &Config) -> Result<Self> {
        let mut git = Self { root: config.root.clone(), prefix: String::new() };
        let prefix = git.tool().args(["rev-parse", "--show-prefix"]).read();
        git.prefix = prefix.context("failed to find a git repository").exit(Exit::Usage)?;
        Ok(git)
    }

    fn tool(&self) -> Tool {
        Tool::new("git").folder(&self.root).limit(GIT)
    }

    /// The commit where the change left `rev`.
    fn fork_point(&self, rev: &str) -> Result<String> {
        let commit = format!("{rev}^{{commit}}");
        let commit =
            self.tool().args(["rev-parse", "--verify", "--quiet", "--end-of-options"]).arg(commit);
        let unknown = || {
            let hint = "hint: git fetch --unshallow (in CI: fetch-depth: 0)";
            format!("failed to find the revision `{rev}`\n{hint}")
        };
        let commit = commit.read().with_context(unknown).exit(Exit::Usage)?;
        let base = self.tool().args(["merge-base", &commit, "HEAD"]).read();
        Ok(base.unwrap_or(commit))
    }

    /// Checks a commit out below `aside`; gives back where the configuration's folder is then.
    fn check_out(&self, commit: &str, aside: &Path) -> Result<PathBuf> {
        let tree = aside.join("tree");
        fs_err::create_dir_all(&tree)?;
        let index = aside.join("git-index");
        let tool = || self.tool().env("GIT_INDEX_FILE", &index);
        let failed = || format!("failed to check out `{commit}` aside");
        let top = self.tool().args(["rev-parse", "--show-toplevel"]).read().with_context(failed)?;
        tool().args(["read-tree", commit]).run().with_context(failed)?;
        let prefix = format!("--prefix={}/", tree.display());
        let out = tool().args(["checkout-index", "--all", "--quiet"]).arg(prefix);
        out.folder(top).run().with_context(failed)?;
        Ok(fs_err::canonicalize(tree)?.join(&self.prefix))
    }

    /// Paths that are other than in `commit`, new ones too, relative to the configuration's folder.
    fn changed(&self, commit: &str) -> Result<Vec<PathBuf>> {
        let diff =
            self.tool().args(["diff", "--name-only", "--no-renames", "--relative", "-z", commit]);
        let mut changed = names(&diff)?;
        changed.extend(names(&self.others(&[]))?);
        Ok(changed)
    }

    /// Paths that are there and that git ignores, folders as a whole.
    fn ignored(&self) -> Result<Vec<PathBuf>> {
        names(&self.others(&["--ignored", "--directory"]))
    }

    fn others(&self, more: &[&str]) -> Tool {
        let others = self.tool().args(["ls-files", "--others", "--exclude-standard", "-z"]);
        others.args(more.iter().copied())
    }
}

/// Paths that git prints with a NUL behind each.
fn names(tool: &Tool) -> Result<Vec<PathBuf>> {
    let output = tool.run().context("failed to ask git")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.split('\0').map(str::trim_end).filter(|name| !name.is_empty());
    Ok(names.map(PathBuf::from).collect())
}

/// A checkout that goes when it is no longer needed; after a kill, the next run sweeps it.
struct Aside {
    folder: PrivatePath,
    _claim: Claim,
}

impl Aside {
    fn make(paths: &Paths) -> Result<Self> {
        let folder = paths.stages().join(super::run_id()?);
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
