//! Stage 2: what goes into an image.
//!
//! [`open`] reads what is written (ignore files, Dockerfiles), [`gather`] walks, chooses and
//! hashes. The [`Context`] that comes out is a value: what is sent, why it is no less, and the
//! parts of the key. [`Context::stage`] copies just that into a folder for the engine.

mod capability; //     what a program may do
mod cargo; //          what a Cargo package is built from
mod contents; //       what one image is sent
mod digest; //         SHA-256 of files and records
mod gather; //         rules + Dockerfiles + walk + index → contexts
mod git; //            what git tracks, and its umask
mod golang; //         what a Go package is built from
mod index; //          digests that need not be taken again
pub mod junk; //       what is hardly ever wanted
mod key; //            what a key is made of
mod lost; //           what git tracks and `exclude` leaves out
mod mapped; //         files that change without a trace
mod mode; //           the mode a path is sent with
mod moved; //          a context that changes meanwhile
pub mod record; //     what an image was last built from
mod stage; //          the folder an engine is given
mod tree; //           a context as it was found
mod walk; //           one pass for all images

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use contents::Contents;
pub use contents::{Entry, Widening};
pub use digest::Digest;
use digest::Records;
use dockerfile::{LayerCache, Mark, Reading, Role};
use dockerignore::Rules;
pub use gather::{Bases, Opened, Spec, gather, open};
pub use key::{Key, Parts};
pub use lost::{Lost, lost};
pub use moved::{is_moved, until_at_rest};
use record::Record;
use tree::Tree;

use crate::config;

/// What of ours keeps a path of the context from being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Inputs,
    Exclude,
}

/// What one image is sent, hashed.
#[derive(Clone, Debug)]
pub struct Context {
    pub spec: Spec,
    /// The Dockerfile as it was read: the engine is given these bytes.
    pub dockerfile: Vec<u8>,
    pub reading: Option<Reading>,
    tree: Arc<Tree>,
    digests: Arc<Vec<Option<Digest>>>,
    contents: Contents,
    /// Sources that nothing matches: line and path.
    pub missing: Vec<(usize, String)>,
    widened: Vec<Widening>,
    inputs: Option<Digest>,
    rules: Digest,
}

/// What was really copied to a stage: files may have changed since they were hashed.
#[derive(Debug)]
pub struct Staged {
    pub parts: Parts,
    /// As [`Context::files`].
    files: BTreeMap<String, String>,
}

/// Files and folders, relative to `root`, that a package of the Cargo workspace there is built
/// from; its manifest and lock whole.
pub fn package_folders(root: &Path, package: &str) -> Result<Vec<String>> {
    let closure = cargo::read(root)?.closure(package)?;
    let made = closure.made.iter().map(|(name, _)| *name);
    let shared = made.chain(cargo::SHARED).map(str::to_owned);
    Ok(shared.chain(closure.folders.iter().cloned()).collect())
}

/// Files, relative to `root`, that a Go package of the module there is built from.
pub fn go_package(root: &Path, package: &str) -> Result<Vec<String>> {
    let inputs = crate::config::Inputs::Go { package: package.to_owned(), also: Vec::new() };
    let spec = Spec { inputs, ..Spec::of_folder("tests", root) };
    let context = gather(open(&[spec])?, None, Bases::new)?.pop();
    let context = context.filter(|context| !context.is_whole());
    let context = context.with_context(|| format!("failed to read what `{package}` imports"))?;
    Ok(context.files().into_keys().collect())
}

