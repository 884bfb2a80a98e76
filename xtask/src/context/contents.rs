//! What one image is sent: the paths of the tree that its view keeps, its Dockerfile's target can
//! read, and its `inputs` allow; and files made for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use dockerignore::Rules;
use rayon::prelude::*;

use super::cargo::{self, Closure};
use super::digest::{Digest, Records};
use super::golang;
use super::mode;
use super::tree::{Kind, Node, Tree, View};
use crate::error::{ErrorExt as _, Exit};
use dockerfile::Selection;

/// How many entries make a group of the digest. Part of the key's form.
const GROUP: usize = 1_024;

/// Everything one image is sent. A made file takes the place of one of the tree at the same path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Indices into the tree's nodes, in order.
    pub nodes: Vec<u32>,
    pub made: BTreeMap<Box<[u8]>, Arc<[u8]>>,
}

/// One path that is sent.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    Found { at: usize, node: &'a Node },
    Made { path: &'a [u8], bytes: &'a [u8] },
}

/// What narrows an image's context further than its Dockerfile.
pub(super) enum Narrowing {
    None,
    /// What these match.
    Globs(Rules),
    /// A package's closure, and what these match.
    Cargo(Closure, Rules),
    Go(golang::Closure, Rules),
}

/// Why `inputs` leave more than was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widening {
    pub reason: String,
    /// All of the context is left.
    pub whole: bool,
}

impl Narrowing {
    pub(super) fn widened(&self) -> &[Widening] {
        match self {
            Narrowing::Go(closure, _) => &closure.widened,
            _ => &[],
        }
    }
}

impl<'a> Entry<'a> {
    pub fn path(&self) -> &'a [u8] {
        match self {
            Entry::Found { node, .. } => &node.path,
            Entry::Made { path, .. } => path,
        }
    }

    /// Bytes of content: a file's length, 0 for everything else.
    pub fn size(&self) -> u64 {
        match self {
            Entry::Found { node, .. } if node.kind == Kind::File => node.stat.size,
            Entry::Found { .. } => 0,
            Entry::Made { bytes, .. } => bytes.len() as u64,
        }
    }

    /// How scripts and records call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Entry::Made { .. } => "file",
            Entry::Found { node, .. } => match node.kind {
                Kind::File => "file",
                Kind::Dir | Kind::Unreadable => "dir",
                Kind::Symlink(_) => "symlink",
                Kind::Other => "other",
            },
        }
    }

    /// Its kind in a letter, as keys and records have it, and its mode where that is no usual one: `x` is a file of mode
    /// 0755, `f600` one that only its owner reads.
    pub(super) fn kind_with_mode(&self) -> Cow<'static, str> {
        let Entry::Found { node, .. } = self else { return "f".into() };
        match (&node.kind, node.mode) {
            (Kind::File, mode::FILE) => "f".into(),
            (Kind::File, mode::PROGRAM) => "x".into(),
            (Kind::File, mode) => format!("f{mode:o}").into(),
            (Kind::Dir | Kind::Unreadable, mode::FOLDER) => "d".into(),
            (Kind::Dir | Kind::Unreadable, mode) => format!("d{mode:o}").into(),
            (Kind::Symlink(_), _) => "l".into(),
            (Kind::Other, _) => "o".into(),
        }
    }

    /// A symlink's target, as written.
    pub fn link(&self) -> Option<&[u8]> {
        match self {
            Entry::Found { node: Node { kind: Kind::Symlink(target), .. }, .. } => Some(target),
            _ => None,
        }
    }

    pub(super) fn digest(&self, digests: &[Option<Digest>]) -> Option<Digest> {
        match self {
            Entry::Found { at, .. } => digests[*at],
            Entry::Made { bytes, .. } => Some(Digest::of(bytes)),
        }
    }
}

impl Contents {
    /// Everything that is sent, sorted by path.
    pub(super) fn entries<'a>(&'a self, tree: &'a Tree) -> impl Iterator<Item = Entry<'a>> {
        let mut made = self.made.iter().peekable();
        let mut found = self.nodes.iter().map(|at| *at as usize).peekable();
        std::iter::from_fn(move || {
            let next = found.peek().map(|at| (&*tree.nodes[*at].path, *at));
            match (next, made.peek()) {
                (Some((path, at)), Some((other, _))) if *path < ***other => {
                    found.next();
                    Some(Entry::Found { at, node: &tree.nodes[at] })
                }
                (Some((path, _)), Some((other, _))) => {
                    if *path == ***other {
                        found.next();
                    }
                    made.next().map(|(path, bytes)| Entry::Made { path, bytes })
                }
                (Some((_, at)), None) => {
                    found.next();
                    Some(Entry::Found { at, node: &tree.nodes[at] })
                }
                (None, _) => made.next().map(|(path, bytes)| Entry::Made { path, bytes }),
            }
        })
    }

