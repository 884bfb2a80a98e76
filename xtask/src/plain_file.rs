//! Reading a file of a repository: a regular one, of bounded size, and not beyond the first signal.
//!
//! A link is followed. What it leads to may be a pipe nobody writes to or a device without an end:
//! neither is waited for or read.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::process::stop;

/// The largest file that is taken into memory.
pub(crate) const LARGEST: u64 = 16 << 20;

const PIECE: u64 = 1 << 20;

/// The bytes of a file; the error names it.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, LARGEST)
}

/// The text of a file; the error names it.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    let bytes = read(path)?;
    String::from_utf8(bytes)
        .map_err(|_| failed(path, io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The first bytes of a file, at most so many.
pub(crate) fn head(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    open(path)?.take(bytes).read_to_end(&mut head)?;
    Ok(head)
}

/// As [`read`], with a bound of its own.
pub(crate) fn read_up_to(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    while file.by_ref().take(PIECE).read_to_end(&mut bytes)? > 0 {
        stop::check_io()?;
        if bytes.len() as u64 > largest {
            let most = crate::text::bytes(largest);
            let why = format!("it is larger than the {most} that are read of a file");
            return Err(failed(path, io::ErrorKind::InvalidData, &why));
        }
    }
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<fs_err::File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
        let error = io::Error::from(error);
        failed(path, error.kind(), &error.to_string())
    })?;
    let file = fs_err::File::from_parts(file.into(), path);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(failed(path, io::ErrorKind::InvalidInput, "it is not a regular file"))
}

fn failed(path: &Path, kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, format!("failed to read `{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs_err::write(path("file"), "text").unwrap();
        fs_err::os::unix::fs::symlink("file", path("link")).unwrap();
        assert_eq!(read_to_string(&path("link")).unwrap(), "text");
        assert_eq!(head(&path("file"), 2).unwrap(), b"te");
        assert_eq!(read_up_to(&path("file"), 4).unwrap(), b"text");
        assert!(read_up_to(&path("file"), 3).is_err());
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR).unwrap();
        fs_err::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        let sparse = fs_err::File::create(path("sparse")).unwrap();
        sparse.set_len(900 << 30).unwrap();
        for other in ["pipe", "zero", "sparse", "none", "."] {
            let error = read(&path(other)).unwrap_err().to_string();
            let named = error.starts_with(&format!("failed to read `{}`: ", path(other).display()));
            assert!(named, "{error}");
        }
        assert_eq!(read(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
