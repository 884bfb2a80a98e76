//! The walk: one pass over a context's folders for all its images.
//!
//! Folders are read side by side; a folder that no view keeps anything in is never opened (an
//! ignored `node_modules` costs one pattern test). Symlinks are entries, never followed. Nothing is
//! read but names, stats and link targets.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use rayon::prelude::*;

use super::ignore::{Rules, State};
use super::tree::{Kind, MAX_VIEWS, Node, Stat, Tree, Views, as_path};

/// What one view leaves out: a path is kept if no set of rules ignores it.
pub(super) type ViewRules = Vec<Rules>;

/// Walks `root` for `views` (at most [`MAX_VIEWS`]).
pub(super) fn walk(root: &Path, views: &[&ViewRules]) -> Result<Tree> {
    if views.len() > MAX_VIEWS {
        bail!("failed to walk `{}`: more than {MAX_VIEWS} sets of ignore rules", root.display());
    }
    let walk = Walk { root, views, found: Mutex::new(Vec::new()) };
    let states = views.iter().map(|rules| rules.iter().map(Rules::root).collect()).collect();
    let all = if views.len() == MAX_VIEWS { Views::MAX } else { (1 << views.len()) - 1 };
    walk.folder(&Folder { path: Vec::new(), states, open: all })
        .with_context(|| format!("failed to walk the context `{}`", root.display()))?;
    let found = walk.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut nodes: Vec<Node> = Vec::with_capacity(found.iter().map(Vec::len).sum());
    nodes.extend(found.into_iter().flatten());
    nodes.par_sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(Tree { root: root.to_owned(), nodes })
}

struct Walk<'a> {
    root: &'a Path,
    views: &'a [&'a ViewRules],
    found: Mutex<Vec<Vec<Node>>>,
}

/// A folder to be read: where the rules of each view stand there, and the views that need it read.
struct Folder {
    path: Vec<u8>,
    states: Vec<Vec<State>>,
    open: Views,
}

/// What the views make of one path.
struct Judged {
    kept: Views,
    open: Views,
    states: Vec<Vec<State>>,
}

impl Walk<'_> {
    /// Reads a folder and all below; returns the views that keep something in it.
    fn folder(&self, folder: &Folder) -> Result<Views> {
        let mut nodes = Vec::new();
        let mut below = Vec::new();
        for entry in fs_err::read_dir(self.root.join(as_path(&folder.path)))? {
            let entry = entry?;
            let path = join(&folder.path, entry.file_name().as_bytes());
            let Ok(file_type) = entry.file_type() else { continue };
            if file_type.is_socket() {
                continue;
            }
            let judged = self.judge(folder, &path, file_type.is_dir())?;
            if judged.kept | judged.open == 0 {
                continue;
            }
            let Some(node) = read_node(&entry, path, judged.kept)? else { continue };
            if node.kind == Kind::Dir && judged.open != 0 {
                let path = node.path.to_vec();
                below.push((node, Folder { path, states: judged.states, open: judged.open }));
            } else {
                nodes.push(node);
            }
        }
        let mut folders: Vec<Node> = below
            .into_par_iter()
            .map(|(mut node, folder)| {
                node.there |= self.folder(&folder)?;
                Ok(node)
            })
            .collect::<Result<_>>()?;
        folders.retain(|node| node.there != 0);
        nodes.append(&mut folders);
        let there = nodes.iter().fold(0, |all, node| all | node.there);
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(nodes);
        Ok(there)
    }

    fn judge(&self, folder: &Folder, path: &[u8], is_dir: bool) -> Result<Judged> {
        let mut judged = Judged { kept: 0, open: 0, states: Vec::new() };
        for (view, rules) in self.views.iter().enumerate() {
            let mut states = Vec::with_capacity(rules.len());
            let (mut kept, mut open) = (true, true);
            if folder.open & (1 << view) == 0 {
                judged.states.push(folder.states[view].clone());
                continue;
            }
            for (rules, parent) in rules.iter().zip(&folder.states[view]) {
                let verdict = rules.test(parent, path)?;
                kept &= !verdict.ignored;
                open &= is_dir && (!verdict.ignored || rules.may_hold_kept(path, &verdict.state));
                states.push(verdict.state);
            }
            judged.kept |= Views::from(kept) << view;
            judged.open |= Views::from(open && is_dir) << view;
            judged.states.push(states);
        }
        Ok(judged)
    }
}

/// The node of a folder's entry; none if it vanished meanwhile.
fn read_node(entry: &fs_err::DirEntry, path: Vec<u8>, kept: Views) -> Result<Option<Node>> {
    let meta = match entry.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let file_type = meta.file_type();
    let kind = if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        match fs_err::read_link(entry.path()) {
            Ok(target) => Kind::Symlink(target.into_os_string().into_vec().into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    } else {
        Kind::Other
    };
    Ok(Some(Node { path: path.into(), kind, stat: Stat::of(&meta), kept, there: kept }))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
