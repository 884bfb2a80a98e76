//! Files and folders of xtask's own, which nobody else can turn against its user.
//!
//! A [`PrivatePath`] has an anchor, which the user has chosen (the workspace, `CARGO_TARGET_DIR`,
//! `XDG_RUNTIME_DIR`), and parts below it. What a stranger may have put there (a repository that
//! commits a link, another user of `/tmp`) is never followed: each part is opened from the one
//! before it, and no part may be a link.
//!
//! ```text
//! /work/shop / target / xtask / state / memory.json
//! anchor       others'  ours ……………………………………………
//! ```
//!
//! | | rule |
//! | --- | --- |
//! | folder of ours | owner is this user, no other may write; made with 0700. One of ours that is wider is narrowed before it is written to |
//! | file that is read | regular, of this user, no larger than said; a FIFO is not waited for |
//! | file that is written | a new one takes the old one's place, so a reader sees one of the two, whole |
//! | lock | opened or made, never changed |
//! | removal | by name from an open folder; a link goes, what it leads to stays |
//!
//! What a run has alone ([`Claim`]) holds a file that says so, and which the run keeps locked. The
//! kernel frees that lock whatever way the run ends. So a folder without that file is not a run's,
//! and one whose file is free is a dead run's; no process number is compared, which another
//! namespace does not know and a later process has again.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::identity;
use crate::kernel;
use crate::process::stop;

/// Says of the folder it lies in that a run has it alone.
const MARK: &str = ".run";
/// How files begin that have yet to get their name.
const FRESH: &str = ".new-";
/// How long between two looks at a lock that another run holds.
const PAUSE: Duration = Duration::from_millis(50);

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A FIFO is opened without waiting, a link not at all.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A path of xtask's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrivatePath {
    path: PathBuf,
    anchor: PathBuf,
    /// So many parts below the anchor are not ours, but no links either.
    others: usize,
}

/// Why something that lies where ours should is not used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{path}` {why}", path = .path.display())]
pub struct Refused {
    path: PathBuf,
    why: String,
    /// How the place is had back.
    pub hint: String,
}

/// Who has a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// No run: there is no mark in it.
    Nobody,
    /// A run that is over.
    Gone,
    /// A run that goes on.
    Alive,
}

