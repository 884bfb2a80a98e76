//! What tells one thing from another of the same name: a random id, and which folder a folder is.
//!
//! A name, a path and a process number are given twice: two containers both have `/workspace`, two
//! checkouts both want the cluster `gateway`. What is ours carries an id that nobody has by
//! accident.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

/// 128 random bits as 32 hex digits.
pub fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex::encode(bytes))
}

/// Whether a text has the form of [`random`].
pub fn is_random(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The identity of a folder: the same under every path that leads to it, another for a copy of it.
/// The number of a folder that was removed is given again, the time of its making is not.
pub fn of_folder(folder: &Path) -> io::Result<String> {
    let metadata = fs_err::metadata(folder)?;
    let made = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or(0, |time| time.as_nanos());
    Ok(hex::encode(&Sha256::digest(format!("{} {made}", metadata.ino()))[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_alike() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert!(is_random(&one) && is_random(&other) && one != other);
        for text in ["", "abc", &one[1..], &one.to_uppercase(), &format!("{one}0")] {
            assert!(!is_random(text) || text == one, "{text}");
        }
    }

    #[test]
    fn a_folder_is_itself_by_every_path_and_a_copy_is_another() {
        let place = tempfile::tempdir().unwrap();
        let [real, moved, copy] = ["real", "moved", "copy"].map(|name| place.path().join(name));
        fs_err::create_dir(&real).unwrap();
        let identity = of_folder(&real).unwrap();
        fs_err::os::unix::fs::symlink(&real, place.path().join("link")).unwrap();
        assert_eq!(of_folder(&place.path().join("link")).unwrap(), identity);
        fs_err::rename(&real, &moved).unwrap();
        assert_eq!(of_folder(&moved).unwrap(), identity);
        fs_err::create_dir(&copy).unwrap();
        assert_ne!(of_folder(&copy).unwrap(), identity);
        assert!(of_folder(&real).is_err());
    }
}
