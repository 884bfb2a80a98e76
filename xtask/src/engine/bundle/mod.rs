//! Images in one file, to be carried from the machine that built them to those that use them.
//!
//! A bundle is a docker-archive, so any engine can load it as it is, with two members of ours
//! around it:
//!
//! ```text
//! xtask-bundle.json     what is in it: name, tag, key, id, why it was built, from what
//! LAYER.tar, ID.json …  as `engine save` writes them, each layer once
//! manifest.json         the engine's own list
//! xtask-bundle.sha256   SHA-256 of every byte before it
//! ```
//!
//! | what could be wrong | what finds it |
//! | --- | --- |
//! | a byte that changed, a file that was cut short | the seal at its end, compared byte for byte |
//! | a layer left out, swapped or replaced, with a new seal | a layer's SHA-256 is in its image's configuration, in order |
//! | another image under the tag | the id in our list is the SHA-256 of the configuration |
//! | an image with another key | the label in that configuration is the key, and the tag its beginning |
//! | an image for another platform | the platform is in the configuration |
//!
//! **Whoever writes a bundle is trusted**: with other layers, and a configuration, list and seal to
//! match, it is as good as one that a build made, and once loaded it is skipped by every later run.
//! That it is the file which the job that built it has written is known only from outside of it: by
//! the SHA-256 that writing it prints, given to `--sha256`.
//!
//! All of it is checked in one pass over the file, before an engine is told anything. What the
//! engine does not hold yet is then sent as a stream of its own, hashed once more on the way, and
//! read back.
//!
//! Layers are not compressed: CI compresses what it keeps, pipes can, and a layer that is
//! compressed could not be compared with its digest before it is unpacked. Times, owners and modes
//! are fixed, so the same images make the same bytes. Nothing is ever held in memory but the small
//! members.

mod read;
mod write;

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::context::record::Record;

pub use read::Bundle;

/// The first member: our list.
const LIST: &str = "xtask-bundle.json";
/// The last member: the seal.
const SEAL: &str = "xtask-bundle.sha256";
/// The engine's own list.
const MANIFEST: &str = "manifest.json";
/// The form of a bundle.
const VERSION: u32 = 1;

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    pub version: u32,
    pub images: Vec<Packed>,
}

/// One image of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    pub name: String,
    pub tag: String,
    /// 64 hex digits, as in its label.
    pub key: String,
    /// SHA-256 of its configuration, 64 hex digits.
    pub id: String,
    /// Why it was built, or that it was up to date.
    pub reasons: Vec<String>,
    /// What it was built from, if that is known: it has names of files and secrets, never their
    /// contents.
    pub record: Option<Record>,
}

impl List {
    pub fn new(images: Vec<Packed>) -> Self {
        Self { version: VERSION, images }
    }
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Archived {
    /// Members of the archive.
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The head of a member, with nothing in it that differs between two machines.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add_seal(builder: &mut tar::Builder<impl Write>, seal: &str) -> std::io::Result<()> {
    builder.append_data(&mut header(seal.len() as u64), SEAL, seal.as_bytes())
}