/// A file or folder that this run has alone; others see it as soon as this process ends.
#[derive(Debug)]
#[must_use = "it is another's when this is dropped"]
pub struct Claim(#[expect(dead_code, reason = "the lock lives as long as its file")] File);

impl PrivatePath {
    /// `part`, a folder of ours in `anchor`.
    pub fn below(anchor: &Path, part: impl AsRef<Path>) -> Self {
        Self { path: anchor.join(part), anchor: anchor.to_owned(), others: 0 }
    }

    /// `part`, a folder of ours in the folder `others`, which stands in `anchor` and is no link.
    pub fn below_others(anchor: &Path, others: &str, part: &str) -> Self {
        Self { path: anchor.join(others).join(part), anchor: anchor.to_owned(), others: 1 }
    }

    #[must_use]
    pub fn join(&self, part: impl AsRef<Path>) -> Self {
        Self { path: self.path.join(part), ..self.clone() }
    }

    #[must_use]
    pub fn with_extension(&self, extension: &str) -> Self {
        Self { path: self.path.with_extension(extension), ..self.clone() }
    }

    /// Makes the folder if it is not there, and all above it.
    pub fn make(&self) -> io::Result<()> {
        self.open(true).map(drop)
    }

    /// Whether it is a folder that may be used; an error says why not.
    pub fn is_there(&self) -> io::Result<bool> {
        match self.open(false) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names in the folder; none if there is no such folder.
    pub fn names(&self) -> Vec<String> {
        let Ok(names) = self.open(false).and_then(|folder| names(&folder)) else {
            return Vec::new();
        };
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }

    /// What is in the file, which has at most `most` bytes.
    pub fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        let file = self.open_file(OFlags::RDONLY, false)?;
        if file.metadata()?.len() > most {
            return Err(self.refused(format!("has more than {most} bytes"), self.removal()));
        }
        let mut bytes = Vec::new();
        // It may be growing.
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Puts `bytes` in the place of what is there: who reads sees the old or the new, whole.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let (folder, name) = self.open_parent(true)?;
        let (fresh, mut file) = self.fresh(&folder)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| Ok(rustix::fs::renameat(&folder, &fresh, &folder, name)?));
        if written.is_err() {
            rustix::fs::unlinkat(&folder, &fresh, AtFlags::empty()).ok();
        }
        written.map_err(|error| self.failed("write", error))
    }

    /// As [`PrivatePath::write`], if nothing is there; whether these bytes are there now. Of
    /// several that do this at once, all go by the first.
    pub fn write_new(&self, bytes: &[u8]) -> io::Result<bool> {
        let (folder, name) = self.open_parent(true)?;
        let (fresh, mut file) = self.fresh(&folder)?;
        let put = || rustix::fs::linkat(&folder, &fresh, &folder, name, AtFlags::empty());
        let written = file.write_all(bytes).and_then(|()| match put() {
            Err(Errno::EXIST) => Ok(false),
            put => Ok(put.map(|()| true)?),
        });
        rustix::fs::unlinkat(&folder, &fresh, AtFlags::empty()).ok();
        written.map_err(|error| self.failed("write", error))
    }

    /// The file, for a lock: made if it is not there, never changed.
    pub fn lock_file(&self) -> io::Result<File> {
        self.open_file(OFlags::RDWR | OFlags::CREATE, true)
    }

    /// The file for a lock, if it is there.
    pub fn lock_file_if_there(&self) -> io::Result<File> {
        self.open_file(OFlags::RDWR, false)
    }

    /// A new file to write to; there must be none.
    pub fn create(&self) -> io::Result<File> {
        self.open_file(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, true)
    }

    /// Removes what is there, with all below it. Nothing there is as good.
    pub fn remove(&self) -> io::Result<()> {
        let (folder, name) = match self.open_parent(false) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            parent => parent?,
        };
        remove(&folder, name).map_err(|error| self.failed("remove", error))
    }

    /// Makes the folder this run's own, for as long as it lives.
    pub fn claim(&self) -> io::Result<Claim> {
        self.make()?;
        self.join(MARK).claim_file()
    }

    /// Makes a file that this run holds locked for as long as it lives.
    pub fn claim_file(&self) -> io::Result<Claim> {
        let (folder, name) = self.open_parent(true)?;
        // Locked before it has its name: who finds it free finds that its run is gone.
        let (fresh, file) = self.fresh(&folder)?;
        file.lock()?;
        rustix::fs::renameat(&folder, &fresh, &folder, name)?;
        Ok(Claim(file))
    }

    /// Removes unfinished files whose writers are gone.
    pub fn sweep(&self) {
        for name in self.names().iter().filter(|name| name.starts_with(FRESH)) {
            let unfinished = self.join(name);
            let Ok(file) = unfinished.lock_file_if_there() else { continue };
            // Held until it is gone: a writer that has yet to lock it makes another.
            if file.try_lock().is_ok() {
                unfinished.remove().ok();
            }
        }
    }

    /// Whether nothing but unfinished files of ours is in the folder.
    pub fn is_bare(&self) -> bool {
        self.names().iter().all(|name| name.starts_with(FRESH))
    }

    /// Who has the folder.
    pub fn owner(&self) -> Owner {
        self.join(MARK).holder()
    }

    /// Who holds the file.
    pub fn holder(&self) -> Owner {
        let Ok(file) = self.lock_file_if_there() else { return Owner::Nobody };
        // A lock that cannot be asked about is taken to be held.
        if is_free(&file) { Owner::Gone } else { Owner::Alive }
    }

    /// Opens the folder, part by part; with `make`, those that are not there are made.
    fn open(&self, make: bool) -> io::Result<OwnedFd> {
        if make {
            fs_err::create_dir_all(&self.anchor)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let anchor = rustix::fs::openat(CWD, &self.anchor, flags, Mode::empty());
        let mut folder = anchor.map_err(|error| self.failed("open", error.into()))?;
        let mut path = self.anchor.clone();
        for (at, part) in self.parts()?.into_iter().enumerate() {
            path.push(part);
            let here = Self { path: path.clone(), ..self.clone() };
            let ours = at >= self.others;
            let mode = Mode::from_raw_mode(if ours { 0o700 } else { 0o777 });
            let made = make
                && match rustix::fs::mkdirat(&folder, part, mode) {
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(here.failed("make", error.into())),
                };
            folder = here.open_part(&folder, part)?;
            if ours {
                here.check_folder(&folder, make)?;
            }
            if made && at == self.others && self.others > 0 {
                here.join(".gitignore").write(b"*\n")?;
            }
        }
        Ok(folder)
    }

    fn open_part(&self, folder: &OwnedFd, part: &OsStr) -> io::Result<OwnedFd> {
        rustix::fs::openat(folder, part, FOLDER, Mode::empty()).map_err(|error| {
            let stat = rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW);
            let kind = stat.ok().map(|stat| FileType::from_raw_mode(stat.st_mode));
            match (error, kind) {
                (Errno::NOTDIR | Errno::LOOP | Errno::MLINK, Some(FileType::Symlink)) => {
                    self.refused("is a link, and xtask follows none there", self.removal())
                }
                (Errno::NOTDIR, _) => self.refused("is no folder", self.removal()),
                _ => self.failed("open", error.into()),
            }
        })
    }

    /// A folder that others own or may write to is none of ours; with `mend`, one of this user's is
    /// narrowed.
    fn check_folder(&self, folder: &OwnedFd, mend: bool) -> io::Result<()> {
        let stat = rustix::fs::fstat(folder)?;
        let user = rustix::process::geteuid().as_raw();
        if stat.st_uid != user {
            let why = format!("belongs to user {}, not to user {user} who runs this", stat.st_uid);
            return Err(self.refused(why, format!("as its owner: {}", self.removal())));
        }
        if stat.st_mode & 0o022 == 0 {
            return Ok(());
        }
        let narrow = || rustix::fs::fchmod(folder, Mode::RWXU).is_ok();
        if mend && narrow() {
            return Ok(());
        }
        let hint = format!("chmod 700 {}", self.path.display());
        Err(self.refused("can be written to by other users", hint))
    }

    /// The folder this lies in, opened, and the name it has there.
    fn open_parent(&self, make: bool) -> io::Result<(OwnedFd, &OsStr)> {
        let name = self.path.file_name();
        let parent = self.path.parent().filter(|parent| parent.starts_with(&self.anchor));
        let (name, parent) =
            name.zip(parent).ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        let folder = Self { path: parent.to_owned(), ..self.clone() }.open(make)?;
        Ok((folder, name))
    }

    /// Opens a regular file of this user's.
    fn open_file(&self, flags: OFlags, make: bool) -> io::Result<File> {
        let (folder, name) = self.open_parent(make)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&folder, name, flags | FILE, mode).map_err(|error| {
            // A link says so by one of these; a FIFO that nobody reads by NXIO.
            if matches!(error, Errno::LOOP | Errno::MLINK | Errno::NXIO) {
                return self.refused("is no regular file", self.removal());
            }
            self.failed("open", error.into())
        })?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.refused("is no regular file", self.removal()));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            let why = format!("belongs to user {}", stat.st_uid);
            return Err(self.refused(why, self.removal()));
        }
        Ok(File::from(file))
    }

    /// A file in the folder that nobody else has the name of.
    fn fresh(&self, folder: &OwnedFd) -> io::Result<(String, File)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE;
        loop {
            let name = format!("{FRESH}{}", identity::random()?);
            match rustix::fs::openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let file = File::from(file);
                    // It says that its writer lives. Where there are no locks, nothing is swept.
                    file.lock().ok();
                    if rustix::fs::fstat(&file)?.st_nlink > 0 {
                        return Ok((name, file));
                    }
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.failed("write", error.into())),
            }
        }
    }

    /// The parts below the anchor: names, nothing that leads up.
    fn parts(&self) -> io::Result<Vec<&OsStr>> {
        let below = self.path.strip_prefix(&self.anchor);
        let below = below.map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let part = |part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(self.refused("leads out of its folder", "name it without `..`".to_owned())),
        };
        below.components().map(part).collect()
    }

    fn refused(&self, why: impl Into<String>, hint: String) -> io::Error {
        io::Error::other(Refused { path: self.path.clone(), why: why.into(), hint })
    }

    fn failed(&self, what: &str, error: io::Error) -> io::Error {
        let text = format!("failed to {what} `{}`: {error}", self.path.display());
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Refused>) {
            return error;
        }
        io::Error::new(error.kind(), text)
    }

    fn removal(&self) -> String {
        format!("rm -r {}", self.path.display())
    }
}

