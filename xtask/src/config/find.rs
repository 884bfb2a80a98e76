//! Which file: the one named, else `xtask.toml` here or in the nearest folder above.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::error::ErrorExt as _;

/// The name that is searched for.
const NAME: &str = "xtask.toml";

/// The file to read, as short as messages can have it.
pub(super) fn file(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(file) = named {
        return Ok(file.to_path_buf());
    }
    let here = std::env::current_dir().context("failed to tell the working directory")?;
    let found = above(&here).ok_or_else(|| {
        let here = here.display();
        anyhow!("failed to find `{NAME}` in `{here}` or above").hint("cargo xtask init drafts one")
    })?;
    Ok(found.strip_prefix(&here).map(Path::to_path_buf).unwrap_or(found))
}

fn above(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .map(|folder| folder.join(NAME))
        .find(|file| file.metadata().is_ok_and(|file| !file.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_above_is_found() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("a/b");
        fs_err::create_dir_all(&inner).unwrap();
        fs_err::write(top.path().join(NAME), "").unwrap();
        assert_eq!(above(&inner), Some(top.path().join(NAME)));
        fs_err::write(top.path().join("a").join(NAME), "").unwrap();
        assert_eq!(above(&inner), Some(top.path().join("a").join(NAME)));
    }
}
