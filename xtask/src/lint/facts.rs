//! What the rules look at: gathered once, values from there on. Paths are relative to the
//! configuration's folder.

use crate::config::{Config, Suite};
use crate::context::junk::Junk;
use crate::repository::kind::Mapping;
use crate::repository::kustomize::Applied;
use crate::repository::manifest::Manifest;
use dockerfile::Role;

/// A repository as `lint` sees it.
#[derive(Debug)]
pub struct Facts<'a> {
    pub config: &'a Config,
    pub images: Vec<Image>,
    pub suites: Vec<Deployed<'a>>,
    /// The user's own kind configurations.
    pub kinds: Vec<Kind>,
    /// Files that may hold commands.
    pub scripts: Vec<Script>,
    pub unreadable: Vec<Unreadable>,
}

/// An image of the configuration.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: String,
    pub dockerfile: String,
    /// Where a line would leave something out of its context.
    pub ignore_file: String,
    /// What it is built on, as the Dockerfile names it once expanded.
    pub bases: Vec<Base>,
    /// What ADD fetches without a checksum: line and address.
    pub fetched: Vec<(usize, String)>,
    /// The RUN instructions of its Dockerfile: line and text.
    pub runs: Vec<(usize, String)>,
    /// What may be a secret among what it is sent.
    pub suspects: Vec<Suspect>,
    pub junk: Vec<JunkAt>,
    /// Files that podman alone reads by itself, and what that means here.
    pub container_ignores: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Base {
    pub reference: String,
    pub line: usize,
    pub role: Role,
}

/// A file that is sent and whose name does not let it pass.
#[derive(Clone, Debug)]
pub struct Suspect {
    pub file: String,
    /// In the context: as an ignore file would name it.
    pub path: String,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// The line of the Dockerfile that takes it.
    pub taken_by: Option<usize>,
}

/// Junk, and one file of it.
#[derive(Clone, Debug)]
pub struct JunkAt {
    pub junk: Junk,
    pub file: String,
}

/// A suite and what its steps apply.
#[derive(Debug)]
pub struct Deployed<'a> {
    pub suite: &'a Suite,
    pub manifests: Vec<AppliedManifest>,
}

#[derive(Clone, Debug)]
pub struct AppliedManifest {
    pub file: String,
    pub applied: Applied,
    /// Of the step that applies it.
    pub images_in: Vec<String>,
    pub manifest: Manifest,
}

/// The `config` of a cluster.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Key of the configuration's clusters.
    pub cluster: String,
    pub file: String,
    pub mappings: Vec<Mapping>,
}

#[derive(Clone, Debug)]
pub struct Script {
    pub file: String,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Unreadable {
    pub file: String,
    pub line: usize,
    pub message: String,
}