impl Deref for PrivatePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for PrivatePath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<OsStr> for PrivatePath {
    fn as_ref(&self) -> &OsStr {
        self.path.as_os_str()
    }
}

impl From<PrivatePath> for PathBuf {
    fn from(path: PrivatePath) -> Self {
        path.path
    }
}

impl From<PrivatePath> for OsString {
    fn from(path: PrivatePath) -> Self {
        path.path.into_os_string()
    }
}

/// What an error says of something in our place that is not ours.
pub fn refused<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refused> {
    let io = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| io?.downcast_ref())
}

/// Waits until the lock is ours or the run is stopped. `waits` is called at each look that finds it
/// held.
pub fn wait_for(lock: &File, mut waits: impl FnMut()) -> anyhow::Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {
                waits();
                stop::pause(PAUSE)?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// Who holds the lock of a file, for the user who waits: ` (process 4711 in
/// `/home/me/repository`)`, or nothing where that cannot be known.
pub fn holder_in_words(lock: &File) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let inode = lock.metadata().ok().map(|file| file.ino());
    let Some(process) = inode.and_then(|inode| kernel::lock_holder(Path::new("/"), inode)) else {
        return String::new();
    };
    match fs_err::read_link(format!("/proc/{process}/cwd")) {
        Ok(folder) => format!(" (process {process} in `{}`)", folder.display()),
        Err(_) => format!(" (process {process})"),
    }
}

