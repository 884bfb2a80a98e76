//! An `xtask.toml` for a repository that has none: guesses, each with the reason beside it.
//!
//! | guess | from |
//! | --- | --- |
//! | an image | each `Dockerfile`, `Dockerfile.NAME`, `NAME.Dockerfile`, `Containerfile` git would take |
//! | its name | the file's, else the nearest folder's that says something |
//! | its context | the smallest folder at or above the Dockerfile that holds what it copies |
//! | its inputs | one `go build ./PATH` or `cargo build --package NAME` in it, where all is copied |
//! | its target | the stage for release, where the last one is for tests |
//! | cluster and ports | kind's configuration, and the node ports of the manifests |
//! | steps | the folder whose manifests name most of these images, in the order of the names |
//!
//! What is wrong in a guess shows at once: `plan` reads what was written, and a context or
//! narrowing that is too tight fails its build with the missing path. Pure, over [`Facts`].

mod context;
mod deploy;
mod dockerfile;
mod draft;
pub(crate) mod read;

pub use context::FileTree;
pub use dockerfile::{is_dockerfile, unset};
pub use draft::draft;

use crate::repository::kind::Mapping;
use crate::repository::manifest::Manifest;
use ::dockerfile::Source;

/// A repository as `init` sees it. Paths are relative to its folder.
#[derive(Debug)]
pub struct Facts {
    /// The folder's name.
    pub name: String,
    /// Its own files, sorted.
    pub files: Vec<String>,
    pub dockerfiles: Vec<Dockerfile>,
    /// YAML files that hold objects.
    pub manifests: Vec<ManifestFile>,
    pub kustomizations: Vec<Kustomization>,
    /// kind's configurations.
    pub kinds: Vec<Kind>,
    /// Images whose guessed `inputs` did not work out.
    pub not_narrowed: Vec<String>,
}

#[derive(Debug)]
pub struct Dockerfile {
    pub path: String,
    pub text: String,
    /// What it reads of its context; the error is what keeps it from being read.
    pub sources: Result<Vec<Source>, String>,
    /// Arguments without a value, where they keep it from saying what it reads.
    pub unset: Vec<String>,
}

/// A folder with a kustomization, and the files that applying it takes.
#[derive(Debug)]
pub struct Kustomization {
    pub folder: String,
    pub files: Vec<String>,
}

#[derive(Debug)]
pub struct ManifestFile {
    pub path: String,
    pub manifest: Manifest,
}

#[derive(Debug)]
pub struct Kind {
    pub path: String,
    pub mappings: Vec<Mapping>,
    /// It says nothing beyond port mappings.
    pub only_ports: bool,
}

/// The folder a path lies in; empty at the top.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path's last part.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The folder and all above it, up to the top.
fn upwards(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| (!folder.is_empty()).then(|| self::folder(folder)))
}

/// A name with nothing in it that a table, an image or a step could not have.
fn plain(name: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(fine).collect();
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// `name`, or the first of `name-2`, `name-3`, … that is not taken.
fn free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}