impl Context {
    /// Everything that is sent, sorted by path bytes.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.contents.entries(&self.tree)
    }

    /// Number of entries that are not folders, and the bytes in them.
    pub fn size(&self) -> (u64, u64) {
        let files = self.entries().filter(|entry| entry.kind() != "dir");
        files.fold((0, 0), |(files, bytes), entry| (files + 1, bytes + entry.size()))
    }

    /// Why nothing narrows what is sent, if something in the Dockerfile makes it so: the reason and its line.
    pub fn whole(&self) -> Option<(String, usize)> {
        let narrowed = self.spec.inputs != config::Inputs::Dockerfile;
        self.reading.as_ref().filter(|_| !narrowed)?.whole_context()
    }

    /// Why `inputs` leave more than was asked for.
    pub fn widened(&self) -> &[Widening] {
        &self.widened
    }

    /// What git tracks of the folder, sent or not, from there on.
    pub fn tracked(&self) -> BTreeSet<Vec<u8>> {
        lost::below(&self.tree.root).into_iter().collect()
    }

    /// Whether git's own folder is sent, or any file of it.
    pub fn sends_git(&self) -> bool {
        self.entries().any(|entry| entry.path().starts_with(b".git/"))
    }

    /// Whether nothing narrows what is sent, be it for the Dockerfile or for `inputs` not
    /// understood.
    pub fn is_whole(&self) -> bool {
        self.whole().is_some() || self.widened.iter().any(|widening| widening.whole)
    }

    /// Whether `inputs` or `exclude` leave out a path that is there; none if anything at or below
    /// it is sent, or the ignore file or the Dockerfile leave it out.
    pub fn left_out(&self, path: &str) -> Option<LeftOut> {
        let sent = |entry: Entry| {
            let rest = entry.path().strip_prefix(path.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let there = fs_err::symlink_metadata(self.tree.root.join(path)).is_ok();
        if !there || self.entries().any(sent) {
            return None;
        }
        let defaults = config::Exclude::DEFAULTS.into_iter().filter(|_| self.spec.exclude.defaults);
        let patterns = self.spec.exclude.patterns.iter().map(String::as_str).chain(defaults);
        if Rules::from_patterns(patterns).ok()?.ignores(path.as_bytes()).ok()? {
            return Some(LeftOut::Exclude);
        }
        let narrowed = self.spec.inputs != config::Inputs::Dockerfile;
        let walked = self.tree.find(path.as_bytes()).is_some();
        (narrowed && walked).then_some(LeftOut::Inputs)
    }

    /// The lines that keep podman's layer cache honest, each with the line it goes in front of;
    /// none if the cache cannot be used.
    pub fn marks(&self, parts: &Parts) -> Option<Vec<(usize, String)>> {
        let LayerCache::Marked(marks) = &self.reading.as_ref()?.layer_cache else { return None };
        Some(marks.iter().map(|mark| (mark.line, self.mark(mark, parts))).collect())
    }

    fn mark(&self, mark: &Mark, parts: &Parts) -> String {
        let mut records = Records::new("mark");
        for record in &mark.records {
            records.add(&record.iter().map(String::as_bytes).collect::<Vec<_>>());
        }
        records.add(&[b"platform", self.spec.platform.as_deref().unwrap_or_default().as_bytes()]);
        if let Some(id) = mark.base.as_ref().and_then(|base| parts.bases.get(base)) {
            records.add(&[b"base", id.as_deref().unwrap_or_default().as_bytes()]);
        }
        if mark.keyed {
            records.add(&[b"key", parts.key().to_string().as_bytes()]);
            for (name, value) in &self.spec.args {
                records.add(&[b"arg", name.as_bytes(), value.as_bytes()]);
            }
        }
        records.finish().to_string()[..32].to_owned()
    }

    /// Why podman builds it without its layer cache, if it does: the reason and its line.
    pub fn without_cache(&self) -> Option<(&str, usize)> {
        match &self.reading.as_ref()?.layer_cache {
            LayerCache::Unusable { reason, line } => Some((reason, *line)),
            LayerCache::Marked(_) => None,
        }
    }

    /// What a build fetches and the key cannot know: address and line.
    pub fn fetched(&self) -> Option<(&str, usize)> {
        let (line, address) = self.reading.as_ref()?.fetched.first()?;
        Some((address, *line))
    }

    /// References of the external images the target is built on.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        bases_of(self.reading.as_ref())
    }

    /// The parts of the key, with the ids of the bases the engine holds.
    pub fn parts(&self, held: &BTreeMap<String, String>) -> Parts {
        self.parts_of(self.inputs, held)
    }

    fn parts_of(&self, inputs: Option<Digest>, held: &BTreeMap<String, String>) -> Parts {
        let mut parts = Parts {
            inputs: inputs.map(|digest| digest.to_string()).unwrap_or_default(),
            target: self.spec.target.clone(),
            platform: self.spec.platform.clone(),
            ..Parts::default()
        };
        if let Some(reading) = &self.reading {
            parts.dockerfile = Digest::of(&reading.text).to_string();
            let counts = |name: &String| !self.spec.volatile_args.contains(name);
            let args = reading.args.iter().filter(|(name, _)| counts(name));
            parts.args = args.map(|(name, value)| (name.clone(), shown(name, value))).collect();
            parts.secrets = reading.secrets.iter().map(|id| self.secret(id)).collect();
        }
        let base = |reference: &str| (reference.to_owned(), held.get(reference).cloned());
        parts.bases = self.bases().map(base).collect();
        parts
    }

    /// A secret that is mounted, as the key has it. What need not be there makes a difference by
    /// being there.
    fn secret(&self, id: &String) -> String {
        if self.spec.secrets.contains(id) { id.clone() } else { format!("{id}, not given") }
    }

    /// Copies what is sent to `folder`. If a file is there no longer ([`is_moved`]), the context is
    /// to be gathered anew.
    pub fn stage(&self, folder: &Path, held: &BTreeMap<String, String>) -> Result<Staged> {
        let (inputs, files) = stage::stage(&self.contents, &self.tree, folder)?;
        Ok(Staged { parts: self.parts_of(Some(inputs), held), files })
    }

    /// What is to be remembered of a build of what was staged that took `seconds`.
    pub fn record(&self, staged: Staged, seconds: f64) -> Record {
        Record {
            key: staged.parts.key().to_string(),
            parts: staged.parts,
            ignore: self.rules.to_string(),
            seconds: Some(seconds),
            builder: None,
            files: staged.files,
        }
    }

    /// What is to be remembered of an image that came from elsewhere, `last` being how long a build
    /// took here.
    pub fn record_of(&self, parts: &Parts, last: Option<f64>) -> Record {
        Record {
            key: parts.key().to_string(),
            parts: parts.clone(),
            ignore: self.ignore(),
            seconds: last,
            builder: None,
            files: self.files(),
        }
    }

    /// Path → kind and content of everything that is sent, as records hold it.
    pub fn files(&self) -> BTreeMap<String, String> {
        self.entries()
            .map(|entry| record::line(&entry, entry.digest(&self.digests).as_ref()))
            .collect()
    }

    /// The digest of the ignore rules, as records hold it.
    pub fn ignore(&self) -> String {
        self.rules.to_string()
    }
}

/// The images a Dockerfile is built on; a frontend only reads it.
fn bases_of(reading: Option<&Reading>) -> impl Iterator<Item = &str> {
    let bases = reading.into_iter().flat_map(|reading| &reading.bases);
    bases.filter(|base| base.role != Role::Frontend).map(|base| base.name.as_str())
}
/// A build argument as key and record have it: of what is likely a secret, the digest. Records are
/// kept, and go along with bundles.
fn shown(name: &str, value: &str) -> String {
    if crate::secret_name::is_secret(name) {
        return format!("sha256:{}", Digest::of(value.as_bytes()));
    }
    value.to_owned()
}