/// Whether nobody holds the lock of a file. One that cannot be asked about is taken to be held.
pub fn is_free(file: &File) -> bool {
    file.try_lock_shared().is_ok_and(|()| file.unlock().is_ok())
}

fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes `name` from a folder, with all below it.
fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // A folder is told by the one on Linux, by the other elsewhere.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let below = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
    // A staged folder may be one that nobody writes to.
    rustix::fs::fchmod(&below, Mode::RWXU).ok();
    for name in names(&below)? {
        remove(&below, &name)?;
    }
    match rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn home(folder: &Path) -> PrivatePath {
        PrivatePath::below_others(folder, "target", "xtask")
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    fn is_refusal<T: std::fmt::Debug>(result: io::Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(refused(&error).is_some(), "{error:?}");
        crate::error::told(&error.into())
    }

    #[test]
    fn who_waits_is_told_for_whom() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder_in_words(file.as_file()), "");
        file.as_file().lock().unwrap();
        let here = std::env::current_dir().unwrap();
        let told = holder_in_words(&file.reopen().unwrap());
        assert_eq!(told, format!(" (process {} in `{}`)", std::process::id(), here.display()));
    }

    #[test]
    fn what_is_made_is_private_and_kept_from_git() {
        let folder = tempfile::tempdir().unwrap();
        let file = home(folder.path()).join("state/records/api");
        assert!(file.write_new(b"1").unwrap() && !file.write_new(b"3").unwrap());
        assert_eq!(file.read(16).unwrap(), b"1");
        file.write(b"2").unwrap();
        assert_eq!(file.read(16).unwrap(), b"2");
        let modes = ["target/xtask", "target/xtask/state", "target/xtask/state/records/api"];
        assert_eq!(modes.map(|path| mode(&folder.path().join(path))), [0o700, 0o700, 0o600]);
        assert_eq!(home(folder.path()).join(".gitignore").read(16).unwrap(), b"*\n");
        assert_eq!(file.parent().unwrap().read_dir().unwrap().count(), 1, "nothing beside it");
    }

    /// Every part below the anchor is a link in turn.
    #[test]
    fn no_part_may_be_a_link() {
        let parts = ["target", "target/xtask", "target/xtask/stage", "target/xtask/stage/a"];
        for link in parts {
            let folder = tempfile::tempdir().unwrap();
            let precious = folder.path().join("precious");
            fs_err::create_dir_all(precious.join("xtask/stage/a/b")).unwrap();
            fs_err::create_dir_all(precious.join("stage/a/b")).unwrap();
            fs_err::create_dir_all(precious.join("a/b")).unwrap();
            fs_err::write(precious.join("b"), "mine").unwrap();
            let at = folder.path().join(link);
            fs_err::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(&precious, &at).unwrap();
            let file = home(folder.path()).join("stage/a/b");
            for told in [
                is_refusal(file.read(16)),
                is_refusal(file.write(b"x")),
                is_refusal(file.lock_file()),
                is_refusal(file.create()),
                is_refusal(file.remove()),
                is_refusal(file.claim()),
            ] {
                assert!(told.contains(&format!("`{}` is a link", at.display())), "{link}: {told}");
                assert!(told.contains("\nhint: rm -r "), "{told}");
            }
            assert!(home(folder.path()).join("stage/a").names().is_empty());
            assert_eq!(fs_err::read_to_string(precious.join("b")).unwrap(), "mine");
            assert!(precious.join("xtask/stage/a/b").is_dir() && precious.join("a/b").is_dir());
        }
    }

    #[test]
    fn a_link_at_the_end_is_not_followed_either() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("authorized_keys");
        fs_err::write(&victim, "key").unwrap();
        let file = home(folder.path()).join("state/memory.lock");
        file.parent().map(fs_err::create_dir_all).unwrap().unwrap();
        symlink(&victim, &file).unwrap();
        is_refusal(file.read(16));
        is_refusal(file.lock_file());
        // The link goes, what it leads to stays.
        file.write(b"ours").unwrap();
        assert_eq!(fs_err::read_to_string(&victim).unwrap(), "key");
        fs_err::remove_file(&file).unwrap();
        symlink(folder.path(), &file).unwrap();
        file.remove().unwrap();
        assert!(victim.exists() && !file.exists());
    }

    #[test]
    fn a_fifo_a_device_and_a_large_file_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        home.make().unwrap();
        let fifo = home.join("fifo");
        let mkfifo = crate::process::Tool::new("mkfifo").arg(&fifo).run();
        mkfifo.unwrap();
        is_refusal(fifo.read(16));
        is_refusal(fifo.lock_file());
        home.join("large").write(&[0; 17]).unwrap();
        is_refusal(home.join("large").read(16));
        is_refusal(home.join("../xtask/large").read(32));
        is_refusal(PrivatePath::below(Path::new("/"), "dev").join("zero").read(16));
    }

    #[test]
    fn only_unfinished_files_whose_writer_is_gone_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let state = home(folder.path()).join("state");
        state.join("whole").write(b"words").unwrap();
        fs_err::write(state.join(".new-dead"), "wor").unwrap();
        let open = state.open(false).unwrap();
        let (alive, _writer) = state.fresh(&open).unwrap();
        state.sweep();
        let mut names = state.names();
        names.sort();
        assert_eq!(names, [alive.as_str(), "whole"]);
    }

    #[test]
    fn a_sweep_disturbs_no_writer() {
        let folder = tempfile::tempdir().unwrap();
        let state = home(folder.path()).join("state");
        state.make().unwrap();
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                for round in 0..500_u32 {
                    state.join("file").write(&round.to_le_bytes()).unwrap();
                }
            });
            while !writer.is_finished() {
                state.sweep();
            }
        });
        assert_eq!(state.join("file").read(4).unwrap(), 499_u32.to_le_bytes());
    }

    #[test]
    fn a_lock_is_never_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let lock = home(folder.path()).join("lock");
        lock.write(b"words").unwrap();
        drop(lock.lock_file().unwrap());
        assert_eq!(lock.read(16).unwrap(), b"words");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_narrowed_before_it_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        home.make().unwrap();
        fs_err::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        let told = is_refusal(home.is_there());
        assert!(told.contains("can be written to by other users"), "{told}");
        home.make().unwrap();
        assert_eq!(mode(&home), 0o700);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_folder_of_another_user_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        home.make().unwrap();
        std::os::unix::fs::chown(&home, Some(65534), None).unwrap();
        let told = is_refusal(home.join("state").make());
        assert!(told.contains("belongs to user 65534"), "{told}");
    }

    #[test]
    fn who_has_a_folder_is_told_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let stage = home(folder.path()).join("stage/20261121-083544-1");
        stage.make().unwrap();
        assert_eq!(stage.owner(), Owner::Nobody);
        let claim = stage.claim().unwrap();
        assert_eq!(stage.owner(), Owner::Alive);
        assert_eq!(stage.owner(), Owner::Alive, "asking frees nothing");
        drop(claim);
        assert_eq!(stage.owner(), Owner::Gone);
        stage.remove().unwrap();
        assert_eq!(stage.owner(), Owner::Nobody);
    }
}
