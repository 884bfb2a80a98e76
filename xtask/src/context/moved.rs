//! A context that changes while it is read.
//!
//! Between the walk and the hash, or the plan and the stage, a file may vanish or become a folder,
//! a link or a pipe. That is no fault of anybody's: whoever meets it looks at the context again and
//! takes the key of what is there then ([`until_at_rest`]). A file whose bytes alone change needs
//! none of this, since the bytes that were read are those that count.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{self, ErrorExt as _, Exit};

/// How often a context is looked at before it is taken for one that never rests.
const LOOKS: usize = 5;

/// What was walked is there no longer, or is something else.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` vanished or became something else while it was read")]
pub(super) struct Moved(pub PathBuf);

/// Opens what was a plain file below `root` when it was walked. It must still be one: no link is
/// followed at any part below `root`, no pipe waited for.
pub(super) fn open(root: &Path, below: &Path) -> Result<fs_err::File> {
    let path = root.join(below);
    let file = match open_by_parts(root, below) {
        Ok(file) => fs_err::File::from_parts(file.into(), &path),
        // Gone; now a link; now a socket.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
            return Err(Moved(path).into());
        }
        Err(error) => {
            let failed = || format!("failed to open `{}`", path.display());
            return Err(io::Error::from(error)).with_context(failed);
        }
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(Moved(path).into()) }
}

/// Each folder from the one before it: a link that took a folder's place after the walk would lead
/// out of the context.
fn open_by_parts(root: &Path, below: &Path) -> rustix::io::Result<OwnedFd> {
    let kept = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(root, kept | OFlags::DIRECTORY, Mode::empty())?;
    let flags = kept | OFlags::NOFOLLOW;
    for part in below.parent().into_iter().flat_map(Path::components) {
        let part = part.as_os_str();
        folder = rustix::fs::openat(&folder, part, flags | OFlags::DIRECTORY, Mode::empty())?;
    }
    let name = below.file_name().ok_or(Errno::INVAL)?;
    rustix::fs::openat(&folder, name, flags | OFlags::NONBLOCK, Mode::empty())
}

/// Lists what was a folder when its name was read; behind a link that took its place nothing is
/// listed.
pub(super) fn read_dir(path: &Path, is_root: bool) -> Result<fs_err::ReadDir> {
    if !is_root && path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(Moved(path.to_owned()).into());
    }
    fs_err::read_dir(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Moved(path.to_owned()).into(),
        _ => error.into(),
    })
}

/// Whether an error is that the context changed, so that another look may go well.
pub fn is_moved(error: &anyhow::Error) -> bool {
    error::find::<Moved>(error).is_some()
}

/// Looks until nothing vanishes meanwhile; at most [`LOOKS`] times.
pub fn until_at_rest<T>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..LOOKS {
        match look() {
            Err(error) if is_moved(&error) => {}
            done => return done,
        }
    }
    look().map_err(|error| {
        if is_moved(&error) {
            return anyhow!("{error:#}, at each of {LOOKS} looks")
                .hint("leave out what is written there by `exclude` or the ignore file")
                .exit(Exit::Environment);
        }
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_opens_and_whatever_took_its_place_has_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs_err::write(path("file"), "x").unwrap();
        fs_err::create_dir(path("folder")).unwrap();
        fs_err::write(path("folder/inside"), "x").unwrap();
        fs_err::os::unix::fs::symlink("file", path("link")).unwrap();
        fs_err::os::unix::fs::symlink("folder", path("linked")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let open = |name: &str| open(folder.path(), Path::new(name));
        assert!(open("file").is_ok() && open("folder/inside").is_ok());
        let others = ["folder", "link", "pipe", "socket", "nothing", "file/below", "linked/inside"];
        for other in others {
            let error = open(other).unwrap_err();
            assert!(is_moved(&error.context("failed to stage")), "{other}");
        }
        for other in ["file", "nothing", "linked"] {
            assert!(is_moved(&read_dir(&path(other), false).unwrap_err()), "{other}");
        }
        assert!(read_dir(&path("linked"), true).is_ok(), "the context itself may be a link");
    }

    #[test]
    fn a_context_that_never_rests_is_given_up() {
        let moved = || anyhow::Error::from(Moved("a/b".into()));
        let mut looks = 0;
        let error = until_at_rest::<()>(|| {
            looks += 1;
            Err(moved())
        });
        let error = error.unwrap_err();
        assert_eq!((looks, crate::error::code(&error)), (LOOKS, Exit::Environment));
        assert!(error.to_string().contains("`a/b` vanished"), "{error}");
        let mut left = 3;
        let calm = until_at_rest(|| {
            left -= 1;
            if left > 0 { Err(moved()) } else { Ok("calm") }
        });
        assert_eq!(calm.unwrap(), "calm");
    }
}
