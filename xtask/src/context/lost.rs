//! Files that git tracks, that a Dockerfile would take, and that the user's own `exclude` keeps
//! from it.
//!
//! The default patterns spare what git tracks; a pattern of the user's own does not. That is mostly
//! meant (tests, docs), and now and then it is why a file is not in an image. So it is said, and by
//! git's index alone: no folder that is left out is walked for it.

use std::collections::BTreeMap;
use std::path::Path;

use dockerignore::Rules;

use super::Context;
use super::gather::literal;
use super::git::Repository;
use crate::config;
use dockerfile::Sources;

/// What some images are not sent although git tracks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Those that lose the same.
    pub images: Vec<String>,
    pub files: u64,
    /// The first of them, from the context on.
    pub example: String,
}

/// What `exclude` keeps from images, the same of several told once.
pub fn lost(contexts: &[&Context]) -> Vec<Lost> {
    let mut tracked: BTreeMap<&Path, Vec<Vec<u8>>> = BTreeMap::new();
    let mut all: Vec<Lost> = Vec::new();
    for context in contexts.iter().filter(|context| !context.spec.exclude.patterns.is_empty()) {
        let root = context.tree.root.as_path();
        let tracked = tracked.entry(root).or_insert_with(|| below(root));
        let Some((files, example)) = of(context, tracked) else { continue };
        let name = context.spec.name.clone();
        match all.iter_mut().find(|one| (one.files, &one.example) == (files, &example)) {
            Some(same) => same.images.push(name),
            None => all.push(Lost { images: vec![name], files, example }),
        }
    }
    all
}

/// What git tracks below a folder, from there on; nothing where its index cannot be read.
pub(super) fn below(root: &Path) -> Vec<Vec<u8>> {
    Repository::around(root).and_then(|repository| repository.below(root)).unwrap_or_default()
}

/// How many of the tracked files it loses, and the first; none if none.
fn of(context: &Context, tracked: &[Vec<u8>]) -> Option<(u64, String)> {
    let spec = &context.spec;
    // Other inputs say themselves what is taken.
    if spec.inputs != config::Inputs::Dockerfile {
        return None;
    }
    let folders = match context.reading.as_ref().map(|reading| &reading.sources) {
        Some(Sources::Paths(sources)) => {
            Some(sources.iter().map(|source| literal(&source.pattern)).collect::<Vec<_>>())
        }
        _ => None,
    };
    let exclude = Rules::from_patterns(spec.exclude.patterns.iter().map(String::as_str)).ok()?;
    let found = dockerignore::find(&context.tree.root, spec.dockerfile.as_deref()).ok()?;
    let ignored = Rules::parse(&found.map(|found| found.text).unwrap_or_default()).ok()?;
    let is_taken = |path: &[u8]| {
        folders.as_ref().is_none_or(|folders| folders.iter().any(|folder| is_in(path, folder)))
    };
    let is_lost = |path: &&Vec<u8>| {
        is_taken(path)
            && exclude.ignores(path).unwrap_or(false)
            && !ignored.ignores(path).unwrap_or(true)
            && fs_err::symlink_metadata(context.tree.root.join(super::tree::as_path(path))).is_ok()
    };
    let mut lost = tracked.iter().filter(is_lost);
    let example = String::from_utf8_lossy(lost.next()?).into_owned();
    Some((lost.count() as u64 + 1, example))
}

fn is_in(path: &[u8], folder: &str) -> bool {
    let rest = path.strip_prefix(folder.as_bytes());
    folder.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
