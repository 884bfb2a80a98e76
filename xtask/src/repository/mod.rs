//! What lies in a repository, as far as `lint` and `init` look at it.
//!
//! | file | from → to |
//! | --- | --- |
//! | here | a folder → its own files: neither git-ignored nor git's |
//! | `yaml` | text → values with their lines |
//! | `manifest` | a manifest → its images, pull policies and node ports |
//! | `kustomize` | what a step applies → the files that takes, and the images they are given |
//! | `kind` | kind's configuration → host ports |
//!
//! Manifests are read as they stand, with no program asked: a check before a commit has neither the
//! time nor, always, a kubectl.

pub mod kind;
pub mod kustomize;
pub mod manifest;
pub mod mention;
mod yaml;

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::plain_file;

/// The folder a repository begins at: the one with `.git`, or else `root` itself. What a repository
/// names lies below it.
pub fn top(root: &Path) -> PathBuf {
    let root = fs_err::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let top = root.ancestors().find(|folder| folder.join(".git").exists());
    top.unwrap_or(&root).to_owned()
}

/// Paths of a folder's own files, relative to it, sorted: what `.gitignore` names and `.git` itself
/// are left out, whether or not it is a git repository. What cannot be read is passed over.
pub fn files(root: &Path) -> Vec<String> {
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let files = walk.filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
    let mut files: Vec<String> = files.map(|entry| relative(entry.path(), root)).collect();
    files.sort();
    files
}

/// Every text in a file of YAML; none if it cannot be read.
pub fn texts(file: &Path) -> Option<Vec<String>> {
    let documents = yaml::read(&plain_file::read_to_string(file).ok()?).ok()?;
    let mut texts = Vec::new();
    for document in &documents {
        document.each_text(&mut |text| texts.push(text.to_owned()));
    }
    Some(texts)
}

/// A path as reports name it: from `root` where it lies below it, with `/` between its parts.
pub fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn own_files_are_those_git_would_take() {
        let folder = fixture::folder(&[
            (".gitignore", "target/\n*.log\n"),
            (".github/workflows/ci.yml", ""),
            (".git/config", ""),
            ("a/Dockerfile", ""),
            ("a/x.log", ""),
            ("target/debug/x", ""),
        ]);
        let expected = [".github/workflows/ci.yml", ".gitignore", "a/Dockerfile"];
        assert_eq!(files(folder.path()), expected);
    }
}
