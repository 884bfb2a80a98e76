//! The stat index: digests of files that need not be read again.
//!
//! It speeds a decision up and never makes it: an entry counts only for a file whose inode, size,
//! mtime, ctime and mode are all what they were. A file that was written around the time it was
//! hashed could be written again without any of them changing (clocks of file systems are coarse:
//! an mtime may even be older than that of a file seen earlier), so a digest is only put in when
//! both times lie clearly before the scan ([`MARGIN`]). Git calls this the racy rule.
//!
//! Nor is it put in for a file that a running program can change without a trace
//! ([`super::mapped`]).
//!
//! The file is a header (form, device, context root, number of entries), one record of [`RECORD`]
//! bytes an entry, their paths one after the other, both sorted by path, and a SHA-256 of all that.
//! Nothing is parsed: a record is found by its number, so a tree is looked up in pieces, side by
//! side. Anything wrong with the file means "no index": then everything is hashed, and the answer
//! is the same.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use super::digest::{Digest, Records};
use super::tree::{Kind, Node, Stat, Tree, as_path};
use super::{capability, moved};
use crate::private::PrivatePath;

/// The largest index that is read, in bytes: enough for some millions of files.
const LARGEST: u64 = 1 << 30;

const FORM: &[u8] = b"xtask-index-2\n";

/// How much older than the scan a file must be for its stat to vouch for it: the coarsest
/// time stamps in use (FAT, some network file systems) are two seconds apart.
const MARGIN: Duration = Duration::from_secs(2);

/// Where the index of the context at `root` lies in `folder`.
pub(super) fn file(folder: &PrivatePath, root: &Path) -> PrivatePath {
    use std::os::unix::ffi::OsStrExt as _;
    let mut records = Records::new("index-name");
    records.add(&[root.as_os_str().as_bytes()]);
    folder.join(&records.finish().to_string()[..16])
}

/// A record: where the path ends among the paths, the stat, the digest.
const RECORD: usize = 4 + STAT + 32;

/// The bytes of a stat: inode, size, mtime, ctime, mode.
const STAT: usize = 36;

/// How many nodes are looked up in one go.
const PIECE: usize = 2_048;

/// The entries of an index that was found whole and of its place.
#[derive(Default)]
pub(super) struct Index {
    bytes: Vec<u8>,
    /// Where the records begin, and how many there are; behind them the paths.
    start: usize,
    count: usize,
}

/// Reads the index of the context at `root`; an empty one if there is none or it is damaged. (Apart
/// from [`Index::digests`] so that it can be read while the walk runs.)
pub(super) fn read(file: &PrivatePath, root: &Path) -> Index {
    let Ok(bytes) = file.read(LARGEST) else { return Index::default() };
    checked(bytes, &header(root)).unwrap_or_default()
}

impl Index {
    /// Digests by node of `tree`, as far as the index vouches for them.
    pub(super) fn digests(&self, tree: &Tree) -> Vec<Option<Digest>> {
        let mut digests = vec![None; tree.nodes.len()];
        let pieces = tree.nodes.par_chunks(PIECE).zip(digests.par_chunks_mut(PIECE));
        pieces.for_each(|(nodes, digests)| self.fill(nodes, digests));
        digests
    }

    /// Walks records and nodes side by side: both are sorted by path.
    fn fill(&self, nodes: &[Node], digests: &mut [Option<Digest>]) {
        let Some(first) = nodes.first() else { return };
        let mut at = self.first_from(&first.path);
        for (node, digest) in nodes.iter().zip(digests).filter(|(node, _)| node.kind == Kind::File)
        {
            while at < self.count && self.path(at) < &*node.path {
                at += 1;
            }
            if at < self.count && self.path(at) == &*node.path {
                *digest = self.vouched(at, &node.stat);
            }
        }
    }

