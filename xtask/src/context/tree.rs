//! A context as it was found: every path some image may be sent, sorted by bytes.
//!
//! One tree serves all images of a context. Each image sees it through a [`View`]: its ignore file
//! and its `exclude` patterns. What a view keeps is a bit on each node, so that one walk answers
//! for up to [`MAX_VIEWS`] of them. Paths are bytes, `/` between parts, relative to the context;
//! the root itself is not in the tree.

use std::path::{Path, PathBuf};

/// The most views one walk can answer for (the bits of a [`Views`]).
pub(super) const MAX_VIEWS: usize = 64;

/// A set of views, a bit each.
pub(super) type Views = u64;

/// The number of a view in its tree.
pub(super) type View = usize;

/// A walked context.
#[derive(Debug)]
pub(super) struct Tree {
    pub root: PathBuf,
    /// Sorted by path bytes.
    pub nodes: Vec<Node>,
}

/// One path of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub path: Box<[u8]>,
    pub kind: Kind,
    pub stat: Stat,
    /// The permissions it is sent with ([`super::mode`]); of a file or folder.
    pub mode: u32,
    /// The views that keep this very path.
    pub kept: Views,
    /// The views in which it is there: kept itself, or a folder with something kept below.
    pub there: Views,
}

/// What a path is. Sockets are never in a tree: no engine sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    /// A folder nobody may list; it is no fault until it is sent.
    Unreadable,
    /// With its target, as written.
    Symlink(Box<[u8]>),
    /// A FIFO or a device.
    Other,
}

/// What the stat index compares. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub inode: u64,
    pub size: u64,
    pub mtime: i64,
    pub ctime: i64,
    pub mode: u32,
}

impl Stat {
    pub fn of(meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            inode: meta.ino(),
            size: meta.size(),
            mtime: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            ctime: meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec()),
            mode: meta.mode(),
        }
    }
}

impl Node {
    pub fn seen_by(&self, view: View) -> bool {
        self.there & (1 << view) != 0
    }

    pub fn kept_by(&self, view: View) -> bool {
        self.kept & (1 << view) != 0
    }
}

impl AsRef<[u8]> for Node {
    fn as_ref(&self) -> &[u8] {
        &self.path
    }
}

impl Tree {
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.nodes.binary_search_by(|node| (*node.path).cmp(path)).ok()
    }

    /// The index of the first node whose path is not below `path`.
    fn lower_bound(&self, path: &[u8]) -> usize {
        self.nodes.partition_point(|node| *node.path < *path)
    }

    /// The nodes below a folder, at any depth; all there are below the root, the empty path.
    pub(super) fn below(&self, dir: &[u8]) -> std::ops::Range<usize> {
        if dir.is_empty() {
            return 0..self.nodes.len();
        }
        // '0' is '/' + 1.
        self.lower_bound(&[dir, b"/"].concat())..self.lower_bound(&[dir, b"0"].concat())
    }

    /// The nodes that lie in a folder itself.
    pub(super) fn children(&self, dir: &[u8]) -> Vec<usize> {
        let below = self.below(dir);
        let start = if dir.is_empty() { 0 } else { dir.len() + 1 };
        let mut children = Vec::new();
        let mut at = below.start;
        while at < below.end {
            let path = &self.nodes[at].path;
            if let Some(slash) = path[start..].iter().position(|byte| *byte == b'/') {
                at = self.below(&path[..start + slash]).end;
            } else {
                children.push(at);
                at += 1;
            }
        }
        children
    }

    pub(super) fn absolute(&self, node: &Node) -> PathBuf {
        self.root.join(as_path(&node.path))
    }
}

/// Bytes of a tree as a path of the file system.
pub(super) fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// A tree through one view: what Dockerfile sources are looked up in.
pub(super) struct Viewed<'a> {
    pub tree: &'a Tree,
    pub view: View,
}

impl dockerfile::Tree for Viewed<'_> {
    fn kind(&self, path: &[u8]) -> Option<dockerfile::Kind> {
        if path.is_empty() {
            return Some(dockerfile::Kind::Dir);
        }
        let node = &self.tree.nodes[self.tree.find(path)?];
        node.seen_by(self.view).then(|| as_dockerfile(&node.kind))
    }

    fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        match &self.tree.nodes[self.tree.find(path)?].kind {
            Kind::Symlink(target) => Some(target.to_vec()),
            _ => None,
        }
    }

    fn children(&self, dir: &[u8]) -> Vec<(Vec<u8>, dockerfile::Kind)> {
        let start = if dir.is_empty() { 0 } else { dir.len() + 1 };
        let nodes = self.tree.children(dir).into_iter().map(|at| &self.tree.nodes[at]);
        let seen = nodes.filter(|node| node.seen_by(self.view));
        seen.map(|node| (node.path[start..].to_vec(), as_dockerfile(&node.kind))).collect()
    }
}

fn as_dockerfile(kind: &Kind) -> dockerfile::Kind {
    match kind {
        Kind::File => dockerfile::Kind::File,
        Kind::Dir | Kind::Unreadable => dockerfile::Kind::Dir,
        Kind::Symlink(_) => dockerfile::Kind::Symlink,
        Kind::Other => dockerfile::Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockerfile::Tree as _;

    fn node(path: &str, kind: Kind) -> Node {
        Node {
            path: path.as_bytes().into(),
            kind,
            stat: Stat::default(),
            mode: 0o644,
            kept: 1,
            there: 1,
        }
    }

    #[test]
    fn children_are_found_though_other_names_sort_between_a_folder_and_its_contents() {
        let mut nodes = vec![
            node("a", Kind::Dir),
            node("a-b", Kind::File),
            node("a.c", Kind::File),
            node("a/x", Kind::File),
            node("a/y", Kind::Dir),
            node("a/y/z", Kind::File),
            node("b", Kind::File),
        ];
        nodes.sort_by(|one, other| one.path.cmp(&other.path));
        let tree = Tree { root: "/".into(), nodes };
        let viewed = Viewed { tree: &tree, view: 0 };
        let names = |dir: &str| -> Vec<String> {
            let children = viewed.children(dir.as_bytes());
            children.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(names(""), ["a", "a-b", "a.c", "b"]);
        assert_eq!(names("a"), ["x", "y"]);
        assert_eq!(names("a/y"), ["z"]);
        assert_eq!(viewed.kind(b"a/y"), Some(dockerfile::Kind::Dir));
        assert_eq!(viewed.kind(b"c"), None);
    }
}
