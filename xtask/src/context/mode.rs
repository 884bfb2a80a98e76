//! The mode a path is sent with: what the engine would have from the working tree, as far as it is
//! meant.
//!
//! Git knows of a file whether it may be executed, and nothing else; the other bits are those the
//! umask of a checkout left. A key that had them all would be another in each checkout, an image
//! without them would let everybody read what only its owner may. So:
//!
//! | where | mode on disk | sent, and in the key |
//! | --- | --- | --- |
//! | in a git working tree | what its umask makes of 0666, 0777 | 0644, 0755 |
//! | in one | any other (`chmod 600` under umask 022) | as it is |
//! | in none | any | as it is |
//!
//! The umask is that under which the working tree was made ([`super::git`]). Where the table would
//! let others read what they cannot read on disk (umask 027, 077), it holds for files that git
//! tracks: everybody who has the repository has those. Set-user-ID, set-group-ID and sticky bits
//! are as they are, but for the group bit of folders where git's own folder has it: there the file
//! system sets it.

use std::path::Path;

use super::git::Repository;

pub(super) const FILE: u32 = 0o644;
pub(super) const PROGRAM: u32 = 0o755;
pub(super) const FOLDER: u32 = 0o755;

/// The mode of a file in a working tree, or in none.
pub(super) fn of_file(mode: u32, path: &Path, tree: Option<&Repository>) -> u32 {
    let mode = mode & 0o7777;
    let Some(tree) = tree else { return mode };
    let usual = match mode {
        mode if mode == 0o666 & !tree.umask() => FILE,
        mode if mode == 0o777 & !tree.umask() => PROGRAM,
        _ => return mode,
    };
    let widens = usual & !mode != 0;
    if widens && !tree.tracks(path) { mode } else { usual }
}

/// The mode of a folder.
pub(super) fn of_folder(mode: u32, path: &Path, tree: Option<&Repository>) -> u32 {
    let mode = mode & 0o7777;
    let Some(tree) = tree else { return mode };
    let mode = if tree.keeps_group() { mode & !0o2000 } else { mode };
    let is_usual = mode == 0o777 & !tree.umask();
    let widens = FOLDER & !mode != 0;
    if is_usual && (!widens || tree.tracks(path)) { FOLDER } else { mode }
}
