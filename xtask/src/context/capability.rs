//! What a program may do beyond its user (`setcap`): an extended attribute that engines copy with a
//! file.
//!
//! It counts as part of the content. Only root can set it on the copy that is staged, so only to
//! root it is there at all. Other extended attributes are no part of a context: browsers and
//! editors write them, and no two checkouts have the same.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::digest::{Digest, Records};

const NAME: &str = "security.capability";

/// The attribute as the file system has it; it is a few bytes long.
pub(super) fn read(file: &impl AsFd) -> io::Result<Option<Vec<u8>>> {
    if cfg!(not(target_os = "linux")) || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let mut bytes = vec![0; 256];
    match rustix::fs::fgetxattr(file, NAME, &mut bytes) {
        Ok(length) => {
            bytes.truncate(length);
            Ok(Some(bytes))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn write(file: &impl AsFd, bytes: &[u8]) -> io::Result<()> {
    rustix::fs::fsetxattr(file, NAME, bytes, rustix::fs::XattrFlags::empty())?;
    Ok(())
}

/// The digest of a file's content, and of this beside it.
pub(super) fn with(content: Digest, capability: Option<&[u8]>) -> Digest {
    let Some(capability) = capability else { return content };
    let mut records = Records::new("capability");
    records.add(&[&content.0, capability]);
    records.finish()
}
