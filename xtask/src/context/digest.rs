//! SHA-256 of files and of records.
//!
//! What of a file is hashed beside its bytes, its mode above all, is what is sent: `mode` has the
//! rule, `capability` the one attribute that counts.
//!
//! A file is hashed by what can be read from it, once; [`hash`] reads in pieces, so that memory
//! stays flat whatever the size. [`Records`] hashes lists so that no two different lists give the
//! same bytes: each part is preceded by its length.

use std::fmt;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::process::stop;

/// How much of a file is held at a time.
const PIECE: usize = 64 * 1024;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Hashes everything `from` gives, and writes it on to `to`; with the number of bytes.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        stop::check_io()?;
        match from.read(&mut piece) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), size)),
            Ok(read) => {
                hasher.update(&piece[..read]);
                to.write_all(&piece[..read])?;
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes everything `from` gives; with the number of bytes.
pub(super) fn hash(from: &mut impl Read) -> io::Result<(Digest, u64)> {
    copy(from, &mut io::sink())
}

/// A hash over a list of records, each a list of parts.
#[derive(Default)]
pub(super) struct Records {
    hasher: Sha256,
    /// Not hashed yet: many small pieces cost more than their bytes.
    bytes: Vec<u8>,
}

impl Records {
    /// Begins a list of records of the named form and version.
    pub(super) fn new(form: &str) -> Self {
        let mut records = Self::default();
        records.add(&[form.as_bytes()]);
        records
    }

    pub(super) fn add(&mut self, parts: &[&[u8]]) {
        self.bytes.extend_from_slice(&(parts.len() as u64).to_le_bytes());
        for part in parts {
            self.bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(part);
        }
        if self.bytes.len() >= PIECE {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.hasher.update(&self.bytes);
        Digest(self.hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |records: &[&[&[u8]]]| {
            let mut hasher = Records::new("t");
            for record in records {
                hasher.add(record);
            }
            hasher.finish()
        };
        let lists: [&[&[&[u8]]]; 5] =
            [&[&[b"ab", b"c"]], &[&[b"a", b"bc"]], &[&[b"abc"]], &[&[b"ab"], &[b"c"]], &[]];
        let digests: std::collections::BTreeSet<_> = lists.into_iter().map(of).collect();
        assert_eq!(digests.len(), lists.len());
    }

    #[test]
    fn a_file_larger_than_a_piece_is_hashed_whole() {
        let bytes = vec![7; PIECE * 2 + 5];
        assert_eq!(hash(&mut &*bytes).unwrap(), (Digest::of(&bytes), bytes.len() as u64));
    }
}
