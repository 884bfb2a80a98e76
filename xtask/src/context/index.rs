//! The stat index: digests of files that need not be read again.
//!
//! It speeds a decision up and never makes it: an entry counts only for a file whose inode, size,
//! mtime, ctime and mode are all what they were. A file that was written around the time it was
//! hashed could be written again without any of them changing (clocks of file systems are coarse: an
//! mtime may even be older than that of a file seen earlier), so a digest is only put in when both
//! times lie clearly before the scan ([`MARGIN`]). Git calls this the racy rule.
//!
//! The file is a header (form, device, context root), the entries sorted by path, and a SHA-256 of
//! all that. Anything wrong with it means "no index": then everything is hashed, and the answer is
//! the same.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::digest::{Digest, Records};
use super::tree::{Kind, Stat, Tree, as_path};

const FORM: &[u8] = b"xtask-index-1\n";

/// How much older than the scan a file must be for its stat to vouch for it: the coarsest
/// time stamps in use (FAT, some network file systems) are two seconds apart.
const MARGIN: Duration = Duration::from_secs(2);

/// Where the index of the context at `root` lies in `folder`.
pub(super) fn file(folder: &Path, root: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let mut records = Records::new("index-name");
    records.add(&[root.as_os_str().as_bytes()]);
    folder.join(&records.finish().to_string()[..16])
}

/// The entries of an index that was found whole and of its place.
#[derive(Default)]
pub(super) struct Index {
    bytes: Vec<u8>,
    entries: Range<usize>,
}

/// Reads the index of the context at `root`; an empty one if there is none or it is damaged. (Apart
/// from [`Index::digests`] so that it can be read while the walk runs.)
pub(super) fn read(file: &Path, root: &Path) -> Index {
    let Ok(bytes) = fs_err::read(file) else { return Index::default() };
    match checked(&bytes, &header(root)) {
        Some(entries) => Index { bytes, entries },
        None => Index::default(),
    }
}

impl Index {
    /// Digests by node of `tree`, as far as the index vouches for them.
    pub(super) fn digests(&self, tree: &Tree) -> Vec<Option<Digest>> {
        let mut digests = vec![None; tree.nodes.len()];
        merge(&self.bytes[self.entries.clone()], tree, &mut digests);
        digests
    }
}

/// Writes the digests of all files of `tree` that were clearly older than `scan` when it began.
pub(super) fn store(
    file: &Path,
    tree: &Tree,
    digests: &[Option<Digest>],
    scan: SystemTime,
) -> Result<()> {
    let mut bytes = header(&tree.root);
    let newest = newest_trusted(scan);
    for (node, digest) in tree.nodes.iter().zip(digests) {
        if let Some(digest) = digest
            && node.kind == Kind::File
            && node.stat.mtime < newest
            && node.stat.ctime < newest
        {
            put(&mut bytes, &node.path, &node.stat, digest);
        }
    }
    let check = Digest::of(&bytes);
    bytes.extend_from_slice(&check.0);
    write_atomically(file, &bytes)
        .with_context(|| format!("failed to write the stat index `{}`", file.display()))
}

/// Writes a file so that readers see the old or the new one, whole.
pub(super) fn write_atomically(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.persist(file)?;
    Ok(())
}