    /// The number of the first record whose path is not before `path`.
    fn first_from(&self, path: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.path(middle) < path {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn vouched(&self, at: usize, stat: &Stat) -> Option<Digest> {
        let (seen, digest) = self.record(at)[4..].split_first_chunk::<STAT>()?;
        (*seen == as_bytes(stat)).then_some(Digest(*digest.first_chunk()?))
    }

    fn record(&self, at: usize) -> &[u8] {
        &self.bytes[self.start + at * RECORD..][..RECORD]
    }

    fn path(&self, at: usize) -> &[u8] {
        let paths = &self.bytes[self.start + self.count * RECORD..];
        let start = if at == 0 { 0 } else { self.path_end(at - 1) };
        paths.get(start..self.path_end(at)).unwrap_or_default()
    }

    fn path_end(&self, at: usize) -> usize {
        self.record(at).first_chunk().map_or(0, |end| u32::from_le_bytes(*end) as usize)
    }
}

/// Writes the digests of all files of `tree` that were clearly older than `scan` when it began, but
/// for those `mapped` by then.
pub(super) fn store(
    file: &PrivatePath,
    tree: &Tree,
    digests: &[Option<Digest>],
    scan: SystemTime,
    mapped: &HashSet<u64>,
) -> Result<()> {
    let newest = newest_trusted(scan);
    let old = |stat: &Stat| stat.mtime < newest && stat.ctime < newest;
    let trusted = |stat: &Stat| old(stat) && !mapped.contains(&stat.inode);
    let (mut records, mut paths, mut count) = (Vec::new(), Vec::new(), 0_u32);
    for (node, digest) in tree.nodes.iter().zip(digests) {
        let Some(digest) = digest.filter(|_| node.kind == Kind::File && trusted(&node.stat)) else {
            continue;
        };
        paths.extend_from_slice(&node.path);
        records.extend_from_slice(&u32::try_from(paths.len())?.to_le_bytes());
        records.extend_from_slice(&as_bytes(&node.stat));
        records.extend_from_slice(&digest.0);
        count += 1;
    }
    let mut bytes = [header(&tree.root), count.to_le_bytes().to_vec(), records, paths].concat();
    let check = Digest::of(&bytes);
    bytes.extend_from_slice(&check.0);
    file.write(&bytes)
        .with_context(|| format!("failed to write the stat index `{}`", file.display()))
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

/// An index that is whole and of its place.
fn checked(mut bytes: Vec<u8>, header: &[u8]) -> Option<Index> {
    let (rest, check) = bytes.split_last_chunk::<32>()?;
    let (count, entries) = rest.strip_prefix(header)?.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    if Digest::of(rest).0 != *check || entries.len() / RECORD < count {
        return None;
    }
    let (start, end) = (rest.len() - entries.len(), rest.len());
    bytes.truncate(end);
    Some(Index { bytes, start, count })
}

fn as_bytes(stat: &Stat) -> [u8; STAT] {
    let mut bytes = [0; STAT];
    bytes[..8].copy_from_slice(&stat.inode.to_le_bytes());
    bytes[8..16].copy_from_slice(&stat.size.to_le_bytes());
    bytes[16..24].copy_from_slice(&stat.mtime.to_le_bytes());
    bytes[24..32].copy_from_slice(&stat.ctime.to_le_bytes());
    bytes[32..].copy_from_slice(&stat.mode.to_le_bytes());
    bytes
}

/// Whether a file at `wanted` has no digest yet.
pub(super) fn lacks(tree: &Tree, digests: &[Option<Digest>], wanted: &[bool]) -> bool {
    let files = tree.nodes.iter().zip(digests).zip(wanted);
    files
        .into_iter()
        .any(|((node, digest), wanted)| *wanted && digest.is_none() && node.kind == Kind::File)
}

/// Hashes the files at `wanted` that have no digest yet. A file that changed since the walk keeps
/// the digest of what was read, and its node gets a stat that no index entry can match.
pub(super) fn complete(
    tree: &mut Tree,
    digests: &mut [Option<Digest>],
    wanted: &[bool],
) -> Result<()> {
    let root = tree.root.clone();
    tree.nodes.par_iter_mut().zip(digests.par_iter_mut()).zip(wanted.par_iter()).try_for_each(
        |((node, digest), wanted)| {
            if !*wanted || digest.is_some() || node.kind != Kind::File {
                return Ok(());
            }
            let mut file = moved::open(&root, as_path(&node.path))?;
            let before = Stat::of(&file.metadata()?);
            let (found, size) = super::digest::hash(&mut file)?;
            let capability = capability::read(&file)?;
            let found = capability::with(found, capability.as_deref());
            if before != node.stat || Stat::of(&file.metadata()?) != before {
                node.stat = Stat { size, mtime: i64::MAX, ..before };
            }
            *digest = Some(found);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::walk::{ViewRules, walk};

    fn tree(root: &Path) -> Tree {
        walk(root, &[&ViewRules::default()], None).unwrap()
    }

    fn long_after() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    fn load(file: &PrivatePath, tree: &Tree) -> Vec<Option<Digest>> {
        read(file, &tree.root).digests(tree)
    }

    fn hashed(tree: &mut Tree) -> Vec<Option<Digest>> {
        let mut digests = vec![None; tree.nodes.len()];
        let wanted = vec![true; tree.nodes.len()];
        complete(tree, &mut digests, &wanted).unwrap();
        digests
    }

    fn indexed(scan: SystemTime) -> (tempfile::TempDir, PrivatePath, Vec<Option<Digest>>) {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("context/d")).unwrap();
        for name in ["a", "b", "d/c"] {
            fs_err::write(folder.path().join("context").join(name), name).unwrap();
        }
        let file = PrivatePath::below(folder.path(), "state/index");
        let mut tree = tree(&folder.path().join("context"));
        let digests = hashed(&mut tree);
        store(&file, &tree, &digests, scan, &HashSet::new()).unwrap();
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

    /// What changes after it may have the same time once more.
    #[test]
    fn a_clock_that_was_set_back_before_the_scan_vouches_for_nothing() {
        let (folder, file, _) = indexed(SystemTime::now() - Duration::from_hours(1));
        let loaded = load(&file, &tree(&folder.path().join("context")));
        assert!(loaded.iter().all(Option::is_none));
    }

    /// Whoever puts an mtime back cannot put a ctime back: both must be old.
    #[test]
    fn a_file_whose_mtime_was_put_back_is_as_young_as_its_ctime() {
        let (folder, _, _) = indexed(long_after());
        let root = folder.path().join("context");
        let long_ago = SystemTime::now() - Duration::from_hours(24);
        for name in ["a", "b", "d/c"] {
            let file = std::fs::File::options().write(true).open(root.join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        let mut tree = tree(&root);
        let digests = hashed(&mut tree);
        let file = PrivatePath::below(folder.path(), "state/other");
        store(&file, &tree, &digests, SystemTime::now(), &HashSet::new()).unwrap();
        assert!(load(&file, &tree).iter().all(Option::is_none));
        store(&file, &tree, &digests, long_after(), &HashSet::new()).unwrap();
        assert_eq!(load(&file, &tree), digests);
    }

    /// And the other way round: of a file system whose ctimes are behind.
    #[test]
    fn a_file_whose_mtime_is_ahead_is_as_young_as_that() {
        let (folder, _, _) = indexed(long_after());
        let root = folder.path().join("context");
        for name in ["a", "b", "d/c"] {
            let file = std::fs::File::options().write(true).open(root.join(name)).unwrap();
            file.set_modified(long_after() + Duration::from_hours(1)).unwrap();
        }
        let mut tree = tree(&root);
        let digests = hashed(&mut tree);
        let file = PrivatePath::below(folder.path(), "state/other");
        store(&file, &tree, &digests, long_after(), &HashSet::new()).unwrap();
        assert!(load(&file, &tree).iter().all(Option::is_none));
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

    /// Records that are sealed and of their place, whatever they hold.
    #[test]
    fn fuzz_index() {
        let (folder, file, _) = indexed(long_after());
        let tree = tree(&folder.path().join("context"));
        let header = header(&tree.root);
        crate::fuzz::run("index", |input| {
            let sealed = [&header, input].concat();
            let check = Digest::of(&sealed);
            fs_err::write(&file, [&sealed[..], &check.0].concat()).unwrap();
            load(&file, &tree);
            fs_err::write(&file, input).unwrap();
            assert!(load(&file, &tree).iter().all(Option::is_none), "it is not sealed");
        });
    }

    #[test]
    fn a_file_gone_since_the_walk_asks_for_another_look() {
        let (folder, _, _) = indexed(long_after());
        let root = folder.path().join("context");
        let mut tree = tree(&root);
        fs_err::remove_file(root.join("b")).unwrap();
        let mut digests = vec![None; tree.nodes.len()];
        let wanted = vec![true; tree.nodes.len()];
        let error = complete(&mut tree, &mut digests, &wanted).unwrap_err();
        assert!(moved::is_moved(&error), "{error:#}");
    }

    #[test]
    fn an_index_of_another_checkout_is_none() {
        let (folder, file, _) = indexed(long_after());
        let other = folder.path().join("other");
        fs_err::rename(folder.path().join("context"), &other).unwrap();
        assert!(load(&file, &tree(&other)).iter().all(Option::is_none));
    }
}
