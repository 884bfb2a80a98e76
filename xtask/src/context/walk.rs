//! The walk: one pass over a context's folders for all its images.
//!
//! Folders are read side by side; a folder that no view keeps anything in is never opened (an
//! ignored `node_modules` costs one pattern test). Symlinks are entries, never followed. Nothing is
//! read but names, stats and link targets. Each folder is sorted by itself and its subfolders'
//! lists are laid in where they belong: a sort of all paths would cost more than reading them.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use dockerignore::{Rules, State};
use rayon::prelude::*;

use super::git::Repository;
use super::tree::{Kind, MAX_VIEWS, Node, Stat, Tree, Views, as_path};
use super::{mode, moved};
use crate::process::stop;

/// What one view leaves out: a path is kept if no set of rules ignores it.
#[derive(Debug, Default)]
pub(super) struct ViewRules {
    pub rules: Vec<Rules>,
    /// The last of them do not hold for what git tracks.
    pub last_spares_tracked: bool,
}

/// Walks `root` for `views` (at most [`MAX_VIEWS`]), but for the folder `own`.
pub(super) fn walk(root: &Path, views: &[&ViewRules], own: Option<&Path>) -> Result<Tree> {
    if views.len() > MAX_VIEWS {
        bail!("failed to walk `{}`: more than {MAX_VIEWS} sets of ignore rules", root.display());
    }
    let own = own.and_then(|own| fs_err::canonicalize(own).ok());
    let walk = Walk { root, views, own };
    let states = views.iter().map(|view| view.rules.iter().map(Rules::root).collect()).collect();
    let git = Repository::around(root).map(Arc::new);
    let all = if views.len() == MAX_VIEWS { Views::MAX } else { (1 << views.len()) - 1 };
    let found = walk
        .folder(&Folder { path: Vec::new(), states, open: all, git })
        .with_context(|| format!("failed to walk the context `{}`", root.display()))?;
    let mut nodes = Vec::with_capacity(found.count);
    flatten(found, &mut nodes);
    Ok(Tree { root: root.to_owned(), nodes })
}

struct Walk<'a> {
    root: &'a Path,
    views: &'a [&'a ViewRules],
    own: Option<PathBuf>,
}

/// All that is below a folder.
struct Found {
    /// Its own entries, sorted by path.
    own: Vec<Node>,
    /// What its subfolders hold, by the subfolder's path and a `/`, sorted.
    below: Vec<(Vec<u8>, Found)>,
    /// Nodes in all of that.
    count: usize,
    /// The views that keep something of it.
    there: Views,
}

/// A folder to be read: where the rules of each view stand there, and the views that need it read.
struct Folder {
    path: Vec<u8>,
    states: Vec<Vec<State>>,
    open: Views,
    /// The working tree it lies in.
    git: Option<Arc<Repository>>,
}

/// What the views make of one path; `states` only of a folder.
struct Judged {
    kept: Views,
    open: Views,
    states: Vec<Vec<State>>,
}