fn newest_trusted(scan: SystemTime) -> i64 {
    let trusted = scan.checked_sub(MARGIN).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = trusted.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The form and the place: an index copied from another checkout or disk is none.
fn header(root: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let device = fs_err::metadata(root).map_or(0, |meta| meta.dev());
    let root = root.as_os_str().as_bytes();
    let mut bytes = FORM.to_vec();
    bytes.extend_from_slice(&device.to_le_bytes());
    bytes.extend_from_slice(&(root.len() as u64).to_le_bytes());
    bytes.extend_from_slice(root);
    bytes
}

/// Where the entries are in an index that is whole and ours.
fn checked(bytes: &[u8], header: &[u8]) -> Option<Range<usize>> {
    let (rest, check) = bytes.split_last_chunk::<32>()?;
    (rest.starts_with(header) && Digest::of(rest).0 == *check).then_some(header.len()..rest.len())
}

fn put(bytes: &mut Vec<u8>, path: &[u8], stat: &Stat, digest: &Digest) {
    bytes.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(path);
    for number in [stat.inode, stat.size] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for time in [stat.mtime, stat.ctime] {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    bytes.extend_from_slice(&stat.mode.to_le_bytes());
    bytes.extend_from_slice(&digest.0);
}

/// Walks entries and nodes side by side: both are sorted by path.
fn merge(mut entries: &[u8], tree: &Tree, digests: &mut [Option<Digest>]) {
    let mut at = 0;
    while let Some((path, stat, digest)) = take(&mut entries) {
        while tree.nodes.get(at).is_some_and(|node| *node.path < *path) {
            at += 1;
        }
        let Some(node) = tree.nodes.get(at) else { return };
        if *node.path == *path && node.kind == Kind::File && node.stat == stat {
            digests[at] = Some(digest);
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], Stat, Digest)> {
    let length = u32::from_le_bytes(chunk(bytes)?) as usize;
    let (path, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let stat = Stat {
        inode: u64::from_le_bytes(chunk(bytes)?),
        size: u64::from_le_bytes(chunk(bytes)?),
        mtime: i64::from_le_bytes(chunk(bytes)?),
        ctime: i64::from_le_bytes(chunk(bytes)?),
        mode: u32::from_le_bytes(chunk(bytes)?),
    };
    Some((path, stat, Digest(chunk(bytes)?)))
}

fn chunk<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*chunk)
}

/// Hashes the files at `wanted` that have no digest yet. A file that changed since the walk keeps the
/// digest of what was read, and its node gets a stat that no index entry can match.
pub(super) fn complete(
    tree: &mut Tree,
    digests: &mut [Option<Digest>],
    wanted: &[bool],
) -> Result<usize> {
    use rayon::prelude::*;
    let root = tree.root.clone();
    tree.nodes
        .par_iter_mut()
        .zip(digests.par_iter_mut())
        .zip(wanted.par_iter())
        .map(|((node, digest), wanted)| {
            if !*wanted || digest.is_some() || node.kind != Kind::File {
                return Ok(0);
            }
            let mut file = fs_err::File::open(root.join(as_path(&node.path)))?;
            let before = Stat::of(&file.metadata()?);
            let (found, size) = super::digest::hash(&mut file)?;
            if before != node.stat || Stat::of(&file.metadata()?) != before {
                node.stat = Stat { size, mtime: i64::MAX, ..before };
            }
            *digest = Some(found);
            Ok(1)
        })
        .try_reduce(|| 0, |one, other| Ok(one + other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ignore::Rules;
    use crate::context::walk::walk;

    fn tree(root: &Path) -> Tree {
        walk(root, &[&vec![Rules::parse(b"").unwrap()]]).unwrap()
    }

    fn long_after() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    fn load(file: &Path, tree: &Tree) -> Vec<Option<Digest>> {
        read(file, &tree.root).digests(tree)
    }

    fn hashed(tree: &mut Tree) -> Vec<Option<Digest>> {
        let mut digests = vec![None; tree.nodes.len()];
        let wanted = vec![true; tree.nodes.len()];
        complete(tree, &mut digests, &wanted).unwrap();
        digests
    }

    fn indexed(scan: SystemTime) -> (tempfile::TempDir, PathBuf, Vec<Option<Digest>>) {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("context/d")).unwrap();
        for name in ["a", "b", "d/c"] {
            fs_err::write(folder.path().join("context").join(name), name).unwrap();
        }
        let file = folder.path().join("index");
        let mut tree = tree(&folder.path().join("context"));
        let digests = hashed(&mut tree);
        store(&file, &tree, &digests, scan).unwrap();
        (folder, file, digests)
    }

    #[test]
    fn what_was_stored_is_loaded_for_unchanged_files() {
        let (folder, file, digests) = indexed(long_after());
        assert_eq!(load(&file, &tree(&folder.path().join("context"))), digests);
    }

    #[test]
    fn files_as_young_as_the_scan_are_not_vouched_for() {
        let (folder, file, _) = indexed(SystemTime::now());
        let loaded = load(&file, &tree(&folder.path().join("context")));
        assert!(loaded.iter().all(Option::is_none));
    }

    #[test]
    fn a_changed_a_replaced_and_a_re_moded_file_are_hashed_again() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, file, _) = indexed(long_after());
        let context = folder.path().join("context");
        fs_err::write(context.join("a"), "A").unwrap();
        fs_err::write(context.join("new"), "b").unwrap();
        fs_err::rename(context.join("new"), context.join("b")).unwrap();
        fs_err::set_permissions(context.join("d/c"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(load(&file, &tree(&context)).iter().all(Option::is_none));
    }

    #[test]
    fn a_file_put_back_with_its_old_size_and_mtime_is_hashed_again() {
        let (folder, file, _) = indexed(long_after());
        let a = folder.path().join("context/a");
        let mtime = fs_err::metadata(&a).unwrap().modified().unwrap();
        fs_err::write(&a, "X").unwrap();
        std::fs::File::options().write(true).open(&a).unwrap().set_modified(mtime).unwrap();
        let tree = tree(&folder.path().join("context"));
        assert_eq!(load(&file, &tree)[tree.find(b"a").unwrap()], None);
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_means_no_index() {
        let (folder, file, _) = indexed(long_after());
        let tree = tree(&folder.path().join("context"));
        let good = fs_err::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs_err::write(&file, &bad).unwrap();
            assert!(load(&file, &tree).iter().all(Option::is_none), "byte {at}");
            fs_err::write(&file, &good[..at]).unwrap();
            assert!(load(&file, &tree).iter().all(Option::is_none), "cut at {at}");
        }
    }

    #[test]
    fn an_index_of_another_checkout_is_none() {
        let (folder, file, _) = indexed(long_after());
        let other = folder.path().join("other");
        fs_err::rename(folder.path().join("context"), &other).unwrap();
        assert!(load(&file, &tree(&other)).iter().all(Option::is_none));
    }
}
