//! What git knows of a folder, read from its own files; no process is started.
//!
//! Two things are asked: which paths git tracks (its index: what is added counts, committed or
//! not), and under which umask the working tree was written. Git makes its own folder when it makes
//! the working tree, so the folder's mode tells the umask; in a submodule or a linked worktree
//! `.git` is a file, and tells as much.
//!
//! The index is read in each of its versions, with SHA-1 and SHA-256; of a split one both parts
//! count, so that what was taken out since the split still does. One that cannot be read tracks
//! everything: then nothing is left out.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A working tree.
#[derive(Debug)]
pub(super) struct Repository {
    top: PathBuf,
    /// Where the index is.
    folder: PathBuf,
    umask: u32,
    /// New folders get their parent's group.
    keeps_group: bool,
    tracked: OnceLock<Option<Vec<Box<[u8]>>>>,
}

impl Repository {
    /// The working tree a folder lies in, if it lies in one.
    pub(super) fn around(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    /// The working tree whose top a folder is.
    pub(super) fn at(top: &Path) -> Option<Self> {
        let entry = top.join(".git");
        let meta = fs_err::metadata(&entry).ok()?;
        let bits = meta.mode() & 0o777;
        let (folder, umask) = if meta.is_dir() {
            (entry, 0o777 & !bits)
        } else {
            let text = fs_err::read_to_string(&entry).ok()?;
            let missing = 0o666 & !bits;
            // A file shows nothing of who may search folders: who may read, as ever.
            (top.join(text.strip_prefix("gitdir:")?.trim()), missing | (missing & 0o444) >> 2)
        };
        let is_one = folder.join("HEAD").is_file();
        let keeps_group = meta.is_dir() && meta.mode() & 0o2000 != 0;
        let top = top.to_owned();
        is_one.then(|| Self { top, folder, umask, keeps_group, tracked: OnceLock::new() })
    }

    pub(super) fn umask(&self) -> u32 {
        self.umask
    }

    pub(super) fn keeps_group(&self) -> bool {
        self.keeps_group
    }

    /// What git tracks below a folder, from there on; none if its index cannot be read.
    pub(super) fn below(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
        let folder = folder.strip_prefix(&self.top).ok()?.as_os_str().as_bytes();
        let inside = if folder.is_empty() { Vec::new() } else { [folder, b"/"].concat() };
        let tracked = self.tracked.get_or_init(|| tracked(&self.folder)).as_ref()?;
        let from = tracked.partition_point(|one| **one < *inside);
        let below = tracked[from..].iter().map_while(|one| one.strip_prefix(&*inside));
        Some(below.map(<[u8]>::to_vec).collect())
    }

    /// Whether git tracks a path, or anything below it.
    pub(super) fn tracks(&self, path: &Path) -> bool {
        let Ok(path) = path.strip_prefix(&self.top) else { return false };
        let path = path.as_os_str().as_bytes();
        let Some(tracked) = self.tracked.get_or_init(|| tracked(&self.folder)) else { return true };
        let at = |path: &[u8]| tracked.get(tracked.partition_point(|one| **one < *path));
        let inside = [path, b"/"].concat();
        at(path).is_some_and(|one| **one == *path)
            || at(&inside).is_some_and(|one| one.starts_with(&inside))
    }
}

/// All paths of the index in a folder of git's, sorted; none if it cannot be read.
fn tracked(folder: &Path) -> Option<Vec<Box<[u8]>>> {
    let file = folder.join("index");
    if !file.exists() {
        return Some(Vec::new());
    }
    let hash = if is_sha256(folder) { 32 } else { 20 };
    let Index { mut paths, shared } = parse(&fs_err::read(file).ok()?, hash)?;
    if !shared.is_empty() {
        let file = folder.join(format!("sharedindex.{}", hex::encode(shared)));
        paths.extend(parse(&fs_err::read(file).ok()?, hash)?.paths);
    }
    paths.sort_unstable();
    Some(paths)
}

fn is_sha256(folder: &Path) -> bool {
    // A linked worktree has its configuration where the repository is.
    let common = fs_err::read_to_string(folder.join("commondir"));
    let common = common.map_or_else(|_| folder.to_owned(), |path| folder.join(path.trim()));
    let config = fs_err::read_to_string(common.join("config")).unwrap_or_default().to_lowercase();
    config.lines().any(|line| {
        line.split_once('=')
            .is_some_and(|(key, value)| key.trim() == "objectformat" && value.trim() == "sha256")
    })
}

/// What one file of an index says.
struct Index {
    paths: Vec<Box<[u8]>>,
    /// The hash of the index a split one builds on; empty for any other.
    shared: Vec<u8>,
}

fn parse(bytes: &[u8], hash: usize) -> Option<Index> {
    let body = bytes.get(..bytes.len().checked_sub(hash)?)?;
    let rest = body.strip_prefix(b"DIRC")?;
    let (version, rest) = number(rest)?;
    let (count, mut rest) = number(rest)?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let mut paths: Vec<Box<[u8]>> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    for _ in 0..count {
        let flags = u16::from_be_bytes(*rest.get(40 + hash..)?.first_chunk()?);
        let fixed = 42 + hash + if version > 2 && flags & 0x4000 != 0 { 2 } else { 0 };
        let mut name = rest.get(fixed..)?;
        if version == 4 {
            let (dropped, after) = varint(name)?;
            last.truncate(last.len().checked_sub(dropped)?);
            name = after;
        } else {
            last.clear();
        }
        let end = name.iter().position(|byte| *byte == 0)?;
        last.extend_from_slice(&name[..end]);
        rest = if version == 4 {
            &name[end + 1..]
        } else {
            // At least one NUL, up to a multiple of eight.
            rest.get((fixed + end + 8) / 8 * 8..)?
        };
        if !last.is_empty() {
            // A folder that a sparse index has as one ends in a slash.
            paths.push(last.strip_suffix(b"/").unwrap_or(&last).into());
        }
    }
    Some(Index { paths, shared: shared(rest, hash)? })
}

/// The index a split one builds on, from its extensions.
fn shared(mut rest: &[u8], hash: usize) -> Option<Vec<u8>> {
    while !rest.is_empty() {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (size, after) = number(after)?;
        let (data, after) = after.split_at_checked(size as usize)?;
        if name == b"link" {
            let name = data.get(..hash)?;
            return Some(
                name.iter().copied().filter(|_| name.iter().any(|byte| *byte != 0)).collect(),
            );
        }
        rest = after;
    }
    Some(Vec::new())
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// As git writes the distance to an earlier object.
fn varint(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    loop {
        let (first, rest) = bytes.split_first()?;
        value = value.checked_shl(7)?.checked_add(usize::from(first & 0x7f))?;
        bytes = rest;
        if first & 0x80 == 0 {
            return Some((value, bytes));
        }
        value = value.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Tool;

    fn git(place: &Path, args: &[&str]) {
        let quiet =
            ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"];
        Tool::new("git").arg("-C").arg(place).args(quiet).args(args).run().unwrap();
    }

    fn write(place: &Path, path: &str) {
        let file = place.join(path);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, path).unwrap();
    }

    fn repository(init: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &[&["init", "--quiet"], init].concat());
        for path in ["a/vendor/x", "a/vendor/y.c", "vendor-b", "web/static/vendor/lib.js", "z"] {
            write(folder.path(), path);
        }
        git(folder.path(), &["add", "."]);
        write(folder.path(), "a/vendor/new");
        write(folder.path(), "target/t");
        folder
    }

    fn check(top: &Path) {
        let repository = Repository::around(&top.join("a")).unwrap();
        for (path, is_tracked) in [
            ("a/vendor/x", true),
            ("a/vendor", true),
            ("web/static/vendor", true),
            ("a/vendor/new", false),
            ("target", false),
            ("vendor", false),
            ("a/vendor/y", false),
        ] {
            assert_eq!(repository.tracks(&top.join(path)), is_tracked, "{path}");
        }
    }

    #[test]
    fn every_form_of_an_index_is_read() {
        let plain = repository(&[]);
        check(plain.path());
        for version in ["2", "3", "4"] {
            git(plain.path(), &["update-index", "--index-version", version]);
            check(plain.path());
        }
        // Version 3 for good: a flag that only it has.
        git(plain.path(), &["update-index", "--index-version", "2"]);
        write(plain.path(), "later");
        git(plain.path(), &["add", "--intent-to-add", "later"]);
        check(plain.path());
        git(plain.path(), &["update-index", "--split-index"]);
        write(plain.path(), "more");
        git(plain.path(), &["add", "more"]);
        check(plain.path());
        assert!(Repository::at(plain.path()).unwrap().tracks(&plain.path().join("more")));
        check(repository(&["--object-format=sha256"]).path());
    }

    #[test]
    fn worktrees_and_submodules_have_an_index_of_their_own() {
        let main = repository(&[]);
        git(main.path(), &["commit", "--quiet", "-m", "c"]);
        let other = tempfile::tempdir().unwrap();
        let tree = other.path().join("tree");
        git(main.path(), &["worktree", "add", "--quiet", tree.to_str().unwrap()]);
        check(&tree);
        let over = tempfile::tempdir().unwrap();
        git(over.path(), &["init", "--quiet"]);
        git(over.path(), &["submodule", "--quiet", "add", main.path().to_str().unwrap(), "vendor"]);
        assert!(Repository::at(over.path()).unwrap().tracks(&over.path().join("vendor")));
        check(&over.path().join("vendor"));
    }

    #[test]
    fn an_index_that_cannot_be_read_tracks_everything_and_no_index_nothing() {
        let folder = repository(&[]);
        fs_err::write(folder.path().join(".git/index"), "DIRC").unwrap();
        assert!(Repository::at(folder.path()).unwrap().tracks(&folder.path().join("target")));
        fs_err::remove_file(folder.path().join(".git/index")).unwrap();
        assert!(!Repository::at(folder.path()).unwrap().tracks(&folder.path().join("z")));
        assert!(Repository::at(&folder.path().join("a")).is_none());
    }
}