impl Walk<'_> {
    fn folder(&self, folder: &Folder) -> Result<Found> {
        let mut nodes = Vec::new();
        let mut below = Vec::new();
        let place = self.root.join(as_path(&folder.path));
        let entries = moved::read_dir(&place, folder.path.is_empty())?
            .collect::<std::io::Result<Vec<_>>>()?;
        let is_top = !folder.path.is_empty() && entries.iter().any(|one| one.file_name() == ".git");
        let git = is_top.then(|| Repository::at(&place)).flatten().map(Arc::new);
        let git = git.or_else(|| folder.git.clone());
        for entry in entries {
            stop::check()?;
            let path = join(&folder.path, entry.file_name().as_bytes());
            let Ok(file_type) = entry.file_type() else { continue };
            let is_dir = file_type.is_dir();
            if file_type.is_socket()
                || is_dir && self.own.as_ref().is_some_and(|own| *own == entry.path())
            {
                continue;
            }
            let judged = self.judge(folder, git.as_deref(), &path, is_dir)?;
            if judged.kept | judged.open == 0 {
                continue;
            }
            let Some(node) = read_node(&entry, path, judged.kept, git.as_deref())? else {
                continue;
            };
            if node.kind == Kind::Dir && judged.open != 0 {
                let path = node.path.to_vec();
                let git = git.clone();
                below.push((node, Folder { path, states: judged.states, open: judged.open, git }));
            } else {
                nodes.push(node);
            }
        }
        let below = below
            .into_par_iter()
            .map(|(node, folder)| match self.folder(&folder) {
                Err(error) if is_denied(&error) => {
                    let found = Found { own: Vec::new(), below: Vec::new(), count: 0, there: 0 };
                    Ok((Node { kind: Kind::Unreadable, ..node }, found))
                }
                found => Ok((node, found?)),
            })
            .collect::<Result<_>>()?;
        Ok(together(nodes, below))
    }

    fn judge(
        &self,
        folder: &Folder,
        git: Option<&Repository>,
        path: &[u8],
        is_dir: bool,
    ) -> Result<Judged> {
        let mut judged = Judged { kept: 0, open: 0, states: Vec::new() };
        for (view, ViewRules { rules, last_spares_tracked }) in self.views.iter().enumerate() {
            if folder.open & (1 << view) == 0 {
                if is_dir {
                    judged.states.push(folder.states[view].clone());
                }
                continue;
            }
            let mut states = Vec::new();
            let (mut kept, mut open) = (true, is_dir);
            for (at, (rules, parent)) in rules.iter().zip(&folder.states[view]).enumerate() {
                let verdict = rules.test(parent, path)?;
                let may_spare = *last_spares_tracked && at + 1 == folder.states[view].len();
                let spared = verdict.ignored
                    && may_spare
                    && git.is_some_and(|git| git.tracks(&self.root.join(as_path(path))));
                let ignored = verdict.ignored && !spared;
                kept &= !ignored;
                if is_dir {
                    open &= !ignored || rules.may_hold_kept(path, &verdict.state);
                    states.push(verdict.state);
                }
            }
            judged.kept |= Views::from(kept) << view;
            judged.open |= Views::from(open) << view;
            if is_dir {
                judged.states.push(states);
            }
        }
        Ok(judged)
    }
}

/// Whether this process may not list a folder.
fn is_denied(error: &anyhow::Error) -> bool {
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    error.downcast_ref().is_some_and(denied)
}

/// Puts a folder's own entries and what its subfolders hold in order; empty subfolders no view
/// keeps are gone.
fn together(mut own: Vec<Node>, subfolders: Vec<(Node, Found)>) -> Found {
    let mut below = Vec::new();
    for (mut node, found) in subfolders {
        node.there |= found.there;
        if node.there == 0 {
            continue;
        }
        if found.count > 0 {
            below.push(([&node.path, &b"/"[..]].concat(), found));
        }
        own.push(node);
    }
    own.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    below.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let count = own.len() + below.iter().map(|(_, found)| found.count).sum::<usize>();
    let there = own.iter().fold(0, |all, node| all | node.there);
    Found { own, below, count, there }
}

/// Lays everything into one list sorted by path. Between a folder and what is in it lie the entries
/// whose names go on with a byte below `/`.
fn flatten(found: Found, nodes: &mut Vec<Node>) {
    let mut own = found.own.into_iter().peekable();
    for (inside, below) in found.below {
        while let Some(node) = own.next_if(|node| *node.path < *inside) {
            nodes.push(node);
        }
        flatten(below, nodes);
    }
    nodes.extend(own);
}

/// The node of a folder's entry; none if it vanished meanwhile.
fn read_node(
    entry: &fs_err::DirEntry,
    path: Vec<u8>,
    kept: Views,
    git: Option<&Repository>,
) -> Result<Option<Node>> {
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
    let stat = Stat::of(&meta);
    let mode = match kind {
        Kind::Dir => mode::of_folder(stat.mode, &entry.path(), git),
        _ => mode::of_file(stat.mode, &entry.path(), git),
    };
    Ok(Some(Node { path: path.into(), kind, stat, mode, kept, there: kept }))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_sorted_by_bytes_whatever_sorts_between_a_folder_and_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a/x", "a/y/z", "a-b", "a.c/q", "a0", "a/y-", "b", "a/y.d/e"] {
            let file = folder.path().join(file);
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
            fs_err::write(file, "").unwrap();
        }
        let tree = walk(folder.path(), &[&ViewRules::default()], None).unwrap();
        let paths: Vec<_> =
            tree.nodes.iter().map(|node| String::from_utf8_lossy(&node.path)).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        assert_eq!(paths.len(), 12, "{paths:?}");
    }
}