    /// [`digest`] with the digests of files by their place in the tree.
    pub(super) fn digest(&self, tree: &Tree, digests: &[Option<Digest>]) -> Digest {
        let entries: Vec<Entry> = self.entries(tree).collect();
        let contents: Vec<_> = entries.par_iter().map(|entry| entry.digest(digests)).collect();
        digest(&entries, &contents)
    }
}

/// One digest over all that is sent: path, kind, mode, link target, content. Owners and times are
/// not in it, as they are not in what is staged. It is a digest over those of groups, so that these
/// can be taken side by side.
pub(super) fn digest(entries: &[Entry], contents: &[Option<Digest>]) -> Digest {
    let groups = entries.par_chunks(GROUP).zip(contents.par_chunks(GROUP));
    let groups: Vec<Digest> = groups.map(|(entries, contents)| group(entries, contents)).collect();
    let mut records = Records::new("inputs");
    for group in &groups {
        records.add(&[&group.0]);
    }
    records.finish()
}

fn group(entries: &[Entry], contents: &[Option<Digest>]) -> Digest {
    let mut records = Records::new("group");
    for (entry, content) in entries.iter().zip(contents) {
        let kind = entry.kind_with_mode();
        let target = entry.link().unwrap_or_default();
        let content = content.as_ref().map_or(&[][..], |digest| &digest.0);
        records.add(&[entry.path(), kind.as_bytes(), target, content]);
    }
    records.finish()
}

/// Puts together what an image is sent.
pub(super) fn choose(
    tree: &Tree,
    view: View,
    selection: Option<&Selection>,
    narrowing: &Narrowing,
) -> Result<Contents> {
    let mut contents = Contents::default();
    if let Narrowing::Cargo(closure, _) = narrowing {
        for (path, bytes) in &closure.made {
            if selection.is_none_or(|selection| selection.contains(path.as_bytes())) {
                contents.made.insert(path.as_bytes().into(), bytes.as_slice().into());
            }
        }
    }
    let everything = 0..tree.nodes.len();
    let ranges = selection.map_or(vec![everything], |chosen| chosen.ranges(&tree.nodes));
    let mut chosen = Vec::new();
    for at in ranges.into_iter().flatten() {
        let node = &tree.nodes[at];
        if node.kept_by(view) && allows(narrowing, at, node)? {
            if node.kind == Kind::Unreadable {
                return Err(unreadable(tree, node)).exit(Exit::Environment);
            }
            chosen.push(u32::try_from(at)?);
        }
    }
    contents.nodes = without_filled_folders(tree, &chosen);
    Ok(contents)
}

fn unreadable(tree: &Tree, node: &Node) -> anyhow::Error {
    let folder = tree.absolute(node);
    let name = String::from_utf8_lossy(&node.path);
    anyhow!(
        "failed to read the folder `{}`: permission denied, and the Dockerfile copies it",
        folder.display()
    )
    .hint(format!("add `{name}` to the ignore file or to `exclude`, or let this user read it"))
}

/// Leaves out folders of the usual mode that something chosen lies in: they are there because it
/// is.
fn without_filled_folders(tree: &Tree, chosen: &[u32]) -> Vec<u32> {
    let path = |at: &u32| &*tree.nodes[*at as usize].path;
    let filled = |at: &u32| {
        let inside = [path(at), b"/"].concat();
        let first = chosen.partition_point(|other| path(other) < &*inside);
        chosen.get(first).is_some_and(|other| path(other).starts_with(&inside))
    };
    let is_usual = |at: &u32| {
        let node = &tree.nodes[*at as usize];
        node.kind == Kind::Dir && node.mode == mode::FOLDER
    };
    chosen.iter().copied().filter(|at| !is_usual(at) || !filled(at)).collect()
}

fn allows(narrowing: &Narrowing, at: usize, node: &Node) -> Result<bool> {
    match narrowing {
        Narrowing::None => Ok(true),
        Narrowing::Globs(globs) => Ok(globs.ignores(&node.path)?),
        Narrowing::Cargo(closure, also) => {
            Ok(in_closure(closure, &node.path) || also.ignores(&node.path)?)
        }
        Narrowing::Go(closure, also) => Ok(closure.chosen[at] || also.ignores(&node.path)?),
    }
}

/// Whether a path is the package's: in the nearest of the members' folders that hold it.
fn in_closure(closure: &Closure, path: &[u8]) -> bool {
    let depth = |folders: &[String]| {
        let holds = |folder: &&String| {
            let rest = path.strip_prefix(folder.as_bytes());
            folder.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        folders.iter().filter(holds).map(|folder| folder.len() + 1).max().unwrap_or(0)
    };
    depth(&closure.folders) > depth(&closure.others)
        || cargo::SHARED.iter().any(|shared| shared.as_bytes() == path)
}
